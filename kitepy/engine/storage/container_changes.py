"""What a container changed: its upper directory compared with the layers beneath it, told as ``docker diff`` tells it.

Only what is in the upper directory can have changed, so nothing else is looked at. A file copied up without a change that counts
(content by size and time, owner, mode, device, capabilities) is none; a directory with changes in it always is one.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from kitepy.engine.kernel.fuse_overlay import MARKERS
from kitepy.engine.model.launch import OverlayFlavour
from kitepy.engine.storage.extract import WHITEOUT_PREFIX

MODIFIED, ADDED, DELETED = 0, 1, 2
_CAPABILITY = "security.capability"
_FUSE_MARKERS = frozenset(map(os.fsencode, MARKERS))
_SECOND = 1_000_000_000

Change = tuple[bytes, int]
"""Path from the container's root, and kind."""


def find_changes(upper: bytes, lower: bytes, flavour: OverlayFlavour) -> list[Change]:
    """All changes, each directory before what is in it. ``lower`` is the merged view of all layers beneath."""
    comparison = _Comparison(upper, lower, flavour)
    changes: list[Change] = []
    # Not recursive: containers may nest deeper than Python does. None marks the end of a directory.
    stack: list[Iterator[Change | bytes]] = [comparison.inside(b"", hidden=False)]
    pending: list[bytes] = []
    while stack:
        item = next(stack[-1], None)
        if item is None:
            stack.pop()
            if pending:
                pending.pop()
        elif isinstance(item, bytes):
            # A directory that is itself unchanged so far: told when something in it turns out to be.
            pending.append(item)
            stack.append(comparison.inside(item, hidden=False))
        else:
            path, kind = item
            for index, directory in enumerate(pending):
                if directory:
                    changes.append((directory, MODIFIED))
                    pending[index] = b""
            changes.append(item)
            if kind != DELETED and comparison.is_directory(path):
                pending.append(b"")
                stack.append(comparison.inside(path, hidden=kind == ADDED))
    return changes


class _Comparison:
    def __init__(self, upper: bytes, lower: bytes, flavour: OverlayFlavour) -> None:
        self._upper = upper
        self._lower = lower
        self._fuse = flavour is OverlayFlavour.FUSE
        self._opaque_xattr = flavour.opaque_xattr

    def is_directory(self, path: bytes) -> bool:
        found = _lstat(self._upper + path)
        return found is not None and stat.S_ISDIR(found.st_mode)

    def inside(self, path: bytes, *, hidden: bool) -> Iterator[Change | bytes]:
        """Changes of a directory's children; a bare path is an unchanged directory whose own children may be changed.

        ``hidden``: what the layers have under this name does not count, because the directory is new.
        """
        names = _names(self._upper + path)
        below = set() if hidden else _below(self._lower + path)
        gone: set[bytes] = set()
        if self._fuse:
            gone = {name[len(WHITEOUT_PREFIX) :] for name in names if name.startswith(WHITEOUT_PREFIX)}
            opaque = any(name in _FUSE_MARKERS for name in names)
            names = [name for name in names if not name.startswith(WHITEOUT_PREFIX)]
        else:
            opaque = self._is_opaque(self._upper + path)
        if opaque:
            gone |= below
        gone = (gone & below) - set(names)
        for name in sorted({*names, *gone}):
            child = path + b"/" + name
            found = _lstat(self._upper + child)
            if name in gone or (found is not None and stat.S_ISCHR(found.st_mode) and found.st_rdev == 0):
                if name in below:
                    yield child, DELETED
                continue
            if found is None:
                continue  # it went away meanwhile
            before = _lstat(self._lower + child) if name in below else None
            if before is None:
                yield child, ADDED
            elif self._differs(child, before, found):
                yield child, MODIFIED
            elif stat.S_ISDIR(found.st_mode):
                yield child

    def _differs(self, path: bytes, before: os.stat_result, found: os.stat_result) -> bool:
        same = (before.st_mode, before.st_uid, before.st_gid, before.st_rdev) == (
            found.st_mode,
            found.st_uid,
            found.st_gid,
            found.st_rdev,
        )
        if same and not stat.S_ISDIR(found.st_mode):
            same = before.st_size == found.st_size and _same_time(before.st_mtime_ns, found.st_mtime_ns)
        return not same or _capability(self._lower + path) != _capability(self._upper + path)

    def _is_opaque(self, directory: bytes) -> bool:
        try:
            return os.getxattr(directory, self._opaque_xattr, follow_symlinks=False) == b"y"
        except OSError:
            return False


def _same_time(one_ns: int, other_ns: int) -> bool:
    """Archives keep whole seconds: a time without a fraction equals any in that second."""
    if one_ns == other_ns:
        return True
    return one_ns // _SECOND == other_ns // _SECOND and (one_ns % _SECOND == 0 or other_ns % _SECOND == 0)


def _lstat(path: bytes) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _names(directory: bytes) -> list[bytes]:
    try:
        return os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _below(directory: bytes) -> set[bytes]:
    found = _lstat(directory)
    return set(_names(directory)) if found is not None and stat.S_ISDIR(found.st_mode) else set()


def _capability(path: bytes) -> bytes:
    try:
        return os.getxattr(path, _CAPABILITY, follow_symlinks=False)
    except OSError:
        return b""
