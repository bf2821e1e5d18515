"""Use cases of volumes: create, list, describe, remove, prune, and what containers need of them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import secrets
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from kitepy.engine.model.errors import Conflict, InvalidParameter, NotFound, SystemFailure
from kitepy.engine.model.filters import Filters
from kitepy.engine.model.launch import OverlayRoot
from kitepy.engine.model.timestamps import format_time
from kitepy.engine.services.archive_pipe import JobOutput
from kitepy.engine.services.events import Emit
from kitepy.engine.storage.directory_sizes import directory_size
from kitepy.engine.storage.worker import WorkerPool
from kitepy.engine.volume.store import Volume, VolumeStore

log = logging.getLogger(__name__)

ANONYMOUS_LABEL = "com.docker.volume.anonymous"
DRIVER = "local"
_LIST_FILTERS = ("dangling", "driver", "label", "name")
_PRUNE_FILTERS = ("all", "label", "label!")
_FILLING = "filling"
_JOBS = "kitepy.engine.storage.volume_jobs:"
_DANGLING = {"1": True, "true": True, "0": False, "false": False}

References = Callable[[str], Sequence[str]]
"""Ids of the containers that mount a volume."""
Names = list[str]


class VolumeService:
    """Named directories that outlive containers."""

    def __init__(self, store: VolumeStore, workers: WorkerPool, *, emit: Emit, references: References) -> None:
        self._store = store
        self._workers = workers
        self._visits = itertools.count()
        self._emit = emit
        self._references = references
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._holders: defaultdict[str, set[str]] = defaultdict(set)
        """Who uses a volume that has to be mounted for it: ids of containers, and words of who looks into them."""

    # For other services

    def path(self, name: str) -> Path:
        """The directory to mount."""
        return self._store.path(name)

    async def ensure(
        self, name: str, labels: Mapping[str, str] | None = None, options: Mapping[str, str] | None = None
    ) -> Volume:
        """The volume with this name, made when it does not exist; raises ``InvalidParameter`` for a malformed name or options."""
        existing = self._store.find(name)
        if existing is not None:
            self._store.ensure_directory(name)
            return existing
        volume = self._store.create(name, labels=labels, options=options)
        self._emit("volume", "create", name, {"driver": DRIVER})
        return volume

    async def create_anonymous(self, labels: Mapping[str, str] | None = None, options: Mapping[str, str] | None = None) -> str:
        """Make a volume that goes with its container (``rm -v``) and by prune; gives its name."""
        name = secrets.token_hex(32)
        self._store.create(name, labels={**(labels or {}), ANONYMOUS_LABEL: ""}, options=options, anonymous=True)
        self._emit("volume", "create", name, {"driver": DRIVER})
        return name

    async def populate(self, name: str, root: OverlayRoot, path: str, part: str = "") -> None:
        """Fill a volume (or a part of it) that is empty with what the root file system has at ``path``, owner and mode included.

        Nothing happens when the part is missing, which the start will say. Raises SystemFailure where the root has a file, and
        InvalidParameter for a part that leads out of the volume.
        """
        volume = self._store.get(name)
        if volume.options:  # else it may be mounted for nothing, or in vain
            if not await self._store.is_directory(root, path):
                return
            await self.acquire(name, _FILLING)
        try:
            async with self._lock(name):
                with contextlib.suppress(NotFound):
                    await self._store.populate(name, root, path, part)
        finally:
            if volume.options:
                await self.release(name, _FILLING)

    async def acquire(self, name: str, holder: str) -> None:
        """Have the volume's content in its directory until ``release``; raises NotFound and SystemFailure.

        Nothing is to be done for most volumes: only those with driver options are mounted at the first use.
        """
        volume = self._store.get(name)
        if not volume.options:
            return
        async with self._lock(name):
            await self._store.mount(volume)
            self._holders[name].add(holder)

    async def release(self, name: str, holder: str) -> None:
        """Undo ``acquire``; the last one unmounts the volume. Safe to call twice."""
        if name not in self._holders:
            return
        async with self._lock(name):
            holders = self._holders.get(name)
            if holders is None or holder not in holders:
                return
            holders.discard(holder)
            if not holders:
                del self._holders[name]
                await self._unmount(name)

    async def adopt(self, running: Mapping[str, Sequence[str]]) -> None:
        """Take over what an engine before has mounted: ``running`` has the names of volumes by id of container that runs."""
        for container_id, names in running.items():
            for name in names:
                volume = self._store.find(name)
                if volume is not None and volume.options:
                    self._holders[name].add(container_id)
        for name in await asyncio.to_thread(self._store.mounted):
            if name not in self._holders:
                await self._unmount(name)

    def _lock(self, name: str) -> asyncio.Lock:
        """One at a time mounts, unmounts, fills or removes a volume."""
        return self._locks.setdefault(name, asyncio.Lock())

    async def _unmount(self, name: str) -> None:
        try:
            await self._store.unmount(name)
        except SystemFailure as error:
            log.warning("volume %s: %s", name, error)

    async def remove_if_unused(self, name: str) -> None:
        """Remove a volume unless it is gone or somebody mounts it."""
        if self._store.find(name) is not None and not self._references(name):
            await self._remove(name)

    # The API

    async def create(
        self, name: str, driver: str, options: Mapping[str, str] | None, labels: Mapping[str, str] | None
    ) -> dict[str, Any]:
        """``POST /volumes/create``; an existing volume is given back as it is."""
        anonymous = not name
        name = name or secrets.token_hex(32)
        check_driver(name, driver)
        existing = self._store.find(name)
        if existing is not None:
            return self._document(existing)
        if anonymous:
            labels = {**(labels or {}), ANONYMOUS_LABEL: ""}
        volume = self._store.create(name, labels=labels, options=options, anonymous=ANONYMOUS_LABEL in (labels or {}))
        self._emit("volume", "create", name, {"driver": DRIVER})
        return self._document(volume)

    async def list(self, filters: Filters | None = None) -> dict[str, Any]:
        """The VolumeListResponse document."""
        filters = filters or Filters()
        filters.require_known(_LIST_FILTERS)
        dangling = _dangling(filters)
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
        # As with Docker what is mounted from elsewhere isn't counted: it isn't the engine's.
        volumes = [volume for volume in self._store.all() if not volume.options]
        paths = [self._store.path(volume.name) for volume in volumes]
        sizes = await asyncio.to_thread(lambda: [directory_size(path) for path in paths])
        return [
            {**self._document(volume), "UsageData": {"Size": size, "RefCount": len(self._references(volume.name))}}
            for volume, size in zip(volumes, sizes, strict=True)
        ]

    async def inspect(self, name: str) -> dict[str, Any]:
        """The Volume document."""
        return self._document(self._store.get(name))

    async def files(self, name: str, path: str) -> dict[str, Any]:
        """What a directory of the volume holds; for looking around, so only the first ten thousand entries."""
        async with self._visited(name) as directory:
            return await self._workers.run(_JOBS + "list_files", {"volume": directory, "name": name, "path": path})

    async def archive(self, name: str, path: str) -> AsyncIterator[bytes]:
        """A file or directory of the volume as a tar. What goes wrong before its first byte is raised here."""

        async def run(pipe: int) -> dict[str, Any]:
            async with AsyncExitStack() as held:
                held.callback(os.close, pipe)  # in case the volume can't be mounted
                directory = await held.enter_async_context(self._visited(name))
                params = {"volume": directory, "name": name, "path": path}
                return await self._workers.run(_JOBS + "pack_files", params, [os.dup(pipe)], paced=True)

        return await JobOutput.begin(run)

    @asynccontextmanager
    async def _visited(self, name: str) -> AsyncIterator[str]:
        visitor = f"visit {next(self._visits)}"
        await self.acquire(name, visitor)
        try:
            yield str(self._store.path(name))
        finally:
            await self.release(name, visitor)

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
        """Remove unused anonymous volumes; with the filter ``all=true`` named ones, too. Those with driver options stay."""
        filters = filters or Filters()
        filters.require_known(_PRUNE_FILTERS)
        everything = filters.flag("all", False)
        removed: Names = []
        reclaimed = 0
        for volume in self._store.all():
            if (
                (not everything and not volume.anonymous)
                or volume.options
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
        async with self._lock(name):
            await self._store.remove(name)
        self._emit("volume", "destroy", name, {"driver": DRIVER})

    def _document(self, volume: Volume) -> dict[str, Any]:
        return {
            "CreatedAt": format_time(volume.created_ns - volume.created_ns % 1_000_000_000),
            "Driver": DRIVER,
            "Labels": volume.labels,
            "Mountpoint": str(self._store.path(volume.name)),
            "Name": volume.name,
            "Options": volume.options,
            "Scope": "local",
        }


def check_driver(name: str, driver: str) -> None:
    """Raise NotFound unless volumes of this driver can be made; ``name`` is the volume's, for the message."""
    if driver not in ("", DRIVER):
        raise NotFound(f'create {name}: error looking up volume plugin {driver}: plugin "{driver}" not found')


def _dangling(filters: Filters) -> bool | None:
    if "dangling" not in filters.values:
        return None
    wanted = sorted(filters.get("dangling"))
    if not wanted:
        raise InvalidParameter("invalid filter 'dangling'")
    if len(wanted) > 1 or wanted[0] not in _DANGLING:
        raise InvalidParameter(f"invalid filter 'dangling=[{' '.join(wanted)}]'")
    return _DANGLING[wanted[0]]
