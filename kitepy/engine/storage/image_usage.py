"""What an image's layers cost twice: files that a later layer replaces or removes, and so nobody ever sees.

One directory is looked at in all layers at a time, so memory is bounded by the largest directory, not by the image.
"""

from __future__ import annotations

import heapq
import itertools
import os
import stat
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from kitepy.engine.storage.image_tree import LayerTree

MOST_WORST = 100
"""How many paths are told."""
_MAX_ENTRIES = 5_000_000
_MAX_COMPARED = 200_000
_MAX_PENDING = 200_000
_MAX_LINKS = 200_000


@dataclass
class _Lost:
    """Something of one layer that a later one hides: a file, or a directory with all that is in it."""

    path: str
    layer: int
    by: int
    removed: bool
    is_directory: bool
    files: int = 0
    size_bytes: int = 0


@dataclass
class _LayerCount:
    files: int = 0
    added: int = 0
    changed: int = 0
    removed: int = 0
    wasted_bytes: int = 0


@dataclass(frozen=True)
class _Part:
    """A layer that has a directory; ``lost`` when nobody sees it there any more."""

    layer: int
    lost: _Lost | None = None

    def is_seen_by(self, layer: int) -> bool:
        """Whether a later layer still finds it there."""
        return self.lost is None or self.lost.by > layer


@dataclass(frozen=True)
class _Directory:
    path: str
    parts: tuple[_Part, ...]
    """Bottom first."""


@dataclass
class _Names:
    """What one layer has in a directory: kinds by name."""

    part: _Part
    fd: int
    kinds: dict[str, str] = field(default_factory=dict)


class Usage:
    """Counts over a whole image."""

    def __init__(self, tree: LayerTree) -> None:
        self._tree = tree
        self._layers = [_LayerCount() for _ in range(len(tree))]
        self._worst: list[tuple[int, int, _Lost]] = []
        self._order = itertools.count()
        self._links: dict[tuple[int, int], int] = {}
        self._entries = 0
        self._incomplete = False

    def measure(self) -> dict[str, Any]:
        """Go through all directories. ``Incomplete`` says that the image is beyond what is looked at."""
        pending: list[_Directory | _Lost] = [_Directory("", tuple(_Part(layer) for layer in range(len(self._tree))))]
        while pending:
            item = pending.pop()
            if isinstance(item, _Lost):
                self._note(item)  # all that is in it has been seen
            elif self._entries > _MAX_ENTRIES or len(pending) > _MAX_PENDING:
                self._incomplete = True
            else:
                pending.extend(self._visit(item))
        worst = [lost for _, _, lost in sorted(self._worst, reverse=True)]
        return {
            "Layers": [
                {
                    "Files": count.files,
                    "Added": count.added,
                    "Changed": count.changed,
                    "Removed": count.removed,
                    "WastedBytes": count.wasted_bytes,
                }
                for count in self._layers
            ],
            "WastedBytes": sum(count.wasted_bytes for count in self._layers),
            "Worst": [
                {
                    "Path": os.fsencode(lost.path).decode(errors="replace"),
                    "Type": "directory" if lost.is_directory else "file",
                    "Layer": lost.layer,
                    "HiddenBy": lost.by,
                    "Change": "removed" if lost.removed else "changed",
                    "Files": lost.files,
                    "Size": lost.size_bytes,
                }
                for lost in worst
            ],
            "Incomplete": self._incomplete,
        }

    def _visit(self, directory: _Directory) -> list[_Directory | _Lost]:
        """Count a directory's files; gives what comes next, in the order of a stack."""
        following: list[_Directory | _Lost] = []
        with ExitStack() as opened:
            names: list[_Names] = []
            for part in directory.parts:
                try:
                    fd = self._tree.open(part.layer, directory.path[1:])
                except OSError:  # deeper than the system can say at once
                    self._incomplete = True
                    continue
                opened.callback(os.close, fd)
                names.append(_Names(part, fd))
            self._cover(directory.path, names, following)
            if len(names) == 1:
                self._visit_alone(directory.path, names[0], following)
            elif self._read(names):
                self._compare(directory.path, names, following)
        return following

    def _cover(self, path: str, names: list[_Names], following: list[_Directory | _Lost]) -> None:
        """Where a layer's directory hides those below, they are lost as a whole."""
        cover: int | None = None
        for each in reversed(names):
            layer = each.part.layer
            if cover is not None and each.part.is_seen_by(cover):
                lost = _Lost(path or "/", layer, cover, False, True)
                following.append(lost)
                each.part = _Part(layer, lost)
            if self._tree.covers(each.fd):
                cover = layer

    def _visit_alone(self, path: str, only: _Names, following: list[_Directory | _Lost]) -> None:
        count, lost = self._layers[only.part.layer], only.part.lost
        for name, kind in self._tree.entries(only.fd):
            self._entries += 1
            if kind == "d":
                self._push(following, _Directory(f"{path}/{name}", (only.part,)))
            elif kind == "f":
                count.files += 1
                count.added += 1
                if lost is not None:
                    self._lose(lost, only.fd, name)

    def _read(self, names: list[_Names]) -> bool:
        total = 0
        for each in names:
            for name, kind in self._tree.entries(each.fd):
                each.kinds[name] = kind
                total += 1
                if total > _MAX_COMPARED:
                    self._incomplete = True
                    return False
        self._entries += total
        return True

    def _compare(self, path: str, names: list[_Names], following: list[_Directory | _Lost]) -> None:
        for position, each in enumerate(names):
            count, layer = self._layers[each.part.layer], each.part.layer
            for name, kind in each.kinds.items():
                before = self._before(names, position, name)
                if kind == "w":
                    count.removed += before
                    continue
                child = f"{path}/{name}"
                if kind == "d":
                    if not any(lower.kinds.get(name) == "d" for lower in names[:position]):
                        self._descend(child, name, names[position:], following)
                    continue
                count.files += 1
                if before:
                    count.changed += 1
                else:
                    count.added += 1
                hider = _hider(names[position + 1 :], name, "f")
                if hider is not None and each.part.is_seen_by(hider[0]):
                    lost = _Lost(child, layer, hider[0], hider[1], False)
                    self._lose(lost, each.fd, name)
                    self._note(lost)
                elif each.part.lost is not None:
                    self._lose(each.part.lost, each.fd, name)

    def _before(self, names: list[_Names], position: int, name: str) -> bool:
        """Whether a layer finds something under this name in those below."""
        layer = names[position].part.layer
        for lower in reversed(names[:position]):
            if not lower.part.is_seen_by(layer):
                return False
            kind = lower.kinds.get(name)
            if kind is not None:
                return kind != "w"
        return False

    def _descend(self, path: str, name: str, names: list[_Names], following: list[_Directory | _Lost]) -> None:
        parts = []
        for position, each in enumerate(names):
            if each.kinds.get(name) != "d":
                continue
            part = each.part
            hider = _hider(names[position + 1 :], name, "d")
            if hider is not None and part.is_seen_by(hider[0]):
                lost = _Lost(path, part.layer, hider[0], hider[1], True)
                following.append(lost)
                part = _Part(part.layer, lost)
            parts.append(part)
        self._push(following, _Directory(path, tuple(parts)))

    def _push(self, following: list[_Directory | _Lost], directory: _Directory) -> None:
        if len(following) < _MAX_PENDING:
            following.append(directory)
        else:
            self._incomplete = True

    def _lose(self, lost: _Lost, directory_fd: int, name: str) -> None:
        try:
            found = os.lstat(name, dir_fd=directory_fd)
        except OSError:
            return
        lost.files += 1
        if stat.S_ISREG(found.st_mode) and self._last_name(found):
            lost.size_bytes += found.st_size
            self._layers[lost.layer].wasted_bytes += found.st_size

    def _last_name(self, found: os.stat_result) -> bool:
        """A file's bytes are lost with the last of its names only."""
        if found.st_nlink == 1:
            return True
        key = (found.st_dev, found.st_ino)
        if key not in self._links and len(self._links) >= _MAX_LINKS:
            self._incomplete = True
            return False
        self._links[key] = self._links.get(key, 0) + 1
        return self._links[key] == found.st_nlink

    def _note(self, lost: _Lost) -> None:
        if lost.size_bytes:
            heapq.heappush(self._worst, (lost.size_bytes, -next(self._order), lost))
            if len(self._worst) > MOST_WORST:
                heapq.heappop(self._worst)


def _hider(above: list[_Names], name: str, kind: str) -> tuple[int, bool] | None:
    """The first later layer that hides a name, and whether it only removes it. Directories are joined."""
    for each in above:
        found = each.kinds.get(name)
        if found is not None and not (found == kind == "d"):
            return each.part.layer, found == "w"
    return None
