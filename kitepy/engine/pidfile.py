"""The file with the engine's process id, locked for as long as the engine lives, so that a stale one never blocks a start."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from kitepy.engine.config import ConfigError


class PidFile:
    """A context manager. The lock, a POSIX record lock (fcntl(2)), ends with the process however it dies.

    The number in the file is for people and scripts; it is not trusted, since another program may have it by now.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def __enter__(self) -> PidFile:
        """Create or take over the file; raises ConfigError when an engine that lives has it."""
        self.path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        while True:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
            try:
                if self._lock(descriptor):
                    break
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        self._descriptor = descriptor
        return self

    def _lock(self, descriptor: int) -> bool:
        """Lock the file; False when it was removed meanwhile by the engine that had it."""
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            raise ConfigError(f"an engine with process id {owner} is still running (PID file {self.path})") from None
        try:
            return os.path.samestat(os.stat(self.path), os.fstat(descriptor))
        except FileNotFoundError:
            return False

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if self._descriptor is not None:
            with suppress(FileNotFoundError):
                self.path.unlink()
            os.close(self._descriptor)
            self._descriptor = None
