"""Containers on several networks: who reaches whom, what follows when networks come and go, and that nothing is left behind."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest
from support.private_netns import Place, eventually, run_in_private_netns, scratch_directory

from kitepy.engine.kernel.netlink import RouteSocket
from kitepy.engine.kernel.sysctl import read_sysctl
from kitepy.engine.model.errors import EngineError, Forbidden, NotFound, SystemFailure
from kitepy.engine.model.network import (
    Endpoint,
    EndpointRequest,
    NetworkDriver,
    NetworkRecord,
    PortRequest,
    SandboxRequest,
    SubnetConfig,
)
from kitepy.engine.network.default_bridge import BridgeSettings
from kitepy.engine.network.naming import kernel_names
from kitepy.engine.network.networks import Networks
from kitepy.engine.network.relay_process import RelayProcess
from kitepy.engine.network.resolver_process import ResolverProcess

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")]

NAMES = kernel_names(Path("/test/networks"))
FIRST, SECOND, CLOSED = "a1" * 32, "b2" * 32, "c3" * 32


def record(network_id: str, name: str, subnet: str = "", **more: object) -> NetworkRecord:
    subnets = (SubnetConfig(subnet),) if subnet else ()
    return NetworkRecord(network_id, name, NetworkDriver.BRIDGE, "", subnets, **more)  # type: ignore[arg-type]  # test shorthand


def make_networks(exec_root: Path, **settings: object) -> Networks:
    return Networks(
        NAMES,
        BridgeSettings(**settings),  # type: ignore[arg-type]  # test shorthand
        RelayProcess(exec_root),
        created="",
        resolver=ResolverProcess(exec_root),
    )


@asynccontextmanager
async def networks(**settings: object) -> AsyncIterator[Networks]:
    """With two networks of a user's, ``one`` and ``two``, and an internal one, ``closed``."""
    made = make_networks(scratch_directory(), **settings)
    await made.set_up()
    await made.create(record(FIRST, "one", "10.1.0.0/24"))
    await made.create(record(SECOND, "two", "10.2.0.0/24"))
    await made.create(record(CLOSED, "closed", "10.3.0.0/24", internal=True))
    try:
        yield made
    finally:
        await made.close()


async def start(
    made: Networks, name: str, *wishes: str | EndpointRequest, ports: tuple[PortRequest, ...] = ()
) -> tuple[Endpoint, ...]:
    found = tuple(EndpointRequest(wish, names=(name,)) if isinstance(wish, str) else wish for wish in wishes)
    return await made.start(SandboxRequest(name, name, found, ports))


def place(made: Networks, container_id: str) -> Place:
    return Place(made.netns_fd(container_id))


def addresses(where: Place) -> list[tuple[str, str]]:
    text = where.run("ip", "-o", "-4", "address", "show", "scope", "global").stdout
    return re.findall(r"^\d+: (\S+) +inet (\S+)", text, re.MULTILINE)


def default_route(where: Place, family: str = "-4") -> str:
    return " ".join(where.run("ip", family, "route", "show", "default").stdout.split()[:5])


def host_state() -> dict[str, object]:
    """What could leak: interfaces, routes, rules, processes, namespaces."""

    def lines(*command: str) -> list[str]:
        return sorted(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines())

    own = os.stat("/proc/thread-self/ns/net").st_ino
    processes = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                processes += os.stat(entry / "ns/net").st_ino == own
            except OSError:
                continue
    return {
        "links": [line.split(":")[1] for line in lines("ip", "-o", "link")],
        # A bridge learns a little later that it has no port any more.
        "routes": [line.replace(" linkdown", "") for line in lines("ip", "route", "show", "table", "all")],
        "rules": lines("nft", "list", "ruleset"),
        "processes": processes,
        "descriptors": len(os.listdir("/proc/self/fd")),
    }


def test_networks_are_worlds_of_their_own_and_a_container_may_live_in_several() -> None:
    async def scenario() -> None:
        async with networks() as made:
            (web,) = await start(made, "web", FIRST)
            (other,) = await start(made, "other", SECOND)
            both = await start(made, "both", FIRST, SECOND)
            assert [endpoint.address for endpoint in (web, other, *both)] == ["10.1.0.2", "10.2.0.2", "10.1.0.3", "10.2.0.3"]
            assert addresses(place(made, "both")) == [("eth0", "10.1.0.3/24"), ("eth1", "10.2.0.3/24")]
            servers = [await place(made, name).serve(name.encode()) for name in ("web", "other")]
            assert await place(made, "both").ask(web.address, 80) == b"web|10.1.0.3|hello"
            assert await place(made, "both").ask(other.address, 80) == b"other|10.2.0.3|hello"
            with pytest.raises(TimeoutError):
                await place(made, "web").ask(other.address, 80, timeout_s=0.5)
            for server in servers:
                server.close()
            assert sorted(endpoint.container_id for endpoint in made.endpoints(FIRST)) == ["both", "web"]

    run_in_private_netns(scenario)


def test_an_internal_network_reaches_only_itself_and_its_gateways_address() -> None:
    async def scenario() -> None:
        async with networks() as made:
            (inner,) = await start(made, "inner", CLOSED, ports=(PortRequest(80, host_port=(8080, 8080)),))
            await start(made, "neighbour", CLOSED)
            (outer,) = await start(made, "outer", FIRST)
            assert (inner.gateway, inner.ports, default_route(place(made, "inner"))) == ("", (), "")
            servers = [await place(made, name).serve(name.encode()) for name in ("inner", "outer")]
            assert (await place(made, "neighbour").ask(inner.address, 80)).startswith(b"inner|")
            assert place(made, "inner").run("ping", "-c1", "-W2", "10.3.0.1").returncode == 0
            assert place(made, "inner").run("ip", "route", "add", "default", "via", "10.3.0.1").returncode == 0
            with pytest.raises(OSError):  # noqa: PT011  # nothing comes back, or a refusal
                await place(made, "inner").ask(outer.address, 80, timeout_s=0.5)
            for server in servers:
                server.close()

    run_in_private_netns(scenario)


def test_interfaces_routes_and_ports_follow_what_a_running_container_joins_and_leaves() -> None:
    async def scenario() -> None:
        async with networks() as made:
            ports = (PortRequest(80, host_port=(8080, 8080)), PortRequest(53, "udp"))
            (before,) = await start(made, "web", EndpointRequest(SECOND), ports=ports)
            inside = place(made, "web")
            server = await inside.serve(b"web")
            assert default_route(inside) == "default via 10.2.0.1 dev eth0"
            # The first name leads out, as with dockerd, and published ports go that way.
            after = await made.connect("web", EndpointRequest(FIRST), ports)
            assert addresses(inside) == [("eth0", "10.2.0.2/24"), ("eth1", "10.1.0.2/24")]
            assert default_route(inside) == "default via 10.1.0.1 dev eth1"
            assert [endpoint.ports for endpoint in after] == [(), before.ports]
            assert await Place().ask("127.0.0.1", 8080) == b"web|10.1.0.1|hello"
            assert (await Place().ask("::1", 8080)).startswith(b"web|")
            assert [endpoint.network for endpoint in await made.connect("web", EndpointRequest(CLOSED), ports)] == [
                "two",
                "one",
                "closed",
            ]
            left = await made.disconnect("web", FIRST)
            assert [(endpoint.network, endpoint.interface) for endpoint in left] == [("two", "eth0"), ("closed", "eth2")]
            assert default_route(inside) == "default via 10.2.0.1 dev eth0"
            assert left[0].ports == before.ports
            assert await Place().ask("127.0.0.1", 8080) == b"web|10.2.0.1|hello"
            # A name that is free again is taken again.
            await made.connect("web", EndpointRequest(FIRST, gateway_priority=-1), ports)
            assert addresses(inside)[-1] == ("eth1", "10.1.0.2/24")
            assert default_route(inside) == "default via 10.2.0.1 dev eth0"
            for network_id in (SECOND, FIRST):
                await made.disconnect("web", network_id)
            assert (addresses(inside), default_route(inside)) == ([("eth2", "10.3.0.2/24")], "")
            with pytest.raises(OSError, match="Connect call failed"):
                await Place().ask("127.0.0.1", 8080)
            await made.disconnect("web", CLOSED)
            (again,) = await made.connect("web", EndpointRequest(SECOND), ports)
            assert (again.interface, [port.host_port for port in again.ports if port.protocol == "tcp"]) == ("eth0", [8080, 8080])
            assert await Place().ask("127.0.0.1", 8080) == b"web|10.2.0.1|hello"
            server.close()

    run_in_private_netns(scenario)


def test_what_a_request_wishes_for_an_endpoint() -> None:
    async def scenario() -> None:
        async with networks() as made:
            options = (("com.docker.network.endpoint.sysctls", "net.ipv4.conf.IFNAME.log_martians=1"),)
            endpoints = await start(
                made,
                "web",
                EndpointRequest(FIRST, address=IPv4Address("10.1.0.77"), mac="02:00:00:00:00:77", options=options),
                EndpointRequest(SECOND, gateway_priority=1, interface="lan0"),
            )
            inside = place(made, "web")
            assert addresses(inside) == [("eth0", "10.1.0.77/24"), ("lan0", "10.2.0.2/24")]
            assert [endpoint.interface for endpoint in endpoints] == ["eth0", "lan0"]
            assert endpoints[0].mac == "02:00:00:00:00:77"
            assert inside.inside(lambda: read_sysctl("net/ipv4/conf/eth0/log_martians")) == "1"
            assert inside.inside(lambda: read_sysctl("net/ipv4/conf/lan0/log_martians")) == "0"
            assert default_route(inside) == "default via 10.2.0.1 dev lan0"
            (renamed,) = await start(made, "first", EndpointRequest(FIRST, interface="wan0"))
            assert addresses(place(made, "first")) == [("wan0", f"{renamed.address}/24")]
            assert place(made, "first").run("ping", "-c1", "-W2", "10.1.0.77").returncode == 0
            with pytest.raises(Forbidden, match="Address already in use"):
                await start(made, "second", EndpointRequest(FIRST, address=IPv4Address("10.1.0.77")))
            wrong = (("com.docker.network.endpoint.sysctls", "net.ipv4.conf.IFNAME.nonsense=1"),)
            with pytest.raises(SystemFailure, match="/proc/sys/net/ipv4/conf/eth0/nonsense is not a sysctl file"):
                await start(made, "third", EndpointRequest(FIRST, options=wrong))
            with pytest.raises(NotFound):
                await start(made, "fourth", "d4" * 32)
            with pytest.raises(NotFound):
                await made.disconnect("web", CLOSED)
            with pytest.raises(Forbidden):
                await made.connect("web", EndpointRequest(FIRST))

    run_in_private_netns(scenario)


def test_both_address_families() -> None:
    async def scenario() -> None:
        async with networks() as made:
            dual = NetworkRecord("d4" * 32, "dual", NetworkDriver.BRIDGE, "", (SubnetConfig("fd00:5::/64"),), ipv6=True)
            made_record = await made.create(dual)
            assert [subnet.subnet for subnet in made_record.subnets][-1] != ""
            only = NetworkRecord(
                "e5" * 32, "only6", NetworkDriver.BRIDGE, "", (SubnetConfig("fd00:6::/64"),), ipv4=False, ipv6=True
            )
            await made.create(only)
            ports = (PortRequest(80, host_port=(8080, 8080)),)
            (web,) = await start(made, "web", EndpointRequest("d4" * 32, address6=IPv6Address("fd00:5::77")), ports=ports)
            (client,) = await start(made, "client", "d4" * 32)
            (bare,) = await start(made, "bare", "e5" * 32)
            assert (web.address6, client.address6, web.gateway6) == ("fd00:5::77", "fd00:5::2", "fd00:5::1")
            assert (bare.address, bare.address6) == ("", "fd00:6::2")
            assert default_route(place(made, "client"), "-6") == "default via fd00:5::1 dev eth0"
            server, server4 = await place(made, "web").serve(b"web", host="::"), await place(made, "web").serve(b"web")
            assert await place(made, "client").ask("fd00:5::77", 80) == b"web|fd00:5::2|hello"
            for address in ("::1", "127.0.0.1", "fd00:5::1"):
                assert (await Place().ask(address, 8080)).startswith(b"web|"), address
            with pytest.raises(OSError):  # noqa: PT011  # nothing comes back, or a refusal
                await place(made, "bare").ask("fd00:5::77", 80, timeout_s=0.5)
            await made.connect("bare", EndpointRequest("d4" * 32))
            assert (await place(made, "bare").ask("fd00:5::77", 80)).startswith(b"web|")
            server.close()
            server4.close()

    run_in_private_netns(scenario)


def test_names_are_found_on_users_networks_and_follow_what_happens() -> None:
    def look_up(made: Networks, name: str) -> str:
        answer = place(made, "client").run("busybox", "nslookup", "-type=a", name, "127.0.0.11")
        return " ".join(re.findall(r"Address: (10\S+)", answer.stdout))

    async def scenario() -> None:
        async with networks() as made:
            await start(made, "client", FIRST)
            await start(made, "web", SECOND)
            assert look_up(made, "client") == "10.1.0.2"
            assert look_up(made, "web") == ""
            await made.connect("web", EndpointRequest(FIRST, names=("web", "www")))
            assert (look_up(made, "web"), look_up(made, "www")) == ("10.1.0.3", "10.1.0.3")
            made.rename("web", {FIRST: ("shop", "www")})
            assert (look_up(made, "web"), look_up(made, "shop")) == ("", "10.1.0.3")
            await made.disconnect("web", FIRST)
            assert look_up(made, "shop") == ""
            await start(made, "lonely", EndpointRequest(made.default_id))
            await made.connect("lonely", EndpointRequest(FIRST, names=("lonely",)))
            assert look_up(made, "lonely") == "10.1.0.3"
            await made.stop("lonely")
            assert look_up(made, "lonely") == ""

    run_in_private_netns(scenario)


def test_options_of_a_network() -> None:
    async def scenario() -> None:
        async with networks() as made:
            prefix = "com.docker.network.bridge."
            options = (
                (prefix + "name", "lab0"),
                (prefix + "enable_icc", "false"),
                (prefix + "host_binding_ipv4", "127.0.0.1"),
                ("com.docker.network.driver.mtu", "1300"),
                ("com.docker.network.container_iface_prefix", "lan"),
            )
            made_record = await made.create(record("d4" * 32, "lab", "10.9.0.0/24", options=options))
            assert made_record.device == "lab0"
            with pytest.raises(Forbidden, match="networks have same bridge name"):
                await made.create(record("e5" * 32, "twin", options=options[:1]))
            ports = (PortRequest(80, host_port=(8080, 8080)),)
            (web,) = await start(made, "web", "d4" * 32, ports=ports)
            (other,) = await start(made, "other", "d4" * 32)
            assert [(port.host_ip, port.host_port) for port in web.ports] == [("127.0.0.1", 8080)]
            assert web.interface == "lan0"
            links = {link.name: link for link in place(made, "web").inside(lambda: RouteSocket().links())}
            assert links["lan0"].mtu == 1300
            assert place(made, "web").run("ping", "-c1", "-W1", other.address).returncode == 1
            assert place(made, "web").run("ping", "-c1", "-W2", "10.9.0.1").returncode == 0

    run_in_private_netns(scenario)


def test_nothing_is_left_of_starts_stops_failures_and_networks() -> None:
    async def scenario() -> None:
        async with networks() as made:

            async def everything() -> None:
                ports = (PortRequest(80, host_port=(8080, 8080)), PortRequest(53, "udp"))
                await made.create(record("d4" * 32, "brief", "10.9.0.0/24"))
                await start(made, "web", FIRST, "d4" * 32, ports=ports)
                with pytest.raises(SystemFailure, match="port is already allocated"):
                    await start(made, "second", FIRST, SECOND, ports=ports)
                with pytest.raises(Forbidden, match="active endpoints"):
                    await made.remove("d4" * 32)
                await made.connect("web", EndpointRequest(CLOSED), ports)
                await made.disconnect("web", FIRST)
                rush = [asyncio.ensure_future(start(made, f"rush-{number}", FIRST, SECOND)) for number in range(6)]
                await asyncio.sleep(0)
                rush[0].cancel()
                await asyncio.wait(rush)
                for number in range(6):
                    await made.stop(f"rush-{number}")
                await made.stop("web")
                with pytest.raises(EngineError):
                    await made.connect("web", EndpointRequest(FIRST))
                await made.remove("d4" * 32)
                with pytest.raises(NotFound):
                    await made.remove("d4" * 32)
                await made.settled()

            await everything()  # what is made once and kept is there now
            # Names of spare pairs are new each time; how many there are must not change.
            before = host_state()
            await everything()
            after = host_state()
            for state in (before, after):
                state["links"] = sorted(re.sub(r"^ (kv\w+-).*", r"\1", str(name)) for name in state["links"])  # type: ignore[attr-defined]
            assert after == before
        assert [link.name for link in RouteSocket().links()] == ["lo"]
        assert not subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout

    run_in_private_netns(scenario)


def test_another_engine_takes_over_several_endpoints_and_cleans_up_what_has_no_owner() -> None:
    async def scenario() -> None:
        exec_root = scratch_directory()
        first = make_networks(exec_root)
        await first.set_up()
        kept = [await first.create(record(FIRST, "one", "10.1.0.0/24")), await first.create(record(SECOND, "two", "10.2.0.0/24"))]
        await first.create(record(CLOSED, "closed", "10.3.0.0/24"))  # its record is never stored: the engine dies before
        ports = (PortRequest(80, host_port=(8080, 8080)),)
        endpoints = await start(first, "web", FIRST, SECOND, ports=ports)
        gone = await start(first, "gone", FIRST)
        fd = first.netns_fd("web")
        process = subprocess.Popen(
            ["nsenter", f"--net=/proc/self/fd/{fd}", "sleep", "60"], pass_fds=[fd], stdin=subprocess.DEVNULL, close_fds=True
        )
        try:
            await eventually(lambda: Path(f"/proc/{process.pid}/comm").read_text() == "sleep\n", "the container runs")
            server = await place(first, "web").serve(b"web")
            # The first engine is gone without a word: it is never closed, and its sockets are no one's.
            second = make_networks(exec_root)
            await second.set_up(kept)
            adopted = await second.adopt("web", endpoints, process.pid)
            assert adopted == endpoints
            broken = replace(gone[0], host_interface="kvnone-000000")
            assert await second.adopt("gone", [broken], process.pid) == ()
            await second.stop("gone")
            await second.finish_adoption()
            assert (await Place().ask("127.0.0.1", 8080)).startswith(b"web|")
            with RouteSocket() as host:
                await eventually(lambda: host.link(f"br-{CLOSED[:12]}") is None, "the bridge without a network is removed")
                await eventually(lambda: host.link(gone[0].host_interface) is None, "the pair without a container is removed")
                for endpoint in endpoints:
                    assert host.link(endpoint.host_interface) is not None
            left = await second.disconnect("web", FIRST)
            assert [endpoint.network for endpoint in left] == ["two"]
            assert default_route(place(second, "web")) == "default via 10.2.0.1 dev eth1"
            assert await Place().ask("127.0.0.1", 8080) == b"web|10.2.0.1|hello"
            await second.connect("web", EndpointRequest(FIRST), ports)
            assert default_route(place(second, "web")) == "default via 10.1.0.1 dev eth0"
            server.close()
        finally:
            process.kill()
            process.wait()
            await second.close()
        for sandbox in await first._supply.close():
            sandbox.close()

    run_in_private_netns(scenario)


def test_networks_are_repaired_when_somebody_removes_what_they_consist_of() -> None:
    async def scenario() -> None:
        async with networks() as made:
            ports = (PortRequest(80, host_port=(8080, 8080)),)
            (web,) = await start(made, "web", FIRST, ports=ports)
            server = await place(made, "web").serve(b"web")
            device = next(link.name for link in RouteSocket().links() if link.name.startswith(f"br-{FIRST[:6]}"))
            subprocess.run(["ip", "link", "delete", device], check=True)
            await start(made, "client", SECOND, FIRST)
            assert await place(made, "client").ask(web.address, 80) == b"web|10.1.0.3|hello"
            assert await Place().ask("127.0.0.1", 8080) == b"web|10.1.0.1|hello"
            assert default_route(place(made, "client")) == "default via 10.1.0.1 dev eth1"
            subprocess.run(["ip", "link", "delete", device], check=True)
            (lonely,) = await start(made, "lonely", SECOND)
            await made.connect("lonely", EndpointRequest(FIRST))
            assert (await place(made, "lonely").ask(web.address, 80)).startswith(b"web|")
            # An interface that is gone takes nothing else along.
            subprocess.run(["ip", "link", "delete", lonely.host_interface], check=True)
            subprocess.run(["nft", "flush", "ruleset"], check=True)
            await made.disconnect("lonely", SECOND)
            await made.stop("lonely")
            await made.stop("web")
            await made.settled()
            (again,) = await start(made, "again", FIRST, ports=ports)
            assert again.address == web.address
            server.close()

    run_in_private_netns(scenario)


def test_a_bridge_that_somebody_removed_is_made_again_and_its_containers_put_back() -> None:
    async def scenario() -> None:
        exec_root = scratch_directory()
        first = make_networks(exec_root)
        await first.set_up()
        kept = await first.create(record(FIRST, "one", "10.1.0.0/24"))
        endpoints = await start(first, "web", FIRST)
        subprocess.run(["ip", "link", "delete", kept.device], check=True)
        second = make_networks(exec_root)
        await second.set_up([kept])
        fd = first.netns_fd("web")
        process = subprocess.Popen(["nsenter", f"--net=/proc/self/fd/{fd}", "sleep", "60"], pass_fds=[fd])
        try:
            await eventually(lambda: Path(f"/proc/{process.pid}/comm").read_text() == "sleep\n", "the container runs")
            await second.adopt("web", endpoints, process.pid)
            await second.finish_adoption()
            assert place(second, "web").run("ping", "-c1", "-W2", "10.1.0.1").returncode == 0
        finally:
            process.kill()
            process.wait()
            await second.close()
        for sandbox in await first._supply.close():
            sandbox.close()

    run_in_private_netns(scenario)


def test_a_network_is_removed_once_by_whoever_is_first() -> None:
    async def scenario() -> None:
        async with networks() as made:
            answers = await asyncio.gather(
                *(made.remove(FIRST) for _ in range(3)), start(made, "late", FIRST), return_exceptions=True
            )
            assert [type(answer) for answer in answers] == [type(None), NotFound, NotFound, NotFound]
            assert await start(made, "other", SECOND)

    asyncio.run(scenario())
