"""What can be done to networks: make one, remove it, attach containers and take them off."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from kitepy.gui.controllers.controller import Controller
from kitepy.gui.controllers.engine import Lists
from kitepy.gui.models.network import NetworkPlan, NetworkRow, connectable, network_rows
from kitepy.gui.models.state import ContainersListed, Navigated, NetworksListed, Page, Route


class NetworksController(Controller):
    def create(self) -> None:
        self._presenter.ask_new_network(
            self._store.state.networks, lambda plan: self._spawn(self._create(plan), f"create network {plan.name}")
        )

    def remove(self, network_id: str) -> None:
        row = self._row(network_id)
        if row is None or row.network.predefined:
            return
        name = row.network.name
        if row.members:
            self._presenter.choose(
                f"{name} is in use",
                f"{row.attached} {'is' if len(row.members) == 1 else 'are'} attached. Disconnect or remove "
                f"{'it' if len(row.members) == 1 else 'them'} first, then the network can be removed.",
                [("Show who is attached", lambda: self._store.dispatch(Navigated(Route(Page.NETWORKS, network_id))))],
            )
            return
        self._presenter.confirm(
            f"Remove the network {name}?",
            "No container is attached. Its settings are gone afterwards; another of that name can be made.",
            "Remove",
            lambda: self._spawn(self._remove(network_id), f"remove network {name}"),
        )

    def connect(self, network_id: str) -> None:
        row = self._row(network_id)
        if row is not None:
            self._presenter.ask_connection(
                row.network,
                connectable(row, self._store.state.containers.values()),
                lambda container_id, address: self._spawn(self._connect(network_id, container_id, address), "connect"),
            )

    def disconnect(self, network_id: str, container_id: str) -> None:
        row = self._row(network_id)
        container = self._store.state.containers.get(container_id)
        if row is None or container is None:
            return
        last = " It is its only network: it will reach nothing." if len(container.networks) == 1 else ""
        running = " Its connections there break at once." if container.status.alive else ""
        self._presenter.confirm(
            f"Disconnect {container.name} from {row.network.name}?",
            f"It loses its address on this network.{running}{last} It can be connected again, maybe with another address.",
            "Disconnect",
            lambda: self._spawn(self._disconnect(network_id, container_id), "disconnect"),
        )

    def _row(self, network_id: str) -> NetworkRow | None:
        state = self._store.state
        rows = network_rows(state.networks, state.containers.values())
        return next((row for row in rows if row.network.id == network_id), None)

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        self._tasks.spawn(work, name=name)

    async def _create(self, plan: NetworkPlan) -> None:
        made = await self._gateway.create_network(plan)
        self._store.dispatch(NetworksListed(await self._gateway.networks()))
        self._store.dispatch(Navigated(Route(Page.NETWORKS, made)))

    async def _remove(self, network_id: str) -> None:
        try:
            await self._gateway.remove_network(network_id)
        finally:
            self._engine.refresh(Lists.NETWORKS)

    async def _connect(self, network_id: str, container_id: str, address: str) -> None:
        try:
            await self._gateway.connect_container(network_id, container_id, address)
            self._store.dispatch(ContainersListed(await self._gateway.containers()))
        finally:
            self._engine.refresh(Lists.CONTAINERS | Lists.NETWORKS)

    async def _disconnect(self, network_id: str, container_id: str) -> None:
        try:
            await self._gateway.disconnect_container(network_id, container_id)
            self._store.dispatch(ContainersListed(await self._gateway.containers()))
        finally:
            self._engine.refresh(Lists.CONTAINERS | Lists.NETWORKS)
