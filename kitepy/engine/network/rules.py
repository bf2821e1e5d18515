"""The nftables scripts of a bridge network, as pure functions from values to text; applying them is left to the bridge.

One table per engine. Published ports are elements of two maps, so publishing one is a small transaction and the lookup
takes constant time::

    ports       address . protocol . port → container address . port      (bound to one address of the host)
    any_ports             protocol . port → container address . port      (bound to all of them)

Chains that our table adds can't accept what another table drops: that is reported elsewhere, it can't be repaired here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, ip_address

from kitepy.engine.model.network import ANY_IPV4, PROTOCOL_NUMBERS, PublishedPort


@dataclass(frozen=True)
class RuleContext:
    """What a network's rules depend on."""

    table: str
    bridge: str
    subnet: IPv4Network
    icc: bool = True
    """Whether containers may talk to each other."""
    loopback: bool = True
    """Whether the kernel routes 127.0.0.0/8 to the bridge (``route_localnet``); else a relay serves it."""
    masquerade: bool = True


@dataclass(frozen=True, order=True)
class MapElement:
    """One entry of a port map: what the packet was sent to, and where it goes instead."""

    host_ip: str
    protocol: str
    host_port: int
    container_ip: str
    container_port: int

    @property
    def map_name(self) -> str:
        """Which of the two maps holds it."""
        return "any_ports" if self.host_ip == ANY_IPV4 else "ports"

    @property
    def key(self) -> str:
        """Protocols are numbers, because names need /etc/protocols, which small systems lack."""
        tail = f"{PROTOCOL_NUMBERS[self.protocol]} . {self.host_port}"
        return tail if self.host_ip == ANY_IPV4 else f"{self.host_ip} . {tail}"

    @property
    def entry(self) -> str:
        """Key and value."""
        return f"{self.key} : {self.container_ip} . {self.container_port}"


def port_elements(address: str, ports: Iterable[PublishedPort]) -> list[MapElement]:
    """The entries for an endpoint's ports. IPv6 ones have none: the container has IPv4 only, so a relay serves them."""
    return [
        MapElement(port.host_ip, port.protocol, port.host_port, address, port.container_port)
        for port in ports
        if isinstance(ip_address(port.host_ip), IPv4Address)
    ]


def _element_commands(verb: str, table: str, entries: dict[str, list[str]]) -> str:
    return "".join(f"{verb} element ip {table} {name} {{ {', '.join(found)} }}\n" for name, found in sorted(entries.items()))


def add_elements(table: str, elements: Iterable[MapElement]) -> str:
    """A script that publishes ports; empty when there is nothing to do."""
    entries: dict[str, list[str]] = {}
    for element in elements:
        entries.setdefault(element.map_name, []).append(element.entry)
    return _element_commands("add", table, entries)


def delete_elements(table: str, elements: Iterable[MapElement]) -> str:
    """A script that withdraws ports; it fails as a whole when one of them isn't there."""
    entries: dict[str, list[str]] = {}
    for element in elements:
        entries.setdefault(element.map_name, []).append(element.key)
    return _element_commands("delete", table, entries)


def delete_table(table: str) -> str:
    """A script that removes the table whether or not it exists."""
    return f"add table ip {table}\ndelete table ip {table}\n"


def replace_table(context: RuleContext, elements: Iterable[MapElement]) -> str:
    """A script that puts the whole table in place, whatever was there before, without a moment in which it is missing."""
    bridge = f'"{context.bridge}"'
    loopback_in_output = "" if context.loopback else "    ip daddr 127.0.0.0/8 return\n"
    between_containers = "accept" if context.icc else "drop"
    outbound = f"    ip saddr {context.subnet} oifname != {bridge} masquerade\n" if context.masquerade else ""
    table = f"""\
table ip {context.table} {{
  map ports {{
    type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service
  }}
  map any_ports {{
    type inet_proto . inet_service : ipv4_addr . inet_service
  }}
  chain publish {{
    dnat ip to ip daddr . meta l4proto . th dport map @ports
    dnat ip to meta l4proto . th dport map @any_ports
  }}
  chain guard_loopback {{
    type filter hook prerouting priority -300; policy accept;
    iifname {bridge} ip daddr 127.0.0.0/8 drop
  }}
  chain prerouting {{
    type nat hook prerouting priority -100; policy accept;
    iifname {bridge} return
    ip daddr 127.0.0.0/8 return
    fib daddr type local jump publish
  }}
  chain output {{
    type nat hook output priority -100; policy accept;
{loopback_in_output}\
    fib daddr type local jump publish
  }}
  chain postrouting {{
    type nat hook postrouting priority 100; policy accept;
{outbound}\
    oifname {bridge} ip saddr 127.0.0.0/8 masquerade
  }}
  chain forward {{
    type filter hook forward priority 0; policy accept;
    oifname != {bridge} accept
    ct state established,related accept
    ct status dnat accept
    iifname {bridge} {between_containers}
    drop
  }}
}}
"""
    # guard_loopback: route_localnet on the bridge would let containers reach the host's loopback services.
    # prerouting, bridge: where br_netfilter is on, a translated packet of a container would be switched instead of routed, and
    # then neither come back to the same container nor pass between isolated ports. Containers are served by the relay.
    # prerouting, loopback: a packet for 127.0.0.1 from the wire must not reach a port published on loopback only.
    return delete_table(context.table) + table + add_elements(context.table, elements)
