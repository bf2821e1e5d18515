"""Use cases of images: find, list, describe, tag, remove, prune, create; archives are ``image_archives.py``'s.

What removal may do, and its wording, follows dockerd: tags first, then the image when nothing names or uses it.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kitepy.engine.model.errors import Conflict, NotFound
from kitepy.engine.model.filters import Filters
from kitepy.engine.model.ids import short_id
from kitepy.engine.model.image import Image
from kitepy.engine.model.oci import ChainId, Digest, ImageConfig
from kitepy.engine.model.reference import Reference, parse_reference
from kitepy.engine.services import image_views
from kitepy.engine.services.image_archives import ImageArchives
from kitepy.engine.storage.content import ContentStore
from kitepy.engine.storage.images import ImageStore, Listed
from kitepy.engine.storage.layers import LayerStore
from kitepy.engine.storage.worker import WorkerPool

Emit = Callable[[str, str, str, Mapping[str, str]], None]
"""(type, action, actor id, attributes)."""
InUse = Callable[[str], Sequence[tuple[str, bool]]]
"""Containers of an image: (container id, whether it runs)."""
ApplyChanges = Callable[[ImageConfig, Sequence[str]], ImageConfig]
"""Applies Dockerfile instructions (``import --change``) to a configuration."""
Records = list[dict[str, Any]]
"""JSON documents as the API gives them."""


class ImageService:
    """Images on this machine."""

    def __init__(
        self,
        data_root: Path,
        images: ImageStore,
        layers: LayerStore,
        content: ContentStore,
        workers: WorkerPool,
        *,
        emit: Emit,
        in_use: InUse,
        apply_changes: ApplyChanges,
    ) -> None:
        self._data_root = data_root
        self._images = images
        self._layers = layers
        self._emit_event = emit
        self._in_use = in_use
        self._archives = ImageArchives(images, layers, content, workers, self._announce, apply_changes)

    # For other services

    def resolve(self, name: str) -> Image:
        """The image with this reference, id or beginning of an id; raises ``NotFound`` or ``InvalidParameter``."""
        return self._images.resolve(name)

    def get(self, image_id: Digest) -> Image:
        """The image with this full id; raises ``NotFound``."""
        return self._images.get(image_id)

    def tags(self, image_id: Digest) -> tuple[Reference, ...]:
        """The tags of an image."""
        return self._images.tags(image_id)

    def count(self) -> int:
        """How many images there are."""
        return self._images.count()

    def layers_size(self) -> int:
        """Bytes of all layers that images have, each counted once."""
        tops = {item.image.top_layer for item in self._images.all()}
        return sum({layer.number: layer.size_bytes for top in tops for layer in self._layers.stack(top)}.values())

    def create_image(
        self, raw_config: bytes, layers: Sequence[ChainId] | None = None, *, parent_id: Digest | None = None
    ) -> Image:
        """Record an image made here (build, commit); its layers are in the layer store.

        ``layers``, when given, are checked against the configuration's diff ids.
        """
        return self._images.add(raw_config, parent_id=parent_id, expected_layers=layers)

    def announce_created(self, image: Image) -> None:
        """Tell that an image was made here of something that is no image."""
        self._announce("create", image)

    def set_tag(self, image: Image, reference: Reference) -> None:
        """Tag an image, taking the tag from whichever image had it."""
        reference = reference.with_default_tag()
        self._images.set_tag(reference, image.id)
        self._announce("tag", image, reference.familiar)

    # The API

    async def list(
        self, all: bool = False, filters: Filters | None = None, shared_size: bool = False, digests: bool = False
    ) -> Records:
        """Summaries, newest first. Without ``all``, untagged images that others were built from are left out."""
        del digests  # they are always given
        filters = filters or Filters()
        filters.require_known(image_views.LIST_FILTERS)
        listed = self._images.all()
        wanted = self._created_between(filters)
        dangling = filters.flag("dangling", False) if "dangling" in filters else None
        parents = {item.image.parent_id for item in listed}
        sizes = self._shared_sizes(listed) if shared_size else {}
        answer: Records = []
        for item in listed:
            if not wanted(item.image) or not filters.labels(item.image.config.labels):
                continue
            if dangling is not None and dangling != (not item.tags):
                continue
            if not item.tags and not all and item.image.id in parents:
                continue
            tags = image_views.matching_tags(filters, item.tags)
            if tags is not None:
                answer.append(image_views.summary(item, tags, sizes.get(item.image.id, -1)))
        return answer

    async def inspect(self, name: str) -> dict[str, Any]:
        """The ImageInspect document."""
        image = self._images.resolve(name)
        return image_views.inspection(self._images.describe(image), self._layers.stack(image.top_layer), self._data_root)

    async def history(self, name: str) -> Records:
        """The HistoryResponseItem documents, newest first."""
        image = self._images.resolve(name)
        known: dict[int, tuple[str, tuple[Reference, ...]]] = {}
        ancestor: Image | None = image
        while ancestor is not None:
            position = len(ancestor.document.history or ancestor.layers) - 1
            known.setdefault(position, (ancestor.id, self._images.tags(ancestor.id)))
            ancestor = self._parent_of(ancestor)
        return image_views.history(image, self._layers.stack(image.top_layer), known)

    async def tag(self, name: str, repository: str, tag: str) -> None:
        """``POST /images/{name}/tag``; an empty tag means ``latest``."""
        image = self._images.resolve(name)
        reference = parse_reference(repository)
        self.set_tag(image, reference.with_tag(tag) if tag else reference)

    async def remove(self, name: str, force: bool = False, prune_parents: bool = True) -> Records:
        """Remove a tag, and the image with its last one; or by id, the image with all its tags.

        Gives what was done as ImageDeleteResponseItem. Raises ``Conflict`` worded as dockerd has it.
        """
        image = self._images.resolve(name)
        records: Records = []
        tags = self._images.tags(image.id)
        reference = self._images.as_reference(name)
        if reference is not None:
            user = next(iter(self._in_use(image.id)), None)
            if not force and len(tags) <= 1 and user is not None:
                raise Conflict(
                    f"conflict: unable to remove repository reference {_quoted(name)} (must force) - container "
                    f"{short_id(user[0])} is using its referenced image {short_id(image.id)}"
                )
            # name@digest names the image through whatever tags that repository has.
            for tag in [reference] if reference.tag is not None else [tag for tag in tags if tag.name == reference.name]:
                self._untag(image, tag, records)
            if self._images.tags(image.id):
                return records
        elif len(tags) <= 1:
            self._check_unused(image, force)
            for tag in tags:
                self._untag(image, tag, records)
        elif not force:
            raise Conflict(
                f"conflict: unable to delete {short_id(image.id)} (must be forced) - image is referenced in multiple repositories"
            )
        await self._delete(image, records, force=force, prune_parents=prune_parents, quiet=reference is not None)
        return records

    async def prune(self, filters: Filters | None = None) -> dict[str, Any]:
        """Remove untagged images that no container uses; with ``dangling=false`` tagged ones, too."""
        filters = filters or Filters()
        filters.require_known(image_views.PRUNE_FILTERS)
        dangling_only = filters.flag("dangling", True)
        until = image_views.until_ns(filters, time.time_ns())
        deleted: Records = []
        before = self._layers.total_size()
        for item in self._images.all():
            labels = item.image.config.labels
            if (
                (dangling_only and item.tags)
                or (until is not None and item.image.created_ns >= until)
                or not filters.labels(labels)
                or not filters.without_labels(labels)
                or self._in_use(item.image.id)
            ):
                continue
            for tag in item.tags:
                self._untag(item.image, tag, deleted)
            self._images.delete(item.image.id)
            deleted.append({"Deleted": item.image.id})
            self._announce("delete", item.image)
        await self._collect(deleted)
        reclaimed = before - self._layers.total_size()
        self._emit_event("image", "prune", "", {"reclaimed": str(reclaimed)})
        return {"ImagesDeleted": deleted or None, "SpaceReclaimed": reclaimed}

    def load(self, content: AsyncIterator[bytes], quiet: bool = True) -> AsyncIterator[dict[str, Any]]:
        """Take in an archive that ``save``, docker, skopeo or a builder wrote; gives progress messages."""
        return self._archives.load(content, quiet)

    def import_archive(
        self, content: AsyncIterator[bytes], repository: str, tag: str, message: str, changes: Sequence[str], platform: str | None
    ) -> AsyncIterator[dict[str, Any]]:
        """Make an image of a root file system's tar; the last message's status is the id."""
        return self._archives.import_archive(content, repository, tag, message, changes, platform)

    def save(self, names: Sequence[str]) -> AsyncIterator[bytes]:
        """A docker-archive that is an OCI layout as well; the names are checked before the first piece."""
        return self._archives.save(names)

    # Inside

    async def _delete(self, image: Image, records: Records, *, force: bool, prune_parents: bool, quiet: bool) -> None:
        current: Image | None = image
        while current is not None:
            try:
                self._check_unused(current, force and current is image)
            except Conflict:
                # The tag is gone, as was asked for; the image behind it stays for its containers.
                if quiet or current is not image:
                    break
                raise
            parent = self._parent_of(current)
            for tag in self._images.tags(current.id):
                self._untag(current, tag, records)
            self._images.delete(current.id)
            records.append({"Deleted": current.id})
            self._announce("delete", current)
            removable = parent is not None and not self._images.tags(parent.id) and not self._images.children(parent.id)
            current = parent if prune_parents and removable else None
        await self._collect(records)

    async def _collect(self, records: Records) -> None:
        records.extend({"Deleted": layer.chain_id} for layer in self._layers.mark_garbage())
        await self._layers.remove_marked()

    def _check_unused(self, image: Image, force: bool) -> None:
        users = self._in_use(image.id)
        running = next((container for container, is_running in users if is_running), None)
        if running is not None:
            raise Conflict(
                f"conflict: unable to delete {short_id(image.id)} (cannot be forced) - "
                f"image is being used by running container {short_id(running)}"
            )
        if users and not force:
            raise Conflict(
                f"conflict: unable to delete {short_id(image.id)} (must be forced) - "
                f"image is being used by stopped container {short_id(users[0][0])}"
            )

    def _untag(self, image: Image, tag: Reference, records: Records) -> None:
        if self._images.remove_tag(tag):
            records.append({"Untagged": tag.familiar})
            self._announce("untag", image)

    def _parent_of(self, image: Image) -> Image | None:
        if image.parent_id is None:
            return None
        try:
            return self._images.get(image.parent_id)
        except NotFound:
            return None

    def _announce(self, action: str, image: Image, name: str | None = None) -> None:
        # As dockerd has it, the labels of an image that is gone aren't known any more.
        labels = {} if action == "delete" else image.config.labels
        self._emit_event("image", action, image.id, {**labels, "name": name or image.id})

    def _created_between(self, filters: Filters) -> Callable[[Image], bool]:
        before, since = filters.single("before"), filters.single("since")
        newest = self._images.resolve(before).created_ns if before else None
        oldest = self._images.resolve(since).created_ns if since else None
        until = image_views.until_ns(filters, time.time_ns())

        def wanted(image: Image) -> bool:
            return (
                (newest is None or image.created_ns < newest)
                and (oldest is None or image.created_ns > oldest)
                and (until is None or image.created_ns < until)
            )

        return wanted

    def _shared_sizes(self, listed: Sequence[Listed]) -> dict[Digest, int]:
        stacks = {item.image.id: self._layers.stack(item.image.top_layer) for item in listed}
        uses: dict[int, int] = {}
        for stack in stacks.values():
            for layer in stack:
                uses[layer.number] = uses.get(layer.number, 0) + 1
        return {image: sum(layer.size_bytes for layer in stack if uses[layer.number] > 1) for image, stack in stacks.items()}


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '\\"') + '"'
