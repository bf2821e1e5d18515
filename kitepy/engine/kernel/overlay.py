"""Mounting layers on top of each other; shared by the runtime and by workers, which each mount in a namespace of their own.

The layer names are relative to one base directory, so that 128 of them fit into the kernel's one page of options.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from kitepy.engine.kernel import mounts
from kitepy.engine.kernel.fuse_overlay import FuseServer
from kitepy.engine.kernel.fuse_overlay import options as fuse_options

_FIXED = "index=off,metacopy=off,redirect_dir=off"
# With userxattr the kernel itself switches off what the other options do, and refuses to be told.
_USER = "userxattr,index=off"


def options(
    lower: Sequence[str], upper: str | None = None, work: str | None = None, *, volatile: bool = False, user_xattrs: bool = False
) -> str:
    """The option string of an overlay mount; ``lower`` is topmost first.

    Features that put extended attributes with overlay's own meaning into the upper directory are switched off whatever the
    kernel's default is, so that the directory can become a layer as it is.
    """
    text = "lowerdir=" + ":".join(lower)
    if upper:
        text += f",upperdir={upper},workdir={work}"
        if volatile:
            text += ",volatile"
    return f"{text},{_USER if user_xattrs else _FIXED}"


def mount_layers(
    target: str,
    base: str,
    lower: Sequence[str],
    upper: str | None = None,
    work: str | None = None,
    *,
    flavour: str,
    volatile: bool = True,
) -> None:
    """Mount layers in one of the ways that ``OverlayFlavour`` names, for a process that ends soon.

    ``volatile``: what is written isn't precious yet, so it needs no syncing.
    """
    if flavour == "fuse":
        FuseServer(base, fuse_options(lower, upper, work)).mount(target, readonly=not upper)
    else:
        mount(target, base, options(lower, upper, work, volatile=volatile, user_xattrs=flavour == "user"))


def unmount(target: str) -> None:
    """Take an overlay away at once."""
    mounts.unmount_detached(target)


def mount(target: str, base: str, option_text: str, *, readonly: bool = False) -> None:
    """Mount an overlay at an absolute path; the working directory becomes ``base``."""
    os.chdir(base)
    mounts.mount_overlay(target, option_text, mounts.MS_RDONLY if readonly else 0)
