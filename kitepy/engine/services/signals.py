"""Signal names and numbers as users write them; pure."""

from __future__ import annotations

import re
import signal

from kitepy.engine.model.errors import InvalidParameter

SIGKILL = 9
_RTMIN, _RTMAX = 34, 64
_NUMBER = re.compile(r"[+-]?[0-9]+", re.ASCII)
_REAL_TIME = {
    "RTMIN": _RTMIN,
    "RTMAX": _RTMAX,
    # As in the list of kill(1): the lower half counts from the beginning, the upper one from the end.
    **{f"RTMIN+{distance}": _RTMIN + distance for distance in range(1, 16)},
    **{f"RTMAX-{distance}": _RTMAX - distance for distance in range(1, 15)},
}


def parse_signal(text: str) -> int:
    """``9``, ``KILL``, ``SIGKILL``, ``RTMIN+3``, in any case; raises InvalidParameter for others."""
    if _NUMBER.fullmatch(text):
        number = int(text) if len(text) < 20 else 0
        if number == 0:
            raise InvalidParameter(f"invalid signal: {text}")
        if not 0 < number <= _RTMAX or 31 < number < _RTMIN:
            raise InvalidParameter(f"the linux daemon does not support signal {number}")
        return number
    name = text.upper().removeprefix("SIG")
    if name in _REAL_TIME:
        return _REAL_TIME[name]
    try:
        return int(signal.Signals[f"SIG{name}"])
    except KeyError:
        raise InvalidParameter(f"invalid signal: {text}") from None
