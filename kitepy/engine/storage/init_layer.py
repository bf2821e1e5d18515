"""The layer between a container's image and its changes: what the engine puts into every container, Docker's list.

::

    init/<variant>      /.dockerenv, by which programs know where they are; mount points for /proc, /sys, /dev and files in /etc

It belongs neither to the image nor to what the container changed, so that mount points appear in neither ``diff`` nor ``commit``.
Directories of a layer hide the attributes of those beneath: a variant has those that the image gives /etc, /dev and the rest.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_FILES = (".dockerenv", "dev/console", "etc/hostname", "etc/hosts", "etc/resolv.conf")
_LINKS = (("etc/mtab", "/proc/mounts"),)
_DIRECTORIES = ("dev", "dev/pts", "dev/shm", "etc", "proc", "sys")
_MODE = 0o755


@dataclass(frozen=True)
class _Attributes:
    """Of one directory."""

    mode: int = _MODE
    uid: int = 0
    gid: int = 0


def init_layer(data_root: Path, lower: Sequence[str]) -> str:
    """The layer for an image whose layers these are (topmost first, relative to the data root), made if need be."""
    attributes = {name: _in_image(data_root, lower, name) for name in _DIRECTORIES}
    key = hashlib.sha256(repr(sorted(attributes.items(), key=lambda item: item[0])).encode()).hexdigest()[:12]
    name = f"init/{key}"
    if not (data_root / name).is_dir():
        _make(data_root, name, attributes)
    return name


def _make(data_root: Path, name: str, attributes: dict[str, _Attributes]) -> None:
    fresh = data_root / "tmp" / f"init-{secrets.token_hex(8)}"
    fresh.mkdir(mode=_MODE)
    fresh.chmod(_MODE)
    for directory, found in attributes.items():
        path = fresh / directory
        path.mkdir()
        os.chown(path, found.uid, found.gid)
        path.chmod(found.mode)
    for file in _FILES:
        (fresh / file).touch()
        (fresh / file).chmod(_MODE)
    for link, target in _LINKS:
        (fresh / link).symlink_to(target)
    (data_root / name).parent.mkdir(mode=0o711, exist_ok=True)
    try:
        fresh.rename(data_root / name)
    except OSError:
        if not (data_root / name).is_dir():
            raise
        shutil.rmtree(fresh)  # somebody else was faster


def _in_image(data_root: Path, lower: Sequence[str], name: str) -> _Attributes:
    """A directory's attributes as overlay would show them; the defaults where the image has a link or a file."""
    for layer in lower:
        directory = os.open(data_root / layer, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for part in name.split("/"):
                try:
                    inner = os.open(part, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
                except FileNotFoundError:
                    break
                os.close(directory)
                directory = inner
                if not stat.S_ISDIR(os.fstat(directory).st_mode):
                    return _Attributes()
            else:
                found = os.fstat(directory)
                return _Attributes(stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid)
        finally:
            os.close(directory)
    return _Attributes()
