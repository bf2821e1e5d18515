"""Published ports: the forms in which they are asked for, who reaches them, and who can't have them."""

from __future__ import annotations

import contextlib
import secrets
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from api.containers.conftest import RawApi
from api.networks.conftest import Lab

Bindings = dict[str, list[dict[str, str]] | None]


def _published(bindings: Bindings, **more: Any) -> dict[str, Any]:
    """Like Docker's command line: what is published is exposed."""
    return {"ExposedPorts": {port: {} for port in bindings}, "HostConfig": {"PortBindings": bindings, **more}}


def _free(count: int = 1) -> int:
    """The first of some neighbouring ports that nobody holds, below those that are chosen when any will do."""
    while True:
        first = 20_000 + secrets.randbelow(12_000)
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            for port in range(first, first + count):
                stack.enter_context(socket.create_server(("", port)))
            return first


def _says(address: str, port: int) -> str:
    """What answers at an address of this machine; empty when nothing does."""
    try:
        with socket.create_connection((address, port), timeout=5) as connection:
            return connection.makefile().readline().strip()
    except OSError:
        return ""


@pytest.fixture(name="held")
def _held() -> Iterator[int]:
    """A port that a process of this machine listens on."""
    with socket.create_server(("", 0)) as server:
        yield server.getsockname()[1]


def _host_ports(lab: Lab, name: str, port: str) -> list[tuple[str, int]]:
    bindings = lab.inspect(name)["NetworkSettings"]["Ports"][port]
    return [(binding["HostIp"], int(binding["HostPort"])) for binding in bindings or ()]


def test_ports_are_asked_for_in_many_forms(lab: Lab, api: RawApi, until: Callable[..., Any]) -> None:
    first = _free(5)
    name = lab.start(
        "web",
        lab.serve(80, "eighty"),
        **_published(
            {
                "80/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(first)}, {"HostPort": f"{first + 1}-{first + 2}"}],
                "81": [{"HostIp": "", "HostPort": ""}],
                "82/tcp": [{"HostIp": "0.0.0.0", "HostPort": "0"}],
                "83/tcp": [{"HostIp": "::1", "HostPort": str(first + 3)}],
                "84/udp": [{"HostPort": str(first + 4)}],
                "85/tcp": [],
                "86/tcp": None,
            }
        ),
    )
    ports = lab.inspect(name)["NetworkSettings"]["Ports"]
    assert set(ports) == {"80/tcp", "81/tcp", "82/tcp", "83/tcp", "84/udp", "85/tcp", "86/tcp"}
    assert ports["80/tcp"] == [
        {"HostIp": "127.0.0.1", "HostPort": str(first)},
        {"HostIp": "0.0.0.0", "HostPort": str(first + 1)},
        {"HostIp": "::", "HostPort": str(first + 1)},
    ]
    assert [host for host, _ in _host_ports(lab, name, "81/tcp")] == ["0.0.0.0", "::"]
    assert len({port for _, port in _host_ports(lab, name, "81/tcp")}) == 1, "one port for both families"
    assert [host for host, _ in _host_ports(lab, name, "82/tcp")] == ["0.0.0.0"]
    assert _host_ports(lab, name, "83/tcp") == [("::1", first + 3)]
    assert _host_ports(lab, name, "84/udp") == [("0.0.0.0", first + 4), ("::", first + 4)]
    assert not ports["85/tcp"]
    assert not ports["86/tcp"]
    until(lambda: _says("127.0.0.1", first) == "eighty")
    until(lambda: _says("127.0.0.1", first + 1) == "eighty")
    until(lambda: _says("::1", first + 1) == "eighty")
    assert _says("::1", first) == "", "published on 127.0.0.1 only"

    (summary,) = (found for found in api("GET", "/containers/json").json if f"/{name}" in found["Names"])
    assert {"IP": "127.0.0.1", "PrivatePort": 80, "PublicPort": first, "Type": "tcp"} in summary["Ports"]
    assert {"PrivatePort": 86, "Type": "tcp"} in summary["Ports"]

    # The next container gets what is left of the range; the one after it nothing.
    second = lab.start("second", **_published({"80/tcp": [{"HostPort": f"{first + 1}-{first + 2}"}]}))
    assert _host_ports(lab, second, "80/tcp")[0] == ("0.0.0.0", first + 2)
    assert lab.create("third", **_published({"80/tcp": [{"HostPort": f"{first + 1}-{first + 2}"}]})).status == 201
    answer = api("POST", f"/containers/{lab.name('third')}/start")
    assert answer.status == 500
    assert "port" in answer.message

    # What is stopped holds no port.
    lab.stop(name)
    assert lab.inspect(name)["NetworkSettings"]["Ports"] == {}
    assert lab.inspect(name)["HostConfig"]["PortBindings"]["81"] == [{"HostIp": "", "HostPort": ""}]
    with socket.create_server(("127.0.0.1", first)):
        answer = api("POST", f"/containers/{name}/start")
        assert answer.status == 500
    assert api("POST", f"/containers/{name}/start").status == 204


def test_a_port_that_somebody_has_is_refused(lab: Lab, api: RawApi, held: int) -> None:
    port = _free()
    owner = lab.start("owner", **_published({"80/tcp": [{"HostPort": str(port)}]}))
    for number, bindings in enumerate(
        (
            {"80/tcp": [{"HostPort": str(port)}]},
            {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(port)}]},
            {"80/tcp": [{"HostPort": str(held)}]},
            {"80/tcp": [{"HostPort": str(port)}, {"HostPort": str(port)}]},
        )
    ):
        word = f"late{number}"
        assert lab.create(word, **_published(bindings)).status == 201, "Docker looks at the start"
        answer = api("POST", f"/containers/{lab.name(word)}/start")
        assert answer.status == 500, bindings
        assert str(held if number == 2 else port) in answer.message
        assert "already" in answer.message
        found = lab.inspect(lab.name(word))
        assert (found["State"]["Status"], found["State"]["ExitCode"]) == ("created", 128)
        assert found["NetworkSettings"]["Ports"] == {}
    # Other protocols, and addresses that nobody holds, are other ports.
    other = lab.start("udp", **_published({"80/udp": [{"HostPort": str(port)}]}))
    assert _host_ports(lab, other, "80/udp")[0] == ("0.0.0.0", port)
    assert api("DELETE", f"/containers/{owner}?force=1").status == 204
    assert api("POST", f"/containers/{lab.name('late0')}/start").status == 204


@pytest.mark.parametrize(
    ("port", "binding", "words"),
    [
        ("80/tcp", {"HostPort": "nonsense"}, "nonsense"),
        ("80/tcp", {"HostPort": "70000"}, "70000"),
        ("80/tcp", {"HostPort": "20-10"}, "20-10"),
        ("x/tcp", {"HostPort": "80"}, "x"),
    ],
)
def test_what_is_no_port_is_refused(lab: Lab, port: str, binding: dict[str, str], words: str) -> None:
    answer = lab.create("bad", HostConfig={"PortBindings": {port: [binding]}})
    assert answer.status == 400
    assert words in answer.message


def test_all_exposed_ports_are_published_on_request(lab: Lab, until: Callable[..., Any]) -> None:
    network = lab.network("net")
    port = _free()
    name = lab.joined(
        "all",
        network,
        lab.serve(80, "eighty"),
        ExposedPorts={"80/tcp": {}, "81/udp": {}, "90/tcp": {}},
        HostConfig={"PublishAllPorts": True, "PortBindings": {"90/tcp": [{"HostPort": str(port)}]}},
    )
    chosen = _host_ports(lab, name, "80/tcp")
    assert [host for host, _ in chosen] == ["0.0.0.0", "::"]
    assert [host for host, _ in _host_ports(lab, name, "81/udp")] == ["0.0.0.0", "::"]
    assert [found for _, found in _host_ports(lab, name, "90/tcp")] == [port, port]
    until(lambda: _says("127.0.0.1", chosen[0][1]) == "eighty")
    until(lambda: _says("::1", chosen[1][1]) == "eighty")


@pytest.mark.needs("root engine")  # an ordinary user's publishes on the machine, which is not where the bridges are
def test_containers_reach_published_ports_through_the_host(lab: Lab, api: RawApi) -> None:
    one, two = lab.network("one"), lab.network("two")
    port = _free(2)
    server = lab.joined("server", one, lab.serve(80, "user"), **_published({"80/tcp": [{"HostPort": str(port)}]}))
    plain = lab.start("plain", lab.serve(80, "plain"), **_published({"80/tcp": [{"HostPort": str(port + 1)}]}))
    neighbour, stranger = lab.joined("neighbour", one), lab.joined("stranger", two)
    gateways = {
        name: lab.endpoint(name, network)["Gateway"] for name, network in ((neighbour, one), (stranger, two), (server, one))
    }
    gateways[plain] = lab.endpoint(plain, "bridge")["Gateway"]
    for source in (neighbour, stranger, server, plain):
        lab.eventually_reaches(source, gateways[source], port, "user")
        lab.eventually_reaches(source, gateways[source], port + 1, "plain")
    assert not lab.reaches(stranger, lab.address(server, one), 80), "the container's own address stays out of reach"
    # What is published goes with the network that carries the default route.
    assert api("POST", f"/networks/{two}/connect", {"Container": server}).status == 200
    assert api("POST", f"/networks/{one}/disconnect", {"Container": server}).status == 200
    assert _host_ports(lab, server, "80/tcp")[0] == ("0.0.0.0", port)
    lab.eventually_reaches(stranger, gateways[stranger], port, "user")
    assert api("POST", f"/networks/{two}/disconnect", {"Container": server}).status == 200
    assert not any(lab.inspect(server)["NetworkSettings"]["Ports"].values())
    assert _says("127.0.0.1", port) == ""


def test_ports_of_internal_networks_and_of_the_hosts_network(lab: Lab) -> None:
    inner = lab.network("inner", Internal=True)
    port = _free()
    name = lab.joined("c", inner, **_published({"80/tcp": [{"HostPort": str(port)}]}))
    assert _says("127.0.0.1", port) == ""
    assert not lab.inspect(name)["NetworkSettings"]["Ports"].get("80/tcp")
    answer = lab.create("host", HostConfig={"NetworkMode": "host", "PortBindings": {"80/tcp": [{"HostPort": str(port)}]}})
    assert answer.status == 201
    assert answer.json["Warnings"] == ["Published ports are discarded when using host network mode"]
