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

_PREFIX = re.compile(r"/v(\d{1,4})\.(\d{1,4})(?=/)", re.ASCII)


def split_version(path: str) -> tuple[ApiVersion, str]:
    """The version a path asks for (the newest without a prefix) and the rest; raises BadRequest for a foreign one."""
    match = _PREFIX.match(path)
    if match is None:
        return NEWEST, path
    version = ApiVersion(int(match[1]), int(match[2]))
    if version < OLDEST:
        raise BadRequest(
            f"client version {version} is too old. Minimum supported API version is {OLDEST}, "
            "please upgrade your client to a newer version"
        )
    if version > NEWEST:
        raise BadRequest(f"client version {version} is too new. Maximum supported API version is {NEWEST}")
    return version, path[match.end() :]
