"""Pseudo-terminals of a container's own devpts: made, sized and taken as controlling terminal."""

from __future__ import annotations

import fcntl
import os
import struct

_TIOCSCTTY = 0x540E
_TIOCSWINSZ = 0x5414
_TIOCGPTN = 0x80045430
_TIOCSPTLCK = 0x40045431
_TIOCGPTPEER = 0x5441


def open_pair(multiplexer_fd: int) -> tuple[int, int]:
    """Unlock the pseudo-terminal behind an opened ``ptmx``; returns (the slave's descriptor, its number in that devpts).

    TIOCGPTPEER opens the slave through the master: a symlink planted at ``/dev/pts/N`` can't lead elsewhere.
    """
    fcntl.ioctl(multiplexer_fd, _TIOCSPTLCK, struct.pack("i", 0))
    number = struct.unpack("i", fcntl.ioctl(multiplexer_fd, _TIOCGPTN, struct.pack("i", 0)))[0]
    slave_fd = fcntl.ioctl(multiplexer_fd, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    return slave_fd, number


def set_size(fd: int, rows: int, columns: int) -> None:
    """Tell the terminal its size in characters; its foreground processes get SIGWINCH."""
    fcntl.ioctl(fd, _TIOCSWINSZ, struct.pack("HHHH", rows & 0xFFFF, columns & 0xFFFF, 0, 0))


def take_as_controlling(fd: int) -> None:
    """Make the terminal the controlling one of the caller's (new) session."""
    fcntl.ioctl(fd, _TIOCSCTTY, 0)
