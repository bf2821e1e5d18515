"""What the Engine API tells about one path of a container (ContainerPathStat), and the rules by which ``docker cp`` reads paths.

Here "/" is the container's root already: the caller has chrooted.
"""

from __future__ import annotations

import os
import posixpath
import stat
from typing import Any

from kitepy.engine.model.errors import InvalidParameter
from kitepy.engine.model.timestamps import format_time

_DIRECTORY = 1 << 31
_BITS = (
    # By type, as Go's FileMode has them; the documentation of the API means these, not the kernel's.
    (stat.S_ISDIR, _DIRECTORY),
    (stat.S_ISLNK, 1 << 27),
    (stat.S_ISBLK, 1 << 26),
    (stat.S_ISCHR, 1 << 26 | 1 << 21),
    (stat.S_ISFIFO, 1 << 25),
    (stat.S_ISSOCK, 1 << 24),
)
_EPOCH = "1970-01-01T00:00:00Z"
_FIRST_NS, _LAST_NS = -62_135_596_800 * 10**9, 253_402_300_799 * 10**9
_SPECIAL = ((stat.S_ISUID, 1 << 23), (stat.S_ISGID, 1 << 22), (stat.S_ISVTX, 1 << 20))


def describe(path: str) -> dict[str, Any]:
    """The path itself, not what a link there leads to; a slash at its end follows the link. Raises OSError as lstat(2) does."""
    found = os.lstat(path)
    target = ""
    if stat.S_ISLNK(found.st_mode):
        target = _final_target(path)
    return {
        "name": base_name(path),
        "size": found.st_size,
        "mode": _file_mode(found.st_mode),
        "mtime": _moment(found.st_mtime_ns),
        "linkTarget": target,
    }


def is_directory(document: dict[str, Any]) -> bool:
    """Whether ``describe`` found a directory."""
    return bool(document["mode"] & _DIRECTORY)


def base_name(path: str) -> str:
    """The last element, slashes at the end aside; ``/`` for the root and ``.`` for a path that ends so."""
    stripped = path.rstrip("/")
    return stripped.rpartition("/")[2] if stripped else "/"


def clean(path: str) -> str:
    """The path from the root, without ``.`` and empty elements, ``..`` taken back by the text alone."""
    return "/" + posixpath.normpath("/" + path).lstrip("/")


def keep_ending(cleaned: str, original: str) -> str:
    """A cleaned path with the ``/.`` or ``/`` at its end that the original had: it tells that a directory is meant."""
    if base_name(original) == "." and base_name(cleaned) != ".":
        return cleaned.rstrip("/") + "/."
    if original.endswith("/") and not cleaned.endswith("/"):
        return cleaned + "/"
    return cleaned


def _final_target(path: str) -> str:
    """Where a link leads in the end, or would if the missing parts were there."""
    try:
        os.stat(path)
    except OSError as error:
        if error.errno == 40:  # ELOOP
            raise InvalidParameter(f"too many links in {path}") from None
    return os.path.realpath(path)


def _moment(time_ns: int) -> str:
    # 0 is a time here, and a file may claim to be from a year that RFC 3339 can't write.
    return format_time(min(max(time_ns, _FIRST_NS), _LAST_NS)) if time_ns else _EPOCH


def _file_mode(mode: int) -> int:
    bits = mode & 0o777
    for test, bit in _BITS:
        if test(mode):
            bits |= bit
    for flag, bit in _SPECIAL:
        if mode & flag:
            bits |= bit
    return bits
