"""All networks by id and name: the predefined ones, and the stored ones, which are read once and written through."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import msgspec

from kitepy.engine.model.errors import InvalidParameter, NotFound
from kitepy.engine.model.ids import is_id_prefix
from kitepy.engine.model.network import NetworkRecord
from kitepy.engine.storage.database import Database

PREDEFINED = ("bridge", "host", "none")
"""Names of the networks that every engine has."""


@dataclass(frozen=True)
class StoredNetwork:
    """A network with what only the API knows of it."""

    record: NetworkRecord
    scope: str = "local"
    config_only: bool = False
    """It exists to be referred to by other networks; there is nothing of it in the kernel."""
    config_from: str = ""
    """The name of the network that its configuration was taken from."""
    configured: tuple[str, ...] = ()
    """The subnets that its maker named: only there a container may wish for an address."""
    has_ipam_options: bool = False
    """Whether there were any at all: none, and an empty map, are shown differently."""

    @property
    def id(self) -> str:
        return self.record.network_id

    @property
    def name(self) -> str:
        return self.record.name

    @property
    def predefined(self) -> bool:
        return self.record.name in PREDEFINED


class AmbiguousNetwork(InvalidParameter):
    """Several networks have ids that begin so."""

    def __init__(self, ref: str, matches: int) -> None:
        super().__init__(f"network {ref} is ambiguous ({matches} matches found based on ID prefix)")
        self.ref = ref
        self.matches = matches


class NetworkIndex:
    """Look-up and storage. Used from the event loop's thread only."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._by_id: dict[str, StoredNetwork] = {}
        self._ids_by_name: dict[str, str] = {}

    def load(self) -> None:
        """Read what is stored; called once, before anything else."""
        decoder = msgspec.json.Decoder(StoredNetwork)
        with self._database.transaction() as connection:
            rows = connection.execute("SELECT record FROM networks ORDER BY rowid").fetchall()
        for (blob,) in rows:
            self._remember(decoder.decode(blob))

    def set_predefined(self, records: Iterable[NetworkRecord]) -> None:
        """The networks that are there without being stored; they are listed first."""
        stored = list(self._by_id.values())
        self._by_id = {}
        for network in (*(StoredNetwork(record) for record in records), *stored):
            self._remember(network)

    def __iter__(self) -> Iterator[StoredNetwork]:
        return iter(list(self._by_id.values()))

    def get(self, network_id: str) -> StoredNetwork | None:
        """By full id."""
        return self._by_id.get(network_id)

    def named(self, name: str) -> StoredNetwork | None:
        """By name."""
        return self._by_id.get(self._ids_by_name.get(name, ""))

    def find(self, ref: str) -> StoredNetwork:
        """By full id, name or the beginning of an id, in this order. Raises NotFound and AmbiguousNetwork."""
        if found := self._by_id.get(ref) or self.named(ref):
            return found
        matches = [key for key in self._by_id if key.startswith(ref)] if ref and is_id_prefix(ref) else []
        if len(matches) > 1:
            raise AmbiguousNetwork(ref, len(matches))
        if not matches:
            raise self.not_found(ref)
        return self._by_id[matches[0]]

    @staticmethod
    def not_found(ref: str) -> NotFound:
        """The error for a network that isn't there."""
        return NotFound(f"network {ref} not found")

    def add(self, network: StoredNetwork) -> None:
        """Store a new network, whose name nobody else has."""
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO networks (id, name, record) VALUES (?, ?, ?)",
                (network.id, network.name, msgspec.json.encode(network)),
            )
        self._remember(network)

    def remove(self, network_id: str) -> None:
        """Forget a network."""
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM networks WHERE id = ?", (network_id,))
        network = self._by_id.pop(network_id)
        self._ids_by_name.pop(network.name, None)

    def _remember(self, network: StoredNetwork) -> None:
        self._by_id[network.id] = network
        self._ids_by_name[network.name] = network.id
