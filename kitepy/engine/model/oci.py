"""OCI and Docker image documents as values: digests, descriptors, manifests, indexes and image configurations.

A parsed document keeps the bytes it came from, since its digest is that of the bytes and never of a re-encoding.
Sources: OCI image-spec 1.1 (descriptor.md, manifest.md, image-index.md, config.md) and Docker's image specification 1.2.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NewType

from kitepy.engine.model.errors import InvalidParameter
from kitepy.engine.model.reference import check_digest

Digest = NewType("Digest", str)
DiffId = NewType("DiffId", str)
"""Digest of a layer's uncompressed tar."""
ChainId = NewType("ChainId", str)
"""Identity of a layer together with all layers beneath it."""

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_MANIFEST_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
INDEX_TYPES = (OCI_INDEX, DOCKER_MANIFEST_LIST)
"""What stands for several manifests, usually one a platform."""
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"

_LARGEST_NUMBER = 1 << 63
EMPTY_LAYER = DiffId("sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef")
"""The tar without entries: 1,024 zero bytes."""


def digest_of(data: bytes) -> Digest:
    """The SHA-256 digest of some bytes, in ``algorithm:hex`` form."""
    return Digest("sha256:" + hashlib.sha256(data).hexdigest())


def chain_id(parent: ChainId | None, diff_id: DiffId) -> ChainId:
    """OCI image-spec, config.md, "Layer ChainID"."""
    if parent is None:
        return ChainId(diff_id)
    return ChainId(digest_of(f"{parent} {diff_id}".encode()))


def chain_ids(diff_ids: Sequence[DiffId]) -> tuple[ChainId, ...]:
    """Chain ids of a stack of layers, bottom first."""
    chain: list[ChainId] = []
    for diff_id in diff_ids:
        chain.append(chain_id(chain[-1] if chain else None, diff_id))
    return tuple(chain)


@dataclass(frozen=True)
class Descriptor:
    """A pointer to content: what it is, its digest, its size."""

    media_type: str
    digest: Digest
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)
    platform: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The descriptor as it appears in manifests and API answers."""
        document: dict[str, Any] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        if self.annotations:
            document["annotations"] = dict(self.annotations)
        if self.platform:
            document["platform"] = dict(self.platform)
        return document


@dataclass(frozen=True)
class Manifest:
    """One image: its configuration and its layers, bottom first."""

    raw: bytes
    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]

    @property
    def descriptor(self) -> Descriptor:
        return Descriptor(self.media_type, digest_of(self.raw), len(self.raw))


@dataclass(frozen=True)
class Index:
    """Several manifests, usually one a platform."""

    raw: bytes
    media_type: str
    manifests: tuple[Descriptor, ...]


@dataclass(frozen=True)
class HealthCheck:
    """How to probe a container's health; zero means "inherit". Durations in nanoseconds, as Docker stores them."""

    test: tuple[str, ...] = ()
    interval_ns: int = 0
    timeout_ns: int = 0
    start_period_ns: int = 0
    start_interval_ns: int = 0
    retries: int = 0

    def to_json(self) -> dict[str, Any]:
        document: dict[str, Any] = {}
        if self.test:
            document["Test"] = list(self.test)
        for key, value in (
            ("Interval", self.interval_ns),
            ("Timeout", self.timeout_ns),
            ("StartPeriod", self.start_period_ns),
            ("StartInterval", self.start_interval_ns),
            ("Retries", self.retries),
        ):
            if value:
                document[key] = value
        return document


@dataclass(frozen=True)
class ImageConfig:
    """The defaults an image gives to its containers. ``cmd``, ``entrypoint`` and ``shell`` are None when unset."""

    user: str = ""
    exposed_ports: tuple[str, ...] = ()
    """``port/protocol``, sorted."""
    env: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    volumes: tuple[str, ...] = ()
    working_dir: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    stop_signal: str = ""
    args_escaped: bool = False
    on_build: tuple[str, ...] = ()
    healthcheck: HealthCheck | None = None
    shell: tuple[str, ...] | None = None

    def to_json(self) -> dict[str, Any]:
        """The ``config`` object of an image configuration, without what is unset."""
        document: dict[str, Any] = {}
        if self.user:
            document["User"] = self.user
        if self.exposed_ports:
            document["ExposedPorts"] = {port: {} for port in self.exposed_ports}
        if self.env:
            document["Env"] = list(self.env)
        if self.entrypoint is not None:
            document["Entrypoint"] = list(self.entrypoint)
        if self.cmd is not None:
            document["Cmd"] = list(self.cmd)
        if self.volumes:
            document["Volumes"] = {path: {} for path in self.volumes}
        if self.working_dir:
            document["WorkingDir"] = self.working_dir
        if self.labels:
            document["Labels"] = dict(self.labels)
        if self.stop_signal:
            document["StopSignal"] = self.stop_signal
        if self.args_escaped:
            document["ArgsEscaped"] = True
        if self.on_build:
            document["OnBuild"] = list(self.on_build)
        if self.healthcheck is not None:
            document["Healthcheck"] = self.healthcheck.to_json()
        if self.shell is not None:
            document["Shell"] = list(self.shell)
        return document


@dataclass(frozen=True)
class HistoryEntry:
    """One step of an image's making, oldest first in the document."""

    created: str = ""
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False

    def to_json(self) -> dict[str, Any]:
        document: dict[str, Any] = {}
        for key, value in (
            ("created", self.created),
            ("created_by", self.created_by),
            ("author", self.author),
            ("comment", self.comment),
        ):
            if value:
                document[key] = value
        if self.empty_layer:
            document["empty_layer"] = True
        return document


@dataclass(frozen=True)
class ImageDocument:
    """A whole image configuration document; its digest is the image's id."""

    config: ImageConfig = field(default_factory=ImageConfig)
    diff_ids: tuple[DiffId, ...] = ()
    history: tuple[HistoryEntry, ...] = ()
    created: str = ""
    author: str = ""
    comment: str = ""
    architecture: str = ""
    os: str = "linux"
    variant: str = ""
    os_version: str = ""
    docker_version: str = ""
    has_rootfs: bool = True
    """Whether the document says of which layers the image is made, be it of none."""

    def encode(self) -> bytes:
        """Bytes of a new document with these values (not those it was parsed from)."""
        document: dict[str, Any] = {"architecture": self.architecture, "os": self.os, "config": self.config.to_json()}
        for key, value in (
            ("variant", self.variant),
            ("os.version", self.os_version),
            ("created", self.created),
            ("author", self.author),
            ("comment", self.comment),
            ("docker_version", self.docker_version),
        ):
            if value:
                document[key] = value
        document["rootfs"] = {"type": "layers", "diff_ids": list(self.diff_ids)}
        document["history"] = [entry.to_json() for entry in self.history]
        return json.dumps(document, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()


def parse_image_document(raw: bytes) -> ImageDocument:
    """Parse an image configuration; raises ``InvalidParameter`` naming the field that is wrong."""
    reader = _Fields(_load(raw, "image configuration"), "image configuration")
    rootfs = reader.object("rootfs")
    return ImageDocument(
        config=parse_image_config(reader.object("config").document),
        diff_ids=tuple(DiffId(_digest(text, "rootfs.diff_ids")) for text in rootfs.texts("diff_ids") or ()),
        history=tuple(
            HistoryEntry(
                created=item.text("created"),
                created_by=item.text("created_by"),
                author=item.text("author"),
                comment=item.text("comment"),
                empty_layer=item.flag("empty_layer"),
            )
            for item in reader.objects("history")
        ),
        created=reader.text("created"),
        author=reader.text("author"),
        comment=reader.text("comment"),
        architecture=reader.text("architecture"),
        os=reader.text("os") or "linux",
        variant=reader.text("variant"),
        os_version=reader.text("os.version"),
        docker_version=reader.text("docker_version"),
        has_rootfs=reader.get("rootfs") is not None,
    )


def parse_image_config(document: Mapping[str, Any]) -> ImageConfig:
    """Parse the ``config`` object; null counts as absent."""
    reader = _Fields(document, "config")
    health = reader.object("Healthcheck")
    return ImageConfig(
        user=reader.text("User"),
        exposed_ports=tuple(sorted(reader.keys("ExposedPorts"))),
        env=reader.texts("Env") or (),
        entrypoint=reader.words("Entrypoint"),
        cmd=reader.words("Cmd"),
        volumes=tuple(sorted(reader.keys("Volumes"))),
        working_dir=reader.text("WorkingDir"),
        labels=reader.text_map("Labels"),
        stop_signal=reader.text("StopSignal"),
        args_escaped=reader.flag("ArgsEscaped"),
        on_build=reader.texts("OnBuild") or (),
        healthcheck=HealthCheck(
            test=health.texts("Test") or (),
            interval_ns=health.number("Interval"),
            timeout_ns=health.number("Timeout"),
            start_period_ns=health.number("StartPeriod"),
            start_interval_ns=health.number("StartInterval"),
            retries=health.number("Retries"),
        )
        if health.document
        else None,
        shell=reader.words("Shell"),
    )


def parse_manifest(raw: bytes) -> Manifest:
    """Parse an image manifest (OCI or Docker schema 2)."""
    reader = _Fields(_load(raw, "manifest"), "manifest")
    return Manifest(
        raw=raw,
        media_type=reader.text("mediaType") or OCI_MANIFEST,
        config=_descriptor(reader.object("config")),
        layers=tuple(_descriptor(item) for item in reader.objects("layers")),
    )


def parse_index(raw: bytes) -> Index:
    """Parse an image index or a Docker manifest list."""
    reader = _Fields(_load(raw, "index"), "index")
    return Index(
        raw=raw,
        media_type=reader.text("mediaType") or OCI_INDEX,
        manifests=tuple(_descriptor(item) for item in reader.objects("manifests")),
    )


def _descriptor(reader: _Fields) -> Descriptor:
    return Descriptor(
        media_type=reader.text("mediaType"),
        digest=_digest(reader.text("digest"), f"{reader.where}.digest"),
        size=reader.number("size"),
        annotations=reader.text_map("annotations"),
        platform={key: value for key, value in reader.object("platform").document.items() if isinstance(value, str)},
    )


def _digest(text: str, where: str) -> Digest:
    try:
        return Digest(check_digest(text))
    except InvalidParameter as error:
        raise InvalidParameter(f"{where}: {error}: {text!r}") from error


def _load(raw: bytes, what: str) -> Mapping[str, Any]:
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise InvalidParameter(f"{what} is not valid JSON: {error}") from error
    if not isinstance(document, dict):
        raise InvalidParameter(f"{what} is not a JSON object")
    return document


class _Fields:
    """Typed access to a JSON object; keys match without regard to case, as Go's decoder has it."""

    def __init__(self, document: Mapping[str, Any], where: str) -> None:
        self.document = document
        self.where = where
        self._lowered: dict[str, Any] | None = None

    def get(self, key: str) -> Any:
        if key in self.document:
            return self.document[key]
        if self._lowered is None:
            self._lowered = {name.lower(): value for name, value in self.document.items()}
        return self._lowered.get(key.lower())

    def _typed(self, key: str, kind: type, name: str) -> Any:
        value = self.get(key)
        if value is None or (isinstance(value, kind) and not (kind is int and isinstance(value, bool))):
            return value
        raise InvalidParameter(f"{self.where}.{key}: expected {name}, got {type(value).__name__}")

    def text(self, key: str) -> str:
        return str(self._typed(key, str, "a string") or "")

    def number(self, key: str) -> int:
        found = int(self._typed(key, int, "a number") or 0)
        if not -_LARGEST_NUMBER <= found < _LARGEST_NUMBER:
            raise InvalidParameter(f"{self.where}.{key}: expected a number of 64 bits")
        return found

    def flag(self, key: str) -> bool:
        return bool(self._typed(key, bool, "true or false"))

    def object(self, key: str) -> _Fields:
        return _Fields(self._typed(key, dict, "an object") or {}, f"{self.where}.{key}")

    def objects(self, key: str) -> list[_Fields]:
        items = self._typed(key, list, "a list") or []
        for item in items:
            if not isinstance(item, dict):
                raise InvalidParameter(f"{self.where}.{key}: expected a list of objects")
        return [_Fields(item, f"{self.where}.{key}") for item in items]

    def texts(self, key: str) -> tuple[str, ...] | None:
        items = self._typed(key, list, "a list of strings")
        if items is None:
            return None
        for item in items:
            if not isinstance(item, str):
                raise InvalidParameter(f"{self.where}.{key}: expected a list of strings")
        return tuple(items)

    def keys(self, key: str) -> tuple[str, ...]:
        return tuple(self._typed(key, dict, "an object") or ())

    def words(self, key: str) -> tuple[str, ...] | None:
        """As ``texts``; a single string, as images of the first dockers have it, is a list of one."""
        value = self.get(key)
        return (value,) if isinstance(value, str) else self.texts(key)

    def text_map(self, key: str) -> dict[str, str]:
        items = self._typed(key, dict, "an object") or {}
        for value in items.values():
            if not isinstance(value, str):
                raise InvalidParameter(f"{self.where}.{key}: expected strings as values")
        return dict(items)
