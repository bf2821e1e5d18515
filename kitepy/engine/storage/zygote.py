"""The worker process: waits single-threaded with everything imported and forks a child for each job; ``worker.py`` talks to it.

The engine itself has threads and must not fork. A fork from here takes about a millisecond, where a fresh interpreter
would take fifty. A job is a function ``job(context, params) -> dict`` in one of the allowed packages; it runs in its own
process with its own mount namespace, may chroot, and ends with the process.

Control socket (SEQPACKET): first the compiled system call filter of jobs; then one message a job: its name, with the job's
socket and further descriptors attached.
Job socket (STREAM): the engine sends one JSON line of parameters; the child sends first an empty line with a pidfd of
itself attached, then JSON lines: any number of ``{"progress": …}``, at last ``{"result": …}`` or ``{"error": …}``.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import logging
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from typing import Any

from kitepy.engine.model.errors import EngineError, InvalidParameter, StartFailed
from kitepy.engine.storage import confinement

ALLOWED_PACKAGES = ("kitepy.engine.storage.", "kitepy.engine.builder.", "kitepy.engine.volume.")
PRELOADED = tuple(f"kitepy.engine.storage.{name}" for name in ("jobs", "copy_up", "container_jobs", "recompression"))
MAX_FDS = 32

Job = Callable[["JobContext", dict[str, Any]], dict[str, Any]]


class JobContext:
    """What a job gets besides its parameters."""

    def __init__(self, reply: socket.socket, fds: tuple[int, ...]) -> None:
        self._reply = reply
        self.fds = fds
        """The descriptors handed to ``WorkerPool.run``, in order."""

    def progress(self, report: dict[str, Any]) -> None:
        """Tell the engine how far the work is."""
        _send(self._reply, {"progress": report})


def main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    os.umask(0)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    logging.basicConfig(format="worker: %(message)s", level=logging.WARNING)
    for name in PRELOADED:
        importlib.import_module(name)
    confinement.use_filter(control.recv(1 << 20))
    gc.collect()
    gc.freeze()
    while True:
        message, fds, _, _ = socket.recv_fds(control, 4096, MAX_FDS)
        if not message:
            return
        _fork_job(control, message.decode(), fds)


def _fork_job(control: socket.socket, name: str, fds: list[int]) -> None:
    reply = socket.socket(fileno=fds[0])
    with reply:
        try:
            job = _find(name)
            own_pid = os.getpid()
            pid = os.fork()
        except (EngineError, OSError) as error:
            with contextlib.suppress(OSError):
                _send(reply, {"error": _describe(error)})
            pid = -1
        if pid == 0:
            control.close()
            _run_child(own_pid, job, reply, tuple(fds[1:]))
    for fd in fds[1:]:
        os.close(fd)


def _run_child(parent_pid: int, job: Job, reply: socket.socket, fds: tuple[int, ...]) -> None:
    try:
        confinement.die_with_parent(parent_pid)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        pidfd = os.pidfd_open(os.getpid())
        socket.send_fds(reply, [b"\n"], [pidfd])
        os.close(pidfd)
        try:
            confinement.forbid_new_privileges()
            confinement.enter_private_mounts()
            with reply.makefile("rb") as stream:
                params = json.loads(stream.readline())
            answer = {"result": job(JobContext(reply, fds), params)}
        except Exception as error:  # the boundary of the process: the engine must learn of whatever it was
            answer = {"error": _describe(error)}
        _send(reply, answer)
    except BrokenPipeError:
        pass  # the engine is gone, and nobody waits for the answer
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)


def _find(name: str) -> Job:
    module, _, function = name.partition(":")
    if not module.startswith(ALLOWED_PACKAGES):
        raise InvalidParameter(f"no such job: {name}")
    job: Job = getattr(importlib.import_module(module), function)
    return job


def _describe(error: Exception) -> dict[str, Any]:
    if isinstance(error, EngineError) and not isinstance(error, StartFailed):
        return {"kind": type(error).__name__, "message": str(error)}
    if isinstance(error, OSError):
        where = f" ({os.fsdecode(error.filename)})" if isinstance(error.filename, str | bytes) else ""
        message = f"{error.strerror or error}{where}"
        return {"kind": "SystemFailure", "message": message, "errno": error.errno, "trace": traceback.format_exc()}
    return {"kind": "SystemFailure", "message": f"{type(error).__name__}: {error}", "trace": traceback.format_exc()}


def _send(reply: socket.socket, message: dict[str, Any]) -> None:
    reply.sendall(json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    main()
