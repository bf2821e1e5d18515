"""What user namespace this process is in, and how ids map into the one around it; see user_namespaces(7)."""

from __future__ import annotations

_WHOLE_RANGE = 2**32 - 1


class IdMap:
    """Ids of a user namespace and of the namespace around it, as in ``/proc/<pid>/uid_map``: (inside, outside, count)."""

    __slots__ = ("ranges",)

    def __init__(self, ranges: tuple[tuple[int, int, int], ...]) -> None:
        self.ranges = ranges

    @classmethod
    def parse(cls, text: str) -> IdMap:
        """From the text of ``uid_map`` or ``gid_map``."""
        rows = (line.split() for line in text.splitlines() if line.strip())
        return cls(tuple((int(inside), int(outside), int(count)) for inside, outside, count in rows))

    @property
    def is_initial(self) -> bool:
        """Whether this is the map of the machine's first user namespace, where every id stands for itself."""
        return self.ranges == ((0, 0, _WHOLE_RANGE),)

    @property
    def last(self) -> int:
        """The highest id of the unbroken range that starts at 0; -1 when 0 itself is not mapped."""
        end = 0
        for inside, _, count in sorted(self.ranges):
            if inside > end:
                break
            end = max(end, inside + count)
        return end - 1

    def outside(self, inside: int) -> int | None:
        """What an id is called outside, or None when it has no counterpart there."""
        for first, outer, count in self.ranges:
            if first <= inside < first + count:
                return outer + inside - first
        return None


def own_uid_map(pid: int | str = "self") -> IdMap:
    """The map of a process's user namespace as seen from ours."""
    return _read_map(f"/proc/{pid}/uid_map")


def own_gid_map(pid: int | str = "self") -> IdMap:
    """The same for group ids."""
    return _read_map(f"/proc/{pid}/gid_map")


def _read_map(path: str) -> IdMap:
    with open(path, encoding="ascii") as file:
        return IdMap.parse(file.read())


def in_user_namespace() -> bool:
    """Whether "root" here is an ordinary user of the machine: no device nodes, no limits above the user's own."""
    return not own_uid_map().is_initial
