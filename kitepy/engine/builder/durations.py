"""Go's duration notation (``1m30s``), which Dockerfiles and their history use; nanoseconds inside."""

from __future__ import annotations

import re
from decimal import Decimal

_UNITS_NS = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)")


def parse_duration(text: str) -> int:
    """Nanoseconds; ValueError says what is wrong."""
    unsigned = text.removeprefix("-") if text.startswith("-") else text.removeprefix("+")
    if unsigned == "0":
        return 0
    total, position = Decimal(0), 0
    while position < len(unsigned):
        match = _PART.match(unsigned, position)
        if match is None:
            break
        total += Decimal(match[1]) * _UNITS_NS[match[2]]
        position = match.end()
    if not unsigned or position < len(unsigned):
        kind = "missing unit in duration" if re.fullmatch(r"\d+\.?\d*", unsigned) else "invalid duration"
        raise ValueError(f'time: {kind} "{text}"')
    return int(total) * (-1 if text.startswith("-") else 1)
