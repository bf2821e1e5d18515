"""Joining networks and leaving them, on running containers and on others; at a start it is ``container_launch`` that joins.

Order of a change on a running container: kernel, files, database, event.
"""

from __future__ import annotations

from dataclasses import replace

import msgspec

from kitepy.engine.model.container import ContainerRecord, ContainerStatus
from kitepy.engine.model.container_config import EndpointSettings
from kitepy.engine.model.errors import Conflict, EngineError, Forbidden, InvalidParameter, NotFound, SystemFailure
from kitepy.engine.model.network_config import NetworkConnectBody, NetworkDisconnectBody
from kitepy.engine.network.networks import Networks
from kitepy.engine.services.container_index import ContainerIndex
from kitepy.engine.services.container_launch import ContainerLauncher
from kitepy.engine.services.container_runs import ContainerRuns
from kitepy.engine.services.endpoints import (
    check_endpoint,
    check_interface,
    check_mac_address,
    endpoint_request,
    joined_settings,
    names_in,
    wish,
)
from kitepy.engine.services.events import Emit
from kitepy.engine.services.links import endpoint_links
from kitepy.engine.services.network_index import NetworkIndex, StoredNetwork
from kitepy.engine.services.request_networking import check_companions, parse_network_mode, requested_ports


class NetworkConnections:
    """Belongs to one event loop."""

    def __init__(
        self,
        *,
        index: NetworkIndex,
        networks: Networks,
        containers: ContainerIndex,
        runs: ContainerRuns,
        launcher: ContainerLauncher,
        emit: Emit,
    ) -> None:
        self._index = index
        self._networks = networks
        self._containers = containers
        self._runs = runs
        self._launcher = launcher
        self._emit = emit

    # --- connect ---

    async def connect(self, ref: str, body: NetworkConnectBody) -> None:
        """Let a container join a network: now when it runs, else at its next start. Raises EngineError."""
        found = self._resolve(body.container)
        settings = wish(body.endpoint_config or EndpointSettings())
        check_mac_address(settings)
        async with self._runs.live(found.id).lock:
            record = self._present(found)
            if record.state.status.has_process:
                await self._connect_running(record, self._index.find(ref), settings)
            else:
                self._connect_stopped(record, ref, settings)

    async def _connect_running(self, record: ContainerRecord, network: StoredNetwork, settings: EndpointSettings) -> None:
        if network.name in record.networks:
            raise Forbidden(f"endpoint with name {record.name} already exists in network {network.name}")
        check_companions(record, network)
        check_endpoint(network.name, settings, network)
        check_interface(settings)
        ports = requested_ports(record.config.exposed_ports or {}, record.host_config)
        request = endpoint_request(record, network, settings, endpoint_links(settings.links))
        endpoints = await self._networks.connect(record.id, request, ports)
        if network.name == "bridge":
            await self._launcher.links.joined(replace(record, endpoints=endpoints))
        current = self._runs.require(record.id)  # a rename may have come in between
        joined = joined_settings(current, network, settings)
        current = replace(current, endpoints=endpoints, networks={**current.networks, network.name: joined})
        self._launcher.rewrite_identity(record, current)
        self._containers.save(current)
        if current.name != record.name:
            self._runs.renamed(current)
        self._tell("connect", current, network)

    def _connect_stopped(self, record: ContainerRecord, ref: str, settings: EndpointSettings) -> None:
        """As with dockerd, nobody minds a network that isn't there before the start."""
        if parse_network_mode(record.host_config.network_mode).kind == "container":
            raise InvalidParameter(
                "container sharing network namespace with another container or host cannot be connected to any other network"
            )
        try:
            network = self._index.find(ref)
        except EngineError:
            name = ref
        else:
            check_companions(record, network)
            check_endpoint(network.name, settings, network)
            name = network.name
            settings = msgspec.structs.replace(settings, dns_names=names_in(record, network, settings))
        if name not in record.networks:
            self._containers.save(replace(record, networks={**record.networks, name: settings}))

    # --- disconnect ---

    async def disconnect(self, ref: str, body: NetworkDisconnectBody) -> None:
        """Take a container out of a network; ``force`` doesn't mind a network that is gone. Raises EngineError."""
        try:
            found = self._resolve(body.container)
        except NotFound:
            if not body.force:
                raise
            self._index.find(ref)
            raise NotFound(f"endpoint {body.container} not found") from None
        except InvalidParameter:
            if body.force:
                raise InvalidParameter("invalid name: name is empty") from None
            raise
        async with self._runs.live(found.id).lock:
            record = self._present(found)
            network = None
            try:
                network = self._index.find(ref)
            except EngineError:
                if record.state.status.has_process and not body.force:
                    raise
            if network is not None and record.state.status.has_process:
                await self._disconnect_running(record, network)
                return
            name = network.name if network is not None else ref
            if name not in record.networks:
                raise SystemFailure(f"container {record.id} is not connected to the network {name}")
            self._containers.save(replace(record, networks=_without(record, name)))

    async def _disconnect_running(self, record: ContainerRecord, network: StoredNetwork) -> None:
        if network.name == "host" and parse_network_mode(record.host_config.network_mode).kind == "host":
            raise InvalidParameter("cannot disconnect container from host network - container was created in host network mode")
        if network.name not in record.networks:
            raise SystemFailure(f"container {record.id} is not connected to network {network.name}")
        endpoints = record.endpoints
        if any(endpoint.network_id == network.id for endpoint in endpoints):
            if network.name == "bridge":
                await self._launcher.links.left(record)
            endpoints = await self._networks.disconnect(record.id, network.id)
        current = self._runs.require(record.id)
        current = replace(current, endpoints=endpoints, networks=_without(current, network.name))
        self._launcher.rewrite_identity(record, current)
        self._containers.save(current)
        self._tell("disconnect", current, network)

    # --- what both need ---

    def _resolve(self, ref: str) -> ContainerRecord:
        if not ref:
            raise InvalidParameter('invalid name or ID supplied: ""')
        return self._containers.resolve(ref)

    def _present(self, found: ContainerRecord) -> ContainerRecord:
        record = self._runs.require(found.id)
        if record.state.status in (ContainerStatus.REMOVING, ContainerStatus.DEAD):
            raise Conflict(f"container {record.id} is marked for removal and cannot be connected or disconnected to the network")
        return record

    def _tell(self, action: str, record: ContainerRecord, network: StoredNetwork) -> None:
        attributes = {"container": record.id, "name": network.name, "type": network.record.driver.value}
        self._emit("network", action, network.id, attributes)


def _without(record: ContainerRecord, name: str) -> dict[str, EndpointSettings]:
    return {other: settings for other, settings in record.networks.items() if other != name}
