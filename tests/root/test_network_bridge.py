"""Containers on the bridge: what they reach and who reaches them, in the real kernel, each test in a namespace of its own."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

import pytest
from support.bridge_network import BridgeNetwork
from support.private_netns import Place, eventually, run_in_private_netns, scratch_directory, unshare_mounts

from kitepy.engine.kernel.netlink import LOOPBACK_INDEX, RouteSocket, add_address
from kitepy.engine.kernel.netns import same_namespace
from kitepy.engine.kernel.sysctl import read_sysctl, write_sysctl
from kitepy.engine.model.errors import Forbidden, InvalidParameter, NotFound, SystemFailure
from kitepy.engine.model.network import Endpoint, PortRequest
from kitepy.engine.network.default_bridge import BridgeSettings
from kitepy.engine.network.naming import kernel_names
from kitepy.engine.network.relay_process import RelayProcess
from kitepy.engine.network.sandbox import build_isolated

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")]

ID = "0123456789ab" + "c" * 52
HOST_ADDRESS = "10.11.12.13"


@asynccontextmanager
async def network(data_root: str = "/test/one", **settings: object) -> AsyncIterator[BridgeNetwork]:
    relays = RelayProcess(scratch_directory())
    bridge = BridgeNetwork(kernel_names(Path(data_root)), BridgeSettings(**settings), relays)  # type: ignore[arg-type]  # test shorthand
    await bridge.set_up()
    try:
        yield bridge
    finally:
        await bridge.close()


def outside_network() -> AbstractAsyncContextManager[BridgeNetwork]:
    """Its containers stand for other machines on the host's network."""
    return network("/test/outside", gateway=IPv4Interface("10.99.0.1/24"), masquerade=False)


def place(bridge: BridgeNetwork, endpoint: Endpoint) -> Place:
    return Place(bridge.fd_of(endpoint))


def interfaces() -> list[str]:
    with RouteSocket() as route:
        return [link.name for link in route.links()]


def our_interfaces(bridge: BridgeNetwork) -> list[str]:
    return [name for name in interfaces() if name.startswith(bridge.names.veth_prefix)]


def nft_ruleset() -> str:
    return subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout


def give_host_an_address() -> None:
    with RouteSocket() as route:
        route.execute([add_address(LOOPBACK_INDEX, IPv4Interface(f"{HOST_ADDRESS}/32"))])


def test_container_reaches_its_gateway_and_its_neighbours() -> None:
    async def scenario() -> None:
        async with network() as bridge:
            first, second = await bridge.attach(ID), await bridge.attach(ID)
            assert (first.address, second.address, first.gateway) == ("172.17.0.2", "172.17.0.3", "172.17.0.1")
            assert first.mac == "02:42:ac:11:00:02"
            ping = place(bridge, first).run("busybox", "ping", "-c", "1", "-W", "2", first.gateway)
            assert ping.returncode == 0, ping.stdout + ping.stderr
            server = await place(bridge, second).serve(b"second")
            assert await place(bridge, first).ask(second.address, 80) == b"second|172.17.0.2|hello"
            server.close()

    run_in_private_netns(scenario)


def test_sandbox_looks_like_dockers() -> None:
    async def scenario() -> None:
        async with network(mtu=1400) as bridge:
            endpoint = await bridge.attach(ID)
            inside = place(bridge, endpoint)
            assert inside.inside(lambda: read_sysctl("net/ipv4/ip_unprivileged_port_start")) == "0"
            assert inside.inside(lambda: read_sysctl("net/ipv4/ping_group_range")).split() == ["0", "2147483647"]
            assert inside.inside(lambda: read_sysctl("net/ipv6/conf/eth0/disable_ipv6")) == "1"
            assert inside.inside(lambda: read_sysctl("net/ipv6/conf/lo/disable_ipv6")) == "0"
            links = {link.name: link for link in inside.inside(lambda: RouteSocket().links())}
            assert links["lo"].up
            assert links["eth0"].up
            assert (links["eth0"].mac, links["eth0"].mtu) == (endpoint.mac, 1400)

    run_in_private_netns(scenario)


def test_published_port_answers_on_loopback_of_both_families_and_on_host_addresses() -> None:
    async def scenario() -> None:
        give_host_an_address()
        async with network() as bridge:
            endpoint = await bridge.attach(ID, ports=[PortRequest(80, host_port=(8080, 8080))])
            assert [(port.host_ip, port.host_port) for port in endpoint.ports] == [("0.0.0.0", 8080), ("::", 8080)]
            server = await place(bridge, endpoint).serve(b"web")
            for address in ("127.0.0.1", "::1", HOST_ADDRESS, endpoint.gateway):
                assert (await Place().ask(address, 8080)).split(b"|")[::2] == [b"web", b"hello"], address
            server.close()

    run_in_private_netns(scenario)


def test_published_port_is_reached_from_another_machine_with_its_own_address() -> None:
    async def scenario() -> None:
        async with network() as bridge, outside_network() as outside:
            endpoint = await bridge.attach(ID, ports=[PortRequest(80, host_port=(8080, 8080))])
            machine = place(outside, await outside.attach(ID))
            server = await place(bridge, endpoint).serve(b"web")
            assert await machine.ask("10.99.0.1", 8080) == b"web|10.99.0.2|hello"
            with pytest.raises(TimeoutError):
                await machine.ask(endpoint.address, 80, timeout_s=0.5)
            server.close()

    run_in_private_netns(scenario)


def test_port_published_on_loopback_stays_on_the_host() -> None:
    async def scenario() -> None:
        async with network() as bridge, outside_network() as outside:
            endpoint = await bridge.attach(ID, ports=[PortRequest(80, host_ip="127.0.0.1", host_port=(8080, 8080))])
            neighbour = place(bridge, await bridge.attach(ID))
            machine = place(outside, await outside.attach(ID))
            server = await place(bridge, endpoint).serve(b"web")
            assert (await Place().ask("127.0.0.1", 8080)).startswith(b"web|")
            with pytest.raises(OSError, match="Connect call failed"):
                await machine.ask("10.99.0.1", 8080)
            # Sent to the host's MAC with a loopback address on the wire: only an attacker does so.
            for attacker, gateway in ((machine, "10.99.0.1"), (neighbour, endpoint.gateway)):
                attacker.run("ip", "addr", "flush", "dev", "lo")
                attacker.run("ip", "route", "del", "local", "127.0.0.0/8", "dev", "lo", "table", "local")
                attacker.inside(lambda: Path("/proc/sys/net/ipv4/conf/eth0/route_localnet").write_text("1"))
                assert attacker.run("ip", "route", "add", "127.0.0.1/32", "via", gateway, "dev", "eth0").returncode == 0
                with pytest.raises(TimeoutError):
                    await attacker.ask("127.0.0.1", 8080, timeout_s=0.5)
            server.close()

    run_in_private_netns(scenario)


def test_loopback_services_of_the_host_are_out_of_reach_for_containers() -> None:
    async def scenario() -> None:
        async with network() as bridge:
            container = place(bridge, endpoint := await bridge.attach(ID))
            secret = await Place().serve(b"secret", 9999, "127.0.0.1")
            container.run("ip", "addr", "flush", "dev", "lo")
            container.run("ip", "route", "del", "local", "127.0.0.0/8", "dev", "lo", "table", "local")
            container.inside(lambda: Path("/proc/sys/net/ipv4/conf/eth0/route_localnet").write_text("1"))
            assert container.run("ip", "route", "add", "127.0.0.1/32", "via", endpoint.gateway).returncode == 0
            with pytest.raises(TimeoutError):
                await container.ask("127.0.0.1", 9999, timeout_s=0.5)
            secret.close()

    run_in_private_netns(scenario)


@pytest.mark.parametrize("icc", [True, False])
@pytest.mark.parametrize("bridge_netfilter", ["0", "1"])
def test_containers_reach_published_ports_of_others_and_their_own_through_the_host(icc: bool, bridge_netfilter: str) -> None:
    async def scenario() -> None:
        give_host_an_address()
        switch = "net/bridge/bridge-nf-call-iptables"
        if Path("/proc/sys", switch).exists():
            write_sysctl(switch, bridge_netfilter)
        async with network(icc=icc) as bridge:
            endpoint = await bridge.attach(ID, ports=[PortRequest(80, host_port=(8080, 8080))])
            other = place(bridge, neighbour := await bridge.attach(ID))
            server = await place(bridge, endpoint).serve(b"web")
            for address in (HOST_ADDRESS, endpoint.gateway):
                assert (await other.ask(address, 8080)).startswith(b"web|"), address
                assert (await place(bridge, endpoint).ask(address, 8080)).startswith(b"web|"), address
            if icc:
                assert await other.ask(endpoint.address, 80) == f"web|{neighbour.address}|hello".encode()
            server.close()

    run_in_private_netns(scenario)


def test_outbound_connections_bear_the_hosts_address() -> None:
    async def scenario() -> None:
        async with network() as bridge, outside_network() as outside:
            container = place(bridge, await bridge.attach(ID))
            far = await outside.attach(ID, ports=[PortRequest(80, host_port=(8080, 8080))])
            server = await place(outside, far).serve(b"far")
            # Published by the other engine: its rules accept, ours translate the source.
            assert await container.ask("10.99.0.1", 8080) == b"far|10.99.0.1|hello"
            with pytest.raises(TimeoutError):
                await container.ask(far.address, 80, timeout_s=0.5)
            server.close()

    run_in_private_netns(scenario)


def test_without_icc_neighbours_cannot_talk_but_the_gateway_answers() -> None:
    async def scenario() -> None:
        async with network(icc=False) as bridge:
            first, second = await bridge.attach(ID), await bridge.attach(ID)
            server = await place(bridge, second).serve(b"second")
            with pytest.raises(OSError, match=r"unreachable|host|^$"):
                await place(bridge, first).ask(second.address, 80, timeout_s=0.5)
            ping = place(bridge, first).run("busybox", "ping", "-c", "1", "-W", "2", first.gateway)
            assert ping.returncode == 0
            # The way over the host's routing is closed as well.
            first_place = place(bridge, first)
            assert first_place.run("ip", "route", "add", f"{second.address}/32", "via", first.gateway).returncode == 0
            with pytest.raises(TimeoutError):
                await first_place.ask(second.address, 80, timeout_s=0.5)
            server.close()

    run_in_private_netns(scenario)


def test_taken_host_ports_are_refused_in_dockers_words_and_leave_nothing_behind() -> None:
    async def scenario() -> None:
        async with network() as bridge:
            first = await bridge.attach(ID, ports=[PortRequest(80, host_port=(8080, 8080))], name="web")
            with pytest.raises(SystemFailure) as conflict:
                await bridge.attach(
                    ID, ports=[PortRequest(81, host_port=(8081, 8081)), PortRequest(80, host_port=(8080, 8080))], name="two"
                )
            assert str(conflict.value).startswith("driver failed programming external connectivity on endpoint two (")
            assert str(conflict.value).endswith("): Bind for 0.0.0.0:8080 failed: port is already allocated (container web)")
            with socket.create_server(("127.0.0.1", 9000)), pytest.raises(SystemFailure, match="address already in use"):
                await bridge.attach(ID, ports=[PortRequest(80, host_port=(9000, 9000))])
            with pytest.raises(SystemFailure, match="cannot assign requested address"):
                await bridge.attach(ID, ports=[PortRequest(80, host_ip="10.0.0.77", host_port=(8082, 8082))])
            # The failed attempts freed what they had taken before, addresses included.
            second = await bridge.attach(ID, ports=[PortRequest(80, host_port=(8081, 8081))])
            await eventually(lambda: bridge.endpoints(bridge.default_id) == [first, second], "only two endpoints")
            third = await bridge.attach(ID, address=IPv4Address("172.17.0.4"))
            assert third.address == "172.17.0.4"

    run_in_private_netns(scenario)


def test_other_programs_cannot_bind_a_published_port() -> None:
    async def scenario() -> None:
        async with network() as bridge:
            endpoint = await bridge.attach(ID, ports=[PortRequest(80, host_port=(8080, 8080))])
            for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
                with socket.socket(family, socket.SOCK_STREAM) as other, pytest.raises(OSError, match="in use"):
                    other.bind((address, 8080))
            await bridge.detach(endpoint)
            socket.create_server(("127.0.0.1", 8080)).close()

    run_in_private_netns(scenario)


def test_free_ports_are_chosen_from_ranges_and_never_twice() -> None:
    async def scenario() -> None:
        async with network() as bridge:
            wanted = PortRequest(80, host_port=(7000, 7001))
            first, second = await bridge.attach(ID, ports=[wanted]), await bridge.attach(ID, ports=[wanted])
            assert [first.ports[0].host_port, second.ports[0].host_port] == [7000, 7001]
            with pytest.raises(SystemFailure, match="all ports are allocated"):
                await bridge.attach(ID, ports=[wanted])
            many = await bridge.attach(ID, ports=[PortRequest(port) for port in range(1, 21)])
            chosen = {port.host_port for port in many.ports}
            assert len(chosen) == 20
            assert min(chosen) >= 1024
            assert [port.container_port for port in many.ports[::2]] == list(range(1, 21))

    run_in_private_netns(scenario)


def test_udp_ports_answer_on_both_families() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        async with network() as bridge:
            endpoint = await bridge.attach(ID, ports=[PortRequest(53, "udp", host_port=(5353, 5353))])
            with place(bridge, endpoint).udp(("0.0.0.0", 53)) as server:
                for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
                    with Place().udp(family=family) as client:
                        await loop.sock_sendto(client, b"question", (address, 5353))
                        async with asyncio.timeout(3):
                            data, sender = await loop.sock_recvfrom(server, 2048)
                            await loop.sock_sendto(server, data + b"!", sender)
                            assert (await loop.sock_recvfrom(client, 2048))[0] == b"question!"

    run_in_private_netns(scenario)


def test_a_sender_that_never_pauses_reaches_the_next_container_on_its_port() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        published = [PortRequest(53, "udp", host_port=(5353, 5353))]
        async with network() as bridge, outside_network() as outside:
            with place(outside, await outside.attach(ID)).udp() as client:
                client.connect(("10.99.0.1", 5353))
                for address in ("172.17.0.10", "172.17.0.11"):
                    endpoint = await bridge.attach(ID, ports=published, address=IPv4Address(address))
                    with place(bridge, endpoint).udp(("0.0.0.0", 53)) as server:
                        await loop.sock_sendall(client, b"datagram")
                        async with asyncio.timeout(3):
                            data, sender = await loop.sock_recvfrom(server, 2048)
                        assert (data, sender[0]) == (b"datagram", "10.99.0.2")
                    await bridge.detach(endpoint)

    run_in_private_netns(scenario)


def test_ended_connections_of_a_container_are_forgotten_with_it() -> None:
    async def scenario() -> None:
        async with network() as bridge:
            endpoint = await bridge.attach(ID, ports=[PortRequest(80, host_port=(8080, 8080))])
            server = await place(bridge, endpoint).serve(b"web")
            assert (await Place().ask(endpoint.gateway, 8080)).startswith(b"web")
            server.close()
            tracked = Path("/proc/thread-self/net/nf_conntrack")
            assert f"src={endpoint.address} " in tracked.read_text()
            await bridge.detach(endpoint)
            assert f"src={endpoint.address} " not in tracked.read_text()

    run_in_private_netns(scenario)


def test_without_rules_the_ruleset_is_untouched_and_ports_are_relayed() -> None:
    async def scenario() -> None:
        before = nft_ruleset()
        async with network(use_rules=False) as bridge:
            endpoint = await bridge.attach(ID, ports=[PortRequest(80, host_port=(8080, 8080))])
            server = await place(bridge, endpoint).serve(b"web")
            for address in ("127.0.0.1", "::1"):
                assert await Place().ask(address, 8080, b"x" * 300_000) == b"web|172.17.0.1|" + b"x" * 300_000
            assert nft_ruleset() == before
            server.close()
        assert nft_ruleset() == before

    run_in_private_netns(scenario)


def test_a_silent_container_makes_the_relay_reset_instead_of_hanging() -> None:
    async def scenario() -> None:
        async with network() as bridge:
            await bridge.attach(ID, ports=[PortRequest(80, host_port=(8080, 8080))])
            with pytest.raises(ConnectionResetError):
                await Place().ask("::1", 8080)

    run_in_private_netns(scenario)


def test_nothing_is_left_after_many_containers_and_the_close() -> None:
    async def scenario() -> None:
        async with network() as bridge:
            for round_number in range(50):
                endpoint = await bridge.attach(ID, ports=[PortRequest(80, host_port=(8080, 8080))])
                assert endpoint.ports[0].host_port == 8080, round_number
                await bridge.detach(endpoint)
                await bridge.detach(endpoint)
                if round_number == 5:
                    await bridge.settled()
                    descriptors = len(os.listdir("/proc/self/fd"))
            await bridge.settled()
            assert len(our_interfaces(bridge)) == 3
            await eventually(lambda: len(os.listdir("/proc/self/fd")) <= descriptors, "descriptors are closed")
            assert "8080" not in nft_ruleset()
        assert interfaces() == ["lo"]
        assert nft_ruleset() == ""

    run_in_private_netns(scenario)


def test_a_parallel_rush_gets_distinct_addresses() -> None:
    async def scenario() -> None:
        async with network() as bridge:
            endpoints = await asyncio.gather(*(bridge.attach(ID, ports=[PortRequest(80)]) for _ in range(20)))
            assert len({endpoint.address for endpoint in endpoints}) == 20
            assert len({endpoint.host_interface for endpoint in endpoints}) == 20
            await asyncio.gather(*(bridge.detach(endpoint) for endpoint in endpoints))

    run_in_private_netns(scenario)


def test_a_cancelled_attachment_is_undone() -> None:
    async def scenario() -> None:
        async with network() as bridge:
            for delay_s in (0.0, 0.0002, 0.0005, 0.001):
                task = asyncio.ensure_future(bridge.attach(ID, ports=[PortRequest(80, host_port=(8080, 8080))]))
                await asyncio.sleep(delay_s)
                task.cancel()
                for endpoint in [
                    found for found in await asyncio.gather(task, return_exceptions=True) if isinstance(found, Endpoint)
                ]:
                    await bridge.detach(endpoint)
                assert bridge.endpoints(bridge.default_id) == []
                endpoint = await bridge.attach(ID, ports=[PortRequest(80, host_port=(8080, 8080))])
                await bridge.detach(endpoint)
            await eventually(lambda: len(our_interfaces(bridge)) <= 3, "old interfaces are removed")

    run_in_private_netns(scenario)


def test_an_address_comes_back_when_its_interface_has_lost_it() -> None:
    async def scenario() -> None:
        async with network(gateway=IPv4Interface("10.1.2.1/30")) as bridge:
            first = await bridge.attach(ID)
            with pytest.raises(Forbidden, match="already in use"):
                await bridge.attach(ID, address=IPv4Address(first.address))
            with pytest.raises(SystemFailure, match="no available IPv4 addresses"):
                await bridge.attach(ID)
            await bridge.detach(first)
            second = await bridge.attach(ID)
            assert second.address == first.address
            with pytest.raises(SystemFailure, match="no available IPv4 addresses"):
                await bridge.attach(ID, address=IPv4Address("10.9.9.9"))
            with pytest.raises(NotFound):
                bridge.fd_of(first)

    run_in_private_netns(scenario)


def test_neighbours_notice_at_once_that_an_address_has_a_new_owner() -> None:
    async def scenario() -> None:
        async with network() as bridge:
            neighbour = place(bridge, await bridge.attach(ID))
            for mac in (None, "02:00:00:00:00:77", "02:00:00:00:00:78"):
                endpoint = await bridge.attach(ID, address=IPv4Address("172.17.0.9"), mac=mac)
                server = await place(bridge, endpoint).serve(b"web")
                for client in (neighbour, Place()):
                    # A stale neighbour entry is believed for five seconds and three probes more.
                    assert (await client.ask("172.17.0.9", 80, timeout_s=4.0)).startswith(b"web|")
                server.close()
                await bridge.detach(endpoint)

    run_in_private_netns(scenario)


def test_a_host_with_read_only_parameters_is_served_as_far_as_possible() -> None:
    async def scenario() -> None:
        write_sysctl("net/ipv4/ip_forward", "0")
        unshare_mounts()
        subprocess.run(["mount", "--make-rprivate", "/"], check=True)
        subprocess.run(["mount", "-o", "bind,ro", "/proc/sys", "/proc/sys"], check=True)
        async with network() as bridge:
            assert any("ip_forward can't be set to 1 (Read-only file system)" in warning for warning in bridge.warnings)
            assert any("127.0.0.1 are relayed" in warning for warning in bridge.warnings)
            endpoint = await bridge.attach(ID, ports=[PortRequest(80, host_port=(8080, 8080))])
            server = await place(bridge, endpoint).serve(b"web")
            for address in ("127.0.0.1", "::1", endpoint.gateway):
                assert (await Place().ask(address, 8080)).startswith(b"web|")
            server.close()

    run_in_private_netns(scenario)


def test_without_the_nftables_library_ports_are_relayed_and_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with network() as bridge:
            assert any("install the package libnftables1" in warning for warning in bridge.warnings)
            endpoint = await bridge.attach(ID, ports=[PortRequest(80, host_port=(8080, 8080))])
            server = await place(bridge, endpoint).serve(b"web")
            assert (await Place().ask("127.0.0.1", 8080)).startswith(b"web|")
            server.close()

    monkeypatch.setattr("kitepy.engine.kernel.nftables._LIBRARY", "libnftables-that-is-missing.so.1")
    run_in_private_netns(scenario)


def test_two_engines_share_a_host() -> None:
    async def scenario() -> None:
        async with network() as one, network("/test/two") as two:
            assert (str(one.gateway), str(two.gateway)) == ("172.17.0.1/16", "172.18.0.1/16")
            first = await one.attach(ID, ports=[PortRequest(80, host_port=(8080, 8080))])
            second = await two.attach(ID, ports=[PortRequest(80, host_port=(8081, 8081))])
            with pytest.raises(SystemFailure, match="address already in use"):
                await two.attach(ID, ports=[PortRequest(80, host_port=(8080, 8080))])
            servers = [await place(one, first).serve(b"one"), await place(two, second).serve(b"two")]
            assert (await Place().ask("127.0.0.1", 8080)).startswith(b"one|")
            assert (await Place().ask("127.0.0.1", 8081)).startswith(b"two|")
            with pytest.raises(TimeoutError):
                await place(one, first).ask(second.address, 80, timeout_s=0.5)
            for server in servers:
                server.close()

    run_in_private_netns(scenario)


def test_an_explicit_address_that_the_host_uses_is_refused() -> None:
    async def scenario() -> None:
        async with network():
            with pytest.raises(InvalidParameter, match=r"--bip 172.17.5.1/8 .*overlaps 172.17.0.0/16, which interface kitepy-"):
                async with network("/test/two", gateway=IPv4Interface("172.17.5.1/8")):
                    pass

    run_in_private_netns(scenario)


def test_rules_that_somebody_flushed_are_put_back_at_once_and_by_the_next_container() -> None:
    async def scenario() -> None:
        async with network() as bridge:
            first = await bridge.attach(ID, ports=[PortRequest(80, host_port=(8080, 8080))])
            subprocess.run(["nft", "flush", "ruleset"], check=True)
            second = await bridge.attach(ID, ports=[PortRequest(80, host_port=(8081, 8081))])
            ruleset = nft_ruleset()
            assert f"tcp . 8080 : {first.address} . 80" in ruleset
            assert f"tcp . 8081 : {second.address} . 80" in ruleset
            subprocess.run(["nft", "flush", "ruleset"], check=True)
            await eventually(lambda: nft_ruleset() == ruleset, "put back")
            subprocess.run(["nft", "flush", "ruleset"], check=True)
            await bridge.detach(first)
            assert "8080" not in nft_ruleset()
            await eventually(lambda: "tcp . 8081" in nft_ruleset(), "put back")

    run_in_private_netns(scenario)


DROP_FORWARDED = "add table ip filter; add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }"


@pytest.mark.parametrize(
    ("command", "warning"),
    [
        (["nft", DROP_FORWARDED], "'ip filter FORWARD'"),
        (["iptables-legacy", "-P", "FORWARD", "DROP"], "'FORWARD of iptables-legacy'"),
    ],
)
def test_a_firewall_that_drops_forwarded_packets_is_reported(command: list[str], warning: str) -> None:
    async def scenario() -> None:
        subprocess.run(command, check=True)
        async with network() as bridge:
            assert any(f"{warning} drops forwarded packets" in found for found in bridge.warnings)

    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    run_in_private_netns(scenario)


def test_isolated_sandbox_has_loopback_only() -> None:
    async def scenario() -> None:
        fd = build_isolated().netns_fd
        try:
            with open("/proc/thread-self/ns/net", "rb") as here:
                assert not same_namespace(fd, here.fileno())
            links = Place(fd).inside(lambda: RouteSocket().links())
            assert {link.name for link in links if link.up} == {"lo"}
        finally:
            os.close(fd)

    run_in_private_netns(scenario)
