"""Carries connections from a host port to a container in user space, where address translation in the kernel can't.

That is so for IPv6 clients of a container that has IPv4 only, for loopback when the kernel may not route it, and for
everything when the engine was told to touch no rules. The container sees the bridge's address as its client.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import struct
from collections.abc import Callable
from typing import Protocol

logger = logging.getLogger(__name__)

Target = tuple[str, int]

_CHUNK_BYTES = 64 * 1024
_ACCEPTS_AT_ONCE = 64
_CONNECT_TIMEOUT_S = 10.0
_RETRY_ACCEPT_S = 0.5
_OUT_OF_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Relay(Protocol):
    """Serves one bound socket until it is closed; the socket itself belongs to the caller."""

    def start(self) -> None:
        """Begins to serve."""

    def close(self) -> None:
        """Drops all connections. Idempotent."""


def make_relay(bound: socket.socket, target: Target) -> Relay | None:
    """The relay for a socket, or None where there is none: SCTP is left to the kernel."""
    if bound.proto == socket.IPPROTO_SCTP:
        return None
    return DatagramRelay(bound, target) if bound.type == socket.SOCK_DGRAM else StreamRelay(bound, target)


class StreamRelay:
    """TCP, with each direction closed on its own, and at most ``limit`` connections at once; more wait in the backlog."""

    def __init__(self, listener: socket.socket, target: Target, *, limit: int = 1024) -> None:
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._target = target
        self._limit = limit
        self._connections: set[asyncio.Task[None]] = set()
        self._accepting = False
        self._closed = False

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._connections)

    def start(self) -> None:
        """Begins to accept."""
        if not self._accepting and not self._closed:
            self._loop.add_reader(self._listener.fileno(), self._accept)
            self._accepting = True

    def close(self) -> None:
        """Stops accepting and resets what is connected."""
        self._closed = True
        self._pause()
        for task in self._connections:
            task.cancel()

    def _pause(self) -> None:
        if self._accepting:
            self._loop.remove_reader(self._listener.fileno())
            self._accepting = False

    def _accept(self) -> None:
        for _ in range(_ACCEPTS_AT_ONCE):
            if len(self._connections) >= self._limit:
                self._pause()
                return
            try:
                client, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _OUT_OF_RESOURCES:
                    raise
                logger.warning("accepting on a published port failed: %s", error)
                self._pause()
                self._loop.call_later(_RETRY_ACCEPT_S, self.start)
                return
            task = self._loop.create_task(self._serve(client))
            self._connections.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._connections.discard(task)
        self.start()

    async def _serve(self, client: socket.socket) -> None:
        upstream = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        complete = False
        with client, upstream:
            client.setblocking(False)
            try:
                for end in (client, upstream):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                    await self._loop.sock_connect(upstream, self._target)
                async with asyncio.TaskGroup() as directions:
                    directions.create_task(self._pump(client, upstream))
                    directions.create_task(self._pump(upstream, client))
                complete = True
            except* OSError as group:  # a timeout to connect is one too
                logger.debug("relay to %s:%d: %s", *self._target, group.exceptions[0])
            finally:
                if not complete:
                    _reset(client, upstream)

    async def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        buffer = memoryview(bytearray(_CHUNK_BYTES))
        while count := await self._loop.sock_recv_into(source, buffer):
            await self._loop.sock_sendall(sink, buffer[:count])
        sink.shutdown(socket.SHUT_WR)


def _reset(*ends: socket.socket) -> None:
    """Makes close() send RST: an aborted connection must not look like one that ended well."""
    for end in ends:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)


class DatagramRelay:
    """UDP: each client address gets its own socket towards the container until it has been silent for ``idle_s``."""

    def __init__(self, bound: socket.socket, target: Target, *, idle_s: float = 90.0, limit: int = 1024) -> None:
        self._loop = asyncio.get_running_loop()
        self._bound = bound
        self._target = target
        self._idle_s = idle_s
        self._limit = limit
        self._flows: dict[tuple[object, ...], _Flow] = {}
        self._started = False

    @property
    def clients(self) -> int:
        """How many are remembered."""
        return len(self._flows)

    def start(self) -> None:
        """Begins to serve."""
        self._loop.add_reader(self._bound.fileno(), self._from_clients)
        self._started = True

    def close(self) -> None:
        """Forgets all clients."""
        if self._started:
            self._loop.remove_reader(self._bound.fileno())
            self._started = False
        for flow in list(self._flows.values()):
            flow.close()
        self._flows.clear()

    def _from_clients(self) -> None:
        for _ in range(_ACCEPTS_AT_ONCE):
            try:
                data, client = self._bound.recvfrom(65536)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:  # an ICMP answer to one of our datagrams
                logger.debug("published udp port: %s", error)
                return
            flow = self._flows.get(client)
            if flow is None:
                flow = self._open(client)
            if flow is not None:
                flow.send(data)

    def _open(self, client: tuple[object, ...]) -> _Flow | None:
        if len(self._flows) >= self._limit:
            return None
        try:
            flow = _Flow(self._loop, self._target, self._idle_s, lambda data: self._answer(client, data))
        except OSError as error:
            logger.debug("relay to %s:%d: %s", *self._target, error)
            return None
        flow.on_close = lambda: self._flows.pop(client, None)
        self._flows[client] = flow
        return flow

    def _answer(self, client: tuple[object, ...], data: bytes) -> None:
        try:
            self._bound.sendto(data, client)
        except OSError as error:  # datagrams may get lost
            logger.debug("published udp port: %s", error)


class _Flow:
    """One client's way to the container and back."""

    def __init__(self, loop: asyncio.AbstractEventLoop, target: Target, idle_s: float, deliver: Callable[[bytes], None]) -> None:
        self._loop = loop
        self._idle_s = idle_s
        self._deliver = deliver
        self.on_close: Callable[[], object] = lambda: None
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            self._socket.connect(target)
        except OSError:
            self._socket.close()
            raise
        loop.add_reader(self._socket.fileno(), self._receive)
        self._last_used = loop.time()
        self._timer = loop.call_later(idle_s, self._expire)

    def close(self) -> None:
        self._timer.cancel()
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()

    def send(self, data: bytes) -> None:
        self._last_used = self._loop.time()
        try:
            self._socket.send(data)
        except OSError as error:  # datagrams may get lost
            logger.debug("relay of a datagram: %s", error)

    def _receive(self) -> None:
        for _ in range(_ACCEPTS_AT_ONCE):
            try:
                data = self._socket.recv(65536)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:  # the container has no such port: ICMP says so
                logger.debug("relay of a datagram: %s", error)
                return
            self._last_used = self._loop.time()
            self._deliver(data)

    def _expire(self) -> None:
        silent_s = self._loop.time() - self._last_used
        if silent_s < self._idle_s:
            self._timer = self._loop.call_later(self._idle_s - silent_s, self._expire)
            return
        self.close()
        self.on_close()
