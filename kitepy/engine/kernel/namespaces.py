"""Making and joining namespaces, and creating processes in them; ``runtime/plan.py`` decides which ones a container gets."""

from __future__ import annotations

import ctypes
import fcntl
import os

from kitepy.engine.kernel.syscalls import NR_CLONE3, NR_PIDFD_OPEN, NR_PIDFD_SEND_SIGNAL, invoke, libc_call

CLONE_PIDFD = 0x00001000
CLONE_PARENT = 0x00008000
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
CLONE_INTO_CGROUP = 0x200000000

FLAG_BY_OCI_TYPE = {
    "mount": CLONE_NEWNS,
    "cgroup": CLONE_NEWCGROUP,
    "uts": CLONE_NEWUTS,
    "ipc": CLONE_NEWIPC,
    "pid": CLONE_NEWPID,
    "network": CLONE_NEWNET,
}

_SIGCHLD = 17
_NS_GET_USERNS = 0xB701


class _CloneArguments(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("pidfd", ctypes.c_uint64),
        ("child_tid", ctypes.c_uint64),
        ("parent_tid", ctypes.c_uint64),
        ("exit_signal", ctypes.c_uint64),
        ("stack", ctypes.c_uint64),
        ("stack_size", ctypes.c_uint64),
        ("tls", ctypes.c_uint64),
        ("set_tid", ctypes.c_uint64),
        ("set_tid_size", ctypes.c_uint64),
        ("cgroup", ctypes.c_uint64),
    )


def unshare(flags: int) -> None:
    """unshare(2). With CLONE_NEWPID only later children are in the new namespace."""
    libc_call("unshare", hex(flags), flags)


def setns(fd: int, flags: int) -> None:
    """setns(2): ``fd`` is a namespace file, or a pidfd of which all namespaces in ``flags`` are joined at once."""
    libc_call("setns", hex(flags), fd, flags)


def fork_with_pidfd(cgroup_fd: int | None = None, flags: int = 0) -> tuple[int, int]:
    """Fork by clone3(2); returns (pid, pidfd) in the parent and (0, -1) in the child.

    ``cgroup_fd`` (cgroup v2 only) makes the child start its life in that cgroup, ``flags`` are for new namespaces. Only for
    single-threaded callers whose child soon calls exec or ``os._exit``: the interpreter's fork hooks don't run.
    """
    pidfd = ctypes.c_int(-1)
    flags |= CLONE_PIDFD if cgroup_fd is None else CLONE_PIDFD | CLONE_INTO_CGROUP
    arguments = _CloneArguments(flags, ctypes.addressof(pidfd), 0, 0, _SIGCHLD, 0, 0, 0, 0, 0, cgroup_fd or 0)
    pid = invoke(NR_CLONE3, "clone3", None, ctypes.byref(arguments), ctypes.sizeof(arguments))
    return pid, (pidfd.value if pid else -1)


def fork_sibling(flags: int) -> tuple[int, int]:
    """Like ``fork_with_pidfd``, but the new process is a child of the caller's parent; ``flags`` are for new namespaces."""
    pidfd = ctypes.c_int(-1)
    # Such a child takes over its creator's signal and may not name one.
    arguments = _CloneArguments(CLONE_PARENT | CLONE_PIDFD | flags, ctypes.addressof(pidfd), 0, 0, 0, 0, 0, 0, 0, 0, 0)
    pid = invoke(NR_CLONE3, "clone3", None, ctypes.byref(arguments), ctypes.sizeof(arguments))
    return pid, (pidfd.value if pid else -1)


def owner_of(fd: int) -> int:
    """A descriptor of the user namespace that a namespace belongs to (ioctl_ns(2))."""
    return fcntl.ioctl(fd, _NS_GET_USERNS)


def is_own(fd: int, name: str) -> bool:
    """Whether a descriptor is of the namespace the caller is in; ``name`` as in ``/proc/self/ns``."""
    found, own = os.fstat(fd), os.stat(f"/proc/self/ns/{name}")
    return (found.st_dev, found.st_ino) == (own.st_dev, own.st_ino)


def pidfd_open(pid: int) -> int:
    """pidfd_open(2), close-on-exec."""
    return invoke(NR_PIDFD_OPEN, "pidfd_open", str(pid), pid, 0)


def pidfd_send_signal(pidfd: int, number: int) -> None:
    """pidfd_send_signal(2): reaches that process or, when it is gone, raises ESRCH; never a successor with the same number."""
    invoke(NR_PIDFD_SEND_SIGNAL, "pidfd_send_signal", str(number), pidfd, number, 0, 0)


def exit_code(wait_status: int) -> int:
    """The shell's view of a status from ``waitpid``: 0-255, or 128 + the signal's number."""
    if os.WIFSIGNALED(wait_status):
        return 128 + os.WTERMSIG(wait_status)
    return os.WEXITSTATUS(wait_status)
