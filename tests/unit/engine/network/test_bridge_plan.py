"""How the bridge is to be, given what the host has."""

from __future__ import annotations

from ipaddress import IPv4Interface, IPv4Network

import pytest

from kitepy.engine.kernel.netlink import Link, LinkAddress, Route
from kitepy.engine.model.errors import InvalidParameter, SystemFailure
from kitepy.engine.network.bridge_link import plan_bridge

ETHERNET = Link(index=2, name="eth0", up=True, kind="", master=0, mtu=1400, mac="02:00:00:00:00:01")
BRIDGE = Link(index=5, name="kitepy0", up=True, kind="bridge", master=0, mtu=1500, mac="02:00:00:00:00:02")
DEFAULT_ROUTE = Route(IPv4Network("0.0.0.0/0"), 2)


def test_a_new_bridge_follows_the_mtu_of_the_way_out() -> None:
    plan = plan_bridge("kitepy0", None, None, [ETHERNET], [], [DEFAULT_ROUTE])
    assert (plan.create, plan.add_address, plan.mtu) == (True, True, 1400)
    assert plan_bridge("kitepy0", None, None, [ETHERNET], [], []).mtu == 1500
    assert plan_bridge("kitepy0", None, 9000, [ETHERNET], [], [DEFAULT_ROUTE]).mtu == 9000


def test_an_existing_bridge_keeps_its_address_for_containers_that_are_alive() -> None:
    own = IPv4Interface("172.20.0.1/16")
    routes = [Route(own.network, 5)]
    plan = plan_bridge("kitepy0", None, None, [ETHERNET, BRIDGE], [LinkAddress(5, own)], routes)
    assert (plan.gateway, plan.create, plan.add_address, plan.stale_addresses) == (own, False, False, ())


def test_an_explicit_address_replaces_the_bridges_old_one() -> None:
    old, new = IPv4Interface("172.20.0.1/16"), IPv4Interface("10.5.0.1/24")
    plan = plan_bridge("kitepy0", new, None, [BRIDGE], [LinkAddress(5, old)], [Route(old.network, 5)])
    assert (plan.gateway, plan.add_address, plan.stale_addresses) == (new, True, (old,))


def test_routes_and_addresses_of_others_are_avoided_or_named() -> None:
    route = Route(IPv4Network("172.17.0.0/16"), 2)
    assert plan_bridge("kitepy0", None, None, [ETHERNET], [], [route]).gateway == IPv4Interface("172.18.0.1/16")
    with pytest.raises(InvalidParameter, match="which interface eth0 already uses"):
        plan_bridge("kitepy0", IPv4Interface("172.17.0.1/16"), None, [ETHERNET], [], [route])


def test_a_foreign_interface_of_the_same_name_is_not_touched() -> None:
    with pytest.raises(SystemFailure, match="is not a bridge"):
        plan_bridge("eth0", None, None, [ETHERNET], [], [])
