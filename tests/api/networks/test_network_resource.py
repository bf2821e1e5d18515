"""Networks as a resource: made, looked at, listed, pruned and removed, without a container in them."""

from __future__ import annotations

import json
import time
import urllib.parse
from ipaddress import ip_interface, ip_network
from typing import Any

import pytest
from api.containers.conftest import RawApi
from api.networks.conftest import Lab

SUBNET = "10.231.{}.0/24"


def _filtered(**filters: list[str]) -> str:
    return f"filters={urllib.parse.quote(json.dumps(filters))}"


def _listed(api: RawApi, prefix: str, **filters: list[str]) -> list[str]:
    answer = api("GET", f"/networks?{_filtered(**filters)}")
    assert answer.status == 200, answer.body
    return sorted(network["Name"] for network in answer.json if network["Name"].startswith(prefix))


def test_a_network_is_made_as_it_was_asked_for(lab: Lab, api: RawApi) -> None:
    name = lab.network(
        "full",
        Driver="bridge",
        Attachable=True,
        Internal=True,
        Labels={"tier": "back", "empty": ""},
        Options={"com.docker.network.driver.mtu": "1400", "com.docker.network.bridge.enable_icc": "false"},
        IPAM={
            "Driver": "default",
            "Options": {"an": "option"},
            "Config": [
                {
                    "Subnet": "10.231.1.0/24",
                    "IPRange": "10.231.1.128/25",
                    "Gateway": "10.231.1.254",
                    "AuxiliaryAddresses": {"router": "10.231.1.200"},
                }
            ],
        },
    )
    found = api("GET", f"/networks/{name}").json
    network_id, created = found.pop("Id"), found.pop("Created")
    assert len(network_id) == 64
    assert created.startswith("20")
    assert found == {
        "Name": name,
        "Scope": "local",
        "Driver": "bridge",
        "EnableIPv4": True,
        "EnableIPv6": False,
        "IPAM": {
            "Driver": "default",
            "Options": {"an": "option"},
            "Config": [
                {
                    "Subnet": "10.231.1.0/24",
                    "IPRange": "10.231.1.128/25",
                    "Gateway": "10.231.1.254",
                    "AuxiliaryAddresses": {"router": "10.231.1.200"},
                }
            ],
        },
        "Internal": True,
        "Attachable": True,
        "Ingress": False,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": False,
        "Containers": {},
        "Options": {"com.docker.network.driver.mtu": "1400", "com.docker.network.bridge.enable_icc": "false"},
        "Labels": {"tier": "back", "empty": ""},
    }
    for ref in (network_id, network_id[:12], network_id[:5], name):
        assert api("GET", f"/networks/{ref}").json["Id"] == network_id
    assert api("GET", f"/networks/{name}?scope=local").status == 200
    answer = api("GET", f"/networks/{name}?scope=swarm")
    assert (answer.status, answer.message) == (404, f"network {name} not found")
    (listed,) = (network for network in api("GET", "/networks").json if network["Name"] == name)
    assert listed == api("GET", f"/networks/{name}").json


def test_what_is_left_open_is_chosen(lab: Lab, api: RawApi) -> None:
    names = [lab.network(word) for word in "abc"]
    subnets = []
    for name in names:
        found = api("GET", f"/networks/{name}").json
        (config,) = found["IPAM"]["Config"]
        assert set(config) == {"Subnet", "Gateway"}
        subnets.append(ip_network(config["Subnet"]))
        assert ip_interface(config["Gateway"]).ip == next(iter(subnets[-1].hosts()))
        assert (found["Driver"], found["Options"], found["Labels"]) == ("bridge", {}, {})
        assert (found["Internal"], found["Attachable"], found["EnableIPv6"]) == (False, False, False)
    assert not any(one.overlaps(other) for one in subnets for other in subnets if one is not other)
    both = lab.network("both", EnableIPv6=True)
    config = api("GET", f"/networks/{both}").json["IPAM"]["Config"]
    assert sorted(ip_network(entry["Subnet"]).version for entry in config) == [4, 6]
    given = lab.network("given", EnableIPv6=True, IPAM={"Config": [{"Subnet": SUBNET.format(9)}, {"Subnet": "fd00:231:9::/64"}]})
    found = api("GET", f"/networks/{given}").json
    assert found["EnableIPv6"]
    assert [entry["Subnet"] for entry in found["IPAM"]["Config"]] == [SUBNET.format(9), "fd00:231:9::/64"]


@pytest.fixture(name="taken")
def _taken(lab: Lab) -> str:
    return lab.network("taken", IPAM={"Config": [{"Subnet": SUBNET.format(4)}]})


_PLAIN = "invalid network config:\n"


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"Name": ""}, 400, "invalid name: name is empty"),
        ({}, 400, "invalid name: name is empty"),
        ({"Name": "bridge"}, 403, "operation is not permitted on predefined bridge network"),
        ({"Name": "none"}, 403, "operation is not permitted on predefined none network"),
        ({"Name": "default"}, 403, "operation is not permitted on predefined default network"),
        ({"Driver": "nosuch"}, 404, 'plugin "nosuch" not found'),
        ({"Driver": "host"}, 403, 'only one instance of "host" network is allowed'),
        ({"Driver": "null"}, 403, 'only one instance of "null" network is allowed'),
        ({"IPAM": {"Driver": "nosuch"}}, 404, 'plugin "nosuch" not found'),
        ({"Subnet": "nonsense"}, 400, _PLAIN + "invalid subnet nonsense: invalid CIDR block notation"),
        ({"Subnet": "10.231.5.5/24"}, 400, _PLAIN + "invalid subnet 10.231.5.5/24: it should be 10.231.5.0/24"),
        (
            {"Subnet": SUBNET.format(5), "Gateway": "10.98.0.1"},
            400,
            _PLAIN + "invalid gateway 10.98.0.1: parent subnet 10.231.5.0/24 doesn't contain this address",
        ),
        ({"Subnet": SUBNET.format(5), "Gateway": "x"}, 400, _PLAIN + "invalid gateway x: invalid address"),
        (
            {"Subnet": SUBNET.format(5), "IPRange": "10.98.0.0/25"},
            400,
            _PLAIN + "invalid ip-range 10.98.0.0/25: parent subnet 10.231.5.0/24 doesn't contain ip-range",
        ),
        ({"Gateway": "10.231.5.1"}, 400, _PLAIN + "invalid subnet : invalid CIDR block notation"),
        (
            {"Subnet": SUBNET.format(5), "AuxiliaryAddresses": {"x": "10.98.0.1"}},
            400,
            _PLAIN + "invalid auxiliary address x: parent subnet 10.231.5.0/24 doesn't contain this address",
        ),
        ({"Subnet": "10.231.4.0/25"}, 403, "invalid pool request: Pool overlaps with other one on this address space"),
        (
            {"Options": {"com.docker.network.bridge.enable_icc": "maybe"}},
            400,
            "failed to parse com.docker.network.bridge.enable_icc value: maybe "
            '(strconv.ParseBool: parsing "maybe": invalid syntax)',
        ),
        (
            {"Options": {"com.docker.network.driver.mtu": "x"}},
            400,
            'failed to parse com.docker.network.driver.mtu value: x (strconv.Atoi: parsing "x": invalid syntax)',
        ),
    ],
)
@pytest.mark.usefixtures("taken")
def test_what_makes_no_network_is_refused(lab: Lab, api: RawApi, body: dict[str, Any], status: int, words: str) -> None:
    name = lab.name("bad")
    addresses = {key: body[key] for key in ("Subnet", "Gateway", "IPRange", "AuxiliaryAddresses") if key in body}
    document = {key: value for key, value in body.items() if key not in addresses}
    if addresses:
        document["IPAM"] = {"Config": [addresses]}
    if body and "Name" not in body:
        document["Name"] = name
    answer = api("POST", "/networks/create", document)
    assert (answer.status, answer.message.strip()) == (status, words)
    assert api("GET", f"/networks/{name}").status == 404


def test_two_networks_have_no_name_in_common(lab: Lab, api: RawApi) -> None:
    name = lab.network("one")
    answer = api("POST", "/networks/create", {"Name": name})
    assert (answer.status, answer.message) == (409, f"network with name {name} already exists")
    two = api(
        "POST", "/networks/create", {"Name": name, "IPAM": {"Config": [{"Subnet": "10.231.6.0/24"}, {"Subnet": "10.231.7.0/24"}]}}
    )
    assert two.status in (403, 409)


def test_networks_are_chosen_by_filters(lab: Lab, api: RawApi) -> None:
    red = lab.network("red", Labels={"colour": "red"})
    blue = lab.network("blue", Labels={"colour": "blue"}, Internal=True)
    prefix, network_id = lab.name(""), api("GET", f"/networks/{red}").json["Id"]
    everything = sorted([red, blue])
    for filters, wanted in (
        ({"name": [red]}, [red]),
        ({"name": [prefix]}, everything),
        ({"name": [f"^{blue}$"]}, [blue]),
        ({"id": [network_id[:10]]}, [red]),
        ({"label": ["colour"]}, everything),
        ({"label": ["colour=blue"]}, [blue]),
        ({"label": ["colour=green"]}, []),
        ({"driver": ["bridge"]}, everything),
        ({"driver": ["macvlan"]}, []),
        ({"scope": ["local"]}, everything),
        ({"scope": ["swarm"]}, []),
        ({"type": ["custom"]}, everything),
        ({"type": ["builtin"]}, []),
        ({"dangling": ["true"]}, everything),
        ({"dangling": ["false"]}, []),
        ({"type": ["custom"], "label": ["colour=red"]}, [red]),
    ):
        assert _listed(api, prefix, **filters) == wanted, filters
    assert _listed(api, "", type=["builtin"]) == ["bridge", "host", "none"]
    for filters, status, words in (
        ({"nosuch": ["x"]}, 400, "invalid filter 'nosuch'"),
        ({"dangling": ["x"]}, 400, 'invalid value for filter \'dangling\', must be "true" (or "1"), or "false" (or "0")'),
    ):
        answer = api("GET", f"/networks?{_filtered(**filters)}")
        assert (answer.status, answer.message) == (status, words)


def test_networks_are_removed_and_pruned(lab: Lab, api: RawApi) -> None:
    one, kept, used = lab.network("one"), lab.network("kept", Labels={"keep": ""}), lab.network("used")
    lab.joined("c", used)
    began = time.time()
    for ref, status, words in (
        ("nosuch", 404, "network nosuch not found"),
        ("bridge", 403, "bridge is a pre-defined network and cannot be removed"),
        ("none", 403, "none is a pre-defined network and cannot be removed"),
    ):
        answer = api("DELETE", f"/networks/{ref}")
        assert (answer.status, answer.message) == (status, words)
    inspected = api("GET", f"/networks/{used}").json
    container = lab.inspect(lab.name("c"))
    answer = api("DELETE", f"/networks/{used}")
    assert answer.status == 403
    assert answer.message == (
        f"error while removing network: network {used} has active endpoints "
        f'(name:"{lab.name("c")}" id:"{container["NetworkSettings"]["Networks"][used]["EndpointID"][:12]}")'
    )
    assert api("POST", f"/networks/prune?{_filtered(x=['y'])}").message == "invalid filter 'x'"
    removed = api("POST", f"/networks/prune?{_filtered(**{'label!': ['keep'], 'until': ['1h']})}").json
    assert one not in (removed["NetworksDeleted"] or ()), "it isn't as old as that"
    removed = api("POST", f"/networks/prune?{_filtered(**{'label!': ['keep']})}").json["NetworksDeleted"]
    assert one in removed
    assert not {kept, used, "bridge", "host", "none"} & set(removed)
    assert api("DELETE", f"/networks/{kept}").status == 204
    assert api("GET", f"/networks/{kept}").status == 404
    # One that only a stopped container wants is not in use.
    lab.stop(lab.name("c"))
    assert api("DELETE", f"/networks/{inspected['Id']}").status == 204
    answer = api("POST", f"/containers/{lab.name('c')}/start")
    assert answer.status == 404
    assert answer.message == f"failed to set up container networking: network {inspected['Id']} not found"

    told = [json.loads(line) for line in api("GET", f"/events?since={began:.9f}&until={time.time():.9f}").body.splitlines()]
    actions = {
        event["Actor"]["Attributes"].get("name"): event["Action"]
        for event in told
        if event["Type"] == "network" and event["Action"] in ("destroy", "remove", "prune")
    }
    assert actions[one] == actions[kept] == actions[used] == "destroy"
    assert actions[None] == "prune"
