"""``docker save``: images as one archive that is a docker archive and an OCI layout at once, as current dockers write it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from kitepy.engine.model.errors import InvalidParameter, NotFound, SystemFailure
from kitepy.engine.model.ids import is_id_prefix
from kitepy.engine.model.image import Image
from kitepy.engine.model.oci import (
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    Descriptor,
    Digest,
    digest_of,
    parse_manifest,
)
from kitepy.engine.model.platform import Platform
from kitepy.engine.model.reference import Reference, parse_reference
from kitepy.engine.services.archive_pipe import drain
from kitepy.engine.services.image_load import Announce
from kitepy.engine.storage.content import ContentStore
from kitepy.engine.storage.images import ImageStore
from kitepy.engine.storage.layer_index import Layer
from kitepy.engine.storage.layers import LayerStore
from kitepy.engine.storage.worker import WorkerPool


class ImageSaver:
    """Saves on behalf of the image service."""

    def __init__(
        self, images: ImageStore, layers: LayerStore, content: ContentStore, workers: WorkerPool, announce: Announce
    ) -> None:
        self._images = images
        self._layers = layers
        self._content = content
        self._workers = workers
        self._announce = announce

    def save(self, names: Sequence[str], platform: Platform | None = None) -> AsyncIterator[bytes]:
        """The archive's bytes. Raises here and now when a name is unknown, or an image for another platform."""
        chosen = self._choose(names)
        for image_id in chosen:
            if platform is not None and not platform.is_exactly(self._images.get(image_id).platform):
                raise SystemFailure(f"no suitable export target found for platform {platform}")
        return self._write(chosen)

    async def _write(self, chosen: dict[Digest, tuple[Reference, ...]]) -> AsyncIterator[bytes]:
        with contextlib.ExitStack() as holds:
            images = []
            for image_id, tags in chosen.items():
                image = self._images.get(image_id)
                holds.enter_context(self._layers.hold(image.top_layer))
                stored = self._images.describe(image).manifest
                images.append(_Saved(image, tags, self._layers.stack(image.top_layer), stored))
            members, root = _archive_members(images), self._content.blobs
            for saved in images:
                self._announce("save", saved.image, None)
            job = "kitepy.engine.storage.jobs:write_archive"
            params = {"root": str(root), "members": members}
            async for piece in drain(lambda pipe: self._workers.run(job, params, [pipe], paced=True)):
                yield piece

    def _choose(self, names: Sequence[str]) -> dict[Digest, tuple[Reference, ...]]:
        chosen: dict[Digest, list[Reference]] = {}
        for name in names:
            for image_id, tag in self._named(name):
                held = chosen.setdefault(image_id, [])
                if tag is not None and tag not in held:
                    held.append(tag)
        return {image_id: tuple(tags) for image_id, tags in chosen.items()}

    def _named(self, name: str) -> Iterator[tuple[Digest, Reference | None]]:
        """Images and the tags they are saved with; raises with dockerd's statuses and wording."""
        bare = name.removeprefix("sha256:")
        if is_id_prefix(bare) and len(bare) == 64:
            try:
                yield self._images.get(Digest(f"sha256:{bare}")).id, None
            except NotFound:
                raise NotFound(f"failed to get digest sha256:{bare}: no such file or directory") from None
            return
        try:
            reference = parse_reference(name)
        except InvalidParameter as error:
            raise SystemFailure(str(error)) from None
        # A bare repository stands for all of its tags, or is the beginning of an id.
        tags = self._images.tags_of_repository(reference.name) if reference.is_name_only else ()
        for tag in tags:
            yield self._images.resolve(str(tag)).id, tag
        if tags:
            return
        if reference.is_name_only or reference.familiar_name == "sha256":
            try:
                yield self._images.resolve(name).id, None
            except NotFound:
                raise NotFound(f"No such image: {name}") from None
        else:
            image = self._images.find(reference)
            if image is None:
                raise NotFound("reference does not exist")
            yield image.id, reference if reference.digest is None else None


@dataclass(frozen=True)
class _Saved:
    image: Image
    tags: tuple[Reference, ...]
    layers: tuple[Layer, ...]
    stored_manifest: bytes | None

    @property
    def config(self) -> Descriptor:
        return Descriptor(OCI_CONFIG, self.image.id, len(self.image.raw_config))

    @property
    def blobs(self) -> list[Descriptor]:
        """The layers as they are in the archive."""
        found = []
        for layer in self.layers:
            if layer.blob_digest is None:
                raise InvalidParameter(f"image {self.image.id} can't be saved: layer {layer.chain_id} has no archive")
            found.append(Descriptor(layer.media_type or OCI_LAYER, layer.blob_digest, layer.blob_size))
        return found

    def manifest(self) -> bytes:
        """The manifest the image came with, as long as it describes what will be in the archive; else a fresh one."""
        if self.stored_manifest is not None:
            listed = parse_manifest(self.stored_manifest)
            if [layer.digest for layer in listed.layers] == [blob.digest for blob in self.blobs]:
                return self.stored_manifest
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": self.config.to_json(),
            "layers": [blob.to_json() for blob in self.blobs],
        }
        return json.dumps(document, separators=(",", ":")).encode()

    def listed(self, among: Sequence[_Saved]) -> dict[str, Any]:
        """Its item of manifest.json; its parent is told when that is saved, too."""
        item: dict[str, Any] = {
            "Config": _blob_name(self.image.id),
            "RepoTags": [tag.familiar for tag in self.tags] or None,
            "Layers": [_blob_name(blob.digest) for blob in self.blobs],
        }
        if self.image.parent_id in {saved.image.id for saved in among}:
            item["Parent"] = self.image.parent_id
        if self.layers:
            item["LayerSources"] = {
                layer.diff_id: {"mediaType": blob.media_type, "size": blob.size, "digest": blob.digest}
                for layer, blob in zip(self.layers, self.blobs, strict=True)
            }
        return item


def _archive_members(images: Sequence[_Saved]) -> list[dict[str, Any]]:
    """Everything in a saved archive, in order: blobs first, as dockerd has it, then the documents that name them."""
    blobs: dict[str, dict[str, Any]] = {}
    index: list[dict[str, Any]] = []
    repositories: dict[str, dict[str, str]] = {}
    for saved in images:
        manifest = saved.manifest()
        descriptor = Descriptor(json.loads(manifest).get("mediaType") or OCI_MANIFEST, digest_of(manifest), len(manifest))
        for digest, raw in ((saved.image.id, saved.image.raw_config), (descriptor.digest, manifest)):
            blobs[digest] = {"name": _blob_name(digest), "text": raw.decode("utf-8", "surrogateescape")}
        for blob in saved.blobs:
            blobs[blob.digest] = {"name": _blob_name(blob.digest), "blob": blob.digest.removeprefix("sha256:")}
        for tag in saved.tags or (None,):
            entry = descriptor.to_json()
            if tag is not None:
                entry["annotations"] = {
                    "io.containerd.image.name": str(tag),
                    "org.opencontainers.image.ref.name": tag.tag or "latest",
                }
                top = saved.blobs[-1].digest if saved.layers else saved.image.id
                repositories.setdefault(tag.familiar_name, {})[tag.tag or "latest"] = top.removeprefix("sha256:")
            index.append(entry)
    documents: dict[str, Any] = {
        "index.json": {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": index},
        "manifest.json": [saved.listed(images) for saved in images],
        "oci-layout": {"imageLayoutVersion": "1.0.0"},
    }
    if repositories:
        documents["repositories"] = repositories
    directories = [{"name": "blobs/"}, {"name": "blobs/sha256/"}] if blobs else []
    return [
        *directories,
        *(blobs[digest] for digest in sorted(blobs)),
        *({"name": name, "text": json.dumps(document, separators=(",", ":"))} for name, document in documents.items()),
    ]


def _blob_name(digest: str) -> str:
    return f"blobs/sha256/{digest.removeprefix('sha256:')}"
