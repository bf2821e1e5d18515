"""The default network's subnets by the engine's options: as dockerd 28 chose them on the same host."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network, ip_interface

import pytest

from kitepy.engine.kernel.netlink import Link, LinkAddress, Route
from kitepy.engine.model.errors import EngineError, Forbidden, InvalidParameter
from kitepy.engine.model.network import NetworkDriver, NetworkRecord, SubnetConfig
from kitepy.engine.network.default_bridge import BridgeSettings, create_default
from kitepy.engine.network.ipam import AddressSpace, bridge_addresses

ETHERNET = Link(index=2, name="eth0", up=True, kind="", master=0, mtu=1500, mac="02:00:00:00:00:01")
BRIDGE = Link(index=5, name="kitepy0", up=True, kind="bridge", master=0, mtu=1500, mac="02:00:00:00:00:02")
RECORD = NetworkRecord(network_id="d" * 64, name="bridge", driver=NetworkDriver.BRIDGE, created="", device="kitepy0")
SEED = "6b758723-9ff5-44bb-b2db-07a20b201497"
Shown = tuple[str, str, str, tuple[tuple[str, str], ...]]


def created(
    settings: BridgeSettings, *, present: Sequence[str] = (), routed: Sequence[str] = (), space: AddressSpace | None = None
) -> NetworkRecord:
    addresses = [LinkAddress(5, ip_interface(address)) for address in present]
    routes = [*(Route(IPv4Network(route), 2) for route in routed), Route(IPv4Network("0.0.0.0/0"), 2)]
    return create_default(RECORD, settings, space or AddressSpace(ula_seed=SEED), [ETHERNET, BRIDGE], addresses, routes)


def shown(record: NetworkRecord) -> list[Shown]:
    return [(config.subnet, config.gateway, config.ip_range, config.auxiliary) for config in record.subnets]


BIP = IPv4Interface("10.1.0.1/24")
FIXED = IPv4Network("10.1.0.128/25")
BIP6 = IPv6Interface("fd77::5/64")


@pytest.mark.parametrize(
    ("settings", "present", "expected"),
    [
        (BridgeSettings(), [], [("172.17.0.0/16", "172.17.0.1", "", ())]),
        (BridgeSettings(gateway=BIP), [], [("10.1.0.0/24", "10.1.0.1", "", ())]),
        (BridgeSettings(gateway=BIP), ["10.5.0.1/24"], [("10.1.0.0/24", "10.1.0.1", "", ())]),
        (BridgeSettings(gateway=BIP, fixed=FIXED), [], [("10.1.0.0/24", "10.1.0.1", "10.1.0.128/25", ())]),
        (BridgeSettings(fixed=FIXED), [], [("10.1.0.128/25", "", "10.1.0.128/25", ())]),
        (BridgeSettings(fixed=FIXED), ["10.1.0.129/25"], [("10.1.0.128/25", "", "10.1.0.128/25", ())]),
        (BridgeSettings(fixed=FIXED), ["10.5.0.1/24"], [("10.1.0.128/25", "", "10.1.0.128/25", ())]),
        (BridgeSettings(fixed=FIXED), ["10.1.0.1/16"], [("10.1.0.0/16", "10.1.0.1", "10.1.0.128/25", ())]),
        (BridgeSettings(), ["10.5.0.1/24", "fe80::1/64"], [("10.5.0.0/24", "10.5.0.1", "", ())]),
        (
            BridgeSettings(gateway=BIP, route=IPv4Address("10.1.0.9")),
            [],
            [("10.1.0.0/24", "10.1.0.1", "", (("DefaultGatewayIPv4", "10.1.0.9"),))],
        ),
        (BridgeSettings(gateway=BIP, route=IPv4Address("10.1.0.1")), [], [("10.1.0.0/24", "10.1.0.1", "", ())]),
        (
            BridgeSettings(route=IPv4Address("172.17.0.9")),
            [],
            [("172.17.0.0/16", "172.17.0.1", "", (("DefaultGatewayIPv4", "172.17.0.9"),))],
        ),
        (
            BridgeSettings(ipv6=True),
            [],
            [("172.17.0.0/16", "172.17.0.1", "", ()), ("fd8f:9f0b:2e3f::/64", "fd8f:9f0b:2e3f::1", "", ())],
        ),
        (
            BridgeSettings(ipv6=True, gateway6=BIP6, fixed6=IPv6Network("fd77::100/120"), gateway=BIP),
            [],
            [("10.1.0.0/24", "10.1.0.1", "", ()), ("fd77::/64", "fd77::5", "fd77::100/120", ())],
        ),
        (
            BridgeSettings(ipv6=True, gateway=BIP, fixed6=IPv6Network("fd77::/64"), route6=IPv6Address("fd77::9")),
            [],
            [
                ("10.1.0.0/24", "10.1.0.1", "", ()),
                ("fd77::/64", "", "fd77::/64", (("DefaultGatewayIPv6", "fd77::9"),)),
            ],
        ),
        (
            BridgeSettings(ipv6=True),
            ["10.5.0.1/24", "fe80::1/64", "fd88::1/64"],
            [("10.5.0.0/24", "10.5.0.1", "", ()), ("fd88::/64", "fd88::1", "", ())],
        ),
        (BridgeSettings(), ["10.5.0.1/24", "fd88::1/64"], [("10.5.0.0/24", "10.5.0.1", "", ())]),
    ],
)
def test_options_and_the_bridge_as_it_is(settings: BridgeSettings, present: list[str], expected: list[Shown]) -> None:
    assert shown(created(settings, present=present)) == expected


@pytest.mark.parametrize(
    ("settings", "present", "problem"),
    [
        (
            BridgeSettings(route=IPv4Address("10.3.0.1")),
            [],
            "auxiliary address: (DefaultGatewayIPv4:10.3.0.1) must belong to the master pool: 172.17.0.0/16",
        ),
        (
            BridgeSettings(foreign=True, fixed=FIXED),
            ["10.9.8.1/24"],
            "the fixed subnet 10.1.0.128/25 is not within 10.9.8.0/24, the subnet of bridge kitepy0",
        ),
        (
            BridgeSettings(gateway=BIP, fixed=IPv4Network("10.2.0.0/24")),
            [],
            "the fixed subnet 10.2.0.0/24 is not within 10.1.0.0/24, the subnet of bridge kitepy0",
        ),
        (
            BridgeSettings(gateway=IPv4Interface("172.20.0.1/16")),
            [],
            "--bip 172.20.0.1/16 overlaps 172.20.5.0/24, which interface eth0 already uses",
        ),
    ],
)
def test_what_can_not_be(settings: BridgeSettings, present: list[str], problem: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        created(settings, present=present, routed=["172.20.5.0/24"])
    assert str(caught.value) == problem


def test_subnets_of_the_host_and_of_other_networks_are_avoided() -> None:
    space = AddressSpace(ula_seed=SEED)
    user = replace(RECORD, network_id="e" * 64, device="br-1", subnets=(SubnetConfig("172.18.0.0/16", "172.18.0.1"),))
    space.adopt(user)
    record = created(BridgeSettings(ipv6=True), routed=["172.17.4.0/24"], space=space)
    assert [config.subnet for config in record.subnets] == ["172.19.0.0/16", "fd8f:9f0b:2e3f::/64"]
    assert str(space.take(record.network_id).address) == "172.19.0.2"
    other = AddressSpace()
    other.adopt(user)
    with pytest.raises(Forbidden, match="Pool overlaps"):
        created(BridgeSettings(gateway=IPv4Interface("172.18.0.1/16")), space=other)


@pytest.mark.parametrize("present", [[], ["10.1.0.129/25"]])
def test_addresses_come_from_the_fixed_part_and_lead_to_the_given_gateway(present: list[str]) -> None:
    space = AddressSpace()
    record = created(BridgeSettings(fixed=FIXED, route=IPv4Address("10.1.0.200")), present=present, space=space)
    assert bridge_addresses(record) == (IPv4Interface("10.1.0.129/25"),)
    lease = space.take(record.network_id)
    assert (str(lease.address), str(lease.gateway)) == ("10.1.0.130", "10.1.0.200")


def test_a_failed_default_network_leaves_the_address_space_free() -> None:
    space = AddressSpace()
    with pytest.raises(EngineError):
        created(BridgeSettings(gateway=IPv4Interface("10.1.0.0/24"), route=IPv4Address("10.1.0.9")), space=space)
    assert shown(created(BridgeSettings(gateway=BIP), space=space))
