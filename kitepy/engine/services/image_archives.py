"""Images in and out as archives: ``docker load``, ``save`` and ``import``.

A load takes the archive apart while it arrives; whatever looks like a layer starts unpacking at once in workers, in parallel,
before the manifests at the archive's end say where it belongs. Only then are layers placed, bottom first, and images recorded.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
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
    DiffId,
    Digest,
    HistoryEntry,
    ImageConfig,
    ImageDocument,
    digest_of,
)
from kitepy.engine.model.platform import Platform
from kitepy.engine.model.reference import Reference, parse_reference
from kitepy.engine.model.timestamps import format_time
from kitepy.engine.services.archive_index import ArchivedImage, Member, Members, native_architecture, read_archive
from kitepy.engine.services.archive_pipe import drain, feed
from kitepy.engine.storage.compression import Compression, detect
from kitepy.engine.storage.content import ContentStore
from kitepy.engine.storage.images import ImageStore
from kitepy.engine.storage.layer_index import Layer
from kitepy.engine.storage.layers import LayerStore, Lease, Unplaced
from kitepy.engine.storage.worker import WorkerPool

_MAX_ARCHIVE_BYTES = 1 << 40
_TAR_MAGIC_OFFSET = 257

Announce = Callable[[str, Image, str | None], None]
ApplyChanges = Callable[[ImageConfig, Sequence[str]], ImageConfig]


class ImageArchives:
    """Load, save and import on behalf of the image service."""

    def __init__(
        self,
        images: ImageStore,
        layers: LayerStore,
        content: ContentStore,
        workers: WorkerPool,
        announce: Announce,
        apply_changes: ApplyChanges,
    ) -> None:
        self._images = images
        self._layers = layers
        self._content = content
        self._workers = workers
        self._announce = announce
        self._apply_changes = apply_changes

    async def load(self, content: AsyncIterator[bytes], quiet: bool) -> AsyncIterator[dict[str, Any]]:
        """Messages as dockerd gives them: ``Loaded image: name:tag`` or ``Loaded image ID: sha256:…``."""
        async with _Spool(self._content, self._layers, self._workers) as spool:
            members = await spool.receive(content)
            for archived in read_archive(members):
                for index, descriptor in enumerate(archived.layers):
                    if not quiet:
                        short = archived.document.diff_ids[index].removeprefix("sha256:")[:12]
                        yield {"status": "Loading layer", "progressDetail": {}, "id": short}
                    await spool.place(archived, index, descriptor)
                for warning in spool.warnings:
                    yield {"stream": f"Warning: {warning}\n"}
                spool.warnings.clear()
                for message in self._record(archived):
                    yield message

    def _record(self, archived: ArchivedImage) -> list[dict[str, Any]]:
        image = self._images.add(archived.raw_config, manifest=archived.manifest)
        self._announce("load", image, None)
        messages: list[dict[str, Any]] = []
        for reference in archived.references:
            previous = self._images.set_tag(reference, image.id)
            if previous not in (None, image.id) and not self._images.tags(Digest(str(previous))):
                messages.append(
                    {
                        "stream": f"The image {reference.familiar} already exists, renaming the old one with ID {previous} "
                        "to empty string\n"
                    }
                )
            messages.append({"stream": f"Loaded image: {reference.familiar}\n"})
        return messages or [{"stream": f"Loaded image ID: {image.id}\n"}]

    async def import_archive(
        self, content: AsyncIterator[bytes], repository: str, tag: str, message: str, changes: Sequence[str], platform: str | None
    ) -> AsyncIterator[dict[str, Any]]:
        """One layer from a root file system's tar; the diff id is the digest of the uncompressed bytes."""
        reference: Reference | None = None
        if repository:
            reference = parse_reference(repository)
            reference = reference.with_tag(tag) if tag else reference.with_default_tag()
        # Refused before the upload, not after it.
        config = self._apply_changes(ImageConfig(), changes)
        system, architecture, variant = _platform(platform)
        ingest = self._content.new_ingest_path()
        fd = os.open(ingest, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            job = "kitepy.engine.storage.jobs:spool_blob"
            params = {"max_bytes": _MAX_ARCHIVE_BYTES}
            spooled = await feed(content, lambda pipe: self._workers.run(job, params, [pipe, fd], paced=True))
            digest = Digest(spooled["digest"])
            unplaced = await self._layers.unpack(ingest, digest=digest)
            self._content.adopt(ingest, digest)
            layer = self._layers.place(None, unplaced, blob_digest=digest)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(ingest)
        created = format_time(time.time_ns())
        comment = message or "Imported from -"
        document = ImageDocument(
            config=config,
            diff_ids=(layer.diff_id,),
            history=(HistoryEntry(created=created, comment=comment),),
            created=created,
            comment=comment,
            architecture=architecture,
            os=system,
            variant=variant,
        )
        image = self._images.add(document.encode())
        if reference is not None:
            self._images.set_tag(reference, image.id)
            self._announce("tag", image, reference.familiar)
        self._announce("import", image, None)
        yield {"status": image.id}

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
            members, root = _archive_members(images), self._content.path(Digest("sha256:" + "0" * 64)).parent
            job = "kitepy.engine.storage.jobs:write_archive"
            params = {"root": str(root), "members": members}
            async for piece in drain(lambda pipe: self._workers.run(job, params, [pipe], paced=True)):
                yield piece
            for saved in images:
                self._announce("save", saved.image, None)

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


@dataclass
class _Spool:
    """An archive being taken apart: its members as files, and layers that are being unpacked already."""

    content: ContentStore
    layers: LayerStore
    workers: WorkerPool
    directory: Path = field(init=False)
    lease: Lease = field(init=False)
    members: Members = field(default_factory=dict)
    unpacking: dict[str, asyncio.Task[Unplaced]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    """What of the layers placed so far could not be kept here, for people."""

    async def __aenter__(self) -> _Spool:
        self.directory = self.content.new_ingest_path()
        self.directory.mkdir(mode=0o700)
        self._leased = self.layers.lease()
        self.lease = self._leased.__enter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self.unpacking.values():
            task.cancel()
        for result in await asyncio.gather(*self.unpacking.values(), return_exceptions=True):
            if isinstance(result, Unplaced):
                self.layers.discard(result)
        self._leased.__exit__(None, None, None)
        await asyncio.to_thread(shutil.rmtree, self.directory)

    async def receive(self, content: AsyncIterator[bytes]) -> Members:
        directory_fd = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        job = "kitepy.engine.storage.jobs:spool_archive"
        params = {"max_bytes": _MAX_ARCHIVE_BYTES}
        await feed(
            content,
            lambda pipe: self.workers.run(job, params, [pipe, directory_fd], progress=self._arrived, paced=True),
        )
        return self.members

    def _arrived(self, report: dict[str, Any]) -> None:
        target = report.get("target")
        member = Member(
            path=self.directory / report["file"] if target is None else None,
            size=int(report.get("size", 0)),
            digest=Digest(report.get("digest", "")),
            target=target,
            target_is_relative=report["kind"] == "symlink",
        )
        self.members[os.path.normpath(report["name"]).lstrip("/")] = member
        if member.path is not None and member.digest not in self.unpacking and _looks_like_layer(member.path):
            known = self.layers.with_diff(DiffId(member.digest))
            if known is None and member.digest not in self.content:
                unpacking = self.layers.unpack(member.path, digest=member.digest)
                self.unpacking[member.digest] = asyncio.get_running_loop().create_task(unpacking)

    async def place(self, archived: ArchivedImage, index: int, member: Member) -> Layer:
        """Make one layer of an image ready, unless it is already."""
        diff_id = archived.document.diff_ids[index]
        parent = archived.chain[index - 1] if index else None
        existing = self.layers.find(archived.chain[index])
        if existing is not None:
            self.lease.layers.add(existing.chain_id)
            return existing
        assert member.path is not None
        self.lease.blobs.add(member.digest)
        blob = self.content.path(member.digest)
        source = member.path if member.path.exists() else blob
        task = self.unpacking.pop(member.digest, None)
        unplaced = await task if task is not None else await self.layers.unpack(source, digest=member.digest)
        self.warnings += unplaced.warnings
        if unplaced.diff_id != diff_id:
            self.layers.discard(unplaced)
            raise InvalidParameter(f'invalid diffID for layer {index}: expected "{diff_id}", got "{unplaced.diff_id}"')
        if source is member.path:
            self.content.adopt(member.path, member.digest)
        return self.layers.place(parent, unplaced, blob_digest=member.digest, lease=self.lease)


@dataclass(frozen=True)
class _Saved:
    image: Image
    tags: tuple[Reference, ...]
    layers: tuple[Layer, ...]
    stored_manifest: bytes | None

    @property
    def config(self) -> Descriptor:
        return Descriptor(OCI_CONFIG, self.image.id, len(self.image.raw_config))

    def manifest(self) -> bytes:
        """The manifest the image came with, as long as it describes what will be in the archive; else a fresh one."""
        if self.stored_manifest is not None:
            return self.stored_manifest
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": self.config.to_json(),
            "layers": [
                Descriptor(layer.media_type or OCI_LAYER, layer.blob_digest or Digest(layer.diff_id), layer.blob_size).to_json()
                for layer in self.layers
            ],
        }
        return json.dumps(document, separators=(",", ":")).encode()


def _archive_members(images: Sequence[_Saved]) -> list[dict[str, Any]]:
    """Everything in a saved archive, in order: blobs first, as dockerd has it, then the documents that name them."""
    blobs: dict[str, dict[str, Any]] = {}
    docker_manifest: list[dict[str, Any]] = []
    index: list[dict[str, Any]] = []
    repositories: dict[str, dict[str, str]] = {}
    for saved in images:
        manifest = saved.manifest()
        descriptor = Descriptor(json.loads(manifest).get("mediaType") or OCI_MANIFEST, digest_of(manifest), len(manifest))
        for digest, raw in ((saved.image.id, saved.image.raw_config), (descriptor.digest, manifest)):
            blobs[digest] = {"name": _blob_name(digest), "text": raw.decode("utf-8", "surrogateescape")}
        for layer in saved.layers:
            if layer.blob_digest is None:
                raise InvalidParameter(f"image {saved.image.id} can't be saved: layer {layer.chain_id} has no archive")
            encoded = layer.blob_digest.removeprefix("sha256:")
            blobs[layer.blob_digest] = {"name": _blob_name(layer.blob_digest), "blob": encoded}
        docker_manifest.append(
            {
                "Config": _blob_name(saved.image.id),
                "RepoTags": [tag.familiar for tag in saved.tags] or None,
                "Layers": [_blob_name(layer.blob_digest) for layer in saved.layers if layer.blob_digest],
            }
        )
        for tag in saved.tags or (None,):
            entry = descriptor.to_json()
            if tag is not None:
                entry["annotations"] = {
                    "io.containerd.image.name": str(tag),
                    "org.opencontainers.image.ref.name": tag.tag or "latest",
                }
                top = (saved.layers[-1].blob_digest if saved.layers else None) or saved.image.id
                repositories.setdefault(tag.familiar_name, {})[tag.tag or "latest"] = top.removeprefix("sha256:")
            index.append(entry)
    documents: dict[str, Any] = {
        "index.json": {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": index},
        "manifest.json": docker_manifest,
        "oci-layout": {"imageLayoutVersion": "1.0.0"},
    }
    if repositories:
        documents["repositories"] = repositories
    return [
        {"name": "blobs/"},
        {"name": "blobs/sha256/"},
        *(blobs[digest] for digest in sorted(blobs)),
        *({"name": name, "text": json.dumps(document, separators=(",", ":"))} for name, document in documents.items()),
    ]


def _blob_name(digest: str) -> str:
    return f"blobs/sha256/{digest.removeprefix('sha256:')}"


def _looks_like_layer(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(_TAR_MAGIC_OFFSET + 5)
    return detect(head) is not Compression.NONE or head[_TAR_MAGIC_OFFSET:] == b"ustar"


def _platform(text: str | None) -> tuple[str, str, str]:
    """(os, architecture, variant) of ``os[/architecture[/variant]]``; this machine's when not given."""
    native = native_architecture()
    parts = (text or "").split("/")
    if not parts[0]:
        return "linux", native, ""
    if len(parts) > 3 or not all(part.isalnum() for part in parts):
        raise InvalidParameter(f'"{text}" is an invalid platform')
    if parts[0].lower() != "linux":
        raise InvalidParameter(f"operating system is not supported: {parts[0]}")
    return "linux", parts[1].lower() if len(parts) > 1 else native, parts[2].lower() if len(parts) > 2 else ""
