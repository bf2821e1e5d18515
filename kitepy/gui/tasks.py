"""Runs the controllers' coroutines on the GUI thread's loop, holds on to them, and sends every failure to one place."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from kitepy.gui.gateway.port import GatewayError

_log = logging.getLogger(__name__)

Report = Callable[[str], None]


class Tasks:
    """asyncio itself keeps only weak references to tasks, and drops their errors unless someone asks."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._running: set[asyncio.Task[Any]] = set()

    def spawn(self, work: Coroutine[Any, Any, Any], *, name: str) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.ensure_future(work)
        task.set_name(name)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    async def cancel_all(self) -> None:
        """Ends everything and waits until it has ended; what a task's clean-up begins is ended as well."""
        me = asyncio.current_task()
        while running := [task for task in self._running if task is not me]:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            return
        if isinstance(error, GatewayError):
            _log.warning("%s: %s", task.get_name(), error)
            self._report(str(error))
        else:
            _log.error("%s failed", task.get_name(), exc_info=error)
            self._report(f"Something went wrong inside of Kitepy ({type(error).__name__}: {error}). The log has the details.")
