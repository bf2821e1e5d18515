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
from collections.abc import Callable, Sequence
from typing import Any

from kitepy.engine.model import errors
from kitepy.engine.model.errors import EngineError, SystemFailure

log = logging.getLogger(__name__)

_READ_SIZE = 1 << 16
_STOP_TIMEOUT_S = 5.0

Progress = Callable[[dict[str, Any]], None]


class WorkerPool:
    """One warm worker process and the jobs it runs. Belongs to one event loop."""

    def __init__(self, parallel: int | None = None) -> None:
        self._slots = asyncio.Semaphore(parallel or os.cpu_count() or 1)
        self._starting = asyncio.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    async def start(self) -> None:
        """Start the worker process unless it runs; ``run`` does so by itself, so this only saves the first job's wait."""
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
            self._control = ours

    async def close(self) -> None:
        """End the worker process and with it all jobs."""
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
                ours, theirs = socket.socketpair()
                with ours:
                    ours.setblocking(False)
                    with theirs:
                        await self._submit(job, [theirs.fileno(), *fds])
                    # From here on only the child holds them, so that the other end of a pipe sees the child's end.
                    owned.close()
                    return await _converse(ours, job, params, progress)

    async def _submit(self, job: str, fds: list[int]) -> None:
        for attempt in range(2):
            await self.start()
            assert self._control is not None
            try:
                socket.send_fds(self._control, [job.encode()], fds)
                return
            except (BrokenPipeError, ConnectionResetError) as error:
                if attempt:
                    raise SystemFailure("the worker process ends as soon as it is started") from error
                log.warning("the worker process died; starting another one")
                async with self._starting:
                    await self._discard()

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


async def _converse(channel: socket.socket, job: str, params: dict[str, Any], progress: Progress | None) -> dict[str, Any]:
    pidfd: int | None = None
    try:
        # The child announces itself before it reads, so a large parameter list can't block both sides.
        first = asyncio.ensure_future(_receive_pidfd(channel))
        try:
            received, pidfd = await asyncio.shield(first)
        except asyncio.CancelledError:
            received, pidfd = await first
            raise
        loop = asyncio.get_running_loop()
        if pidfd is not None:
            await loop.sock_sendall(channel, json.dumps(params).encode() + b"\n")
        buffer = received
        while True:
            while b"\n" in buffer:
                line, _, buffer = buffer.partition(b"\n")
                if not line:
                    continue
                message = json.loads(line)
                if "result" in message:
                    result: dict[str, Any] = message["result"]
                    return result
                if "error" in message:
                    raise _rebuild(job, message["error"])
                if progress is not None:
                    progress(message["progress"])
            piece = await loop.sock_recv(channel, _READ_SIZE)
            if not piece:
                raise SystemFailure(f"the worker doing {job} was killed")
            buffer += piece
    except (BrokenPipeError, ConnectionResetError) as error:
        raise SystemFailure(f"the worker doing {job} was killed") from error
    except BaseException:
        if pidfd is not None:
            await _kill(pidfd)
        raise
    finally:
        if pidfd is not None:
            os.close(pidfd)


async def _receive_pidfd(channel: socket.socket) -> tuple[bytes, int | None]:
    await _readable(channel.fileno())
    data, fds, _, _ = socket.recv_fds(channel, _READ_SIZE, 1)
    return data, fds[0] if fds else None


async def _kill(pidfd: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    # Its files may be removed only when it can't write any more.
    await _readable(pidfd)


async def _readable(fd: int) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def fire() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(fd, fire)
    try:
        await ready
    finally:
        loop.remove_reader(fd)


def _rebuild(job: str, description: dict[str, Any]) -> EngineError:
    kind = getattr(errors, str(description["kind"]), SystemFailure)
    error: EngineError = kind(description["message"])
    if "trace" in description:
        log.debug("%s failed:\n%s", job, description["trace"])
    return error
