"""The worker job that fills a new volume with what an image has at the mount point.

Image and volume become two directories of a private tmpfs that is the job's root; the path is resolved inside the image's, so
links in the image can't lead anywhere else. Content goes through the same packing and unpacking code as layers, joined by
a pipe, so owners, modes, links, devices and attributes arrive as they are.
"""

from __future__ import annotations

import errno
import os
import threading
from typing import Any

from kitepy.engine.kernel import mounts, overlay
from kitepy.engine.kernel.paths import open_in_root
from kitepy.engine.kernel.syscalls import RESOLVE_BENEATH, openat2
from kitepy.engine.model.errors import InvalidParameter, NotFound, SystemFailure
from kitepy.engine.storage import confinement
from kitepy.engine.storage.archive_out import pack_directory
from kitepy.engine.storage.extract import ExtractOptions, extract
from kitepy.engine.storage.zygote import JobContext


def populate_volume(context: JobContext, params: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG001 - a job's signature
    """params: ``base``, ``lower`` (topmost first, relative to base), ``path``, ``volume``, ``part``, ``flavour``.

    Gives ``found``. Without a ``volume`` nothing is copied, nor into one, or a part of it, that has something. What isn't a
    directory can't become one: raises SystemFailure, worded as dockerd does.
    """
    lower = list(params["lower"])
    stage = os.path.join(params["base"], "tmp")
    confinement.mount_tmpfs(stage)
    image, volume = os.path.join(stage, "image"), os.path.join(stage, "volume")
    os.mkdir(image)
    os.mkdir(volume)
    if len(lower) == 1:
        confinement.bind_mount(os.path.join(params["base"], lower[0]), image)
    else:
        overlay.mount_layers(image, params["base"], lower, flavour=params["flavour"])
    if params["volume"] is not None:
        _bind_part(params["volume"], params["part"], volume)
    confinement.chroot_into(stage)
    image_fd = os.open("/image", os.O_PATH | os.O_DIRECTORY)
    try:
        source_fd = open_in_root(image_fd, params["path"], os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return {"found": False}
    except NotADirectoryError:
        if _exists(image_fd, params["path"]):
            raise SystemFailure(f"source {params['path']} is not directory") from None
        return {"found": False}
    if params["volume"] is not None and not os.listdir("/volume"):
        os.fchdir(source_fd)
        _copy()
    return {"found": True}


def _bind_part(volume: str, part: str, target: str) -> None:
    volume_fd = os.open(volume, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        part_fd = open_part(volume_fd, volume, part, os.O_PATH | os.O_DIRECTORY)
    finally:
        os.close(volume_fd)
    target_fd = os.open(target, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    tree_fd = mounts.clone_tree(part_fd)
    mounts.attach_tree(tree_fd, target_fd, target)
    for fd in (part_fd, target_fd, tree_fd):
        os.close(fd)


def open_part(volume_fd: int, volume: str, part: str, flags: int = os.O_PATH) -> int:
    """Open a part of a volume, whose links can't lead out of it; raises NotFound and InvalidParameter, worded as dockerd does."""
    try:
        return openat2(volume_fd, part or ".", flags | os.O_CLOEXEC, RESOLVE_BENEATH)
    except OSError as error:
        if error.errno == errno.EXDEV:
            raise InvalidParameter(f"path concatenation escapes the base directory, base: {volume}, subpath: {part}") from None
        reason = os.strerror(error.errno or errno.EIO).lower()
        path = os.path.join(volume, part)
        raise NotFound(f"cannot access path {path}: lstat {path}: {reason}") from None


def _exists(root_fd: int, path: str) -> bool:
    try:
        os.close(open_in_root(root_fd, path))
    except OSError:
        return False
    return True


def _copy() -> None:
    """From the working directory to /volume."""
    read_fd, write_fd = os.pipe()
    failures: list[BaseException] = []

    def pack() -> None:
        try:
            pack_directory(lambda data: os.write(write_fd, data), b".", include_root=True, overlay=False)
        except BaseException as error:
            failures.append(error)
        finally:
            os.close(write_fd)

    packer = threading.Thread(target=pack)
    packer.start()
    try:
        extract(lambda size: os.read(read_fd, size), ExtractOptions(destination=b"/volume", whiteouts=False))
    except BaseException as error:
        if not failures:
            failures.append(error)
    finally:
        os.close(read_fd)
        packer.join()
    if failures:
        raise failures[0]
