"""Archives for tests: written from short descriptions, read into comparable values."""

from __future__ import annotations

import io
import tarfile
from typing import Any


def entry(name: str, data: bytes | None = None, **fields: Any) -> tuple[tarfile.TarInfo, bytes | None]:
    """One member; ``fields`` are TarInfo's. Without data and type it is a directory."""
    member = tarfile.TarInfo(name)
    member.mode = 0o644 if data is not None else 0o755
    if data is None:
        member.type = tarfile.DIRTYPE
    else:
        member.size = len(data)
    for key, value in fields.items():
        setattr(member, key, value)
    return member, data


def link(name: str, target: str, *, hard: bool = False) -> tuple[tarfile.TarInfo, bytes | None]:
    """A symbolic or hard link."""
    return entry(name, type=tarfile.LNKTYPE if hard else tarfile.SYMTYPE, linkname=target)


def tarball(*entries: tuple[tarfile.TarInfo, bytes | None]) -> bytes:
    """An archive of these members, with pax headers where needed."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for member, data in entries:
            archive.addfile(member, None if data is None else io.BytesIO(data))
    return buffer.getvalue()


def members(data: bytes) -> dict[str, tarfile.TarInfo]:
    """The members by name as stored, but for the slash after a directory's."""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {member.name: member for member in archive}


def content(data: bytes, name: str) -> bytes:
    """What a file in an archive holds."""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        file = archive.extractfile(name)
        assert file is not None, f"{name} is no file"
        return file.read()
