"""How the bridge is to be, given what the host has."""

from __future__ import annotations

from ipaddress import IPv4Interface, IPv4Network, IPv6Interface

import pytest

from kitepy.engine.kernel.netlink import Link, LinkAddress, Route
from kitepy.engine.model.errors import SystemFailure
from kitepy.engine.network.bridge_link import plan_bridge

ETHERNET = Link(index=2, name="eth0", up=True, kind="", master=0, mtu=1400, mac="02:00:00:00:00:01")
BRIDGE = Link(index=5, name="kitepy0", up=True, kind="bridge", master=0, mtu=1500, mac="02:00:00:00:00:02")
DEFAULT_ROUTE = Route(IPv4Network("0.0.0.0/0"), 2)


OWN = IPv4Interface("172.20.0.1/16")


def test_a_new_bridge_follows_the_mtu_of_the_way_out() -> None:
    plan = plan_bridge("kitepy0", [OWN], None, [ETHERNET], [], [DEFAULT_ROUTE])
    assert (plan.create, plan.missing_addresses, plan.mtu) == (True, (OWN,), 1400)
    assert plan_bridge("kitepy0", [OWN], None, [ETHERNET], [], []).mtu == 1500
    assert plan_bridge("kitepy0", [OWN], 9000, [ETHERNET], [], [DEFAULT_ROUTE]).mtu == 9000


def test_an_existing_bridge_keeps_its_address_for_containers_that_are_alive() -> None:
    there = [ETHERNET, BRIDGE], [LinkAddress(5, OWN)], [Route(OWN.network, 5)]
    plan = plan_bridge("kitepy0", [OWN], None, *there)
    assert (plan.create, plan.missing_addresses, plan.stale_addresses) == (False, (), ())


def test_an_explicit_address_replaces_the_bridges_old_one() -> None:
    new = IPv4Interface("10.5.0.1/24")
    there = [BRIDGE], [LinkAddress(5, OWN)], [Route(OWN.network, 5)]
    plan = plan_bridge("kitepy0", [new], None, *there)
    assert (plan.missing_addresses, plan.stale_addresses) == ((new,), (OWN,))


def test_the_bridges_link_local_address_stays_and_other_ipv6_ones_follow_the_network() -> None:
    local, old, new = IPv6Interface("fe80::1/64"), IPv6Interface("fd00:1::1/64"), IPv6Interface("fd00:2::1/64")
    plan = plan_bridge("br-1", [new], None, [BRIDGE], [LinkAddress(5, local), LinkAddress(5, old)], [])
    assert plan.stale_addresses == ()
    plan = plan_bridge("kitepy0", [new], None, [BRIDGE], [LinkAddress(5, local), LinkAddress(5, old)], [])
    assert (plan.missing_addresses, plan.stale_addresses) == ((new,), (old,))


def test_a_foreign_interface_of_the_same_name_is_not_touched() -> None:
    with pytest.raises(SystemFailure, match="is not a bridge"):
        plan_bridge("eth0", [OWN], None, [ETHERNET], [], [])


def test_a_bridge_of_the_users_has_to_exist_and_keeps_what_it_has() -> None:
    more = IPv6Interface("fd00:1::1/64")
    plan = plan_bridge("kitepy0", [OWN], None, [BRIDGE], [LinkAddress(5, more)], [], foreign=True)
    assert (plan.create, plan.missing_addresses, plan.stale_addresses) == (False, (OWN,), ())
    with pytest.raises(SystemFailure, match=r"^bridge device with non default name br9 must be created manually$"):
        plan_bridge("br9", [OWN], None, [BRIDGE], [], [], foreign=True)
