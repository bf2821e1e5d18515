"""All containers by id and name: read from the database once, written through with every change.

The database is the truth; the copies in memory only spare decoding on each list and inspect.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import msgspec

from kitepy.engine.model.container import ContainerRecord, Link
from kitepy.engine.model.errors import Conflict, InvalidParameter, NotFound
from kitepy.engine.model.ids import is_id_prefix
from kitepy.engine.storage.database import Database


class ContainerIndex:
    """Look-up and storage of container records. Used from the event loop's thread only."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._by_id: dict[str, ContainerRecord] = {}
        self._ids_by_name: dict[str, str] = {}
        self._linking: dict[str, set[str]] = {}

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
        name = ref.removeprefix("/")
        if container_id := self._ids_by_name.get(name):
            return self._by_id[container_id]
        if "/" in name and (linked := self._linked(name)) is not None:
            return linked
        if ref and is_id_prefix(ref):
            matches = [container_id for container_id in self._by_id if container_id.startswith(ref)]
            if len(matches) > 1:
                raise InvalidParameter(f"multiple IDs found with provided prefix: {ref}")
            if matches:
                return self._by_id[matches[0]]
        raise NotFound(f"No such container: {ref}")

    def find_link(self, name: str) -> tuple[ContainerRecord, Link] | None:
        """The link of that name, ``container/alias``, and the container that has it."""
        parent_name, _, alias = name.removeprefix("/").partition("/")
        parent = self._by_id.get(self._ids_by_name.get(parent_name, ""))
        links = parent.links if parent is not None else ()
        return next(((parent, link) for link in links if parent is not None and link.alias == alias), None)

    def _linked(self, name: str) -> ContainerRecord | None:
        found = self.find_link(name)
        return None if found is None else self._by_id.get(found[1].target_id)

    def linking(self, container_id: str) -> list[ContainerRecord]:
        """The containers that are linked to this one."""
        return [self._by_id[parent_id] for parent_id in sorted(self._linking.get(container_id, ()))]

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
        self._forget_links(record)

    def _forget_links(self, record: ContainerRecord) -> None:
        for link in record.links:
            parents = self._linking.get(link.target_id, set())
            parents.discard(record.id)
            if not parents:
                self._linking.pop(link.target_id, None)

    def _remember(self, record: ContainerRecord) -> None:
        before = self._by_id.get(record.id)
        if before is not None and before.links != record.links:
            self._forget_links(before)
        for link in record.links:
            self._linking.setdefault(link.target_id, set()).add(record.id)
        self._by_id[record.id] = record
        self._ids_by_name[record.name] = record.id


def name_conflict(name: str, owner_id: str) -> Conflict:
    """The error for a name that is taken, worded as users of Docker know it."""
    return Conflict(
        f'Conflict. The container name "/{name}" is already in use by container "{owner_id}". '
        "You have to remove (or rename) that container to be able to reuse that name."
    )
