"""The default bridge's own address, and MAC addresses."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import pytest

from kitepy.engine.model.errors import InvalidParameter
from kitepy.engine.network.addresses import (
    bridge_mac,
    check_gateway,
    mac_for,
)


def test_an_explicit_address_may_lie_inside_a_wider_route_but_not_around_a_narrower_one() -> None:
    wanted = IPv4Interface("172.20.0.1/24")
    check_gateway(wanted, [(IPv4Network("172.16.0.0/12"), "tun0"), (IPv4Network("10.0.0.0/8"), "eth0")])
    for other in ("172.20.0.0/24", "172.20.0.128/25"):
        with pytest.raises(InvalidParameter, match=f"overlaps {other}, which interface eth1 already uses"):
            check_gateway(wanted, [(IPv4Network(other), "eth1")])


@pytest.mark.parametrize("text", ["10.0.0.0/24", "10.0.0.255/24", "10.0.0.1/31", "10.0.0.1/32"])
def test_an_explicit_address_must_be_a_hosts_and_leave_room(text: str) -> None:
    with pytest.raises(InvalidParameter, match="--bip"):
        check_gateway(IPv4Interface(text), [])


def test_a_mac_follows_its_address() -> None:
    assert mac_for(IPv4Address("172.17.0.4")) == "02:42:ac:11:00:04"


def test_a_bridges_mac_is_stable_local_and_unicast() -> None:
    assert bridge_mac("kitepy0") == bridge_mac("kitepy0") != bridge_mac("kitepy-abcde")
    assert int(bridge_mac("kitepy0")[:2], 16) & 0b11 == 0b10
