"""Networks as the Engine API lists and inspects them: bridge, host and none, which every engine has.

Further networks can't be created yet; attaching containers is the container service's use of the bridge itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from kitepy.engine.model.errors import Conflict, Forbidden, NotFound, Unsupported
from kitepy.engine.model.filters import Filters
from kitepy.engine.model.ids import is_id_prefix
from kitepy.engine.model.network import Endpoint, NetworkDriver, NetworkRecord
from kitepy.engine.network.naming import builtin_id
from kitepy.engine.network.networks import Networks

BUILTIN_NAMES = ("bridge", "host", "none")
_FILTER_KEYS = ("dangling", "driver", "id", "label", "name", "scope", "type")


def network_document(
    network: NetworkRecord, endpoints: Iterable[Endpoint] = (), container_name: Callable[[str], str] = str
) -> dict[str, Any]:
    """``Network`` of the Engine API v1.51; the containers are listed when one network is inspected."""
    pool = [{"Subnet": subnet.subnet, "Gateway": subnet.gateway} for subnet in network.subnets] or None
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


class NetworkService:
    """Lists and inspects the predefined networks. ``container_name`` gives the name to show for a container's id."""

    def __init__(
        self,
        networks: Networks,
        container_name: Callable[[str], str],
        *,
        seed: str,
        created: str,
    ) -> None:
        """``seed`` makes the identifiers differ between engines, ``created`` is the time the predefined networks show."""
        self._real = networks
        self._container_name = container_name
        self._created = created
        self.ids = {name: builtin_id(name, seed) for name in BUILTIN_NAMES}
        """Identifiers by name."""

    def _networks(self) -> list[NetworkRecord]:
        return [
            self._real.default,
            NetworkRecord(self.ids["host"], "host", NetworkDriver.HOST, self._created),
            NetworkRecord(self.ids["none"], "none", NetworkDriver.NULL, self._created),
        ]

    async def list(self, filters: Filters) -> Sequence[dict[str, Any]]:
        """The networks that match, without their containers. Raises InvalidParameter for an unknown filter."""
        filters.require_known(_FILTER_KEYS)
        return [network_document(network) for network in self._networks() if self._matches(network, filters)]

    def _matches(self, network: NetworkRecord, filters: Filters) -> bool:
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

    def find(self, ref: str) -> NetworkRecord:
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
        return network_document(network, self._real.endpoints(network.network_id), self._container_name)

    async def create(self, name: str) -> str:
        """Raises Forbidden for a predefined name, else Unsupported."""
        if name in BUILTIN_NAMES:
            raise Forbidden(f"operation is not permitted on predefined {name} network")
        raise Unsupported(f"network {name} can't be created: Kitepy has the networks bridge, host and none only so far")

    async def remove(self, ref: str) -> None:
        """Raises Forbidden: what exists is predefined."""
        raise Forbidden(f"{self.find(ref).name} is a pre-defined network and cannot be removed")
