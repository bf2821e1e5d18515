"""Packs a build's context into a tar file, honouring .dockerignore; sending it is left to ``api.py``.

What is left out follows docker-py's pattern matcher, which follows Docker's rules. Everything here blocks.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from kitepy.client.errors import Cancelled, Invalid

_REPORT_EVERY_BYTES = 1_048_576
DEFAULT_DOCKERFILE = "Dockerfile"


@dataclass(frozen=True)
class PackedContext:
    """A tar file that is deleted when closed, and the Dockerfile's name inside it."""

    file: BinaryIO
    size_bytes: int
    dockerfile: str


def pack(directory: Path, dockerfile: str | None) -> PackedContext:
    """Pack a directory; a Dockerfile outside it travels along under a name of its own."""
    from docker.api.build import process_dockerfile  # here, because docker-py is slow to import
    from docker.utils.build import tar

    if not directory.is_dir():
        raise Invalid(f"{directory} is not a folder")
    try:
        name, content = process_dockerfile(dockerfile or DEFAULT_DOCKERFILE, str(directory))
    except OSError as error:
        raise Invalid(f"the Dockerfile can't be read: {error}") from error
    if content is None and not (directory / name).is_file():
        raise Invalid(f"there is no {name} in {directory}")
    archive = cast(BinaryIO, tempfile.TemporaryFile(prefix="kitepy-context-"))  # noqa: SIM115  # the caller closes it
    try:
        tar(str(directory), exclude=ignore_patterns(directory, name), dockerfile=(name, content), fileobj=archive)
        size_bytes = archive.seek(0, os.SEEK_END)
        archive.seek(0)
    except OSError as error:
        archive.close()
        raise Invalid(f"the folder can't be packed: {error}") from error
    return PackedContext(archive, size_bytes, name)


def ignore_patterns(directory: Path, dockerfile: str) -> list[str]:
    """The patterns of ``<Dockerfile>.dockerignore``, or else of ``.dockerignore``, without comments and empty lines."""
    for candidate in (directory / f"{dockerfile}.dockerignore", directory / ".dockerignore"):
        if candidate.is_file():
            lines = (line.strip() for line in candidate.read_text(encoding="utf-8-sig", errors="replace").splitlines())
            return [line for line in lines if line and not line.startswith("#")]
    return []


class UploadReader:
    """Reads a file for an HTTP body, tells how far it is, and stops when the upload is not wanted any more."""

    def __init__(self, context: PackedContext, report: Callable[[int, int], None], is_cancelled: Callable[[], bool]) -> None:
        self._context = context
        self._report = report
        self._is_cancelled = is_cancelled
        self._sent_bytes = 0
        self._reported_bytes = -_REPORT_EVERY_BYTES

    def __len__(self) -> int:
        """requests sends it as Content-Length."""
        return self._context.size_bytes

    def __iter__(self) -> UploadReader:
        return self

    def __next__(self) -> bytes:
        if block := self.read(65536):
            return block
        raise StopIteration

    def read(self, size: int = -1) -> bytes:
        """The next block; an empty one at the end."""
        if self._is_cancelled():
            raise Cancelled("the upload was cancelled")
        block = self._context.file.read(size)
        self._sent_bytes += len(block)
        is_end = self._sent_bytes == self._context.size_bytes
        if self._sent_bytes - self._reported_bytes >= _REPORT_EVERY_BYTES or (
            is_end and self._reported_bytes != self._sent_bytes
        ):
            self._reported_bytes = self._sent_bytes
            self._report(self._sent_bytes, self._context.size_bytes)
        return block
