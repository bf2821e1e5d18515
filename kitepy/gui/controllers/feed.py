"""Gathers quick changes of one thing and shows the newest a few times a second, so that the window has its turn in between."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

Value = TypeVar("Value")

_SHOWN_EVERY_S = 0.08
_AT_ONCE = 32


class Feed(Generic[Value]):
    def __init__(self, show: Callable[[Value], None]) -> None:
        self._show = show
        self._newest: Value | None = None
        self._due: asyncio.TimerHandle | None = None
        self._taken = 0

    async def take(self, value: Value) -> None:
        self._newest = value
        if self._due is None:
            self._due = asyncio.get_running_loop().call_later(_SHOWN_EVERY_S, self.flush)
        self._taken += 1
        if self._taken % _AT_ONCE == 0:
            # What has been waiting comes without a pause.
            await asyncio.sleep(0)

    def flush(self) -> None:
        """Shows the newest now; safe to call when nothing is new."""
        if self._due is not None:
            self._due.cancel()
            self._due = None
        if self._newest is not None:
            newest, self._newest = self._newest, None
            self._show(newest)
