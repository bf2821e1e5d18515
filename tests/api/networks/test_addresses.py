"""Addresses of networks and of containers in them, as Docker gives and refuses them."""

from __future__ import annotations

from typing import Any

import pytest
from api.containers.conftest import RawApi
from api.networks.conftest import Lab


def _pools(*configs: dict[str, Any]) -> dict[str, Any]:
    return {"IPAM": {"Config": list(configs)}}


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (_pools({"Gateway": "10.180.0.1"}), 400, "invalid network config:\ninvalid subnet : invalid CIDR block notation"),
        (
            _pools({"Subnet": "10.180.0.5/24"}),
            400,
            "invalid network config:\ninvalid subnet 10.180.0.5/24: it should be 10.180.0.0/24",
        ),
        (
            _pools({"Subnet": "10.180.0.0/24", "IPRange": "10.181.0.1/8", "Gateway": "x"}),
            400,
            "invalid network config:\n"
            "* invalid ip-range 10.181.0.1/8: CIDR block is bigger than its parent subnet 10.180.0.0/24\n"
            "* invalid ip-range 10.181.0.1/8: it should be 10.0.0.0/8\n* invalid gateway x: invalid address",
        ),
        (
            _pools({"Subnet": "10.180.0.0/24", "Gateway": "10.180.0.255"}),
            500,
            "failed to allocate gateway (10.180.0.255): Address already in use",
        ),
        (
            _pools({"Subnet": "10.180.1.0/24", "AuxiliaryAddresses": {"a": "10.180.1.1"}}),
            500,
            "failed to allocate secondary ip address (a:10.180.1.1): Address already in use",
        ),
        (
            _pools({"Subnet": "10.180.2.0/24"}, {"Subnet": "10.180.3.0/24"}),
            403,
            "bridge driver doesn't support multiple subnets",
        ),
        ({"EnableIPv4": False, "EnableIPv6": False}, 400, "IPv4 or IPv6 must be enabled"),
        ({"IPAM": {"Driver": "null"}}, 400, "ipv4 pool is empty"),
        ({"IPAM": {"Driver": "nope"}}, 404, 'plugin "nope" not found'),
        (
            {"Driver": "macvlan", "Options": {"parent": "kt-none"}},
            500,
            "invalid subinterface vlan name kt-none, example formatting is eth0.10",
        ),
        (
            {"Driver": "macvlan", "Options": {"macvlan_mode": "x"}},
            500,
            "requested macvlan mode 'x' is not valid, 'bridge' mode is the macvlan driver default",
        ),
        (
            {"Driver": "ipvlan", "Options": {"ipvlan_flag": "x"}},
            500,
            "requested ipvlan flag 'x' is not valid, 'bridge' is the ipvlan driver default",
        ),
        (
            {"Driver": "ipvlan", "Options": {"parent": "lo"}},
            500,
            "loopback interface is not a valid ipvlan parent link",
        ),
    ],
)
def test_networks_that_can_not_be(lab: Lab, api: RawApi, body: dict[str, Any], status: int, message: str) -> None:
    answer = api("POST", "/networks/create", {"Name": lab.name("net"), **body})
    assert answer.status == status
    # An ordinary user's engine adds why it doesn't see the machine's interfaces.
    assert answer.message.partition("; an ordinary user's engine")[0] == message
    assert api("GET", f"/networks/{lab.name('net')}").status == 404


def test_the_lowest_free_address_of_the_range_is_given_and_certain_ones_on_demand(lab: Lab, api: RawApi) -> None:
    pool = {
        "Subnet": "10.182.0.0/24",
        "IPRange": "10.182.0.128/30",
        "Gateway": "10.182.0.129",
        "AuxiliaryAddresses": {"a": "10.182.0.130"},
    }
    network = lab.network("net", **_pools(pool))
    overlapping = api("POST", "/networks/create", {"Name": lab.name("other"), **_pools({"Subnet": "10.182.0.0/16"})})
    assert (overlapping.status, overlapping.message) == (
        403,
        "invalid pool request: Pool overlaps with other one on this address space",
    )
    assert api("GET", f"/networks/{network}").json["IPAM"]["Config"] == [pool]
    first, second = (lab.joined(word, network) for word in ("a", "b"))
    assert [lab.address(name, network) for name in (first, second)] == ["10.182.0.128", "10.182.0.131"]
    assert lab.endpoint(first, network)["Gateway"] == "10.182.0.129"
    full = "no available IPv4 addresses on this network's address pools"
    used = "failed to set up container networking: Address already in use"
    for word, wish, status, message in (
        ("c", None, 500, full),
        ("d", {"IPv4Address": "10.182.0.131"}, 403, used),
        ("e", {"IPv4Address": "10.182.0.129"}, 403, used),
    ):
        settings = {network: {"IPAMConfig": wish} if wish else {}}
        created = lab.create(word, HostConfig={"NetworkMode": network}, NetworkingConfig={"EndpointsConfig": settings})
        started = api("POST", f"/containers/{created.json['Id']}/start")
        assert started.status == status
        assert message in started.message
    outside = lab.create(
        "f",
        HostConfig={"NetworkMode": network},
        NetworkingConfig={"EndpointsConfig": {network: {"IPAMConfig": {"IPv4Address": "10.183.0.1"}}}},
    )
    assert (outside.status, outside.message) == (
        400,
        f"invalid config for network {network}: invalid endpoint settings:\n"
        "no configured subnet or ip-range contain the IP address 10.183.0.1",
    )
    fixed = lab.joined("g", network, Endpoint={"IPAMConfig": {"IPv4Address": "10.182.0.9", "LinkLocalIPs": ["169.254.7.7"]}})
    assert lab.address(fixed, network) == "10.182.0.9"
    assert "169.254.7.7/16" in lab.sh(fixed, "ip addr show eth0")
    lab.stop(first)
    assert lab.address(lab.joined("h", network), network) == "10.182.0.128", "what a stopped container had is free"


def test_a_network_of_both_families_and_one_of_ipv6_only(lab: Lab, api: RawApi) -> None:
    both = lab.network("both", EnableIPv6=True, **_pools({"Subnet": "fd18::/64"}, {"Subnet": "10.184.0.0/24"}))
    six = lab.network("six", EnableIPv6=True, EnableIPv4=False)
    shown = api("GET", f"/networks/{both}").json
    assert (shown["EnableIPv6"], shown["IPAM"]["Config"]) == (True, [{"Subnet": "10.184.0.0/24"}, {"Subnet": "fd18::/64"}])
    (pool,) = api("GET", f"/networks/{six}").json["IPAM"]["Config"]
    assert pool["Subnet"].startswith("fd")
    assert pool["Gateway"] == pool["Subnet"].replace("/64", "1")
    first = lab.joined("a", both, Endpoint={"IPAMConfig": {"IPv6Address": "fd18::77"}})
    second = lab.joined("b", both)
    endpoint = lab.endpoint(first, both)
    assert (endpoint["IPAddress"], endpoint["GlobalIPv6Address"], endpoint["GlobalIPv6PrefixLen"]) == (
        "10.184.0.2",
        "fd18::77",
        64,
    )
    assert endpoint["IPv6Gateway"] == "fd18::1"
    assert lab.endpoint(second, both)["GlobalIPv6Address"] == "fd18::2"
    for target in ("fd18::77", "fd18::1", "10.184.0.2"):
        status, output = lab.sh_status(second, f"ping -c1 -W5 {target}")
        assert status == 0, output
    lab.stop(first)
    wish = {"IPAMConfig": {"IPv4Address": "10.184.0.2", "IPv6Address": "fd18::77"}, "MacAddress": "02:00:00:00:00:77"}
    lab.joined("d", both, Endpoint=wish)
    for target in ("fd18::77", "10.184.0.2"):
        status, output = lab.sh_status(second, f"ping -c1 -W2 {target}")
        assert status == 0, f"who knew the address's former owner learns of the new one: {output}"
    only = lab.joined("c", six)
    endpoint = lab.endpoint(only, six)
    assert (endpoint["IPAddress"], endpoint["Gateway"]) == ("", "")
    assert endpoint["GlobalIPv6Address"] == pool["Subnet"].replace("/64", "2")
    assert "inet " not in lab.sh(only, "ip addr show eth0")
    status, output = lab.sh_status(only, f"ping -c1 -W5 {pool['Gateway']}")
    assert status == 0, output
    status, _ = lab.sh_status(only, "ping -c1 -W1 fd18::77")
    assert status != 0, "networks don't reach each other"
