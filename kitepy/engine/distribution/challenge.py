"""The ``WWW-Authenticate`` of registries: what a registry wants to see before it answers; pure.

Grammar: RFC 9110 section 11; the Bearer parameters are those of the distribution specification's token authentication.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_SCHEME = re.compile(rf"\s*,?\s*({_WORD})(?:\s+|$|(?=,))")
_PARAMETER = re.compile(rf'\s*,?\s*({_WORD})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|({_WORD}))')
_LONGEST = 8192


@dataclass(frozen=True)
class Challenge:
    """One scheme that a registry accepts; names are in lower case."""

    scheme: str
    parameters: dict[str, str] = field(default_factory=dict)


def parse_challenges(headers: Iterable[str]) -> list[Challenge]:
    """All challenges, in the registry's order; what can't be read is left out."""
    found: list[Challenge] = []
    for header in headers:
        found += _parse(header[:_LONGEST])
    return found


def _parse(header: str) -> list[Challenge]:
    found: list[Challenge] = []
    position = 0
    while match := _SCHEME.match(header, position):
        position = match.end()
        parameters: dict[str, str] = {}
        while parameter := _PARAMETER.match(header, position):
            name, quoted, plain = parameter.groups()
            parameters.setdefault(name.lower(), re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else plain)
            position = parameter.end()
        found.append(Challenge(match[1].lower(), parameters))
    return found
