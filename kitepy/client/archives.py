"""Files of this machine as the ends of a copy: written beside their name and put in place when they are complete."""

from __future__ import annotations

import contextlib
import os
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, cast

from kitepy.client.errors import Invalid

Report = Callable[[int, int], None]
"""Bytes done, and bytes in all or 0."""

_BLOCK_BYTES = 1 << 18
_COMPRESSION_LEVEL = 2


class FileWriter:
    """Writes a new file; without `commit` nothing of it stays. Errors of the disk are told as `Invalid`."""

    def __init__(self, target: Path, *, compress: bool = False) -> None:
        self._target = target
        self._compress = compress
        self.size_bytes = 0

    def __enter__(self) -> FileWriter:
        try:
            number, name = tempfile.mkstemp(prefix=f".{self._target.name[:100]}.", dir=self._target.parent)
        except OSError as error:
            raise self._refusal(error) from error
        self._partial = Path(name)
        self._file = cast(BinaryIO, os.fdopen(number, "wb"))
        self._sink = self._file
        if self._compress:
            from isal import igzip

            make: Any = igzip.IGzipFile  # isal has no types
            self._sink = make(fileobj=self._file, mode="wb", compresslevel=_COMPRESSION_LEVEL, mtime=0)
        return self

    def write(self, data: bytes) -> None:
        try:
            self._sink.write(data)
        except OSError as error:
            raise self._refusal(error) from error
        self.size_bytes += len(data)

    def commit(self) -> None:
        """Puts it in place, whole and on the disk."""
        try:
            if self._sink is not self._file:
                self._sink.close()
            self._file.flush()
            os.fsync(self._file.fileno())
            os.chmod(self._partial, 0o666 & ~_umask())
            os.replace(self._partial, self._target)
        except OSError as error:
            raise self._refusal(error) from error

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with contextlib.suppress(OSError):  # a full disk says so when it is written to; what stays behind is thrown away
            if self._sink is not self._file:
                self._sink.close()
        with contextlib.suppress(OSError):
            self._file.close()
        self._partial.unlink(missing_ok=True)

    def _refusal(self, error: OSError) -> Invalid:
        return Invalid(f"{self._target} can't be written: {error.strerror or error}")


class ArchiveReader:
    """A tar archive as the body of a request: says how far it is, and stops when its report says so by an error.

    With ``any_compression`` it may be one that only the engine can unpack; then the engine says what is wrong with it.
    """

    def __init__(self, source: Path, report: Report, *, any_compression: bool = False) -> None:
        self._source = source
        self._any_compression = any_compression
        self._report = report
        self._sent_bytes = 0

    def __enter__(self) -> ArchiveReader:
        try:
            if not self._any_compression:
                with tarfile.open(self._source) as archive:
                    archive.next()
            self._file = self._source.open("rb")
            self._size_bytes = os.fstat(self._file.fileno()).st_size
        except tarfile.TarError as error:
            raise Invalid(f"{self._source} is not a tar archive") from error
        except (OSError, EOFError) as error:
            raise Invalid(f"{self._source} can't be read: {getattr(error, 'strerror', None) or error}") from error
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()

    def __len__(self) -> int:
        """requests sends it as Content-Length."""
        return self._size_bytes

    def __iter__(self) -> ArchiveReader:
        return self

    def __next__(self) -> bytes:
        if block := self.read(_BLOCK_BYTES):
            return block
        raise StopIteration

    def read(self, size: int = -1) -> bytes:
        """The next block; an empty one at the end."""
        self._report(self._sent_bytes, self._size_bytes)
        try:
            # A file that grows meanwhile must not become longer than what the header has promised.
            block = self._file.read(min(size if size >= 0 else _BLOCK_BYTES, self._size_bytes - self._sent_bytes))
        except OSError as error:
            raise Invalid(f"{self._source} can't be read: {error.strerror or error}") from error
        self._sent_bytes += len(block)
        return block


def copy_member(archive: tarfile.TarFile, member: tarfile.TarInfo, writer: FileWriter, report: Report) -> None:
    """The content of one file of an archive."""
    content = archive.extractfile(member)
    while content is not None and (data := content.read(_BLOCK_BYTES)):
        writer.write(data)
        report(writer.size_bytes, member.size)
    if writer.size_bytes != member.size:
        raise Invalid(f"{member.name} ended early")


def _umask() -> int:
    """Of this process, read without changing it: other threads make files too (proc(5), since Linux 4.7)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("Umask:"):
            return int(line.split()[1], 8)
    return 0o077
