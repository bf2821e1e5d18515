"""``docker import``: a root file system's tar, from the client or the web, becomes an image of one layer."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from typing import Protocol

from kitepy import __version__
from kitepy.engine.model.errors import InvalidParameter, SystemFailure
from kitepy.engine.model.image import Image
from kitepy.engine.model.oci import Digest, HistoryEntry, ImageConfig, ImageDocument
from kitepy.engine.model.platform import Platform, host_platform, parse_platform
from kitepy.engine.model.reference import Reference, parse_reference
from kitepy.engine.model.timestamps import format_time
from kitepy.engine.services.archive_pipe import feed
from kitepy.engine.services.image_load import MAX_ARCHIVE_BYTES, Announce
from kitepy.engine.services.ports import ImportRequest
from kitepy.engine.services.transfer_progress import Message, bar
from kitepy.engine.storage.content import ContentStore
from kitepy.engine.storage.images import ImageStore
from kitepy.engine.storage.layers import LayerStore
from kitepy.engine.storage.worker import WorkerPool

_TOLD_EVERY_S = 0.1

ApplyChanges = Callable[[ImageConfig, Sequence[str]], ImageConfig]
"""Applies Dockerfile instructions (``import --change``) to a configuration."""


class WebFile(Protocol):
    """A download that has begun; its size is -1 when it isn't known."""

    @property
    def url(self) -> str: ...
    @property
    def size(self) -> int: ...
    def pieces(self) -> AsyncIterator[bytes]: ...


OpenWebFile = Callable[[str], AbstractAsyncContextManager[WebFile]]


@dataclass(frozen=True)
class _Wanted:
    """A request that was found to be in order."""

    reference: Reference | None
    config: ImageConfig
    platform: Platform
    message: str


class ImageImporter:
    """Imports on behalf of the image service."""

    def __init__(
        self,
        images: ImageStore,
        layers: LayerStore,
        content: ContentStore,
        workers: WorkerPool,
        announce: Announce,
        apply_changes: ApplyChanges,
        open_web_file: OpenWebFile,
    ) -> None:
        self._images = images
        self._layers = layers
        self._content = content
        self._workers = workers
        self._announce = announce
        self._apply_changes = apply_changes
        self._open_web_file = open_web_file

    async def import_archive(self, content: AsyncIterator[bytes], request: ImportRequest) -> AsyncIterator[Message]:
        """From the client; the one message's status is the id. Refused before the upload is read, if it is."""
        wanted = self._check(request, "-")
        yield {"status": await self._take_in(content, wanted)}

    async def import_url(self, url: str, request: ImportRequest) -> AsyncIterator[Message]:
        """From the web, with a bar; the last message's status is the id."""
        wanted = self._check(request, url)
        async with self._open_web_file(url) as file:
            yield {"status": f"Downloading from {file.url}"}
            counted = _Counted(file.pieces())
            work = asyncio.ensure_future(self._take_in(counted, wanted))
            try:
                told = -1
                while not work.done():
                    await asyncio.wait({work}, timeout=_TOLD_EVERY_S)
                    if counted.count != told and counted.count != file.size:
                        told = counted.count
                        yield _progress(told, file.size)
                image_id = await work
            finally:
                work.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await work
            yield _progress(counted.count, file.size)
            if file.size < 0:
                yield {}
            yield {"status": image_id}

    def _check(self, request: ImportRequest, source: str) -> _Wanted:
        reference: Reference | None = None
        if request.repository:
            reference = parse_reference(request.repository)
            reference = reference.with_tag(request.tag) if request.tag else reference.with_default_tag()
            if reference.digest is not None:
                raise InvalidParameter("cannot import digest reference")
        platform = parse_platform(request.platform) if request.platform else host_platform()
        if platform.os != "linux":
            raise InvalidParameter("operating system is not supported")
        config = self._apply_changes(ImageConfig(), request.changes)
        return _Wanted(reference, config, platform, request.message or f"Imported from {source}")

    async def _take_in(self, content: AsyncIterator[bytes], wanted: _Wanted) -> Digest:
        ingest = self._content.new_ingest_path()
        fd = os.open(ingest, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with self._layers.lease() as lease:
                job = "kitepy.engine.storage.jobs:spool_blob"
                params = {"max_bytes": MAX_ARCHIVE_BYTES}
                spooled = await feed(content, lambda pipe: self._workers.run(job, params, [pipe, fd], paced=True))
                digest = Digest(spooled["digest"])
                try:
                    unplaced = await self._layers.unpack(ingest, digest=digest)
                except InvalidParameter as error:
                    raise SystemFailure(str(error)) from error  # 500 on dockerd, too
                lease.blobs.add(digest)
                self._content.adopt(ingest, digest)
                layer = self._layers.place(None, unplaced, blob_digest=digest, lease=lease)
                created = format_time(time.time_ns())
                document = ImageDocument(
                    config=wanted.config,
                    diff_ids=(layer.diff_id,),
                    history=(HistoryEntry(created=created, comment=wanted.message),),
                    created=created,
                    comment=wanted.message,
                    architecture=wanted.platform.architecture,
                    os=wanted.platform.os,
                    variant=wanted.platform.variant,
                    docker_version=__version__,
                )
                return self._record(document, wanted.reference).id
        finally:
            with suppress(FileNotFoundError):
                os.unlink(ingest)

    def _record(self, document: ImageDocument, reference: Reference | None) -> Image:
        image = self._images.add(document.encode())
        if reference is not None:
            self._images.set_tag(reference, image.id, by_user=True)
            self._announce("tag", image, reference.familiar)
        self._announce("import", image, None)
        return image


class _Counted(AsyncIterator[bytes]):
    """Content that knows how much of it has been read."""

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self._pieces = pieces
        self.count = 0

    async def __anext__(self) -> bytes:
        piece = await anext(self._pieces)
        self.count += len(piece)
        return piece


def _progress(current: int, total: int) -> Message:
    if not total:
        return {"status": "Importing", "progressDetail": {}}
    return {"status": "Importing", "progressDetail": {"current": current, "total": total}, "progress": bar(current, total)}
