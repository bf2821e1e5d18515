"""Layers on their way to registries: found there, taken over from another repository, or sent; which ones, ``pushes`` knows.

A layer that is here without compression is gzip-ed by a worker while it is sent. What came out is remembered: the next push looks
for it before it sends anything.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kitepy.engine.distribution.failures import RegistryError
from kitepy.engine.distribution.repository import Repository
from kitepy.engine.model.errors import EngineError
from kitepy.engine.model.oci import Descriptor, Digest
from kitepy.engine.services.archive_pipe import JobOutput
from kitepy.engine.services.push_plan import GZIP_LAYER, PushedLayer
from kitepy.engine.services.transfer_progress import Meter, Tell, status
from kitepy.engine.storage.content import ContentStore
from kitepy.engine.storage.images import ImageStore
from kitepy.engine.storage.worker import WorkerPool

logger = logging.getLogger(__name__)

_READ_BYTES = 1 << 20
_MOST_MOUNTS = 4
_SMALL_CHUNK_BYTES = 16 << 20
"""For registries behind something that refuses large requests."""
_TOO_LARGE = 413
_REQUEST = re.compile(r'^[A-Z][a-z]+ "[^"]*": ')


class LayerUploads:
    """All layers under way. Belongs to one event loop."""

    def __init__(self, content: ContentStore, images: ImageStore, workers: WorkerPool, *, empty: Path, uploads: int) -> None:
        """At most ``uploads`` layers are sent at once; ``empty`` is a directory that workers are confined to."""
        self.content = content
        self.images = images
        self.workers = workers
        self.empty = empty
        empty.mkdir(exist_ok=True)
        self._slots = asyncio.Semaphore(uploads)
        self._locks: dict[tuple[str, Digest], _Turn] = {}

    async def send(self, layer: PushedLayer, repository: Repository, tell: Tell) -> Descriptor:
        """Bring a layer into a repository; gives what it is there. Pushes that want the same do so one after another."""
        key = (repository.reference.name, layer.blob)
        turn = self._locks.setdefault(key, _Turn())
        turn.wanted += 1
        try:
            if self._slots.locked() or turn.lock.locked():
                tell(status(layer.short_id, "Waiting"))
            async with turn.lock, self._slots:
                return await _Sending(self, layer, repository, tell).run()
        finally:
            turn.wanted -= 1
            if not turn.wanted:
                del self._locks[key]


class _Turn:
    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.wanted = 0


@dataclass
class _Sending:
    """One layer into one repository."""

    owner: LayerUploads
    layer: PushedLayer
    repository: Repository
    tell: Tell

    async def run(self) -> Descriptor:
        known = self.layer.sent_as or self._remembered()
        if known is not None:
            if await self._is_there(known.digest):
                self._told("Layer already exists")
                return self._there(known)
            if (source := await self._mounted(known.digest)) is not None:
                self._told(f"Mounted from {source}")
                return self._there(known)
        sent = await (self._compress() if self.layer.sent_as is None else self._copy(self.layer.sent_as))
        self._told("Pushed")
        return self._there(sent)

    def _told(self, text: str) -> None:
        self.tell(status(self.layer.short_id, text))

    def _there(self, descriptor: Descriptor) -> Descriptor:
        name = self.repository.reference.name
        if name not in self.owner.images.layer_sources(descriptor.digest):
            self.owner.images.add_layer_source(descriptor.digest, name)
        return descriptor

    def _remembered(self) -> Descriptor | None:
        found = self.owner.images.compressed_layer(self.layer.blob)
        return None if found is None else Descriptor(GZIP_LAYER, *found)

    async def _is_there(self, digest: Digest) -> bool:
        try:
            return await self.repository.head_blob(digest) is not None
        except RegistryError as error:
            # The upload will fail as well, and with a reason: an answer to HEAD has none.
            logger.info("%s is not known to be in %s: %s", digest, self.repository.reference.name, error)
            return False

    async def _mounted(self, digest: Digest) -> str | None:
        """The repository of this registry that the blob could be taken over from."""
        target, images = self.repository.reference, self.owner.images
        prefix = f"{target.domain}/"
        sources = [name for name in images.layer_sources(digest) if name.startswith(prefix) and name != target.name]
        for name in sources[:_MOST_MOUNTS]:
            try:
                if await self.repository.mount_blob(digest, name.removeprefix(prefix)):
                    return name.removeprefix(prefix)
            except RegistryError as error:
                logger.info("%s can't be taken over from %s: %s", digest, name, error)
            images.remove_layer_source(digest, name)
        return None

    async def _copy(self, descriptor: Descriptor) -> Descriptor:
        """Send the blob as it is."""
        fd = os.open(self.owner.content.path(descriptor.digest), os.O_RDONLY | os.O_CLOEXEC)
        try:

            async def source(offset: int) -> AsyncIterator[bytes]:
                while piece := await asyncio.to_thread(os.pread, fd, _READ_BYTES, offset):
                    yield piece
                    offset += len(piece)

            with Meter(self.layer.short_id, "Pushing", descriptor.size, self.tell) as meter:
                await self._upload(descriptor.digest, descriptor.size, source, meter.update)
        finally:
            os.close(fd)
        return descriptor

    async def _compress(self) -> Descriptor:
        """Send the blob gzip-ed."""
        with Meter(self.layer.short_id, "Pushing", self.layer.size_bytes, self.tell) as meter:
            compression = _Compression(self.owner, self.layer.blob, meter)
            try:
                await self._upload(lambda: compression.outcome.digest, None, compression.source, _unheard)
            except EngineError:
                if compression.failure is not None:
                    raise compression.failure from None
                raise
            finally:
                await compression.aclose()
        sent = compression.outcome
        self.owner.images.add_compressed_layer(self.layer.blob, sent.digest, sent.size)
        return sent

    async def _upload(
        self,
        digest: Digest | Callable[[], Digest],
        size: int | None,
        source: Callable[[int], AsyncIterator[bytes]],
        sent: Callable[[int], None],
    ) -> None:
        def retrying(pause_s: float) -> None:
            seconds = math.ceil(pause_s)
            self._told(f"Retrying in {seconds} second{'s' if seconds != 1 else ''}")

        try:
            try:
                await self.repository.upload_blob(digest, size, source, sent, retrying=retrying)
            except RegistryError as error:
                if error.status != _TOO_LARGE:
                    raise
                logger.info("%s refuses large requests, so it gets small ones", self.repository.reference.domain)
                await self.repository.upload_blob(digest, size, source, sent, _SMALL_CHUNK_BYTES, retrying)
        except EngineError as error:
            # As dockerd has it, layers' errors don't tell of which request, and only the first of several is told.
            error.args = (_REQUEST.sub("", str(error)).removeprefix("errors:\n").partition("\n")[0],)
            raise


class _Compression:
    """A blob's gzip stream, from any offset: it is always the same, so what has arrived already is left out."""

    def __init__(self, owner: LayerUploads, blob: Digest, meter: Meter) -> None:
        self._owner = owner
        self._path = owner.content.path(blob)
        self._meter = meter
        self._outcome: Descriptor | None = None
        self._running: AsyncExitStack = AsyncExitStack()
        self.failure: EngineError | None = None

    @property
    def outcome(self) -> Descriptor:
        """What has been sent; once ``source`` has ended."""
        assert self._outcome is not None
        return self._outcome

    async def source(self, offset: int) -> AsyncIterator[bytes]:
        await self.aclose()  # an upload that broke off leaves its source half read
        output = JobOutput(self._run)
        self._running.push_async_callback(output.aclose)
        position = 0
        try:
            async for piece in output:
                position += len(piece)
                if position > offset:
                    yield piece[max(0, len(piece) - (position - offset)) :]
        except EngineError as error:
            self.failure = error
            raise

    async def aclose(self) -> None:
        """End the worker, if it still runs."""
        await self._running.aclose()
        self._running = AsyncExitStack()

    async def _run(self, pipe: int) -> dict[str, Any]:
        try:
            blob = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            os.close(pipe)
            raise
        result = await self._owner.workers.run(
            "kitepy.engine.storage.recompression:compress_layer",
            {"root": str(self._owner.empty)},
            [blob, pipe],
            progress=lambda report: self._meter.update(int(report["consumed"])),
            paced=True,
        )
        self._meter.update(int(result["plain"]))
        self._outcome = Descriptor(GZIP_LAYER, Digest(result["digest"]), int(result["size"]))
        return result


def _unheard(_: int) -> None:
    """Progress is told by what has been compressed."""
