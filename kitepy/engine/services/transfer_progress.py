"""Progress of transfers as Docker's clients know it: messages with a bar, and how many of them are worth sending; no I/O.

Form: JSONMessage of the Engine API. The bar repeats what ``progressDetail`` says for clients that print what they get.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Protocol

Message = dict[str, Any]
Tell = Callable[[Message], None]
"""Takes a message for the client."""


class Cancellable(Protocol):
    """A call that was put off."""

    def cancel(self) -> None: ...


Later = Callable[[float, Callable[[], None]], Cancellable]

_BAR_CHARACTERS = 50
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
_SMALLEST_STEP_BYTES = 512 << 10
_SHORTEST_PAUSE_S = 0.1


def human_size(count: int) -> str:
    """Four digits at most: ``1.036MB``."""
    value, unit = float(count), 0
    while value >= 1000 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.4g}{_UNITS[unit]}"


def bar(current: int, total: int) -> str:
    """``[=====>      ]  1.036MB/8.003MB``; without a total only what has been done."""
    if total <= 0:
        return f"{human_size(current):>8}"
    filled = min(current * 100 // total // 2, _BAR_CHARACTERS)
    numbers = f"{human_size(current):>8}" + (f"/{human_size(total)}" if current <= total else "")
    return f"[{'=' * filled}>{' ' * (_BAR_CHARACTERS - filled)}] {numbers}"


def status(layer_id: str, text: str) -> Message:
    """What a layer's transfer is at."""
    return {"status": text, "progressDetail": {}, "id": layer_id}


def progress(layer_id: str, text: str, current: int, total: int) -> Message:
    """How far a layer's transfer is."""
    detail = {"current": current, "total": total} if total > 0 else {"current": current}
    return {"status": text, "progressDetail": detail, "progress": bar(current, total), "id": layer_id}


class Meter:
    """Turns byte counts into messages, few enough for people: a step of 1 % or 512 kB, ten a second, and the last one.

    Use it as a context manager: what is held back for being too soon is told a little later, but not after the end.
    """

    def __init__(
        self,
        layer_id: str,
        text: str,
        total: int,
        tell: Tell,
        *,
        clock: Callable[[], float] = time.monotonic,
        later: Later | None = None,
    ) -> None:
        """``later`` calls back after so many seconds; by default the running event loop does."""
        self._layer_id = layer_id
        self._text = text
        self._total = total
        self._tell = tell
        self._clock = clock
        self._later = later
        self._step = min(_SMALLEST_STEP_BYTES, total // 100) if total > 0 else _SMALLEST_STEP_BYTES
        self._current = 0
        self._told = 0
        self._told_at = -1e9
        self._owed: Cancellable | None = None

    def __enter__(self) -> Meter:
        return self

    def __exit__(self, *_: object) -> None:
        if self._owed is not None:
            self._owed.cancel()

    def update(self, current: int) -> None:
        """So many bytes are done."""
        self._current = current
        whole = 0 < self._total == current
        if current == self._told or (not whole and current - self._told <= self._step):
            return
        wait_s = self._told_at + _SHORTEST_PAUSE_S - self._clock()
        if whole or wait_s <= 0:
            self._say()
        elif self._owed is None:
            self._owed = (self._later or asyncio.get_running_loop().call_later)(wait_s, self._say)

    def _say(self) -> None:
        if self._owed is not None:
            self._owed.cancel()
            self._owed = None
        self._told, self._told_at = self._current, self._clock()
        self._tell(progress(self._layer_id, self._text, self._current, self._total))
