"""The default bridge's subnet and the MAC addresses of bridges and containers. Pure; the kernel is asked elsewhere."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address

from kitepy.engine.model.errors import InvalidParameter


def check_gateway(wanted: IPv4Interface, taken: Iterable[tuple[IPv4Network, str]]) -> None:
    """Refuses an explicit ``--bip`` that would steal traffic from a subnet of the host.

    ``taken`` pairs each routed subnet with the interface it belongs to. A wider route (a VPN's 172.16.0.0/12, say) is
    no obstacle: the bridge's own is more specific, and the user asked for it.
    """
    network = wanted.network
    if network.prefixlen > 30:
        raise InvalidParameter(f"--bip {wanted} leaves no address for containers: use a prefix of 30 bits or less")
    if wanted.ip in (network.network_address, network.broadcast_address):
        raise InvalidParameter(f"--bip {wanted} is the network or broadcast address of {network}, not a host address")
    for other, interface in taken:
        if other.subnet_of(network):
            raise InvalidParameter(f"--bip {wanted} overlaps {other}, which interface {interface} already uses")


def mac_for(address: IPv4Address | IPv6Address) -> str:
    """Docker's classic scheme, 02:42 and the address: one address always has one MAC, so neighbours' caches stay true."""
    return "02:42:" + address.packed[-4:].hex(":")


def bridge_mac(bridge: str) -> str:
    """A stable, locally administered MAC; without one a bridge changes its own whenever a port comes or goes."""
    return "02:" + hashlib.sha256(bridge.encode()).digest()[:5].hex(":")
