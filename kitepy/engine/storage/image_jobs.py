"""The worker jobs that look into an image's layers. What is in them is hostile, the path is the client's.

Both get ``params``: ``base`` (the data root), ``layers`` (their directories below it, bottom first), ``flavour``.
"""

from __future__ import annotations

import base64
import binascii
import errno
import heapq
import os
import posixpath
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from kitepy.engine.model.errors import InvalidParameter, NotFound
from kitepy.engine.model.launch import OverlayFlavour
from kitepy.engine.storage import confinement
from kitepy.engine.storage.image_tree import LayerTree, Mark, Place, Places
from kitepy.engine.storage.image_usage import Usage
from kitepy.engine.storage.path_stat import clean
from kitepy.engine.storage.volume_jobs import describe_entry
from kitepy.engine.storage.zygote import JobContext

MAX_ENTRIES = 10_000


def list_image_files(context: JobContext, params: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG001 - a job's signature
    """params also: ``image`` (for messages), ``path``, ``layer``, ``own`` (only what this layer has), ``after``, ``limit``."""
    path, after = clean(params["path"]), _cursor(params["after"])
    listing = _Listing(_enter(params), int(params["layer"]), own=bool(params["own"]))
    with _explained(params):
        entries, rest = listing.page([part for part in path.split("/") if part], after, int(params["limit"]))
    # A name that UTF-8 can't say goes on as the bytes it is.
    following = _token(entries[-1][0]) if rest else ""
    return {"Path": path, "Layer": params["layer"], "Entries": [described for _, described in entries], "Next": following}


def measure_image_usage(context: JobContext, params: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG001 - a job's signature
    """What later layers made of earlier ones' files."""
    return Usage(_enter(params)).measure()


def _enter(params: dict[str, Any]) -> LayerTree:
    stage = os.path.join(params["base"], "tmp")
    confinement.mount_tmpfs(stage)
    for number, directory in enumerate(params["layers"]):
        target = os.path.join(stage, str(number))
        os.mkdir(target)
        confinement.bind_mount(os.path.join(params["base"], directory), target)
    confinement.chroot_into(stage)
    return LayerTree(len(params["layers"]), OverlayFlavour(params["flavour"]))


_Key = tuple[bool, str]
"""Directories first, then by name."""


@dataclass(frozen=True, order=True)
class _Candidate:
    key: _Key
    layer: int
    removed: bool


class _Listing:
    """One directory with all layers up to one, or as that one alone has it."""

    def __init__(self, tree: LayerTree, layer: int, *, own: bool) -> None:
        self._tree = tree
        self._layer = layer
        self._own_only = own

    def page(self, parts: list[str], after: _Key | None, limit: int) -> tuple[list[tuple[_Key, dict[str, Any]]], bool]:
        """At most ``limit`` entries behind a key, and whether there are more; memory is taken for these only."""
        with self._tree.places(parts, self._layer) as places, self._below(parts) as below:
            own = places[0] if places[0].layer == self._layer else None
            if own is None and self._own_only:
                raise FileNotFoundError
            found = self._candidates(places, below, own)
            wanted = (candidate for candidate in found if after is None or candidate.key > after)
            first = heapq.nsmallest(limit + 1, wanted)
            described = [
                (candidate.key, entry)
                for candidate in first[:limit]
                if (entry := self._describe(candidate, places, below)) is not None
            ]
        return described, len(first) > limit

    def _below(self, parts: list[str]) -> Places:
        if not self._layer:
            return Places()
        try:
            return self._tree.places(parts, self._layer - 1)
        except (FileNotFoundError, NotADirectoryError):
            return Places()

    def _candidates(self, places: Places, below: Places, own: Place | None) -> Iterator[_Candidate]:
        tree = self._tree
        if own is not None:
            for name, kind in tree.entries(own.fd):
                if kind != "w":
                    yield _Candidate((kind != "d", name), own.layer, False)
                elif (gone := tree.shown(below, name)) is not None:
                    yield _Candidate((not stat.S_ISDIR(gone[1].st_mode), name), gone[0].layer, True)
            if own.covers:
                for place, name, kind in self._shown_in(below):
                    if tree.look(own.fd, name) is None:
                        yield _Candidate((kind != "d", name), place.layer, True)
        if not self._own_only:
            for place, name, kind in self._shown_in(places):
                if place is not own:
                    yield _Candidate((kind != "d", name), place.layer, False)

    def _shown_in(self, places: Places) -> Iterator[tuple[Place, str, str]]:
        for number, place in enumerate(places):
            for name, kind in self._tree.entries(place.fd):
                if kind != "w" and not any(self._tree.look(places[above].fd, name) is not None for above in range(number)):
                    yield place, name, kind

    def _describe(self, candidate: _Candidate, places: Places, below: Places) -> dict[str, Any] | None:
        name = candidate.key[1]
        place = next(each for each in (below if candidate.removed else places) if each.layer == candidate.layer)
        described = describe_entry(name, place.fd)
        if described is None:
            return None
        return {**described, "Layer": candidate.layer, "Change": self._change(candidate, place, below)}

    def _change(self, candidate: _Candidate, place: Place, below: Places) -> str:
        if candidate.removed:
            return "removed"
        if candidate.layer != self._layer:
            return "none"
        name = candidate.key[1]
        before = self._tree.shown(below, name)
        if before is None:
            return "added"
        now = self._tree.look(place.fd, name)
        assert now is not None
        assert not isinstance(now, Mark)
        same = (now.st_mode, now.st_uid, now.st_gid) == (before[1].st_mode, before[1].st_uid, before[1].st_gid)
        # A directory is there for what is in it; a file takes its bytes once more even when they are the same.
        joined = stat.S_ISDIR(now.st_mode) and not place.covers and not self._tree.hides(place.fd, name)
        return "none" if same and joined else "changed"


def _token(key: _Key) -> str:
    return ("f" if key[0] else "d") + base64.urlsafe_b64encode(os.fsencode(key[1])).decode()


def _cursor(token: str) -> _Key | None:
    if not token:
        return None
    try:
        name = base64.b64decode(token[1:], altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        name = b""
    if token[0] not in "fd" or not name:
        raise InvalidParameter("after isn't what an answer gave as Next")
    return token[0] == "f", os.fsdecode(name)


@contextmanager
def _explained(params: dict[str, Any]) -> Iterator[None]:
    path, image, layer = params["path"], params["image"], params["layer"]
    where = f"layer {layer} of image {image}" if params["own"] else f"image {image}"
    try:
        yield
    except FileNotFoundError:
        raise NotFound(f"Could not find the file {posixpath.normpath(path)} in {where}") from None
    except OSError as error:
        if isinstance(error, NotADirectoryError) or error.errno in (errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL):
            reason = os.strerror(error.errno or errno.ENOTDIR).lower()
            raise InvalidParameter(f"{path} in {where}: {reason}") from None
        raise
    except ValueError:
        raise InvalidParameter(f"{path!r} in {where}: invalid argument") from None
