"""Looking up layers: rows of the database as values, stacks of them, and overlay's lower directories. Changes nothing."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from kitepy.engine.model.errors import NotFound
from kitepy.engine.model.oci import ChainId, DiffId, Digest
from kitepy.engine.storage.database import Database


@dataclass(frozen=True)
class Layer:
    """One layer that is ready to be mounted."""

    number: int
    chain_id: ChainId
    diff_id: DiffId
    parent: int | None
    size_bytes: int
    blob_digest: Digest | None
    blob_size: int
    media_type: str

    @property
    def directory(self) -> str:
        """Relative to the data root; short, so that 128 of them fit into one page of mount options."""
        return f"layers/{self.number}/diff"


class LayerIndex:
    """The layers of one database that are ready to be mounted."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lowers: dict[ChainId, tuple[str, ...]] = {}

    def find(self, chain: ChainId) -> Layer | None:
        """The layer with this chain id, if it is ready."""
        row = self._database.query_one("SELECT * FROM layers WHERE chain_id = ? AND state = 'ready'", (chain,))
        return None if row is None else layer_of(row)

    def get(self, chain: ChainId) -> Layer:
        """The layer with this chain id; raises ``NotFound``."""
        layer = self.find(chain)
        if layer is None:
            raise NotFound(f"layer does not exist: {chain}")
        return layer

    def by_number(self, number: int) -> Layer:
        row = self._database.query_one("SELECT * FROM layers WHERE id = ? AND state = 'ready'", (number,))
        if row is None:
            raise NotFound(f"layer does not exist: {number}")
        return layer_of(row)

    def stack(self, chain: ChainId | None) -> tuple[Layer, ...]:
        """The layer and everything below it, bottom first."""
        rows = self._database.query(
            """WITH RECURSIVE below(id, depth) AS (
                   SELECT id, 0 FROM layers WHERE chain_id = ? AND state = 'ready'
                   UNION ALL SELECT layers.parent_id, depth + 1 FROM below JOIN layers ON layers.id = below.id
                   WHERE layers.parent_id IS NOT NULL)
               SELECT layers.* FROM below JOIN layers ON layers.id = below.id ORDER BY depth DESC""",
            (chain,),
        )
        if chain is not None and not rows:
            raise NotFound(f"layer does not exist: {chain}")
        return tuple(layer_of(row) for row in rows)

    def lower_dirs(self, chain: ChainId) -> tuple[str, ...]:
        """Directories for overlay's ``lowerdir``, relative to the data root, topmost first."""
        found = self._lowers.get(chain)
        if found is None:
            found = self._lowers[chain] = tuple(layer.directory for layer in reversed(self.stack(chain)))
        return found

    def all(self) -> list[Layer]:
        """Every layer that is ready."""
        return [layer_of(row) for row in self._database.query("SELECT * FROM layers WHERE state = 'ready'")]

    def total_size(self) -> int:
        """Bytes of files in all layers."""
        row = self._database.query_one("SELECT coalesce(sum(size), 0) AS total FROM layers WHERE state = 'ready'")
        return int(row["total"]) if row is not None else 0

    def with_diff(self, diff_id: DiffId) -> Layer | None:
        """Some layer with these contents, whatever it lies on."""
        row = self._database.query_one("SELECT * FROM layers WHERE diff_id = ? AND state = 'ready' LIMIT 1", (diff_id,))
        return None if row is None else layer_of(row)

    def forget(self, chain: ChainId) -> None:
        """The layer is not ready any more."""
        self._lowers.pop(chain, None)


def layer_of(row: sqlite3.Row) -> Layer:
    return Layer(
        number=row["id"],
        chain_id=ChainId(row["chain_id"]),
        diff_id=DiffId(row["diff_id"]),
        parent=row["parent_id"],
        size_bytes=row["size"],
        blob_digest=Digest(row["blob_digest"]) if row["blob_digest"] else None,
        blob_size=row["blob_size"],
        media_type=row["media_type"],
    )
