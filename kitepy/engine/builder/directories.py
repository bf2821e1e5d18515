"""Worker jobs on a step's directories: WORKDIR's directory is made, and what mounting has left behind is tidied away."""

from __future__ import annotations

import os
import posixpath
import stat
from typing import Any

from kitepy.engine.builder.ownership import owner_in_root
from kitepy.engine.builder.trees import enter_target
from kitepy.engine.kernel.fuse_overlay import MARKERS
from kitepy.engine.model.errors import InvalidParameter
from kitepy.engine.model.launch import OverlayFlavour
from kitepy.engine.storage import confinement
from kitepy.engine.storage.zygote import JobContext


def make_directory(_: JobContext, params: dict[str, Any]) -> dict[str, Any]:
    """params: ``target`` and ``scratch`` as for copying, ``path``, ``user`` who shall own it. Tells whether it ``made`` any."""
    enter_target(params["target"], os.path.join(params["scratch"], "target"))
    path = os.path.realpath(params["path"])
    missing: list[str] = []
    while not os.path.isdir(path):
        if os.path.lexists(path):
            raise InvalidParameter(f"cannot mkdir: {path} is not a directory")
        missing.append(path)
        path = posixpath.dirname(path)
    if missing:
        try:
            owner = owner_in_root(params["user"]) if params["user"] else (0, 0)
        except ValueError as problem:
            raise InvalidParameter(f"WORKDIR for USER {params['user']}: {problem}") from None
        for directory in reversed(missing):
            os.mkdir(directory, 0o755)
            os.chown(directory, *owner)
    return {"made": bool(missing)}


def tidy(_: JobContext, params: dict[str, Any]) -> dict[str, Any]:
    """Remove empty mount points that a step's runner had to make, and directories that changed in nothing.

    params: ``base``, ``lower`` (topmost first), ``upper``, ``flavour``, and the ``paths`` that were mounted on.
    """
    lower_fds = [os.open(os.path.join(params["base"], name), os.O_RDONLY | os.O_DIRECTORY) for name in params["lower"]]
    confinement.chroot_into(os.path.join(params["base"], params["upper"]))
    markers = MARKERS if params["flavour"] == OverlayFlavour.FUSE.value else frozenset()
    candidates: set[str] = set()
    for path in params["paths"]:
        path = path.strip("/")
        while path:
            candidates.add(path)
            path = posixpath.dirname(path)
    for path in sorted(candidates, key=lambda name: -name.count("/")):
        _tidy_one(path, lower_fds, markers)
    return {}


def _tidy_one(path: str, lower_fds: list[int], markers: frozenset[str]) -> None:
    ours = _look(None, path)
    if ours is None:
        return
    before = _look_through(lower_fds, path)
    if stat.S_ISREG(ours.st_mode) and ours.st_size == 0 and before is None:
        os.unlink(f"/{path}")
    elif (
        stat.S_ISDIR(ours.st_mode)
        and (before is None or _same_attributes(ours, before))
        and set(os.listdir(f"/{path}")) <= markers
    ):
        for name in os.listdir(f"/{path}"):
            os.unlink(f"/{path}/{name}")
        os.rmdir(f"/{path}")


def _same_attributes(one: os.stat_result, other: os.stat_result) -> bool:
    return (one.st_mode, one.st_uid, one.st_gid) == (other.st_mode, other.st_uid, other.st_gid)


def _look_through(lower_fds: list[int], path: str) -> os.stat_result | None:
    """What an overlay of these layers shows at a path; a link on the way counts as something, so that nothing is removed."""
    for fd in lower_fds:
        parts = path.split("/")
        for depth in range(1, len(parts) + 1):
            found = _look(fd, "/".join(parts[:depth]))
            if found is None:
                break
            if stat.S_ISCHR(found.st_mode) and found.st_rdev == 0:
                return None
            if depth == len(parts) or not stat.S_ISDIR(found.st_mode):
                return found
    return None


def _look(directory_fd: int | None, path: str) -> os.stat_result | None:
    """lstat without following links in any part."""
    parts = path.split("/")
    prefix = "" if directory_fd is not None else "/"
    for depth in range(1, len(parts) + 1):
        try:
            found = os.stat(prefix + "/".join(parts[:depth]), dir_fd=directory_fd, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return None
        if depth < len(parts) and not stat.S_ISDIR(found.st_mode):
            return None
    return found
