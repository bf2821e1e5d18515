"""Images as a registry has them, made here byte by byte: layers, configuration, manifest and index."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import secrets
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import zstandard
from support.docker_registry import DockerRegistry

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"


_RUN = secrets.token_hex(8)


def digest(content: bytes) -> str:
    """The SHA-256 digest in a registry's spelling."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def tar(files: Mapping[str, bytes]) -> bytes:
    """A layer of regular files, which is the same every time."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def noise(size: int, seed: str) -> bytes:
    """Bytes that don't compress, the same each time."""
    return hashlib.shake_128(seed.encode()).digest(size)


def unlike_others(seed: str, layers: int = 2, size: int = 2000, **options: Any) -> Made:
    """An image that has no layer in common with those of other seeds, nor with what an earlier run left on an engine."""
    return Made([tar({f"{seed}-{number}": noise(size, f"{seed}-{number}-{_RUN}")}) for number in range(layers)], **options)


def packed(layer: bytes, compression: str) -> bytes:
    """``gzip``, ``zstd`` or ```` (as it is)."""
    if compression == "gzip":
        return gzip.compress(layer, 6, mtime=0)
    return zstandard.compress(layer, 3) if compression == "zstd" else layer


@dataclass(frozen=True)
class Blob:
    """Content and what it is said to be."""

    content: bytes
    media_type: str

    @property
    def digest(self) -> str:
        return digest(self.content)

    @property
    def descriptor(self) -> dict[str, Any]:
        return {"mediaType": self.media_type, "digest": self.digest, "size": len(self.content)}


@dataclass(frozen=True)
class Made:
    """An image; ``layers`` are plain tar files, bottom first."""

    layers: Sequence[bytes]
    compression: str = "gzip"
    docker: bool = False
    """Docker's media types instead of OCI's."""
    platform: Mapping[str, str] = field(default_factory=lambda: {"os": "linux", "architecture": "amd64"})
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def document(self) -> Blob:
        """The configuration: its digest is the image's id."""
        created = "2020-01-01T00:00:00Z"
        found = {
            **self.platform,
            "created": created,
            "config": {"Cmd": ["sh"], **self.config},
            "rootfs": {"type": "layers", "diff_ids": [digest(layer) for layer in self.layers]},
            "history": [{"created": created, "created_by": f"layer {number}"} for number in range(len(self.layers))],
        }
        return Blob(json.dumps(found).encode(), DOCKER_CONFIG if self.docker else OCI_CONFIG)

    @property
    def blobs(self) -> list[Blob]:
        """The layers as they are stored."""
        if self.docker:
            media_type = DOCKER_LAYER + {"gzip": ".gzip", "zstd": ".zstd", "": ""}[self.compression]
        else:
            media_type = OCI_LAYER + (f"+{self.compression}" if self.compression else "")
        return [Blob(packed(layer, self.compression), media_type) for layer in self.layers]

    @property
    def manifest(self) -> Blob:
        media_type = DOCKER_MANIFEST if self.docker else OCI_MANIFEST
        document = {
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": self.document.descriptor,
            "layers": [blob.descriptor for blob in self.blobs],
        }
        return Blob(json.dumps(document).encode(), media_type)

    @property
    def id(self) -> str:
        """The image's id in an engine."""
        return self.document.digest


def index_of(*images: Made, docker: bool = False) -> Blob:
    """What stands for several platforms."""
    media_type = DOCKER_INDEX if docker else OCI_INDEX
    manifests = [{**image.manifest.descriptor, "platform": dict(image.platform)} for image in images]
    return Blob(json.dumps({"schemaVersion": 2, "mediaType": media_type, "manifests": manifests}).encode(), media_type)


def put(registry: DockerRegistry, repository: str, tag: str, *images: Made, docker: bool = False) -> str:
    """Store one image, or an index of several; gives the digest that the tag stands for."""
    for image in images:
        for blob in (image.document, *image.blobs):
            registry.put_blob(repository, blob.content, blob.digest)
        manifest = image.manifest
        registry.put_manifest(repository, tag if len(images) == 1 else manifest.digest, manifest.content, manifest.media_type)
    if len(images) == 1:
        return images[0].manifest.digest
    index = index_of(*images, docker=docker)
    registry.put_manifest(repository, tag, index.content, index.media_type)
    return index.digest
