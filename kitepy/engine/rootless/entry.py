"""An ordinary user's engine enters its namespaces, first thing in its life, and is root from there on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from kitepy.engine.kernel import namespaces, syscalls
from kitepy.engine.rootless.delegation import obtain
from kitepy.engine.rootless.holder import RootlessError, start_helpers
from kitepy.engine.rootless.session import RootlessSession
from kitepy.engine.rootless.state import HelperState, ProcessMark, read_state

_JOINED = namespaces.CLONE_NEWUSER | namespaces.CLONE_NEWNS | namespaces.CLONE_NEWNET


def enter(exec_root: Path, environ: Mapping[str, str]) -> RootlessSession:
    """Join the namespaces of a former engine of this exec root, or new ones. For a single-threaded process.

    Afterwards the process has user id 0 in them, all capabilities over them, and no supplementary groups. Raises RootlessError.
    """
    directory = exec_root / "rootless"
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Before the helpers are forked: they and the containers are to outlive the unit that the engine may run in.
        delegation = obtain(exec_root, environ)
        session, inside = _find_or_start(directory)
        session.delegation = delegation
        pidfd = namespaces.pidfd_open(inside.pid)
        try:
            namespaces.setns(pidfd, _JOINED)
        finally:
            os.close(pidfd)
        os.setgroups([])
        os.chdir("/")
    except OSError as error:
        raise RootlessError(f"the engine can't enter its namespaces: {error}") from error
    # Containers with the host's PID namespace run under the same user: they must not trace their engine.
    syscalls.set_not_dumpable()
    return session


def _find_or_start(directory: Path) -> tuple[RootlessSession, ProcessMark]:
    state = read_state(directory)
    known = state if state is not None and state.inside.is_alive() else None
    if known is not None:
        try:
            return RootlessSession(directory), known.inside
        except (FileNotFoundError, ConnectionRefusedError):
            pass  # only the process outside was lost; a new one can serve the same namespaces
    start_helpers(directory, known)
    started: HelperState | None = read_state(directory)
    if started is None:
        raise RootlessError(f"the helper processes left no state in {directory}")
    return RootlessSession(directory), started.inside
