"""``GET /containers/json``: which containers, in which order, and each in a few words; made to stay quick with thousands."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from kitepy.engine.model.container import ContainerRecord, MountKind
from kitepy.engine.model.errors import EngineError
from kitepy.engine.model.filters import Filters
from kitepy.engine.model.health import Health
from kitepy.engine.services.container_filters import ContainerFilter
from kitepy.engine.services.container_index import ContainerIndex
from kitepy.engine.services.container_view import Sizes, status_text, summary_document
from kitepy.engine.services.images import ImageService
from kitepy.engine.services.links import all_names
from kitepy.engine.services.record_cache import RecordCache


class ContainerListing:
    """Belongs to one event loop. What changes only with a container's record is kept beside it."""

    def __init__(
        self,
        *,
        index: ContainerIndex,
        images: ImageService,
        health_of: Callable[[str], Health | None],
        volume_path: Callable[[str], object],
        sizes_of: Callable[[Sequence[ContainerRecord]], Awaitable[Sequence[Sizes]]],
    ) -> None:
        self._index = index
        self._images = images
        self._health_of = health_of
        self._volume_path = volume_path
        self._sizes_of = sizes_of
        self._documents = RecordCache(index, self._make)

    async def list(self, all: bool, limit: int | None, size: bool, filters: Filters) -> list[dict[str, Any]]:
        """Summaries, the newest container first."""
        chooser = ContainerFilter(filters, self._index, self._images, self._health_of)
        limited = limit is not None and limit > 0
        every = all or limited or chooser.chooses_status
        records = [
            record for record in self._index if (every or record.state.status.counts_as_running) and chooser.matches(record)
        ]
        records.sort(key=lambda record: record.created_ns, reverse=True)
        if limited:
            del records[limit:]
        now_ns = time.time_ns()
        image_names: dict[tuple[str, str], str] = {}
        answer = []
        for record in records:
            document = self._documents.copy_of(record)
            image = (record.image_reference, record.image_id)
            if image not in image_names:
                image_names[image] = self._image_name(*image)
            document["Image"] = image_names[image]
            health = self._health_of(record.id) if record.state.status.has_process else None
            if linking := self._index.linking(record.id):
                document["Names"] = all_names(record, linking)
            document["Status"] = status_text(record.state, now_ns, health)
            answer.append(document)
        if size:
            for document, sizes in zip(answer, await self._sizes_of(records), strict=True):
                # As dockerd has it, nothing is left out rather than called 0.
                document |= {key: value for key, value in (("SizeRw", sizes.written), ("SizeRootFs", sizes.root)) if value}
        return answer

    def _make(self, record: ContainerRecord) -> dict[str, Any]:
        paths = {point.volume: str(self._volume_path(point.volume)) for point in record.mounts if point.kind is MountKind.VOLUME}
        return summary_document(record, volume_paths=paths)

    def _image_name(self, reference: str, image_id: str) -> str:
        """As the user wrote it while that still means the same image, else the image's id."""
        try:
            return reference if self._images.resolve(reference).id == image_id else image_id
        except EngineError:
            return image_id
