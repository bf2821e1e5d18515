"""All networks of the engine: the one door through which services give containers their place in them and take it back.

A running container has one sandbox, a network namespace, with one interface per network that it joined. The state belongs to
one event loop; kernel work is done by threads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence

from kitepy.engine.kernel.netns import open_namespace_of
from kitepy.engine.kernel.port_sockets import bind_port
from kitepy.engine.model.errors import NotFound, SystemFailure, Unsupported
from kitepy.engine.model.network import (
    Endpoint,
    EndpointRequest,
    LinkedPort,
    NetworkDriver,
    NetworkRecord,
    PortRequest,
    SandboxRequest,
    SubnetConfig,
)
from kitepy.engine.network.bridge import BridgeNetwork, BridgeSettings
from kitepy.engine.network.link_rules import LinkException
from kitepy.engine.network.naming import KernelNames, builtin_id
from kitepy.engine.network.ports import Binder
from kitepy.engine.network.relay_process import RelayProcess
from kitepy.engine.network.sandbox import Sandbox, SandboxPool, build_isolated

_BRIDGE_OPTION = "com.docker.network.bridge."
_MTU_OPTION = "com.docker.network.driver.mtu"


class Networks:
    """The default bridge, the networks that users made, and the sandboxes of running containers."""

    def __init__(
        self,
        names: KernelNames,
        settings: BridgeSettings,
        relays: RelayProcess,
        *,
        created: str,
        bind: Binder = bind_port,
        make_namespace: Callable[[], int] | None = None,
    ) -> None:
        """``created`` is the time that the default network shows; the rest is as ``BridgeNetwork`` takes it."""
        self._bridge = BridgeNetwork(names, settings, relays, bind=bind, make_namespace=make_namespace)
        self._names = names
        self._settings = settings
        self._created = created
        self._make_namespace = make_namespace
        self._isolated = SandboxPool(lambda: build_isolated(make_namespace), None, size=1)
        self._endpoints: dict[str, tuple[Endpoint, ...]] = {}
        self._lonely: dict[str, Sandbox] = {}
        self._links: dict[str, frozenset[LinkException]] = {}

    @property
    def default_id(self) -> str:
        """The identifier of the default network, known before it is set up."""
        return builtin_id(self._settings.name, self._names.tag)

    @property
    def default(self) -> NetworkRecord:
        """The default network as it is. Raises SystemFailure before ``set_up``."""
        settings, gateway = self._settings, self._bridge.gateway
        return NetworkRecord(
            network_id=self.default_id,
            name=settings.name,
            driver=NetworkDriver.BRIDGE,
            created=self._created,
            subnets=(SubnetConfig(subnet=str(gateway.network), gateway=str(gateway.ip)),),
            options=(
                (_BRIDGE_OPTION + "default_bridge", "true"),
                (_BRIDGE_OPTION + "enable_icc", str(settings.icc).lower()),
                (_BRIDGE_OPTION + "enable_ip_masquerade", str(settings.masquerade and settings.use_rules).lower()),
                (_BRIDGE_OPTION + "host_binding_ipv4", "0.0.0.0"),
                (_BRIDGE_OPTION + "name", self._names.bridge),
                (_MTU_OPTION, str(self._bridge.mtu)),
            ),
            device=self._names.bridge,
        )

    @property
    def warnings(self) -> tuple[str, ...]:
        """What this host refused, or what stands in the way; for ``/info``."""
        return self._bridge.warnings

    def endpoints(self, network_id: str) -> list[Endpoint]:
        """The endpoints of running containers in a network."""
        return [endpoint for found in self._endpoints.values() for endpoint in found if endpoint.network_id == network_id]

    def netns_fd(self, container_id: str) -> int:
        """The namespace of a container's sandbox; it stays ours, who close it in ``stop``. Raises NotFound."""
        if container_id in self._lonely:
            return self._lonely[container_id].netns_fd
        for endpoint in self._endpoints.get(container_id, ()):
            return self._bridge.netns_fd(endpoint)
        raise NotFound(f"container {container_id} has no network sandbox")

    # --- networks ---

    async def set_up(self, records: Iterable[NetworkRecord]) -> None:
        """Make or reuse what the networks consist of, the default one included. Raises EngineError."""
        await self._bridge.set_up()
        self._isolated.start_refill()
        for record in records:
            raise Unsupported(f"network {record.name} can't be set up")

    async def create(self, record: NetworkRecord) -> NetworkRecord:
        """Make a network; gives the record with all that was left open. Raises EngineError."""
        raise Unsupported(f"network {record.name} can't be created: Kitepy has the networks bridge, host and none only so far")

    async def remove(self, network_id: str) -> None:
        """Remove a network without endpoints. Raises NotFound."""
        raise NotFound(f"network {network_id} not found")

    # --- sandboxes ---

    async def start(self, request: SandboxRequest) -> tuple[Endpoint, ...]:
        """Give a container its sandbox with all its endpoints and published ports, or nothing at all. Raises EngineError.

        Without endpoints the sandbox has only a loopback interface.
        """
        if not request.endpoints:
            plain = request.plain and self._make_namespace is not None
            try:
                self._lonely[request.container_id] = await (asyncio.to_thread(build_isolated) if plain else self._isolated.take())
            except OSError as error:
                raise SystemFailure(f"failed to set up the network of container {request.name}: {error}") from error
            return ()
        if len(request.endpoints) > 1 or request.endpoints[0].network_id != self.default_id:
            raise Unsupported("containers can't join other networks than the default one")
        wish = request.endpoints[0]
        endpoint = await self._bridge.attach(
            request.container_id,
            ports=request.ports,
            mac=wish.mac,
            address=wish.address,
            name=request.name,
            plain=request.plain,
            network_id=self.default_id,
        )
        self._endpoints[request.container_id] = (endpoint,)
        return (endpoint,)

    async def connect(self, container_id: str, request: EndpointRequest, ports: Sequence[PortRequest]) -> tuple[Endpoint, ...]:
        """Join a running container to one more network; gives all its endpoints. ``ports`` are all that it publishes."""
        raise Unsupported(f"container {container_id} can't be connected to network {request.network_id}, with {len(ports)} ports")

    async def disconnect(self, container_id: str, network_id: str) -> tuple[Endpoint, ...]:
        """Take a running container out of a network; gives the endpoints it has left."""
        raise Unsupported(f"container {container_id} can't be disconnected from network {network_id}")

    async def stop(self, container_id: str) -> None:
        """Free the ports, then return; interfaces and addresses follow in the background. Idempotent."""
        lonely = self._lonely.pop(container_id, None)
        if lonely is not None:
            lonely.close()
        for endpoint in self._endpoints.pop(container_id, ()):
            await self._bridge.detach(endpoint)

    async def set_links(self, container_id: str, ports: Sequence[LinkedPort]) -> None:
        """All that a container may reach by its links, instead of what it might before; matters only without icc. Idempotent.

        Raises Unsupported when this host can't let it through.
        """
        if self._settings.icc or (not ports and container_id not in self._links):
            return
        links = frozenset(
            LinkException(
                bridge=self._names.bridge,
                parent_interface=port.source.host_interface,
                parent_address=port.source.address,
                child_interface=port.target.host_interface,
                child_address=port.target.address,
                protocol=port.protocol,
                port=port.port,
            )
            for port in ports
            if port.source.address and port.target.address
        )
        gone = self._links.pop(container_id, frozenset()) - links
        if links:
            self._links[container_id] = links
        await self._bridge.change_links(allowed=links, forbidden=gone)

    def rename(self, container_id: str, names: Mapping[str, tuple[str, ...]]) -> None:
        """A container is called otherwise now, by network."""

    # --- after a restart of the engine ---

    async def adopt(self, container_id: str, endpoints: Sequence[Endpoint], pid: int) -> tuple[Endpoint, ...]:
        """Take over what a container that outlived the engine has; call it before the first ``start``.

        Gives the endpoints that are intact. Raises NotFound when the process is gone.
        """
        adopted: list[Endpoint] = []
        for endpoint in endpoints:
            adopted.append(await self._bridge.adopt(endpoint, pid))
        if adopted:
            self._endpoints[container_id] = tuple(adopted)
            return tuple(adopted)
        try:
            self._lonely[container_id] = Sandbox(open_namespace_of(pid), "")
        except OSError as error:
            raise NotFound(f"the network namespace of process {pid} can't be opened: {error.strerror}") from error
        return ()

    async def finish_adoption(self) -> None:
        """Put the rules of exactly what was adopted in place, and remove what belongs to no container. Raises SystemFailure."""
        await self._bridge.finish_adoption()

    # --- the end ---

    async def settled(self) -> None:
        """Returns when the pools are full and what was given back is gone from the kernel."""
        await self._bridge.settled()
        await self._isolated.filled()

    async def close(self, *, keep: bool = False) -> None:
        """Ends the engine's part. ``keep`` leaves all that serves running containers, else everything is removed."""
        for sandbox in (*await self._isolated.close(), *self._lonely.values()):
            sandbox.close()
        self._lonely.clear()
        self._endpoints.clear()
        await self._bridge.close(keep=keep)
