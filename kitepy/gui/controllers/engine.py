"""Keeps the app in step with the engine: starts it, follows its events, re-reads the lists, finds it again when it is lost."""

from __future__ import annotations

import asyncio
import enum
import time
from collections.abc import Awaitable, Callable
from typing import Any

from kitepy.gui.gateway.port import EngineUnavailable, Gateway, GatewayError
from kitepy.gui.models.state import (
    ContainersListed,
    ContainersUnreadable,
    EngineChanged,
    EngineEvent,
    EnginePhase,
    EngineState,
    Event,
    ImagesListed,
    ImagesUnreadable,
    NetworksListed,
    NetworksUnreadable,
    Store,
    SystemChecked,
    VolumesListed,
    VolumesUnreadable,
)
from kitepy.gui.tasks import Tasks

# Events come in bursts (create, connect, start): one reading serves them all.
_GATHER_S = 0.04
_RETRY_S = (0.1, 0.3, 1.0, 3.0)


class Lists(enum.Flag):
    """What is read from the engine at once and kept in step with it."""

    CONTAINERS = enum.auto()
    IMAGES = enum.auto()
    VOLUMES = enum.auto()
    NETWORKS = enum.auto()
    ALL = CONTAINERS | IMAGES | VOLUMES | NETWORKS


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
_CHANGES_IMAGES = {"tag", "untag", "delete", "load", "pull", "push", "import", "create", "prune"}
_CHANGES_VOLUMES = {"create", "destroy", "prune"}
_CHANGES_NETWORKS = {"create", "destroy", "remove", "update", "prune"}


def lists_changed_by(event: EngineEvent) -> Lists:
    """What has to be read again after an event."""
    match event.kind:
        case "container" if event.action in _CHANGES_CONTAINERS:
            # A container comes and goes with its anonymous volumes, and an image tells how many use it.
            more = Lists.IMAGES | Lists.VOLUMES if event.action in ("create", "destroy") else Lists(0)
            return Lists.CONTAINERS | more
        case "image" if event.action in _CHANGES_IMAGES:
            return Lists.IMAGES
        case "volume" if event.action in _CHANGES_VOLUMES:
            return Lists.VOLUMES
        case "network" if event.action in _CHANGES_NETWORKS:
            return Lists.NETWORKS
        case "network" if event.action in ("connect", "disconnect"):
            return Lists.CONTAINERS
        case _:
            return Lists(0)


class EngineController:
    def __init__(self, store: Store, gateway: Gateway, tasks: Tasks, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._gateway = gateway
        self._tasks = tasks
        self._clock = clock
        self._run: asyncio.Task[None] | None = None
        self._due = Lists(0)
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

    def refresh(self, lists: Lists = Lists.ALL) -> None:
        """Re-reads them soon; many calls make one reading."""
        self._due |= lists
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
        if changed := lists_changed_by(event):
            self.refresh(changed)

    async def _read_lists(self) -> None:
        while self._due:
            await asyncio.sleep(_GATHER_S)
            due, self._due = self._due, Lists(0)
            if Lists.CONTAINERS in due:
                await self._read(self._gateway.containers, ContainersListed, ContainersUnreadable)
            if Lists.IMAGES in due:
                await self._read(self._gateway.images, ImagesListed, ImagesUnreadable)
            if Lists.VOLUMES in due:
                await self._read(self._gateway.volumes, VolumesListed, VolumesUnreadable)
            if Lists.NETWORKS in due:
                await self._read(self._gateway.networks, NetworksListed, NetworksUnreadable)

    async def _read(
        self, ask: Callable[[], Awaitable[Any]], listed: Callable[[Any], Event], failed: Callable[[str], Event]
    ) -> None:
        try:
            answer = await ask()
        except GatewayError as error:
            self._store.dispatch(failed(str(error)))
        else:
            self._store.dispatch(listed(answer))
