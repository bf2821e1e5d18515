"""Waiting for changes of files: a thin wrapper of inotify(7), which the standard library lacks."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

IN_MODIFY = 0x002
IN_MOVED_FROM = 0x040
IN_MOVED_TO = 0x080
IN_CREATE = 0x100

_libc = ctypes.CDLL(None, use_errno=True)
_BUFFER_BYTES = 64 * 1024


def open_inotify() -> int:
    """A non-blocking inotify descriptor; inotify_init1(2)."""
    descriptor: int = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if descriptor < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"inotify_init1: {os.strerror(code)}")
    return descriptor


def watch(descriptor: int, path: Path, mask: int) -> None:
    """Add a watch; inotify_add_watch(2)."""
    if _libc.inotify_add_watch(descriptor, os.fsencode(path), ctypes.c_uint32(mask)) < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"inotify_add_watch: {os.strerror(code)}", str(path))


def drain(descriptor: int) -> None:
    """Throw the pending events away: callers only need to know that something happened."""
    while True:
        try:
            os.read(descriptor, _BUFFER_BYTES)
        except BlockingIOError:
            return
