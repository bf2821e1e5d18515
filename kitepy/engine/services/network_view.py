"""The documents by which the API shows a network, and its filters; pure.

Shape: Engine API v1.51 Network; values as dockerd 28 gives them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from kitepy.engine.model.errors import InvalidParameter, SystemFailure
from kitepy.engine.model.filters import FALSE, TRUE, Filters
from kitepy.engine.model.network import Endpoint, SubnetConfig
from kitepy.engine.model.timestamps import parse_time
from kitepy.engine.services.network_index import StoredNetwork

LIST_FILTERS = ("dangling", "driver", "id", "label", "name", "scope", "type")
PRUNE_FILTERS = ("label", "label!", "until")


@dataclass(frozen=True)
class Attached:
    """A running container's place in a network; without addresses on ``host`` and ``none``."""

    container_id: str
    name: str
    endpoint: Endpoint


def network_document(network: StoredNetwork, attached: Iterable[Attached] = ()) -> dict[str, Any]:
    """``Network`` of the Engine API; the containers are listed when one network is inspected."""
    record = network.record
    return {
        "Name": record.name,
        "Id": record.network_id,
        "Created": record.created,
        "Scope": network.scope,
        "Driver": record.driver.value,
        "EnableIPv4": record.ipv4,
        "EnableIPv6": record.ipv6,
        "IPAM": {
            "Driver": record.ipam_driver,
            "Options": dict(sorted(record.ipam_options)) if network.has_ipam_options else None,
            "Config": [_subnet_document(subnet) for subnet in record.subnets] or None,
        },
        "Internal": record.internal,
        "Attachable": record.attachable,
        "Ingress": False,
        "ConfigFrom": {"Network": network.config_from},
        "ConfigOnly": network.config_only,
        "Containers": {place.container_id: _attached_document(place) for place in attached},
        "Options": dict(sorted(record.options)),
        "Labels": dict(sorted(record.labels)),
    }


def _subnet_document(subnet: SubnetConfig) -> dict[str, Any]:
    document: dict[str, Any] = {"Subnet": subnet.subnet}
    if subnet.ip_range:
        document["IPRange"] = subnet.ip_range
    if subnet.gateway:
        document["Gateway"] = subnet.gateway
    if subnet.auxiliary:
        document["AuxiliaryAddresses"] = dict(sorted(subnet.auxiliary))
    return document


def _attached_document(place: Attached) -> dict[str, Any]:
    endpoint = place.endpoint
    return {
        "Name": place.name,
        "EndpointID": endpoint.endpoint_id,
        "MacAddress": endpoint.mac,
        "IPv4Address": f"{endpoint.address}/{endpoint.prefix_length}" if endpoint.address else "",
        "IPv6Address": f"{endpoint.address6}/{endpoint.prefix_length6}" if endpoint.address6 else "",
    }


class NetworkFilter:
    """The filters of ``GET /networks``; checked when made."""

    def __init__(self, filters: Filters) -> None:
        filters.require_known(LIST_FILTERS)
        self._filters = filters
        self._dangling = _dangling(filters)
        for word in filters.get("type"):
            if word not in ("builtin", "custom"):
                raise SystemFailure(f"invalid filter: 'type'='{word}'")  # dockerd calls it a failure of its own

    def matches(self, network: StoredNetwork, *, in_use: bool) -> bool:
        """``in_use``: a running container is on it; predefined networks always count as used."""
        filters = self._filters
        return (
            self._dangling in (None, not (network.predefined or in_use))
            and filters.exact("driver", network.record.driver.value)
            and filters.pattern("id", network.id)
            and filters.pattern("name", network.name)
            and filters.exact("scope", network.scope)
            and filters.exact("type", "builtin" if network.predefined else "custom")
            and filters.labels(dict(network.record.labels))
        )


def _dangling(filters: Filters) -> bool | None:
    words = filters.get("dangling")
    if not words:
        return None
    if len(words) > 1:
        raise InvalidParameter('got more than one value for filter key "dangling"')
    if words[0] not in (*TRUE, *FALSE):
        raise InvalidParameter('invalid value for filter \'dangling\', must be "true" (or "1"), or "false" (or "0")')
    return words[0] in TRUE


class NetworkPruneFilter:
    """The filters of ``POST /networks/prune``; checked when made."""

    def __init__(self, filters: Filters, now_ns: int) -> None:
        filters.require_known(PRUNE_FILTERS)
        self._filters = filters
        self._until_ns: int | None = None
        until = filters.get("until")
        if len(until) > 1:
            raise InvalidParameter("more than one until filter specified")
        if until:
            try:
                self._until_ns = parse_time(until[0], now_ns=now_ns)
            except InvalidParameter:
                raise InvalidParameter(f'failed to parse value as time or duration: "{until[0][:80]}"') from None

    def matches(self, network: StoredNetwork) -> bool:
        """Whether a network is to go, if nobody uses it."""
        labels = dict(network.record.labels)
        return (
            not network.predefined
            and not network.config_only
            and self._filters.labels(labels)
            and self._filters.without_labels(labels)
            and (self._until_ns is None or parse_time(network.record.created, now_ns=0) <= self._until_ns)
        )
