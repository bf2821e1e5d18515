"""What a worker does to itself before it touches foreign content: private mounts, a root directory it can't leave, a short life.

Linux calls without a wrapper in Python 3.11's ``os``; each raises ``OSError``.
"""

from __future__ import annotations

import ctypes
import os
import signal

_CLONE_NEWNS = 0x00020000
_MS_NOSUID = 2
_MS_NODEV = 4
_MS_BIND = 0x1000
_MS_REC = 0x4000
_MS_SLAVE = 1 << 19
_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, call: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")


def enter_private_mounts() -> None:
    """Get a mount namespace of one's own (unshare(2)).

    It stays a slave of the host's, so that what is unmounted outside is not kept busy from in here.
    """
    _check(_libc.unshare(_CLONE_NEWNS), "unshare")
    _check(_libc.mount(b"none", b"/", None, ctypes.c_ulong(_MS_REC | _MS_SLAVE), None), "mount")


def mount_tmpfs(target: str) -> None:
    """A small file system in memory, for mount points (mount(2))."""
    flags = _MS_NOSUID | _MS_NODEV
    _check(_libc.mount(b"tmpfs", os.fsencode(target), b"tmpfs", ctypes.c_ulong(flags), b"size=1m,mode=700"), "mount tmpfs")


def bind_mount(source: str, target: str) -> None:
    """Show a directory at another place (mount(2))."""
    _check(_libc.mount(os.fsencode(source), os.fsencode(target), None, ctypes.c_ulong(_MS_BIND), None), "bind mount")


def mount_overlay(target: str, options: str) -> None:
    """Mount an overlay; paths in the options may be relative to the working directory (mount(2))."""
    _check(_libc.mount(b"overlay", os.fsencode(target), b"overlay", ctypes.c_ulong(0), os.fsencode(options)), "mount overlay")


def chroot_into(directory: str | bytes | int) -> None:
    """Make a directory (path or descriptor) the root and the working directory; nothing outside has a name after that."""
    os.chdir(directory)
    os.chroot(".")
    os.chdir("/")


def die_with_parent(parent_pid: int) -> None:
    """Be killed when the parent ends (prctl(2) PR_SET_PDEATHSIG), also when it ended just before."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")
    if os.getppid() != parent_pid:
        os._exit(1)


def forbid_new_privileges() -> None:
    """No exec of ours may gain anything (prctl(2) PR_SET_NO_NEW_PRIVS)."""
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")


def sync_file_system(path: str | os.PathLike[str]) -> None:
    """Wait until everything written to the path's file system is on disk (syncfs(2)); releases the interpreter lock."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(_libc.syncfs(fd), "syncfs")
    finally:
        os.close(fd)
