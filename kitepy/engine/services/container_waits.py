"""Who waits for which end of a container; futures by condition."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable

from kitepy.engine.model.errors import InvalidParameter
from kitepy.engine.services.ports import WaitResult

CONDITIONS = ("not-running", "next-exit", "removed")


class ContainerWaits:
    """Registry of waiting clients. Used from the event loop's thread only."""

    def __init__(self) -> None:
        self._exits: dict[str, list[asyncio.Future[WaitResult]]] = defaultdict(list)
        self._removals: dict[str, list[asyncio.Future[WaitResult]]] = defaultdict(list)

    def register(self, container_id: str, condition: str, present: WaitResult | None) -> Awaitable[WaitResult]:
        """A future for the condition; ``present`` is the result when the container isn't running now."""
        condition = condition or "not-running"
        if condition not in CONDITIONS:
            raise InvalidParameter(f'invalid condition: "{condition}"')
        future: asyncio.Future[WaitResult] = asyncio.get_running_loop().create_future()
        if condition == "not-running" and present is not None:
            future.set_result(present)
            return future
        registry = self._removals if condition == "removed" else self._exits
        registry[container_id].append(future)
        future.add_done_callback(lambda done: self._forget(registry, container_id, done))
        return future

    def exited(self, container_id: str, result: WaitResult) -> None:
        """Process 1 ended."""
        self._resolve(self._exits, container_id, result)

    def removed(self, container_id: str, result: WaitResult) -> None:
        """The container is gone; nobody need wait for an exit any more either."""
        self._resolve(self._exits, container_id, result)
        self._resolve(self._removals, container_id, result)

    @staticmethod
    def _resolve(registry: dict[str, list[asyncio.Future[WaitResult]]], container_id: str, result: WaitResult) -> None:
        for future in registry.pop(container_id, []):
            if not future.done():
                future.set_result(result)

    @staticmethod
    def _forget(
        registry: dict[str, list[asyncio.Future[WaitResult]]], container_id: str, done: asyncio.Future[WaitResult]
    ) -> None:
        waiting = registry.get(container_id)
        if waiting is not None and done in waiting:
            waiting.remove(done)
            if not waiting:
                del registry[container_id]
