"""The engine's end of a process's standard streams: attached to a container's monitor, or the pipes or terminal of an exec."""

from __future__ import annotations

import asyncio
import os
import socket
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from kitepy.engine.model.launch import ExitStatus
from kitepy.engine.runtime import attach
from kitepy.engine.runtime.channel import wait_readable, wait_writable

_WRITE_SIZE = 32 * 1024
_READ_SIZE = 64 * 1024
_LINGER_S = 2.0
"""How long after its end output is awaited that processes which it left behind may still write; dockerd waits as long."""


class StreamKind(IntEnum):
    """Which stream output came from; the numbers are those of Docker's stream frames."""

    STDOUT = 1
    STDERR = 2


@dataclass(frozen=True)
class AttachWish:
    """Which streams an attachment is for."""

    stdin: bool = False
    stdout: bool = True
    stderr: bool = True


class AttachStream(Protocol):
    """A two-way connection to a process's standard streams. One reader and one writer at a time."""

    log_end: tuple[int, int] | None
    """Where the log (inode and size of the live file) ended when the stream began; None when nobody asked."""

    async def read(self) -> tuple[StreamKind, bytes] | None:
        """The next piece of output (a terminal's is all STDOUT); None at the end.

        Raises ConnectionAbortedError when output is missing: the reader stalled and was cut off (see ``runtime/attach.py``), or
        the container's monitor was killed.
        """
        ...

    async def write(self, data: bytes) -> None:
        """Send to the process's stdin, waiting for room; BrokenPipeError when the process no longer reads."""
        ...

    async def close_stdin(self) -> None:
        """End of input for the process (not for terminals)."""
        ...

    async def close(self) -> None:
        """Detach; idempotent. The process goes on."""
        ...


class MonitorStream:
    """An attachment to a container's monitor."""

    log_end: tuple[int, int] | None = None

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._stdin_broken = False
        self._closed = False
        self._ended = False

    async def read(self) -> tuple[StreamKind, bytes] | None:
        while not self._closed and not self._ended:
            try:
                packet = self._channel.recv(attach.MAX_DATA + 1)
            except BlockingIOError:
                await wait_readable(self._channel.fileno())
                continue
            except ConnectionResetError:
                continue  # input was left unread; the error is reported once, then comes what was queued
            kind = packet[:1]
            if kind in (attach.STDOUT, attach.STDERR):
                return StreamKind(kind[0]), packet[1:]
            if kind == attach.STDIN_BROKEN:
                self._stdin_broken = True
            elif kind == attach.END:
                self._ended = True
                return None
            elif not packet:
                if self._ended:
                    return None
                raise ConnectionAbortedError(
                    "output is missing: the attached client did not read for too long, or the monitor died"
                )
        return None

    async def write(self, data: bytes) -> None:
        for start in range(0, len(data), _WRITE_SIZE):
            await self._send(attach.STDIN + data[start : start + _WRITE_SIZE])

    async def close_stdin(self) -> None:
        try:
            await self._send(attach.STDIN_END)
        except BrokenPipeError:
            return  # it is closed already

    async def _send(self, packet: bytes) -> None:
        while True:
            if self._stdin_broken or self._closed:
                raise BrokenPipeError("the process does not read its standard input any more")
            try:
                self._channel.send(packet)
                return
            except BlockingIOError:
                await wait_writable(self._channel.fileno())
            except ConnectionResetError as error:
                raise BrokenPipeError("the process has ended") from error

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._channel.close()


class DescriptorStream:
    """The pipes or the terminal of an exec: read and written directly, without a detour through the monitor.

    ``outputs`` maps descriptors to kinds; a terminal's descriptor is the input too. ``exited`` ends reading even if a process
    that was left behind keeps a pipe open.
    """

    log_end: tuple[int, int] | None = None

    def __init__(self, outputs: dict[int, StreamKind], stdin_fd: int, exited: asyncio.Future[ExitStatus]) -> None:
        self._outputs = outputs
        self._stdin_fd = stdin_fd
        self._is_terminal = stdin_fd in outputs
        self._exited = exited
        self._give_up_at: float | None = None
        for fd in {*outputs, stdin_fd} - {-1}:
            os.set_blocking(fd, False)

    async def read(self) -> tuple[StreamKind, bytes] | None:
        while self._outputs:
            for fd, kind in list(self._outputs.items()):
                try:
                    data = os.read(fd, _READ_SIZE)
                except BlockingIOError:
                    continue
                except OSError:
                    data = b""  # EIO: the terminal's last user has gone
                if data:
                    # The streams take turns, so that a chatty one can't starve the other.
                    self._outputs[fd] = self._outputs.pop(fd)
                    return kind, data
                self._close_output(fd)
            if self._outputs and not await self._wait():
                return None
        return None

    async def _wait(self) -> bool:
        """Wait for output; False when the process has ended and its output is given up."""
        loop = asyncio.get_running_loop()
        waiting = asyncio.ensure_future(wait_readable(*self._outputs))
        try:
            if not self._exited.done():
                await asyncio.wait((waiting, self._exited), return_when=asyncio.FIRST_COMPLETED)
                return True
            if self._give_up_at is None:
                self._give_up_at = loop.time() + _LINGER_S
            done, _ = await asyncio.wait((waiting,), timeout=self._give_up_at - loop.time())
            return bool(done)
        finally:
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)

    def _close_output(self, fd: int) -> None:
        del self._outputs[fd]
        if fd == self._stdin_fd:
            self._stdin_fd = -1
        os.close(fd)

    async def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            if self._stdin_fd < 0:
                raise BrokenPipeError("the process does not read its standard input any more")
            try:
                view = view[os.write(self._stdin_fd, view) :]
            except BlockingIOError:
                await wait_writable(self._stdin_fd)
            except OSError as error:
                await self.close_stdin()
                raise BrokenPipeError("the process does not read its standard input any more") from error

    async def close_stdin(self) -> None:
        if self._stdin_fd >= 0 and not self._is_terminal:
            os.close(self._stdin_fd)
            self._stdin_fd = -1

    async def close(self) -> None:
        await self.close_stdin()
        for fd in list(self._outputs):
            self._close_output(fd)
