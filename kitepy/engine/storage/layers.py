"""Layers: one directory each, made crash-safe, stacked by parent, collected when nothing needs them; images are others' business.

::

    layers/<n>/diff    the layer's files, with overlay's whiteouts

A row of the database says what a directory is worth: ``making`` (an intent: worthless after a crash), ``ready`` (complete, has a
chain id), ``removing`` (on its way out). Making and removing are finished or undone by ``reconcile`` at the next start.
Files are not synced one by one; a sync of the whole file system follows soon after. Until then the row names the boot it was
made in: after a power cut such layers, and images on them, are dropped rather than trusted.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import os
import sqlite3
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from kitepy.engine.model.errors import EngineError, InvalidParameter
from kitepy.engine.model.launch import OverlayFlavour
from kitepy.engine.model.oci import EMPTY_LAYER, OCI_LAYER, ChainId, DiffId, Digest, chain_id
from kitepy.engine.storage.background_sync import BackgroundSync
from kitepy.engine.storage.content import ContentStore
from kitepy.engine.storage.database import Database
from kitepy.engine.storage.growth import Growth
from kitepy.engine.storage.layer_index import Layer, LayerIndex, layer_of
from kitepy.engine.storage.placement import spread_subdirectories
from kitepy.engine.storage.worker import WorkerPool

log = logging.getLogger(__name__)

_GRACE_S = 600.0
_PATIENCE_S = 0.1
_EMPTY_TAR_BYTES = 1024

Holder = Callable[[], Iterable[ChainId]]
"""Names the chain ids somebody still needs (containers, build cache)."""


@dataclass(frozen=True)
class Unplaced:
    """A layer whose files are there but which has no parent, and so no identity, yet."""

    number: int
    diff_id: DiffId
    size_bytes: int
    has_root: bool
    compression: str
    warnings: tuple[str, ...] = ()
    """What of the archive could not be kept here."""


@dataclass(eq=False)
class Lease:
    """What an operation under way (pull, load, import) needs although no image names it yet; see ``LayerStore.lease``."""

    layers: set[ChainId] = field(default_factory=set)
    blobs: set[Digest] = field(default_factory=set)
    """To be named before the blob becomes visible."""


class LayerStore(LayerIndex):
    """The layers below one data root. Belongs to one event loop."""

    def __init__(
        self,
        data_root: Path,
        database: Database,
        content: ContentStore,
        workers: WorkerPool,
        *,
        flavour: OverlayFlavour = OverlayFlavour.TRUSTED,
        boot_id: str | None = None,
    ) -> None:
        super().__init__(database)
        self._root = data_root
        self._content = content
        self._workers = workers
        self.flavour = flavour
        """How overlays of these layers have to be mounted."""
        self._boot_id = boot_id or Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        self._holders: list[Holder] = []
        self._held: dict[ChainId, int] = {}
        self._leases: list[Lease] = []
        self._collection_owed = False
        self._placed_at: dict[int, float] = {}
        self._removal_task: asyncio.Task[None] | None = None
        self._removing = asyncio.Lock()
        self._sync = BackgroundSync(data_root, database, self._boot_id)
        (data_root / "layers").mkdir(mode=0o711, parents=True, exist_ok=True)
        spread_subdirectories(data_root / "layers")

    # Making

    async def extract(
        self,
        parent: ChainId | None,
        blob: Path,
        *,
        blob_digest: Digest | None = None,
        media_type: str = "",
        expected: DiffId | None = None,
    ) -> Layer:
        """Unpack an archive (compressed or not) as a layer on top of ``parent``.

        ``blob_digest`` says that the file is a blob of the content store, which then lives as long as the layer. Raises
        ``InvalidParameter`` when the uncompressed content is not ``expected``.
        """
        if expected is not None and (existing := self.find(chain_id(parent, expected))):
            self.spare(existing)
            return existing
        unplaced = await self.unpack(blob, digest=blob_digest)
        if expected is not None and unplaced.diff_id != expected:
            self.discard(unplaced)
            raise InvalidParameter(f"layer does not match its diff id: expected {expected}, got {unplaced.diff_id}")
        return self.place(parent, unplaced, blob_digest=blob_digest, media_type=media_type)

    async def unpack(
        self,
        blob: Path,
        *,
        digest: Digest | None = None,
        following: Growth | None = None,
        consumed: Callable[[int], None] | None = None,
    ) -> Unplaced:
        """The first half of ``extract``: several of an image may run at once, since they don't touch each other.

        ``digest`` is the file's where its bytes have been hashed already: no uncompressed archive is then hashed a second time.
        ``following`` says that the file still grows: it is unpacked as far as it is there, and to the end once that is complete;
        raises ``Cancelled`` when the writer gives up. The file is opened before anything is waited for, so it may be renamed,
        even removed, meanwhile. ``consumed`` is told how many of its bytes have been read.
        """
        number = self._intend()
        try:
            diff = self._make_directory(number)
            fds = [os.open(blob, os.O_RDONLY | os.O_CLOEXEC)]
            if following is not None:
                fds.append(following.take_reader())
            params = {
                "root": str(diff),
                "flavour": self.flavour.value,
                "digest": digest if following is None else None,  # of a growing file nobody knows it yet
                "report": consumed is not None,
            }
            result = await self._workers.run(
                "kitepy.engine.storage.jobs:unpack_layer",
                params,
                fds,
                progress=(lambda report: consumed(int(report["consumed"]))) if consumed is not None else None,
                paced=following is not None,
            )
        except BaseException:
            self._give_up(number)
            raise
        for warning in result["warnings"]:
            log.warning("layer %d: %s", number, warning)
        return Unplaced(
            number,
            DiffId(result["diff_id"]),
            result["size_bytes"],
            bool(result["has_root"]),
            str(result["compression"]),
            tuple(result["warnings"]),
        )

    def place(
        self,
        parent: ChainId | None,
        unplaced: Unplaced,
        *,
        blob_digest: Digest | None = None,
        media_type: str = "",
        lease: Lease | None = None,
    ) -> Layer:
        """The second half: give it its parent and make it ready. If the same layer is there already, that one is returned.

        The lease keeps it; without one it is spared for a while.
        """
        below = self.get(parent) if parent is not None else None
        if not unplaced.has_root:
            self._inherit_root(unplaced.number, below)
        chain = chain_id(parent, unplaced.diff_id)
        with self._database.transaction() as connection:
            existing = self.find(chain)
            if existing is None:
                blob_size = self._content.path(blob_digest).stat().st_size if blob_digest is not None else 0
                connection.execute(
                    """UPDATE layers SET chain_id = ?, diff_id = ?, parent_id = ?, size = ?, state = 'ready', blob_digest = ?,
                           blob_size = ?, media_type = ?, unsynced_boot = ? WHERE id = ?""",
                    (
                        chain,
                        unplaced.diff_id,
                        below.number if below else None,
                        unplaced.size_bytes,
                        blob_digest,
                        blob_size,
                        media_type or _media_type(unplaced.compression),
                        self._boot_id,
                        unplaced.number,
                    ),
                )
        if lease is not None:
            lease.layers.add(chain)
        if existing is not None:
            self.discard(unplaced)
            if lease is None:
                self.spare(existing)
            return existing
        if lease is None:
            self._placed_at[unplaced.number] = time.monotonic()
        self._sync.soon()
        return self.get(chain)

    def discard(self, unplaced: Unplaced) -> None:
        """Drop what ``unpack`` made."""
        self._give_up(unplaced.number)

    async def commit_directory(self, parent: ChainId | None, diff: Path, *, keep: bool = False) -> Layer:
        """Make an overlay upper directory, which must not be mounted any more, the layer on top of ``parent``.

        The directory is moved, or copied with ``OverlayFlavour.FUSE``; if this fails it is left where it was. With ``keep``
        (``docker commit``) it is copied and may be mounted.
        """
        below = self.get(parent) if parent is not None else None
        include_root = _root_attributes(diff) != self._root_of(below)
        ingest = self._content.new_ingest_path()
        number = self._intend()
        try:
            if not include_root and not os.listdir(diff):
                digest, size_bytes = Digest(EMPTY_LAYER), 0
                self._store_empty_tar()
            else:
                fd = os.open(ingest, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                job = "kitepy.engine.storage.jobs:pack_layer"
                packed = await self._workers.run(
                    job, {"root": str(diff), "include_root": include_root, "flavour": self.flavour.value}, [fd]
                )
                digest, size_bytes = Digest(packed["digest"]), int(packed["size_bytes"])
                self._content.adopt(ingest, digest)
            if keep or self.flavour is OverlayFlavour.FUSE:
                self._give_up(number)
                return await self.extract(parent, self._content.path(digest), blob_digest=digest, media_type=OCI_LAYER)
            os.rename(diff, self._make_directory(number))
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(ingest)
            self._give_up(number)
            raise
        unplaced = Unplaced(number, DiffId(digest), size_bytes, True, "")
        return self.place(parent, unplaced, blob_digest=digest, media_type=OCI_LAYER)

    # Keeping and collecting

    def add_holder(self, holder: Holder) -> None:
        """Ask this callable, at each collection, which layers are needed; images are known anyway."""
        self._holders.append(holder)

    @contextlib.contextmanager
    def hold(self, chain: ChainId | None) -> Iterator[None]:
        """Keep a layer, and those below, during the block."""
        if chain is None:
            yield
            return
        self._held[chain] = self._held.get(chain, 0) + 1
        try:
            yield
        finally:
            self._held[chain] -= 1
            if not self._held[chain]:
                del self._held[chain]
                if self._collection_owed and not self._held and self.mark_garbage():
                    self._begin_removal()

    @contextlib.contextmanager
    def lease(self) -> Iterator[Lease]:
        """Keep what the operation of this block names in the lease from every collection.

        At the end what has found nobody else who needs it is removed: an operation that fails leaves nothing behind.
        """
        lease = Lease()
        self._leases.append(lease)
        try:
            yield lease
        finally:
            self._leases.remove(lease)
            self._collect_leased(lease)

    def spare(self, layer: Layer) -> None:
        """Keep a layer for a while although nothing holds it yet: somebody is about to build on it."""
        self._placed_at[layer.number] = time.monotonic()

    def claim(self, chain: ChainId | None) -> None:
        """Somebody permanent (an image) holds the layer from now on: it needs no grace time any more."""
        for layer in self.stack(chain):
            self._placed_at.pop(layer.number, None)

    def mark_garbage(self) -> list[Layer]:
        """Take layers that nobody needs out of sight; ``remove_marked`` removes their files. Topmost first.

        Fresh layers that nothing holds yet are spared for a while: their makers are about to refer to them.
        """
        needed = self._needed()
        oldest = time.monotonic() - _GRACE_S
        with self._database.transaction() as connection:
            rows = {row["id"]: row for row in connection.execute("SELECT * FROM layers WHERE state = 'ready'")}
            roots = {row["top_layer"] for row in connection.execute("SELECT top_layer FROM images")}
            roots.update(number for number, row in rows.items() if row["chain_id"] in needed)
            roots.update(number for number, placed in self._placed_at.items() if placed > oldest)
            reached: set[int] = set()
            for start in roots:
                number: int | None = start
                while number is not None and number in rows and number not in reached:
                    reached.add(number)
                    number = rows[number]["parent_id"]
            garbage = [layer_of(row) for number, row in rows.items() if number not in reached]
            _mark_removing(connection, [layer.number for layer in garbage])
        for layer in garbage:
            self.forget(layer.chain_id)
            self._placed_at.pop(layer.number, None)
        depth = {layer.number: layer for layer in garbage}
        return sorted(garbage, key=lambda layer: -_depth(layer, depth))

    def mark_unused(self, chains: Iterable[ChainId]) -> list[Layer]:
        """As ``mark_garbage``, but looks at these layers only, however many there are: somebody has just given them up."""
        needed = self._needed()
        oldest = time.monotonic() - _GRACE_S
        garbage: list[Layer] = []
        left = set(chains) - needed
        with self._database.transaction() as connection:
            while True:
                rows = connection.execute(
                    """SELECT * FROM layers WHERE state = 'ready' AND chain_id IN (SELECT value FROM json_each(?))
                       AND NOT EXISTS (SELECT 1 FROM images WHERE top_layer = layers.id)
                       AND NOT EXISTS (SELECT 1 FROM layers AS above WHERE above.parent_id = layers.id)""",
                    (json.dumps(sorted(left)),),
                ).fetchall()
                unused = [layer_of(row) for row in rows if self._placed_at.get(row["id"], -math.inf) <= oldest]
                if not unused:
                    break
                _mark_removing(connection, [layer.number for layer in unused])
                left.difference_update(layer.chain_id for layer in unused)
                garbage += unused
        for layer in garbage:
            self.forget(layer.chain_id)
            self._placed_at.pop(layer.number, None)
        return garbage

    def _needed(self) -> set[ChainId]:
        """What somebody needs though no image has it."""
        self._collection_owed = bool(self._held)
        needed = set(self._held).union(*(lease.layers for lease in self._leases))
        for holder in self._holders:
            needed.update(holder())
        return needed

    async def remove_marked(self, *, set_aside: bool = False) -> None:
        """Remove the files of everything on its way out, and blobs that no layer refers to any more (or set those aside)."""
        async with self._removing:
            rows = self._database.query("SELECT id, blob_digest FROM layers WHERE state = 'removing'")
            if not rows:
                return
            await self._remove_directories([str(row["id"]) for row in rows])
            with self._database.transaction() as connection:
                connection.executemany("DELETE FROM layers WHERE id = ?", [(row["id"],) for row in rows])
                blobs = {Digest(row["blob_digest"]) for row in rows if row["blob_digest"]}
                self._remove_blobs(connection, blobs, set_aside=set_aside)

    async def begin_removing(self) -> None:
        """``remove_marked`` for somebody who won't wait: what isn't gone in a moment goes while others work.

        Whoever wants the same layers again meanwhile makes them anew, and a start after a crash goes on with it.
        """
        self._begin_removal()
        assert self._removal_task is not None
        await asyncio.wait({self._removal_task}, timeout=_PATIENCE_S)

    async def reconcile(self) -> list[str]:
        """Finish or undo what a crash interrupted; for start-up, before anything else uses the store.

        Returns the ids of images that had to be dropped with layers that a power cut may have damaged.
        """
        self._content.remove_leftovers()
        with self._database.transaction() as connection:
            connection.execute("UPDATE layers SET state = 'removing', chain_id = NULL WHERE state = 'making'")
            dropped = self._drop_untrusted(connection)
        known = {"empty"} | {str(row["id"]) for row in self._database.query("SELECT id FROM layers")}
        strays = [entry.name for entry in os.scandir(self._root / "layers") if entry.name not in known]
        if strays:
            await self._remove_directories(strays)
        await self.remove_marked()
        with self._database.transaction() as connection:
            # What a pull had received whole when the engine died is spared the network.
            self._remove_blobs(connection, set(self._content.digests()), set_aside=True)
        self._sync.soon()
        return dropped

    async def close(self) -> None:
        """Wait until the layers made so far are on disk and those given up are gone."""
        if self._removal_task is not None:
            await self._removal_task
        await self._sync.close()

    # Inside

    def _drop_untrusted(self, connection: sqlite3.Connection) -> list[str]:
        rows = {row["id"]: row for row in connection.execute("SELECT * FROM layers WHERE state = 'ready'")}
        bad = {
            number
            for number, row in rows.items()
            if row["unsynced_boot"] not in (None, self._boot_id) or not (self._root / "layers" / str(number) / "diff").is_dir()
        }
        grown = True
        while grown:
            above = {number for number, row in rows.items() if row["parent_id"] in bad} - bad
            bad |= above
            grown = bool(above)
        if not bad:
            return []
        log.warning("%d layers were not safely on disk when the machine went down; they are dropped", len(bad))
        images = [row["id"] for row in connection.execute("SELECT id, top_layer FROM images") if row["top_layer"] in bad]
        connection.executemany("DELETE FROM images WHERE id = ?", [(image,) for image in images])
        _mark_removing(connection, list(bad))
        return images

    def _intend(self) -> int:
        with self._database.transaction() as connection:
            number = connection.execute("INSERT INTO layers (state) VALUES ('making')").lastrowid
        assert number is not None
        return number

    def _make_directory(self, number: int) -> Path:
        top = self._root / "layers" / str(number)
        top.mkdir(mode=0o711)
        diff = top / "diff"
        diff.mkdir()
        diff.chmod(0o755)
        return diff

    def _give_up(self, number: int) -> None:
        """Mark a half-made layer and have its files removed soon."""
        with self._database.transaction() as connection:
            _mark_removing(connection, [number])
        self._begin_removal()

    def _collect_leased(self, lease: Lease) -> None:
        if lease.layers and self.mark_unused(lease.layers):
            self._begin_removal()
        with self._database.transaction() as connection:
            self._remove_blobs(connection, lease.blobs)

    def _remove_blobs(self, connection: sqlite3.Connection, digests: Iterable[Digest], *, set_aside: bool = False) -> None:
        """Remove those of the blobs that nobody refers to; within a transaction, so that nobody begins to meanwhile."""
        leased = set[Digest]().union(*(lease.blobs for lease in self._leases))
        for digest in digests:
            if digest not in leased and not _blob_in_use(connection, digest):
                if set_aside:
                    self._content.set_aside(digest)
                self._content.remove(digest)

    def _begin_removal(self) -> None:
        if self._removal_task is None or self._removal_task.done():
            self._removal_task = asyncio.get_running_loop().create_task(self._remove_soon())

    async def _remove_soon(self) -> None:
        try:
            # More may have been given up while the last ones were being removed.
            while self._database.query_one("SELECT 1 FROM layers WHERE state = 'removing'"):
                await self.remove_marked()
        except EngineError as error:
            # The rows stay marked, so the next removal or the next start tries again.
            log.warning("cannot remove layers: %s", error)

    async def _remove_directories(self, names: list[str]) -> None:
        job, base = "kitepy.engine.storage.jobs:remove_trees", str(self._root / "layers")
        # Two processors remove twice as fast, since each file costs the kernel more than us.
        shares = [share for share in (names[::2], names[1::2]) if share]
        done = await asyncio.gather(
            *(self._workers.run(job, {"base": base, "names": share}) for share in shares), return_exceptions=True
        )
        for outcome in done:
            if isinstance(outcome, BaseException):
                raise outcome

    def _inherit_root(self, number: int, below: Layer | None) -> None:
        mode, uid, gid = self._root_of(below)
        diff = self._root / "layers" / str(number) / "diff"
        os.chown(diff, uid, gid)
        os.chmod(diff, mode)

    def _root_of(self, layer: Layer | None) -> tuple[int, int, int]:
        return (0o755, 0, 0) if layer is None else _root_attributes(self._root / layer.directory)

    def _store_empty_tar(self) -> None:
        if Digest(EMPTY_LAYER) not in self._content:
            self._content.put(bytes(_EMPTY_TAR_BYTES))


def _mark_removing(connection: sqlite3.Connection, numbers: list[int]) -> None:
    connection.executemany(
        "UPDATE layers SET state = 'removing', chain_id = NULL, parent_id = NULL WHERE id = ?", [(number,) for number in numbers]
    )


def _blob_in_use(connection: sqlite3.Connection, digest: Digest) -> bool:
    """Whether anything in the database names the blob: whoever makes a table of blobs adds it here."""
    return connection.execute("SELECT 1 FROM layers WHERE blob_digest = ? LIMIT 1", (digest,)).fetchone() is not None


def _depth(layer: Layer, others: dict[int, Layer]) -> int:
    depth = 0
    parent = layer.parent
    while parent is not None and parent in others:
        depth += 1
        parent = others[parent].parent
    return depth


def _media_type(compression: str) -> str:
    return f"{OCI_LAYER}+{compression}" if compression else OCI_LAYER


def _root_attributes(directory: Path) -> tuple[int, int, int]:
    found = directory.stat()
    return stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid
