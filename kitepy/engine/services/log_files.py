"""The files of one log, plain or compressed, opened in the order of writing; what is in them is left to ``log_reader``.

The live file comes last; ``.1`` is its youngest predecessor. Monitors rename and compress them while they are read
(``runtime/log_rotation.py``): who holds one open keeps reading it, and finds it again in the directory by its inode or,
when it has been compressed meanwhile, by its modification time.
"""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import BinaryIO

COMPRESSED = ".gz"
_MISSING_AT_END = 3
_TAIL_BLOCK_BYTES = 64 * 1024


class LogFile:
    """One open file of a log; reading goes on from where it stands."""

    def __init__(self, raw: BinaryIO, *, compressed: bool) -> None:
        self._raw = raw
        self.compressed = compressed
        self._content: BinaryIO = gzip.GzipFile(fileobj=raw, mode="rb") if compressed else raw  # type: ignore[assignment]  # by shape

    def read(self, size: int) -> bytes:
        """What comes next; empty at the present end, and where a compressed file is damaged."""
        try:
            return self._content.read(size)
        except (EOFError, gzip.BadGzipFile):
            return b""

    def tell(self) -> int:
        """How far reading has come."""
        return self._content.tell()

    def continues(self, last: bytes) -> bool:
        """Whether the file still holds what was read of it last: a log of one file is emptied at its bound and starts over."""
        if self.compressed:
            return True
        position = self._raw.tell()
        last = last[-position:] if position else b""
        return os.pread(self._raw.fileno(), len(last), position - len(last)) == last

    def start_over(self) -> None:
        """Read from the beginning."""
        self._content.seek(0)

    def skip_to_end(self) -> None:
        """Read nothing of what is there now."""
        if self.compressed:
            while self.read(_TAIL_BLOCK_BYTES):
                pass
        else:
            self._raw.seek(0, os.SEEK_END)

    def skip_to_tail(self, count: int) -> int:
        """Stand where the last ``count`` lines begin; gives how many there are."""
        if self.compressed:
            return self._skip_lines(count)
        offset, found = tail_offset(self._raw, count)
        self._raw.seek(offset)
        return found

    def _skip_lines(self, count: int) -> int:
        total = 0
        while block := self.read(_TAIL_BLOCK_BYTES):
            total += block.count(b"\n")
        self.start_over()
        for _ in range(total - count):
            self._content.readline()
        return min(total, count)

    @property
    def inode(self) -> int:
        """Of the file that the monitor writes or wrote; of no meaning when it is compressed."""
        return os.fstat(self._raw.fileno()).st_ino

    def is_same(self, other: LogFile) -> bool:
        """Whether both hold the same part of the log."""
        mine, its = os.fstat(self._raw.fileno()), os.fstat(other._raw.fileno())
        if self.compressed == other.compressed:
            return (mine.st_dev, mine.st_ino) == (its.st_dev, its.st_ino)
        return mine.st_mtime_ns == its.st_mtime_ns

    def close(self) -> None:
        self._raw.close()


def open_log(path: Path) -> list[LogFile]:
    """The log's files, opened, oldest first; the live one comes last.

    They are opened from the youngest on: a rotation meanwhile moves files towards the older names, so that one may be met
    twice but none is missed, save a live file that is younger than this call. A rotation renames the oldest first, so while
    it lasts one name in the middle is missing: only several missing ones in a row are the end.
    """
    opened: list[LogFile] = []
    number = missing = 0
    while missing < _MISSING_AT_END:
        found = _open_one(path if number == 0 else path.with_name(f"{path.name}.{number}"), may_be_compressed=number > 0)
        if found is None:
            missing += 1
        else:
            missing = 0
            twin = next((other for other in opened if other.is_same(found)), None)
            if twin is None:
                opened.append(found)
            else:
                # It was moved since it was met: what has been opened in between came from younger names, and is younger.
                found.close()
                opened.remove(twin)
                opened.append(twin)
        number += 1
    return opened[::-1]


def _open_one(path: Path, *, may_be_compressed: bool) -> LogFile | None:
    try:
        return LogFile(path.open("rb", buffering=0), compressed=False)
    except FileNotFoundError:
        if not may_be_compressed:
            return None
    try:
        return LogFile(path.with_name(path.name + COMPRESSED).open("rb", buffering=0), compressed=True)
    except FileNotFoundError:
        return None


def younger_files(path: Path, current: LogFile | None) -> list[LogFile]:
    """The files that came after the one being read, opened, oldest first; all of them when it is no longer there."""
    if current is not None:
        try:
            status = os.stat(path)
        except FileNotFoundError:
            return []
        if not current.compressed and status.st_ino == current.inode:
            return []
    opened = open_log(path)
    if current is None:
        return opened
    for position, found in enumerate(opened):
        if found.is_same(current):
            for older in opened[: position + 1]:
                older.close()
            return opened[position + 1 :]
    return opened


def tail_offset(stream: BinaryIO, count: int) -> tuple[int, int]:
    """Where the last ``count`` lines of a file begin, and how many there are."""
    stream.seek(0, os.SEEK_END)
    position = end = stream.tell()
    found = 0
    while position > 0:
        start = max(0, position - _TAIL_BLOCK_BYTES)
        stream.seek(start)
        block = stream.read(position - start)
        search_end = len(block)
        if position == end and block.endswith(b"\n"):
            search_end -= 1
        while (newline := block.rfind(b"\n", 0, search_end)) >= 0:
            found += 1
            if found == count:
                return start + newline + 1, count
            search_end = newline
        position = start
    return 0, found + (1 if end else 0)
