"""What is in an image archive: reads ``manifest.json`` (docker) or ``index.json`` (OCI layout) of one that was taken apart.

Reads small JSON files only. Names inside an archive are keys of a dictionary here and never become paths.
Sources: OCI image-spec 1.1, image-layout.md; Docker image specification 1.2, "Combined Image JSON + Filesystem Changeset".
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kitepy.engine.model.errors import InvalidParameter
from kitepy.engine.model.oci import (
    DOCKER_MANIFEST_LIST,
    OCI_INDEX,
    ChainId,
    Descriptor,
    Digest,
    ImageDocument,
    Manifest,
    chain_ids,
    parse_image_document,
    parse_index,
    parse_manifest,
)
from kitepy.engine.model.reference import Reference, parse_reference

_MAX_DOCUMENT_BYTES = 8 << 20
_MAX_LINKS = 16
_NO_DIGEST = Digest("")
_MAX_INDEX_DEPTH = 4
_NAME_ANNOTATION = "io.containerd.image.name"
_REF_ANNOTATION = "org.opencontainers.image.ref.name"
_KIND_ANNOTATION = "vnd.docker.reference.type"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


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
class ArchivedImage:
    """One image of an archive, ready to be placed."""

    raw_config: bytes
    document: ImageDocument
    layers: tuple[Member, ...]
    """Bottom first, as many as there are diff ids."""
    references: tuple[Reference, ...]
    manifest: bytes | None
    """The OCI or Docker manifest the image came with, if it did."""

    @property
    def chain(self) -> tuple[ChainId, ...]:
        return chain_ids(self.document.diff_ids)


def native_architecture() -> str:
    """This machine's processor in OCI's words (Go's GOARCH)."""
    return _ARCHITECTURES.get(platform.machine(), platform.machine())


def read_archive(members: Members) -> list[ArchivedImage]:
    """All images of an archive; raises ``InvalidParameter`` when it holds none or contradicts itself."""
    if "manifest.json" in members:
        return list(_docker_images(members))
    if "index.json" in members:
        return list(_oci_images(members))
    raise InvalidParameter("unrecognized image format: the archive has neither manifest.json nor index.json")


def _docker_images(members: Members) -> Iterator[ArchivedImage]:
    try:
        listed = json.loads(_read(members, "manifest.json"))
    except ValueError as error:
        raise InvalidParameter(f"manifest.json is not valid JSON: {error}") from error
    if not isinstance(listed, list) or not all(isinstance(item, dict) for item in listed):
        raise InvalidParameter("manifest.json is not a list of images")
    manifests = _manifests_by_config(members)
    for item in listed:
        config_name = str(item.get("Config") or "")
        names = item.get("Layers") or []
        if not isinstance(names, list):
            raise InvalidParameter("manifest.json: Layers is not a list")
        config = _find(members, config_name)
        layers = tuple(_find(members, str(name)) for name in names)
        references = tuple(parse_reference(str(tag)).with_default_tag() for tag in item.get("RepoTags") or [])
        for name, member in ((config_name, config), *zip((str(name) for name in names), layers, strict=True)):
            _check_blob_name(name, member)
        manifest = manifests.get(config.digest)
        if manifest is not None and [layer.digest for layer in manifest.layers] != [member.digest for member in layers]:
            manifest = None
        yield _image(_content(config, config_name), layers, references, manifest)


def _manifests_by_config(members: Members) -> dict[str, Manifest]:
    """The OCI manifests beside a docker manifest: recent dockers write both, and only these have a registry's digest."""
    if "index.json" not in members:
        return {}
    found: dict[str, Manifest] = {}
    for _, manifest in _manifests(members, _read(members, "index.json"), {}, 0):
        found.setdefault(manifest.config.digest, manifest)
    return found


def _oci_images(members: Members) -> Iterator[ArchivedImage]:
    references: dict[Digest, list[Reference]] = {}
    manifests: dict[Digest, Manifest] = {}
    for labels, manifest in _manifests(members, _read(members, "index.json"), {}, 0):
        digest = manifest.descriptor.digest
        manifests.setdefault(digest, manifest)
        reference = _annotated_reference(labels)
        named = references.setdefault(digest, [])
        if reference is not None and reference not in named:
            named.append(reference)
    if not manifests:
        raise InvalidParameter("the archive has no image for this platform")
    for digest, manifest in manifests.items():
        config = _blob(members, manifest.config)
        layers = tuple(_blob(members, layer) for layer in manifest.layers)
        yield _image(_content(config, manifest.config.digest), layers, tuple(references[digest]), manifest)


def _manifests(
    members: Members, raw_index: bytes, inherited: dict[str, str], depth: int
) -> Iterator[tuple[dict[str, str], Manifest]]:
    if depth > _MAX_INDEX_DEPTH:
        raise InvalidParameter("image indexes in the archive are nested too deeply")
    entries = [entry for entry in parse_index(raw_index).manifests if _KIND_ANNOTATION not in entry.annotations]
    for entry in entries if depth == 0 else _suitable(entries):
        labels = {**inherited, **entry.annotations}
        if _blob_key(entry.digest) not in members:
            continue  # an index may list platforms that were not saved
        raw = _content(_blob(members, entry), entry.digest)
        if entry.media_type in (OCI_INDEX, DOCKER_MANIFEST_LIST):
            yield from _manifests(members, raw, labels, depth + 1)
        else:
            yield labels, parse_manifest(raw)


def _suitable(entries: Sequence[Descriptor]) -> Sequence[Descriptor]:
    """Of one image's platforms this machine's; all when none says what it is for."""
    if not any(entry.platform for entry in entries):
        return entries
    native = native_architecture()
    fitting = [e for e in entries if e.platform.get("os") == "linux" and e.platform.get("architecture") == native]
    return fitting[:1] or entries[:1]


def _annotated_reference(labels: dict[str, str]) -> Reference | None:
    for key in (_NAME_ANNOTATION, _REF_ANNOTATION):
        text = labels.get(key, "")
        # A ref name without repository, often "latest", is only a label inside the layout.
        if text and (key == _NAME_ANNOTATION or "/" in text or ":" in text):
            return parse_reference(text).with_default_tag()
    return None


def _image(
    raw_config: bytes, layers: tuple[Member, ...], references: tuple[Reference, ...], manifest: Manifest | None
) -> ArchivedImage:
    document = parse_image_document(raw_config)
    if document.os != "linux":
        raise InvalidParameter(f"cannot load {document.os} image on linux")
    if len(layers) != len(document.diff_ids):
        raise InvalidParameter(f"invalid manifest, layers length mismatch: expected {len(document.diff_ids)}, got {len(layers)}")
    return ArchivedImage(raw_config, document, layers, references, manifest.raw if manifest is not None else None)


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
    raise InvalidParameter(f"the archive has no file '{name}'")


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
