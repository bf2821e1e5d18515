"""The version prefix of request paths, ``/v1.51/…``: reading it and refusing what Kitepy can't speak."""

from __future__ import annotations

import re
from typing import NamedTuple

from kitepy.engine.server.errors import BadRequest


class ApiVersion(NamedTuple):
    """Compares as versions do."""

    major: int
    minor: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"


OLDEST = ApiVersion(1, 24)
NEWEST = ApiVersion(1, 51)

_PREFIX = re.compile(r"/v([0-9.]+)(?=/)", re.ASCII)
_LONGEST_NUMBER = 18


def split_version(path: str) -> tuple[str | None, str]:
    """The version a path asks for as it is written (None without a prefix), and the rest."""
    match = _PREFIX.match(path)
    return (None, path) if match is None else (match[1], path[match.end() :])


def accept_version(text: str | None) -> ApiVersion:
    """The version that is spoken with such a client (the newest without a wish); raises BadRequest for a foreign one.

    As dockerd does it, anything made of digits and dots is a version, and a number that is missing counts as 0.
    """
    if text is None:
        return NEWEST
    numbers = [int(number or "0") if len(number) <= _LONGEST_NUMBER else 10**18 for number in text.split(".")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    if tuple(numbers) < OLDEST:
        raise BadRequest(
            f"client version {text} is too old. Minimum supported API version is {OLDEST}, "
            "please upgrade your client to a newer version"
        )
    if tuple(numbers) > NEWEST:
        raise BadRequest(f"client version {text} is too new. Maximum supported API version is {NEWEST}")
    return ApiVersion(numbers[0], numbers[1])
