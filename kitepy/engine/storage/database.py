"""The engine's one database: opening, locking, migrating and transactions; what is in the tables is their owners' business.

``<data root>/engine.lock`` is held with flock(2) for as long as a ``Database`` is open and names the owner's process id.
SQLite runs in WAL mode with ``synchronous=NORMAL``: a commit is one write without waiting for the disk. It survives a crash of
the engine; a power cut may lose the last moments but never breaks the order of commits. Checkpoints, which do wait for
the disk, are made by a thread of their own, so that no request pays for them.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kitepy.engine.model.errors import Conflict, SystemFailure
from kitepy.engine.storage.schema import MIGRATIONS

log = logging.getLogger(__name__)

_BUSY_TIMEOUT_MS = 10_000
_RESERVE_BYTES = 256 * 1024
_CHECKPOINT_DELAY_S = 1.0


class Database:
    """A connection for short operations on the event loop's thread (other threads may use it too, one at a time)."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._lock_fd = _lock(path.parent)
        try:
            self._connection = _connect(path)
            _migrate(self._connection, path)
            _reserve(self._connection)
        except BaseException:
            os.close(self._lock_fd)
            raise
        self._mutex = threading.RLock()
        self._depth = 0
        self._dirty = threading.Event()
        self._closing = threading.Event()
        self._checkpointer = threading.Thread(target=self._checkpoint_loop, name="checkpoint", daemon=True)
        self._checkpointer.start()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing: commits at the end of the block, rolls back when it raises. An inner block joins the outer one.

        Raises SystemFailure when the disk is full or fails.
        """
        with self._mutex, _told(self._path):
            outermost = self._depth == 0
            if outermost:
                self._connection.execute("BEGIN IMMEDIATE")
            self._depth += 1
            try:
                yield self._connection
            except BaseException:
                if outermost and self._connection.in_transaction:  # SQLite itself rolls back on a full disk
                    self._connection.execute("ROLLBACK")
                raise
            else:
                if outermost:
                    self._connection.execute("COMMIT")
                    self._dirty.set()
            finally:
                self._depth -= 1

    def query(self, sql: str, parameters: tuple[Any, ...] = ()) -> list[sqlite3.Row]:
        """All rows of a SELECT."""
        with self._mutex:
            return self._connection.execute(sql, parameters).fetchall()

    def query_one(self, sql: str, parameters: tuple[Any, ...] = ()) -> sqlite3.Row | None:
        """The first row of a SELECT, or None."""
        with self._mutex:
            row: sqlite3.Row | None = self._connection.execute(sql, parameters).fetchone()
            return row

    def get_meta(self, key: str) -> str | None:
        """A value that belongs to the data root as a whole."""
        row = self.query_one("SELECT value FROM meta WHERE key = ?", (key,))
        return None if row is None else str(row["value"])

    def set_meta(self, key: str, value: str) -> None:
        with self.transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def close(self) -> None:
        """Write everything into the main file and release the data root. Safe to call twice."""
        if self._closing.is_set():
            return
        self._closing.set()
        self._dirty.set()
        self._checkpointer.join()
        with self._mutex:
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._connection.close()
            os.close(self._lock_fd)

    def _checkpoint_loop(self) -> None:
        connection = _connect(self._path)
        try:
            while True:
                self._dirty.wait()
                if self._closing.wait(_CHECKPOINT_DELAY_S):
                    return
                self._dirty.clear()
                try:
                    connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
                except sqlite3.Error as error:
                    # The log only grows meanwhile; the next commit brings us here again.
                    log.warning("cannot checkpoint %s: %s", self._path, error)
        finally:
            connection.close()


def _connect(path: Path) -> sqlite3.Connection:
    try:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=256)
        connection.row_factory = sqlite3.Row
        connection.execute(f"PRAGMA busy_timeout={_BUSY_TIMEOUT_MS}")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA wal_autocheckpoint=0")
    except sqlite3.Error as error:
        raise SystemFailure(f"cannot open the database {path}: {error}") from error
    return connection


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """The machine's troubles in words for people."""
    try:
        yield
    except sqlite3.OperationalError as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        reason = "No space left on device" if code == sqlite3.SQLITE_FULL else str(error)
        raise SystemFailure(f"cannot write the database {path}: {reason}") from error


def _reserve(connection: sqlite3.Connection) -> None:
    """Let log and database hold some room, so that on a full disk containers can still be noted as ended or removed."""
    try:
        connection.execute("INSERT OR REPLACE INTO meta VALUES ('reserve', zeroblob(?))", (_RESERVE_BYTES,))
        connection.execute("DELETE FROM meta WHERE key = 'reserve'")
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
    except sqlite3.OperationalError as error:
        log.warning("the disk has no room for the database to grow: %s", error)


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > len(MIGRATIONS):
        connection.close()
        raise SystemFailure(
            f"the database {path} has schema version {version}, this Kitepy knows up to {len(MIGRATIONS)}: "
            "it was written by a newer Kitepy; update, or choose another --data-root"
        )
    for number in range(version, len(MIGRATIONS)):
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in _statements(MIGRATIONS[number]):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version={number + 1}")
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise


def _statements(script: str) -> Iterator[str]:
    # executescript() would commit half-way; a migration must be all or nothing.
    statement = ""
    for line in script.splitlines():
        statement += line + "\n"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _lock(data_root: Path) -> int:
    fd = os.open(data_root / "engine.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        owner = os.pread(fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(fd)
        raise Conflict(f"the data root {data_root} is in use by another engine (pid {owner})") from error
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd
