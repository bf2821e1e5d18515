"""The jobs that storage gives to worker processes; each runs in a process of its own and gives up the host's root first.

Descriptors come in ``context.fds``: whatever has to be read or written outside of the new root was opened before.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import os
import shutil
from collections.abc import Callable
from typing import Any

from kitepy.engine.kernel.id_limits import own_id_limits
from kitepy.engine.model.errors import InvalidParameter
from kitepy.engine.model.launch import OverlayFlavour
from kitepy.engine.storage import tar
from kitepy.engine.storage.archive_out import TarWriter, pack_directory
from kitepy.engine.storage.compression import open_stream
from kitepy.engine.storage.confinement import chroot_into
from kitepy.engine.storage.extract import ExtractOptions, Limits, extract
from kitepy.engine.storage.growth import GrowingReader, counted
from kitepy.engine.storage.zygote import JobContext

_COPY_BYTES = 1 << 20
_REPORT_BYTES = 512 << 10
_MAX_MEMBERS = 200_000
_MAX_NAMES_BYTES = 32 << 20
"""Of all members together: the engine keeps them in memory."""


def unpack_layer(context: JobContext, params: dict[str, Any]) -> dict[str, Any]:
    """fds: the archive; if it still grows, the pipe that says so. params: ``root``, ``flavour``, optional ``limits``, ``digest``
    (of the archive as it is stored), ``report``.

    With ``report`` there is progress: ``{"consumed"}``, the bytes read of the archive as it is stored.
    """
    flavour = OverlayFlavour(params["flavour"])
    options = ExtractOptions(
        opaque_xattr=flavour.opaque_xattr,
        whiteout_files=flavour is OverlayFlavour.FUSE,
        limits=Limits(**params.get("limits", {})),
        ids=own_id_limits(),
        stored_digest=params.get("digest") or "",
    )
    chroot_into(params["root"])
    gc.disable()  # unpacking makes no cycles, and the tables of a large archive would be walked over and over
    read = GrowingReader(context.fds[0], context.fds[1]).read if len(context.fds) > 1 else _reader(context.fds[0])
    if params.get("report"):
        read = counted(read, lambda total: context.progress({"consumed": total}), _REPORT_BYTES)
    result = extract(read, options)
    return {
        "diff_id": result.diff_id,
        "compression": result.compression.value,
        "size_bytes": result.size_bytes,
        "entries": result.entries,
        "has_root": result.has_root,
        "warnings": list(result.warnings),
    }


def pack_layer(context: JobContext, params: dict[str, Any]) -> dict[str, Any]:
    """fds: the file to write. params: ``root``, ``include_root``, ``flavour``."""
    chroot_into(params["root"])
    flavour = OverlayFlavour(params["flavour"])
    packed = pack_directory(_writer(context.fds[0]), include_root=params["include_root"], flavour=flavour)
    return {"digest": packed.digest, "tar_bytes": packed.tar_bytes, "size_bytes": packed.size_bytes, "entries": packed.entries}


def remove_trees(context: JobContext, params: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG001 - a job's signature
    """params: ``base``, ``names``: directories below it; missing ones are fine."""
    chroot_into(params["base"], trusted_xattrs=False)
    for name in params["names"]:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(os.path.join("/", name))
    return {}


def spool_archive(context: JobContext, params: dict[str, Any]) -> dict[str, Any]:
    """Take an archive apart into numbered files, hashed, and report each as soon as it is complete.

    fds: the archive, an empty directory. The names inside are only reported, never used as paths.
    Progress: ``{"name", "kind": "file"|"link", "file", "size", "digest", "target"}``.
    """
    chroot_into(context.fds[1], trusted_xattrs=False)
    _, plain = open_stream(_reader(context.fds[0]))
    source = tar.ByteSource(plain, digest=False, limit=int(params["max_bytes"]))
    reader = tar.TarReader(source)
    names_bytes = 0
    for number, entry in enumerate(reader):
        names_bytes += len(entry.name) + len(entry.target)
        if number > _MAX_MEMBERS or names_bytes > _MAX_NAMES_BYTES:
            raise InvalidParameter("archive has too many members")
        member: dict[str, Any] = {"name": entry.name.decode("utf-8", "surrogateescape")}
        if entry.kind == tar.FILE and entry.extents is None:
            digest = _spool(reader, f"/{number}")
            context.progress({**member, "kind": "file", "file": str(number), "size": entry.size, "digest": digest})
        elif entry.kind in (tar.SYMLINK, tar.LINK):
            target = entry.target.decode("utf-8", "surrogateescape")
            context.progress({**member, "kind": "symlink" if entry.kind == tar.SYMLINK else "link", "target": target})
    source.drain()
    return {}


def spool_blob(context: JobContext, params: dict[str, Any]) -> dict[str, Any]:
    """Copy and hash a stream. fds: the stream, the file to write. params: ``max_bytes``."""
    read = _reader(context.fds[0])
    digest = hashlib.sha256()
    size = 0
    while piece := read(_COPY_BYTES):
        digest.update(piece)
        size += len(piece)
        if size > int(params["max_bytes"]):
            raise InvalidParameter("archive is too large")
        view = memoryview(piece)
        while view:
            view = view[os.write(context.fds[1], view) :]
    return {"digest": f"sha256:{digest.hexdigest()}", "size": size}


def write_archive(context: JobContext, params: dict[str, Any]) -> dict[str, Any]:
    """Write a tar of given members to a pipe. fds: the pipe. params: ``root`` (of blobs), ``members``.

    A member has ``name``, and ``text``, or ``blob`` (a file name below the root), or neither (a directory).
    """
    chroot_into(params["root"], trusted_xattrs=False)
    writer = TarWriter(_writer(context.fds[0]))
    for member in params["members"]:
        name = str(member["name"]).encode()
        if "text" in member:
            writer.file(name, str(member["text"]).encode("utf-8", "surrogateescape"))
        elif "blob" in member:
            fd = os.open(f"/{member['blob']}", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                size = os.fstat(fd).st_size
                writer.header(name, b"0", size=size)
                writer.content(fd, size)
            finally:
                os.close(fd)
        else:
            writer.header(name, b"5", mode=0o755)
    writer.close()
    return {}


def _spool(reader: tar.TarReader, path: str) -> str:
    digest = hashlib.sha256()
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        for piece in reader.data():
            digest.update(piece)
            view = piece
            while view:
                view = view[os.write(fd, view) :]
    finally:
        os.close(fd)
    return f"sha256:{digest.hexdigest()}"


def _reader(fd: int) -> Callable[[int], bytes]:
    return lambda size: os.read(fd, size)


def _writer(fd: int) -> Callable[[bytes | memoryview], int]:
    return lambda data: os.write(fd, data)
