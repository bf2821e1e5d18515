"""Large bodies between a client's socket and a pipe, moved by the kernel (splice(2)) instead of through the engine's memory.

Only on plain unix sockets; wherever something stands in between (TLS, chunks that come in), bytes take the ordinary way.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import select
import socket
import struct
import termios
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol, runtime_checkable

from kitepy.engine.model.errors import Cancelled

_READ_BYTES = 1 << 18
_MOVED_BYTES = 1 << 20
_DISCARD_TIMEOUT_S = 5.0
_movers = threading.BoundedSemaphore(16)
"""How many uploads may have a thread each; more of them share the event loop."""

logger = logging.getLogger(__name__)


def plain_socket(transport: asyncio.BaseTransport | None) -> int | None:
    """The descriptor of a connection that carries nothing but the bytes themselves."""
    found = transport.get_extra_info("socket") if transport is not None else None
    if found is None or found.family != socket.AF_UNIX or found.fileno() < 0:
        return None
    return int(found.fileno())


class Upload(AsyncIterator[bytes]):
    """A request's body that was kept away from the HTTP parser: what came with the head, then what is in the socket."""

    def __init__(self, fd: int, early: bytes, length: int, pause_s: float | None) -> None:
        self._fd = os.dup(fd)
        self._early = early[:length]
        self.left = length - len(self._early)
        """Bytes that are still to come from the socket."""
        self.rest = early[length:]
        """What follows the body already."""
        self.ended: Callable[[], Awaitable[None]] | None = None
        """Called when all of it has gone into a pipe: from then on the connection tells again whether the client is there."""
        self._pause_s = pause_s

    async def __anext__(self) -> bytes:
        if self._early:
            early, self._early = self._early, b""
            return early
        while self.left:
            try:
                piece = os.read(self._fd, min(self.left, _READ_BYTES))
            except BlockingIOError:
                await self._arrival()
                continue
            self._count(len(piece))
            return piece
        raise StopAsyncIteration

    async def splice_into(self, pipe_fd: int) -> None:
        """Move all of it into a pipe that doesn't block."""
        view = memoryview(self._early)
        self._early = b""
        while view:
            try:
                view = view[os.write(pipe_fd, view) :]
            except BlockingIOError:
                await _ready(pipe_fd, writing=True)
        if not _movers.acquire(blocking=False):
            await self._move(pipe_fd)
        else:
            try:
                # Clients send small pieces: a thread asleep in poll(2) takes a fraction of the time of a loop that is woken.
                await _in_thread(lambda stop_fd: self._move_blocking(pipe_fd, stop_fd))
            finally:
                _movers.release()
        if self.ended is not None:
            await self.ended()

    async def _move(self, pipe_fd: int) -> None:
        while self.left:
            try:
                self._count(self._splice(pipe_fd))
            except BlockingIOError:
                if _has_room(pipe_fd):
                    await self._arrival()
                else:
                    await _ready(pipe_fd, writing=True)

    def _move_blocking(self, pipe_fd: int, stop_fd: int) -> None:
        arrival = _poll((self._fd, select.POLLIN), (stop_fd, select.POLLIN))
        room = _poll((pipe_fd, select.POLLOUT), (stop_fd, select.POLLIN))
        pause_ms = None if self._pause_s is None else int(self._pause_s * 1000)
        while self.left:
            try:
                self._count(self._splice(pipe_fd))
            except BlockingIOError:
                found = arrival.poll(pause_ms) if _has_room(pipe_fd) else room.poll()
                if not found:
                    raise self._silence() from None
                if any(fd == stop_fd for fd, _ in found):
                    return

    def _splice(self, pipe_fd: int) -> int:
        return os.splice(self._fd, pipe_fd, min(self.left, _MOVED_BYTES), flags=os.SPLICE_F_NONBLOCK)

    def more(self, data: bytes) -> None:
        """Take in what somebody else has read from the socket."""
        self._early += data[: self.left]
        self.rest += data[self.left :]
        self.left -= min(self.left, len(data))

    async def discard(self) -> bool:
        """Read what nobody wants, for a while; whether the connection can be used again."""
        with contextlib.suppress(TimeoutError, Cancelled, OSError):
            async with asyncio.timeout(_DISCARD_TIMEOUT_S):
                async for _ in self:
                    pass
        return not self.left

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __del__(self) -> None:
        self.close()

    def _count(self, size: int) -> None:
        if not size:
            raise Cancelled("the client closed the connection before the end of the request body")
        self.left -= size

    async def _arrival(self) -> None:
        try:
            async with asyncio.timeout(self._pause_s):
                await _ready(self._fd, writing=False)
        except TimeoutError:
            raise self._silence() from None

    def _silence(self) -> Cancelled:
        return Cancelled(f"the client sent nothing for {self._pause_s:g} seconds amid the request body")


async def _in_thread(work: Callable[[int], None]) -> None:
    """Run work in a thread of its own; it gets a descriptor that becomes readable when it has to stop."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    stop_fd, tell_fd = os.pipe2(os.O_CLOEXEC)

    def settle(error: BaseException | None) -> None:
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    def run() -> None:
        error: BaseException | None = None
        try:
            work(stop_fd)
        except BaseException as raised:  # the boundary of the thread
            error = raised
        loop.call_soon_threadsafe(settle, error)

    threading.Thread(target=run, name="upload", daemon=True).start()
    try:
        await asyncio.shield(done)
    except asyncio.CancelledError:
        os.write(tell_fd, b"x")
        await asyncio.wait({done})
        if done.exception() is not None:
            logger.debug("an upload that was given up ended with %s", done.exception())
        raise
    finally:
        os.close(stop_fd)
        os.close(tell_fd)


def _poll(*wanted: tuple[int, int]) -> select.poll:
    poll = select.poll()
    for fd, events in wanted:
        poll.register(fd, events)
    return poll


@runtime_checkable
class Piped(Protocol):
    """Bytes that wait in a pipe."""

    @property
    def pipe_fd(self) -> int: ...

    async def finish(self) -> None: ...


async def send_chunks(pipe_fd: int, socket_fd: int) -> None:
    """Send what comes out of a pipe, up to its end, as chunks of HTTP; the last one, which is empty, is left to the caller."""
    fd = os.dup(socket_fd)
    try:
        while True:
            await _ready(pipe_fd, writing=False)
            (waiting,) = struct.unpack("i", fcntl.ioctl(pipe_fd, termios.FIONREAD, b"\0\0\0\0"))
            if not waiting:
                return
            await _send(fd, b"%x\r\n" % waiting)
            while waiting:
                try:
                    waiting -= os.splice(pipe_fd, fd, waiting, flags=os.SPLICE_F_NONBLOCK)
                except BlockingIOError:
                    await _ready(fd, writing=True)
            await _send(fd, b"\r\n")
    finally:
        os.close(fd)


async def _send(fd: int, data: bytes) -> None:
    while data:
        try:
            data = data[os.write(fd, data) :]
        except BlockingIOError:
            await _ready(fd, writing=True)


def _has_room(pipe_fd: int) -> bool:
    return bool(_poll((pipe_fd, select.POLLOUT)).poll(0))


async def _ready(fd: int, *, writing: bool) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def fire() -> None:
        if not ready.done():
            ready.set_result(None)

    if writing:
        loop.add_writer(fd, fire)
    else:
        loop.add_reader(fd, fire)
    try:
        await ready
    finally:
        if writing:
            loop.remove_writer(fd)
        else:
            loop.remove_reader(fd)
