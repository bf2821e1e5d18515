"""The worker jobs behind ``docker cp``, ``export`` and ``diff``. The container's files are hostile, the path is the client's.

In ``context.fds`` come the pipe (if the job has one) and then, for a running container, its mount namespace. ``params["tree"]``
is ``ContainerTree``'s. Each job ends its preparations with ``confine`` and touches the container's files by name only after that.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kitepy.engine.model.errors import EngineError, InvalidParameter, NotFound, SystemFailure
from kitepy.engine.model.launch import OverlayFlavour
from kitepy.engine.storage import confinement
from kitepy.engine.storage.archive_out import pack_directory, pack_file
from kitepy.engine.storage.container_changes import find_changes
from kitepy.engine.storage.container_tree import ContainerTree, mount_for_comparison
from kitepy.engine.storage.extract import ExtractOptions, extract
from kitepy.engine.storage.path_stat import base_name, clean, describe, is_directory, keep_ending
from kitepy.engine.storage.zygote import JobContext

_READ_BYTES = 1 << 16
_BAD_PATH = frozenset({errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL})


def stat_path(context: JobContext, params: dict[str, Any]) -> dict[str, Any]:
    """params: ``tree``, ``path``, ``container`` (for messages). Gives ContainerPathStat."""
    _enter(params, context.fds[0] if context.fds else None)
    with _explained(params):
        return {"stat": describe(params["path"])}


def pack_path(context: JobContext, params: dict[str, Any]) -> dict[str, Any]:
    """Write a path to the pipe as a tar; ``stat`` is reported before the first byte. params: as for ``stat_path``."""
    _enter(params, context.fds[1] if len(context.fds) > 1 else None)
    path = keep_ending(clean(params["path"]), params["path"])
    with _explained(params), _until_reader_leaves():
        found = describe(path)
        if is_directory(found):
            # From here on it is this directory, whatever its name comes to stand for.
            os.chdir(path)
        context.progress({"stat": found})
        if is_directory(found):
            prefix = os.fsencode(base_name(path).rstrip("/") + "/")
            pack_directory(
                _writer(context.fds[0]),
                b".",
                prefix=prefix,
                include_root=True,
                overlay=False,
                digest=False,
                pipe_fd=context.fds[0],
                live=True,
            )
        else:
            directory, name = posixpath.split(path)
            pack_file(_writer(context.fds[0]), os.fsencode(directory), os.fsencode(name), pipe_fd=context.fds[0])
    return {}


def unpack_into(context: JobContext, params: dict[str, Any]) -> dict[str, Any]:
    """Unpack a tar, compressed or not, from the pipe into a directory.

    params: ``tree``, ``path``, ``container``, ``read_only`` (whether the root file system is to be), ``keep_kinds``, ``owner``
    (uid and gid or None). Links lead no further than the directory itself.
    """
    tree = ContainerTree(params["tree"], context.fds[1] if len(context.fds) > 1 else None)
    tree.assemble(writable=True)
    path = params["path"]
    with _explained(params):
        directory_fd = tree.open(clean(path))
        if not stat.S_ISDIR(os.fstat(directory_fd).st_mode):
            if keep_ending("x", path) != "x":
                raise InvalidParameter(f"lstat {path}: not a directory")
            raise InvalidParameter("extraction point is not a directory")
    resolved = tree.path_of(directory_fd)
    _check_writable(resolved, params)
    tree.confine(directory_fd)
    options = ExtractOptions(
        whiteouts=False,
        existing=True,
        keep_kinds=params["keep_kinds"],
        shown=resolved,
        digest=False,
        pipe_fd=context.fds[0],
        owner=tuple(params["owner"]) if params["owner"] is not None else None,
        ids=tree.ids,
    )
    try:
        extracted = extract(_reader(context.fds[0]), options)
    except InvalidParameter as error:
        if str(error).startswith("unexpected EOF in tar"):
            raise InvalidParameter("unexpected EOF") from error
        raise
    except SystemFailure as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EROFS:
            raise InvalidParameter(f"mounted volume is marked read-only: {error}") from error
        raise
    return {"warnings": list(extracted.warnings)}


def pack_root(context: JobContext, params: dict[str, Any]) -> dict[str, Any]:
    """Write the whole root file system, without what is mounted on it, to the pipe. params: ``tree``."""
    _enter(params, context.fds[1] if len(context.fds) > 1 else None)
    with _until_reader_leaves():
        pack_directory(_writer(context.fds[0]), overlay=False, digest=False, pipe_fd=context.fds[0], live=True)
    return {}


def list_changes(context: JobContext, params: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG001 - a job's signature
    """params: ``tree``. Gives ``changes``: path and kind of each, in order."""
    confinement.chroot_into(mount_for_comparison(params["tree"]))
    flavour = OverlayFlavour(params["tree"]["flavour"])
    return {"changes": [[os.fsdecode(path), kind] for path, kind in find_changes(b"/upper", b"/lower", flavour)]}


def _enter(params: dict[str, Any], namespace_fd: int | None) -> None:
    tree = ContainerTree(params["tree"], namespace_fd)
    tree.assemble(writable=False)
    tree.confine()


def _check_writable(path: str, params: dict[str, Any]) -> None:
    inner = [mount for mount in params["tree"]["mounts"] if not mount["optional"] and _is_below(path, mount["destination"])]
    if inner:
        if max(inner, key=lambda mount: len(mount["destination"]))["read_only"]:
            raise InvalidParameter("mounted volume is marked read-only")
    elif params["read_only"]:
        raise InvalidParameter("container rootfs is marked read-only")


def _is_below(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")


@contextmanager
def _explained(params: dict[str, Any]) -> Iterator[None]:
    """Errors of a path that the client chose."""
    path = params["path"]
    try:
        yield
    except EngineError:
        raise
    except FileNotFoundError:
        raise NotFound(f"Could not find the file {path} in container {params['container']}") from None
    except OSError as error:
        if error.errno in _BAD_PATH:
            raise InvalidParameter(f"lstat {path}: {os.strerror(error.errno or 0).lower()}") from None
        raise
    except ValueError:
        raise InvalidParameter(f"lstat {path!r}: invalid argument") from None


@contextmanager
def _until_reader_leaves() -> Iterator[None]:
    """A client that goes away amid its archive is no failure."""
    try:
        yield
    except BrokenPipeError:
        return


def _reader(fd: int) -> Any:
    # What is read too much can't be passed on without a copy.
    return lambda size: os.read(fd, min(size, _READ_BYTES))


def _writer(fd: int) -> Any:
    return lambda data: os.write(fd, data)
