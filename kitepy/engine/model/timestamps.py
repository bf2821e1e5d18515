"""Times as the Engine API writes them: RFC 3339 with nanoseconds out; seconds, dates or durations in.

Inside, a time is an integer: nanoseconds since the epoch, in UTC.
"""

from __future__ import annotations

import functools
import re
from datetime import UTC, datetime, timedelta, timezone

from kitepy.engine.model.errors import InvalidParameter

SECOND = 1_000_000_000
NEVER = "0001-01-01T00:00:00Z"
"""How Docker writes a time that has not come."""

_SECONDS = re.compile(r"(-?\d{1,18})(?:\.(\d{1,9})\d*)?", re.ASCII)
_DATE = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d+))?)?)?(Z|[+-]\d\d:\d\d)?",
    re.ASCII,
)
_DURATION = re.compile(
    r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:ns|us|µs|ms|s|m|h)(?:(?:\d+(?:\.\d*)?|\.\d+)(?:ns|us|µs|ms|s|m|h))*", re.ASCII
)
_DURATION_PART = re.compile(r"([\d.]+)(ns|us|µs|ms|s|m|h)", re.ASCII)
_UNITS_NS = {"ns": 1, "us": 1_000, "µs": 1_000, "ms": 1_000_000, "s": SECOND, "m": 60 * SECOND, "h": 3600 * SECOND}
_LONGEST = 2**63 - 1
_LONGEST_TEXT = 64


def format_time(time_ns: int) -> str:
    """RFC 3339 in UTC with as many digits as needed, as Go writes it; 0 is ``NEVER``."""
    if time_ns == 0:
        return NEVER
    seconds, fraction = divmod(time_ns, SECOND)
    moment = _to_the_second(seconds)
    return f"{moment}.{fraction:09d}".rstrip("0").rstrip(".") + "Z" if fraction else f"{moment}Z"


@functools.lru_cache(4096)
def _to_the_second(seconds: int) -> str:
    """Kept for a while: lists and inspects say the same times again and again."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def parse_time(text: str, *, now_ns: int) -> int:
    """Read a query's point in time: seconds since the epoch with a fraction, a date, or a duration before now.

    A date without zone is UTC. Raises InvalidParameter for anything else.
    """
    if match := _SECONDS.fullmatch(text):
        whole = int(match[1]) * SECOND
        fraction = int((match[2] or "0").ljust(9, "0"))
        return _bounded(whole - fraction if text.startswith("-") else whole + fraction, text)
    if match := _DATE.fullmatch(text):
        return _from_date(match, text)
    if len(text) <= _LONGEST_TEXT and _DURATION.fullmatch(text):
        return _bounded(now_ns - parse_duration(text), text)
    shown = text[:_LONGEST_TEXT].replace("\\", "\\\\").replace('"', '\\"')
    raise InvalidParameter(f'failed to parse value as time or duration: "{shown}"')


def parse_duration(text: str) -> int:
    """Nanoseconds of a duration as Go writes it, e.g. ``1h30m`` or ``-1.5s``; raises InvalidParameter."""
    if len(text) > _LONGEST_TEXT or not _DURATION.fullmatch(text):
        raise InvalidParameter(f"invalid duration '{text[:_LONGEST_TEXT]}'")
    total = 0
    for number, unit in _DURATION_PART.findall(text):
        whole, _, fraction = number.partition(".")
        total += int(whole or "0") * _UNITS_NS[unit]
        total += int(fraction or "0") * _UNITS_NS[unit] // 10 ** len(fraction)
    return _bounded(-total if text.startswith("-") else total, text)


def format_duration(duration_ns: int) -> str:
    """A duration as Go writes it, e.g. ``1h0m30s``, ``1.5s`` or ``300ms``."""
    if duration_ns < 0:
        return f"-{format_duration(-duration_ns)}"
    if duration_ns == 0:
        return "0s"
    for unit in ("ns", "µs", "ms"):
        if duration_ns < 1000 * _UNITS_NS[unit]:
            return f"{_decimal(duration_ns, _UNITS_NS[unit])}{unit}"
    minutes, rest = divmod(duration_ns, 60 * SECOND)
    hours, minutes = divmod(minutes, 60)
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "") + f"{_decimal(rest, SECOND)}s"


def _decimal(value: int, unit: int) -> str:
    whole, fraction = divmod(value, unit)
    return f"{whole}.{fraction:0{len(str(unit)) - 1}d}".rstrip("0") if fraction else str(whole)


def _from_date(match: re.Match[str], text: str) -> int:
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    try:
        moment = datetime(int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0), tzinfo=_zone(zone))
    except ValueError as error:
        raise InvalidParameter(f"invalid time '{text}': {error}") from None
    since_epoch = moment - datetime(1970, 1, 1, tzinfo=UTC)
    seconds = since_epoch.days * 86_400 + since_epoch.seconds
    return _bounded(seconds * SECOND + int((fraction or "0")[:9].ljust(9, "0")), text)


def _zone(text: str | None) -> timezone:
    if text is None or text == "Z":
        return UTC
    offset = timedelta(hours=int(text[1:3]), minutes=int(text[4:6]))
    return timezone(-offset if text[0] == "-" else offset)


def _bounded(time_ns: int, text: str) -> int:
    if abs(time_ns) > _LONGEST:
        raise InvalidParameter(f"invalid time '{text}': out of range")
    return time_ns
