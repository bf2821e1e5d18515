"""What the rules of many networks let through, packet by packet, in the real kernel."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable

import pytest
from support.bridge_lab import (
    HOST,
    HOST6,
    OUTSIDE,
    OUTSIDE6,
    BridgeLab,
    Container,
    arp_claim,
    bridge_lab,
    frame_reaches,
    pings,
    tcp_reaches,
    udp_frame,
    udp_reaches,
)
from support.private_netns import Place, run_in_private_netns

from kitepy.engine.kernel.sysctl import write_sysctl
from kitepy.engine.network.link_rules import LinkException
from kitepy.engine.network.rules import GatewayMode, MapElement

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")]


def publish(lab: BridgeLab, container: Container, host_port: int, port: int = 80, host_ip: str = "") -> None:
    for any_address, target in (("0.0.0.0", container.address), ("::", container.address6)):
        if not host_ip or (":" in host_ip) == (":" in target):
            lab.rules.publish([MapElement(host_ip or any_address, "tcp", host_port, target, port)])


async def serve(container: Container, name: bytes, port: int = 80) -> list[asyncio.Server]:
    return [await container.place.serve(name, port, host) for host in ("0.0.0.0", "::")]


async def refused(attempts: dict[str, tuple[Place, str, int]]) -> None:
    """None of them gets any answer."""
    answers = await asyncio.gather(*(tcp_reaches(*attempt) for attempt in attempts.values()))
    assert [name for name, answered in zip(attempts, answers, strict=True) if answered] == []


async def unreachable(attempts: dict[str, tuple[Place, str]]) -> None:
    answers = await asyncio.gather(*(pings(*attempt) for attempt in attempts.values()))
    assert [name for name, answered in zip(attempts, answers, strict=True) if answered] == []


def test_networks_keep_to_themselves_and_only_published_ports_are_reached_from_outside() -> None:
    async def scenario() -> None:
        for family in ("iptables", "ip6tables"):
            write_sysctl(f"net/bridge/bridge-nf-call-{family}", "1")
        with bridge_lab() as lab:
            lab.bridge(1)
            lab.bridge(2)
            lab.bridge(3, internal=True)
            web, neighbour, stranger = lab.container(1, 2), lab.container(1, 3), lab.container(2, 2)
            hidden, beside = lab.container(3, 2), lab.container(3, 3)
            outside = lab.outside
            for container, name in ((web, b"web"), (stranger, b"stranger"), (hidden, b"hidden")):
                await serve(container, name)
            await outside.serve(b"far")
            await outside.serve(b"far", host="::")
            publish(lab, web, 8080)
            publish(lab, web, 8081, host_ip=HOST)
            publish(lab, web, 8081, host_ip=HOST6)
            publish(lab, web, 8082, host_ip="127.0.0.1")
            for host, client in ((HOST, OUTSIDE), (HOST6, OUTSIDE6)):
                # Clients outside are seen by their own address.
                for port in (8080, 8081):
                    assert await outside.ask(host, port) == b"|".join((b"web", client.encode(), b"hello"))
                assert (await Place().ask(host, 8080)).startswith(b"web|")
            for address in ("127.0.0.1", "10.1.0.1", "10.2.0.1"):
                assert (await Place().ask(address, 8080)).startswith(b"web|")
            assert (await Place().ask("127.0.0.1", 8082)).startswith(b"web|")
            # Within a network, and out of it with the host's address.
            assert await neighbour.place.ask(web.address, 80) == b"web|10.1.0.3|hello"
            assert await neighbour.place.ask(web.address6, 80) == b"web|fd00:1::3|hello"
            assert await web.place.ask(OUTSIDE, 80) == f"far|{HOST}|hello".encode()
            assert await web.place.ask(OUTSIDE6, 80) == f"far|{HOST6}|hello".encode()
            assert (await beside.place.ask(hidden.address, 80)).startswith(b"hidden|")
            assert (await beside.place.ask(hidden.address6, 80)).startswith(b"hidden|")
            assert await pings(beside.place, "10.3.0.1")
            assert await pings(web.place, OUTSIDE6)
            await refused(
                {
                    f"{name} {address}": (place, address, 80)
                    for name, place, targets in (
                        ("from outside", outside, (web, stranger, hidden)),
                        ("between networks", web.place, (stranger, hidden)),
                        ("from an internal network", hidden.place, (web, stranger)),
                    )
                    for target in targets
                    for address in (target.address, target.address6)
                }
                | {f"out of an internal network {address}": (hidden.place, address, 80) for address in (OUTSIDE, OUTSIDE6)}
            )
            with pytest.raises(ConnectionRefusedError):  # published on loopback
                await outside.ask(HOST, 8082)
            await unreachable(
                {
                    f"{name} {address}": (place, address)
                    for name, place, targets in (
                        ("from outside", outside, (web, hidden)),
                        ("between networks", stranger.place, (web, hidden)),
                    )
                    for target in targets
                    for address in (target.address, target.address6)
                }
                | {f"out of an internal network {address}": (hidden.place, address) for address in (OUTSIDE, OUTSIDE6)}
            )
            assert not any(
                await asyncio.gather(
                    udp_reaches(web.place, stranger.place, stranger.address, 53),
                    udp_reaches(outside, web.place, web.address6, 54),
                    udp_reaches(hidden.place, outside, OUTSIDE, 55),
                )
            )
            assert await udp_reaches(neighbour.place, web.place, web.address, 53) == b"10.1.0.3"

    run_in_private_netns(scenario)


def test_gateway_modes_open_what_they_are_for() -> None:
    async def scenario() -> None:
        with bridge_lab() as lab:
            lab.bridge(1, gateway_mode4=GatewayMode.ROUTED, gateway_mode6=GatewayMode.NAT_UNPROTECTED)
            lab.bridge(2, trusted_interfaces=("wire",), masquerade=False)
            routed, trusting = lab.container(1, 2), lab.container(2, 2)
            for container in (routed, trusting):
                await serve(container, b"published", 80)
                await serve(container, b"other", 81)
            lab.rules.publish([MapElement("0.0.0.0", "tcp", 0, routed.address, 80)])
            publish(lab, trusting, 8080)
            outside = lab.outside
            await outside.serve(b"far")
            assert (await outside.ask(routed.address, 80)) == f"published|{OUTSIDE}|hello".encode()
            assert await pings(outside, routed.address)
            assert (await trusting.place.ask(routed.address, 80)) == f"published|{trusting.address}|hello".encode()
            assert (await outside.ask(routed.address6, 81)).startswith(b"other|")
            assert (await outside.ask(trusting.address, 80)).startswith(b"published|")
            assert (await outside.ask(HOST, 8080)).startswith(b"published|")
            assert await routed.place.ask(OUTSIDE, 80) == f"far|{routed.address}|hello".encode()
            assert await trusting.place.ask(OUTSIDE, 80) == f"far|{trusting.address}|hello".encode()
            await refused(
                {
                    "another port of a routed network": (outside, routed.address, 81),
                    "… from another network": (trusting.place, routed.address, 81),
                    "an unprotected network from another one": (trusting.place, routed.address6, 80),
                    "an unpublished port, from a trusted interface": (outside, trusting.address, 81),
                    "a network with addresses translated, from a routed one": (routed.place, trusting.address, 80),
                }
            )
            lab.rules.withdraw([MapElement("0.0.0.0", "tcp", 0, routed.address, 80)])
            await refused({"a withdrawn port": (outside, routed.address, 80)})

    run_in_private_netns(scenario)


@pytest.mark.parametrize("bridge_netfilter", ["0", "1"])
def test_without_icc_only_links_pass_and_only_in_their_direction(bridge_netfilter: str) -> None:
    async def scenario() -> None:
        write_sysctl("net/bridge/bridge-nf-call-iptables", bridge_netfilter)
        with bridge_lab() as lab:
            lab.bridge(1, icc=False)
            lab.bridge(2)
            parent, child, third = (lab.container(1, host) for host in (2, 3, 4))
            for container in (parent, child, third):
                await serve(container, b"here", 80)
                await serve(container, b"here", 81)

            async def closed(*pairs: tuple[Container, Container], but: int = 0) -> None:
                """No way from the first to the second of a pair, but for one port, which is left out."""
                ways: dict[str, Awaitable[bool | bytes]] = {}
                for at, (one, two) in enumerate(pairs):
                    name = f"{one.address} → {two.address} "
                    ways |= {f"{name}:{port}": tcp_reaches(one.place, two.address, port) for port in {80, 81} - {but}}
                    ways[name + "IPv6"] = tcp_reaches(one.place, two.address6, 80)
                    ways |= {f"{name} echo {address}": pings(one.place, address) for address in (two.address, two.address6)}
                    ways[name + "UDP"] = udp_reaches(one.place, two.place, two.address, 5000 + at)
                    ways[name + "raw"] = frame_reaches(one, two, b"\x88\xb5raw")
                    ways[name + "broadcast"] = frame_reaches(one, two, b"\x88\xb5raw", broadcast=True)
                    # As from somebody who may speak to the target.
                    ways[name + "forged"] = frame_reaches(one, two, udp_frame(parent.address, two.address, 81))
                passed = await asyncio.gather(*ways.values())
                assert [name for name, answered in zip(ways, passed, strict=True) if answered] == []

            everybody = [parent, child, third]
            every_pair = [(one, two) for one in everybody for two in everybody if one is not two]
            await closed(*every_pair)
            assert not await frame_reaches(third, child, arp_claim(third, "10.1.0.1", child.address), broadcast=True)
            for container in everybody:
                assert await pings(container.place, "10.1.0.1")

            links = [
                LinkException("lab1", parent.port, parent.address, child.port, child.address, protocol, port)
                for protocol, port in (("tcp", 80), ("udp", 53), ("tcp", 8000))
            ]
            elsewhere = LinkException("lab2", "kvlab-2-2", "10.2.0.2", "kvlab-2-3", "10.2.0.3", "tcp", 80)
            lab.rules.allow_link([*links, elsewhere])
            await closed((child, parent), (third, child), (parent, third), but=80)
            for _ in range(2):
                assert await parent.place.ask(child.address, 80) == f"here|{parent.address}|hello".encode()
                assert await udp_reaches(parent.place, child.place, child.address, 53) == parent.address.encode()
                await refused({"backwards": (child.place, parent.address, 80), "another": (third.place, child.address, 80)})
                lab.rules.restore()
            await answers_only(parent, child)
            assert await large_datagram_reaches(parent, child, 53)
            # A third one that claims to be the parent: to the bridge, to the host's routing, to the target's neighbour table.
            forged = udp_frame(parent.address, child.address, 53)
            assert (
                await asyncio.gather(
                    frame_reaches(third, child, forged),
                    routed_frame_reaches(third, child, forged),
                    frame_reaches(third, child, arp_claim(third, parent.address, child.address), broadcast=True),
                    frame_reaches(parent, child, arp_claim(parent, "10.1.0.1", child.address), broadcast=True),
                )
                == [False] * 4
            )
            assert await frame_reaches(parent, child, arp_claim(parent, parent.address, child.address), broadcast=True)

            lab.rules.forbid_link(links[1:])
            assert (await parent.place.ask(child.address, 80)).startswith(b"here|")
            assert not await udp_reaches(parent.place, child.place, child.address, 53)
            lab.rules.forbid_link(links)
            await closed((parent, child), (child, parent))
            lab.rules.forbid_link(links)

    run_in_private_netns(scenario)


async def answers_only(parent: Container, child: Container) -> None:
    """From the port of a link the target can answer, but not open a connection of its own."""

    def from_port_80() -> socket.socket:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((child.address, 8000))
        sock.setblocking(False)
        return sock

    with child.place.inside(from_port_80) as sock, pytest.raises(OSError, match=r"^$|unreachable|No route"):
        async with asyncio.timeout(0.4):
            await asyncio.get_running_loop().sock_connect(sock, (parent.address, 81))


async def large_datagram_reaches(source: Container, target: Container, port: int) -> bool:
    """One that needs several fragments."""
    with target.place.udp(("0.0.0.0", port)) as server, source.place.udp() as client:
        client.sendto(b"x" * 6000, (target.address, port))
        async with asyncio.timeout(2):
            return len((await asyncio.get_running_loop().sock_recvfrom(server, 10_000))[0]) == 6000


async def routed_frame_reaches(source: Container, target: Container, frame: bytes) -> bool:
    """Sent to the host's MAC, which routes it back to the bridge."""
    source.place.run("ip", "neigh", "flush", "dev", "eth0")
    await pings(source.place, "10.1.0.1")
    line = source.place.run("ip", "neigh", "show", "10.1.0.1").stdout.split()
    gateway = bytes.fromhex(line[line.index("lladdr") + 1].replace(":", ""))

    def opened() -> socket.socket:
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        sock.bind(("eth0", 0))
        return sock

    with target.place.udp((target.address, 53)) as server, source.place.inside(opened) as out:
        out.send(gateway + bytes.fromhex(source.mac().replace(":", "")) + frame)
        try:
            async with asyncio.timeout(0.4):
                await asyncio.get_running_loop().sock_recvfrom(server, 100)
        except TimeoutError:
            return False
        return True
