"""Use cases of images: find, list, describe, tag, create; removal, load, save and import have modules of their own."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from kitepy.engine.model.errors import InvalidParameter, NotFound
from kitepy.engine.model.filters import Filters
from kitepy.engine.model.image import Image
from kitepy.engine.model.oci import ChainId, Digest
from kitepy.engine.model.platform import Platform
from kitepy.engine.model.reference import Reference, parse_reference
from kitepy.engine.services import image_views
from kitepy.engine.services.events import Emit
from kitepy.engine.services.image_import import ApplyChanges, ImageImporter, OpenWebFile
from kitepy.engine.services.image_load import ImageLoader
from kitepy.engine.services.image_removal import ImageRemoval, InUse
from kitepy.engine.services.image_save import ImageSaver
from kitepy.engine.services.ports import ImportRequest
from kitepy.engine.storage.content import ContentStore
from kitepy.engine.storage.images import ImageStore, Listed
from kitepy.engine.storage.layers import LayerStore
from kitepy.engine.storage.worker import WorkerPool

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
        images_in_use: Callable[[], Iterable[str]],
        apply_changes: ApplyChanges,
        open_web_file: OpenWebFile,
    ) -> None:
        self._data_root = data_root
        self._images = images
        self._layers = layers
        self._emit_event = emit
        self._images_in_use = images_in_use
        self._removal = ImageRemoval(images, layers, content, in_use, self._announce, emit)
        self._loader = ImageLoader(images, layers, content, workers, self._announce)
        self._saver = ImageSaver(images, layers, content, workers, self._announce)
        self._importer = ImageImporter(images, layers, content, workers, self._announce, apply_changes, open_web_file)

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
        self._images.set_tag(reference, image.id, by_user=True)
        self._announce("tag", image, reference.familiar)

    # The API

    async def list(
        self, *, all: bool = False, filters: Filters | None = None, shared_size: bool = False, containers: bool = False
    ) -> Records:
        """Summaries, newest first. Without ``all``, untagged images that others were built from are left out."""
        chosen = image_views.read_list_filters(filters or Filters(), self._images.resolve)
        listed = self._images.all()
        parents = {item.image.parent_id for item in listed}
        sizes = self._shared_sizes(listed) if shared_size else {}
        users = Counter(self._images_in_use()) if containers else None
        answer: Records = []
        for item in listed:
            is_parent = item.image.id in parents
            references = chosen.references(item, is_parent=is_parent, all=all)
            if references is not None:
                count = -1 if users is None else users[item.image.id]
                answer.append(image_views.summary(item.image, references, sizes.get(item.image.id, -1), count))
        return answer

    async def inspect(self, name: str, platform: Platform | None = None) -> dict[str, Any]:
        """The ImageInspect document; raises ``NotFound`` when the image is for another platform."""
        image = self._find(name, platform)
        return image_views.inspection(self._images.describe(image), self._layers.stack(image.top_layer), self._data_root)

    async def history(self, name: str, platform: Platform | None = None) -> Records:
        """The HistoryResponseItem documents, newest first."""
        image = self._find(name, platform)
        known: dict[int, tuple[str, tuple[Reference, ...]]] = {}
        ancestor: Image | None = image
        while ancestor is not None:
            position = len(ancestor.document.history) - 1
            known.setdefault(position, (ancestor.id, self._images.tags(ancestor.id)))
            ancestor = self._parent_of(ancestor)
        return image_views.history(image, self._layers.stack(image.top_layer), known)

    async def tag(self, name: str, repository: str, tag: str) -> None:
        """``POST /images/{name}/tag``; an empty tag means ``latest``."""
        if not repository:
            return  # dockerd takes it for a wish for no tag
        reference = parse_reference(repository)
        if tag:
            reference = reference.with_tag(tag)
        if reference.digest is not None:
            raise InvalidParameter("cannot import digest reference")
        if reference.familiar_name == "sha256":
            raise InvalidParameter("refusing to create an ambiguous tag using digest algorithm as name")
        self.set_tag(self._images.resolve(name), reference)

    async def remove(
        self, name: str, force: bool = False, prune_parents: bool = True, platform: Platform | None = None
    ) -> Records:
        """Remove a reference, and the image with its last one; or by id, the image; as ImageDeleteResponseItem."""
        return await self._removal.remove(name, force=force, prune_parents=prune_parents, platform=platform)

    async def prune(self, filters: Filters | None = None) -> dict[str, Any]:
        """Remove untagged images that no container uses; with ``dangling=false`` tagged ones, too."""
        return await self._removal.prune(filters or Filters())

    def load(
        self, content: AsyncIterator[bytes], quiet: bool = True, platform: Platform | None = None
    ) -> AsyncIterator[dict[str, Any]]:
        """Take in an archive that ``save``, docker, skopeo or a builder wrote; gives progress messages."""
        return self._loader.load(content, quiet=quiet, platform=platform)

    def import_archive(self, content: AsyncIterator[bytes], request: ImportRequest) -> AsyncIterator[dict[str, Any]]:
        """Make an image of a root file system's tar; the last message's status is the id."""
        return self._importer.import_archive(content, request)

    def import_url(self, url: str, request: ImportRequest) -> AsyncIterator[dict[str, Any]]:
        """The same with a tar from the web, which an error before the first message says is not there."""
        return self._importer.import_url(url, request)

    def save(self, names: Sequence[str], platform: Platform | None = None) -> AsyncIterator[bytes]:
        """A docker-archive that is an OCI layout as well; names and platform are checked before the first piece."""
        return self._saver.save(names, platform)

    # Inside

    def _find(self, name: str, platform: Platform | None) -> Image:
        image = self._images.resolve(name)
        if platform is not None:
            image.check_platform(platform, name)
        return image

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

    def _shared_sizes(self, listed: Sequence[Listed]) -> dict[Digest, int]:
        stacks = {item.image.id: self._layers.stack(item.image.top_layer) for item in listed}
        uses: dict[int, int] = {}
        for stack in stacks.values():
            for layer in stack:
                uses[layer.number] = uses.get(layer.number, 0) + 1
        return {image: sum(layer.size_bytes for layer in stack if uses[layer.number] > 1) for image, stack in stacks.items()}
