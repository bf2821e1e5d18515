"""Published ports: the forms in which they are asked for, who reaches them, and who can't have them."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import secrets
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from api.containers.conftest import RawApi
from api.networks.conftest import Lab
from support.listening import line_from

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
            }
        ),
    )
    ports = lab.inspect(name)["NetworkSettings"]["Ports"]
    # Docker lists what has no binding only sometimes.
    assert set(ports) | {"85/tcp"} == {"80/tcp", "81/tcp", "82/tcp", "83/tcp", "84/udp", "85/tcp"}
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
    assert not ports.get("85/tcp")
    until(lambda: line_from("127.0.0.1", first) == "eighty")
    until(lambda: line_from("127.0.0.1", first + 1) == "eighty")
    until(lambda: line_from("::1", first + 1) == "eighty")
    assert line_from("::1", first) == "", "published on 127.0.0.1 only"

    (summary,) = (found for found in api("GET", "/containers/json").json if f"/{name}" in found["Names"])
    assert {"IP": "127.0.0.1", "PrivatePort": 80, "PublicPort": first, "Type": "tcp"} in summary["Ports"]

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


def _refusal(lab: Lab, api: RawApi, word: str, bindings: Bindings) -> str:
    """Why a container can't have its ports: what comes after the endpoint in the message."""
    if lab.create(word, **_published(bindings)).status == 409:
        assert api("DELETE", f"/containers/{lab.name(word)}").status == 204
        assert lab.create(word, **_published(bindings)).status == 201
    answer = api("POST", f"/containers/{lab.name(word)}/start")
    assert answer.status == 500
    assert lab.inspect(lab.name(word))["State"]["Error"] == answer.message
    prefix = "failed to set up container networking: driver failed programming external connectivity on endpoint"
    found = re.fullmatch(rf"{prefix} {lab.name(word)} \([0-9a-f]{{64}}\): (.*)", answer.message)
    assert found is not None, answer.message
    return found[1]


def test_a_conflict_is_told_in_dockers_words(lab: Lab, api: RawApi, held: int) -> None:
    first = _free(2)
    lab.start(
        "owner", **_published({"80/tcp": [{"HostPort": str(first)}], "81/tcp": [{"HostIp": "::1", "HostPort": str(first + 1)}]})
    )
    container, process = r"(?: \(container .*owner\))?", r"(?: \((?:process .*, pid \d+|a process of user \w+)\))?"
    taken, bind = f"failed: port is already allocated{container}", "failed to bind host port for"
    for address, port, words in (
        ("", first, rf"Bind for 0\.0\.0\.0:{first} {taken}"),
        ("127.0.0.1", first, rf"Bind for 0\.0\.0\.0:{first} {taken}"),
        ("::1", first, rf"Bind for :::{first} {taken}"),
        ("", first + 1, rf"Bind for ::1:{first + 1} {taken}"),
        ("127.0.0.1", held, rf"{bind} 127\.0\.0\.1:{held}:[0-9.]+:80/tcp: address already in use{process}"),
        ("192.0.2.77", first + 2, rf"{bind} 192\.0\.2\.77:{first + 2}:[0-9.]+:80/tcp: cannot assign requested address"),
    ):
        message = _refusal(lab, api, "late", {"80/tcp": [{"HostIp": address, "HostPort": str(port)}]})
        assert re.fullmatch(words, message), message
    both = [{"HostIp": "127.0.0.1", "HostPort": f"{first}-{first}"}]
    assert "port is already allocated" in _refusal(lab, api, "late", {"80/tcp": both})
    lab.start("next", **_published({"80/tcp": [{"HostPort": f"{first}-{first + 2}"}]}))
    assert _refusal(lab, api, "late", {"80/tcp": [{"HostPort": f"{first}-{first + 1}"}]}) == "all ports are allocated"


@pytest.mark.kitepy
def test_whoever_has_a_port_is_named(lab: Lab, api: RawApi, held: int) -> None:
    port = _free()
    owner = lab.start("owner", **_published({"80/tcp": [{"HostPort": str(port)}]}))
    assert _refusal(lab, api, "late", {"80/tcp": [{"HostPort": str(port)}]}).endswith(f" (container {owner})")
    name = Path("/proc/self/comm").read_text().strip()
    ours = f"process {name}, pid {os.getpid()}"
    if os.environ.get("KITEPY_TEST_MODE") == "rootless":  # an ordinary user can't look into our descriptors
        ours = f"a process of user {pwd.getpwuid(os.geteuid()).pw_name}"
    assert _refusal(lab, api, "late", {"80/tcp": [{"HostPort": str(held)}]}).endswith(f" ({ours})")


@pytest.mark.kitepy
def test_an_address_that_is_none_opens_no_port_to_the_world(lab: Lab, api: RawApi) -> None:
    """Docker takes what it can't read for every address."""
    port = str(_free())
    assert lab.create("c", **_published({"80/tcp": [{"HostIp": "localhost", "HostPort": port}]})).status == 201
    answer = api("POST", f"/containers/{lab.name('c')}/start")
    assert (answer.status, answer.message.partition(": ")[2]) == (400, "invalid IP address: localhost")
    bracketed = lab.start("d", **_published({"80/tcp": [{"HostIp": "[::1]", "HostPort": port}]}))
    assert _host_ports(lab, bracketed, "80/tcp") == [("::1", int(port))]


def test_bindings_are_ordered_and_share_numbers(lab: Lab) -> None:
    first = _free(4)
    name = lab.start(
        "web",
        ExposedPorts={port: {} for port in ("80/tcp", "81/tcp", "82/tcp", "83/tcp", "84/udp")},
        HostConfig={
            "PortBindings": {
                "80/tcp": [
                    {"HostIp": "127.0.0.3", "HostPort": str(first + 2)},
                    {"HostIp": "::ffff:127.0.0.1", "HostPort": str(first + 1)},
                    {"HostIp": "::1", "HostPort": str(first)},
                ],
                "81/tcp": [{"HostIp": "::", "HostPort": str(first + 3)}, {"HostIp": "0.0.0.0", "HostPort": str(first + 3)}],
                "82/tcp": [{"HostIp": "127.0.0.1"}, {"HostIp": "::1"}, {"HostIp": "127.0.0.2"}],
                "99/tcp": [{"HostPort": str(first)}],
            }
        },
    )
    assert _host_ports(lab, name, "80/tcp") == [("::1", first), ("127.0.0.1", first + 1), ("127.0.0.3", first + 2)]
    assert _host_ports(lab, name, "81/tcp") == [("0.0.0.0", first + 3), ("::", first + 3)]
    chosen = _host_ports(lab, name, "82/tcp")
    assert [address for address, _ in chosen] == ["127.0.0.1", "127.0.0.2", "::1"]
    assert len({port for _, port in chosen}) == 1
    ports = lab.inspect(name)["NetworkSettings"]["Ports"]
    assert {port: ports[port] for port in ("83/tcp", "84/udp")} == {"83/tcp": None, "84/udp": None}
    assert "99/tcp" not in ports, "what isn't exposed isn't published"


def test_a_container_may_publish_hundreds_of_ports(lab: Lab, until: Callable[..., Any]) -> None:
    count = 40 if os.environ.get("KITEPY_TEST_PEER") else 300  # a proxy for each takes dockerd very long
    first = _free(count)
    bindings: Bindings = {f"{1000 + at}/tcp": [{"HostPort": str(first + at)}] for at in range(count)}
    name = lab.start("many", lab.serve(1000 + count - 1, "last"), **_published(bindings))
    assert len(lab.inspect(name)["NetworkSettings"]["Ports"]) == count
    until(lambda: line_from("127.0.0.1", first + count - 1) == "last")
    until(lambda: line_from("::1", first + count - 1) == "last")
    lab.stop(name)
    with socket.create_server(("", first + count - 1)):
        assert line_from("127.0.0.1", first) == ""


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
    until(lambda: line_from("127.0.0.1", chosen[0][1]) == "eighty")
    until(lambda: line_from("::1", chosen[1][1]) == "eighty")


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
    assert line_from("127.0.0.1", port) == ""


def test_ports_of_internal_networks_and_of_the_hosts_network(lab: Lab) -> None:
    inner = lab.network("inner", Internal=True)
    port = _free()
    name = lab.joined("c", inner, **_published({"80/tcp": [{"HostPort": str(port)}]}))
    assert line_from("127.0.0.1", port) == ""
    assert not lab.inspect(name)["NetworkSettings"]["Ports"].get("80/tcp")
    answer = lab.create("host", HostConfig={"NetworkMode": "host", "PortBindings": {"80/tcp": [{"HostPort": str(port)}]}})
    assert answer.status == 201
    assert answer.json["Warnings"] == ["Published ports are discarded when using host network mode"]
