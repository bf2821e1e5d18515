"""Which files a COPY or ADD means in a tree, and their digest; runs in a worker, reads only.

The tree is a directory descriptor. Names are resolved beneath it (openat2 RESOLVE_IN_ROOT) and directories are walked by
descriptor without following links, so nothing in a hostile tree leads out of it.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kitepy.engine.builder.patterns import IgnoreRules, clean, compile_pattern, is_wildcard
from kitepy.engine.kernel.paths import open_in_root
from kitepy.engine.model.errors import InvalidParameter

_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_OPEN_DIRECTORY = _READ | os.O_DIRECTORY
_CHUNK = 1 << 20
OVERLAY_XATTRS = ("trusted.overlay.", "user.overlay.")


@dataclass(frozen=True)
class Chosen:
    """One file or directory to copy; ``name`` is what it is called at the destination."""

    path: str
    """Below the tree's root, without a leading slash; empty is the root itself."""
    name: str
    is_directory: bool
    parents: str = ""
    """With ``--parents``: the directories to repeat below the destination."""


@dataclass(frozen=True)
class Item:
    """Something found while walking: ``path`` is relative to where the walk began, empty for the beginning itself."""

    path: str
    directory_fd: int
    """Descriptor of the directory that holds it, valid until the walk goes on."""
    name: str
    status: os.stat_result


def choose(root_fd: int, sources: Sequence[str], excludes: IgnoreRules, *, parents: bool, origin: str) -> list[Chosen]:
    """What the sources name, in their order; ``origin`` is where they are looked for, for messages."""
    chosen: list[Chosen] = []
    for source in sources:
        pivot, below = _split_pivot(source) if parents else ("", source)
        path = clean(posixpath.join("/", pivot, below)).lstrip("/")
        if is_wildcard(path):
            try:
                found = sorted(_matches(root_fd, path))
            except ValueError as problem:
                raise InvalidParameter(str(problem)) from None
        else:
            found = [path]
        for match in found:
            name = posixpath.basename(match)
            if name and excludes.ignores(name):
                continue
            try:
                fd = open_in_root(root_fd, match or ".")
            except (FileNotFoundError, NotADirectoryError):
                raise InvalidParameter(_missing(source, origin)) from None
            except OSError as error:
                raise InvalidParameter(f"COPY failed: cannot read {source}: {error.strerror}") from None
            try:
                mode = os.fstat(fd).st_mode
            finally:
                os.close(fd)
            is_directory = stat.S_ISDIR(mode)
            if not is_directory and not stat.S_ISREG(mode):
                # It is never opened: a device in an image is the host's device.
                raise InvalidParameter(f"COPY failed: {source} is neither a file nor a directory")
            repeated = posixpath.dirname(match.removeprefix(clean("/" + pivot).lstrip("/")).lstrip("/")) if parents else ""
            if parents and is_directory:
                repeated = posixpath.join(repeated, name)
            chosen.append(Chosen(match, name, is_directory, repeated))
    return chosen


def open_chosen(root_fd: int, chosen: Chosen) -> int:
    """A readable descriptor of the file or directory itself, links followed within the tree."""
    flags = os.O_RDONLY | os.O_NONBLOCK | (os.O_DIRECTORY if chosen.is_directory else 0)
    return open_in_root(root_fd, chosen.path or ".", flags)


def walk(directory_fd: int, excludes: IgnoreRules, path: str = "") -> Iterator[Item]:
    """Everything below a directory, parents first, names sorted; excluded things are left out with what is below them."""
    with os.scandir(directory_fd) as entries:
        names = sorted(entry.name for entry in entries)
    for name in names:
        relative = f"{path}/{name}" if path else name
        status = os.stat(name, dir_fd=directory_fd, follow_symlinks=False)
        is_directory = stat.S_ISDIR(status.st_mode)
        ignored = bool(excludes) and excludes.ignores(relative)
        if ignored and not (is_directory and excludes.has_exceptions):
            continue
        if not ignored:
            yield Item(relative, directory_fd, name, status)
        if is_directory:
            fd = os.open(name, _OPEN_DIRECTORY, dir_fd=directory_fd)
            try:
                yield from walk(fd, excludes, relative)
            finally:
                os.close(fd)


class ContentDigest:
    """Sums up what would be copied: names, kinds, modes, contents and, when ``owners`` count, owners. Times don't count."""

    def __init__(self, *, owners: bool) -> None:
        self._hash = hashlib.sha256()
        self._owners = owners
        self.files = 0
        self.size_bytes = 0

    def add(self, root_fd: int, chosen: Chosen, excludes: IgnoreRules) -> None:
        """Take in one chosen file, or a directory with all that is below it."""
        self._note("chosen", chosen.name if not chosen.is_directory else "", chosen.parents)
        fd = open_chosen(root_fd, chosen)
        try:
            status = os.fstat(fd)
            self._attributes("", status, _xattrs(fd))
            if chosen.is_directory:
                for item in walk(fd, excludes):
                    self._item(item)
            elif stat.S_ISREG(status.st_mode):
                self._content(fd, status)
        finally:
            os.close(fd)

    def hexdigest(self) -> str:
        """The sum so far."""
        return self._hash.hexdigest()

    def _item(self, item: Item) -> None:
        mode = item.status.st_mode
        if stat.S_ISLNK(mode):
            self._attributes(item.path, item.status, ())
            self._note("target", os.readlink(item.name, dir_fd=item.directory_fd))
        elif stat.S_ISREG(mode) or stat.S_ISDIR(mode):
            fd = os.open(item.name, _READ, dir_fd=item.directory_fd)
            try:
                self._attributes(item.path, item.status, _xattrs(fd))
                if stat.S_ISREG(mode):
                    self._content(fd, item.status)
            finally:
                os.close(fd)
        else:
            self._attributes(item.path, item.status, ())
            self._note("device", str(item.status.st_rdev))

    def _attributes(self, path: str, status: os.stat_result, xattrs: tuple[tuple[str, bytes], ...]) -> None:
        self._note("item", path, oct(status.st_mode))
        if self._owners:
            self._note("owner", str(status.st_uid), str(status.st_gid))
        for name, value in xattrs:
            self._note("xattr", name, value.hex())

    def _content(self, fd: int, status: os.stat_result) -> None:
        self.files += 1
        self.size_bytes += status.st_size
        content = hashlib.sha256()
        while piece := os.read(fd, _CHUNK):
            content.update(piece)
        self._hash.update(content.digest())

    def _note(self, *texts: str) -> None:
        for text in texts:
            encoded = os.fsencode(text)
            # With the length in front, no two lists of texts give the same bytes.
            self._hash.update(len(encoded).to_bytes(8, "little") + encoded)


def _xattrs(fd: int) -> tuple[tuple[str, bytes], ...]:
    return tuple((name, os.getxattr(fd, name)) for name in copied_xattrs(fd))


def copied_xattrs(fd: int) -> list[str]:
    """Names of the extended attributes that belong to a file's content: not the ones overlay keeps its books in."""
    try:
        names = os.listxattr(fd)
    except OSError:
        return []  # a file system without attributes
    return sorted(name for name in names if not name.startswith((*OVERLAY_XATTRS, "security.selinux")))


def _matches(root_fd: int, pattern: str) -> Iterator[str]:
    expression = compile_pattern(pattern)
    parts = pattern.split("/")
    literal = next(index for index, part in enumerate(parts) if is_wildcard(part))
    prefix = "/".join(parts[:literal])
    depth = None if "**" in pattern else len(parts) - literal
    try:
        fd = open_in_root(root_fd, prefix or ".", os.O_RDONLY | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        yield from _matches_below(fd, prefix, expression, depth)
    finally:
        os.close(fd)


def _matches_below(directory_fd: int, prefix: str, expression: re.Pattern[str], depth: int | None) -> Iterator[str]:
    with os.scandir(directory_fd) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_directory in found:
        path = f"{prefix}/{name}" if prefix else name
        if expression.fullmatch(path):
            yield path
        elif is_directory and depth != 1:
            fd = os.open(name, _OPEN_DIRECTORY, dir_fd=directory_fd)
            try:
                yield from _matches_below(fd, path, expression, None if depth is None else depth - 1)
            finally:
                os.close(fd)


def _split_pivot(source: str) -> tuple[str, str]:
    """``--parents``: what stands before ``/./`` is not repeated at the destination."""
    pivot, separator, below = source.partition("/./")
    return (pivot, below) if separator else ("", source)


def _missing(source: str, origin: str) -> str:
    if origin:
        return f"COPY failed: stat {source}: file does not exist in {origin}"
    return f"COPY failed: file not found in build context or excluded by .dockerignore: stat {source}: file does not exist"
