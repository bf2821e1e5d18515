"""Name servers for tests, in any network namespace."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
from support.private_netns import Place

Decision = Callable[[dns.message.Message, bool], list[dns.message.Message]]
"""From a query, and whether it came over TCP, to the answers; none is silence."""


@contextlib.contextmanager
def outside(place: Place, address: str, decide: Decision) -> Iterator[list[str]]:
    """A name server; gives the questions that reached it."""
    asked: list[str] = []

    def answers(packet: bytes, *, tcp: bool) -> list[bytes]:
        query = dns.message.from_wire(packet)
        asked.append(f"{'tcp' if tcp else 'udp'} {query.id} {query.question[0].name}")
        return [found.to_wire(max_size=65535) for found in decide(query, tcp)]

    udp = place.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    udp.bind((address, 53))
    tcp = place.inside(lambda: socket.create_server((address, 53)))

    def datagrams() -> None:
        with contextlib.suppress(OSError):
            while True:
                packet, client = udp.recvfrom(65535)
                if not packet:
                    return
                for data in answers(packet, tcp=False):
                    udp.sendto(data, client)

    def streams() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = tcp.accept()
                with connection:
                    packet = connection.recv(65535)
                    for data in answers(packet[2:], tcp=True):
                        connection.sendall(struct.pack("!H", len(data)) + data)

    threads = [threading.Thread(target=work, daemon=True) for work in (datagrams, streams)]
    for thread in threads:
        thread.start()
    try:
        yield asked
    finally:
        with place.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as last:
            last.sendto(b"", (address, 53))
        tcp.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()
        udp.close()
        tcp.close()


def saying(text: str) -> Decision:
    def decide(query: dns.message.Message, _: bool) -> list[dns.message.Message]:
        answer = dns.message.make_response(query)
        answer.answer.append(dns.rrset.from_text(query.question[0].name, 30, "IN", "A", text))
        return [answer]

    return decide


def failing(code: dns.rcode.Rcode) -> Decision:
    def decide(query: dns.message.Message, _: bool) -> list[dns.message.Message]:
        answer = dns.message.make_response(query)
        answer.set_rcode(code)
        return [answer]

    return decide
