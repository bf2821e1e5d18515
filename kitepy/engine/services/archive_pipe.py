"""Streams between the event loop and worker jobs: a pipe each, with back-pressure and without blocking the loop."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import struct
import termios
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any, Protocol, runtime_checkable

from kitepy.engine.storage.readiness import readable, writable

_PIPE_BYTES = 1 << 20
_READ_BYTES = 1 << 18


@runtime_checkable
class Spliceable(Protocol):
    """Content that can go into a pipe without passing through here."""

    async def splice_into(self, pipe_fd: int) -> None: ...


RunJob = Callable[[int], Awaitable[dict[str, Any]]]
"""Starts a job with the pipe's other end, which it takes over."""


async def feed(content: AsyncIterator[bytes], run: RunJob) -> dict[str, Any]:
    """Run a job that reads ``content`` through a pipe; gives its result.

    When the content breaks off with an error, the job is cancelled and the error raised; when the job fails, the rest of the
    content is not read.
    """
    read_fd, write_fd = _pipe()
    os.set_blocking(write_fd, False)
    try:
        job = asyncio.ensure_future(run(read_fd))
        pump = asyncio.ensure_future(_pump(content, write_fd))
        try:
            await asyncio.wait({job, pump}, return_when=asyncio.FIRST_COMPLETED)
            if not job.done():
                pump.result()
            # Nothing more is written: the job sees the end now, or has seen enough already.
            os.close(write_fd)
            write_fd = -1
            return await job
        finally:
            await _cancel(pump, job)
    finally:
        if write_fd >= 0:
            os.close(write_fd)


async def drain(run: RunJob) -> AsyncGenerator[bytes, None]:
    """Run a job that writes to a pipe; gives what it writes, and raises its error at the end."""
    output = JobOutput(run)
    try:
        async for piece in output:
            yield piece
    finally:
        await output.aclose()


class JobOutput(AsyncIterator[bytes]):
    """What a job writes to a pipe; its error is raised at the end. Who can may empty ``pipe_fd`` himself and then ``finish``."""

    def __init__(self, run: RunJob) -> None:
        self.pipe_fd, write_fd = _pipe()
        os.set_blocking(self.pipe_fd, False)
        self._job = asyncio.ensure_future(run(write_fd))

    @classmethod
    async def begin(cls, run: RunJob) -> JobOutput:
        """With the first byte waiting; raises what kept the job from writing any, and leaves nothing behind then."""
        output = cls(run)
        try:
            await output._begun()
        except BaseException:
            await output.aclose()
            raise
        return output

    async def _begun(self) -> None:
        await readable(self.pipe_fd)
        (waiting,) = struct.unpack("i", fcntl.ioctl(self.pipe_fd, termios.FIONREAD, bytes(4)))
        if not waiting:
            await self._job

    async def finish(self) -> None:
        """The pipe is at its end: raise what went wrong."""
        await self._job

    async def __anext__(self) -> bytes:
        while True:
            try:
                piece = os.read(self.pipe_fd, _READ_BYTES)
            except BlockingIOError:
                await readable(self.pipe_fd)
                continue
            if not piece:
                await self._job
                raise StopAsyncIteration
            return piece

    async def aclose(self) -> None:
        """End the job, if it still runs."""
        try:
            await _cancel(self._job)
        finally:  # whoever waits here may be cancelled once more
            if self.pipe_fd >= 0:
                os.close(self.pipe_fd)
                self.pipe_fd = -1


async def _pump(content: AsyncIterator[bytes], fd: int) -> None:
    with contextlib.suppress(BrokenPipeError):  # the job has ended, and its result tells why
        if isinstance(content, Spliceable):
            await content.splice_into(fd)
            return
        async for piece in content:
            view = memoryview(piece)
            while view:
                try:
                    view = view[os.write(fd, view) :]
                except BlockingIOError:
                    await writable(fd)


def _pipe() -> tuple[int, int]:
    read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
    with contextlib.suppress(PermissionError):  # above the user's limit on pipe memory the default will do
        fcntl.fcntl(write_fd, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    return read_fd, write_fd


async def _cancel(*tasks: asyncio.Future[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
