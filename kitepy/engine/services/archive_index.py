"""What is in an image archive: reads ``manifest.json`` (docker) or ``index.json`` (OCI layout) of one that was taken apart.

Reads small JSON files only. Names inside an archive are keys of a dictionary here and never become paths.
Sources: OCI image-spec 1.1, image-layout.md; Docker image specification 1.2, "Combined Image JSON + Filesystem Changeset".
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kitepy.engine.model.errors import InvalidParameter
from kitepy.engine.model.oci import (
    DOCKER_MANIFEST,
    INDEX_TYPES,
    OCI_MANIFEST,
    ChainId,
    Descriptor,
    Digest,
    ImageDocument,
    Index,
    Manifest,
    chain_ids,
    parse_image_document,
    parse_index,
    parse_manifest,
)
from kitepy.engine.model.platform import Platform, host_platform
from kitepy.engine.model.reference import Reference, parse_reference

_MAX_DOCUMENT_BYTES = 8 << 20
_MAX_LINKS = 16
_NO_DIGEST = Digest("")
_MAX_INDEX_DEPTH = 4
_NAME_ANNOTATION = "io.containerd.image.name"
_REF_ANNOTATION = "org.opencontainers.image.ref.name"
_KIND_ANNOTATION = "vnd.docker.reference.type"


@dataclass(frozen=True)
class Member:
    """One member of an archive: a file that was put at ``path``, or a link to another member."""

    path: Path | None
    size: int = 0
    digest: Digest = _NO_DIGEST
    target: str | None = None
    target_is_relative: bool = False
    """Symbolic links are relative to where they are; hard links to the archive's root."""


Members = dict[str, Member]
"""By name, without leading slash."""


@dataclass(frozen=True)
class LayerName:
    """Where a layer is in its archive."""

    name: str
    digest: Digest | None = None
    """What it has to be, if the archive says so."""


@dataclass(frozen=True)
class ArchivedImage:
    """One image of an archive. Its layers are looked for only when they are needed: an archive may leave out known ones."""

    raw_config: bytes
    document: ImageDocument
    layers: tuple[LayerName, ...]
    """Bottom first, as many as there are diff ids."""
    tags: tuple[str, ...]
    """As the archive has them, unchecked."""
    manifest: Manifest | None
    """The OCI or Docker manifest the image came with, if it did."""
    indexes: tuple[Index, ...] = ()
    """Those that led to the manifest, without the archive's own."""
    parent: Digest | None = None

    @property
    def chain(self) -> tuple[ChainId, ...]:
        return chain_ids(self.document.diff_ids)

    @property
    def platform(self) -> Platform:
        return Platform(self.document.os, self.document.architecture, self.document.variant)


@dataclass(frozen=True)
class _Listed:
    """A manifest of an OCI layout, with what the indexes above say of it."""

    labels: dict[str, str]
    manifest: Manifest
    indexes: tuple[Index, ...]


def read_archive(members: Members, platform: Platform | None = None) -> Iterator[ArchivedImage]:
    """The images of an archive, one by one: those before a broken one are good. Raises ``InvalidParameter``.

    With ``platform`` only images for it.
    """
    if "manifest.json" in members:
        images = _docker_images(members)
    elif "index.json" in members:
        images = _oci_images(members, platform)
    else:
        raise InvalidParameter("open repositories: no such file or directory: nor has the archive manifest.json or index.json")
    return (image for image in images if platform is None or platform.is_exactly(image.platform))


def find_layer(members: Members, layer: LayerName) -> Member:
    """The file of a layer; raises ``InvalidParameter`` when it is missing or another."""
    member = _find(members, layer.name)
    if layer.digest is not None and member.digest != layer.digest:
        raise InvalidParameter(f"content does not match its digest: expected {layer.digest}, got {member.digest}")
    _check_blob_name(layer.name, member)
    return member


def _docker_images(members: Members) -> Iterator[ArchivedImage]:
    manifests = _manifests_by_config(members)
    for item in _docker_manifest(_read(members, "manifest.json")):
        config_name = str(item.get("config") or "")
        names, tags = item.get("layers") or [], item.get("repotags") or []
        if not isinstance(names, list) or not isinstance(tags, list):
            raise InvalidParameter("manifest.json: Layers or RepoTags is not a list")
        config = _find(members, config_name)
        _check_blob_name(config_name, config)
        listed = manifests.get(config.digest)
        if listed is not None and [layer.digest for layer in listed.manifest.layers] != _digests(members, names):
            listed = None
        parent = item.get("parent")
        yield _image(
            _content(config, config_name),
            tuple(LayerName(str(name)) for name in names),
            tuple(str(tag) for tag in tags),
            listed,
            Digest(parent) if isinstance(parent, str) and parent else None,
        )


def _docker_manifest(raw: bytes) -> list[dict[str, Any]]:
    """Its items, keys in lower case, as Go's decoder doesn't care for case."""
    if not raw.strip():
        raise InvalidParameter("EOF")
    try:
        # What follows the first document doesn't count.
        listed, _ = json.JSONDecoder().raw_decode(raw.decode("utf-8", "surrogateescape").lstrip())
    except (ValueError, RecursionError) as error:
        raise InvalidParameter(f"manifest.json is not valid JSON: {error}") from error
    if listed is None:
        raise InvalidParameter("invalid manifest, manifest cannot be null (but can be [])")
    if not isinstance(listed, list):
        kind = {str: "string", dict: "object", bool: "bool"}.get(type(listed), "number")
        raise InvalidParameter(f"json: cannot unmarshal {kind} into Go value of type []tarexport.manifestItem")
    if not all(isinstance(item, dict) for item in listed):
        raise InvalidParameter("manifest.json is not a list of images")
    return [{key.lower(): value for key, value in item.items()} for item in listed]


def _digests(members: Members, names: Sequence[Any]) -> list[Digest]:
    try:
        return [_find(members, str(name)).digest for name in names]
    except InvalidParameter:
        return []


def _manifests_by_config(members: Members) -> dict[Digest, _Listed]:
    """The OCI manifests beside a docker manifest: recent dockers write both, and only these have a registry's digest."""
    if "index.json" not in members:
        return {}
    found: dict[Digest, _Listed] = {}
    for listed in _manifests(members, parse_index(_read(members, "index.json")), {}, (), None):
        found.setdefault(listed.manifest.config.digest, listed)
    return found


def _oci_images(members: Members, platform: Platform | None) -> Iterator[ArchivedImage]:
    tags: dict[Digest, list[str]] = {}
    found: dict[Digest, _Listed] = {}
    for listed in _manifests(members, parse_index(_read(members, "index.json")), {}, (), platform):
        digest = listed.manifest.descriptor.digest
        found.setdefault(digest, listed)
        reference = _annotated_reference(listed.labels)
        named = tags.setdefault(digest, [])
        if reference is not None and str(reference) not in named:
            named.append(str(reference))
    if not found and platform is None:
        raise InvalidParameter("the archive has no image for this platform")
    for digest, listed in found.items():
        config = _blob(members, listed.manifest.config)
        layers = tuple(LayerName(_blob_key(layer.digest), layer.digest) for layer in listed.manifest.layers)
        yield _image(_content(config, listed.manifest.config.digest), layers, tuple(tags[digest]), listed, None)


def _manifests(
    members: Members, index: Index, inherited: dict[str, str], above: tuple[Index, ...], platform: Platform | None
) -> Iterator[_Listed]:
    if len(above) > _MAX_INDEX_DEPTH:
        raise InvalidParameter("image indexes in the archive are nested too deeply")
    entries = [entry for entry in index.manifests if _KIND_ANNOTATION not in entry.annotations]
    for entry in entries if not above else _suitable(members, entries, platform or host_platform()):
        labels = {**inherited, **entry.annotations}
        if _blob_key(entry.digest) not in members:
            continue  # an index may list platforms that were not saved
        raw = _content(_blob(members, entry), entry.digest)
        if entry.media_type in INDEX_TYPES:
            inner = parse_index(raw)
            yield from _manifests(members, inner, labels, (*above, inner), platform)
        elif entry.media_type in ("", OCI_MANIFEST, DOCKER_MANIFEST):
            yield _Listed(labels, parse_manifest(raw), above)
        else:
            raise InvalidParameter(f"the archive has a manifest of an unsupported type: {entry.media_type}")


def _suitable(members: Members, entries: Sequence[Descriptor], wanted: Platform) -> Sequence[Descriptor]:
    """Of one image's platforms the best that is in the archive; all when none says what it is for."""
    if not any(entry.platform for entry in entries):
        return entries
    here = [entry for entry in entries if _blob_key(entry.digest) in members]
    ranked = [(rank, entry) for entry in here if (rank := wanted.rank(Platform.of(entry.platform))) is not None]
    # Whoever saved only another machine's image means that one.
    return [min(ranked, key=lambda pair: pair[0])[1]] if ranked else here[:1]


def _annotated_reference(labels: dict[str, str]) -> Reference | None:
    for key in (_NAME_ANNOTATION, _REF_ANNOTATION):
        text = labels.get(key, "")
        # A ref name without repository, often "latest", is only a label inside the layout.
        if text and (key == _NAME_ANNOTATION or "/" in text or ":" in text):
            return parse_reference(text).with_default_tag()
    return None


def _image(
    raw_config: bytes, layers: tuple[LayerName, ...], tags: tuple[str, ...], listed: _Listed | None, parent: Digest | None
) -> ArchivedImage:
    document = parse_image_document(raw_config)
    if not document.has_rootfs:
        raise InvalidParameter("invalid image JSON, no RootFS key")
    if document.os.lower() != "linux":
        raise InvalidParameter(f"cannot load {document.os} image on linux")
    if len(layers) != len(document.diff_ids):
        raise InvalidParameter(f"invalid manifest, layers length mismatch: expected {len(layers)}, got {len(document.diff_ids)}")
    if sum(not entry.empty_layer for entry in document.history) > len(document.diff_ids):
        raise InvalidParameter("too many non-empty layers in History section")
    manifest, indexes = (listed.manifest, listed.indexes) if listed is not None else (None, ())
    return ArchivedImage(raw_config, document, layers, tags, manifest, indexes, parent)


def _find(members: Members, name: str) -> Member:
    """The file a name stands for, through links (old dockers link equal layers to each other)."""
    key = os.path.normpath(name).lstrip("/")
    for _ in range(_MAX_LINKS):
        member = members.get(key)
        if member is None:
            break
        if member.target is None:
            return member
        start = os.path.dirname(key) if member.target_is_relative else ""
        key = os.path.normpath(os.path.join(start, member.target)).lstrip("/")
    raise InvalidParameter(f"open {name}: no such file or directory: the archive doesn't have it")


def _blob(members: Members, descriptor: Descriptor) -> Member:
    member = _find(members, _blob_key(descriptor.digest))
    if member.digest != descriptor.digest:
        raise InvalidParameter(f"content does not match its digest: expected {descriptor.digest}, got {member.digest}")
    return member


def _blob_key(digest: str) -> str:
    algorithm, _, encoded = digest.partition(":")
    return f"blobs/{algorithm}/{encoded}"


def _check_blob_name(name: str, member: Member) -> None:
    if name.startswith("blobs/sha256/") and member.digest.removeprefix("sha256:") != name.removeprefix("blobs/sha256/"):
        raise InvalidParameter(f"content does not match its name: '{name}' has the digest {member.digest}")


def _read(members: Members, name: str) -> bytes:
    return _content(_find(members, name), name)


def _content(member: Member, name: str) -> bytes:
    if member.size > _MAX_DOCUMENT_BYTES or member.path is None:
        raise InvalidParameter(f"'{name}' in the archive is too large for a document")
    return member.path.read_bytes()
