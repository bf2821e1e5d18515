"""How many bytes the files below a directory have, as Docker counts the sizes of containers and volumes.

Containers change these directories while they are read: none may send the reader elsewhere by a symbolic link in the place of a
directory.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from kitepy.engine.kernel.syscalls import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2

_CHANGED = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EXDEV, errno.ENAMETOOLONG, errno.EACCES)
"""What happened to a directory since its parent was read, or it lies deeper than a path can say, or isn't ours to read."""


def directory_size(directory: Path) -> int:
    """The sum of the files' lengths; hard links count once, directories not at all. What vanishes meanwhile isn't counted."""
    try:
        root_fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return 0
    try:
        return _size_below(root_fd)
    finally:
        os.close(root_fd)


def _size_below(root_fd: int) -> int:
    total = 0
    seen: set[tuple[int, int]] = set()
    pending = ["."]
    while pending:
        place = pending.pop()
        try:
            fd = openat2(root_fd, place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)
        except OSError as error:
            if error.errno in _CHANGED:
                continue
            raise
        try:
            with os.scandir(fd) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(f"{place}/{entry.name}")
                    else:
                        total += _length(entry, seen)
        finally:
            os.close(fd)
    return total


def _length(entry: os.DirEntry[str], seen: set[tuple[int, int]]) -> int:
    try:
        status = entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return 0
    if status.st_nlink > 1:
        identity = (status.st_dev, status.st_ino)
        if identity in seen:
            return 0
        seen.add(identity)
    return status.st_size
