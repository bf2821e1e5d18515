"""Finds out at the engine's start what its data root can do, so that nobody learns it from a container that won't start.

``check_file_system`` tries what layers need of the file system; the job ``try_overlays`` mounts overlays in a worker's namespace
of its own, since only an attempt tells what the kernel lets an ordinary user do.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
from pathlib import Path
from typing import Any

from kitepy.engine.kernel import overlay
from kitepy.engine.model.errors import SystemFailure
from kitepy.engine.model.launch import OverlayFlavour
from kitepy.engine.storage.worker import WorkerPool
from kitepy.engine.storage.zygote import JobContext

_FULL_BYTES = 1 << 20


def check_file_system(data_root: Path, flavour: OverlayFlavour) -> None:
    """Raise ``SystemFailure`` that says what the file system of the data root lacks, or that it is full or read-only."""
    directory = data_root / "tmp" / f"probe-{secrets.token_hex(4)}"
    step = "can't be written"
    try:
        directory.mkdir(parents=True)
        with (directory / "file").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, _FULL_BYTES)
        step = "can't keep an owner other than the user"
        os.chown(directory / "file", 1, 1)
        step = f"can't keep the attribute {flavour.opaque_xattr}, which layers need"
        os.setxattr(directory, flavour.opaque_xattr, b"y")
        step = "can't keep the nodes that mark removed files"
        os.mknod(directory / "removed", stat.S_IFCHR, 0)
    except OSError as error:
        if flavour is not OverlayFlavour.TRUSTED and error.errno == errno.EPERM and step.endswith("removed files"):
            return  # before Linux 5.8; fuse-overlayfs is content with plain files
        raise SystemFailure(
            f"the data root {data_root} {step}: {(error.strerror or str(error)).lower()}; {_advice(error)}"
        ) from None
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _advice(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "make room there"
    return "choose a directory on a local disk with --data-root (ext4, XFS and Btrfs are known to do)"


async def choose_flavour(data_root: Path, workers: WorkerPool) -> tuple[OverlayFlavour, str]:
    """How an engine in a user namespace joins layers here, and why not in a better way (empty when there is none).

    Raises ``SystemFailure`` when there is no way at all.
    """
    params = {"base": str(data_root / "tmp"), "name": f"probe-{secrets.token_hex(4)}"}
    found = await workers.run("kitepy.engine.storage.probe:try_overlays", params)
    if not found["user"]:
        return OverlayFlavour.USER, ""
    if found["fuse"]:
        raise SystemFailure(
            f"this kernel lets no ordinary user mount an overlay in {data_root} ({found['user']}), and fuse-overlayfs does not "
            f"help ({found['fuse']}): sudo apt install fuse-overlayfs, or use Linux 5.11 or newer; see `kitepy doctor`"
        )
    return OverlayFlavour.FUSE, str(found["user"])


def try_overlays(_: JobContext, params: dict[str, Any]) -> dict[str, Any]:
    """params: ``base``, ``name`` of a directory to be made in it. Gives what was wrong with each kind, empty for nothing."""
    base = os.path.join(params["base"], params["name"])
    os.makedirs(base)
    try:
        problems = {"user": _try(base, "user")}
        problems["fuse"] = _try(base, "fuse") if problems["user"] else ""
        return problems
    finally:
        os.chdir("/")
        shutil.rmtree(base)


def _try(base: str, flavour: str) -> str:
    root = os.path.join(base, flavour)
    for name in ("top/d", "bottom/d", "upper", "work", "merged"):
        os.makedirs(os.path.join(root, name))
    for name in ("bottom/gone", "bottom/d/hidden"):
        Path(root, name).touch()
    try:
        os.setxattr(os.path.join(root, "top/d"), "user.overlay.opaque", b"y")
        Path(root, "top/seen").touch()
        merged = os.path.join(root, "merged")
        overlay.mount_layers(merged, root, ("top", "bottom"), "upper", "work", flavour=flavour)
        os.chdir("/")
        try:
            Path(merged, "new").touch()
            os.unlink(os.path.join(merged, "gone"))
            if sorted(os.listdir(merged)) != ["d", "new", "seen"] or os.listdir(os.path.join(merged, "d")):
                return "removed files stay visible"
        finally:
            overlay.unmount(merged)
    except OSError as error:
        return (error.strerror or str(error)).lower()
    return ""
