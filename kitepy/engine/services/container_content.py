"""What is mounted in a container: volumes, images and directories of the host are there while somebody uses them."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from kitepy.engine.kernel.mount_table import mount_above
from kitepy.engine.model.container import ContainerRecord, MountKind, MountPoint
from kitepy.engine.model.errors import InvalidParameter, SystemFailure
from kitepy.engine.model.oci import ChainId
from kitepy.engine.services.container_mounts import check_source
from kitepy.engine.services.remapping import Remapping
from kitepy.engine.services.volumes import VolumeService
from kitepy.engine.storage.copy_up import open_part
from kitepy.engine.storage.overlay import OverlayStore
from kitepy.engine.volume.image_mounts import ImageMounts


class ContainerContent:
    """Mounts and unmounts; belongs to one event loop."""

    def __init__(
        self,
        volumes: VolumeService,
        images: ImageMounts,
        overlays: OverlayStore,
        data_root: Path,
        remapping: Remapping | None = None,
    ) -> None:
        self._volumes = volumes
        self._images = images
        self._overlays = overlays
        self._data_root = data_root
        self._remapping = remapping
        self._visits = itertools.count()

    async def prepare(self, record: ContainerRecord) -> None:
        """See to it that all is there for a start; ``release`` undoes it, even after a failure."""
        for point in record.mounts:
            if point.kind is MountKind.VOLUME:
                await self._volumes.ensure(point.volume)
            await self._acquire(record, point, record.id)
            if point.subpath:
                await asyncio.to_thread(check_part, self.source(point), point.subpath)
            if point.kind is MountKind.BIND:
                await asyncio.to_thread(make_source if point.create_source else check_source, point.source)
                if not self._data_root.is_relative_to(point.source):  # there the engine chose it
                    await asyncio.to_thread(check_propagation, point.source, point.propagation)

    async def release(self, record: ContainerRecord) -> None:
        """The container doesn't use it any more; safe to call twice."""
        for point in record.mounts:
            await self._release(point, record.id)

    @asynccontextmanager
    async def visited(self, record: ContainerRecord) -> AsyncIterator[None]:
        """While this lasts, volumes and images are where a container that doesn't run would find them."""
        visitor = f"visit {next(self._visits)} of {record.id}"
        try:
            for point in record.mounts:
                await self._acquire(record, point, visitor)
            yield
        finally:
            for point in record.mounts:
                await self._release(point, visitor)

    async def adopt(self, running: list[ContainerRecord]) -> None:
        """Take over what an engine before has mounted for containers that still run, and take away the rest."""
        await self._volumes.adopt({record.id: [point.volume for point in record.mounts] for record in running})
        await self._images.adopt(
            [(record.id, [point.source for point in record.mounts if point.kind is MountKind.IMAGE]) for record in running]
        )

    def source(self, point: MountPoint) -> str:
        """The directory or file behind a mount point."""
        return str(self._volumes.path(point.volume)) if point.kind is MountKind.VOLUME else point.source

    async def _acquire(self, record: ContainerRecord, point: MountPoint, holder: str) -> None:
        if point.kind is MountKind.VOLUME:
            await self._volumes.acquire(point.volume, holder)
        elif point.kind is MountKind.IMAGE:
            layers = self._overlays.read_only(ChainId(point.top_layer) if point.top_layer else None)
            remapping = None if record.host_config.userns_mode == "host" else self._remapping
            ids = (remapping.uids, remapping.gids) if remapping is not None else None
            await self._images.acquire(point.source, layers, holder, ids)

    async def _release(self, point: MountPoint, holder: str) -> None:
        if point.kind is MountKind.VOLUME:
            await self._volumes.release(point.volume, holder)
        elif point.kind is MountKind.IMAGE:
            await self._images.release(point.source, holder)


def make_source(path: str) -> None:
    """Make the host's directory that is to be mounted, unless there is something; raises InvalidParameter."""
    if os.path.lexists(path):
        return
    try:
        os.makedirs(path, 0o755, exist_ok=True)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InvalidParameter(f"error while creating mount source path '{path}': mkdir {error.filename}: {reason}") from None


def check_propagation(source: str, propagation: str) -> None:
    """A bind can follow or share only mounts that are shared themselves; raises SystemFailure, worded as dockerd does."""
    wanted = {"shared": {"shared"}, "slave": {"shared", "master"}}.get(propagation.removeprefix("r"))
    if wanted is None:
        return
    above = mount_above(os.path.realpath(source))
    if above is not None and not above.propagation & wanted:
        kind = "shared or slave" if "master" in wanted else "shared"
        raise SystemFailure(f"path {source} is mounted on {above.point} but it is not a {kind} mount")


def check_part(base: str, part: str) -> None:
    """A part of a volume that is to be mounted must be there, and inside; raises NotFound and InvalidParameter."""
    base_fd = os.open(base, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.close(open_part(base_fd, base, part))
    finally:
        os.close(base_fd)
