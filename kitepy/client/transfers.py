"""How far a copy to or from the engine is, told to whoever waits for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kitepy.client.errors import Cancelled
from kitepy.client.lifeline import Lifeline


@dataclass(frozen=True)
class Transfer:
    """How far a copy is; ``total_bytes`` is 0 while it isn't known."""

    done_bytes: int
    total_bytes: int = 0


def reporter(lifeline: Lifeline, emit: Callable[[Transfer], None]) -> Callable[[int, int], None]:
    """Tells of each megabyte, and ends the copy when nobody wants it any more."""
    last = -1

    def report(done_bytes: int, total_bytes: int) -> None:
        nonlocal last
        if lifeline.cut_off:
            raise Cancelled("the copy was cancelled")
        step = done_bytes >> 20
        if step != last or (total_bytes and done_bytes == total_bytes):
            last = step
            emit(Transfer(done_bytes, total_bytes))

    return report
