"""The predefined networks as the API shows them."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from kitepy.engine.model.errors import Forbidden, InvalidParameter, NotFound, Unsupported
from kitepy.engine.model.filters import Filters
from kitepy.engine.model.network import Endpoint, NetworkDriver, NetworkRecord, SubnetConfig
from kitepy.engine.services.networks import NetworkService

ENDPOINT = Endpoint("e" * 64, "c" * 64, "bridge", "172.17.0.2", 16, "172.17.0.1", "02:42:ac:11:00:02", "kv0-abcdef")


@pytest.fixture
def service() -> NetworkService:
    default = NetworkRecord(
        network_id="d" * 64,
        name="bridge",
        driver=NetworkDriver.BRIDGE,
        created="2026-01-01T00:00:00Z",
        subnets=(SubnetConfig("172.17.0.0/16", "172.17.0.1"),),
        options=(("com.docker.network.bridge.enable_icc", "false"), ("com.docker.network.bridge.name", "kitepy0")),
    )
    networks = SimpleNamespace(default=default, endpoints=lambda network_id: [ENDPOINT] if network_id == "d" * 64 else [])
    return NetworkService(
        networks,  # type: ignore[arg-type]  # a fake
        lambda container_id: f"name-of-{container_id[:3]}",
        seed="0",
        created="2026-01-01T00:00:00Z",
    )


def names(service: NetworkService, filters: str = "") -> list[str]:
    return [network["Name"] for network in asyncio.run(service.list(Filters.parse(filters)))]


def test_the_bridge_shows_its_subnet_options_and_containers(service: NetworkService) -> None:
    bridge = asyncio.run(service.inspect("bridge"))
    assert bridge["IPAM"]["Config"] == [{"Subnet": "172.17.0.0/16", "Gateway": "172.17.0.1"}]
    assert bridge["Options"]["com.docker.network.bridge.enable_icc"] == "false"
    assert bridge["Options"]["com.docker.network.bridge.name"] == "kitepy0"
    assert bridge["Containers"] == {
        "c" * 64: {
            "Name": "name-of-ccc",
            "EndpointID": "e" * 64,
            "MacAddress": "02:42:ac:11:00:02",
            "IPv4Address": "172.17.0.2/16",
            "IPv6Address": "",
        }
    }


def test_networks_are_found_by_name_id_and_beginning_of_an_id(service: NetworkService) -> None:
    network_id = service.ids["host"]
    for ref in ("host", network_id, network_id[:12]):
        assert asyncio.run(service.inspect(ref))["Driver"] == "host"
    with pytest.raises(NotFound, match="network nowhere not found"):
        asyncio.run(service.inspect("nowhere"))


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ("", ["bridge", "host", "none"]),
        ('{"driver": ["null"]}', ["none"]),
        ('{"name": ["o"]}', ["host", "none"]),
        ('{"type": ["custom"]}', []),
        ('{"type": ["builtin"], "driver": ["bridge", "host"]}', ["bridge", "host"]),
        ('{"label": ["a=b"]}', []),
        ('{"dangling": ["true"]}', []),
        ('{"scope": ["swarm"]}', []),
    ],
)
def test_lists_are_filtered(service: NetworkService, filters: str, expected: list[str]) -> None:
    assert names(service, filters) == expected


def test_unknown_filters_are_refused(service: NetworkService) -> None:
    with pytest.raises(InvalidParameter):
        names(service, '{"colour": ["red"]}')


def test_nothing_can_be_created_or_removed_yet(service: NetworkService) -> None:
    with pytest.raises(Unsupported, match="network mine can't be created"):
        asyncio.run(service.create("mine"))
    with pytest.raises(Forbidden):
        asyncio.run(service.create("host"))
    with pytest.raises(Forbidden, match="bridge is a pre-defined network and cannot be removed"):
        asyncio.run(service.remove("bridge"))
