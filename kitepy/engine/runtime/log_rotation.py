"""The older files of a log: shifted when the live one is full, and compressed bit by bit; writing is left to ``logfile``.

A monitor has one thread and may not fork for this (its children would be born inside the container), so it compresses a piece
at a time whenever it has nothing else to do. A crash leaves a rotated file uncompressed: readers take either.

Each rotated file gets a modification time of its own, which the compressed one inherits: so a reader that had the one open can
tell what became of it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

COMPRESSED = ".gz"
_PIECE = 128 * 1024
_QUICK = 2 * 1024 * 1024


class RotatedFiles:
    """``path.1`` is the youngest; there are ``max_files`` with the live one, which is ``path`` itself."""

    def __init__(self, path: str, max_files: int, *, compress: bool) -> None:
        self._path = path
        self._max_files = max_files
        self._compress = compress
        self._stamp_ns = 0
        self._work: Iterator[None] | None = None
        if compress and os.path.exists(f"{path}.1"):  # the monitor before didn't get that far
            self._work = _compressed(f"{path}.1")

    @property
    def compressing(self) -> bool:
        """Whether a file is being compressed."""
        return self._work is not None

    def shift(self, live_fd: int) -> None:
        """Make the live file the youngest of the rotated ones; the oldest goes. Raises OSError."""
        while self._work is not None:
            self.compress_some()
        self._stamp_ns = max(time.time_ns(), self._stamp_ns + 1)
        os.utime(live_fd, ns=(self._stamp_ns, self._stamp_ns))
        last = self._max_files - 1
        for suffix in ("", COMPRESSED):
            _remove(f"{self._path}.{last}{suffix}")
        for number in range(last, 1, -1):
            for suffix in ("", COMPRESSED):
                try:
                    os.rename(f"{self._path}.{number - 1}{suffix}", f"{self._path}.{number}{suffix}")
                except FileNotFoundError:
                    continue
        os.rename(self._path, f"{self._path}.1")
        if self._compress:
            self._work = _compressed(f"{self._path}.1")

    def compress_some(self) -> None:
        """Go on with compressing; a file that can't be compressed stays as it is."""
        if self._work is None:
            return
        try:
            next(self._work)
        except (StopIteration, OSError):
            self._work = None

    def leave_off(self) -> None:
        """Finish what is quickly done; leave the rest to the container's next monitor, which may come at once."""
        try:
            quick = self._work is not None and os.stat(f"{self._path}.1").st_size <= _QUICK
        except OSError:
            quick = False
        while quick and self._work is not None:
            self.compress_some()
        self._work = None


def _compressed(path: str) -> Iterator[None]:
    """Compress a file in pieces; the new one replaces it when it is complete."""
    from zlib import compressobj

    temporary = f"{path}{COMPRESSED}.new"
    source = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    target = -1
    try:
        target = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
        packer = compressobj(6, wbits=31)
        while piece := os.read(source, _PIECE):
            _write(target, packer.compress(piece))
            yield
        _write(target, packer.flush())
        times = os.fstat(source)
        os.utime(target, ns=(times.st_atime_ns, times.st_mtime_ns))
        os.rename(temporary, path + COMPRESSED)
        os.unlink(path)
    except BaseException:
        _remove(temporary)
        raise
    finally:
        os.close(source)
        if target >= 0:
            os.close(target)


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
