"""Removing images: tags, then the image that nothing names or uses, then parents that nobody wants; and pruning.

What is allowed, the wording and the order of records and events follow dockerd.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Flag, auto
from typing import Any

from kitepy.engine.model.errors import Conflict, NotFound, SystemFailure
from kitepy.engine.model.filters import Filters
from kitepy.engine.model.ids import short_id
from kitepy.engine.model.image import Image
from kitepy.engine.model.oci import Digest
from kitepy.engine.model.platform import Platform
from kitepy.engine.model.reference import Reference, parse_reference
from kitepy.engine.services import image_views
from kitepy.engine.services.events import Emit
from kitepy.engine.storage.content import ContentStore
from kitepy.engine.storage.images import ImageStore, Listed
from kitepy.engine.storage.layers import LayerStore

Records = list[dict[str, Any]]
"""ImageDeleteResponseItem documents."""
InUse = Callable[[str, bool], Sequence[tuple[str, bool]]]
"""Containers of an image, and those that mount it if these are asked for: (container id, whether it runs)."""


class Obstacle(Flag):
    """What may keep an image from being deleted."""

    CHILD = auto()
    RUNNING = auto()
    REFERENCE = auto()
    STOPPED = auto()
    HARD = CHILD | RUNNING
    SOFT = REFERENCE | STOPPED
    """What force overcomes."""


@dataclass(frozen=True)
class _Found:
    obstacle: Obstacle
    message: str


class ImageRemoval:
    """Deletes and prunes on behalf of the image service."""

    def __init__(
        self,
        images: ImageStore,
        layers: LayerStore,
        content: ContentStore,
        in_use: InUse,
        announce: Callable[[str, Image], None],
        emit: Emit,
    ) -> None:
        self._images = images
        self._layers = layers
        self._content = content
        self._in_use = in_use
        self._announce = announce
        self._emit = emit
        self._pruning = False

    async def remove(self, name: str, *, force: bool, prune_parents: bool, platform: Platform | None = None) -> Records:
        """Remove a reference, and the image with its last one; or by id, the image with the references it has in one repository.

        Raises ``Conflict`` worded as dockerd has it.
        """
        image = self._images.resolve(name)
        if platform is not None:
            image.check_platform(platform, name)
        records: Records = []
        try:
            self._remove(image, name, records, force=force, prune_parents=prune_parents)
        finally:
            await self._layers.begin_removing()
        return records

    async def prune(self, filters: Filters) -> dict[str, Any]:
        """Remove unreferenced images that no container uses; with ``dangling=false`` all that no container uses."""
        if self._pruning:
            raise Conflict("a prune operation is already running")
        self._pruning = True
        try:
            return await self._prune(filters)
        finally:
            self._pruning = False

    # Inside

    def _remove(self, image: Image, name: str, records: Records, *, force: bool, prune_parents: bool) -> None:
        references = self._images.references(image.id)
        single = _in_one_repository(references)
        by_id = image.id.startswith(name) or image.id.removeprefix("sha256:").startswith(name)
        if by_id:
            if single:
                self._check(image, Obstacle.HARD if force else Obstacle.HARD | Obstacle.STOPPED)
                for reference in references:
                    self._untag(image, reference, records)
        else:
            user = next(iter(self._in_use(image.id, True)), None)
            if not force and single and user is not None:
                raise Conflict(
                    f"conflict: unable to remove repository reference {_quoted(name)} (must force) - container "
                    f"{short_id(user[0])} is using its referenced image {short_id(image.id)}"
                )
            reference = parse_reference(name).with_default_tag()
            self._untag(image, reference, records)
            if reference.digest is None:
                self._forget_digests(image, reference.name, records)
            if self._images.references(image.id):
                return
        self._delete(image, records, force=force, prune_parents=prune_parents, quiet=not by_id)

    def _forget_digests(self, image: Image, repository: str, records: Records) -> None:
        """With the last tag of a repository its digests go; without events, as dockerd has it."""
        own = [reference for reference in self._images.references(image.id) if reference.name == repository]
        if all(reference.digest is not None for reference in own):
            for reference in own:
                self._images.remove_reference(reference)
                records.append({"Untagged": reference.familiar})

    def _delete(self, image: Image, records: Records, *, force: bool, prune_parents: bool, quiet: bool) -> None:
        found = self._obstacle(image, Obstacle.HARD if force else Obstacle.HARD | Obstacle.SOFT)
        if found is not None:
            used = bool(found.obstacle & (Obstacle.RUNNING | Obstacle.STOPPED))
            dangling = not self._images.references(image.id) and not self._images.children(image.id)
            if quiet and (used or not dangling):
                return
            raise Conflict(found.message)
        parent = self._parent_of(image)
        for reference in self._images.references(image.id):
            self._untag(image, reference, records)
        self._images.delete(image.id)
        self._announce("delete", image)
        records.append({"Deleted": image.id})
        records.extend({"Deleted": layer.chain_id} for layer in self._layers.mark_unused(image.layers))
        if prune_parents and parent is not None:
            self._delete(parent, records, force=False, prune_parents=True, quiet=True)

    def _check(self, image: Image, obstacles: Obstacle) -> None:
        found = self._obstacle(image, obstacles)
        if found is not None:
            raise Conflict(found.message)

    def _obstacle(self, image: Image, among: Obstacle) -> _Found | None:
        short = short_id(image.id)
        # Who mounts an image keeps its layers, and needs no more of it.
        users = self._in_use(image.id, False)
        if Obstacle.CHILD in among and self._images.children(image.id):
            reason = "image has dependent child images"
            return _Found(Obstacle.CHILD, f"conflict: unable to delete {short} (cannot be forced) - {reason}")
        running = next((container for container, is_running in users if is_running), None)
        if Obstacle.RUNNING in among and running is not None:
            reason = f"image is being used by running container {short_id(running)}"
            return _Found(Obstacle.RUNNING, f"conflict: unable to delete {short} (cannot be forced) - {reason}")
        if Obstacle.REFERENCE in among and self._images.references(image.id):
            reason = "image is referenced in multiple repositories"
            return _Found(Obstacle.REFERENCE, f"conflict: unable to delete {short} (must be forced) - {reason}")
        stopped = next((container for container, is_running in users if not is_running), None)
        if Obstacle.STOPPED in among and stopped is not None:
            reason = f"image is being used by stopped container {short_id(stopped)}"
            return _Found(Obstacle.STOPPED, f"conflict: unable to delete {short} (must be forced) - {reason}")
        return None

    def _untag(self, image: Image, reference: Reference, records: Records) -> None:
        self._images.remove_reference(reference)
        records.append({"Untagged": reference.familiar})
        self._announce("untag", image)

    def _parent_of(self, image: Image) -> Image | None:
        try:
            return self._images.get(image.parent_id) if image.parent_id is not None else None
        except NotFound:
            return None

    async def _prune(self, filters: Filters) -> dict[str, Any]:
        filters.require_known(image_views.PRUNE_FILTERS)
        dangling_only = filters.flag("dangling", True)
        until = _until(filters)
        sizes = {layer.chain_id: layer.size_bytes for layer in self._layers.all()}
        deleted: Records = []
        for item in self._images.all():
            if self._is_wanted(item, filters, until) and not (dangling_only and item.tags):
                self._prune_one(item.image.id, deleted)
        await self._layers.remove_marked()
        reclaimed = sum(sizes.get(record["Deleted"], 0) for record in deleted if "Deleted" in record)
        if not any(name in filters for name in image_views.PRUNE_FILTERS if name != "dangling"):
            # What cancelled pulls left has neither labels nor an age that anybody means.
            reclaimed += await asyncio.to_thread(self._content.remove_partials)
        self._emit("image", "prune", "", {"reclaimed": str(reclaimed)})
        return {"ImagesDeleted": deleted or None, "SpaceReclaimed": reclaimed}

    def _is_wanted(self, item: Listed, filters: Filters, until: int | None) -> bool:
        image = item.image
        if not item.tags and not item.digests and self._images.children(image.id):
            return False  # it goes with its last child
        if until is not None and (not image.document.created or image.created_ns > until):
            return False
        labels = image.config.labels
        return filters.labels(labels) and not ("label!" in filters and filters.labels(labels, "label!"))

    def _prune_one(self, image_id: Digest, deleted: Records) -> None:
        names = [str(reference) for reference in self._images.references(image_id)] or [image_id.removeprefix("sha256:")]
        for name in names:
            records: Records = []
            try:
                self._remove(self._images.resolve(name), name, records, force=False, prune_parents=True)
            except (Conflict, NotFound):
                continue  # a container has it, or it went with a child
            deleted += records


def _in_one_repository(references: Sequence[Reference]) -> bool:
    """Whether there are references, of one repository only and with one tag at most."""
    tags = [reference for reference in references if reference.digest is None]
    return len({reference.name for reference in references}) == 1 and len(tags) <= 1


def _until(filters: Filters) -> int | None:
    values = filters.get("until")
    if len(values) > 1:
        raise SystemFailure("more than one until filter specified")
    return image_views.until_ns(values[0], time.time_ns()) if values else None


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '\\"') + '"'
