"""Volumes on disk and in the database (the ``local`` driver); who uses them and what is announced is the service's business.

::

    volumes/<name>/_data    the volume's content, or where it is mounted while somebody uses it (``local_driver.py``)
    tmp/volume-<random>     a removed volume whose files are still being deleted

A volume vanishes by one rename(2), so it is there with all its content or not at all. Directories without a row are never
deleted: they may be all that is left of somebody's data, so ``reconcile`` takes them in as volumes again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import re
import secrets
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kitepy.engine.kernel.mount_table import mount_points
from kitepy.engine.model.errors import InvalidParameter, NotFound, SystemFailure
from kitepy.engine.model.launch import OverlayRoot
from kitepy.engine.storage.database import Database
from kitepy.engine.storage.worker import WorkerPool
from kitepy.engine.volume.local_driver import check_options, volume_mount

log = logging.getLogger(__name__)

VOLUME_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
MOUNT_PATIENCE_S = 120
"""How long a file server may take to answer."""
_JOBS = "kitepy.engine.volume.mount_jobs:"
_ANONYMOUS = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Volume:
    """One named directory."""

    name: str
    created_ns: int
    labels: Mapping[str, str] | None = None
    options: Mapping[str, str] | None = None
    """As they were given: that there are none differs from nothing said, for who asks."""
    anonymous: bool = False


class VolumeStore:
    """The volumes below one data root."""

    def __init__(self, data_root: Path, database: Database, workers: WorkerPool) -> None:
        self._root = data_root / "volumes"
        self._data_root = data_root
        self._database = database
        self._workers = workers
        self._trash = data_root / "tmp"
        self._root.mkdir(mode=0o711, parents=True, exist_ok=True)
        self._trash.mkdir(mode=0o711, exist_ok=True)

    def path(self, name: str) -> Path:
        """The directory that gets mounted."""
        return self._root / name / "_data"

    def get(self, name: str) -> Volume:
        """The volume; raises ``NotFound``."""
        volume = self.find(name)
        if volume is None:
            raise NotFound(f"get {name}: no such volume")
        return volume

    def find(self, name: str) -> Volume | None:
        """The volume, or None."""
        row = self._database.query_one("SELECT * FROM volumes WHERE name = ?", (name,))
        return None if row is None else _volume(row)

    def all(self) -> list[Volume]:
        """Every volume, by name."""
        return [_volume(row) for row in self._database.query("SELECT * FROM volumes ORDER BY name")]

    def create(
        self,
        name: str,
        *,
        labels: Mapping[str, str] | None = None,
        options: Mapping[str, str] | None = None,
        anonymous: bool = False,
    ) -> Volume:
        """Make a volume that does not exist yet; raises ``InvalidParameter`` for a malformed name or options."""
        check_volume_name(name)
        check_options(name, options or {})
        volume = Volume(name, time.time_ns(), labels, options, anonymous)
        self._save(volume)
        self.ensure_directory(name)
        return volume

    def ensure_directory(self, name: str) -> None:
        """Make the volume's directory if it is missing."""
        directory = self.path(name)
        if not directory.is_dir():
            directory.parent.mkdir(mode=0o701, exist_ok=True)
            directory.mkdir(exist_ok=True)
            directory.chmod(0o755)

    async def remove(self, name: str) -> None:
        """Remove a volume with all its content. It is gone at once; waiting is for the disk space.

        What is mounted on its directory isn't its content, and is taken away before.
        """
        if self.is_mounted(name):
            await self.unmount(name)
        trash = f"volume-{secrets.token_hex(8)}"
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM volumes WHERE name = ?", (name,))
            with contextlib.suppress(FileNotFoundError):
                os.rename(self._root / name, self._trash / trash)
        await self._workers.run("kitepy.engine.storage.jobs:remove_trees", {"base": str(self._trash), "names": [trash]})

    # Mounts by driver options

    async def mount(self, volume: Volume) -> None:
        """Mount what the volume's options say on its directory, if there are any and it isn't; raises SystemFailure."""
        wanted = volume_mount(volume.options)
        if wanted is None or self.is_mounted(volume.name):
            return
        params = {**asdict(wanted), "target": str(self.path(volume.name))}
        try:
            async with asyncio.timeout(MOUNT_PATIENCE_S):
                await self._workers.run(_JOBS + "mount_volume", params, [_own_mount_namespace()], paced=True)
        except TimeoutError:
            reason = f"{wanted.device} didn't answer within {MOUNT_PATIENCE_S} seconds"
            raise SystemFailure(f"error while mounting volume '{params['target']}': {reason}") from None

    async def unmount(self, name: str) -> None:
        """Take away all that is mounted on the volume's directory."""
        await self._workers.run(_JOBS + "unmount_volume", {"target": str(self.path(name))}, [_own_mount_namespace()])

    def is_mounted(self, name: str) -> bool:
        """Whether something is mounted on the volume's directory now, whichever engine did it."""
        return str(self.path(name)) in mount_points()

    def mounted(self) -> list[str]:
        """Names of the volumes on whose directory something is mounted."""
        points = mount_points()
        return [volume.name for volume in self.all() if str(self.path(volume.name)) in points]

    # Content

    async def populate(self, name: str, root: OverlayRoot, path: str, part: str = "") -> None:
        """Copy what the root has at ``path``, with the directory's owner and mode, into the volume, or a part, that is empty."""
        directory = self.path(name)
        if part or not any(directory.iterdir()):
            await self._copy_up(root, path, directory, part)

    async def is_directory(self, root: OverlayRoot, path: str) -> bool:
        """Whether the root has a directory at ``path``; raises SystemFailure when it is something else."""
        return await self._copy_up(root, path, None)

    async def _copy_up(self, root: OverlayRoot, path: str, directory: Path | None, part: str = "") -> bool:
        lower = list(root.lower)
        if root.upper is not None and any((root.base / root.upper).iterdir()):
            lower.insert(0, root.upper)
        first = path.strip("/").partition("/")[0]
        if not any(os.path.lexists(root.base / layer / first) for layer in lower):
            return False  # most often; it saves the worker's start
        params = {
            "base": str(root.base),
            "lower": lower,
            "path": path,
            "volume": None if directory is None else str(directory),
            "part": part,
            "flavour": root.flavour.value,
        }
        result = await self._workers.run("kitepy.engine.storage.copy_up:populate_volume", params)
        return bool(result["found"])

    def reconcile(self) -> None:
        """Make rows and directories agree after a crash; for start-up only."""
        known = {volume.name for volume in self.all()}
        found = {entry.name for entry in self._root.iterdir() if (entry / "_data").is_dir()}
        for name in sorted(found - known):
            if VOLUME_NAME.fullmatch(name):
                log.warning("volume %s was not in the database; it is taken in again", name)
                self._save(Volume(name, time.time_ns(), anonymous=_ANONYMOUS.fullmatch(name) is not None))
        with self._database.transaction() as connection:
            # Renamed away by a removal, or never completely made.
            connection.executemany("DELETE FROM volumes WHERE name = ?", [(name,) for name in known - found])

    def _save(self, volume: Volume) -> None:
        record: dict[str, Any] = {
            "created_ns": volume.created_ns,
            "labels": None if volume.labels is None else dict(volume.labels),
            "options": None if volume.options is None else dict(volume.options),
            "anonymous": volume.anonymous,
        }
        with self._database.transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO volumes VALUES (?, ?)", (volume.name, json.dumps(record).encode()))


def check_volume_name(name: str) -> None:
    """Raise ``InvalidParameter`` unless the name can be a volume's."""
    if len(name) == 1:
        raise InvalidParameter(f"create {name}: volume name is too short, names should be at least two alphanumeric characters")
    if not VOLUME_NAME.fullmatch(name) or len(name) > 255:
        raise InvalidParameter(
            f"create {name}: {json.dumps(name, ensure_ascii=False)} includes invalid characters for a local volume name, only "
            '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path'
        )


def _volume(row: sqlite3.Row) -> Volume:
    record = json.loads(row["record"])
    return Volume(
        name=row["name"],
        created_ns=record["created_ns"],
        labels=record["labels"],
        options=record["options"],
        anonymous=record["anonymous"],
    )


def _own_mount_namespace() -> int:
    return os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
