"""Carries connections from a host port to a container in user space, where address translation in the kernel can't.

That is so for IPv6 clients of a container that has IPv4 only, for loopback when the kernel may not route it, for everything
when the engine was told to touch no rules, and for every port of an engine without root, whose ports lie in another network
namespace than its containers. The container sees the bridge's address as its client.

Where much is sent, TCP data doesn't come into this process, but is spliced from socket to pipe to socket. The relays share one
epoll object, a ``Reactor``; ``relay_server`` runs it in a process of its own, so that published ports outlive the engine.
"""

from __future__ import annotations

import errno
import fcntl
import heapq
import itertools
import os
import select
import socket
import struct
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

Target = tuple[str, int]
Handler = Callable[[int], None]

_ACCEPTS_AT_ONCE = 64
_DATAGRAMS_AT_ONCE = 64
_CONNECT_TIMEOUT_S = 10.0
_RETRY_ACCEPT_S = 0.5
_COPY_BYTES = 64 * 1024
_SPLICE_FROM_BYTES = 512 * 1024
_PIPE_BYTES = 1024 * 1024
_IDLE_PIPES = 32
_F_SETPIPE_SZ, _F_GETPIPE_SZ = 1031, 1032
_ROUNDS_AT_ONCE = 16
_OUT_OF_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_BROKEN = select.EPOLLERR | select.EPOLLHUP
_EDGES = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET
_SPLICE = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK
_IP_PKTINFO = 8
_IPV6_RECVPKTINFO = 49
_IPV6_PKTINFO = 50
_ANCILLARY_BYTES = 128


class Reactor:
    """Who wants to hear of which descriptor, who has more to do at once, and what is to be done at a later time."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.pipes = _Pipes()
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._ready: dict[int, Callable[[], None]] = {}
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    def watch(self, fd: int, events: int, handler: Handler) -> None:
        """Call ``handler`` with the events of a descriptor."""
        self._epoll.register(fd, events)
        self._handlers[fd] = handler

    def forget(self, fd: int) -> None:
        """Before the descriptor is closed."""
        if self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)
        self._ready.pop(fd, None)

    def closing(self, fd: int) -> None:
        """Before the only descriptor of its file is closed, which takes it off the list in the kernel, too."""
        self._handlers.pop(fd, None)
        self._ready.pop(fd, None)

    def again(self, fd: int, work: Callable[[], None]) -> None:
        """Come back to what was cut off, after the others had their turn."""
        self._ready[fd] = work

    def later(self, delay_s: float, work: Callable[[], None]) -> None:
        """Once, not before the delay is over."""
        heapq.heappush(self._timers, (self.clock() + delay_s, next(self._numbers), work))

    def turn(self, timeout_s: float | None = None) -> None:
        """Wait for something to do, and do it."""
        for fd, events in self._epoll.poll(self._patience(timeout_s), 256):
            handler = self._handlers.get(fd)
            if handler is not None:  # else an earlier handler of this turn has closed it
                handler(events)
        for fd in list(self._ready):
            work = self._ready.pop(fd, None)
            if work is not None:
                work()
        now = self.clock()
        while self._timers and self._timers[0][0] <= now:
            heapq.heappop(self._timers)[2]()

    def close(self) -> None:
        """Give the epoll object and idle pipes back."""
        self._epoll.close()
        self.pipes.close()

    def _patience(self, timeout_s: float | None) -> float | None:
        if self._ready:
            return 0
        waits = [] if timeout_s is None else [timeout_s]
        if self._timers:
            waits.append(max(0.0, self._timers[0][0] - self.clock()))
        return min(waits) if waits else None


class StreamRelay:
    """TCP, with each direction closed on its own, and at most ``limit`` connections at once; more wait in the backlog.

    The listener belongs to the relay, which closes it.
    """

    def __init__(self, reactor: Reactor, listener: socket.socket, target: Target, *, limit: int = 1024) -> None:
        self.socket = listener
        self.target = target
        self._reactor = reactor
        self._limit = limit
        self._connections: set[_Connection] = set()
        self._connecting: deque[tuple[float, _Connection]] = deque()
        self._watches_connecting = False
        self._accepting = False
        self._closed = False
        listener.setblocking(False)
        # Accepted sockets inherit it. A listener that an earlier engine left may have been made without.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._resume()

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._connections)

    def close(self) -> None:
        """Stop accepting, reset what is connected, close the listener. Idempotent."""
        self._pause()
        self._closed = True
        for connection in list(self._connections):
            connection.abort()
        self.socket.close()

    def _resume(self) -> None:
        if not self._accepting and not self._closed:
            self._reactor.watch(self.socket.fileno(), select.EPOLLIN, self._accept)
            self._accepting = True

    def _pause(self) -> None:
        if self._accepting:
            self._reactor.forget(self.socket.fileno())
            self._accepting = False

    def _accept(self, _: int) -> None:
        for _ in range(_ACCEPTS_AT_ONCE):
            if len(self._connections) >= self._limit:
                self._pause()
                return
            try:
                client, _ = self.socket.accept()
                client.setblocking(False)
                connection = _Connection(self._reactor, client, self.target, self._ended)
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _OUT_OF_RESOURCES:
                    raise
                self._pause()
                self._reactor.later(_RETRY_ACCEPT_S, self._resume)
                return
            self._connections.add(connection)
            self._connecting.append((self._reactor.clock() + _CONNECT_TIMEOUT_S, connection))
            connection.connect()
            if not self._watches_connecting:
                self._give_up_connecting()

    def _give_up_connecting(self) -> None:
        """Abort what is not connected in time; all have the same time, so the first in the row is the first due."""
        now = self._reactor.clock()
        while self._connecting and (self._connecting[0][1].is_settled or self._connecting[0][0] <= now):
            connection = self._connecting.popleft()[1]
            if not connection.is_settled:
                connection.abort()
        self._watches_connecting = bool(self._connecting)
        if self._connecting:
            self._reactor.later(max(0.1, self._connecting[0][0] - now), self._give_up_connecting)

    def _ended(self, connection: _Connection) -> None:
        self._connections.discard(connection)
        self._resume()


class _Connection:
    """A client, the connection to the container made for it, and a pump for each direction."""

    __slots__ = ("_client", "_closed", "_connected", "_on_end", "_reactor", "_target", "_to_client", "_to_target", "_upstream")

    def __init__(self, reactor: Reactor, client: socket.socket, target: Target, on_end: Callable[[_Connection], None]) -> None:
        self._reactor = reactor
        self._on_end = on_end
        self._client = client
        self._target = target
        self._closed = False
        self._connected = False
        try:
            self._upstream = socket.socket(_family(target), socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        except OSError:
            client.close()
            raise
        self._to_target = _Pump(reactor.pipes, client, self._upstream)
        self._to_client = _Pump(reactor.pipes, self._upstream, client)

    @property
    def is_settled(self) -> bool:
        """Connected, or closed already."""
        return self._connected or self._closed

    def connect(self) -> None:
        """Begin; a container that refuses makes the client see a reset."""
        # The client's socket has this from the listener.
        self._upstream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        failure = self._upstream.connect_ex(self._target)
        if failure not in (0, errno.EINPROGRESS):
            self.abort()
            return
        self._reactor.watch(self._upstream.fileno(), _EDGES, self._on_upstream)

    def abort(self) -> None:
        """Make close() send RST: an aborted connection must not look like one that ended well."""
        if not self._closed:
            for end in (self._client, self._upstream):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            self._close()

    def _close(self) -> None:
        self._closed = True
        for end in (self._client, self._upstream):
            self._reactor.closing(end.fileno())
            end.close()
        self._to_target.close()
        self._to_client.close()
        self._on_end(self)

    def _on_upstream(self, events: int) -> None:
        if not self._connected:
            if events & _BROKEN:
                self.abort()
                return
            if not events & select.EPOLLOUT:
                return  # still connecting
            self._connected = True
            self._reactor.watch(self._client.fileno(), _EDGES, self._on_client)
            self._to_target.may_read = True  # clients of most protocols speak first, and have done so by now
        self._note(events, self._to_client, self._to_target)

    def _on_client(self, events: int) -> None:
        self._note(events, self._to_target, self._to_client)

    def _note(self, events: int, reading: _Pump, writing: _Pump) -> None:
        if events & select.EPOLLERR:
            reading.may_read = reading.is_broken = True
        elif events & (select.EPOLLRDHUP | select.EPOLLHUP):
            reading.may_read = reading.is_ending = True
        elif events & select.EPOLLIN:
            reading.may_read = True
        if events & (select.EPOLLOUT | _BROKEN):
            writing.may_write = True
        self._move()

    def _move(self) -> None:
        """Move until both directions would block. Descriptors report changes only, so nothing that can move may be left."""
        if self._closed:
            return
        to_target, to_client = self._to_target, self._to_client
        try:
            for _ in range(_ROUNDS_AT_ONCE):
                moved = to_target.move()
                if not to_client.move() and not moved:
                    break
            else:
                self._reactor.again(self._client.fileno(), self._move)
                return
        except OSError:
            self.abort()
            return
        if to_target.is_done and to_client.is_done:
            self._close()


class _Pump:
    """One direction of a connection.

    Short conversations are copied through this process, which needs nothing beside the two sockets; what goes on for longer
    is spliced from socket to pipe to socket.
    """

    __slots__ = (
        "_at_end", "_copied_bytes", "_pending_bytes", "_pipe", "_pipes", "_sink", "_source", "_unsent",
        "is_broken", "is_done", "is_ending", "may_read", "may_write",
    )  # fmt: skip

    def __init__(self, pipes: _Pipes, source: socket.socket, sink: socket.socket) -> None:
        self._pipes = pipes
        self._source = source
        self._sink = sink
        self._pipe: _Pipe | None = None
        self._unsent = b""
        self._copied_bytes = 0
        self._pending_bytes = 0
        """In the pipe."""
        self._at_end = False
        self.may_read = False
        """Something has come since reading would have blocked."""
        self.is_ending = False
        """The other side sends no more: a read that doesn't fill its buffer gets the last of it."""
        self.is_broken = False
        """Reading on tells how."""
        self.may_write = True
        self.is_done = False

    def move(self) -> bool:
        """Take what has come and give what can go; whether anything moved. Raises OSError when an end is broken."""
        if self.is_done:
            return False
        moved = self._splice() if self._pipe is not None else self._copy()
        if self._at_end and not self._pending_bytes and not self._unsent:
            self._sink.shutdown(socket.SHUT_WR)
            self.is_done = True
        return moved

    def _copy(self) -> bool:
        moved = False
        if self.may_read and not self._unsent and not self._at_end:
            try:
                self._unsent = self._source.recv(_COPY_BYTES)
            except BlockingIOError:
                self.may_read = False
            else:
                count = len(self._unsent)
                moved = True
                # Less than there was room for is all that there was (epoll(7)).
                self.may_read = count == _COPY_BYTES or self.is_broken
                self._at_end = not count or (self.is_ending and not self.may_read)
                self._copied_bytes += count
        if self._unsent and self.may_write:
            try:
                count = self._sink.send(self._unsent)
            except BlockingIOError:
                self.may_write = False
            else:
                moved = True
                self._unsent = self._unsent[count:]
        if self._copied_bytes >= _SPLICE_FROM_BYTES and not self._unsent and not self._at_end:
            self._pipe = self._pipes.take()
        return moved

    def _splice(self) -> bool:
        assert self._pipe is not None
        moved = False
        if self.may_read and not self._at_end and self._pending_bytes < self._pipe.size_bytes:
            room = self._pipe.size_bytes - self._pending_bytes
            try:
                count = os.splice(self._source.fileno(), self._pipe.write_fd, room, flags=_SPLICE)
            except BlockingIOError:
                # Nothing has come, or the pipe has no slot left: then there is more to read when it has been emptied.
                self.may_read = bool(self._pending_bytes)
            else:
                self._at_end = count == 0
                moved = True
                self._pending_bytes += count
        if self._pending_bytes and self.may_write:
            try:
                count = os.splice(self._pipe.read_fd, self._sink.fileno(), self._pending_bytes, flags=_SPLICE)
            except BlockingIOError:
                self.may_write = False
                return moved
            self._pending_bytes -= count
            moved = moved or count > 0
        return moved

    def close(self) -> None:
        if self._pipe is not None:
            self._pipes.give_back(self._pipe, is_empty=not self._pending_bytes)
            self._pipe = None


@dataclass(frozen=True)
class _Pipe:
    read_fd: int
    write_fd: int
    size_bytes: int

    def close(self) -> None:
        os.close(self.read_fd)
        os.close(self.write_fd)


class _Pipes:
    """Empty pipes, to be used again: making a large one costs more than a short conversation."""

    def __init__(self) -> None:
        self._idle: list[_Pipe] = []

    def take(self) -> _Pipe | None:
        """None when there is none to be had: then copying must do."""
        if self._idle:
            return self._idle.pop()
        try:
            read_fd, write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            return None
        try:
            size = fcntl.fcntl(write_fd, _F_SETPIPE_SZ, _PIPE_BYTES)
        except OSError:  # an ordinary user's pipes are limited, all together
            size = fcntl.fcntl(write_fd, _F_GETPIPE_SZ)
        return _Pipe(read_fd, write_fd, size)

    def give_back(self, pipe: _Pipe, *, is_empty: bool) -> None:
        """One that isn't empty can't be used by anybody else."""
        if is_empty and len(self._idle) < _IDLE_PIPES:
            self._idle.append(pipe)
        else:
            pipe.close()

    def close(self) -> None:
        """Idempotent."""
        while self._idle:
            self._idle.pop().close()


class DatagramRelay:
    """UDP: each client address gets its own socket towards the container until it has been silent for ``idle_s``.

    Answers leave from the address that the client wrote to, which on a socket bound to all addresses is not given.
    """

    def __init__(
        self, reactor: Reactor, bound: socket.socket, target: Target, *, idle_s: float = 90.0, limit: int = 1024
    ) -> None:
        self.socket = bound
        self.target = target
        self._reactor = reactor
        self._idle_s = idle_s
        self._limit = limit
        self._flows: dict[tuple[object, bytes], _Flow] = {}
        bound.setblocking(False)
        if bound.family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO, 1)
        else:
            bound.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        reactor.watch(bound.fileno(), select.EPOLLIN, self._from_clients)

    @property
    def clients(self) -> int:
        """How many are remembered."""
        return len(self._flows)

    def close(self) -> None:
        """Forget all clients and close the socket. Idempotent."""
        for flow in list(self._flows.values()):
            flow.close()
        self._flows.clear()
        if self.socket.fileno() >= 0:
            self._reactor.forget(self.socket.fileno())
            self.socket.close()

    def _from_clients(self, _: int) -> None:
        for _ in range(_DATAGRAMS_AT_ONCE):
            try:
                data, ancillary, _, client = self.socket.recvmsg(65536, _ANCILLARY_BYTES)
            except OSError:  # nothing left, or an ICMP answer to one of our datagrams
                return
            local = self._answer_from(ancillary)
            flow = self._flows.get((client, local)) or self._open(client, local)
            if flow is not None:
                flow.send(data)

    def _answer_from(self, ancillary: list[tuple[int, int, bytes]]) -> bytes:
        """The control message that makes an answer leave from where the client wrote to; empty when the kernel may choose."""
        for level, kind, data in ancillary:
            if level == socket.IPPROTO_IP and kind == _IP_PKTINFO:
                _, _, destination = struct.unpack("@I4s4s", data[:12])
                return struct.pack("@I4s4s", 0, destination, bytes(4))
            if level == socket.IPPROTO_IPV6 and kind == _IPV6_PKTINFO:
                return data[:16] + struct.pack("@I", 0) if not data.startswith(b"\xfe\x80") else data[:20]
        return b""

    def _open(self, client: tuple[object, ...], local: bytes) -> _Flow | None:
        if len(self._flows) >= self._limit:
            return None
        try:
            flow = _Flow(self._reactor, self.target, self._idle_s)
        except OSError:
            return None  # no route or no descriptor: this datagram is lost, as datagrams may be
        flow.deliver = lambda data: self._answer(client, local, data)
        flow.on_close = lambda: self._flows.pop((client, local), None)
        self._flows[client, local] = flow
        return flow

    def _answer(self, client: tuple[object, ...], local: bytes, data: bytes) -> None:
        is_ipv6 = self.socket.family == socket.AF_INET6
        kind = (socket.IPPROTO_IPV6, _IPV6_PKTINFO) if is_ipv6 else (socket.IPPROTO_IP, _IP_PKTINFO)
        try:
            self.socket.sendmsg([data], [(*kind, local)] if local else [], 0, client)
        except OSError:
            return  # datagrams may get lost


class _Flow:
    """One client's way to the container and back."""

    def __init__(self, reactor: Reactor, target: Target, idle_s: float) -> None:
        self._reactor = reactor
        self._idle_s = idle_s
        self.deliver: Callable[[bytes], None] = lambda _: None
        self.on_close: Callable[[], object] = lambda: None
        self._socket = socket.socket(_family(target), socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            self._socket.connect(target)
        except OSError:
            self._socket.close()
            raise
        reactor.watch(self._socket.fileno(), select.EPOLLIN, self._receive)
        self._last_used = reactor.clock()
        reactor.later(idle_s, self._expire)

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            self._reactor.forget(self._socket.fileno())
            self._socket.close()

    def send(self, data: bytes) -> None:
        self._last_used = self._reactor.clock()
        try:
            self._socket.send(data)
        except OSError:
            return  # datagrams may get lost

    def _receive(self, _: int) -> None:
        for _ in range(_DATAGRAMS_AT_ONCE):
            try:
                data = self._socket.recv(65536)
            except OSError:  # nothing left, or the container has no such port: ICMP says so
                return
            self._last_used = self._reactor.clock()
            self.deliver(data)

    def _expire(self) -> None:
        if self._socket.fileno() < 0:
            return
        silent_s = self._reactor.clock() - self._last_used
        if silent_s < self._idle_s:
            self._reactor.later(self._idle_s - silent_s, self._expire)
            return
        self.close()
        self.on_close()


Relay = StreamRelay | DatagramRelay


def _family(target: Target) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in target[0] else socket.AF_INET


def make_relay(reactor: Reactor, bound: socket.socket, target: Target) -> Relay | None:
    """The relay for a socket, or None where there is none: SCTP is left to the kernel."""
    if bound.proto == socket.IPPROTO_SCTP:
        return None
    if bound.type == socket.SOCK_DGRAM:
        return DatagramRelay(reactor, bound, target)
    return StreamRelay(reactor, bound, target)
