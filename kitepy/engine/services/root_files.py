"""Reads small text files (accounts, mostly) of a root file system that isn't mounted, layer by layer as overlay would.

Only plain paths are followed: a symbolic link on the way means "not there", so no image can point at a file of the host.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from kitepy.engine.model.launch import OverlayRoot

_MAX_BYTES = 4 * 1024 * 1024


def read_root_file(root: OverlayRoot, path: str) -> str:
    """The text of a regular file such as ``etc/passwd``; empty when the root has none."""
    layers = [root.upper, *root.lower] if root.upper is not None else list(root.lower)
    opaque = root.flavour.opaque_xattr
    for layer in layers:
        found = _look_up(root.base / layer, path.strip("/").split("/"), opaque)
        if found is not None:
            return found
    return ""


def _look_up(layer: Path, names: list[str], opaque: str) -> str | None:
    """The text in this layer, "" when the layer hides it from those below, None when the layer says nothing."""
    try:
        directory = os.open(layer, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    hidden = False
    try:
        for name in names[:-1]:
            try:
                inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
            except FileNotFoundError:
                return "" if hidden else None
            except OSError:  # a file, a link or a whiteout stands where the directory was
                return ""
            os.close(directory)
            directory = inner
            hidden = hidden or _is_opaque(directory, opaque)
        return _read_regular(directory, names[-1], hidden)
    finally:
        os.close(directory)


def _is_opaque(directory: int, attribute: str) -> bool:
    try:
        return os.getxattr(directory, attribute) == b"y"
    except OSError:
        return False


def _read_regular(directory: int, name: str, hidden: bool) -> str | None:
    try:
        # Non-blocking, since what is there may be a pipe that nobody writes to.
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        return "" if hidden else None
    except OSError:  # a link, or a whiteout, which can't be opened
        return ""
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return ""
    with os.fdopen(descriptor, "rb") as stream:
        return stream.read(_MAX_BYTES).decode("utf-8", "replace")
