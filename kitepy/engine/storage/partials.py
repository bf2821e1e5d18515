"""Blobs that arrive bit by bit, over several connections and even engines: a file named by the digest that it is to have.

Bytes are only ever appended, so what is there is a beginning, whoever wrote it; whether of the right blob is seen at its end.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import time
from pathlib import Path

from kitepy.engine.model.errors import Conflict, InvalidParameter, SystemFailure
from kitepy.engine.model.oci import Digest

LONGEST_KEPT_S = 24 * 3600.0
_READ_BYTES = 1 << 20


class Partial:
    """A beginning of a blob, locked against other writers until it is closed. Its methods block: call them in a thread.

    Closing keeps what has arrived, for whoever goes on later.
    """

    def __init__(self, path: Path, digest: Digest) -> None:
        """Opens or begins the file; raises Conflict while somebody else writes it."""
        self.path = path
        self.digest = digest
        self._fd = _open_locked(path, digest)
        self._hash = hashlib.sha256()
        self.size = 0
        """How many bytes are there."""
        self.resumed = False
        """Whether some of them were there before."""
        try:
            while piece := os.pread(self._fd, _READ_BYTES, self.size):
                self._hash.update(piece)
                self.size += len(piece)
            if os.fstat(self._fd).st_nlink > 1 and not self.is_complete:
                os.unlink(path)
                raise SystemFailure(f"{path} was damaged and is removed")
            self.resumed = self.size > 0
            os.utime(self._fd)
        except BaseException:
            os.close(self._fd)
            raise

    def append(self, data: bytes | memoryview) -> None:
        """Write at the end; raises SystemFailure when the disk is full or fails."""
        view = memoryview(data)
        self._hash.update(view)
        try:
            while view:
                written = os.pwrite(self._fd, view, self.size)
                self.size += written
                view = view[written:]
        except OSError as error:
            # The hash is ahead of the file: nobody may go on from here without reading it anew.
            raise SystemFailure(f"write {self.path}: {(error.strerror or str(error)).lower()}") from error

    def restart(self) -> None:
        """Forget all bytes, e.g. since the registry can't go on from where they end."""
        os.ftruncate(self._fd, 0)
        self._hash = hashlib.sha256()
        self.size = 0
        self.resumed = False

    @property
    def is_complete(self) -> bool:
        """Whether the bytes are those that the digest stands for."""
        return f"sha256:{self._hash.hexdigest()}" == self.digest

    def verify(self) -> None:
        """Raises InvalidParameter unless it is complete."""
        if not self.is_complete:
            found = f"sha256:{self._hash.hexdigest()}"
            raise InvalidParameter(f"content does not match its digest: expected {self.digest}, got {found}")

    def discard(self) -> None:
        """Remove the file."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)
        self.close()

    def close(self) -> None:
        """Let others go on; does nothing when it is closed already."""
        if self._fd >= 0:
            if not self.size:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self.path)
            os.close(self._fd)
            self._fd = -1


def remove_old(directory: Path, older_than_s: float = LONGEST_KEPT_S) -> int:
    """Remove what nobody is writing and nobody has gone on with for long; gives how many bytes."""
    freed = 0
    oldest = time.time() - older_than_s
    for entry in os.scandir(directory):
        with contextlib.suppress(FileNotFoundError):
            found = entry.stat(follow_symlinks=False)
            if found.st_mtime > oldest:
                continue
            fd = os.open(entry.path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(entry.path)
                freed += found.st_size if found.st_nlink == 1 else 0
            except BlockingIOError:
                continue
            finally:
                os.close(fd)
    return freed


def _open_locked(path: Path, digest: Digest) -> int:
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Between opening and locking, the one before may have finished or removed it.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.stat(path), os.fstat(fd)):
                    return fd
        except BlockingIOError:
            os.close(fd)
            raise Conflict(f"{digest} is being received already") from None
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
