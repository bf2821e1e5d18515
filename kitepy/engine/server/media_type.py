"""The Content-Type of a request whose body has to be JSON, read as RFC 9110 (8.3.1) and dockerd have it; pure."""

from __future__ import annotations

import re

from kitepy.engine.server.errors import BadRequest

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_TYPE = re.compile(rf"{_WORD}(?:/{_WORD})?")
_PARAMETER = re.compile(rf'\s*;\s*{_WORD}\s*=\s*(?:{_WORD}|"(?:[^"\\]|\\.)*")')
_SHOWN = 100
JSON = "application/json"


def require_json(content_type: str) -> None:
    """Raise BadRequest for a media type that isn't JSON, or for something that is no media type at all."""
    shown = content_type[:_SHOWN]
    media_type, _, _ = content_type.partition(";")
    if not media_type.strip():
        raise BadRequest(f"malformed Content-Type header ({shown}): mime: no media type")
    found = _TYPE.fullmatch(media_type.strip())
    if found is None:
        raise BadRequest(f"malformed Content-Type header ({shown}): mime: unexpected content after media type")
    rest = content_type[len(media_type) :]
    while parameter := _PARAMETER.match(rest):
        rest = rest[parameter.end() :]
    if rest.strip(" \t;"):
        raise BadRequest(f"malformed Content-Type header ({shown}): mime: invalid media parameter")
    if found[0].lower() != JSON:
        raise BadRequest(f"unsupported Content-Type header ({shown}): must be '{JSON}'")
