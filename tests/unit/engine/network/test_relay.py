"""The user-space relay, between sockets on loopback, and the process that serves it."""

from __future__ import annotations

import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kitepy.engine.kernel.port_sockets import bind_port
from kitepy.engine.model.network import PublishedPort
from kitepy.engine.network.relay import DatagramRelay, Reactor, StreamRelay, make_relay
from kitepy.engine.network.relay_process import RelayProcess, key_of

DEADLINE_S = 10.0


@contextmanager
def running(reactor: Reactor) -> Iterator[None]:
    """The reactor turns on a thread of its own during the block."""
    ended = threading.Event()

    def turn() -> None:
        while not ended.is_set():
            reactor.turn(0.01)

    thread = threading.Thread(target=turn)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def echo_server() -> Iterator[tuple[str, int]]:
    """Reads until the client closes its half, then answers with all of it; one client after the other."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=[client]).start()

    def answer(client: socket.socket) -> None:
        with client:
            try:
                client.sendall(b"got " + read_all(client))
            except ConnectionError:
                return

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def read_all(source: socket.socket) -> bytes:
    parts = []
    while part := source.recv(65536):
        parts.append(part)
    return b"".join(parts)


def bound(protocol: str = "tcp") -> socket.socket:
    found = bind_port(protocol, "127.0.0.1", 0)
    assert found is not None
    return found


def connect(address: tuple[str, int]) -> socket.socket:
    return socket.create_connection(address, DEADLINE_S)


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_each_direction_is_closed_on_its_own_and_large_data_passes_whole() -> None:
    reactor = Reactor()
    with echo_server() as target:
        relay = StreamRelay(reactor, bound(), target)
        with running(reactor), connect(relay.socket.getsockname()) as client:
            data = os.urandom(3_000_000)
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            assert read_all(client) == b"got " + data
            eventually(lambda: relay.connections == 0)
        relay.close()


def test_a_server_that_only_reads_does_not_keep_the_other_direction_from_ending() -> None:
    reactor = Reactor()
    with socket.create_server(("127.0.0.1", 0)) as server:
        relay = StreamRelay(reactor, bound(), server.getsockname())
        with running(reactor), connect(relay.socket.getsockname()) as client:
            inner, _ = server.accept()
            with inner:
                inner.sendall(b"bye")
                inner.shutdown(socket.SHUT_WR)
                assert read_all(client) == b"bye"
                client.sendall(b"still here")
                assert inner.recv(100) == b"still here"
        relay.close()


def test_a_fast_sender_waits_for_a_slow_reader_instead_of_filling_memory() -> None:
    reactor = Reactor()
    with socket.create_server(("127.0.0.1", 0)) as server:
        relay = StreamRelay(reactor, bound(), server.getsockname())
        with running(reactor), connect(relay.socket.getsockname()) as client:
            inner, _ = server.accept()
            with inner:
                client.setblocking(False)
                sent = 0
                while select.select([], [client], [], 0.3)[1]:
                    sent += client.send(bytes(65536))
                assert sent < 64 * 2**20
                received = 0
                inner.settimeout(DEADLINE_S)
                while received < sent:
                    received += len(inner.recv(2**20))
                assert received == sent
        relay.close()


def test_connections_beyond_the_limit_wait_for_one_that_ends() -> None:
    reactor = Reactor()
    with echo_server() as target:
        relay = StreamRelay(reactor, bound(), target, limit=1)
        with (
            running(reactor),
            connect(relay.socket.getsockname()) as first,
            connect(relay.socket.getsockname()) as second,
        ):
            first.sendall(b"one")
            second.sendall(b"two")
            second.shutdown(socket.SHUT_WR)
            assert not select.select([second], [], [], 0.1)[0]
            first.shutdown(socket.SHUT_WR)
            assert read_all(first) == b"got one"
            assert read_all(second) == b"got two"
        relay.close()


def test_closing_the_relay_resets_its_connections() -> None:
    reactor = Reactor()
    with echo_server() as target:
        relay = StreamRelay(reactor, bound(), target)
        with connect(relay.socket.getsockname()) as client:
            client.sendall(b"never answered")
            with running(reactor):
                eventually(lambda: relay.connections == 1)
            relay.close()
            relay.close()
            with pytest.raises(ConnectionResetError):
                client.recv(1)


@pytest.mark.parametrize("length", [5, 3_000_000])
def test_a_connection_that_breaks_doesnt_look_like_one_that_ended(length: int) -> None:
    reactor = Reactor()
    with socket.create_server(("127.0.0.1", 0)) as server:
        relay = StreamRelay(reactor, bound(), server.getsockname())
        with running(reactor), connect(relay.socket.getsockname()) as client:
            client.sendall(b"x" * 100)
            there, _ = server.accept()
            with there:
                sender = threading.Thread(target=there.sendall, args=(b"y" * length,))
                sender.start()
                received = 0
                while received < length:
                    received += len(client.recv(65536))
                sender.join()
                there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            with pytest.raises(ConnectionResetError):
                client.recv(1)
        relay.close()


@pytest.mark.parametrize("lengths", [[1, 65536, 65537, 3], [600_000, 1, 2_000_000], [65536] * 20])
def test_pauses_and_sizes_of_all_kinds_change_nothing(lengths: list[int]) -> None:
    reactor = Reactor()
    with echo_server() as target:
        relay = StreamRelay(reactor, bound(), target)
        with running(reactor):
            for _ in range(2):  # the second one gets the pipes of the first
                with connect(relay.socket.getsockname()) as client:
                    sent = b"".join(bytes([65 + at % 26]) * length for at, length in enumerate(lengths))
                    offset = 0
                    for length in lengths:
                        client.sendall(sent[offset : offset + length])
                        offset += length
                        time.sleep(0)
                    client.shutdown(socket.SHUT_WR)
                    assert read_all(client) == b"got " + sent
        relay.close()


def test_a_target_that_refuses_resets_the_client() -> None:
    reactor = Reactor()
    with bound() as nobody:
        address = nobody.getsockname()
    relay = StreamRelay(reactor, bound(), address)
    with running(reactor), pytest.raises(ConnectionResetError):
        with connect(relay.socket.getsockname()) as client:
            client.recv(1)
    relay.close()


def test_a_target_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kitepy.engine.network.relay._CONNECT_TIMEOUT_S", 0.2)
    reactor = Reactor()
    with socket.create_server(("127.0.0.1", 0), backlog=0) as silent:
        fillers = []
        for _ in range(4):  # the queue of the listener is full after the first ones
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(silent.getsockname())
            fillers.append(filler)
        relay = StreamRelay(reactor, bound(), silent.getsockname())
        with running(reactor), connect(relay.socket.getsockname()) as client, pytest.raises(ConnectionResetError):
            client.recv(1)
        relay.close()
        for filler in fillers:
            filler.close()


def test_datagrams_find_their_way_back_and_silent_clients_are_forgotten() -> None:
    reactor = Reactor()
    with bound("udp") as server, bound("udp") as client:
        for end in (server, client):
            end.settimeout(DEADLINE_S)
        relay = DatagramRelay(reactor, bound("udp"), server.getsockname(), idle_s=0.05)
        with running(reactor):
            client.sendto(b"question", relay.socket.getsockname())
            data, sender = server.recvfrom(2048)
            server.sendto(data + b"!", sender)
            assert client.recvfrom(2048) == (b"question!", relay.socket.getsockname())
            eventually(lambda: relay.clients == 0)
        relay.close()


@pytest.mark.parametrize(("any_address", "written_to"), [("0.0.0.0", "127.0.0.53"), ("::", "::1")])
def test_an_answer_leaves_from_the_address_the_client_wrote_to(any_address: str, written_to: str) -> None:
    reactor = Reactor()
    held = bind_port("udp", any_address, 0)
    assert held is not None
    family = socket.AF_INET6 if ":" in any_address else socket.AF_INET
    with bound("udp") as server, socket.socket(family, socket.SOCK_DGRAM) as client:
        for end in (server, client):
            end.settimeout(DEADLINE_S)
        relay = DatagramRelay(reactor, held, server.getsockname())
        with running(reactor):
            client.sendto(b"hello", (written_to, held.getsockname()[1]))
            _, sender = server.recvfrom(100)
            server.sendto(b"there", sender)
            assert client.recvfrom(100)[1][0] == written_to
        relay.close()


def test_the_protocol_decides_on_the_relay() -> None:
    reactor = Reactor()
    for protocol, kind in (("tcp", StreamRelay), ("udp", DatagramRelay)):
        relay = make_relay(reactor, bound(protocol), ("127.0.0.1", 1))
        assert isinstance(relay, kind)
        relay.close()
    reactor.close()


def test_relays_outlive_their_engine_and_the_next_takes_them_over(tmp_path: Path) -> None:
    with echo_server() as target, bound() as held:
        port = PublishedPort(80, "tcp", "127.0.0.1", held.getsockname()[1])
        first = RelayProcess(tmp_path)
        assert first.held() == {}
        first.serve(port, held, target)
        with connect(held.getsockname()) as client:
            client.sendall(b"before")
            first.close()  # as a killed engine does
            second = RelayProcess(tmp_path)
            kept = second.held()
            assert kept.keys() == {key_of(port)}
            client.shutdown(socket.SHUT_WR)
            assert read_all(client) == b"got before"
        copy = kept[key_of(port)]
        assert copy.getsockname() == held.getsockname()
        second.drop([key_of(port)])
        copy.close()
        address = held.getsockname()
        held.close()
        with pytest.raises(ConnectionRefusedError):
            connect(address)
        second.end()
        eventually(lambda: not (tmp_path / "relay.sock").exists())


def test_many_sockets_are_listed_over_several_packets(tmp_path: Path) -> None:
    first = RelayProcess(tmp_path)
    sockets = [bound() for _ in range(70)]
    for held in sockets:
        first.serve(PublishedPort(80, "tcp", "127.0.0.1", held.getsockname()[1]), held, ("127.0.0.1", 9))
    first.close()
    second = RelayProcess(tmp_path)
    kept = second.held()
    assert {held.getsockname() for held in kept.values()} == {held.getsockname() for held in sockets}
    second.end()
    for held in (*kept.values(), *sockets):
        held.close()


def test_the_process_ends_when_it_serves_nothing_and_nobody_is_there(tmp_path: Path) -> None:
    with bound() as held:
        port = PublishedPort(80, "tcp", "127.0.0.1", held.getsockname()[1])
        relays = RelayProcess(tmp_path)
        relays.serve(port, held, ("127.0.0.1", 9))
        relays.drop([key_of(port)])
        relays.close()
        eventually(lambda: not (tmp_path / "relay.sock").exists())
