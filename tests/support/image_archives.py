"""Archives of images, written member by member: what docker, skopeo and builders save, and what attackers would."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from support.images import tar_of
from support.tarballs import entry, tarball

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
NATIVE = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
OTHER = "arm64" if NATIVE == "amd64" else "amd64"


def hex_digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def digest(data: bytes) -> str:
    return f"sha256:{hex_digest(data)}"


def small_layer(name: str, size: int = 1) -> bytes:
    """A layer of one file; its content is its name, repeated."""
    return tarball(entry(name, (name.encode() * size)[:size]))


@dataclass(frozen=True)
class MadeImage:
    """An image before it is packed."""

    layers: Sequence[bytes]
    tags: Sequence[str] | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    created: str = "2020-01-01T00:00:00Z"
    fields: Mapping[str, Any] = field(default_factory=dict)
    """More of the configuration document."""

    @property
    def raw(self) -> bytes:
        document = {
            "architecture": NATIVE,
            "os": "linux",
            "created": self.created,
            "config": {"Cmd": ["sh"], **self.config},
            "rootfs": {"type": "layers", "diff_ids": [digest(layer) for layer in self.layers]},
            "history": [{"created": self.created, "created_by": f"layer {number}"} for number in range(len(self.layers))],
            **self.fields,
        }
        return json.dumps({name: value for name, value in document.items() if value is not None}).encode()

    @property
    def id(self) -> str:
        return digest(self.raw)

    @property
    def short_id(self) -> str:
        return hex_digest(self.raw)[:12]

    @property
    def chain(self) -> list[str]:
        """Chain ids, bottom first."""
        found: list[str] = []
        for layer in self.layers:
            found.append(digest(f"{found[-1]} {digest(layer)}".encode()) if found else digest(layer))
        return found


def docker_archive_of(*images: MadeImage, **manifest: Any) -> bytes:
    """As ``docker save`` of old wrote several; ``manifest`` overrides what manifest.json says of each."""
    members: dict[str, bytes] = {}
    listed = []
    for image in images:
        names = [f"{hex_digest(layer)}/layer.tar" for layer in image.layers]
        members.update(zip(names, image.layers, strict=True))
        config = f"{hex_digest(image.raw)}.json"
        members[config] = image.raw
        tags = None if image.tags is None else list(image.tags)
        listed.append({"Config": config, "RepoTags": tags, "Layers": names, **manifest})
    return tar_of({**members, "manifest.json": json.dumps(listed).encode()})


@dataclass(frozen=True)
class Blobs:
    """An OCI layout in the making."""

    members: dict[str, bytes] = field(default_factory=dict)

    def add(self, data: bytes, media_type: str, **fields: Any) -> dict[str, Any]:
        """Store a blob; gives its descriptor."""
        self.members[f"blobs/sha256/{hex_digest(data)}"] = data
        return {"mediaType": media_type, "digest": digest(data), "size": len(data), **fields}

    def manifest(self, config: bytes, layers: Iterable[tuple[bytes, str]], **fields: Any) -> dict[str, Any]:
        """Store an image: its layers as they are to lie there, with media types. Gives the manifest's descriptor."""
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": self.add(config, OCI_CONFIG),
            "layers": [self.add(data, media_type) for data, media_type in layers],
        }
        return self.add(json.dumps(document).encode(), OCI_MANIFEST, **fields)

    def index(self, manifests: Sequence[Mapping[str, Any]], **fields: Any) -> dict[str, Any]:
        """Store an index; gives its descriptor."""
        document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list(manifests)}
        return self.add(json.dumps(document).encode(), OCI_INDEX, **fields)

    def layout(self, *manifests: Mapping[str, Any]) -> bytes:
        """The archive, whose index.json lists these."""
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list(manifests)}
        return tar_of({**self.members, "index.json": json.dumps(index).encode(), "oci-layout": b'{"imageLayoutVersion":"1.0.0"}'})
