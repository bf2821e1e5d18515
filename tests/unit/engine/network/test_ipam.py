"""Address management of networks: what dockerd 28 answered to the same requests, and properties of the allocator."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kitepy.engine.model.errors import EngineError, Forbidden, InvalidParameter, NotFound, SystemFailure
from kitepy.engine.model.network import NetworkDriver, NetworkRecord, SubnetConfig
from kitepy.engine.network.address_pools import AddressRange, SubnetAddresses, choose_subnet, parse_subnet, ula_range
from kitepy.engine.network.ipam import AddressSpace, bridge_addresses, used_subnets

SEED = "6b758723-9ff5-44bb-b2db-07a20b201497"


def record(
    *subnets: SubnetConfig,
    network_id: str = "n1",
    driver: NetworkDriver = NetworkDriver.BRIDGE,
    ipv4: bool = True,
    ipv6: bool = False,
    internal: bool = False,
    options: tuple[tuple[str, str], ...] = (),
    ipam_driver: str = "default",
) -> NetworkRecord:
    return NetworkRecord(
        network_id=network_id,
        name="t",
        driver=driver,
        created="",
        subnets=subnets,
        ipv4=ipv4,
        ipv6=ipv6,
        internal=internal,
        options=options,
        ipam_driver=ipam_driver,
    )


def subnet(text: str, **fields: object) -> SubnetConfig:
    return SubnetConfig(subnet=text, **fields)  # type: ignore[arg-type]  # the tests give what each field takes


def shown(resolved: NetworkRecord) -> list[tuple[str, str]]:
    return [(config.subnet, config.gateway) for config in resolved.subnets]


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (subnet(""), "invalid subnet : invalid CIDR block notation"),
        (subnet("", gateway="10.9.0.1"), "invalid subnet : invalid CIDR block notation"),
        (subnet("x"), "invalid subnet x: invalid CIDR block notation"),
        (subnet("10.9.0.0"), "invalid subnet 10.9.0.0: invalid CIDR block notation"),
        (subnet("10.9.0.0/33"), "invalid subnet 10.9.0.0/33: invalid CIDR block notation"),
        (subnet("10.9.0.0/024"), "invalid subnet 10.9.0.0/024: invalid CIDR block notation"),
        (subnet("10.9.0.0/+24"), "invalid subnet 10.9.0.0/+24: invalid CIDR block notation"),
        (subnet("10.09.0.0/24"), "invalid subnet 10.09.0.0/24: invalid CIDR block notation"),
        (subnet(" 10.9.0.0/24"), "invalid subnet  10.9.0.0/24: invalid CIDR block notation"),
        (subnet("10.9.0.0/255.255.255.0"), "invalid subnet 10.9.0.0/255.255.255.0: invalid CIDR block notation"),
        (subnet("fe80::%eth0/64"), "invalid subnet fe80::%eth0/64: invalid CIDR block notation"),
        (subnet("10.9.0.5/24"), "invalid subnet 10.9.0.5/24: it should be 10.9.0.0/24"),
        (subnet("10.9.0.0/8"), "invalid subnet 10.9.0.0/8: it should be 10.0.0.0/8"),
        (subnet("fd12::5/64"), "invalid subnet fd12::5/64: it should be fd12::/64"),
        (
            subnet("10.9.0.0/24", gateway="10.10.0.254"),
            "invalid gateway 10.10.0.254: parent subnet 10.9.0.0/24 doesn't contain this address",
        ),
        (subnet("10.9.0.0/24", gateway="x"), "invalid gateway x: invalid address"),
        (subnet("10.9.0.0/24", gateway="10.9.0.1/24"), "invalid gateway 10.9.0.1/24: invalid address"),
        (subnet("10.9.0.0/24", gateway="fd00::1"), "invalid gateway fd00::1: parent subnet is an IPv4 block"),
        (
            subnet("fe80::/64", gateway="fe80::1%eth0"),
            "invalid gateway fe80::1%eth0: parent subnet fe80::/64 doesn't contain this address",
        ),
        (subnet("10.9.0.0/24", ip_range="10.9.0.129/25"), "invalid ip-range 10.9.0.129/25: it should be 10.9.0.128/25"),
        (
            subnet("10.9.0.0/24", ip_range="10.10.0.128/25"),
            "invalid ip-range 10.10.0.128/25: parent subnet 10.9.0.0/24 doesn't contain ip-range",
        ),
        (
            subnet("10.9.0.0/24", ip_range="10.9.0.0/16"),
            "invalid ip-range 10.9.0.0/16: CIDR block is bigger than its parent subnet 10.9.0.0/24",
        ),
        (subnet("10.9.0.0/24", ip_range="x"), "invalid ip-range x: invalid CIDR block notation"),
        (subnet("10.9.0.0/24", ip_range="fd00::/64"), "invalid ip-range fd00::/64: parent subnet is an IPv4 block"),
        (subnet("fd00::/64", ip_range="10.9.0.0/28"), "invalid ip-range 10.9.0.0/28: parent subnet is an IPv6 block"),
        (
            subnet("10.9.0.0/24", auxiliary=(("a", "10.10.0.1"),)),
            "invalid auxiliary address a: parent subnet 10.9.0.0/24 doesn't contain this address",
        ),
        (subnet("10.9.0.0/24", auxiliary=(("a", "x"),)), "invalid auxiliary address a: invalid address"),
        (
            subnet("10.9.9.0/24", ip_range="10.10.0.1/8", gateway="x"),
            "* invalid ip-range 10.10.0.1/8: CIDR block is bigger than its parent subnet 10.9.9.0/24\n"
            "* invalid ip-range 10.10.0.1/8: it should be 10.0.0.0/8\n"
            "* invalid gateway x: invalid address",
        ),
    ],
)
def test_malformed_subnets_are_refused_in_dockers_words(config: SubnetConfig, reason: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        AddressSpace().create(record(config, ipv6=True))
    assert str(caught.value) == f"invalid network config:\n{reason}"


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (record(), [("172.17.0.0/16", "172.17.0.1")]),
        (record(subnet("10.9.0.0/24")), [("10.9.0.0/24", "")]),
        (record(subnet("10.9.0.0/24", gateway="10.9.0.254")), [("10.9.0.0/24", "10.9.0.254")]),
        (record(subnet("FD00:0::/64"), ipv6=True), [("FD00:0::/64", ""), ("172.17.0.0/16", "172.17.0.1")]),
        (
            record(subnet("fd33::/64"), subnet("10.23.0.0/24"), ipv6=True),
            [("10.23.0.0/24", ""), ("fd33::/64", "")],
        ),
        (record(ipv6=True), [("172.17.0.0/16", "172.17.0.1"), ("fd8f:9f0b:2e3f::/64", "fd8f:9f0b:2e3f::1")]),
        (record(ipv6=True, ipv4=False), [("fd8f:9f0b:2e3f::/64", "fd8f:9f0b:2e3f::1")]),
        # A subnet of a family that is off is shown, and nothing more.
        (record(subnet("fd12::5/64")), [("fd12::5/64", ""), ("172.17.0.0/16", "172.17.0.1")]),
        (
            record(subnet("10.9.0.0/24"), ipv6=True, ipv4=False),
            [("10.9.0.0/24", ""), ("fd8f:9f0b:2e3f::/64", "fd8f:9f0b:2e3f::1")],
        ),
    ],
)
def test_what_a_request_leaves_open_is_chosen(request_: NetworkRecord, expected: list[tuple[str, str]]) -> None:
    assert shown(AddressSpace(ula_seed=SEED).create(request_)) == expected


@pytest.mark.parametrize(
    ("request_", "kind", "message"),
    [
        (record(ipv4=False), InvalidParameter, "IPv4 or IPv6 must be enabled"),
        (record(ipam_driver="nope"), NotFound, 'plugin "nope" not found'),
        (record(ipam_driver="null"), InvalidParameter, "ipv4 pool is empty"),
        (
            record(subnet("10.9.0.0/24", gateway="10.9.0.0")),
            SystemFailure,
            "failed to allocate gateway (10.9.0.0): Address already in use",
        ),
        (
            record(subnet("10.9.0.0/24", gateway="10.9.0.255")),
            SystemFailure,
            "failed to allocate gateway (10.9.0.255): Address already in use",
        ),
        (
            record(subnet("fd00::/64", gateway="fd00::"), ipv6=True),
            SystemFailure,
            "failed to allocate gateway (fd00::): Address already in use",
        ),
        (
            record(subnet("fd12::/128"), ipv6=True),
            SystemFailure,
            "failed to allocate gateway (): no available addresses on this pool",
        ),
        (
            record(subnet("10.9.0.0/24", auxiliary=(("a", "10.9.0.1"),))),
            SystemFailure,
            "failed to allocate secondary ip address (a:10.9.0.1): Address already in use",
        ),
        (
            record(subnet("10.9.0.0/24", auxiliary=(("a", "10.9.0.9"), ("b", "10.9.0.9")))),
            SystemFailure,
            "failed to allocate secondary ip address (b:10.9.0.9): Address already in use",
        ),
        (record(subnet("10.9.0.0/24"), subnet("10.9.1.0/24")), Forbidden, "bridge driver doesn't support multiple subnets"),
        (
            record(subnet("10.9.0.0/24"), subnet("10.9.0.0/24")),
            Forbidden,
            "invalid pool request: Pool overlaps with other one on this address space",
        ),
        (
            record(subnet("10.9.0.0/24"), subnet("10.0.0.0/8")),
            Forbidden,
            "invalid pool request: Pool overlaps with other one on this address space",
        ),
    ],
)
def test_a_refused_network_takes_nothing(request_: NetworkRecord, kind: type[EngineError], message: str) -> None:
    space = AddressSpace()
    with pytest.raises(kind) as caught:
        space.create(request_)
    assert str(caught.value) == message
    assert shown(space.create(record(subnet("10.9.0.0/24"), subnet("fd00::/64"), ipv6=True)))


def test_subnets_of_other_networks_and_of_the_host() -> None:
    space = AddressSpace(ula_seed=SEED)
    space.create(record(network_id="n0", ipv6=True))
    for text in ("172.17.5.0/24", "172.16.0.0/12"):
        with pytest.raises(Forbidden):
            space.create(record(subnet(text)))
    host = [IPv4Network("172.18.4.0/24"), IPv4Network("10.66.0.0/24")]
    assert shown(space.create(record(ipv6=True), host)) == [
        ("172.19.0.0/16", "172.19.0.1"),
        ("fd8f:9f0b:2e3f:1::/64", "fd8f:9f0b:2e3f:1::1"),
    ]
    assert shown(space.create(record(subnet("10.66.0.0/24"), network_id="n2"), host)) == [("10.66.0.0/24", "")]
    space.remove("n0")
    space.remove("n0")
    assert shown(space.create(record(network_id="n3"), host)) == [("172.17.0.0/16", "172.17.0.1")]


def test_the_pools_of_docker_end_after_31_networks() -> None:
    space = AddressSpace()
    made = [shown(space.create(record(network_id=str(number))))[0][0] for number in range(31)]
    assert (made[0], made[14], made[15], made[30]) == ("172.17.0.0/16", "172.31.0.0/16", "192.168.0.0/20", "192.168.240.0/20")
    with pytest.raises(InvalidParameter, match=r"^all predefined address pools have been fully subnetted$"):
        space.create(record(network_id="31"))


def test_a_range_of_a_shared_subnet() -> None:
    options = (("parent", "eth0"),)
    ranges = [subnet("10.40.0.0/24", ip_range=f"10.40.0.{low}/25") for low in (0, 128)]
    space = AddressSpace()
    for number, config in enumerate(ranges):
        space.create(record(config, network_id=f"m{number}", driver=NetworkDriver.MACVLAN, options=options))
    assert [str(space.take(network).gateway) for network in ("m0", "m1")] == ["10.40.0.1", "10.40.0.128"]
    space.remove("m0")
    assert str(space.take("m1").address) == "10.40.0.130"
    space = AddressSpace()
    space.create(record(ranges[0], network_id="a" * 64))
    with pytest.raises(Forbidden) as caught:
        space.create(record(ranges[1], network_id="b" * 64))
    assert str(caught.value) == (
        f"cannot create network {'b' * 64} (br-{'b' * 12}): conflicts with network {'a' * 64} (br-{'a' * 12}): "
        "networks have overlapping IPv4"
    )


@pytest.mark.parametrize(
    ("request_", "addresses", "gateway", "count"),
    [
        (record(subnet("10.20.0.0/30")), ["10.20.0.2"], "10.20.0.1", 1),
        (record(subnet("10.20.0.0/31")), ["10.20.0.1"], "10.20.0.0", 1),
        (record(subnet("10.20.0.0/32")), [], "", 0),
        (record(subnet("10.21.0.0/24", ip_range="10.21.0.128/30")), ["10.21.0.129", "10.21.0.130"], "10.21.0.128", 3),
        (
            record(subnet("10.21.0.0/24", ip_range="10.21.0.128/30", gateway="10.21.0.129", auxiliary=(("a", "10.21.0.130"),))),
            ["10.21.0.128", "10.21.0.131"],
            "10.21.0.129",
            2,
        ),
        (record(subnet("10.41.0.0/24", ip_range="10.41.0.0/30")), ["10.41.0.2", "10.41.0.3"], "10.41.0.1", 2),
        (record(subnet("10.24.0.0/29"), internal=True), ["10.24.0.2"], "", 5),
        (record(subnet("10.24.0.0/29", auxiliary=(("DefaultGatewayIPv4", "10.24.0.5"),))), ["10.24.0.2"], "10.24.0.5", 4),
        (
            record(subnet("10.30.0.0/30"), subnet("10.31.0.0/30"), driver=NetworkDriver.MACVLAN, options=(("parent", "e"),)),
            ["10.30.0.2", "10.31.0.2"],
            "10.30.0.1",
            2,
        ),
        (
            record(subnet("10.30.0.0/29"), driver=NetworkDriver.MACVLAN, options=(("parent", "e"),), internal=True),
            ["10.30.0.1", "10.30.0.2"],
            "",
            6,
        ),
        (record(subnet("10.30.0.0/29"), driver=NetworkDriver.MACVLAN), ["10.30.0.1"], "", 6),
        (
            record(subnet("10.30.0.0/29"), driver=NetworkDriver.IPVLAN, options=(("parent", "e"), ("ipvlan_mode", "l3"))),
            ["10.30.0.1"],
            "",
            6,
        ),
    ],
)
def test_which_addresses_containers_get(request_: NetworkRecord, addresses: list[str], gateway: str, count: int) -> None:
    space = AddressSpace()
    space.create(request_)
    leases = [space.take("n1") for _ in range(count)]
    assert [str(lease.address) for lease in leases[: len(addresses)]] == addresses
    assert not leases or str(leases[0].gateway or "") == gateway
    with pytest.raises(SystemFailure) as caught:
        space.take("n1")
    assert str(caught.value) == "no available IPv4 addresses on this network's address pools: t (n1)"
    assert space.held("n1") == count


def test_ipv6_addresses() -> None:
    space = AddressSpace()
    space.create(record(subnet("fd33::/126"), ipv4=False, ipv6=True))
    lease = space.take("n1")
    assert (lease.address, lease.gateway, lease.prefix_length) == (None, None, 0)
    assert (lease.address6, lease.prefix_length6, lease.gateway6) == (IPv6Address("fd33::2"), 126, IPv6Address("fd33::1"))
    space.take("n1")
    with pytest.raises(SystemFailure, match="no available IPv6 addresses"):
        space.take("n1")


def test_certain_addresses_and_what_a_failure_gives_back() -> None:
    space = AddressSpace()
    space.create(record(subnet("10.19.0.0/24"), subnet("fd33::/64"), ipv6=True))
    wanted, wanted6 = IPv4Address("10.19.0.77"), IPv6Address("fd33::77")
    lease = space.take("n1", wanted, wanted6)
    assert (lease.address, lease.address6) == (wanted, wanted6)
    for taken in ("10.19.0.77", "10.19.0.0", "10.19.0.1", "10.19.0.255"):
        with pytest.raises(Forbidden, match=r"^Address already in use$"):
            space.take("n1", IPv4Address(taken))
    with pytest.raises(Forbidden):
        space.take("n1", None, wanted6)
    first = space.take("n1")
    assert first.address == IPv4Address("10.19.0.2"), "the failed ones before gave theirs back"
    second = space.take("n1")
    space.release("n1", str(first.address))
    space.release("n1", "10.19.0.1")
    assert [str(space.take("n1").address) for _ in range(2)] == ["10.19.0.2", "10.19.0.4"]
    assert second.address == IPv4Address("10.19.0.3")
    with pytest.raises(SystemFailure):
        space.take("n1", IPv4Address("10.20.0.1"))


def test_a_restarted_engine_knows_what_was_taken() -> None:
    space = AddressSpace(ula_seed=SEED)
    resolved = space.create(record(subnet("10.19.0.0/24", auxiliary=(("x", "10.19.0.3"),)), ipv6=True))
    space.take("n1")
    again = AddressSpace(ula_seed=SEED)
    again.adopt(resolved)
    again.adopt(resolved)
    again.restore("n1", "10.19.0.2", "")
    with pytest.raises(Forbidden):
        again.restore("n1", "", "fd8f:9f0b:2e3f::1")
    with pytest.raises(InvalidParameter):
        again.restore("n1", "10.19.0.4", "fd00::9")
    assert str(again.take("n1").address) == "10.19.0.4"
    assert again.held("n1") == 3
    assert again.create(record(network_id="n2", ipv6=True)).subnets[1].subnet == "fd8f:9f0b:2e3f:1::/64"


def test_what_a_bridge_gets() -> None:
    space = AddressSpace()
    plain = space.create(record(subnet("10.19.0.0/24", auxiliary=(("DefaultGatewayIPv4", "10.19.0.9"),)), subnet("fd33::/64")))
    assert bridge_addresses(plain) == (IPv4Interface("10.19.0.1/24"),)
    assert used_subnets(plain) == (IPv4Network("10.19.0.0/24"),)
    prefix = "com.docker.network.bridge."
    bare = record(network_id="n2", options=((prefix + "inhibit_ipv4", "true"),))
    assert bridge_addresses(space.create(bare)) == ()
    isolated = record(network_id="n3", internal=True, options=((prefix + "gateway_mode_ipv4", "isolated"),))
    assert bridge_addresses(space.create(isolated)) == ()


def test_configured_ranges_replace_those_of_their_family() -> None:
    ranges = (AddressRange(IPv4Network("10.10.0.0/16"), 24), AddressRange(IPv6Network("fd99::/32"), 64))
    space = AddressSpace(ranges, SEED)
    assert shown(space.create(record(ipv6=True), [IPv4Network("10.10.0.0/23")])) == [
        ("10.10.2.0/24", "10.10.2.1"),
        ("fd99::/64", "fd99::1"),
    ]
    with pytest.raises(ValueError, match="invalid pool size"):
        AddressRange(IPv4Network("10.10.0.0/16"), 15)


@given(
    st.lists(st.tuples(st.integers(0, 2**16 - 1), st.integers(18, 32)), max_size=30),
    st.integers(16, 26),
)
def test_a_chosen_subnet_is_the_first_that_overlaps_nothing(taken: list[tuple[int, int]], size: int) -> None:
    networks = [IPv4Network((0x0A000000 + number, length), strict=False) for number, length in taken]
    base = IPv4Network("10.0.0.0/16")
    expected = next(
        (part for part in base.subnets(new_prefix=size) if not any(part.overlaps(network) for network in networks)), None
    )
    try:
        found = choose_subnet([AddressRange(base, size)], 4, networks)
    except InvalidParameter:
        found = None
    assert found == expected


@given(st.lists(st.integers(0, 20), max_size=60), st.sampled_from(["10.0.0.0/28", "fd00::/124"]))
def test_the_lowest_free_address_is_given_out(steps: list[int], text: str) -> None:
    addresses = SubnetAddresses(parse_subnet(text))
    held: set[int] = set()
    base = int(addresses.subnet.network_address)
    for step in steps:
        if step > 15:
            free = [number for number in range(16) if not addresses.is_taken(addresses.subnet[number])]
            if not free:
                with pytest.raises(SystemFailure):
                    addresses.allocate()
                continue
            chosen = int(addresses.allocate()) - base
            assert chosen == free[0]
            held.add(chosen)
        else:
            addresses.release(addresses.subnet[step])
            held.discard(step)
    assert len(addresses) == len(held)


def test_an_engines_local_addresses_are_those_of_dockerd() -> None:
    assert ula_range(SEED) == AddressRange(IPv6Network("fd8f:9f0b:2e3f::/48"), 64)
