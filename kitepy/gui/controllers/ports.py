"""Feeds the Ports page: reads the host's sockets while it is looked at, and answers whether a port is free.

The kernel tells nobody about new sockets, so they are read when the page is opened, when the window is looked at again, after
each change of a container and when the user asks: never by a timer.
"""

from __future__ import annotations

import asyncio

from kitepy.gui.controllers.containers import ContainersController
from kitepy.gui.controllers.presenter import Presenter
from kitepy.gui.gateway.port import BindResult, Gateway, GatewayError
from kitepy.gui.models.actions import ContainerAction
from kitepy.gui.models.ports import answer_about, port_rows
from kitepy.gui.models.state import AppState, ListenersRead, ListenersUnreadable, Page, PortAnswered, Store
from kitepy.gui.tasks import Tasks


class PortsController:
    def __init__(
        self, store: Store, gateway: Gateway, tasks: Tasks, containers: ContainersController, presenter: Presenter
    ) -> None:
        self._store = store
        self._gateway = gateway
        self._tasks = tasks
        self._containers = containers
        self._presenter = presenter
        self._visible = True
        self._read_for: object = None
        self._reading: asyncio.Task[None] | None = None
        self._again = False
        self._asking: asyncio.Task[None] | None = None
        store.subscribe(lambda state, _previous: self._follow(state))

    def set_visible(self, visible: bool) -> None:
        self._visible = visible
        self.refresh()

    def refresh(self) -> None:
        """Reads anew if the page is in sight."""
        self._read_for = None
        self._follow(self._store.state)

    def check(self, port: int, protocol: str) -> None:
        """Port 0 takes the question back."""
        if self._asking is not None:
            self._asking.cancel()
        if port == 0:
            self._store.dispatch(PortAnswered(None))
        else:
            self._asking = self._tasks.spawn(self._check(port, protocol), name=f"check port {port}")

    def free(self, container_id: str) -> None:
        """Stops the container that holds a port, after a question."""
        container = self._store.state.containers.get(container_id)
        if container is None or not container.status.alive:
            return
        ports = sorted({port.host_port for port in container.ports if port.host_port is not None})
        self._presenter.confirm(
            f"Stop {container.name}?",
            f"That frees {'port' if len(ports) == 1 else 'ports'} {', '.join(map(str, ports))}. Its processes end; its files, "
            "volumes and settings stay, and it can be started again.",
            f"Stop {container.name}",
            lambda: self._containers.act(ContainerAction.STOP, container_id),
        )

    def _follow(self, state: AppState) -> None:
        if state.route.page is not Page.PORTS or not self._visible:
            self._read_for = None
            return
        held = tuple((container.id, container.ports) for container in state.containers.values() if container.ports)
        if held == self._read_for:
            return
        self._read_for = held
        if self._reading is not None and not self._reading.done():
            self._again = True
        else:
            self._reading = self._tasks.spawn(self._read(), name="host ports")

    async def _read(self) -> None:
        while True:
            self._again = False
            await self._read_listeners()
            if not self._again:
                return

    async def _read_listeners(self) -> None:
        try:
            self._store.dispatch(ListenersRead(await self._gateway.host_ports()))
        except GatewayError as error:
            self._store.dispatch(ListenersUnreadable(str(error)))

    async def _check(self, port: int, protocol: str) -> None:
        await self._read_listeners()
        # There is no quick way to try SCTP from here: what is known of containers has to do.
        tried = await self._gateway.try_port(port, protocol) if protocol in ("tcp", "udp") else BindResult(False)
        state = self._store.state
        rows = port_rows(state.containers.values(), state.listeners)
        self._store.dispatch(PortAnswered(answer_about(rows, port, protocol, bind_error=tried.reason, bind_taken=tried.taken)))
