"""Watches the main thread of the app's tests: work there may never keep the window waiting."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from PySide6.QtCore import QTimer

STALL_S = 0.050
# The machine that tests run on is busy with other work: a stall counts when the main thread itself used the time, or when
# it is so long that no scheduler explains it (then it waited for something).
CERTAIN_STALL_S = 0.5
# A stall that is the app's comes back when the same work is done again; one of the machine's doesn't.
WATCHED_ROUNDS = 3


class Watchdog:
    """Measures how long the main thread doesn't come back to its loop."""

    def __init__(self) -> None:
        self.stalls: list[tuple[float, float]] = []
        self._wall, self._used = time.monotonic(), time.thread_time()
        self._timer = QTimer(interval=5)
        self._timer.timeout.connect(self._tick)
        self._timer.start()

    def _tick(self) -> None:
        wall, used = time.monotonic(), time.thread_time()
        gap_s, busy_s = wall - self._wall, used - self._used
        if busy_s > STALL_S or gap_s > CERTAIN_STALL_S:
            self.stalls.append((gap_s, busy_s))
        self._wall, self._used = wall, used


async def never_stalls(work: Callable[[], Awaitable[None]]) -> None:
    """Fails when the same work stalls the main thread each time."""
    stalls: list[tuple[float, float]] = []
    for _ in range(WATCHED_ROUNDS):
        watchdog = Watchdog()
        await work()
        del watchdog._timer
        stalls = watchdog.stalls
        if not stalls:
            return
    raise AssertionError([f"{gap * 1000:.0f} ms ({busy * 1000:.0f} busy)" for gap, busy in stalls])
