"""Use cases of networks: create, list, describe, remove, prune; who joins them is the matter of ``network_connections``."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from kitepy.engine.model.errors import Conflict, EngineError, Forbidden, InvalidParameter
from kitepy.engine.model.filters import Filters
from kitepy.engine.model.ids import new_id, short_id
from kitepy.engine.model.network import NetworkDriver, NetworkRecord
from kitepy.engine.model.network_config import NetworkConnectBody, NetworkCreateBody, NetworkDisconnectBody
from kitepy.engine.model.timestamps import format_time
from kitepy.engine.network.ipam import check_ipam_config
from kitepy.engine.network.naming import builtin_id
from kitepy.engine.network.networks import Networks
from kitepy.engine.services.container_index import ContainerIndex
from kitepy.engine.services.endpoints import placeholder
from kitepy.engine.services.events import Emit
from kitepy.engine.services.network_connections import NetworkConnections
from kitepy.engine.services.network_index import AmbiguousNetwork, NetworkIndex, StoredNetwork
from kitepy.engine.services.network_request import (
    check_isolated,
    check_name,
    check_swarm,
    wanted_families,
    wanted_network,
    wanted_subnets,
    with_default_options,
)
from kitepy.engine.services.network_view import Attached, NetworkFilter, NetworkPruneFilter, network_document

logger = logging.getLogger(__name__)


def predefined_networks(default: NetworkRecord | None, seed: str, created: str) -> tuple[NetworkRecord, ...]:
    """The networks of an engine that nobody made; ``seed`` makes the identifiers differ between engines."""
    return (
        *(() if default is None else (default,)),
        NetworkRecord(builtin_id("host", seed), "host", NetworkDriver.HOST, created),
        NetworkRecord(builtin_id("none", seed), "none", NetworkDriver.NULL, created),
    )


class NetworkService:
    """Satisfies ``ports.NetworkService``. Belongs to one event loop."""

    def __init__(
        self,
        *,
        index: NetworkIndex,
        networks: Networks,
        containers: ContainerIndex,
        connections: NetworkConnections,
        emit: Emit,
        default_options: Sequence[tuple[str, str, str]] = (),
    ) -> None:
        """``default_options`` (driver, key, value) are given to networks that say nothing of them."""
        self._default_options = tuple(default_options)
        self._index = index
        self._networks = networks
        self._containers = containers
        self._connections = connections
        self._emit = emit
        self._being_made: set[str] = set()

    async def list(self, filters: Filters, *, detailed: bool = False) -> Sequence[dict[str, Any]]:
        """The networks that match; with their containers only when ``detailed``. Raises InvalidParameter and SystemFailure."""
        chooser = NetworkFilter(filters)
        used = {endpoint.network_id for record in self._containers for endpoint in record.endpoints}
        found = [network for network in self._index if chooser.matches(network, in_use=network.id in used)]
        return [network_document(network, self._attached(network) if detailed else ()) for network in found]

    async def inspect(self, ref: str, scope: str = "") -> dict[str, Any]:
        """One network with its containers. Raises NotFound and InvalidParameter."""
        try:
            network = self._index.find(ref)
        except AmbiguousNetwork as error:
            raise InvalidParameter(f"{error.matches} matches found based on ID prefix: network {ref} is ambiguous") from None
        if scope not in ("", network.scope):
            raise self._index.not_found(ref)
        return network_document(network, self._attached(network))

    def _attached(self, network: StoredNetwork) -> Iterator[Attached]:
        for record in self._containers:
            if not record.state.status.has_process:
                continue
            for endpoint in record.endpoints:
                if endpoint.network_id == network.id:
                    yield Attached(record.id, record.name, endpoint)
            for name, settings in record.networks.items():
                if settings.network_id == network.id and network.record.driver in (NetworkDriver.HOST, NetworkDriver.NULL):
                    yield Attached(record.id, record.name, placeholder(record, name, network.id))

    async def create(self, body: NetworkCreateBody) -> str:
        """Make a network; gives its id. Raises EngineError."""
        check_name(body.name)
        check_ipam_config(wanted_subnets(body), ipv6=wanted_families(body)[1])
        check_swarm(body)
        if not body.name:
            raise InvalidParameter("invalid name: name is empty")
        with self._claimed(body.name):
            body = with_default_options(body, self._default_options)
            network = wanted_network(body, network_id=new_id(), created=format_time(time.time_ns()), find=self._index.named)
            if not network.config_only:
                check_isolated(network.record)
                network = replace(network, record=await self._networks.create(network.record))
            try:
                self._index.add(network)
            except BaseException:
                if not network.config_only:
                    await self._networks.remove(network.id)
                raise
        self._tell("create", network)
        return network.id

    @contextlib.contextmanager
    def _claimed(self, name: str) -> Iterator[None]:
        """Nobody else can take the name while the network is being made."""
        if name in self._being_made or self._index.named(name) is not None:
            raise Conflict(f"network with name {name} already exists")
        self._being_made.add(name)
        try:
            yield
        finally:
            self._being_made.discard(name)

    async def remove(self, ref: str) -> None:
        """Remove a network that nobody uses. Raises NotFound and Forbidden."""
        network = self._index.find(ref)
        if network.predefined:
            raise Forbidden(f"{network.name} is a pre-defined network and cannot be removed")
        await self._remove(network)

    async def _remove(self, network: StoredNetwork) -> None:
        if obstacle := self._obstacle(network):
            raise Forbidden(f"error while removing network: {obstacle}")
        if not network.config_only:
            await self._networks.remove(network.id)
        if self._index.get(network.id) is not None:  # somebody else may have been quicker
            self._index.remove(network.id)
            self._tell("destroy", network)

    def _obstacle(self, network: StoredNetwork) -> str:
        """Why a network can't be removed; empty when it can."""
        if any(other.config_from == network.name for other in self._index):
            return f'configuration network "{network.name}" is in use'
        places = [
            f'name:"{self._name_of(endpoint.container_id)}" id:"{short_id(endpoint.endpoint_id)}"'
            for endpoint in self._networks.endpoints(network.id)
        ]
        return f"network {network.name} has active endpoints ({', '.join(places)})" if places else ""

    def _name_of(self, container_id: str) -> str:
        record = self._containers.get(container_id)
        return record.name if record is not None else short_id(container_id)

    async def prune(self, filters: Filters) -> dict[str, Any]:
        """Remove the networks that no container uses. Raises InvalidParameter."""
        chooser = NetworkPruneFilter(filters, time.time_ns())
        removed: list[str] = []
        for network in self._index:
            if not chooser.matches(network) or self._obstacle(network):
                continue
            try:
                await self._remove(network)
            except EngineError as error:
                logger.warning("could not remove network %s: %s", network.name, error)
            else:
                removed.append(network.name)
        self._emit("network", "prune", "", {"reclaimed": "0"})
        return {"NetworksDeleted": removed or None}

    async def connect(self, ref: str, body: NetworkConnectBody) -> None:
        """Let a container join a network, now or at its next start. Raises EngineError."""
        await self._connections.connect(ref, body)

    async def disconnect(self, ref: str, body: NetworkDisconnectBody) -> None:
        """Take a container out of a network. Raises EngineError."""
        await self._connections.disconnect(ref, body)

    def _tell(self, action: str, network: StoredNetwork) -> None:
        self._emit("network", action, network.id, {"name": network.name, "type": network.record.driver.value})
