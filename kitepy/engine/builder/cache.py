"""Remembers what each step made, by content: the table ``build_cache`` of the engine's database.

A key is the digest of all that a step's result depends on: the layer it starts from, what of the configuration it looks at,
the instruction with its variables replaced, the build arguments it sees and the content of the files it copies. Times, names
of stages and proxy settings are not among them, so equal steps of different Dockerfiles share their result.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kitepy.engine.builder.instructions import Copy, Instruction, Run, Workdir
from kitepy.engine.model.oci import ChainId, ImageConfig
from kitepy.engine.storage.database import Database

_FORMAT = "1"
_PLACE = ("source", "line")


@dataclass(frozen=True)
class CacheRecord:
    """What a step made."""

    created: str
    """RFC 3339: goes into the image's history, so that building again gives the same image."""
    layer: ChainId | None
    """None for steps that change no files."""
    description: str
    size_bytes: int = 0


@dataclass(frozen=True)
class CacheEntry:
    """A record with its use."""

    key: str
    record: CacheRecord
    used_ns: int


def step_key(
    top: ChainId | None, config: ImageConfig, instruction: Instruction, **inputs: str | Iterable[str] | Mapping[str, str]
) -> str:
    """The key of a step: ``inputs`` are whatever else its result depends on."""
    fields = {name: value for name, value in dataclasses.asdict(instruction).items() if name not in _PLACE}
    described = [
        _FORMAT,
        top,
        _looked_at(config, instruction),
        type(instruction).__name__,
        fields,
        {name: value if isinstance(value, str | dict) else list(value) for name, value in inputs.items()},
    ]
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def _looked_at(config: ImageConfig, instruction: Instruction) -> dict[str, Any]:
    """What of the configuration can change a step's files: a new label, say, spoils no RUN after it."""
    match instruction:
        case Copy():
            return {"dir": config.working_dir}
        case Workdir():
            return {"dir": config.working_dir, "user": config.user}
        case Run():
            return {"dir": config.working_dir, "user": config.user, "env": list(config.env), "shell": list(config.shell or ())}
    return config.to_json()


class BuildCache:
    """The table as records. ``has_layer`` says whether a layer is still there."""

    def __init__(
        self,
        database: Database,
        has_layer: Callable[[ChainId], bool],
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._database = database
        self._has_layer = has_layer
        self._clock = clock

    def find(self, key: str) -> CacheRecord | None:
        """The record of a step, marked as used; None when there is none or its layer is gone."""
        row = self._database.query_one("SELECT value FROM build_cache WHERE key = ?", (key,))
        if row is None:
            return None
        record = _decode(row["value"])
        if record.layer is not None and not self._has_layer(record.layer):
            self.remove([key])
            return None
        with self._database.transaction() as connection:
            connection.execute("UPDATE build_cache SET used_at = ? WHERE key = ?", (self._clock(), key))
        return record

    def store(self, key: str, record: CacheRecord) -> None:
        """Remember a step, replacing what was known under its key."""
        value = json.dumps(dataclasses.asdict(record)).encode()
        with self._database.transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO build_cache VALUES (?, ?, ?)", (key, value, self._clock()))

    def entries(self) -> list[CacheEntry]:
        """Everything, the least recently used first."""
        rows = self._database.query("SELECT key, value, used_at FROM build_cache ORDER BY used_at")
        return [CacheEntry(row["key"], _decode(row["value"]), row["used_at"]) for row in rows]

    def layers(self) -> set[ChainId]:
        """The layers that records refer to: they are kept from being collected."""
        return {entry.record.layer for entry in self.entries() if entry.record.layer is not None}

    def remove(self, keys: Iterable[str]) -> None:
        """Forget steps."""
        with self._database.transaction() as connection:
            connection.executemany("DELETE FROM build_cache WHERE key = ?", [(key,) for key in keys])


def _decode(value: bytes) -> CacheRecord:
    document: dict[str, Any] = json.loads(value)
    return CacheRecord(**document)
