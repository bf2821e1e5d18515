"""Makes the trees that worker jobs copy from and to: a plain directory, or an overlay of layers in the job's mount namespace."""

from __future__ import annotations

import os
from typing import Any

from kitepy.engine.kernel import overlay
from kitepy.engine.storage import confinement


def open_tree(tree: dict[str, Any], mount_point: str) -> int:
    """A descriptor of a tree to read from.

    ``tree`` is ``{"path": directory}``, or ``{"base": directory, "lower": [layer directories, topmost first],
    "flavour": text}``, which
    gets mounted at ``mount_point`` when there are several layers.
    """
    path = tree.get("path")
    if path is None:
        lower: list[str] = tree["lower"]
        if len(lower) == 1:  # overlay wants two when nothing is writable
            path = os.path.join(tree["base"], lower[0])
        else:
            os.makedirs(mount_point, exist_ok=True)
            _mount(tree, mount_point)
            path = mount_point
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def enter_target(target: dict[str, Any], mount_point: str) -> None:
    """Make an overlay with a writable directory on top the process's root.

    ``target`` is ``{"base", "lower", "upper", "work", "flavour"}``, directories relative to the base.
    """
    os.makedirs(mount_point, exist_ok=True)
    _mount(target, mount_point)
    confinement.chroot_into(mount_point, outside=True)


def _mount(tree: dict[str, Any], mount_point: str) -> None:
    base, flavour = tree["base"], tree["flavour"]
    overlay.mount_layers(mount_point, base, tree["lower"], tree.get("upper"), tree.get("work"), flavour=flavour)
    os.chdir("/")
