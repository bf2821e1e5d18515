"""Volumes on disk and in the database (the ``local`` driver); who uses them and what is announced is the service's business.

::

    volumes/<name>/_data    the volume's content
    tmp/volume-<random>     a removed volume whose files are still being deleted

A volume vanishes by one rename(2), so it is there with all its content or not at all. Directories without a row are never
deleted: they may be all that is left of somebody's data, so ``reconcile`` takes them in as volumes again.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import secrets
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kitepy.engine.model.errors import InvalidParameter, NotFound
from kitepy.engine.model.launch import OverlayRoot
from kitepy.engine.storage.database import Database
from kitepy.engine.storage.worker import WorkerPool

log = logging.getLogger(__name__)

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_ANONYMOUS = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Volume:
    """One named directory."""

    name: str
    created_ns: int
    labels: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    anonymous: bool = False
    populated: bool = False
    """Whether it was filled from an image: that happens once."""


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

    def create(self, name: str, *, labels: Mapping[str, str], options: Mapping[str, str], anonymous: bool) -> Volume:
        """Make a volume that does not exist yet; raises ``InvalidParameter`` for a malformed name."""
        check_volume_name(name)
        volume = Volume(name, time.time_ns(), dict(labels), dict(options), anonymous)
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
        """Remove a volume with all its content. It is gone at once; waiting is for the disk space."""
        trash = f"volume-{secrets.token_hex(8)}"
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM volumes WHERE name = ?", (name,))
            with contextlib.suppress(FileNotFoundError):
                os.rename(self._root / name, self._trash / trash)
        await self._workers.run("kitepy.engine.storage.jobs:remove_trees", {"base": str(self._trash), "names": [trash]})

    async def populate(self, volume: Volume, root: OverlayRoot, path: str) -> None:
        """Copy what the root has at ``path``, with the directory's owner and mode, into the volume if that is still empty."""
        directory = self.path(volume.name)
        if volume.populated or any(directory.iterdir()):
            return
        lower = list(root.lower)
        if root.upper is not None and any((root.base / root.upper).iterdir()):
            lower.insert(0, root.upper)
        params = {"base": str(root.base), "lower": lower, "path": path, "volume": str(directory), "flavour": root.flavour.value}
        result = await self._workers.run("kitepy.engine.storage.copy_up:populate_volume", params)
        if result["found"]:
            self._save(replace(volume, populated=True))

    def reconcile(self) -> None:
        """Make rows and directories agree after a crash; for start-up only."""
        known = {volume.name for volume in self.all()}
        found = {entry.name for entry in self._root.iterdir() if (entry / "_data").is_dir()}
        for name in sorted(found - known):
            if _NAME.fullmatch(name):
                log.warning("volume %s was not in the database; it is taken in again", name)
                self._save(Volume(name, time.time_ns(), anonymous=_ANONYMOUS.fullmatch(name) is not None, populated=True))
        with self._database.transaction() as connection:
            # Renamed away by a removal, or never completely made.
            connection.executemany("DELETE FROM volumes WHERE name = ?", [(name,) for name in known - found])

    def _save(self, volume: Volume) -> None:
        record: dict[str, Any] = {
            "created_ns": volume.created_ns,
            "labels": dict(volume.labels),
            "options": dict(volume.options),
            "anonymous": volume.anonymous,
            "populated": volume.populated,
        }
        with self._database.transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO volumes VALUES (?, ?)", (volume.name, json.dumps(record).encode()))


def check_volume_name(name: str) -> None:
    """Raise ``InvalidParameter`` unless the name can be a volume's."""
    if len(name) == 1:
        raise InvalidParameter("volume name is too short, names should be at least two alphanumeric characters")
    if not _NAME.fullmatch(name) or len(name) > 255:
        raise InvalidParameter(
            f'create {name}: "{name}" includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are '
            "allowed. If you intended to pass a host directory, use absolute path"
        )


def _volume(row: sqlite3.Row) -> Volume:
    record = json.loads(row["record"])
    return Volume(
        name=row["name"],
        created_ns=record["created_ns"],
        labels=record["labels"],
        options=record["options"],
        anonymous=record["anonymous"],
        populated=record["populated"],
    )
