"""Documents that change only with a container's record: made once, however often they are asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kitepy.engine.model.container import ContainerRecord
from kitepy.engine.services.container_index import ContainerIndex

Document = dict[str, Any]


class RecordCache:
    """Belongs to one event loop."""

    def __init__(self, index: ContainerIndex, make: Callable[[ContainerRecord], Document]) -> None:
        self._index = index
        self._make = make
        self._known: dict[str, tuple[ContainerRecord, Document]] = {}

    def copy_of(self, record: ContainerRecord) -> Document:
        """The record's document, for the caller to add to."""
        known = self._known.get(record.id)
        if known is None or known[0] is not record:
            if len(self._known) > 2 * len(self._index) + 100:
                self._known = {key: kept for key, kept in self._known.items() if self._index.get(key) is not None}
            known = self._known[record.id] = record, self._make(record)
        return dict(known[1])
