"""Images that containers have mounted, each in a directory of its own while somebody uses it.

::

    mounts/<container id>/<number>    where the image's layers are mounted, read-only

The mounts are in the engine's mount namespace and outlive it, as those of volumes do; what nobody uses any more is taken away at
the next start. Who uses them is told by ``acquire`` and ``release``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from weakref import WeakValueDictionary

from kitepy.engine.kernel.mount_table import mount_points
from kitepy.engine.kernel.user_namespaces import IdMap
from kitepy.engine.model.errors import SystemFailure
from kitepy.engine.model.launch import OverlayRoot
from kitepy.engine.storage.worker import WorkerPool

log = logging.getLogger(__name__)

_JOBS = "kitepy.engine.volume.mount_jobs:"


class ImageMounts:
    """The mounted images below one data root. Belongs to one event loop."""

    def __init__(self, data_root: Path, workers: WorkerPool) -> None:
        self._root = data_root / "mounts"
        self._workers = workers
        self._holders: defaultdict[str, set[str]] = defaultdict(set)
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def place(self, container_id: str, number: int) -> str:
        """The directory for an image that a container mounts."""
        return str(self._root / container_id / str(number))

    async def acquire(self, place: str, layers: OverlayRoot, holder: str, ids: tuple[IdMap, IdMap] | None = None) -> None:
        """Have the image at its place until ``release``; ``ids`` are what a remapped container's are mapped to."""
        async with self._lock(place):
            if place not in mount_points():
                await asyncio.to_thread(os.makedirs, place, 0o711, exist_ok=True)
                params = {
                    "base": str(layers.base),
                    "lower": list(layers.lower),
                    "flavour": layers.flavour.value,
                    "target": place,
                    "ids": None if ids is None else [[list(row) for row in part.ranges] for part in ids],
                }
                await self._workers.run(_JOBS + "mount_image", params, [_own_mount_namespace()])
            self._holders[place].add(holder)

    async def release(self, place: str, holder: str) -> None:
        """Undo ``acquire``; the last one unmounts. Safe to call twice."""
        async with self._lock(place):
            holders = self._holders.get(place, set())
            holders.discard(holder)
            if not holders:
                self._holders.pop(place, None)
                await self._remove(place)

    async def adopt(self, running: Iterable[tuple[str, Sequence[str]]]) -> None:
        """Take over what an engine before has mounted: pairs of a container that runs and its places."""
        for container_id, places in running:
            for place in places:
                self._holders[place].add(container_id)
        for point in await asyncio.to_thread(mount_points):
            if Path(point).is_relative_to(self._root) and point not in self._holders:
                await self._remove(point)

    async def _remove(self, place: str) -> None:
        try:
            if place in mount_points():
                await self._workers.run(_JOBS + "unmount_volume", {"target": place}, [_own_mount_namespace()])
        except SystemFailure as error:
            log.warning("%s", error)
            return
        with contextlib.suppress(OSError):  # another image of the container may be beside it
            os.rmdir(place)
            os.rmdir(os.path.dirname(place))

    def _lock(self, place: str) -> asyncio.Lock:
        return self._locks.setdefault(place, asyncio.Lock())


def _own_mount_namespace() -> int:
    return os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
