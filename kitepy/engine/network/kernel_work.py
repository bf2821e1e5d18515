"""Threads for work in the kernel, and the tasks that wait for it: what the parts of ``Networks`` share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


class KernelWork:
    """Belongs to one event loop."""

    def __init__(self) -> None:
        self.threads = ThreadPoolExecutor(3, thread_name_prefix="network")
        # Removals wait for RCU; on a thread of their own they delay nobody else.
        self._remover = ThreadPoolExecutor(1, thread_name_prefix="network-removal")
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, work: Callable[[], T]) -> T:
        """Do something that takes moments."""
        return await asyncio.get_running_loop().run_in_executor(self.threads, work)

    async def run_slowly(self, work: Callable[[], T]) -> T:
        """Do something that takes its time, one after another."""
        return await asyncio.get_running_loop().run_in_executor(self._remover, work)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start something that goes on whatever becomes of the caller."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def settled(self) -> None:
        """Returns when all that was spawned has ended."""
        while self._tasks:
            await asyncio.wait(list(self._tasks))

    def close(self) -> None:
        """No more work comes."""
        self.threads.shutdown(wait=False)
        self._remover.shutdown(wait=False)
