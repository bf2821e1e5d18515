"""Layers on their way from registries to the layer store, shared by all pulls that want them; what an image is, pulls know.

Each blob is received once, into a file that outlives cuts and engines, and unpacked by workers while it still arrives: in
parallel, and placed in order. Nothing of it is visible before its digest, and the one of what was unpacked, are right.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from kitepy.engine.distribution.failures import RedirectRefused, RegistryError, Unreachable
from kitepy.engine.distribution.repository import Repository
from kitepy.engine.model.errors import Cancelled, EngineError, InvalidParameter, NotFound, SystemFailure
from kitepy.engine.model.oci import ChainId, Descriptor, DiffId, Digest, chain_id
from kitepy.engine.services.transfer_progress import Message, Meter, Tell, status
from kitepy.engine.storage.content import ContentStore
from kitepy.engine.storage.growth import Growth
from kitepy.engine.storage.layers import LayerStore, Unplaced
from kitepy.engine.storage.partials import Partial

logger = logging.getLogger(__name__)

_PROGRESS_BYTES = 64 << 10
"""So much before a cut is worth going on at once."""
MISMATCH = "layers from manifest don't match image configuration"

Result = TypeVar("Result")


def silent(_: Message) -> None:
    """Nobody wants to know."""


@dataclass(frozen=True)
class WantedLayer:
    """One layer of an image that is being pulled."""

    blob: Descriptor
    diff_id: DiffId
    parent: ChainId | None

    @property
    def chain_id(self) -> ChainId:
        return chain_id(self.parent, self.diff_id)

    @property
    def short_id(self) -> str:
        """What users see of it."""
        return self.blob.digest.partition(":")[2][:12]


class LayerTransfers:
    """All layers under way. Belongs to one event loop."""

    def __init__(self, content: ContentStore, layers: LayerStore, *, downloads: int, unpackers: int, attempts: int = 5) -> None:
        """At most ``downloads`` blobs are received at once, and ``unpackers`` unpacked.

        A blob that doesn't come is asked for in so many ``attempts``, counted from its last byte that did.
        """
        self.content = content
        self.layers = layers
        self.attempts = attempts
        self.downloads = asyncio.Semaphore(downloads)
        self.unpackers = asyncio.Semaphore(unpackers)
        self._blobs: dict[Digest, _BlobTransfer] = {}
        self._layers: dict[tuple[ChainId, Digest], LayerTransfer] = {}

    def join(self, wanted: WantedLayer, repository: Repository, tell: Tell, parent: LayerTransfer | None) -> LayerTransfer:
        """Take part in a layer's transfer, beginning it if need be; the caller ends that with ``leave``.

        ``parent`` is the transfer of the layer below when that is under way, too. The caller's lease names chain id and digest.
        """
        key = (wanted.chain_id, wanted.blob.digest)
        transfer = self._layers.get(key)
        if transfer is None or transfer.failed:
            transfer = self._layers[key] = LayerTransfer(self, wanted, parent)
        transfer.join(repository, tell)
        return transfer

    def forget(self, transfer: LayerTransfer) -> None:
        """Nobody takes part any more."""
        key = (transfer.wanted.chain_id, transfer.wanted.blob.digest)
        if self._layers.get(key) is transfer:
            del self._layers[key]

    def join_blob(self, follower: LayerTransfer) -> _BlobTransfer:
        """Take part in receiving a layer's blob."""
        digest = follower.wanted.blob.digest
        blob = self._blobs.get(digest)
        if blob is None or blob.task.done():
            blob = self._blobs[digest] = _BlobTransfer(self, follower.wanted.blob)
        blob.members.append(follower)
        return blob

    def leave_blob(self, blob: _BlobTransfer, follower: LayerTransfer) -> None:
        """The last one to leave ends it."""
        blob.members.remove(follower)
        if not blob.members:
            blob.task.cancel()
            if self._blobs.get(blob.digest) is blob:
                del self._blobs[blob.digest]


class LayerTransfer:
    """One layer at its place in a stack: receive, unpack, place."""

    def __init__(self, owner: LayerTransfers, wanted: WantedLayer, parent: LayerTransfer | None) -> None:
        self.wanted = wanted
        self._owner = owner
        self._parent = parent
        self._members: list[tuple[Repository, Tell]] = []
        self._last: Message | None = None
        self._task = asyncio.create_task(self._run(), name=f"layer {wanted.short_id}")
        self._task.add_done_callback(_seen)

    @property
    def failed(self) -> bool:
        """Whether it has ended without a layer, so that whoever comes now has to begin anew."""
        return self._task.done() and (self._task.cancelled() or self._task.exception() is not None)

    def join(self, repository: Repository, tell: Tell) -> None:
        """Another pull wants it: it may be received from there, too."""
        self._members.append((repository, tell))
        if self._last is not None:
            tell(self._last)

    async def leave(self, repository: Repository, tell: Tell) -> None:
        """A pull doesn't want it any more, or has it; the last one ends the transfer."""
        self._members.remove((repository, tell))
        if self._members:
            return
        self._owner.forget(self)
        self._task.cancel()
        await asyncio.wait((self._task,))

    async def done(self) -> None:
        """Wait until the layer is placed; raises what went wrong."""
        await _outcome(self._task)

    @property
    def repositories(self) -> list[Repository]:
        """From where the blob may be received."""
        return [repository for repository, _ in self._members]

    def tell(self, message: Message) -> None:
        """Tell all who take part."""
        if "id" in message:
            self._last = message
        for _, tell in self._members:
            tell(message)

    async def _run(self) -> None:
        try:
            await self._receive_and_place()
        except OSError as error:
            raise _disk_failure(error) from error

    async def _receive_and_place(self) -> None:
        wanted, layers = self.wanted, self._owner.layers
        with layers.lease() as lease:
            lease.blobs.add(wanted.blob.digest)
            unplaced = await self._unpack()
            try:
                if unplaced.diff_id != wanted.diff_id:
                    raise InvalidParameter(MISMATCH)
                if self._parent is not None:
                    await self._parent.done()
            except BaseException:
                layers.discard(unplaced)
                raise
            for warning in unplaced.warnings:
                self.tell({"status": f"Warning: {warning}"})
            layers.place(wanted.parent, unplaced, blob_digest=wanted.blob.digest, media_type=wanted.blob.media_type, lease=lease)
        self.tell(status(wanted.short_id, "Pull complete"))

    async def _unpack(self) -> Unplaced:
        owner, digest = self._owner, self.wanted.blob.digest
        if digest in owner.content:
            path = owner.content.path(digest)
            self.tell(status(self.wanted.short_id, "Download complete"))
            async with owner.unpackers:
                return await self._unpacked(path, path.stat().st_size)
        blob = owner.join_blob(self)
        try:
            while (unplaced := await self._follow(blob)) is None:
                logger.debug("%s is unpacked anew", digest)
            return unplaced
        finally:
            owner.leave_blob(blob, self)

    async def _follow(self, blob: _BlobTransfer) -> Unplaced | None:
        """Unpack a blob while it arrives; None when it is received anew."""
        await blob.begun()
        failure: EngineError | OSError | None = None
        beginnings = blob.beginnings
        async with self._owner.unpackers:
            with blob.followed() as growth:
                try:
                    unplaced = await self._unpacked(blob.path, blob.size, growth)
                except (EngineError, OSError) as error:
                    failure = error
        if failure is not None:
            # What was unpacked may have been the wrong bytes, and then it is the blob that has failed, or is received anew.
            if blob.beginnings == beginnings:
                await blob.done()
            if blob.beginnings != beginnings:
                return None
            raise failure
        try:
            await blob.done()
        except BaseException:
            self._owner.layers.discard(unplaced)
            raise
        return unplaced

    async def _unpacked(self, path: Path, size: int, growth: Growth | None = None) -> Unplaced:
        with Meter(self.wanted.short_id, "Extracting", size, self.tell) as meter:

            def consumed(count: int) -> None:
                # While it still downloads, that is what users see of it.
                if growth is None or growth.completed:
                    meter.update(count)

            try:
                unplaced = await self._owner.layers.unpack(path, following=growth, consumed=consumed)
            except Cancelled:
                raise
            except EngineError as error:
                raise type(error)(f"failed to register layer: {error}") from error
            meter.update(size)
            return unplaced


class _BlobTransfer:
    """One blob being received, by whichever of its members' repositories answers."""

    def __init__(self, owner: LayerTransfers, blob: Descriptor) -> None:
        self.digest = blob.digest
        self.size = blob.size
        """As announced by the manifest, then by the registry."""
        self.path = Path()
        self.members: list[LayerTransfer] = []
        self.failed = False
        self.beginnings = 0
        """How often it was received anew, since what had arrived was wrong."""
        self._owner = owner
        self._short_id = blob.digest.partition(":")[2][:12]
        self._growths: set[Growth] = set()
        self._begun = asyncio.Event()
        self._complete = False
        self.task = asyncio.create_task(self._run(), name=f"blob {self._short_id}")
        self.task.add_done_callback(_seen)

    async def begun(self) -> None:
        """Wait until there is something to follow; raises what went wrong before."""
        waiting = asyncio.ensure_future(self._begun.wait())
        try:
            await asyncio.wait((waiting, self.task), return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        if not self._begun.is_set():
            await self.done()

    async def done(self) -> None:
        """Wait until the blob is in the content store; raises what went wrong."""
        await _outcome(self.task)

    @contextmanager
    def followed(self) -> Iterator[Growth | None]:
        """Follow the file at ``path``; gives None when it is complete."""
        if self._complete:
            yield None
            return
        growth = Growth()
        self._growths.add(growth)
        if self.failed:
            growth.give_up()
        try:
            yield growth
        finally:
            self._growths.discard(growth)
            growth.give_up()

    async def _run(self) -> None:
        downloads = self._owner.downloads
        if downloads.locked():
            self._tell(status(self._short_id, "Waiting"))
        async with downloads:
            try:
                partial = await _in_thread(lambda: self._owner.content.partial(self.digest))
            except OSError as error:
                raise _disk_failure(error) from error
            self.path = partial.path
            try:
                await self._receive(partial)
                self.path = self._owner.content.publish(partial)
            except OSError as error:
                partial.discard()
                raise _disk_failure(error) from error
            except SystemFailure as error:
                if not isinstance(error, Unreachable | RegistryError):
                    # The disk is full, say: what has arrived is in the way of others, too.
                    partial.discard()
                raise
            finally:
                partial.close()
                if not self._complete:
                    self.failed = True
                    self._give_up_followers()
        self._tell(status(self._short_id, "Download complete"))

    async def _receive(self, partial: Partial) -> None:
        failures = 0
        while not partial.is_complete:
            before, repository = partial.size, self._repository()
            try:
                await self._read(partial, repository)
            except (Unreachable, RegistryError) as error:
                if isinstance(error, RegistryError) and error.status == 416 and partial.size:
                    self._begin_anew(partial)
                    continue
                failures = 0 if partial.size - before >= _PROGRESS_BYTES else failures + 1
                if isinstance(error, RegistryError) and error.status == 404:
                    raise NotFound("unknown blob") from error
                if failures >= self._owner.attempts or not _may_pass(error):
                    raise
                logger.info("receiving %s again: %s", self.digest, error)
                if failures and repository in self._repositories():
                    await self._pause(failures)
                continue
            self._tell(status(self._short_id, "Verifying Checksum"))
            if partial.is_complete:
                break
            if not partial.resumed:
                partial.discard()
                raise SystemFailure(f"filesystem layer verification failed for digest {self.digest}")
            self._begin_anew(partial)
        self.size = partial.size
        self._complete = True
        for growth in self._growths:
            growth.complete()
        self._begun.set()

    async def _read(self, partial: Partial, repository: Repository) -> None:
        async with repository.open_blob(self.digest, self.size, partial.size) as stream:
            self.size = stream.size
            partial.resumed = partial.size > 0
            known = partial.size - stream.offset  # where the registry begins anew, what is there already is passed over
            self._begun.set()
            with Meter(self._short_id, "Downloading", stream.size, self._tell) as meter:
                async for piece in stream:
                    if known >= len(piece):
                        known -= len(piece)
                        continue
                    await _in_thread(functools.partial(partial.append, memoryview(piece)[known:]))
                    known = 0
                    for growth in self._growths:
                        growth.grown()
                    meter.update(partial.size)

    def _begin_anew(self, partial: Partial) -> None:
        logger.warning("%s is received anew: its beginning was of something else", self.digest)
        self.beginnings += 1
        self._give_up_followers()
        partial.restart()

    def _give_up_followers(self) -> None:
        for growth in self._growths:
            growth.give_up()

    async def _pause(self, failures: int) -> None:
        for left_s in range(2 ** (failures - 1), 0, -1):
            self._tell(status(self._short_id, f"Retrying in {left_s} second{'s' if left_s > 1 else ''}"))
            await asyncio.sleep(1)

    def _repositories(self) -> list[Repository]:
        return [repository for member in self.members for repository in member.repositories]

    def _repository(self) -> Repository:
        for repository in self._repositories():
            return repository
        raise Cancelled(f"nobody wants {self.digest} any more")

    def _tell(self, message: Message) -> None:
        for member in self.members:
            member.tell(message)


def _disk_failure(error: OSError) -> SystemFailure:
    where = f"write {error.filename}: " if error.filename else ""
    return SystemFailure(f"{where}{(error.strerror or str(error)).lower()}")


def _may_pass(error: EngineError) -> bool:
    """Whether asking again can help: not where the registry says that it won't."""
    if isinstance(error, RegistryError):
        return error.status >= 500 or error.status in (408, 429)
    return not isinstance(error, RedirectRefused)


async def _outcome(task: asyncio.Task[None]) -> None:
    """Wait for another's task; Cancelled when that was cancelled, which is no cancellation of the caller."""
    await asyncio.wait((task,))
    if task.cancelled():
        raise Cancelled(f"{task.get_name()} has been given up")
    task.result()


def _seen(task: asyncio.Task[None]) -> None:
    """Those who wait for a task may be gone before it fails."""
    if not task.cancelled():
        task.exception()


async def _in_thread(work: Callable[[], Result]) -> Result:
    """Run in a thread; a cancelled caller waits for its end, since that may still use what the caller is about to close."""
    future = asyncio.get_running_loop().run_in_executor(None, work)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait((future,))
        raise
