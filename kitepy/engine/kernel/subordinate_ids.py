"""Which ids a user may map into a user namespace: /etc/subuid and /etc/subgid, see subuid(5)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

ENOUGH = 65_536
"""What images take for granted: ids up to ``nobody`` (65534)."""
_FIRST_FREE = 100_000
_MAX_LINES = 340
"""How many ranges the kernel takes, user_namespaces(7)."""


@dataclass(frozen=True)
class IdRange:
    """``count`` ids from ``first`` on."""

    first: int
    count: int

    @property
    def end(self) -> int:
        """The first id behind the range."""
        return self.first + self.count


@dataclass(frozen=True)
class Entry:
    """One line of the file: whose ids, by name or number."""

    owner: str
    ids: IdRange


def parse_entries(text: str) -> list[Entry]:
    """The well-formed lines of the file; the tools skip others too."""
    entries = []
    for line in text.splitlines():
        parts = line.strip().split(":")
        if len(parts) == 3 and parts[0] and parts[1].isdecimal() and parts[2].isdecimal() and int(parts[2]):
            entries.append(Entry(parts[0], IdRange(int(parts[1]), int(parts[2]))))
    return entries


def ranges_of(entries: Iterable[Entry], user: str, uid: int) -> list[IdRange]:
    """The ranges of one user, named either way, in the file's order and without a repeated one."""
    found: list[IdRange] = []
    for entry in entries:
        if entry.owner in (user, str(uid)) and not any(overlap(entry.ids, known) for known in found):
            found.append(entry.ids)
    return found


def overlap(one: IdRange, other: IdRange) -> bool:
    """Whether they share an id."""
    return one.first < other.end and other.first < one.end


def plan_map(own_id: int, ranges: Sequence[IdRange]) -> list[tuple[int, int, int]]:
    """(inside, outside, count): the user's own id becomes 0, the subordinate ones follow from 1 on without a gap."""
    plan = [(0, own_id, 1)]
    inside = 1
    for ids in ranges[: _MAX_LINES - 1]:
        plan.append((inside, ids.first, ids.count))
        inside += ids.count
    return plan


def free_range(entries: Iterable[Entry], count: int = ENOUGH) -> IdRange:
    """A range that nobody has, for the command that gives it to the user."""
    candidate = IdRange(_FIRST_FREE, count)
    for taken in sorted((entry.ids for entry in entries), key=lambda ids: ids.first):
        if overlap(taken, candidate):
            candidate = IdRange(taken.end, count)
    return candidate
