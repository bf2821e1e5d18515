"""Runs jobs in worker processes: parallel up to the number of processors, cancellable, failures as the engine's error kinds.

The other side, and the protocol, is ``zygote.py``. Foreign content (archives, image trees) is only ever unpacked or walked
there, in a process of its own that has given up the host's root directory.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from kitepy.engine.model import errors
from kitepy.engine.model.errors import EngineError, SystemFailure
from kitepy.engine.storage import confinement
from kitepy.engine.storage.readiness import readable

log = logging.getLogger(__name__)

_READ_SIZE = 1 << 16
_STOP_TIMEOUT_S = 5.0
_DEATH_TIMEOUT_S = 1.0

Progress = Callable[[dict[str, Any]], None]


class WorkerPool:
    """One warm worker process and the jobs it runs. Belongs to one event loop."""

    def __init__(self, parallel: int | None = None) -> None:
        self._slots = asyncio.Semaphore(parallel or os.cpu_count() or 1)
        self._starting = asyncio.Lock()
        self._beginning: asyncio.Task[None] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    async def start(self) -> None:
        """Start the worker process unless it runs; ``run`` does so by itself, so this only saves the first job's wait."""
        if self._beginning is None or self._beginning.done():
            self._beginning = asyncio.create_task(self._begin(), name="start the worker process")
        # Whoever is cancelled while it starts leaves it to the others, and no half-started process behind.
        await asyncio.shield(self._beginning)

    async def _begin(self) -> None:
        async with self._starting:
            if self._process is not None and self._process.poll() is None:
                return
            await self._discard()
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            # An engine that is root for a user keeps compiled modules elsewhere, and so must this one.
            cache = ("-X", f"pycache_prefix={sys.pycache_prefix}") if sys.pycache_prefix else ()
            command = [sys.executable, *cache, "-m", "kitepy.engine.storage.zygote", str(theirs.fileno())]
            with theirs:
                self._process = await asyncio.to_thread(_spawn, command, theirs.fileno())
            with contextlib.suppress(BrokenPipeError):  # it ended at once, which whoever gives it a job is told
                ours.send(await asyncio.to_thread(confinement.worker_filter))
            self._control = ours

    async def close(self) -> None:
        """End the worker process and with it all jobs."""
        if self._beginning is not None:
            await asyncio.gather(self._beginning, return_exceptions=True)
        async with self._starting:
            await self._discard()

    async def run(
        self,
        job: str,
        params: dict[str, Any],
        fds: Sequence[int] = (),
        *,
        progress: Progress | None = None,
        paced: bool = False,
    ) -> dict[str, Any]:
        """Run ``module:function`` in a process of its own and return its result.

        Takes over ``fds`` and closes them here, whatever happens. Raises the job's ``EngineError``; other failures become
        ``SystemFailure``. Cancelling kills the job and waits until it is gone. ``paced`` jobs mostly wait for a peer (the
        other end of a pipe) and don't count against the limit on parallel jobs.
        """
        with contextlib.ExitStack() as owned:
            for fd in fds:
                owned.callback(os.close, fd)
            async with contextlib.nullcontext() if paced else self._slots:
                running = await self._launch(job, fds)
                # From here on only the child holds them, so that the other end of a pipe sees the child's end.
                owned.close()
                with running:
                    return await running.converse(params, progress)

    async def _launch(self, job: str, fds: Sequence[int]) -> _Running:
        for _ in range(2):
            await self.start()
            control, process = self._control, self._process
            assert control is not None
            assert process is not None
            ours, theirs = socket.socketpair()
            running = _Running(job, ours)
            try:
                with theirs, contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    socket.send_fds(control, [job.encode()], [theirs.fileno(), *fds])
                if await running.begun():
                    return running
                # Not begun: the worker process has died, perhaps with our request unread.
                await asyncio.to_thread(process.wait, _DEATH_TIMEOUT_S)
                log.warning("the worker process died; starting another one")
            except BaseException as error:
                running.close()
                if isinstance(error, subprocess.TimeoutExpired):
                    raise SystemFailure(f"the worker doing {job} was killed") from None
                raise
            running.close()
        raise SystemFailure("the worker process ends as soon as it is started")

    async def _discard(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            process, self._process = self._process, None
            try:
                await asyncio.to_thread(process.wait, _STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                await asyncio.to_thread(process.wait)


def _spawn(command: list[str], control_fd: int) -> subprocess.Popen[bytes]:
    # Names in archives are UTF-8 or plain bytes, whatever the user's language is.
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "PYTHONUTF8": "1"}
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, pass_fds=(control_fd,), start_new_session=True, env=environment, cwd="/"
    )


class _Running:
    """A job's process, as seen through its socket and a pidfd of it."""

    def __init__(self, job: str, channel: socket.socket) -> None:
        channel.setblocking(False)
        self._job = job
        self._channel = channel
        self._pidfd: int | None = None
        self._received = b""

    def __enter__(self) -> _Running:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._channel.close()
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None

    async def begun(self) -> bool:
        """Wait for the process to announce itself; it does so before it reads anything. False when nobody is there."""
        first = asyncio.ensure_future(self._receive_announcement())
        try:
            return await asyncio.shield(first)
        except asyncio.CancelledError:
            # Without the pidfd it could not be killed, so these milliseconds are waited for.
            if await first:
                await self._kill()
            raise

    async def _receive_announcement(self) -> bool:
        await readable(self._channel.fileno())
        try:
            self._received, fds, _, _ = socket.recv_fds(self._channel, _READ_SIZE, 1)
        except ConnectionResetError:
            return False
        self._pidfd = fds[0] if fds else None
        return bool(self._received)

    async def converse(self, params: dict[str, Any], progress: Progress | None) -> dict[str, Any]:
        """Hand over the parameters, report progress, return the result. The process is gone when this raises."""
        try:
            if self._pidfd is not None:
                await asyncio.get_running_loop().sock_sendall(self._channel, json.dumps(params).encode() + b"\n")
            async for message in self._messages():
                if "result" in message:
                    result: dict[str, Any] = message["result"]
                    return result
                if "error" in message:
                    raise _rebuild(self._job, message["error"])
                if progress is not None:
                    progress(message["progress"])
            raise SystemFailure(f"the worker doing {self._job} was killed")
        except (BrokenPipeError, ConnectionResetError) as error:
            raise SystemFailure(f"the worker doing {self._job} was killed") from error
        except BaseException:
            await self._kill()
            raise

    async def _messages(self) -> AsyncIterator[dict[str, Any]]:
        loop = asyncio.get_running_loop()
        buffer = self._received
        while True:
            *lines, buffer = buffer.split(b"\n")
            for line in lines:
                if line:
                    yield json.loads(line)
            piece = await loop.sock_recv(self._channel, _READ_SIZE)
            if not piece:
                return
            buffer += piece

    async def _kill(self) -> None:
        if self._pidfd is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            # Its files may be removed only when it can't write any more.
            await readable(self._pidfd)


def _rebuild(job: str, description: dict[str, Any]) -> EngineError:
    kind = getattr(errors, str(description["kind"]), SystemFailure)
    error: EngineError = kind(description["message"])
    if "trace" in description:
        log.debug("%s failed:\n%s", job, description["trace"])
    return error
