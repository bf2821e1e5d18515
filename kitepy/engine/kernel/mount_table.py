"""What is mounted in this mount namespace: proc_pid_mountinfo(5)."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

_ESCAPED = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True)
class MountEntry:
    """One line of the table."""

    point: str
    propagation: frozenset[str]
    """``shared``, ``master`` (a slave), ``propagate_from``, ``unbindable``; empty for a private mount."""


def mount_table() -> list[MountEntry]:
    """All mounts; of several at one point the last is the one to be seen."""
    with open("/proc/self/mountinfo", "rb") as stream:
        return [_entry(line) for line in stream]


def mount_points() -> frozenset[str]:
    """Where something is mounted."""
    return frozenset(entry.point for entry in mount_table())


def mount_above(path: str) -> MountEntry | None:
    """The mount that a path lies on; the path is taken as it is, without following links."""
    found = None
    for entry in mount_table():
        holds = path == entry.point or path.startswith(entry.point.rstrip("/") + "/")
        if holds and (found is None or len(entry.point) >= len(found.point)):
            found = entry
    return found


def _entry(line: bytes) -> MountEntry:
    fields = line.split()
    optional = fields[6 : fields.index(b"-", 6)]
    point = _ESCAPED.sub(lambda found: bytes([int(found[1], 8)]), fields[4])
    return MountEntry(os.fsdecode(point), frozenset(tag.partition(b":")[0].decode() for tag in optional))
