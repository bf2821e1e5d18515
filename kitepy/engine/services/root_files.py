"""Reads small text files (accounts, mostly) of a root file system that isn't mounted, layer by layer as overlay would.

Only plain paths are followed: a symbolic link on the way means "not there", so no image can point at a file of the host.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from kitepy.engine.kernel.fuse_overlay import MARKERS
from kitepy.engine.model.launch import OverlayFlavour, OverlayRoot

_MAX_BYTES = 4 * 1024 * 1024


def read_root_file(root: OverlayRoot, path: str) -> str:
    """The text of a regular file such as ``etc/passwd``; empty when the root has none."""
    layers = [root.upper, *root.lower] if root.upper is not None else list(root.lower)
    for layer in layers:
        found = _look_up(root.base / layer, path.strip("/").split("/"), root.flavour)
        if found is not None:
            return found
    return ""


def _look_up(layer: Path, names: list[str], flavour: OverlayFlavour) -> str | None:
    """The text in this layer, "" when the layer hides it from those below, None when the layer says nothing."""
    try:
        directory = os.open(layer, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    hidden, fuse = False, flavour is OverlayFlavour.FUSE
    try:
        for name in names[:-1]:
            try:
                hidden = hidden or (fuse and _exists(directory, f".wh.{name}"))
                inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
            except FileNotFoundError:
                return "" if hidden else None
            except OSError:  # a file, a link or a whiteout stands where the directory was
                return ""
            os.close(directory)
            directory = inner
            hidden = hidden or _is_opaque(directory, flavour.opaque_xattr, fuse)
        return _read_regular(directory, names[-1], hidden or (fuse and _exists(directory, f".wh.{names[-1]}")))
    finally:
        os.close(directory)


def _is_opaque(directory: int, attribute: str, fuse: bool) -> bool:
    try:
        if os.getxattr(directory, attribute) == b"y":
            return True
    except OSError:
        pass
    return fuse and any(_exists(directory, name) for name in MARKERS)


def _exists(directory: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _read_regular(directory: int, name: str, hidden: bool) -> str | None:
    try:
        found = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        return "" if hidden else None
    except OSError:
        return ""
    try:
        # Looked at before it is opened: a container may make device nodes, and for some devices being opened is a command.
        if not stat.S_ISREG(os.fstat(found).st_mode):
            return ""
        descriptor = os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(found)
    with os.fdopen(descriptor, "rb") as stream:
        return stream.read(_MAX_BYTES).decode("utf-8", "replace")
