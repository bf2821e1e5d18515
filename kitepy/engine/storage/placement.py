"""Advice to ext4 on where to put layers: each into a region of the disk of its own.

ext4 puts a directory near its parent, and for some minutes it doesn't reuse inodes that were freed. Loading an image soon after
another one was removed then takes two to three times as long, nearly all of it processor time in the kernel (loads with and
without the attribute in turn, ext4 on Linux 6.18). The cause is probably the search past those inodes. The attribute "top
of directory hierarchies" (chattr(1), T) spreads the subdirectories instead.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
from pathlib import Path

# linux/fs.h; the argument is an int, whatever the size in the number says.
_FS_IOC_GETFLAGS = 0x80086601
_FS_IOC_SETFLAGS = 0x40086602
_FS_TOPDIR_FL = 0x00020000


def spread_subdirectories(directory: Path) -> None:
    """Set the attribute; does nothing on file systems that don't know it, and where we may not."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):
            (flags,) = struct.unpack("i", fcntl.ioctl(fd, _FS_IOC_GETFLAGS, bytes(4)))
            if not flags & _FS_TOPDIR_FL:
                fcntl.ioctl(fd, _FS_IOC_SETFLAGS, struct.pack("i", flags | _FS_TOPDIR_FL))
    finally:
        os.close(fd)
