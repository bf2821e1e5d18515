"""Makes the trees that worker jobs copy from and to: a plain directory, or an overlay of layers in the job's mount namespace."""

from __future__ import annotations

import os
from typing import Any

from kitepy.engine.storage import confinement

# Layers must hold whole files under their own names, whatever the kernel's defaults are.
_OPTIONS = "redirect_dir=off,metacopy=off"


def open_tree(tree: dict[str, Any], mount_point: str) -> int:
    """A descriptor of a tree to read from.

    ``tree`` is ``{"path": directory}``, or ``{"base": directory, "lower": [layer directories, topmost first]}``, which
    gets mounted at ``mount_point`` when there are several layers.
    """
    path = tree.get("path")
    if path is None:
        lower: list[str] = tree["lower"]
        if len(lower) == 1:  # overlay wants two when nothing is writable
            path = os.path.join(tree["base"], lower[0])
        else:
            os.makedirs(mount_point, exist_ok=True)
            _mount(tree["base"], mount_point, f"lowerdir={':'.join(lower)},{_OPTIONS}")
            path = mount_point
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def enter_target(target: dict[str, Any], mount_point: str) -> None:
    """Make an overlay with a writable directory on top the process's root.

    ``target`` is ``{"base", "lower", "upper", "work"}``, all relative to the base.
    """
    os.makedirs(mount_point, exist_ok=True)
    layers = f"lowerdir={':'.join(target['lower'])},upperdir={target['upper']},workdir={target['work']}"
    _mount(target["base"], mount_point, f"{layers},volatile,{_OPTIONS}")
    confinement.chroot_into(mount_point)


def _mount(base: str, mount_point: str, options: str) -> None:
    # Layer names are relative to the base, which keeps 128 of them within the kernel's one page.
    os.chdir(base)
    confinement.mount_overlay(mount_point, options)
    os.chdir("/")
