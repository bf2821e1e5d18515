"""What a push brings to a registry: which manifest stands for an image there, and which blobs it takes; reads, sends nothing.

An image keeps the manifest that it came with as long as all of its blobs are here, so that its digest stays the same wherever it
goes. Other images get one as dockerd writes it, whose layers are gzip-ed on their way.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from kitepy.engine.model.errors import EngineError, InvalidParameter
from kitepy.engine.model.image import Image
from kitepy.engine.model.oci import (
    DOCKER_CONFIG,
    DOCKER_LAYER,
    DOCKER_MANIFEST,
    INDEX_TYPES,
    OCI_CONFIG,
    OCI_LAYER,
    OCI_MANIFEST,
    Descriptor,
    DiffId,
    Digest,
    Manifest,
    digest_of,
    parse_index,
    parse_manifest,
)
from kitepy.engine.storage.compression import Compression, detect
from kitepy.engine.storage.content import ContentStore
from kitepy.engine.storage.images import ImageStore
from kitepy.engine.storage.layer_index import Layer, LayerIndex

GZIP_LAYER = f"{DOCKER_LAYER}.gzip"


@dataclass(frozen=True)
class PushedLayer:
    """One layer, and as what it is sent: its blob as it is here, or gzip-ed from that."""

    diff_id: DiffId
    blob: Digest
    """As it is here."""
    size_bytes: int
    sent_as: Descriptor | None
    """None for a layer that is gzip-ed on its way."""

    @property
    def short_id(self) -> str:
        """What users see of it."""
        return self.diff_id.partition(":")[2][:12]


@dataclass(frozen=True)
class PushedImage:
    """An image with the manifest it came with, or None when it needs a new one."""

    image: Image
    layers: tuple[PushedLayer, ...]
    """Bottom first."""
    kept: Manifest | None

    def manifest(self, sent: Mapping[DiffId, Descriptor]) -> tuple[str, bytes]:
        """Media type and bytes of the manifest, given what the layers were sent as."""
        if self.kept is not None:
            return self.kept.media_type, self.kept.raw
        return new_manifest(self.image, [sent[layer.diff_id] for layer in self.layers])


def new_manifest(image: Image, layers: list[Descriptor]) -> tuple[str, bytes]:
    """A manifest in Docker's form, or in OCI's for layers that Docker's has no name for."""
    docker = all(layer.media_type.startswith(DOCKER_LAYER) for layer in layers)
    media_type = DOCKER_MANIFEST if docker else OCI_MANIFEST
    if not docker:
        layers = [Descriptor(_oci_name(layer.media_type), layer.digest, layer.size) for layer in layers]
    config = Descriptor(DOCKER_CONFIG if docker else OCI_CONFIG, image.id, len(image.raw_config))
    document = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": _entry(config),
        "layers": [_entry(layer) for layer in layers],
    }
    return media_type, json.dumps(document, indent=3).encode()


def _entry(descriptor: Descriptor) -> dict[str, object]:
    return {"mediaType": descriptor.media_type, "size": descriptor.size, "digest": descriptor.digest}


def _oci_name(media_type: str) -> str:
    suffix = media_type.removeprefix(DOCKER_LAYER).removeprefix(".").removeprefix("+")
    return f"{OCI_LAYER}+{suffix}" if media_type.startswith(DOCKER_LAYER) and suffix else media_type


class PushPlanner:
    """Looks into the stores."""

    def __init__(self, images: ImageStore, layers: LayerIndex, content: ContentStore) -> None:
        self._images = images
        self._layers = layers
        self._content = content

    def image(self, image: Image) -> PushedImage:
        """How an image is pushed."""
        stack = self._layers.stack(image.top_layer)
        for manifest in self._manifests(image):
            return PushedImage(
                image,
                tuple(
                    PushedLayer(layer.diff_id, blob.digest, blob.size, blob)
                    for layer, blob in zip(stack, manifest.layers, strict=True)
                ),
                manifest,
            )
        return PushedImage(image, tuple(map(self._layer, stack)), None)

    def indexes(self, image: Image, name: str) -> list[tuple[str, bytes]]:
        """Media type and bytes of the indexes that list an image, those first that the repository ``name`` has."""
        known = {str(reference.digest) for reference in self._images.digests(image.id) if reference.name == name}
        found = [kept for kept in self._images.manifests(image.id) if kept.media_type in INDEX_TYPES]
        return [(kept.media_type, kept.raw) for kept in sorted(found, key=lambda kept: kept.digest not in known)]

    def behind(self, digest: Digest) -> Image | None:
        """The image here that a manifest in an index stands for, if it can be pushed with just that manifest."""
        for image_id in self._images.images_of_manifest(digest):
            image = self._images.get(image_id)
            plan = self.image(image)
            if plan.kept is not None and digest_of(plan.kept.raw) == digest:
                return image
        return None

    def _manifests(self, image: Image) -> list[Manifest]:
        """Those of an image whose blobs are all here, the one it came with first."""
        raws = [self._images.describe(image).manifest]
        raws += [kept.raw for kept in self._images.manifests(image.id) if kept.media_type not in INDEX_TYPES]
        published = self._published(image)
        found = []
        for raw in raws:
            if raw is None:
                continue
            try:
                manifest = parse_manifest(raw)
            except EngineError:
                continue
            if self._is_whole(manifest, image) and (digest_of(raw) in published or self._is_compressed(manifest)):
                found.append(manifest)
        return found

    def _published(self, image: Image) -> set[Digest]:
        """Digests of manifests that registries have an image as, on its own or in an index."""
        found = {Digest(str(reference.digest)) for reference in self._images.digests(image.id)}
        for kept in self._images.manifests(image.id):
            if kept.digest in found and kept.media_type in INDEX_TYPES:
                found.update(part.digest for part in parse_index(kept.raw).manifests)
        return found

    def _is_whole(self, manifest: Manifest, image: Image) -> bool:
        return (
            manifest.config.digest == image.id
            and len(manifest.layers) == len(image.layers)
            and all(blob.digest.startswith("sha256:") and blob.digest in self._content for blob in manifest.layers)
        )

    def _is_compressed(self, manifest: Manifest) -> bool:
        """Archives that no registry has seen list plain layers, which nobody would want to receive."""
        return all(self._compression(blob.digest) is not Compression.NONE for blob in manifest.layers)

    def _layer(self, layer: Layer) -> PushedLayer:
        if layer.blob_digest is None:
            raise InvalidParameter(f"layer {layer.chain_id} can't be pushed: it has no archive")
        compression = self._compression(layer.blob_digest)
        if compression is Compression.GZIP:
            name = GZIP_LAYER
        elif compression is Compression.ZSTD:
            name = f"{OCI_LAYER}+zstd"
        else:
            return PushedLayer(layer.diff_id, layer.blob_digest, layer.blob_size, None)
        descriptor = Descriptor(name, layer.blob_digest, layer.blob_size)
        return PushedLayer(layer.diff_id, layer.blob_digest, layer.blob_size, descriptor)

    def _compression(self, digest: Digest) -> Compression:
        with self._content.path(digest).open("rb") as file:
            return detect(file.read(6))
