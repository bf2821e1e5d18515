"""Feeds the container page: details, log and preview of the container in sight, and of no other; nothing while hidden."""

from __future__ import annotations

import asyncio
from typing import Protocol

from kitepy.gui.gateway.port import Gateway, GatewayError
from kitepy.gui.models.container import Container, ContainerDetails, Status, preview_port
from kitepy.gui.models.log import Line, LineAssembler, LogStore, moment
from kitepy.gui.models.preview import Preview
from kitepy.gui.models.state import AppState, EnginePhase, Page, Store
from kitepy.gui.tasks import Tasks

LOG_TAIL = 1000
# A server needs a moment after its start; then its page is asked for now and then until it answers.
_PREVIEW_RETRY_S = (0.15, 0.3, 0.5, 1.0, 1.0, 2.0, 2.0, 5.0)
_LOG_RETRY_S = 1.0


class ContainerView(Protocol):
    def show_details(self, details: ContainerDetails) -> None: ...

    def show_preview(self, preview: Preview | None) -> None: ...

    def show_log(self, store: LogStore) -> None: ...


class ContainerPageController:
    def __init__(self, store: Store, gateway: Gateway, tasks: Tasks, view: ContainerView) -> None:
        self._store = store
        self._gateway = gateway
        self._tasks = tasks
        self._view = view
        self._visible = True
        self._log_of = ""
        self._log = LogStore()
        self._last_moment = ""
        self._details_key: object = None
        self._preview_url = ""
        self._pump: asyncio.Task[None] | None = None
        self._read: asyncio.Task[None] | None = None
        self._preview: asyncio.Task[None] | None = None
        store.subscribe(lambda state, _previous: self._follow(state))

    def set_visible(self, visible: bool) -> None:
        """A hidden window costs nothing: its streams end and begin anew."""
        if visible == self._visible:
            return
        self._visible = visible
        if visible:
            self._follow(self._store.state)
        else:
            self._leave()

    def refresh_preview(self) -> None:
        self._preview_url = ""
        self._follow(self._store.state)

    def _follow(self, state: AppState) -> None:
        container = state.containers.get(state.route.key) if state.route.page is Page.CONTAINER else None
        if container is None or state.engine.phase is not EnginePhase.READY:
            self._leave()
            return
        if not self._visible:
            return
        self._follow_log(container)
        self._follow_details(container)
        self._follow_preview(container)

    def _leave(self) -> None:
        for task in (self._pump, self._read, self._preview):
            if task is not None:
                task.cancel()
        self._pump = self._read = self._preview = None
        self._log_of, self._details_key, self._preview_url = "", None, ""

    # Log

    def _follow_log(self, container: Container) -> None:
        ended = self._pump is None or self._pump.done()
        if container.id != self._log_of:
            self._log_of = container.id
            self._log = LogStore()
            self._last_moment = ""
            self._view.show_log(self._log)
            self._begin_log(container.id)
        elif ended and container.status.alive:
            self._begin_log(container.id)

    def _begin_log(self, container_id: str) -> None:
        if self._pump is not None:
            self._pump.cancel()
        self._pump = self._tasks.spawn(self._pump_log(container_id, self._log), name="log")

    async def _pump_log(self, container_id: str, log: LogStore) -> None:
        """The stream ends with the container; as long as that runs (again) it is taken up where it ended."""
        while True:
            assembler = LineAssembler(timestamps=True)
            seen = self._last_moment
            try:
                async for chunk in self._gateway.logs(container_id, tail=LOG_TAIL):
                    self._append(log, assembler.feed(chunk.stream, chunk.data), seen)
                self._append(log, assembler.flush(), seen)
            except GatewayError:
                # The engine is gone or the container is: the list will say which.
                return
            container = self._store.state.containers.get(container_id)
            if container is None or not container.status.alive:
                return
            await asyncio.sleep(_LOG_RETRY_S)

    def _append(self, log: LogStore, lines: list[Line], seen: str) -> None:
        """Leaves out what came before the stream was taken up again."""
        if seen:
            lines = [line for line in lines if not line.timestamp or moment(line.timestamp) > seen]
        if lines and lines[-1].timestamp:
            self._last_moment = moment(lines[-1].timestamp)
        log.append(lines)

    # Details

    def _follow_details(self, container: Container) -> None:
        if container == self._details_key:
            return
        self._details_key = container
        if self._read is not None:
            self._read.cancel()
        self._read = self._tasks.spawn(self._read_details(container.id), name="details")

    async def _read_details(self, container_id: str) -> None:
        try:
            details = await self._gateway.container(container_id)
        except GatewayError:
            # It may have been removed a moment ago; the list tells the rest.
            return
        self._view.show_details(details)

    # Preview

    def _follow_preview(self, container: Container) -> None:
        port = preview_port(container.ports) if container.status is Status.RUNNING else None
        url = port.url if port is not None else ""
        key = f"{container.id} {url}" if url else ""
        if key == self._preview_url:
            return
        self._preview_url = key
        if self._preview is not None:
            self._preview.cancel()
            self._preview = None
        self._view.show_preview(None)
        if url:
            self._preview = self._tasks.spawn(self._fetch_preview(url), name="preview")

    async def _fetch_preview(self, url: str) -> None:
        for number in range(10_000):
            preview = await self._gateway.preview(url)
            if preview.answered or number >= 2:
                self._view.show_preview(preview)
            if preview.answered:
                return
            await asyncio.sleep(_PREVIEW_RETRY_S[min(number, len(_PREVIEW_RETRY_S) - 1)])
