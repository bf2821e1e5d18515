"""User-defined networks with containers in them: names, addresses, joining and leaving while they run, and who is kept apart."""

from __future__ import annotations

import json
import time
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from api.containers.conftest import Events, RawApi
from api.networks.conftest import Lab

_SHARING = "container sharing network namespace with another container or host cannot be connected to any other network"
_NO_HOST = "cannot connect container to host network - container must be created in host network mode"
_CONFIGURED = "user specified IP address is supported only when connecting to networks with user configured subnets"
_PRIVATE = "container cannot be connected to multiple networks with one of the networks in private (none) mode"


def _subnet(number: int) -> dict[str, Any]:
    return {"IPAM": {"Config": [{"Subnet": f"10.232.{number}.0/24"}]}}


def _network_events(api: RawApi, began: float, network_id: str) -> list[tuple[str, dict[str, str]]]:
    told = [json.loads(line) for line in api("GET", f"/events?since={began:.9f}&until={time.time():.9f}").body.splitlines()]
    return [(event["Action"], event["Actor"]["Attributes"]) for event in told if event["Actor"]["ID"] == network_id]


def test_containers_find_each_other_by_name(lab: Lab, api: RawApi) -> None:
    network = lab.network("net", **_subnet(1))
    network_id = api("GET", f"/networks/{network}").json["Id"]
    web = lab.joined(
        "web",
        network,
        lab.serve(80, "eighty"),
        Hostname="webhost",
        ExposedPorts={"80/tcp": {}},
        Endpoint={
            "Aliases": ["www", "front"],
            "IPAMConfig": {"IPv4Address": "10.232.1.77"},
            "MacAddress": "02:42:0a:e8:01:4d",
        },
    )
    client = lab.joined("client", network)
    web_id, client_id = lab.inspect(web)["Id"], lab.inspect(client)["Id"]

    endpoint = lab.endpoint(web, network)
    assert endpoint.pop("EndpointID")
    assert endpoint == {
        "IPAMConfig": {"IPv4Address": "10.232.1.77"},
        "Links": None,
        "Aliases": ["www", "front"],
        "MacAddress": "02:42:0a:e8:01:4d",
        "DriverOpts": None,
        "GwPriority": 0,
        "NetworkID": network_id,
        "Gateway": "10.232.1.1",
        "IPAddress": "10.232.1.77",
        "IPPrefixLen": 24,
        "IPv6Gateway": "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "DNSNames": [web, "www", "front", web_id[:12], "webhost"],
    }
    settings = lab.inspect(web)["NetworkSettings"]
    assert (settings["IPAddress"], settings["Gateway"], settings["EndpointID"]) == ("", "", ""), "it isn't on the default bridge"
    assert settings["Ports"] == {"80/tcp": None}
    assert lab.endpoint(client, network)["DNSNames"] == [client, client_id[:12]]
    assert lab.endpoint(client, network)["IPAddress"] == "10.232.1.2"

    inspected = api("GET", f"/networks/{network}").json["Containers"]
    assert set(inspected) == {web_id, client_id}
    assert inspected[web_id] == {
        "Name": web,
        "EndpointID": lab.endpoint(web, network)["EndpointID"],
        "MacAddress": "02:42:0a:e8:01:4d",
        "IPv4Address": "10.232.1.77/24",
        "IPv6Address": "",
    }

    assert lab.hosts(web) == ["10.232.1.77 webhost"]
    assert "02:42:0a:e8:01:4d" in lab.sh(web, "cat /sys/class/net/eth0/address")
    resolver = lab.sh(client, "cat /etc/resolv.conf")
    assert "nameserver 127.0.0.11" in resolver
    assert "options ndots:0" in resolver
    assert "default via 10.232.1.1 dev eth0" in lab.sh(client, "ip route")

    for name in (web, "www", "front", "webhost", web_id[:12], f"www.{network}", "WWW"):
        assert lab.lookup(client, name) == ["10.232.1.77"], name
    assert lab.lookup(client, "www", "aaaa") == []
    assert lab.lookup(client, "77.1.232.10.in-addr.arpa", "ptr") == [f"{web}.{network}"]
    assert lab.lookup(client, f"nobody.{network}") == []
    lab.eventually_reaches(client, "10.232.1.77", 80, "eighty")
    lab.eventually_reaches(client, web, 80, "eighty")
    assert lab.sh_status(client, f"ping -c 1 -W 2 {web}")[0] == 0

    renamed = lab.name("renamed")
    assert api("POST", f"/containers/{web}/rename?name={renamed}").status == 204
    try:
        assert lab.lookup(client, renamed) == ["10.232.1.77"]
        assert lab.lookup(client, web) == []
        assert lab.endpoint(renamed, network)["DNSNames"] == [renamed, "www", "front", web_id[:12], "webhost"]
        assert api("POST", f"/containers/{renamed}/restart?t=0").status == 204
        assert lab.lookup(client, "www") == ["10.232.1.77"]
        assert api("POST", f"/containers/{renamed}/stop?t=0").status == 204
        assert lab.lookup(client, renamed) == []
        assert set(api("GET", f"/networks/{network}").json["Containers"]) == {client_id}
        stopped = lab.endpoint(renamed, network)
        assert (stopped["IPAddress"], stopped["EndpointID"], stopped["Gateway"]) == ("", "", "")
        assert stopped["IPAMConfig"] == {"IPv4Address": "10.232.1.77"}
    finally:
        api("DELETE", f"/containers/{renamed}?force=1")


def test_several_containers_answer_to_one_alias(lab: Lab) -> None:
    network = lab.network("net", **_subnet(2))
    for word in ("one", "two", "three"):
        lab.joined(word, network, Endpoint={"Aliases": ["pool"]})
    client = lab.joined("client", network, Endpoint={"Links": [f"{lab.name('one')}:first", "pool:all"]})
    addresses = sorted(lab.address(lab.name(word), network) for word in ("one", "two", "three"))
    assert lab.lookup(client, "pool") == addresses
    assert lab.lookup(client, "first") == [lab.address(lab.name("one"), network)]
    assert lab.lookup(client, "all") == addresses
    assert lab.lookup(lab.name("two"), "first") == [], "a link is the linking container's own"
    lab.stop(lab.name("two"))
    assert len(lab.lookup(client, "pool")) == 2
    assert lab.endpoint(client, network)["Links"] == [f"{lab.name('one')}:first", "pool:all"]


def test_containers_join_and_leave_while_they_run(lab: Lab, api: RawApi) -> None:
    first, second = lab.network("first", **_subnet(3)), lab.network("second", **_subnet(4))
    second_id = api("GET", f"/networks/{second}").json["Id"]
    began = time.time()
    mover, other = lab.joined("mover", first), lab.joined("other", second, lab.serve(80, "eighty"))
    mover_id = lab.inspect(mover)["Id"]
    assert lab.lookup(mover, other) == []
    wish = {"Aliases": ["guest"], "IPAMConfig": {"IPv4Address": "10.232.4.40"}}
    answer = api("POST", f"/networks/{second}/connect", {"Container": mover, "EndpointConfig": wish})
    assert (answer.status, answer.body) == (200, b"")
    endpoint = lab.endpoint(mover, second)
    assert (endpoint["IPAddress"], endpoint["Aliases"]) == ("10.232.4.40", ["guest"])
    assert endpoint["DNSNames"] == [mover, "guest", mover_id[:12]]
    assert "10.232.4.40" in lab.sh(mover, "ip -4 address show dev eth1")
    assert lab.hosts(mover) == [f"{lab.address(mover, first)} {mover_id[:12]}", f"10.232.4.40 {mover_id[:12]}"]
    assert "default via 10.232.3.1 dev eth0" in lab.sh(mover, "ip route")
    assert lab.lookup(other, "guest") == ["10.232.4.40"]
    assert lab.lookup(mover, other) == [lab.address(other, second)]
    lab.eventually_reaches(mover, other, 80, "eighty")

    answer = api("POST", f"/networks/{second}/connect", {"Container": mover})
    assert (answer.status, answer.message) == (403, f"endpoint with name {mover} already exists in network {second}")

    # Joined networks are those of the next start, too.
    assert api("POST", f"/containers/{mover}/restart?t=0").status == 204
    assert set(lab.inspect(mover)["NetworkSettings"]["Networks"]) == {first, second}
    assert lab.address(mover, second) == "10.232.4.40"

    answer = api("POST", f"/networks/{first}/disconnect", {"Container": mover})
    assert (answer.status, answer.body) == (200, b"")
    assert set(lab.inspect(mover)["NetworkSettings"]["Networks"]) == {second}
    assert lab.sh(mover, "ip route").startswith("default via 10.232.4.1 ")
    assert lab.hosts(mover) == [f"10.232.4.40 {mover_id[:12]}"]
    answer = api("POST", f"/networks/{first}/disconnect", {"Container": mover})
    assert (answer.status, answer.message) == (500, f"container {mover_id} is not connected to network {first}")
    assert api("POST", f"/networks/{second}/disconnect", {"Container": mover_id, "Force": True}).status == 200
    assert lab.inspect(mover)["NetworkSettings"]["Networks"] == {}
    assert lab.sh(mover, "ip -4 address | grep -c inet").strip() == "1", "the loopback address is left"

    told = _network_events(api, began, second_id)
    assert [action for action, _ in told if action in ("connect", "disconnect")] == [
        "connect",
        "connect",
        "disconnect",
        "connect",
        "disconnect",
    ]
    assert told[0][1] == {"container": lab.inspect(other)["Id"], "name": second, "type": "bridge"}


def test_a_container_that_does_not_run_joins_at_its_start(lab: Lab, api: RawApi) -> None:
    first, second = lab.network("first", **_subnet(5)), lab.network("second", **_subnet(6))
    name = lab.name("late")
    assert lab.create("late", HostConfig={"NetworkMode": first}).status == 201
    assert lab.endpoint(name, first)["NetworkID"] == ""
    wish = {"IPAMConfig": {"IPv4Address": "10.232.6.66"}}
    assert api("POST", f"/networks/{second}/connect", {"Container": name, "EndpointConfig": wish}).status == 200
    assert api("POST", f"/networks/{first}/disconnect", {"Container": name}).status == 200
    assert set(lab.inspect(name)["NetworkSettings"]["Networks"]) == {second}
    assert api("POST", f"/containers/{name}/start").status == 204
    assert lab.address(name, second) == "10.232.6.66"
    assert "10.232.6.66" in lab.sh(name, "ip -4 address show dev eth0")


def test_a_container_starts_in_several_networks(lab: Lab, api: RawApi) -> None:
    a, b, inner = lab.network("a", **_subnet(7)), lab.network("b", **_subnet(8)), lab.network("i", Internal=True, **_subnet(9))
    settings = {inner: {}, b: {"Aliases": ["two"]}, a: {"Aliases": ["one"]}}
    many = lab.start("many", HostConfig={"NetworkMode": b}, NetworkingConfig={"EndpointsConfig": settings})
    assert set(lab.inspect(many)["NetworkSettings"]["Networks"]) == {a, b, inner}
    # The gateway is that of the first network in the order of names, leaving out internal ones.
    assert "default via 10.232.7.1" in lab.sh(many, "ip route")
    assert len([line for line in lab.sh(many, "ip -o link").splitlines() if "eth" in line.split(":")[1]]) == 3
    preferred = {a: {}, b: {"GwPriority": 10}}
    rich = lab.start("rich", HostConfig={"NetworkMode": a}, NetworkingConfig={"EndpointsConfig": preferred})
    assert "default via 10.232.8.1" in lab.sh(rich, "ip route")
    assert api("POST", f"/networks/{a}/disconnect", {"Container": many}).status == 200
    assert "default via 10.232.8.1" in lab.sh(many, "ip route")
    assert api("POST", f"/networks/{b}/disconnect", {"Container": many}).status == 200
    assert "default" not in lab.sh(many, "ip route")


def _strangers(lab: Lab, source: str, target: str, network: str) -> None:
    assert not lab.reaches(source, lab.address(target, network), 80), (source, target)
    assert network == "bridge" or "127.0.0.11" not in lab.sh(source, "cat /etc/resolv.conf") or lab.lookup(source, target) == []


def test_networks_are_kept_apart(lab: Lab, api: RawApi) -> None:
    one, two = lab.network("one", **_subnet(10)), lab.network("two", **_subnet(11))
    inner = lab.network("inner", Internal=True, **_subnet(12))
    a, b = lab.joined("a", one, lab.serve(80, "a")), lab.joined("b", two, lab.serve(80, "b"))
    c, d = lab.joined("c", inner, lab.serve(80, "c")), lab.joined("d", inner)
    plain = lab.start("plain", lab.serve(80, "plain"))
    peer = lab.joined("peer", one)
    lab.eventually_reaches(peer, a, 80, "a")
    lab.eventually_reaches(d, c, 80, "c")
    strangers = [(a, b, two), (b, a, one), (a, plain, "bridge"), (plain, a, one), (a, c, inner), (c, a, one)]
    lab.together(*(lambda pair=pair: _strangers(lab, *pair) for pair in strangers))
    assert "default" not in lab.sh(c, "ip route")
    assert "10.232.12.0/24 dev eth0" in lab.sh(c, "ip route")
    assert lab.endpoint(c, inner)["Gateway"] == ""
    # A container in both is no way from one to the other.
    assert api("POST", f"/networks/{two}/connect", {"Container": a}).status == 200
    assert lab.reaches(a, b, 80, "b")
    assert not lab.reaches(peer, lab.address(b, two), 80)


def test_containers_of_a_network_without_icc_are_kept_apart(lab: Lab) -> None:
    network = lab.network("apart", Options={"com.docker.network.bridge.enable_icc": "false"}, **_subnet(13))
    a, b = lab.joined("a", network, lab.serve(80, "a")), lab.joined("b", network)
    assert lab.lookup(b, a) == [lab.address(a, network)]
    assert not lab.reaches(b, a, 80)


def test_modes_without_a_network_of_their_own(lab: Lab, api: RawApi) -> None:
    network = lab.network("net", **_subnet(14))
    owner = lab.joined("owner", network, lab.serve(80, "owner"), Endpoint={"Aliases": ["both"]})
    guest = lab.start("guest", HostConfig={"NetworkMode": f"container:{owner}"})
    assert lab.inspect(guest)["NetworkSettings"]["Networks"] == {}
    assert lab.inspect(guest)["HostConfig"]["NetworkMode"] in (f"container:{owner}", f"container:{lab.inspect(owner)['Id']}")
    assert lab.address(owner, network) in lab.sh(guest, "ip -4 address show dev eth0")
    assert lab.hosts(guest) == lab.hosts(owner)
    assert lab.sh(guest, "hostname") == lab.sh(owner, "hostname")
    assert lab.lookup(guest, "both") == [lab.address(owner, network)]
    lab.eventually_reaches(guest, "127.0.0.1", 80, "owner")

    none = lab.start("none", HostConfig={"NetworkMode": "none"})
    assert set(lab.inspect(none)["NetworkSettings"]["Networks"]) == {"none"}
    assert lab.sh(none, "ip -o link | grep -vc ': lo:'").strip().splitlines()[-1] in ("0", "1")  # tunnels of the kernel aside
    host = lab.start("host", HostConfig={"NetworkMode": "host"})
    assert set(lab.inspect(host)["NetworkSettings"]["Networks"]) == {"host"}

    for target, container, status, words in (
        (network, guest, 400, _SHARING),
        ("host", owner, 400, _NO_HOST),
        (network, host, 400, _SHARING),
        (network, none, 400, _PRIVATE),
        ("none", owner, 400, _PRIVATE),
        (network, "nosuch", 404, "No such container: nosuch"),
        ("nosuch", owner, 404, "network nosuch not found"),
    ):
        answer = api("POST", f"/networks/{target}/connect", {"Container": container})
        assert (answer.status, answer.message) == (status, words), (target, container)
    answer = api("POST", "/networks/host/disconnect", {"Container": host})
    words = "cannot disconnect container from host network - container was created in host network mode"
    assert (answer.status, answer.message) == (400, words)


@pytest.mark.parametrize(
    ("wish", "status", "words"),
    [
        (
            {"IPAMConfig": {"IPv4Address": "10.99.99.99"}},
            400,
            "invalid endpoint settings:\nno configured subnet or ip-range contain the IP address 10.99.99.99",
        ),
        (
            {"IPAMConfig": {"IPv4Address": "x"}},
            400,
            "invalid endpoint settings:\n* invalid IPv4 address: x\n* no configured subnet or ip-range contain the IP address x",
        ),
        ({"IPAMConfig": {"IPv6Address": "x"}}, 400, f"invalid endpoint settings:\n* invalid IPv6 address: x\n* {_CONFIGURED}"),
        ({"MacAddress": "x"}, 400, "invalid MAC address x"),
        ({"IPAMConfig": {"IPv4Address": "10.232.15.2"}}, 403, "Address already in use"),
        ({"IPAMConfig": {"IPv4Address": "10.232.15.1"}}, 403, "Address already in use"),
    ],
)
def test_addresses_that_can_not_be_had_are_refused(lab: Lab, api: RawApi, wish: dict[str, Any], status: int, words: str) -> None:
    network, other = lab.network("net", **_subnet(15)), lab.network("other", **_subnet(17))
    lab.joined("first", network)
    running, late = lab.joined("second", other), lab.name("third")
    assert lab.create("third", HostConfig={"NetworkMode": other}).status == 201
    answer = api("POST", f"/networks/{network}/connect", {"Container": running, "EndpointConfig": wish})
    assert (answer.status, answer.message) == (status, words)
    answer = api("POST", f"/networks/{network}/connect", {"Container": late, "EndpointConfig": wish})
    if answer.status == 200:
        answer = api("POST", f"/containers/{late}/start")
        words = f"failed to set up container networking: {words}"
    assert (answer.status, answer.message) == (status, words)


def test_networks_are_told_to_be_left_by_a_container_whose_start_fails(lab: Lab, api: RawApi, events: Events) -> None:
    network = lab.network("net", **_subnet(18))
    first = lab.joined("first", network)
    taken = {"IPAMConfig": {"IPv4Address": lab.address(first, network)}}
    names = lab.name("none"), network
    for word, endpoints in (("late", {network: taken}), ("lost", {name: {} for name in names}), ("gone", {names[0]: {}})):
        made = lab.create(
            word, HostConfig={"NetworkMode": next(iter(endpoints))}, NetworkingConfig={"EndpointsConfig": endpoints}
        )
        assert api("POST", f"/containers/{lab.name(word)}/start").status in (403, 404)
        told = [(action, attributes["name"]) for kind, action, attributes in events.all(made.json["Id"]) if kind == "network"]
        assert told == ([] if word == "gone" else [("disconnect", network)])


def test_a_fixed_address_needs_a_configured_subnet(lab: Lab, api: RawApi) -> None:
    network = lab.network("chosen")
    free = str(list(ip_network(api("GET", f"/networks/{network}").json["IPAM"]["Config"][0]["Subnet"]).hosts())[50])
    answer = lab.create(
        "c",
        HostConfig={"NetworkMode": network},
        NetworkingConfig={"EndpointsConfig": {network: {"IPAMConfig": {"IPv4Address": free}}}},
    )
    if answer.status == 201:
        answer = api("POST", f"/containers/{lab.name('c')}/start")
    assert (answer.status, _CONFIGURED in answer.message) == (400, True), answer.body


def test_both_address_families_work(lab: Lab, api: RawApi) -> None:
    subnets = [{"Subnet": "10.232.16.0/24"}, {"Subnet": "fd00:232:16::/64"}]
    network = lab.network("dual", EnableIPv6=True, IPAM={"Config": subnets})
    server = lab.joined(
        "server",
        network,
        "while true; do echo six | nc -l -p 80 >/dev/null; done",
        Endpoint={"IPAMConfig": {"IPv6Address": "fd00:232:16::77"}},
    )
    client = lab.joined("client", network)
    endpoint = lab.endpoint(server, network)
    assert endpoint["GlobalIPv6Address"] == "fd00:232:16::77"
    assert (endpoint["GlobalIPv6PrefixLen"], endpoint["IPv6Gateway"]) == (64, "fd00:232:16::1")
    assert ip_address(lab.endpoint(client, network)["GlobalIPv6Address"]) in ip_network("fd00:232:16::/64")
    assert lab.lookup(client, server, "aaaa") == ["fd00:232:16::77"]
    assert lab.lookup(client, server) == [lab.address(server, network)]
    assert lab.lookup(client, ip_address("fd00:232:16::77").reverse_pointer, "ptr") == [f"{server}.{network}"]
    assert [line.split()[0] for line in lab.hosts(server)] == [lab.address(server, network), "fd00:232:16::77"]
    lab.eventually_reaches(client, "fd00:232:16::77", 80, "six")
    assert "fd00:232:16::/64" in lab.sh(client, "ip -6 route")
    inspected = api("GET", f"/networks/{network}").json["Containers"][lab.inspect(server)["Id"]]
    assert inspected["IPv6Address"] == "fd00:232:16::77/64"
