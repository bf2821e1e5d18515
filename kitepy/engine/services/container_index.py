"""All containers by id and name: read from the database once, written through with every change.

The database is the truth; the copies in memory only spare decoding on each list and inspect.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import msgspec

from kitepy.engine.model.container import ContainerRecord
from kitepy.engine.model.errors import Conflict, InvalidParameter, NotFound
from kitepy.engine.model.ids import is_id_prefix
from kitepy.engine.storage.database import Database


class ContainerIndex:
    """Look-up and storage of container records. Used from the event loop's thread only."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._by_id: dict[str, ContainerRecord] = {}
        self._ids_by_name: dict[str, str] = {}

    def load(self) -> None:
        """Read every record; called once, before anything else."""
        decoder = msgspec.json.Decoder(ContainerRecord)
        with self._database.transaction() as connection:
            rows = connection.execute("SELECT record FROM containers").fetchall()
        for (blob,) in rows:
            self._remember(decoder.decode(blob))

    def __iter__(self) -> Iterator[ContainerRecord]:
        return iter(list(self._by_id.values()))

    def __len__(self) -> int:
        return len(self._by_id)

    def get(self, container_id: str) -> ContainerRecord | None:
        """By full id."""
        return self._by_id.get(container_id)

    def owner_of_name(self, name: str) -> str | None:
        """The id of the container with this name."""
        return self._ids_by_name.get(name)

    def resolve(self, ref: str) -> ContainerRecord:
        """By full id, name or unambiguous beginning of an id, in this order."""
        if record := self._by_id.get(ref):
            return record
        if container_id := self._ids_by_name.get(ref.removeprefix("/")):
            return self._by_id[container_id]
        if ref and is_id_prefix(ref):
            matches = [container_id for container_id in self._by_id if container_id.startswith(ref)]
            if len(matches) > 1:
                raise InvalidParameter(f"multiple IDs found with provided prefix: {ref}")
            if matches:
                return self._by_id[matches[0]]
        raise NotFound(f"No such container: {ref}")

    def add(self, record: ContainerRecord) -> None:
        """Store a new container; raises Conflict when its name is taken."""
        if owner := self._ids_by_name.get(record.name):
            raise name_conflict(record.name, owner)
        try:
            with self._database.transaction() as connection:
                connection.execute(
                    "INSERT INTO containers (id, name, record) VALUES (?, ?, ?)",
                    (record.id, record.name, msgspec.json.encode(record)),
                )
        except sqlite3.IntegrityError as error:
            raise Conflict(f'The container name "/{record.name}" is already in use') from error
        self._remember(record)

    def save(self, record: ContainerRecord) -> None:
        """Store a changed container, its name included."""
        before = self._by_id[record.id]
        owner = self._ids_by_name.get(record.name)
        if owner is not None and owner != record.id:
            raise name_conflict(record.name, owner)
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE containers SET name = ?, record = ? WHERE id = ?",
                (record.name, msgspec.json.encode(record), record.id),
            )
        if before.name != record.name:
            del self._ids_by_name[before.name]
        self._remember(record)

    def remove(self, container_id: str) -> None:
        """Forget a container."""
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM containers WHERE id = ?", (container_id,))
        record = self._by_id.pop(container_id)
        self._ids_by_name.pop(record.name, None)

    def _remember(self, record: ContainerRecord) -> None:
        self._by_id[record.id] = record
        self._ids_by_name[record.name] = record.id


def name_conflict(name: str, owner_id: str) -> Conflict:
    """The error for a name that is taken, worded as users of Docker know it."""
    return Conflict(
        f'Conflict. The container name "/{name}" is already in use by container "{owner_id}". '
        "You have to remove (or rename) that container to be able to reuse that name."
    )
