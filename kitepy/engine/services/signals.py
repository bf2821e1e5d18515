"""Signal names and numbers as users write them; pure."""

from __future__ import annotations

import signal

from kitepy.engine.model.errors import InvalidParameter

_RTMIN, _RTMAX = 34, 64


def parse_signal(text: str) -> int:
    """``9``, ``KILL``, ``SIGKILL``, ``RTMIN+3``; raises InvalidParameter for others."""
    word = text.strip().upper()
    if word.isascii() and word.isdigit():
        if 0 < int(word) <= _RTMAX:
            return int(word)
        raise InvalidParameter(f"Invalid signal: {text}")
    name = word.removeprefix("SIG")
    for base_name, base, sign in (("RTMIN", _RTMIN, 1), ("RTMAX", _RTMAX, -1)):
        if name.startswith(base_name):
            offset = name.removeprefix(base_name)
            if not offset:
                return base
            if offset[0] == ("+" if sign > 0 else "-") and offset[1:].isdecimal() and int(offset[1:]) <= _RTMAX - _RTMIN:
                return base + sign * int(offset[1:])
    try:
        return int(signal.Signals[f"SIG{name}"])
    except KeyError:
        raise InvalidParameter(f"Invalid signal: {text}") from None
