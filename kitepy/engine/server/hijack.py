"""A raw conversation over a connection that was an HTTP request: pumps between the socket and a process (attach, exec).

Each direction waits when the other side is slow: the socket is not read while the process doesn't take its input, output
is not fetched while the client doesn't take it. What the client's half-close means: end-of-file on the process's stdin.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import select
import termios
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from kitepy.engine.model.errors import EngineError
from kitepy.engine.server.detach import DetachScanner
from kitepy.engine.server.frames import STDERR
from kitepy.engine.server.wire import Wire
from kitepy.engine.services.ports import AttachSession

logger = logging.getLogger(__name__)

_INPUT_LIMIT_BYTES = 64 * 1024
_FLUSH_TIMEOUT_S = 10.0
_HEAD_TIMEOUT_S = 0.05
_HEAD_POLL_S = 0.0005


class HijackedStream(asyncio.Protocol):
    """Owns the transport from ``start`` until ``run`` returns; then both the transport and the session are closed."""

    def __init__(self, *, wire: Wire, takes_input: bool, detach_keys: bytes | None = None) -> None:
        self._wire = wire
        self._takes_input = takes_input
        self._scanner = DetachScanner(detach_keys) if detach_keys else None
        self._transport: asyncio.Transport | None = None
        self._input: deque[bytes] = deque()
        self._input_bytes = 0
        self._input_ended = False
        self._left = False
        """The client has taken leave: the conversation is over once its input is handed over."""
        self._input_arrived = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self._hang_up = _HangUpWatch(self._client_hung_up)

    # asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        received = self._wire.receive(data)
        if received.reply:
            self._send(received.reply)
        if received.ended:
            self._left = received.broken or not self._takes_input
            self._input_ended = True
            self._input_arrived.set()
        if not self._takes_input or not received.content:
            return
        self._input.append(received.content)
        self._input_bytes += len(received.content)
        self._input_arrived.set()
        if self._input_bytes >= _INPUT_LIMIT_BYTES and self._transport is not None:
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        self._input_ended = True
        self._input_arrived.set()
        if self._transport is not None:
            self._hang_up.begin(self._transport)
        return True  # output still flows

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._hang_up.end()
        self._writable.set()
        self._input_ended = True
        self._input_arrived.set()
        if not self._lost.done():
            self._lost.set_result(exc)

    def _client_hung_up(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # the conversation

    def start(self, transport: asyncio.Transport, head: bytes, early: bytes, half_closed: bool) -> None:
        """Begin on a transport that was handed over with reading paused: answer with ``head``, take ``early`` as first input."""
        self._transport = transport
        transport.write(head)
        self.data_received(early)
        if half_closed:
            self.eof_received()
        elif self._input_bytes < _INPUT_LIMIT_BYTES:
            transport.resume_reading()

    async def run(self, session: AttachSession) -> Exception | None:
        """Pump until output ends, the client leaves or types the detach keys; gives why the connection was lost, if it was."""
        output = asyncio.ensure_future(self._pump_output(session))
        detached = asyncio.ensure_future(self._pump_input(session))
        try:
            waiting: set[asyncio.Future[object]] = {output, detached, self._lost}  # type: ignore[arg-type]  # invariance
            while output in waiting and self._lost in waiting:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                if detached in done and detached.result():
                    break
        finally:
            for task in (output, detached):
                task.cancel()
            await asyncio.gather(output, detached, return_exceptions=True)
            await session.close()
            self._send(self._wire.farewell())
            await self._close_transport()
        return self._lost.result() if self._lost.done() else None

    async def _pump_output(self, session: AttachSession) -> None:
        assert self._transport is not None
        head_is_taken = False
        while True:
            try:
                piece = await session.read()
            except EngineError as error:
                self.write(STDERR, f"{error}\r\n".encode())
                return
            except Exception:
                logger.exception("the output of a process can't be read any more")
                return
            if piece is None or self._lost.done():
                return
            if not head_is_taken:
                await _wait_until_taken(self._transport)
                head_is_taken = True
            self.write(*piece)
            await self._writable.wait()

    def write(self, stream: int, data: bytes) -> None:
        """Send one piece of output."""
        if data:
            self._send(self._wire.encode(stream, data))

    def _send(self, data: bytes) -> None:
        if data and self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    async def _pump_input(self, session: AttachSession) -> bool:
        """Hand over what the client sends; True when that ends the conversation: by the detach keys, or by its end."""
        try:
            while (data := await self._next_input()) is not None:
                detached = False
                if self._scanner is not None:
                    data, detached = self._scanner.feed(data)
                if data:
                    await session.write(data)
                if detached:
                    await session.detached()
                    return True
            if self._takes_input and not self._left and not self._lost.done():
                if self._scanner is not None and (held := self._scanner.flush()):
                    await session.write(held)
                return not await session.close_stdin()
        except (BrokenPipeError, ConnectionResetError):
            self._discard_input()  # the process closed its stdin; its output still matters
        except Exception:
            logger.exception("input can't be handed to the process any more")
            self._discard_input()
        return self._left

    async def _next_input(self) -> bytes | None:
        while not self._input:
            if self._input_ended:
                return None
            self._input_arrived.clear()
            await self._input_arrived.wait()
        data = b"".join(self._input) if len(self._input) > 1 else self._input[0]
        self._input.clear()
        self._input_bytes = 0
        if self._transport is not None and not self._input_ended and not self._transport.is_closing():
            self._transport.resume_reading()
        return data

    def _discard_input(self) -> None:
        self._takes_input = False
        self._input.clear()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    async def _close_transport(self) -> None:
        """Close after what was written has gone out; a client that doesn't take it is cut off."""
        assert self._transport is not None
        self._transport.close()
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(self._lost), _FLUSH_TIMEOUT_S)
        if not self._lost.done():
            self._transport.abort()
            await self._lost


async def _wait_until_taken(transport: asyncio.Transport) -> None:
    """Wait, within reason, until the client has read the head of our answer.

    docker-py reads the head through a buffer and the stream past it: output that reaches it together with the head is lost
    to it. The kernel knows what the other side hasn't read yet (SIOCOUTQ, unix(7); for TCP what it hasn't acknowledged).
    """
    connection = transport.get_extra_info("socket")
    if connection is None:
        return
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _HEAD_TIMEOUT_S
    delay_s = 0.0
    while loop.time() < deadline and not transport.is_closing():
        try:
            unread = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4))
        except OSError:
            return
        if not any(unread) and transport.get_write_buffer_size() == 0:
            return
        await asyncio.sleep(delay_s)
        delay_s = _HEAD_POLL_S


class _HangUpWatch:
    """Notices that a client which half-closed its connection is gone altogether.

    After end-of-file asyncio doesn't watch the socket for reading any more. A hang-up (both directions shut) is always
    reported by epoll(7), even when nothing is asked for; the epoll descriptor itself is what the event loop watches.
    """

    def __init__(self, on_hang_up: Callable[[], None]) -> None:
        self._on_hang_up = on_hang_up
        self._epoll: select.epoll | None = None

    def begin(self, transport: asyncio.Transport) -> None:
        connection = transport.get_extra_info("socket")
        if connection is None or not isinstance(connection.fileno(), int) or connection.fileno() < 0 or self._epoll is not None:
            return
        # TCP can't tell a close from a half-close; there a hang-up comes with the reset that follows what we send,
        # keep-alive probes included.
        self._epoll = select.epoll()
        self._epoll.register(connection.fileno(), select.EPOLLHUP)
        asyncio.get_running_loop().add_reader(self._epoll.fileno(), self._on_hang_up)

    def end(self) -> None:
        if self._epoll is not None:
            asyncio.get_running_loop().remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._epoll = None
