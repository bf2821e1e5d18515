"""Keeps the app in step with the engine: starts it, follows its events, re-reads the lists, finds it again when it is lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from kitepy.gui.gateway.port import EngineUnavailable, Gateway, GatewayError
from kitepy.gui.models.state import (
    ContainersListed,
    ContainersUnreadable,
    EngineChanged,
    EngineEvent,
    EnginePhase,
    EngineState,
    ImagesListed,
    ImagesUnreadable,
    Store,
    SystemChecked,
)
from kitepy.gui.tasks import Tasks

# Events come in bursts (create, connect, start): one reading serves them all.
_GATHER_S = 0.04
_RETRY_S = (0.1, 0.3, 1.0, 3.0)

_CHANGES_CONTAINERS = {
    "create",
    "start",
    "die",
    "stop",
    "kill",
    "destroy",
    "rename",
    "pause",
    "unpause",
    "restart",
    "oom",
    "update",
}
_CHANGES_IMAGES = {"tag", "untag", "delete", "load", "pull", "import", "create", "prune"}


class EngineController:
    def __init__(self, store: Store, gateway: Gateway, tasks: Tasks, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._gateway = gateway
        self._tasks = tasks
        self._clock = clock
        self._run: asyncio.Task[None] | None = None
        self._containers_due = self._images_due = False
        self._reading: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()

    def start(self) -> None:
        """Begins, or begins anew after a failure."""
        if self._run is None or self._run.done():
            self._run = self._tasks.spawn(self._keep_connected(), name="engine")

    async def stop(self) -> None:
        """Lets go of the engine, which goes on running; `start` begins anew."""
        if self._run is not None:
            self._run.cancel()
            await asyncio.wait([self._run])
        self._ready.clear()

    async def ready(self) -> None:
        """Waits until the engine answers."""
        await self._ready.wait()

    def refresh(self, *, containers: bool = True, images: bool = True) -> None:
        """Re-reads the lists soon; many calls make one reading."""
        self._containers_due |= containers
        self._images_due |= images
        if self._store.state.engine.phase is EnginePhase.READY and (self._reading is None or self._reading.done()):
            self._reading = self._tasks.spawn(self._read_lists(), name="lists")

    async def _keep_connected(self) -> None:
        self._store.dispatch(EngineChanged(EngineState(EnginePhase.STARTING)))
        attempt = 0
        while True:
            try:
                started = await self._gateway.start_engine()
            except EngineUnavailable as error:
                self._ready.clear()
                if error.check is not None:
                    self._store.dispatch(SystemChecked(error.check))
                failed = EngineState(
                    EnginePhase.FAILED,
                    reason=error.reason,
                    hint=error.hint,
                    log_tail=error.log_tail,
                    blocked=error.check is not None,
                )
                self._store.dispatch(EngineChanged(failed))
                return
            began = time.monotonic()
            self._store.dispatch(
                EngineChanged(EngineState(EnginePhase.READY, started.version, started.adopted, started.why_root))
            )
            self._ready.set()
            since_s = self._clock()
            # The stream begins at `since_s`, so nothing that happens while the lists are read is missed.
            self.refresh()
            try:
                async for event in self._gateway.events(since_s=since_s):
                    self._take(event)
            except GatewayError:
                pass
            self._ready.clear()
            self._store.dispatch(EngineChanged(EngineState(EnginePhase.RECONNECTING)))
            attempt = 0 if time.monotonic() - began > 10 else attempt + 1
            await asyncio.sleep(_RETRY_S[min(attempt, len(_RETRY_S) - 1)])

    def _take(self, event: EngineEvent) -> None:
        self._store.dispatch(event)
        if event.kind == "container" and event.action in _CHANGES_CONTAINERS:
            self.refresh(images=event.action in ("create", "destroy"))
        elif event.kind == "image" and event.action in _CHANGES_IMAGES:
            self.refresh(containers=False)

    async def _read_lists(self) -> None:
        while self._containers_due or self._images_due:
            await asyncio.sleep(_GATHER_S)
            containers, images = self._containers_due, self._images_due
            self._containers_due = self._images_due = False
            if containers:
                try:
                    self._store.dispatch(ContainersListed(await self._gateway.containers()))
                except GatewayError as error:
                    self._store.dispatch(ContainersUnreadable(str(error)))
            if images:
                try:
                    self._store.dispatch(ImagesListed(await self._gateway.images()))
                except GatewayError as error:
                    self._store.dispatch(ImagesUnreadable(str(error)))
