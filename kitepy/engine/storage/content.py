"""Blobs: files named by their digest, complete and verified or not there; who needs a blob is decided by layers and images.

::

    content/blobs/sha256/<hex>    immutable
    content/ingest/<random>       being written; whatever is left over at start is removed
    content/partial/<hex>         received so far; whoever goes on finds it, also after a restart, for a day

A blob appears by rename(2), so a reader never sees half of one.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from kitepy.engine.model.errors import InvalidParameter
from kitepy.engine.model.oci import Digest
from kitepy.engine.model.reference import check_digest
from kitepy.engine.storage.partials import Partial, remove_old


class ContentStore:
    """The blobs below one data root."""

    def __init__(self, data_root: Path) -> None:
        self._blobs = data_root / "content" / "blobs" / "sha256"
        self._ingest = data_root / "content" / "ingest"
        self._blobs.mkdir(parents=True, exist_ok=True)
        self._partial = data_root / "content" / "partial"
        self._ingest.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._partial.mkdir(parents=True, exist_ok=True, mode=0o700)

    def remove_leftovers(self) -> int:
        """Remove what an engine that died was still writing; returns how many files. For start-up only."""
        count = 0
        for directory, _, names in os.walk(self._ingest, topdown=False):
            for name in names:
                os.unlink(os.path.join(directory, name))
                count += 1
            if Path(directory) != self._ingest:
                os.rmdir(directory)
        remove_old(self._partial)
        return count

    @property
    def blobs(self) -> Path:
        """The directory of the blobs, each named by its digest without the algorithm."""
        return self._blobs

    def path(self, digest: Digest) -> Path:
        """Where the blob is, or would be."""
        algorithm, _, encoded = check_digest(digest).partition(":")
        if algorithm != "sha256":
            raise InvalidParameter(f"unsupported digest algorithm: {digest}")
        return self._blobs / encoded

    def __contains__(self, digest: Digest) -> bool:
        return self.path(digest).exists()

    def digests(self) -> Iterator[Digest]:
        """All blobs there are."""
        for entry in os.scandir(self._blobs):
            yield Digest(f"sha256:{entry.name}")

    def new_ingest_path(self) -> Path:
        """A fresh path for content that a worker writes; hand it to ``adopt``, or unlink it."""
        return self._ingest / secrets.token_hex(16)

    def adopt(self, ingested: Path, digest: Digest, *, sync: bool = False) -> Path:
        """Make a completely written ingest file the blob with this digest, which the caller has computed from its bytes.

        With ``sync`` the bytes are on disk before the blob is visible. Blobs of layers leave that to the layer
        store, which syncs many files at once and forgets layers that a power cut caught before.
        """
        target = self.path(digest)
        if sync:
            _sync(ingested)
        os.replace(ingested, target)
        if sync:
            _sync(self._blobs)
        return target

    def partial(self, digest: Digest) -> Partial:
        """What has been received of a blob so far, to go on with; raises Conflict while somebody else does. Blocks."""
        remove_old(self._partial)
        return Partial(self._partial / self.path(digest).name, digest)

    def remove_partials(self) -> int:
        """Remove what has been received of blobs that nobody is receiving now; gives how many bytes. Blocks."""
        return remove_old(self._partial, 0)

    def publish(self, partial: Partial) -> Path:
        """Make a partial that is complete the blob, and close it; removes it and raises ``InvalidParameter`` when it is another.

        As for ``adopt`` without ``sync``.
        """
        try:
            partial.verify()
        except InvalidParameter:
            partial.discard()
            raise
        target = self.adopt(partial.path, partial.digest)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(partial.path)  # rename(2) does nothing between two names of one file
        partial.close()
        return target

    def set_aside(self, digest: Digest) -> None:
        """Keep a blob that is about to be removed as a partial that happens to be complete, since somebody may want it again."""
        path = self.path(digest)
        with contextlib.suppress(FileNotFoundError, FileExistsError):
            os.link(path, self._partial / path.name)

    def writer(self, expected: Digest | None = None) -> BlobWriter:
        """Write a blob piece by piece; see ``BlobWriter``."""
        return BlobWriter(self, expected)

    def put(self, data: bytes) -> Digest:
        """Store some bytes."""
        with self.writer() as writer:
            writer.write(data)
            return writer.commit()

    def remove(self, digest: Digest) -> None:
        """Remove a blob; nothing happens when it is not there."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path(digest))


class BlobWriter:
    """Collects and hashes bytes; the blob exists only after ``commit``. Leaving the ``with`` block without it discards them."""

    def __init__(self, store: ContentStore, expected: Digest | None) -> None:
        self._store = store
        self._expected = expected
        self._path = store.new_ingest_path()
        self._file = open(self._path, "xb", buffering=0)  # noqa: SIM115 - closed by __exit__
        self._hash = hashlib.sha256()
        self._committed = False
        self.size = 0

    def write(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        self._hash.update(view)
        self.size += len(view)
        while view:
            view = view[self._file.write(view) :]

    def commit(self) -> Digest:
        """Publish the blob; raises ``InvalidParameter`` when it is not what was announced."""
        digest = Digest(f"sha256:{self._hash.hexdigest()}")
        if self._expected is not None and digest != self._expected:
            raise InvalidParameter(f"content does not match its digest: expected {self._expected}, got {digest}")
        self._store.adopt(self._path, digest, sync=True)
        self._committed = True
        return digest

    def __enter__(self) -> BlobWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()
        if not self._committed:
            os.unlink(self._path)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
