"""``GET /system/df``: what images, containers, volumes and the build cache take on the disk."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any

from kitepy.engine.model.filters import Filters
from kitepy.engine.services.builds import BuildService
from kitepy.engine.services.container_index import ContainerIndex
from kitepy.engine.services.container_listing import ContainerListing
from kitepy.engine.services.images import ImageService
from kitepy.engine.services.volumes import VolumeService


class DiskUsage:
    """Satisfies ``ports.DiskUsageService``: asks everybody; the parts are counted side by side."""

    def __init__(
        self,
        *,
        index: ContainerIndex,
        listing: ContainerListing,
        images: ImageService,
        volumes: VolumeService,
        builds: BuildService,
    ) -> None:
        self._index = index
        self._listing = listing
        self._images = images
        self._volumes = volumes
        self._builds = builds

    async def document(self, kinds: Collection[str]) -> dict[str, Any]:
        """SystemDataUsageResponse; what is not among ``kinds`` is null, as dockerd has it."""
        images = await self._image_records() if "image" in kinds else None
        containers, volumes, cache = await asyncio.gather(
            self._listing.list(all=True, limit=None, size=True, filters=Filters()) if "container" in kinds else _nothing(),
            self._volumes.usage() if "volume" in kinds else _nothing(),
            self._builds.cache_records() if "build-cache" in kinds else _nothing(),
        )
        return {
            "LayersSize": self._images.layers_size() if "image" in kinds else 0,
            "Images": images,
            "Containers": containers,
            "Volumes": volumes,
            "BuildCache": cache,
        }

    async def _image_records(self) -> list[dict[str, Any]]:
        listed = await self._images.list(shared_size=True, containers=True)
        # Here empty lists are null.
        return [{**image, **{key: image[key] or None for key in ("RepoTags", "RepoDigests")}} for image in listed]


async def _nothing() -> None:
    return None
