"""Choosing subnets and handing out addresses."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kitepy.engine.model.errors import Conflict, InvalidParameter, SystemFailure
from kitepy.engine.network.addresses import (
    AddressPool,
    bridge_mac,
    candidate_subnets,
    check_gateway,
    choose_gateway,
    mac_for,
)


def test_the_first_pool_is_dockers() -> None:
    assert choose_gateway([]) == IPv4Interface("172.17.0.1/16")


@pytest.mark.parametrize(
    ("taken", "gateway"),
    [
        (["172.17.0.0/16"], "172.18.0.1/16"),
        (["172.17.3.0/24", "172.18.0.0/30"], "172.19.0.1/16"),
        (["172.16.0.0/12"], "192.168.0.1/20"),
        (["172.16.0.0/12", "192.168.1.0/24"], "192.168.16.1/20"),
        (["10.0.0.0/8", "127.0.0.0/8"], "172.17.0.1/16"),
    ],
)
def test_pools_that_the_host_routes_are_passed_over(taken: list[str], gateway: str) -> None:
    assert choose_gateway(map(IPv4Network, taken)) == IPv4Interface(gateway)


def test_no_free_pool_is_an_error_that_names_the_option() -> None:
    with pytest.raises(SystemFailure, match="--bip"):
        choose_gateway(candidate_subnets())


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


def test_the_gateway_and_the_subnets_ends_are_never_given_out() -> None:
    pool = AddressPool(IPv4Interface("10.0.0.2/29"))
    given = [str(pool.allocate()) for _ in range(5)]
    assert given == ["10.0.0.1", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"]
    with pytest.raises(SystemFailure, match="no available IPv4 addresses"):
        pool.allocate()
    pool.release(IPv4Address("10.0.0.2"))
    assert pool.is_taken(IPv4Address("10.0.0.2"))


def test_certain_addresses_can_be_reserved_once() -> None:
    pool = AddressPool(IPv4Interface("10.0.0.1/24"))
    pool.reserve(IPv4Address("10.0.0.2"))
    assert pool.allocate() == IPv4Address("10.0.0.3")
    with pytest.raises(Conflict):
        pool.reserve(IPv4Address("10.0.0.3"))
    with pytest.raises(InvalidParameter):
        pool.reserve(IPv4Address("10.0.1.3"))


@given(st.lists(st.one_of(st.none(), st.integers(min_value=0, max_value=20)), max_size=80))
def test_no_address_is_held_twice_and_the_lowest_free_one_is_chosen(steps: list[int | None]) -> None:
    pool = AddressPool(IPv4Interface("10.0.0.1/24"))
    held: set[IPv4Address] = set()
    for step in steps:
        if step is None:
            address = pool.allocate()
            assert address not in held
            free = min(
                candidate
                for candidate in IPv4Network("10.0.0.0/24").hosts()
                if candidate not in held and str(candidate) != "10.0.0.1"
            )
            assert address == free
            held.add(address)
        elif held:
            gone = sorted(held)[step % len(held)]
            pool.release(gone)
            held.discard(gone)
        assert len(pool) == len(held)
