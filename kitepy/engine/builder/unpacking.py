"""The worker job that makes a build's context from what the client sent: unpacked, without what ``.dockerignore`` names."""

from __future__ import annotations

import os
import shutil
import stat
from typing import Any

from kitepy.engine.builder.copying import is_archive
from kitepy.engine.builder.parser import MAX_SIZE_BYTES
from kitepy.engine.builder.patterns import IgnoreRules, clean, read_ignore_file
from kitepy.engine.kernel.id_limits import own_id_limits
from kitepy.engine.model.errors import InvalidParameter
from kitepy.engine.storage import confinement, extract
from kitepy.engine.storage.compression import open_stream
from kitepy.engine.storage.zygote import JobContext

_BLOCK = 512


def unpack_context(context: JobContext, params: dict[str, Any]) -> dict[str, Any]:
    """fds: the body, seekable. params: ``root`` (an empty directory), ``dockerfile`` (its path in the context).

    Result: ``dockerfile`` (its text, or None when there is none), ``name`` (how it is really called), ``ignored`` (number
    of files and directories left out). A body that is no archive is taken for a Dockerfile without a context.
    """
    spool_fd = context.fds[0]
    ids = own_id_limits()
    confinement.chroot_into(params["root"])
    name = clean("/" + params["dockerfile"]).lstrip("/")
    if not _is_context(spool_fd):
        return {"dockerfile": _decode(_read_plain(spool_fd)), "name": name, "ignored": 0}
    extract.extract(lambda size: os.read(spool_fd, size), extract.ExtractOptions(whiteouts=False, owner=(0, 0), ids=ids))
    text = _read(name)
    if text is None and name == "Dockerfile":
        text = _read("dockerfile")
    patterns = _read(f"{name}.dockerignore")
    if patterns is None:
        patterns = _read(".dockerignore")
    try:
        rules = IgnoreRules(read_ignore_file(patterns or ""))
    except ValueError as problem:
        raise InvalidParameter(f"error in .dockerignore: {problem}") from None
    return {"dockerfile": text, "name": name, "ignored": _prune("", rules)}


def _is_context(fd: int) -> bool:
    if is_archive(fd):
        return True
    # An archive without entries is a context too.
    _, read = open_stream(lambda size: os.read(fd, size))
    head = read(_BLOCK)
    os.lseek(fd, 0, os.SEEK_SET)
    return head == bytes(_BLOCK)


def _read_plain(fd: int) -> bytes:
    _, read = open_stream(lambda size: os.read(fd, size))
    content = b""
    while piece := read(1 << 20):
        content += piece
        if len(content) > MAX_SIZE_BYTES or b"\0" in piece:
            raise InvalidParameter("the build context is neither a tar archive nor a Dockerfile")
    return content


def _read(path: str) -> str | None:
    """A text of the context; links are followed, and lead nowhere but into the context."""
    try:
        status = os.stat(f"/{path}")
        if not stat.S_ISREG(status.st_mode):
            return None  # opening a device or a pipe would do more than read
        if status.st_size > MAX_SIZE_BYTES:
            raise InvalidParameter(f"{path} in the build context is larger than {MAX_SIZE_BYTES >> 20} MiB")
        with open(f"/{path}", "rb") as stream:
            return _decode(stream.read(MAX_SIZE_BYTES))
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return None


def _decode(content: bytes) -> str:
    # What is not UTF-8 could not be told in JSON, which is where all of it ends up.
    return content.decode("utf-8", "replace")


def _prune(directory: str, rules: IgnoreRules) -> int:
    """Remove what is ignored, and nodes that no build should get; gives their number."""
    removed = 0
    with os.scandir(f"/{directory}") as entries:
        found = [(entry.name, entry.stat(follow_symlinks=False).st_mode) for entry in entries]
    for name, mode in found:
        path = f"{directory}/{name}" if directory else name
        ignored = bool(rules) and rules.ignores(path)
        if not stat.S_ISDIR(mode):
            if ignored or not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
                os.unlink(f"/{path}")
                removed += 1
            continue
        if ignored and not rules.has_exceptions:
            shutil.rmtree(f"/{path}")
            removed += 1
            continue
        removed += _prune(path, rules)
        if ignored and not os.listdir(f"/{path}"):
            os.rmdir(f"/{path}")
            removed += 1
    return removed
