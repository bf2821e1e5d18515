"""Use cases of volumes: create, list, describe, remove, prune, and what containers need of them."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kitepy.engine.model.errors import Conflict, InvalidParameter, NotFound
from kitepy.engine.model.filters import Filters
from kitepy.engine.model.launch import OverlayRoot
from kitepy.engine.model.timestamps import format_time, parse_time
from kitepy.engine.storage.directory_sizes import directory_size
from kitepy.engine.volume.store import Volume, VolumeStore

ANONYMOUS_LABEL = "com.docker.volume.anonymous"
DRIVER = "local"
_LIST_FILTERS = ("dangling", "driver", "label", "name")
_PRUNE_FILTERS = ("all", "label", "label!", "until")

Emit = Callable[[str, str, str, Mapping[str, str]], None]
References = Callable[[str], Sequence[str]]
"""Ids of the containers that mount a volume."""
Names = list[str]


class VolumeService:
    """Named directories that outlive containers."""

    def __init__(self, store: VolumeStore, *, emit: Emit, references: References) -> None:
        self._store = store
        self._emit = emit
        self._references = references
        self._busy: dict[str, asyncio.Lock] = {}

    # For other services

    def path(self, name: str) -> Path:
        """The directory to mount."""
        return self._store.path(name)

    async def ensure(self, name: str, labels: Mapping[str, str] | None = None) -> Volume:
        """The volume with this name, made when it does not exist; raises ``InvalidParameter`` for a malformed name."""
        existing = self._store.find(name)
        if existing is not None:
            self._store.ensure_directory(name)
            return existing
        volume = self._store.create(name, labels=labels or {}, options={}, anonymous=False)
        self._emit("volume", "create", name, {"driver": DRIVER})
        return volume

    async def create_anonymous(self) -> str:
        """Make a volume that goes with its container (``rm -v``) and by prune; gives its name."""
        name = secrets.token_hex(32)
        self._store.create(name, labels={ANONYMOUS_LABEL: ""}, options={}, anonymous=True)
        self._emit("volume", "create", name, {"driver": DRIVER})
        return name

    async def populate(self, name: str, root: OverlayRoot, path: str) -> None:
        """Fill an empty volume, once, with what the root file system has at ``path``, owner and mode included."""
        lock = self._busy.setdefault(name, asyncio.Lock())
        try:
            async with lock:
                await self._store.populate(self._store.get(name), root, path)
        finally:
            if not lock.locked():
                self._busy.pop(name, None)

    async def remove_if_unused(self, name: str) -> None:
        """Remove a volume unless it is gone or somebody mounts it."""
        if self._store.find(name) is not None and not self._references(name):
            await self._remove(name)

    # The API

    async def create(self, name: str, driver: str, options: Mapping[str, str], labels: Mapping[str, str]) -> dict[str, Any]:
        """``POST /volumes/create``; an existing volume is given back as it is."""
        if driver not in ("", DRIVER):
            raise NotFound(f'error looking up volume plugin {driver}: plugin "{driver}" not found')
        if options:
            raise InvalidParameter(f'create {name}: invalid option: "{next(iter(options))}" (the local driver takes none here)')
        if not name:
            name = secrets.token_hex(32)
            labels = {**labels, ANONYMOUS_LABEL: ""}
        existing = self._store.find(name)
        if existing is not None:
            return self._document(existing)
        volume = self._store.create(name, labels=labels, options=options, anonymous=ANONYMOUS_LABEL in labels)
        self._emit("volume", "create", name, {"driver": DRIVER})
        return self._document(volume)

    async def list(self, filters: Filters | None = None) -> dict[str, Any]:
        """The VolumeListResponse document."""
        filters = filters or Filters()
        filters.require_known(_LIST_FILTERS)
        dangling = filters.flag("dangling", False) if "dangling" in filters else None
        volumes = [
            self._document(volume)
            for volume in self._store.all()
            if filters.labels(volume.labels)
            and filters.pattern("name", volume.name)
            and filters.exact("driver", DRIVER)
            and (dangling is None or dangling != bool(self._references(volume.name)))
        ]
        return {"Volumes": volumes, "Warnings": None}

    async def usage(self) -> Sequence[dict[str, Any]]:
        """The Volume documents with what each takes on the disk and how many containers refer to it."""
        volumes = self._store.all()
        paths = [self._store.path(volume.name) for volume in volumes]
        sizes = await asyncio.to_thread(lambda: [directory_size(path) for path in paths])
        return [
            {**self._document(volume), "UsageData": {"Size": size, "RefCount": len(self._references(volume.name))}}
            for volume, size in zip(volumes, sizes, strict=True)
        ]

    async def inspect(self, name: str) -> dict[str, Any]:
        """The Volume document."""
        return self._document(self._store.get(name))

    async def remove(self, name: str, force: bool = False) -> None:
        """Remove a volume. ``force`` forgives one that does not exist, never one in use."""
        if self._store.find(name) is None:
            if force:
                return
            raise NotFound(f"get {name}: no such volume")
        users = self._references(name)
        if users:
            raise Conflict(f"remove {name}: volume is in use - [{', '.join(users)}]")
        await self._remove(name)

    async def prune(self, filters: Filters | None = None) -> dict[str, Any]:
        """Remove unused anonymous volumes; with the filter ``all=true`` named ones, too."""
        filters = filters or Filters()
        filters.require_known(_PRUNE_FILTERS)
        everything = filters.flag("all", False)
        until = filters.single("until")
        newest = parse_time(until, now_ns=time.time_ns()) if until else None
        removed: Names = []
        reclaimed = 0
        for volume in self._store.all():
            if (
                (not everything and not volume.anonymous)
                or (newest is not None and volume.created_ns >= newest)
                or not filters.labels(volume.labels)
                or not filters.without_labels(volume.labels)
                or self._references(volume.name)
            ):
                continue
            size = await asyncio.to_thread(directory_size, self._store.path(volume.name))
            if self._references(volume.name):
                continue  # somebody began to use it meanwhile
            await self._remove(volume.name)
            reclaimed += size
            removed.append(volume.name)
        self._emit("volume", "prune", "", {"reclaimed": str(reclaimed)})
        return {"VolumesDeleted": removed, "SpaceReclaimed": reclaimed}

    async def _remove(self, name: str) -> None:
        await self._store.remove(name)
        self._emit("volume", "destroy", name, {"driver": DRIVER})

    def _document(self, volume: Volume) -> dict[str, Any]:
        return {
            "CreatedAt": format_time(volume.created_ns - volume.created_ns % 1_000_000_000),
            "Driver": DRIVER,
            "Labels": dict(volume.labels) or None,
            "Mountpoint": str(self._store.path(volume.name)),
            "Name": volume.name,
            "Options": dict(volume.options) or None,
            "Scope": "local",
        }
