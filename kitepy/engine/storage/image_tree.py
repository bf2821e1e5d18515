"""The directories of an image's layers side by side: what each holds of a path, and what overlay would let through.

Meant for a worker that is confined to a directory with the layers under their numbers, bottom first. Names there are hostile:
links are never followed, a directory is opened element by element beneath its layer.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import Enum
from types import TracebackType

from kitepy.engine.kernel.fuse_overlay import MARKERS
from kitepy.engine.kernel.syscalls import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2
from kitepy.engine.model.launch import OverlayFlavour

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_PREFIX = ".wh."


class Mark(Enum):
    """A name that says that something is gone."""

    GONE = "gone"


GONE = Mark.GONE


@dataclass(frozen=True)
class Place:
    """One layer's directory at some path."""

    layer: int
    fd: int
    covers: bool
    """Whether the layer hides there all that those below have."""


class Places(AbstractContextManager["Places"], Sequence[Place]):
    """The directories that layers have at one path, topmost first; closes them."""

    def __init__(self, places: Sequence[Place] = ()) -> None:
        self._places = tuple(places)

    def __getitem__(self, index: int) -> Place:  # type: ignore[override]  # slices aren't wanted
        return self._places[index]

    def __len__(self) -> int:
        return len(self._places)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for place in self._places:
            os.close(place.fd)


class LayerTree:
    """All layers of one image below the working directory."""

    def __init__(self, count: int, flavour: OverlayFlavour) -> None:
        self._roots = [os.open(str(number), _OPEN) for number in range(count)]
        self._fuse = flavour is OverlayFlavour.FUSE
        self._opaque_xattr = flavour.opaque_xattr

    def __len__(self) -> int:
        return len(self._roots)

    def open(self, layer: int, path: str) -> int:
        """One layer's directory by its whole path; raises OSError, also for paths longer than the system takes."""
        return openat2(self._roots[layer], path or ".", _OPEN, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)

    def places(self, parts: Sequence[str], top: int, bottom: int = 0) -> Places:
        """A directory as it is seen with these layers. Raises FileNotFoundError and NotADirectoryError (of links, too)."""
        places = self._visible([Place(layer, os.dup(self._roots[layer]), False) for layer in range(top, bottom - 1, -1)])
        for part in parts:
            with places:
                places = self._step(places, part)
        return places

    def look(self, place_fd: int, name: str) -> os.stat_result | Mark | None:
        """What one layer has under a name in its directory."""
        try:
            found = os.lstat(name, dir_fd=place_fd)
        except FileNotFoundError:
            return GONE if self._fuse and self._has_mark(place_fd, name) else None
        return GONE if stat.S_ISCHR(found.st_mode) and found.st_rdev == 0 else found

    def shown(self, places: Sequence[Place], name: str) -> tuple[Place, os.stat_result] | None:
        """What is seen under a name in a directory, and where it comes from."""
        for place in places:
            found = self.look(place.fd, name)
            if found is GONE:
                return None
            if found is not None:
                return place, found
        return None

    def entries(self, place_fd: int) -> Iterator[tuple[str, str]]:
        """Names of a layer's directory with ``d`` for directories, ``w`` for what is marked as gone, else ``f``."""
        # The scan gets a descriptor of its own: a position in the directory is shared by all that stand for one opening.
        fd = os.open(".", _OPEN, dir_fd=place_fd)
        try:
            with os.scandir(fd) as scan:
                for entry in scan:
                    if self._fuse and entry.name.startswith(_PREFIX):
                        if entry.name not in MARKERS:
                            yield entry.name[len(_PREFIX) :], "w"
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        yield entry.name, "d"
                    elif entry.is_file(follow_symlinks=False) or entry.is_symlink():
                        yield entry.name, "f"
                    else:
                        yield entry.name, "w" if self.look(fd, entry.name) is GONE else "f"
        finally:
            os.close(fd)

    def covers(self, place_fd: int) -> bool:
        """Whether a directory is marked as hiding those below."""
        if self._fuse and any(_exists(place_fd, name) for name in MARKERS):
            return True
        try:
            return os.getxattr(place_fd, self._opaque_xattr) == b"y"
        except OSError:
            return False

    def hides(self, place_fd: int, name: str) -> bool:
        """The same of a directory that is yet to be opened."""
        fd = os.open(name, _OPEN, dir_fd=place_fd)
        try:
            return self.covers(fd)
        finally:
            os.close(fd)

    def _step(self, places: Places, part: str) -> Places:
        opened: list[Place] = []
        try:
            for place in places:
                found = self.look(place.fd, part)
                if found is None:
                    continue
                if isinstance(found, Mark):
                    break
                if not stat.S_ISDIR(found.st_mode):
                    if not opened:
                        raise NotADirectoryError(part)
                    break
                opened.append(Place(place.layer, os.open(part, _OPEN, dir_fd=place.fd), place.covers))
        except BaseException:
            Places(opened).__exit__(None, None, None)
            raise
        if not opened:
            raise FileNotFoundError(part)
        return self._visible(opened)

    def _visible(self, places: Sequence[Place]) -> Places:
        """Without those below one that hides them."""
        seen: list[Place] = []
        for number, place in enumerate(places):
            covers = place.covers or self.covers(place.fd)
            seen.append(Place(place.layer, place.fd, covers))
            if covers:
                Places(places[number + 1 :]).__exit__(None, None, None)
                break
        return Places(seen)

    def _has_mark(self, place_fd: int, name: str) -> bool:
        return _exists(place_fd, _PREFIX + name)


def _exists(directory_fd: int, name: str) -> bool:
    try:
        os.lstat(name, dir_fd=directory_fd)
    except OSError:  # also of names that are too long with a prefix
        return False
    return True
