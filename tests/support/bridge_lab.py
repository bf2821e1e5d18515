"""Bridges with containers and a machine outside, made by hand, to see what rules let through and nothing else of the engine.

To be used in a network namespace of its own (``private_netns``). Neighbours are on 10.N.0.0/24 and fd00:N::/64, the machine
outside is on 192.0.2.0/24 and fd00:99::/64 and routes everything to this host.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from ipaddress import IPv4Network, IPv6Network

from support.private_netns import Place

from kitepy.engine.kernel.netlink import RouteSocket, isolate_port
from kitepy.engine.kernel.netns import in_new_namespace, open_current_namespace
from kitepy.engine.kernel.nftables import Nftables
from kitepy.engine.kernel.sysctl import write_sysctl
from kitepy.engine.network.rules import RuleContext
from kitepy.engine.network.ruleset import RuleSet

TABLE, PORT_PREFIX = "kitepy_lab", "kvlab-"
OUTSIDE, OUTSIDE6 = "192.0.2.2", "fd00:99::2"
HOST, HOST6 = "192.0.2.1", "fd00:99::1"
_NOT_BEFORE_S = 0.3
"""How long a packet may take that should arrive nowhere: everything here is one machine."""


def configure(place: Place, *lines: str) -> None:
    """Commands of ip(8) that must succeed."""

    def run() -> None:
        subprocess.run(["ip", "-batch", "-"], input="\n".join(lines), check=True, capture_output=True, text=True)

    place.inside(run)


@dataclass
class Container:
    """A namespace with one interface, eth0."""

    place: Place
    port: str
    """Its port of the bridge."""
    address: str
    address6: str

    def mac(self) -> str:
        """Of eth0."""
        found: str = self.place.inside(_mac)
        return found


def _mac() -> str:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
        sock.bind(("eth0", 0))
        return ":".join(f"{byte:02x}" for byte in sock.getsockname()[4])


class BridgeLab:
    """``rules`` are set anew whenever a bridge is added."""

    def __init__(self, undo: ExitStack) -> None:
        self._undo = undo
        self.rules = RuleSet(Nftables(), TABLE, PORT_PREFIX)
        undo.callback(self.rules.close)
        self.contexts: list[RuleContext] = []
        self.outside = self._namespace()
        for name in ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"):
            write_sysctl(name, "1")
        # Until a link-local address has been probed, which takes a second or two, the host asks for no neighbours there.
        write_sysctl("net/ipv6/conf/default/accept_dad", "0")
        self._wire(self.outside, "wire", HOST, HOST6, OUTSIDE, OUTSIDE6)

    def _namespace(self) -> Place:
        fd = in_new_namespace(open_current_namespace)
        self._undo.callback(os.close, fd)
        return Place(fd)

    def _wire(self, place: Place, name: str, host: str, host6: str, inside: str, inside6: str, bridge: str = "") -> None:
        ours = [f"addr add {host}/24 dev {name}", f"addr add {host6}/64 dev {name} nodad"]
        configure(
            Place(),
            f"link add {name} type veth peer name eth0 netns /proc/{os.getpid()}/fd/{place.netns_fd}",
            *([f"link set {name} master {bridge}"] if bridge else ours),
            f"link set {name} up",
        )
        configure(
            place,
            "link set lo up",
            "link set eth0 up",
            f"addr add {inside}/24 dev eth0",
            f"addr add {inside6}/64 dev eth0 nodad",
            f"route add default via {host}",
            f"route add default via {host6}",
        )

    def bridge(self, number: int, **settings: object) -> RuleContext:
        """A network with gateway .1; settings as ``RuleContext`` takes them."""
        name = f"lab{number}"
        configure(
            Place(),
            f"link add {name} type bridge",
            f"addr add 10.{number}.0.1/24 dev {name}",
            f"addr add fd00:{number}::1/64 dev {name} nodad",
            f"link set {name} up",
        )
        write_sysctl(f"net/ipv4/conf/{name}/route_localnet", "1")
        subnets = (IPv4Network(f"10.{number}.0.0/24"), IPv6Network(f"fd00:{number}::/64"))
        context = replace(RuleContext(name, subnets), **settings)  # type: ignore[arg-type]  # test shorthand
        self.contexts.append(context)
        self.rules.set_networks(self.contexts)
        return context

    def container(self, number: int, host: int) -> Container:
        """A neighbour on network ``number`` with host part ``host``."""
        place, port = self._namespace(), f"{PORT_PREFIX}{number}-{host}"
        address, address6 = f"10.{number}.0.{host}", f"fd00:{number}::{host}"
        self._wire(place, port, f"10.{number}.0.1", f"fd00:{number}::1", address, address6, bridge=f"lab{number}")
        if not next(context for context in self.contexts if context.bridge == f"lab{number}").icc:
            with RouteSocket() as route:
                link = route.link(port)
                assert link is not None
                route.execute([isolate_port(link.index)])
        return Container(place, port, address, address6)


@contextmanager
def bridge_lab() -> Iterator[BridgeLab]:
    """Everything goes with the namespace and the descriptors."""
    with ExitStack() as undo:
        yield BridgeLab(undo)


async def tcp_reaches(source: Place, address: str, port: int) -> bool:
    """Whether anything answers: a service or a refusal."""
    try:
        await source.ask(address, port, timeout_s=_NOT_BEFORE_S)
    except ConnectionError:
        return True
    except OSError:
        return False
    return True


async def udp_reaches(source: Place, target: Place, address: str, port: int, bind: str = "") -> bytes:
    """What arrives at a service there: the sender's address, or nothing."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    any_address = "::" if family == socket.AF_INET6 else "0.0.0.0"
    loop = asyncio.get_running_loop()
    with target.udp((any_address, port), family) as server, source.udp((bind or any_address, 0), family) as client:
        try:
            client.sendto(b"datagram", (address, port))
        except OSError:
            return b""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_NOT_BEFORE_S):
                _, sender = await loop.sock_recvfrom(server, 100)
                return str(sender[0]).encode()
    return b""


async def pings(source: Place, address: str) -> bool:
    """Whether an echo comes back."""

    def opened() -> socket.socket:
        family, protocol = (socket.AF_INET6, socket.IPPROTO_ICMPV6) if ":" in address else (socket.AF_INET, socket.IPPROTO_ICMP)
        return socket.socket(family, socket.SOCK_RAW | socket.SOCK_NONBLOCK, protocol)

    is_ipv6 = ":" in address
    kind, answer = (128, 129) if is_ipv6 else (8, 0)
    body = bytes((kind, 0, 0, 0, 0, 1, 0, 1))
    if not is_ipv6:
        total = sum(int.from_bytes(body[index : index + 2], "big") for index in range(0, 8, 2))
        body = body[:2] + (~total & 0xFFFF).to_bytes(2, "big") + body[4:]
    with source.inside(opened) as sock:
        try:
            sock.sendto(body, (address, 0))
            async with asyncio.timeout(_NOT_BEFORE_S):
                while True:
                    data, sender = await asyncio.get_running_loop().sock_recvfrom(sock, 200)
                    if sender[0] == address and (data if is_ipv6 else data[20:])[0] == answer:
                        return True
        except OSError:  # TimeoutError is one
            return False


async def frame_reaches(source: Container, target: Container, frame: bytes, *, broadcast: bool = False) -> bool:
    """Whether a frame with this payload (type included) and a sender of its own comes out at the target."""
    target_mac = b"\xff" * 6 if broadcast else bytes.fromhex(target.mac().replace(":", ""))
    source_mac = bytes.fromhex(source.mac().replace(":", ""))

    def opened() -> socket.socket:
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.htons(3))
        sock.bind(("eth0", 3))
        return sock

    wanted = source_mac + frame
    loop = asyncio.get_running_loop()
    with source.place.inside(opened) as out, target.place.inside(opened) as tap:
        out.send(target_mac + wanted)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_NOT_BEFORE_S):
                while True:
                    received = await loop.sock_recv(tap, 2000)
                    if received[6:].startswith(wanted):
                        return True
    return False


def arp_claim(source: Container, claimed: str, asked: str) -> bytes:
    """An ARP request whose sender claims an address."""
    mac = bytes.fromhex(source.mac().replace(":", ""))
    return b"\x08\x06" + bytes((0, 1, 8, 0, 6, 4, 0, 1)) + mac + socket.inet_aton(claimed) + bytes(6) + socket.inet_aton(asked)


def udp_frame(sender: str, receiver: str, port: int) -> bytes:
    """A datagram (type included) from an address that need not be the sender's."""
    payload = b"forged"
    udp = (9).to_bytes(2, "big") + port.to_bytes(2, "big") + (8 + len(payload)).to_bytes(2, "big") + b"\0\0" + payload
    head = bytearray(b"\x45\0" + (20 + len(udp)).to_bytes(2, "big") + b"\0\0\0\0\x40\x11\0\0")
    head += socket.inet_aton(sender) + socket.inet_aton(receiver)
    total = sum(int.from_bytes(head[index : index + 2], "big") for index in range(0, 20, 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    head[10:12] = (~total & 0xFFFF).to_bytes(2, "big")
    return b"\x08\0" + bytes(head) + udp
