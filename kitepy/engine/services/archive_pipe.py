"""Streams between the event loop and worker jobs: a pipe each, with back-pressure and without blocking the loop."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any

from kitepy.engine.storage.readiness import readable, writable

_PIPE_BYTES = 1 << 20
_READ_BYTES = 1 << 18

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
    read_fd, write_fd = _pipe()
    os.set_blocking(read_fd, False)
    try:
        job = asyncio.ensure_future(run(write_fd))
        try:
            while True:
                try:
                    piece = os.read(read_fd, _READ_BYTES)
                except BlockingIOError:
                    await readable(read_fd)
                    continue
                if not piece:
                    break
                yield piece
            await job
        finally:
            await _cancel(job)
    finally:
        os.close(read_fd)


async def _pump(content: AsyncIterator[bytes], fd: int) -> None:
    with contextlib.suppress(BrokenPipeError):  # the job has ended, and its result tells why
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
