"""Asking the servers outside: one question to one server after the other, until one gives an answer worth passing on.

A question that came over UDP goes out over UDP, one over TCP over TCP, each from a socket of its own, whose port and whose
identifier nobody can guess; the kernel lets only the server's packets in. A server that refuses, fails, is silent for four
seconds or can't be reached makes room for the next; three are asked at most (as dockerd does).
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import dns.rcode

from kitepy.engine.network.relay import Reactor
from kitepy.engine.network.resolver_answers import HEADER, answers_to, code_of, failure, question_of

SERVERS_ASKED = 3
PATIENCE_S = 4.0
_PORT = 53
_IN_FLIGHT = 256
_WAITING = 1024
_LOOPS = frozenset({"127.0.0.11"})
_PACKETS_AT_ONCE = 16
_LENGTH = struct.Struct("!H")
_PASSED_OVER = frozenset({dns.rcode.SERVFAIL, dns.rcode.REFUSED})


@dataclass(frozen=True)
class Server:
    """A name server, and whether it is asked from the engine's network namespace instead of the container's."""

    address: str
    from_engine: bool = False

    @staticmethod
    def parse(text: str) -> Server:
        """``ADDRESS`` or ``host(ADDRESS)``."""
        if text.startswith("host(") and text.endswith(")"):
            return Server(text[5:-1], from_engine=True)
        return Server(text)


Opener = Callable[[Server, int, int], socket.socket]
"""Makes a socket of a family and kind in the namespace that a server is asked from. Raises OSError."""
Reply = Callable[[bytes], None]


class Forwarder:
    """What one container asks outside: a bounded number of questions at once, a bounded number waiting."""

    def __init__(self, reactor: Reactor, open_socket: Opener) -> None:
        self._reactor = reactor
        self._open_socket = open_socket
        self._exchanges: set[_Exchange] = set()
        self._due: dict[_Exchange, float] = {}
        self._watches_due = False
        self._waiting: deque[tuple[float, _Exchange]] = deque()
        self.servers: tuple[Server, ...] = ()

    @property
    def in_flight(self) -> int:
        """How many questions are under way."""
        return len(self._exchanges)

    def set_servers(self, texts: tuple[str, ...], *, internal: bool) -> None:
        """Whom to ask; questions under way go on. An internal container asks nobody from the engine's namespace."""
        servers = [Server.parse(text) for text in texts]
        self.servers = tuple(
            server
            for server in servers[:SERVERS_ASKED]
            # The service's own address inside a container would ask itself for ever.
            if not (internal and server.from_engine) and (server.from_engine or server.address not in _LOOPS)
        )

    def ask(self, packet: bytes, reply: Reply, *, stream: bool) -> None:
        """Find an answer to a query; ``reply`` is called once, later or at once."""
        exchange = _Exchange(self, packet, reply, stream=stream)
        if len(self._exchanges) < _IN_FLIGHT:
            self._start(exchange)
        elif len(self._waiting) < _WAITING:
            self._waiting.append((self._reactor.clock() + PATIENCE_S, exchange))
        else:
            reply(failure(packet, dns.rcode.REFUSED))

    def close(self) -> None:
        """Give up all that is under way, without an answer. Idempotent."""
        self._waiting.clear()
        for exchange in list(self._exchanges):
            exchange.abandon()
        self._exchanges.clear()
        self._due.clear()

    def _start(self, exchange: _Exchange) -> None:
        self._exchanges.add(exchange)
        exchange.start(self._reactor, self._open_socket, self.servers)

    def sent(self, exchange: _Exchange) -> None:
        """A server has the exchange's question; it gets as long as all others, so the first in the row is the first due."""
        self._due.pop(exchange, None)
        self._due[exchange] = self._reactor.clock() + PATIENCE_S
        if not self._watches_due:
            self._watches_due = True
            self._reactor.later(PATIENCE_S, self._give_up)

    def _give_up(self) -> None:
        now = self._reactor.clock()
        for exchange in [exchange for exchange, due in self._due.items() if due <= now]:
            if self._due.pop(exchange, None) is not None:
                exchange.give_up()
        self._watches_due = bool(self._due)
        if self._due:
            self._reactor.later(max(0.05, next(iter(self._due.values())) - now), self._give_up)

    def ended(self, exchange: _Exchange) -> None:
        """An exchange has replied."""
        self._exchanges.discard(exchange)
        self._due.pop(exchange, None)
        while self._waiting and len(self._exchanges) < _IN_FLIGHT:
            deadline, waiting = self._waiting.popleft()
            if deadline < self._reactor.clock():
                waiting.reply(failure(waiting.packet, dns.rcode.REFUSED))
            else:
                # Not from here: a row of servers that fail at once must not nest a call per question.
                self._exchanges.add(waiting)
                self._reactor.later(0, lambda waiting=waiting: self._begin(waiting))  # type: ignore[misc]

    def _begin(self, exchange: _Exchange) -> None:
        if exchange in self._exchanges:  # else closed meanwhile
            self._start(exchange)


class _Exchange:
    """One question on its way from server to server."""

    def __init__(self, owner: Forwarder, packet: bytes, reply: Reply, *, stream: bool) -> None:
        self.packet = packet
        self.reply = reply
        self._owner = owner
        self._stream = stream
        self._question = question_of(packet)
        self._number = b""
        self._socket: socket.socket | None = None
        self._unsent = b""
        self._received = bytearray()
        self._servers: deque[Server] = deque()

    def start(self, reactor: Reactor, open_socket: Opener, servers: tuple[Server, ...]) -> None:
        self._reactor = reactor
        self._open_socket = open_socket
        self._servers.extend(servers)
        self._next()

    def abandon(self) -> None:
        if self._socket is not None:
            self._reactor.forget(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def _next(self) -> None:
        self.abandon()
        while self._servers:
            try:
                self._send_to(self._servers.popleft())
            except OSError:
                self.abandon()
                continue
            self._owner.sent(self)
            return
        self._finish(failure(self.packet, dns.rcode.SERVFAIL))

    def _finish(self, answer: bytes) -> None:
        self.abandon()
        self.reply(answer)
        self._owner.ended(self)

    def give_up(self) -> None:
        """This server was silent for too long."""
        self._next()

    def _send_to(self, server: Server) -> None:
        family = socket.AF_INET6 if ":" in server.address else socket.AF_INET
        kind = socket.SOCK_STREAM if self._stream else socket.SOCK_DGRAM
        self._number = os.urandom(2)
        message = self._number + self.packet[2:]
        self._socket = self._open_socket(server, family, kind)
        numeric = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        target = socket.getaddrinfo(server.address.encode(), _PORT, family, kind, 0, numeric)[0][4]
        failed = self._socket.connect_ex(target)
        if failed not in (0, errno.EINPROGRESS):
            raise OSError(failed, os.strerror(failed))
        if self._stream:
            self._unsent = _LENGTH.pack(len(message)) + message
            self._received.clear()
            self._reactor.watch(self._socket.fileno(), select.EPOLLOUT, self._on_connected)
        else:
            self._socket.send(message)
            self._reactor.watch(self._socket.fileno(), select.EPOLLIN, self._on_datagram)

    def _on_datagram(self, _: int) -> None:
        for _ in range(_PACKETS_AT_ONCE):
            assert self._socket is not None
            try:
                answer = self._socket.recv(65535)
            except BlockingIOError:
                return
            except OSError:  # nobody is there: ICMP says so
                self._next()
                return
            if len(answer) < HEADER.size:  # as much as a refusal
                self._next()
                return
            if self._take(answer):
                return

    def _on_connected(self, _: int) -> None:
        assert self._socket is not None
        try:
            self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except BlockingIOError:
            return
        except OSError:
            self._next()
            return
        if not self._unsent:
            self._reactor.forget(self._socket.fileno())
            self._reactor.watch(self._socket.fileno(), select.EPOLLIN, self._on_stream)

    def _on_stream(self, _: int) -> None:
        assert self._socket is not None
        try:
            piece = self._socket.recv(65535)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        self._received += piece
        size = 2 + _LENGTH.unpack_from(self._received)[0] if len(self._received) >= 2 else 65537
        if len(self._received) >= size:
            if not self._take(bytes(self._received[2:size])):
                self._next()
        elif not piece:
            self._next()

    def _take(self, answer: bytes) -> bool:
        """Whether this was all that is to be heard of this server."""
        if not answers_to(answer, int.from_bytes(self._number, "big"), self._question):
            return False
        if code_of(answer) in _PASSED_OVER:
            self._next()
        else:
            self._finish(self.packet[:2] + answer[2:])
        return True
