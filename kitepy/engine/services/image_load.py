"""``docker load``: an archive is taken apart while it arrives.

Whatever looks like a layer starts unpacking at once in workers, in parallel, before the manifests at the archive's end say where
it belongs. Only then are layers placed, bottom first, and images recorded, one by one: those before a broken one stay.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kitepy.engine.model.errors import InvalidParameter, NotFound
from kitepy.engine.model.image import Image
from kitepy.engine.model.oci import DiffId, Digest
from kitepy.engine.model.platform import Platform
from kitepy.engine.model.reference import parse_reference
from kitepy.engine.services.archive_index import ArchivedImage, Member, Members, find_layer, read_archive
from kitepy.engine.services.archive_pipe import feed
from kitepy.engine.services.transfer_progress import Message, progress
from kitepy.engine.storage.compression import Compression, detect
from kitepy.engine.storage.content import ContentStore
from kitepy.engine.storage.images import ImageStore
from kitepy.engine.storage.layers import LayerStore, Lease, Unplaced
from kitepy.engine.storage.worker import WorkerPool

MAX_ARCHIVE_BYTES = 1 << 40
_TAR_MAGIC_OFFSET = 257
_FIRST_TOLD_BYTES = 64 << 10
_TOLD_EVERY_S = 0.1

Announce = Callable[[str, Image, str | None], None]


class ImageLoader:
    """Loads archives on behalf of the image service."""

    def __init__(
        self, images: ImageStore, layers: LayerStore, content: ContentStore, workers: WorkerPool, announce: Announce
    ) -> None:
        self._images = images
        self._layers = layers
        self._content = content
        self._workers = workers
        self._announce = announce

    async def load(self, content: AsyncIterator[bytes], *, quiet: bool, platform: Platform | None) -> AsyncIterator[Message]:
        """Messages as dockerd gives them: ``Loaded image: name:tag`` or ``Loaded image ID: sha256:…``."""
        loaded: list[tuple[Image, Digest | None]] = []
        nameless = True
        async with _Spool(self._content, self._layers, self._workers, tells=not quiet) as spool:
            members = await spool.receive(content)
            for archived in read_archive(members, platform):
                for index in range(len(archived.layers)):
                    async for message in spool.place(archived, index):
                        yield message
                for warning in spool.warnings:
                    yield {"stream": f"Warning: {warning}\n"}
                spool.warnings.clear()
                image = self._record(archived)
                for message in self._tag(image, archived.tags):
                    yield message
                nameless = not archived.tags
                self._announce("load", image, None)
                loaded.append((image, archived.parent))
        self._link(loaded)
        if nameless:
            text = "".join(f"Loaded image ID: {image.id}\n" for image, _ in loaded)
            yield {"stream": text} if text else {}

    def _record(self, archived: ArchivedImage) -> Image:
        manifest = archived.manifest
        image = self._images.add(archived.raw_config, manifest=manifest.raw if manifest is not None else None)
        if manifest is not None:
            self._images.add_manifest(image.id, manifest.media_type, manifest.raw)
            for index in archived.indexes:
                self._images.add_manifest(image.id, index.media_type, index.raw)
        return image

    def _tag(self, image: Image, tags: Sequence[str]) -> Iterator[Message]:
        for text in tags:
            reference = parse_reference(text)
            if reference.tag is None or reference.digest is not None:
                raise InvalidParameter(f'invalid tag "{text}"')
            previous = self._images.set_tag(reference, image.id)
            if previous not in (None, image.id):
                yield {
                    "stream": f"The image {reference.familiar} already exists, renaming the old one with ID {previous} "
                    "to empty string\n"
                }
            yield {"stream": f"Loaded image: {reference.familiar}\n"}

    def _link(self, loaded: Sequence[tuple[Image, Digest | None]]) -> None:
        """Make those images that were saved together parents and children again."""
        ids = {image.id for image, _ in loaded}
        for image, parent_id in loaded:
            if parent_id is None or parent_id not in ids or parent_id == image.id:
                continue
            try:
                parent = self._images.get(parent_id)
            except NotFound:
                continue  # removed a moment ago
            own, below = image.document.history, parent.document.history
            if (own or below) and own[:-1] != below:
                raise InvalidParameter(f"image {parent_id} is not a valid parent for {image.id}")
            self._images.set_parent(image.id, parent_id)


@dataclass
class _Unpacking:
    """A layer being unpacked, and how much of its file that has read."""

    task: asyncio.Task[Unplaced]
    consumed: int = 0


@dataclass
class _Spool:
    """An archive being taken apart: its members as files, and layers that are being unpacked already."""

    content: ContentStore
    layers: LayerStore
    workers: WorkerPool
    tells: bool
    directory: Path = field(init=False)
    lease: Lease = field(init=False)
    members: Members = field(default_factory=dict)
    unpacking: dict[str, _Unpacking] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    """What of the layers placed so far could not be kept here, for people."""
    _held: ExitStack = field(default_factory=ExitStack)

    async def __aenter__(self) -> _Spool:
        self.directory = self.content.new_ingest_path()
        self.directory.mkdir(mode=0o700)
        self.lease = self._held.enter_context(self.layers.lease())
        return self

    async def __aexit__(self, *_: object) -> None:
        tasks = [each.task for each in self.unpacking.values()]
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Unplaced):
                self.layers.discard(result)
        self._held.close()
        await asyncio.to_thread(shutil.rmtree, self.directory)

    async def receive(self, content: AsyncIterator[bytes]) -> Members:
        directory_fd = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        job = "kitepy.engine.storage.jobs:spool_archive"
        params = {"max_bytes": MAX_ARCHIVE_BYTES}
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
                self._begin(member, member.path)

    def _begin(self, member: Member, source: Path) -> _Unpacking:
        def consumed(count: int) -> None:
            begun.consumed = count

        work = self.layers.unpack(source, digest=member.digest, consumed=consumed if self.tells else None)
        begun = _Unpacking(asyncio.get_running_loop().create_task(work))
        self.unpacking[member.digest] = begun
        return begun

    async def place(self, archived: ArchivedImage, index: int) -> AsyncIterator[Message]:
        """Make one layer of an image ready, unless it is already; tells how far that is."""
        diff_id = archived.document.diff_ids[index]
        parent = archived.chain[index - 1] if index else None
        existing = self.layers.find(archived.chain[index])
        if existing is not None:
            self.lease.layers.add(existing.chain_id)
            return
        member = find_layer(self.members, archived.layers[index])
        assert member.path is not None
        self.lease.blobs.add(member.digest)
        source = member.path if member.path.exists() else self.content.path(member.digest)
        begun = self.unpacking.get(member.digest) or self._begin(member, source)
        if self.tells:
            async for message in _told(begun, diff_id.removeprefix("sha256:")[:12], member.size):
                yield message
        unplaced = await begun.task
        del self.unpacking[member.digest]
        self.warnings += unplaced.warnings
        if unplaced.diff_id != diff_id:
            self.layers.discard(unplaced)
            raise InvalidParameter(f'invalid diffID for layer {index}: expected "{diff_id}", got "{unplaced.diff_id}"')
        if source is member.path:
            self.content.adopt(member.path, member.digest)
        self.layers.place(parent, unplaced, blob_digest=member.digest, lease=self.lease)


async def _told(begun: _Unpacking, layer_id: str, size: int) -> AsyncIterator[Message]:
    """A bar from the beginning to the end, however fast that was: clients show what comes last."""
    if not size:
        return
    told = min(size, _FIRST_TOLD_BYTES)
    yield progress(layer_id, "Loading layer", told, size)
    while not begun.task.done():
        await asyncio.wait({begun.task}, timeout=_TOLD_EVERY_S)
        if told < begun.consumed < size:
            told = begun.consumed
            yield progress(layer_id, "Loading layer", told, size)
    if not begun.task.cancelled() and begun.task.exception() is None:
        yield progress(layer_id, "Loading layer", size, size)


def _looks_like_layer(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(_TAR_MAGIC_OFFSET + 5)
    return detect(head) is not Compression.NONE or head[_TAR_MAGIC_OFFSET:] == b"ustar"
