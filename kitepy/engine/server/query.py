"""Query parameters as Docker's clients write them; a value that can't be read is a 400 that names its parameter."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from urllib.parse import parse_qsl

from kitepy.engine.model.filters import Filters
from kitepy.engine.model.timestamps import parse_time
from kitepy.engine.server.errors import BadRequest

BAD_ESCAPE = re.compile("%(?![0-9a-fA-F]{2})")
"""A percent sign that no byte follows (RFC 3986, 2.1)."""
_INTEGER = re.compile(r"[+-]?[0-9]{1,30}", re.ASCII)
_NO = frozenset({"", "0", "no", "false", "none"})


class Query:
    """The parameters of one request, parsed when first asked for."""

    __slots__ = ("_pairs", "_text", "_values")

    def __init__(self, text: str) -> None:
        self._text = text
        self._pairs: list[tuple[str, str]] | None = None
        self._values: Mapping[str, str] | None = None

    def _first_values(self) -> Mapping[str, str]:
        if self._values is None:
            self._values = dict(reversed(self._parsed())) if self._text else {}
        return self._values

    def _parsed(self) -> list[tuple[str, str]]:
        if self._pairs is None:
            if ";" in self._text:
                raise BadRequest("invalid semicolon separator in query")
            if escape := BAD_ESCAPE.search(self._text):
                raise BadRequest(f'invalid URL escape "{self._text[escape.start() : escape.start() + 3]}"')
            try:
                self._pairs = parse_qsl(self._text, keep_blank_values=True, max_num_fields=1000)
            except ValueError:
                raise BadRequest("too many query parameters") from None
        return self._pairs

    def __contains__(self, name: str) -> bool:
        return name in self._first_values()

    def text(self, name: str, default: str = "") -> str:
        """The first value given for a parameter."""
        return self._first_values().get(name, default)

    def optional(self, name: str) -> str | None:
        """The first value, or None when it is absent or empty."""
        return self._first_values().get(name) or None

    def all(self, name: str) -> list[str]:
        """All values of a parameter that may be repeated."""
        return [value for key, value in self._parsed() if key == name]

    def flag(self, name: str, default: bool = False) -> bool:
        """Docker's booleans: anything but ``""``, ``0``, ``no``, ``false`` and ``none`` in any case is true."""
        value = self._first_values().get(name)
        return default if value is None else value.strip().lower() not in _NO

    def integer(self, name: str) -> int | None:
        """A number, or None when the parameter is absent or empty."""
        value = self.optional(name)
        if value is None:
            return None
        number = int(value) if _INTEGER.fullmatch(value) else None
        if number is None or not -(2**63) <= number < 2**63:
            raise BadRequest(f"invalid value '{value[:40]}' for {name}: not a number")
        return number

    def required_integer(self, name: str) -> int:
        """A number that must be there."""
        number = self.integer(name)
        if number is None:
            raise BadRequest(f"query parameter {name} is required and must be a number")
        return number

    def required(self, name: str) -> str:
        """A text that must be there and not be empty."""
        value = self.optional(name)
        if value is None:
            raise BadRequest(f"query parameter {name} is required and can't be empty")
        return value

    def moment(self, name: str) -> int | None:
        """A point in time in nanoseconds since the epoch: seconds, a date or a duration before now."""
        value = self.optional(name)
        return None if value is None else parse_time(value, now_ns=time.time_ns())

    def filters(self) -> Filters:
        """The ``filters`` parameter; which keys are allowed is for the service."""
        return Filters.parse(self.text("filters"))
