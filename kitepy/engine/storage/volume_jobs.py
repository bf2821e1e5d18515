"""The worker jobs that look into volumes. The files there are hostile, the path is the client's.

The volume becomes the job's root before anything in it is touched by name, so links lead nowhere else.
"""

from __future__ import annotations

import errno
import heapq
import os
import posixpath
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from kitepy.engine.model.errors import InvalidParameter, NotFound
from kitepy.engine.model.timestamps import format_time
from kitepy.engine.storage import confinement
from kitepy.engine.storage.archive_out import pack_directory, pack_file
from kitepy.engine.storage.path_stat import clean
from kitepy.engine.storage.zygote import JobContext

MAX_ENTRIES = 10_000
_FIRST_NS, _LAST_NS = -62_135_596_800 * 10**9, 253_402_300_799 * 10**9
_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "character",
    stat.S_IFBLK: "block",
}


def list_files(context: JobContext, params: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG001 - a job's signature
    """params: ``volume`` (its directory), ``name``, ``path``. Gives ``Path``, ``Entries`` and ``Truncated``."""
    path = clean(params["path"])
    _enter(params["volume"])
    with _explained(params):
        os.chdir(path)  # from here on it is this directory, whatever its name comes to stand for
    with os.scandir(".") as entries:
        first = heapq.nsmallest(MAX_ENTRIES + 1, entries, key=lambda entry: (not entry.is_dir(follow_symlinks=False), entry.name))
        described = [entry for found in first[:MAX_ENTRIES] if (entry := describe_entry(found.name)) is not None]
    return {"Path": path, "Entries": described, "Truncated": len(first) > MAX_ENTRIES}


def pack_files(context: JobContext, params: dict[str, Any]) -> dict[str, Any]:
    """Write a file or directory to the pipe as a tar. params: as for ``list_files``."""
    path = clean(params["path"])
    _enter(params["volume"])
    pipe_fd = context.fds[0]

    def write(data: bytes | memoryview) -> int:
        return os.write(pipe_fd, data)

    with _explained(params), suppress(BrokenPipeError):
        if stat.S_ISDIR(os.lstat(path).st_mode):
            os.chdir(path)
            prefix = os.fsencode(posixpath.basename(path) or ".") + b"/"
            pack_directory(write, b".", prefix=prefix, include_root=True, overlay=False, digest=False, pipe_fd=pipe_fd, live=True)
        else:
            directory, name = posixpath.split(path)
            pack_file(write, os.fsencode(directory), os.fsencode(name), pipe_fd=pipe_fd)
    return {}


def _enter(directory: str) -> None:
    confinement.chroot_into(directory)


def describe_entry(name: str, directory_fd: int | None = None) -> dict[str, Any] | None:
    """One entry of a listing, by its name in the working directory or another; None when it isn't there any more."""
    try:
        found = os.lstat(name, dir_fd=directory_fd)
        target = os.readlink(name, dir_fd=directory_fd) if stat.S_ISLNK(found.st_mode) else None
    except OSError:
        return None  # it was removed or replaced meanwhile
    described = {
        "Name": _text(name),
        "Type": _KINDS.get(stat.S_IFMT(found.st_mode), "file"),
        "Mode": stat.S_IMODE(found.st_mode),
        "Uid": found.st_uid,
        "Gid": found.st_gid,
        "Size": found.st_size,
        "ModifiedAt": format_time(min(max(found.st_mtime_ns, _FIRST_NS), _LAST_NS)),
    }
    return described if target is None else {**described, "LinkTarget": _text(target)}


def _text(name: str) -> str:
    """JSON has no place for names that aren't UTF-8: what can't be read is shown as such."""
    return os.fsencode(name).decode(errors="replace")


@contextmanager
def _explained(params: dict[str, Any]) -> Iterator[None]:
    path, name = params["path"], params["name"]
    try:
        yield
    except FileNotFoundError:
        raise NotFound(f"Could not find the file {path} in volume {name}") from None
    except OSError as error:
        if error.errno in (errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL):
            raise InvalidParameter(f"{path} in volume {name}: {os.strerror(error.errno).lower()}") from None
        raise
    except ValueError:
        raise InvalidParameter(f"{path!r} in volume {name}: invalid argument") from None
