"""What a container has of its networks: its files, interfaces and documents, joining, leaving, and over an engine's end."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from api.containers.conftest import RawApi
from support.engine import EngineUnderTest
from support.images import load_busybox

from .conftest import Lab

_OWN = r"(?m)^([0-9a-f.:]+)\t{name}$"


def own_addresses(lab: Lab, name: str) -> list[str]:
    """The addresses by which a container's hosts file knows the container itself."""
    host_name = lab.inspect(name)["Config"]["Hostname"]
    return re.findall(_OWN.format(name=host_name), lab.sh(name, "cat /etc/hosts"))


def test_files_follow_the_networks_and_keep_what_their_user_wrote(lab: Lab, api: RawApi) -> None:
    network, other = lab.network("a"), lab.network("b", EnableIPv6=True)
    box = lab.start("box")
    lab.sh(box, "echo '10.9.9.9 mine' >> /etc/hosts")
    assert "nameserver 127.0.0.11" not in lab.sh(box, "cat /etc/resolv.conf")
    for name in (network, other):
        assert api("POST", f"/networks/{name}/connect", {"Container": box}).status == 200
    shown = lab.inspect(box)["NetworkSettings"]["Networks"]
    addresses = [shown["bridge"]["IPAddress"], shown[network]["IPAddress"]]
    addresses += [shown[other]["IPAddress"], shown[other]["GlobalIPv6Address"]]
    assert own_addresses(lab, box) == addresses
    resolv = lab.sh(box, "cat /etc/resolv.conf")
    assert "nameserver 127.0.0.11\n" in resolv
    assert "options ndots:0\n" in resolv
    for name in ("bridge", network, other):
        assert api("POST", f"/networks/{name}/disconnect", {"Container": box}).status == 200
    assert own_addresses(lab, box) == []
    assert "10.9.9.9 mine" in lab.sh(box, "cat /etc/hosts")
    assert lab.sh(box, "cat /etc/resolv.conf") == resolv  # the engine answers, even if it knows nobody any more
    assert lab.sh(box, "ls /sys/class/net").split() == ["lo"]
    assert lab.inspect(box)["NetworkSettings"]["Networks"] == {}
    # A resolv.conf that its user changed is the user's.
    lab.sh(box, "echo nameserver 10.9.9.9 > /etc/resolv.conf")
    assert api("POST", f"/networks/{network}/connect", {"Container": box}).status == 200
    assert lab.sh(box, "cat /etc/resolv.conf") == "nameserver 10.9.9.9\n"


def test_a_network_is_known_by_its_id_once_it_was_joined(lab: Lab, api: RawApi) -> None:
    network = lab.network("a")
    box = lab.joined("box", network)
    network_id = lab.endpoint(box, network)["NetworkID"]
    lab.stop(box)
    stopped = lab.endpoint(box, network)
    assert (stopped["NetworkID"], stopped["IPAddress"], stopped["EndpointID"]) == (network_id, "", "")
    assert api("DELETE", f"/networks/{network}").status == 204  # nobody is there
    assert api("POST", "/networks/create", {"Name": network}).status == 201
    answer = api("POST", f"/containers/{box}/start")
    assert answer.status == 404
    assert answer.message == f"failed to set up container networking: network {network_id} not found"
    for action in ("disconnect", "connect"):
        assert api("POST", f"/networks/{network}/{action}", {"Container": box}).status == 200
    assert api("POST", f"/containers/{box}/start").status == 204


def test_the_network_of_another_container_is_shared_with_its_names(lab: Lab, api: RawApi) -> None:
    network = lab.network("a")
    donor = lab.joined("donor", network, Hostname="house")
    guest = lab.start("guest", HostConfig={"NetworkMode": f"container:{donor}"})
    inspected = lab.inspect(guest)
    assert inspected["HostConfig"]["NetworkMode"] == f"container:{lab.inspect(donor)['Id']}"
    settings = inspected["NetworkSettings"]
    assert (settings["Networks"], settings["SandboxID"], settings["Ports"]) == ({}, "", {})
    assert lab.sh(guest, "cat /etc/hosts /etc/hostname") == lab.sh(donor, "cat /etc/hosts /etc/hostname")
    assert lab.lookup(guest, donor) == [lab.address(donor, network)]
    answer = api("POST", f"/networks/{network}/connect", {"Container": guest})
    assert answer.status == 400
    assert "sharing network namespace with another container or host" in answer.message


def test_an_interface_has_the_name_and_the_parameters_that_were_wished_for(lab: Lab) -> None:
    network = lab.network("a")
    options = {
        "com.docker.network.endpoint.ifname": "lan7",
        "com.docker.network.endpoint.sysctls": "net.ipv4.conf.IFNAME.log_martians=1,net.ipv4.conf.IFNAME.forwarding=0",
    }
    box = lab.joined("box", network, Endpoint={"DriverOpts": options})
    assert set(lab.sh(box, "ls /sys/class/net").split()) == {"lan7", "lo"}
    parameters = "/proc/sys/net/ipv4/conf/lan7"
    assert lab.sh(box, f"cat {parameters}/log_martians {parameters}/forwarding").split() == ["1", "0"]
    assert lab.endpoint(box, network)["DriverOpts"] == options


def test_older_versions_show_networks_as_they_did(lab: Lab, api: RawApi) -> None:
    network = lab.network("a")
    box = lab.joined("box", network, Endpoint={"Aliases": ["also"]})
    short_id = lab.inspect(box)["Id"][:12]

    def aliases(version: str) -> Any:
        return api("GET", f"/containers/{box}/json", version=version).json["NetworkSettings"]["Networks"][network]["Aliases"]

    assert aliases("1.44") == ["also", short_id]
    assert aliases("1.45") == ["also"]

    def listed(version: str) -> Any:
        found = api("GET", f'/networks?filters={{"name":["^{network}$"]}}', version=version).json
        return [place["Name"] for place in found[0]["Containers"].values()]

    assert listed("1.27") == [box]
    assert listed("1.28") == []


# --- over an engine's end ---


@pytest.fixture(name="own_engine")
def _own_engine() -> Iterator[EngineUnderTest]:
    with EngineUnderTest() as engine:
        client = engine.docker()
        load_busybox(client)
        client.close()
        yield engine


@pytest.mark.usefixtures("engine")  # marks it as one for root
@pytest.mark.kitepy
def test_networks_outlive_engines(own_engine: EngineUnderTest, until: Any) -> None:
    api = RawApi(own_engine.socket)
    lab = Lab(api, until, "busybox")
    mine, inner = lab.network("mine", Labels={"a": "b"}), lab.network("inner", Internal=True)
    networks = api("GET", '/networks?filters={"type":["custom"]}').json
    policy = {"RestartPolicy": {"Name": "always"}}
    web = lab.joined("web", mine, HostConfig=policy, Endpoint={"Aliases": ["shop"]})
    asks = lab.joined("asks", mine, HostConfig=policy)
    assert api("POST", f"/networks/{inner}/connect", {"Container": web}).status == 200
    before = lab.inspect(web)["NetworkSettings"]

    own_engine.kill()
    own_engine.start()
    assert api("GET", '/networks?filters={"type":["custom"]}').json == networks
    assert lab.inspect(web)["NetworkSettings"] == before
    address = before["Networks"][mine]["IPAddress"]
    assert lab.lookup(asks, "shop") == [address]
    assert "1 packets received" in lab.sh(asks, f"ping -c 1 -W 2 {address}")
    answer = api("DELETE", f"/networks/{mine}")
    assert answer.status == 403
    assert f'name:"{web}"' in answer.message
    assert api("POST", f"/networks/{inner}/disconnect", {"Container": web}).status == 200
    assert api("DELETE", f"/networks/{inner}").status == 204

    own_engine.stop()
    own_engine.start()
    until(lambda: all(lab.inspect(name)["State"]["Running"] for name in (web, asks)))
    assert lab.lookup(asks, "shop") == [lab.address(web, mine)]
    assert list(lab.inspect(web)["NetworkSettings"]["Networks"]) == [mine]
