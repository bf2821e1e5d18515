"""What a worker does to itself before it touches foreign content: private mounts, a root directory it can't leave, a short life.

The system calls are ``kernel``'s; only syncfs(2), which may take seconds, is bound here so that other threads go on meanwhile.
"""

from __future__ import annotations

import ctypes
import os
import signal

from kitepy.engine.kernel import mounts, namespaces
from kitepy.engine.kernel.mounts import mount_overlay as mount_overlay
from kitepy.engine.kernel.syscalls import libc_call, prctl

_MS_NOSUID = 2
_MS_NODEV = 4
_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38

# Unlike the kernel package's binding this one releases the interpreter lock.
_libc = ctypes.CDLL(None, use_errno=True)


def enter_private_mounts() -> None:
    """Get a mount namespace of one's own.

    It stays a slave of the host's, so that what is unmounted outside is not kept busy from in here.
    """
    namespaces.unshare(namespaces.CLONE_NEWNS)
    mounts.set_propagation("/", mounts.MS_REC | mounts.MS_SLAVE)


def mount_tmpfs(target: str) -> None:
    """A small file system in memory, for mount points."""
    flags = ctypes.c_ulong(_MS_NOSUID | _MS_NODEV)
    libc_call("mount", f"tmpfs {target}", b"tmpfs", os.fsencode(target), b"tmpfs", flags, b"size=1m,mode=700")


def bind_mount(source: str, target: str) -> None:
    """Show a directory at another place."""
    flags = ctypes.c_ulong(mounts.MS_BIND)
    libc_call("mount", f"{source} {target}", os.fsencode(source), os.fsencode(target), None, flags, None)


def chroot_into(directory: str | bytes | int) -> None:
    """Make a directory (path or descriptor) the root and the working directory; nothing outside has a name after that."""
    os.chdir(directory)
    os.chroot(".")
    os.chdir("/")


def die_with_parent(parent_pid: int) -> None:
    """Be killed when the parent ends, also when it ended just before."""
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, name="PR_SET_PDEATHSIG")
    if os.getppid() != parent_pid:
        os._exit(1)


def forbid_new_privileges() -> None:
    """No exec of ours may gain anything."""
    prctl(_PR_SET_NO_NEW_PRIVS, 1, name="PR_SET_NO_NEW_PRIVS")


def sync_file_system(path: str | os.PathLike[str]) -> None:
    """Wait until everything written to the path's file system is on disk (syncfs(2))."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.syncfs(fd) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), os.fspath(path))
    finally:
        os.close(fd)
