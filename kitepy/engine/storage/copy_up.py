"""The worker job that fills a new volume with what an image has at the mount point.

Image and volume become two directories of a private tmpfs that is the job's root; the path is resolved inside the image's, so
links in the image can't lead anywhere else.
"""

from __future__ import annotations

import errno
import os
from typing import Any

from kitepy.engine.kernel import mounts, overlay
from kitepy.engine.kernel.paths import open_in_root
from kitepy.engine.kernel.syscalls import RESOLVE_BENEATH, openat2
from kitepy.engine.model.errors import InvalidParameter, NotFound, SystemFailure
from kitepy.engine.storage import confinement
from kitepy.engine.storage.copy_tree import copy_tree
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
        volume_fd = os.open("/volume", os.O_RDONLY | os.O_DIRECTORY)
        try:
            copy_tree(source_fd, volume_fd)
        except OSError as error:
            reason = os.strerror(error.errno or errno.EIO).lower()
            raise SystemFailure(f"failed to copy files: copying {params['path']} into the volume: {reason}") from error
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
