"""Control groups for an ordinary user's engine: a subtree of the unified hierarchy that is the user's to rule.

Who owns it decides what outlives what. Containers must survive an engine that is killed, and a stop of the unit that runs it, so
the subtree is never that unit's own: the user's systemd manager makes a *scope* with ``Delegate=yes``, one for each exec root,
which lives for as long as a process is in it:

    …/app.slice/kitepy-<key>.scope/     delegated to the user
        helpers/                        launcher, monitors, the processes that hold the namespaces
        kitepy/<container id>/          the containers

The manager is asked through busctl(1), which is part of systemd, so that no D-Bus library is loaded in the small process from
which all containers are forked. Without such a manager the group that the engine was started in does, if an administrator gave it
to the user. ``obtain`` is called by a single-threaded process of the user before it enters a namespace; see cgroups(7),
"Delegation", and systemd's CGROUP_DELEGATION.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kitepy.engine.kernel.cgroups import HELPERS, own_group, write_value
from kitepy.engine.kernel.cgroups_v2 import find_unified

_WANTED = ("memory", "pids", "cpu", "cpuset", "io", "hugetlb")
_MOVE_TIMEOUT_S = 10.0
_CALL_TIMEOUT_S = 10.0
_MANAGER = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager")
_NO_LIMIT = str(2**64 - 1)


@dataclass(frozen=True)
class Delegation:
    """What was found; ``base`` is a directory below /sys/fs/cgroup, empty when there is none and ``reason`` tells why."""

    base: str
    reason: str = ""
    former: str = ""
    """The group that the process was in before, to which it can go back; empty when it can't, or never left it."""
    missing: tuple[str, ...] = ()
    """Controllers that are not delegated: limits that need them are refused."""


class _NotDelegatedError(Exception):
    pass


def obtain(exec_root: Path, environ: Mapping[str, str]) -> Delegation:
    """Find or obtain a delegated subtree and move the calling process into its ``helpers`` group; never raises.

    Children that are forked before ``go_back`` belong to the subtree, so they outlive the unit the engine runs in.
    """
    mount_point = find_unified(Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape"))
    if mount_point is None or not os.path.exists(f"{mount_point}/cgroup.controllers") or mount_point != "/sys/fs/cgroup":
        return Delegation("", "this machine has control groups version 1, which an ordinary user can't be given safely")
    own = mount_point + own_group()
    problems = []
    for attempt in (_scope_of_manager, _own_group):
        try:
            base = attempt(mount_point, own, exec_root, environ)
            missing = _prepare(base)
        except (_NotDelegatedError, OSError, subprocess.SubprocessError) as error:
            problems.append(str(error))
            continue
        return Delegation(base, former=own if own != base and _may_move(own, base) else "", missing=missing)
    return Delegation("", "; ".join(problems))


def go_back(delegation: Delegation) -> None:
    """Move the calling process to where it was, if that was a group of the user's: systemd looks there for a unit's processes."""
    if delegation.former:
        write_value(f"{delegation.former}/cgroup.procs", "0")


def scope_name(exec_root: Path) -> str:
    """One scope for each exec root: the engines of one user don't share their containers."""
    return f"kitepy-{hashlib.sha256(os.path.realpath(exec_root).encode()).hexdigest()[:12]}.scope"


def _scope_of_manager(mount_point: str, own: str, exec_root: Path, environ: Mapping[str, str]) -> str:
    del own
    busctl = shutil.which("busctl", path=f"{environ.get('PATH', '')}:/usr/bin:/bin")
    runtime = environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    if busctl is None:
        raise _NotDelegatedError("there is no systemd")
    if not os.path.exists(f"{runtime}/systemd/private"):
        raise _NotDelegatedError("no systemd manager of this user runs (loginctl enable-linger starts one without a login)")
    if not environ.get("DBUS_SESSION_BUS_ADDRESS") and not os.path.exists(f"{runtime}/bus"):
        raise _NotDelegatedError("this user has no message bus to reach systemd by: sudo apt install dbus-user-session")
    name = scope_name(exec_root)
    call = [busctl, "--user", "--quiet", "call", *_MANAGER]
    environment = {**environ, "XDG_RUNTIME_DIR": runtime}
    properties = [
        *("Description", "s", "Containers of Kitepy"),
        *("Delegate", "b", "true"),
        *("PIDs", "au", "1", str(os.getpid())),
        *("TasksMax", "t", _NO_LIMIT),
        *("CollectMode", "s", "inactive-or-failed"),
    ]
    made = _call([*call, "StartTransientUnit", "ssa(sv)a(sa(sv))", name, "fail", "5", *properties, "0"], environment)
    if made:
        if name not in made:
            raise _NotDelegatedError(f"systemd refused a scope: {made}")
        # The scope of a former engine, kept by its containers or helpers. Its root may hold no process any more.
        attached = _call([*call, "AttachProcessesToUnit", "ssau", name, f"/{HELPERS}", "1", str(os.getpid())], environment)
        if attached:
            raise _NotDelegatedError(f"systemd can't move the engine into {name}: {attached}")
    deadline = time.monotonic() + _MOVE_TIMEOUT_S
    while f"/{name}" not in (group := own_group()):
        if time.monotonic() > deadline:
            raise _NotDelegatedError(f"systemd did not move the engine into {name} within {_MOVE_TIMEOUT_S:g} s")
        time.sleep(0.002)  # the manager works on it, on its own time
    return mount_point + group[: group.index(f"/{name}") + len(name) + 1]


def _call(command: list[str], environment: Mapping[str, str]) -> str:
    """What the manager complained of, empty when it did as asked."""
    done = subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=_CALL_TIMEOUT_S,
        check=False,
    )
    return (done.stderr.strip() or f"exit code {done.returncode}") if done.returncode else ""


def _own_group(mount_point: str, own: str, exec_root: Path, environ: Mapping[str, str]) -> str:
    del exec_root, environ
    base = own.removesuffix(f"/{HELPERS}")
    if base == mount_point:
        raise _NotDelegatedError("the engine was started in the root of the hierarchy")
    for name in ("", "/cgroup.procs", "/cgroup.subtree_control"):
        if not os.access(base + name, os.W_OK):
            raise _NotDelegatedError(f"the group the engine was started in is not this user's ({base})")
    return base


def _prepare(base: str) -> tuple[str, ...]:
    """Leave the base's own level to groups alone and switch its controllers on; gives those that it lacks."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(f"{base}/{HELPERS}", 0o755)
    write_value(f"{base}/{HELPERS}/cgroup.procs", "0")
    available = Path(f"{base}/cgroup.controllers").read_text(encoding="ascii").split()
    wanted = [name for name in _WANTED if name in available]
    enabled = Path(f"{base}/cgroup.subtree_control").read_text(encoding="ascii").split()
    for name in wanted:
        if name in enabled:
            continue
        try:
            write_value(f"{base}/cgroup.subtree_control", f"+{name}")
        except OSError as error:
            others = Path(f"{base}/cgroup.procs").read_text(encoding="ascii").split()
            if others:
                raise _NotDelegatedError(
                    f"the delegated group {base} holds other processes ({', '.join(others[:5])}): no limits can be set below it"
                ) from error
            raise
    if "memory" not in wanted and "pids" not in wanted:
        raise _NotDelegatedError(f"neither memory nor pids is delegated to {base}")
    return tuple(name for name in _WANTED if name not in wanted)


def _may_move(source: str, target: str) -> bool:
    """Whether processes may be moved between two groups: the one that holds both must be the user's (cgroups(7))."""
    return os.access(f"{os.path.commonpath([source, target])}/cgroup.procs", os.W_OK) and os.access(
        f"{source}/cgroup.procs", os.W_OK
    )
