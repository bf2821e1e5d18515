"""Networks as the Engine API lists and inspects them: bridge, host and none, which every engine has.

Further networks can't be created yet; attaching containers is the container service's use of the bridge itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from kitepy.engine.model.errors import Conflict, Forbidden, NotFound, Unsupported
from kitepy.engine.model.filters import Filters
from kitepy.engine.model.ids import is_id_prefix
from kitepy.engine.model.network import Endpoint, NetworkDriver, NetworkSummary
from kitepy.engine.model.timestamps import format_time
from kitepy.engine.network.bridge import BridgeNetwork

BUILTIN_NAMES = ("bridge", "host", "none")
_FILTER_KEYS = ("dangling", "driver", "id", "label", "name", "scope", "type")


def builtin_id(name: str, seed: str) -> str:
    """A network's identifier: the same after each start of the engine with that seed (its data root's tag)."""
    return hashlib.sha256(f"network {name} of {seed}".encode()).hexdigest()


def network_document(
    network: NetworkSummary, endpoints: Iterable[Endpoint] = (), container_name: Callable[[str], str] = str
) -> dict[str, Any]:
    """``Network`` of the Engine API v1.51; the containers are listed when one network is inspected."""
    pool = [{"Subnet": network.subnet, "Gateway": network.gateway}] if network.subnet else None
    return {
        "Name": network.name,
        "Id": network.network_id,
        "Created": network.created,
        "Scope": "local",
        "Driver": network.driver.value,
        "EnableIPv4": True,
        "EnableIPv6": False,
        "IPAM": {"Driver": "default", "Options": None, "Config": pool},
        "Internal": False,
        "Attachable": False,
        "Ingress": False,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": False,
        "Containers": {
            endpoint.container_id: {
                "Name": container_name(endpoint.container_id),
                "EndpointID": endpoint.endpoint_id,
                "MacAddress": endpoint.mac,
                "IPv4Address": f"{endpoint.address}/{endpoint.prefix_length}",
                "IPv6Address": "",
            }
            for endpoint in endpoints
        },
        "Options": dict(network.options),
        "Labels": {},
    }


def bridge_summary(bridge: BridgeNetwork, network_id: str, created: str) -> NetworkSummary:
    """The default bridge with the options that dockerd shows for its own."""
    prefix = "com.docker.network.bridge."
    settings = bridge.settings
    return NetworkSummary(
        network_id=network_id,
        name=settings.name,
        driver=NetworkDriver.BRIDGE,
        created=created,
        subnet=str(bridge.gateway.network),
        gateway=str(bridge.gateway.ip),
        options=(
            (prefix + "default_bridge", "true"),
            (prefix + "enable_icc", str(settings.icc).lower()),
            (prefix + "enable_ip_masquerade", str(settings.masquerade and settings.use_rules).lower()),
            (prefix + "host_binding_ipv4", "0.0.0.0"),
            (prefix + "name", bridge.names.bridge),
            ("com.docker.network.driver.mtu", str(bridge.mtu)),
        ),
    )


class NetworkService:
    """Lists and inspects the predefined networks. ``container_name`` gives the name to show for a container's id."""

    def __init__(
        self,
        bridge: BridgeNetwork,
        container_name: Callable[[str], str],
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._bridge = bridge
        self._container_name = container_name
        self._created = format_time(int(clock().timestamp() * 1_000_000) * 1_000)
        self.ids = {name: builtin_id(name, bridge.names.tag) for name in BUILTIN_NAMES}
        """Identifiers by name."""

    def _networks(self) -> list[NetworkSummary]:
        return [
            bridge_summary(self._bridge, self.ids["bridge"], self._created),
            NetworkSummary(self.ids["host"], "host", NetworkDriver.HOST, self._created),
            NetworkSummary(self.ids["none"], "none", NetworkDriver.NULL, self._created),
        ]

    def _endpoints(self, network: NetworkSummary) -> list[Endpoint]:
        return self._bridge.endpoints if network.driver is NetworkDriver.BRIDGE else []

    async def list(self, filters: Filters) -> Sequence[dict[str, Any]]:
        """The networks that match, without their containers. Raises InvalidParameter for an unknown filter."""
        filters.require_known(_FILTER_KEYS)
        return [network_document(network) for network in self._networks() if self._matches(network, filters)]

    def _matches(self, network: NetworkSummary, filters: Filters) -> bool:
        # "dangling" speaks of what prune would remove, and that is never a predefined network.
        dangling = "dangling" in filters and filters.flag("dangling", False)
        return (
            not dangling
            and filters.exact("driver", network.driver.value)
            and filters.prefix("id", network.network_id)
            and filters.pattern("name", network.name)
            and filters.exact("scope", "local")
            and filters.exact("type", "builtin")
            and filters.labels({})
        )

    def find(self, ref: str) -> NetworkSummary:
        """The network of that name, id or beginning of an id. Raises NotFound, or Conflict when several ids begin so."""
        networks = self._networks()
        for network in networks:
            if ref in (network.name, network.network_id):
                return network
        found = [network for network in networks if is_id_prefix(ref) and network.network_id.startswith(ref)]
        if len(found) > 1:
            raise Conflict(f"network {ref} is ambiguous ({len(found)} matches found based on ID prefix)")
        if not found:
            raise NotFound(f"network {ref} not found")
        return found[0]

    async def inspect(self, ref: str) -> dict[str, Any]:
        """One network with its containers. Raises NotFound."""
        network = self.find(ref)
        return network_document(network, self._endpoints(network), self._container_name)

    async def create(self, name: str) -> str:
        """Raises Forbidden for a predefined name, else Unsupported."""
        if name in BUILTIN_NAMES:
            raise Forbidden(f"operation is not permitted on predefined {name} network")
        raise Unsupported(f"network {name} can't be created: Kitepy has the networks bridge, host and none only so far")

    async def remove(self, ref: str) -> None:
        """Raises Forbidden: what exists is predefined."""
        raise Forbidden(f"{self.find(ref).name} is a pre-defined network and cannot be removed")
