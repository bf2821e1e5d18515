"""Networks when the engine dies or starts fail: containers go on and are taken over, and nothing is left that has no owner."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from api.networks.conftest import Lab
from support.engine import EngineUnderTest
from support.images import load_busybox

from kitepy.engine.kernel.netlink import RouteSocket
from kitepy.engine.network.naming import kernel_names

pytestmark = [pytest.mark.root, pytest.mark.kitepy, pytest.mark.needs("root engine")]


class Traces:
    """What an engine's networks consist of on this machine, whoever else is at work here."""

    def __init__(self, engine: EngineUnderTest) -> None:
        self._engine = engine
        self._names = kernel_names(engine.data_root)

    def found(self) -> dict[str, Any]:
        with RouteSocket() as host:
            links = {
                link.index: link
                for link in host.links()
                if link.name.startswith(self._names.veth_prefix) or link.alias.startswith(f"kitepy/{self._names.tag}/")
            }
            routes = sum(route.index in links for route in host.routes())
        pairs = [link for link in links.values() if link.kind == "veth"]
        rules = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout
        processes = sum(self._serves(entry) for entry in Path("/proc").iterdir() if entry.name.isdecimal())
        return {
            "plugged pairs": sum(bool(link.master) for link in pairs),
            "spare pairs": sum(not link.master for link in pairs),
            "bridges": sorted(link.name for link in links.values() if link.kind == "bridge"),
            "routes": routes,
            "rules": sum(self._names.bridge in line or "br-" in line for line in rules.splitlines()),
            "processes that serve ports and names": processes,
        }

    def _serves(self, process: Path) -> bool:
        try:
            return os.fsencode(self._engine.exec_root) + b"/re" in (process / "cmdline").read_bytes()
        except OSError:
            return False  # it ended meanwhile

    def settle(self, wanted: dict[str, Any]) -> None:
        """Wait until there is exactly this."""
        deadline = time.monotonic() + 15
        while (found := self.found()) != wanted:
            assert time.monotonic() < deadline, [(key, found[key], wanted[key]) for key in wanted if found[key] != wanted[key]]
            time.sleep(0.05)

    def at_rest(self) -> dict[str, Any]:
        """What there is when the pools are full and nothing is being removed any more."""
        found, since = self.found(), time.monotonic()
        while time.monotonic() - since < 0.3:
            time.sleep(0.05)
            if (now := self.found()) != found:
                found, since = now, time.monotonic()
        return found


@pytest.fixture(name="engine")
def _engine() -> Iterator[EngineUnderTest]:
    with EngineUnderTest() as engine:
        yield engine


@pytest.fixture(name="busybox")
def _busybox(engine: EngineUnderTest) -> Iterator[str]:
    client = engine.docker()
    yield load_busybox(client)
    client.close()


@pytest.fixture(name="client")
def _client(engine: EngineUnderTest) -> Iterator[Any]:
    client = engine.docker()
    yield client
    client.close()


def publish(port: int, host_port: str = "", **host: Any) -> dict[str, Any]:
    """The fields of a create request for that."""
    bindings = {f"{port}/tcp": [{"HostPort": host_port}]}
    return {"ExposedPorts": {f"{port}/tcp": {}}, "HostConfig": {"PortBindings": bindings, **host}}


def test_containers_keep_their_networks_when_the_engine_dies_and_nothing_is_left_in_the_end(
    engine: EngineUnderTest, lab: Lab, api: Any, until: Any
) -> None:
    traces = Traces(engine)
    # Once for all that is made once and kept: the processes that serve names and ports.
    first = lab.network("first")
    lab.joined("warm", first, **publish(80))
    api("DELETE", f"/containers/{lab.name('warm')}?force=1")
    before = traces.at_rest()

    second = lab.network("second")
    web = lab.joined("web", first, lab.serve(80, "web"), **publish(80))
    assert api("POST", f"/networks/{second}/connect", {"Container": web, "EndpointConfig": {"Aliases": ["shop"]}}).status == 200
    client = lab.joined("client", second)
    lab.eventually_reaches(client, "shop", 80, "web")
    seen = lab.inspect(web)["NetworkSettings"]
    host_port = seen["Ports"]["80/tcp"][0]["HostPort"]
    # A start that fails on the way takes nothing.
    failed = lab.create("failed", **publish(80, host_port, NetworkMode=second))
    assert failed.status == 201
    answer = api("POST", f"/containers/{lab.name('failed')}/start")
    assert (answer.status, "port is already allocated" in answer.message) == (500, True)
    missing = lab.create("missing", HostConfig={"NetworkMode": first}, Cmd=["/nowhere"])
    assert missing.status == 201
    assert api("POST", f"/containers/{lab.name('missing')}/start").status == 400
    running = traces.at_rest()

    engine.kill()
    # Without an engine names are answered and ports are served.
    published = subprocess.run(
        ["busybox", "nc", "-w", "2", "127.0.0.1", host_port], stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    assert published.stdout == b"web\n"
    engine.start()
    traces.settle(running)
    now = lab.inspect(web)["NetworkSettings"]
    assert (now["Networks"], now["Ports"]) == (seen["Networks"], seen["Ports"])
    assert lab.lookup(client, "shop") == [seen["Networks"][second]["IPAddress"]]
    lab.eventually_reaches(client, "shop", 80, "web")
    # Taken over means that all goes on as before.
    assert api("POST", f"/networks/{first}/disconnect", {"Container": web}).status == 200
    assert lab.inspect(web)["NetworkSettings"]["Ports"] == seen["Ports"]
    assert api("POST", f"/networks/{first}/connect", {"Container": web}).status == 200
    assert lab.sh(web, "ip route").startswith(f"default via {seen['Networks'][first]['Gateway']} dev eth0")

    engine.kill()
    # A container that ends while no engine runs leaves an interface, an address and a port behind.
    os.kill(int(seen["SandboxKey"].split("/")[2]), 9)
    engine.start()
    until(lambda: not lab.inspect(web)["State"]["Running"])
    again = lab.joined("again", first, **publish(80, host_port))
    assert lab.endpoint(again, first)["IPAddress"] == seen["Networks"][first]["IPAddress"]
    for word in ("again", "web", "client", "failed", "missing"):
        assert api("DELETE", f"/containers/{lab.name(word)}?force=1").status == 204
    assert api("DELETE", f"/networks/{second}").status == 204
    traces.settle(before)
