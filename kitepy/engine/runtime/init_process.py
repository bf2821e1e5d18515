"""A small init for containers that ask for one: process 1 starts the user's program, hands on signals to it and reaps orphans.

It does what tini(1) does, so that images behave alike: every signal is forwarded to the program (not to its group), zombies are
reaped whoever left them, and when the program ends, its exit code is the container's; the kernel then ends what is left.

It is no program of its own but the forked launcher that never calls exec, confined like the user's program: the same user,
capabilities and seccomp filter. What it could give away is gone before the program exists: every descriptor is closed, the
launcher's environment holds nothing, the process isn't dumpable (it can't be traced, nor /proc/1/environ read, without
CAP_SYS_PTRACE over the host's user namespace), and /proc/1/exe is the launcher's read-only copy of the interpreter.
"""

from __future__ import annotations

import os

from kitepy.engine.kernel import syscalls
from kitepy.engine.kernel.namespaces import exit_code

SHOWN_AS = ("/sbin/docker-init", "--")
"""What ps shows before the program's own words, as with Docker."""
_SIGCHLD = 17
_KEPT = (4, 5, 6, 7, 8, 11, 31)
"""SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV, SIGSYS: those that tell of the init's own faults."""
_LIBRARY = (32, 33)
"""The C library keeps these two for itself."""


def stay_behind_as_init(arguments: list[str], title_area: tuple[int, int]) -> None:
    """Fork; the child returns and becomes the program, the caller stays as its init and never returns."""
    import _signal  # type: ignore[import-not-found]  # what signal is made of, without its enumerations

    awaited = set(range(1, _signal.NSIG)) - {*_KEPT, *_LIBRARY}
    _signal.pthread_sigmask(_signal.SIG_SETMASK, awaited)
    # Before the program exists, so that it never sees anything else.
    syscalls.set_not_dumpable()
    syscalls.set_name(os.path.basename(SHOWN_AS[0]))
    syscalls.write_title(title_area, [*SHOWN_AS, *arguments])
    closed_fd, open_fd = os.pipe()
    child = os.fork()
    if not child:
        os.close(open_fd)
        os.read(closed_fd, 1)  # ends when the init has closed its descriptors, this pipe's among them
        os.close(closed_fd)
        os.setpgid(0, 0)
        if os.isatty(0):
            os.tcsetpgrp(0, os.getpgrp())
        _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
        return
    try:
        syscalls.close_range(0)
        _serve(child, awaited, _signal.sigwait)
    finally:
        os._exit(255)


def _serve(child: int, awaited: set[int], next_signal: object) -> None:
    assert callable(next_signal)
    while True:
        number = int(next_signal(awaited))
        if number != _SIGCHLD:
            try:
                os.kill(child, number)
            except (ProcessLookupError, PermissionError):
                continue  # it has just ended, or became somebody else
            continue
        ended = _reap(child)
        if ended is not None:
            os._exit(ended)


def _reap(child: int) -> int | None:
    """Reap all that has ended; the exit code of the program if it is among them."""
    code = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return code
        if not pid:
            return code
        if pid == child:
            code = exit_code(status)
