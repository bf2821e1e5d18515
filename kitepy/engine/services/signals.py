"""Signal names and numbers as users write them; pure."""

from __future__ import annotations

import re
import signal

from kitepy.engine.model.errors import InvalidParameter

_RTMIN, _RTMAX = 34, 64
_DISTANCE = re.compile(r"[0-9]{1,2}")


def parse_signal(text: str) -> int:
    """``9``, ``KILL``, ``SIGKILL``, ``RTMIN+3``; raises InvalidParameter for others."""
    word = text.strip().upper()
    if word.isascii() and word.isdigit():
        if len(word) <= 4 and 0 < int(word) <= _RTMAX:
            return int(word)
        raise InvalidParameter(f"Invalid signal: {text}")
    name = word.removeprefix("SIG")
    for base_name, base, sign in (("RTMIN", _RTMIN, 1), ("RTMAX", _RTMAX, -1)):
        if name.startswith(base_name):
            offset = name.removeprefix(base_name)
            if not offset:
                return base
            distance = offset[1:]
            if offset[0] == ("+" if sign > 0 else "-") and _DISTANCE.fullmatch(distance) and int(distance) <= _RTMAX - _RTMIN:
                return base + sign * int(distance)
    try:
        return int(signal.Signals[f"SIG{name}"])
    except KeyError:
        raise InvalidParameter(f"Invalid signal: {text}") from None
