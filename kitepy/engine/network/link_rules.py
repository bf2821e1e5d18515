"""What links are to a bridge whose containers may not talk to each other: the nftables scripts, as pure functions.

The ports of such a bridge are isolated by the kernel itself. The target of a link is not, so that frames get to it at all,
and this table of the family ``bridge`` lets only those through that belong to a link, whatever addresses they claim::

    opened       the targets' ports: all that comes from or goes to them is checked
    links        source's port . target's port . protocol . port
    pairs        port . port, both ways
    addresses    address . port                               who may use the address of a container that takes part

There is no tracking of connections in this family on many kernels, so answers are told by their port and, for TCP, by not
being an opening.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from kitepy.engine.model.network import PROTOCOL_NUMBERS

FAMILY = "bridge"


@dataclass(frozen=True, order=True)
class LinkException:
    """One port that a linked container may reach; interfaces are the host's ends, the ports of the bridge."""

    bridge: str
    parent_interface: str
    """Of the container that was started with ``--link``."""
    parent_address: str
    child_interface: str
    """Of the container that it names."""
    child_address: str
    protocol: str
    port: int


def routed_entries(links: Iterable[LinkException]) -> dict[str, set[str]]:
    """What links add to the sets of the main table, which sees bridged packets too where ``br_netfilter`` is on."""
    entries = {
        f"{link.parent_address} . {link.child_address} . {PROTOCOL_NUMBERS[link.protocol]} . {link.port}" for link in links
    }
    return {"links4": entries} if entries else {}


def bridged_entries(links: Iterable[LinkException]) -> dict[str, set[str]]:
    """The elements of the sets of this table."""
    entries: dict[str, set[str]] = {}

    def add(name: str, *elements: str) -> None:
        entries.setdefault(name, set()).update(elements)

    for link in links:
        parent, child = f'"{link.parent_interface}"', f'"{link.child_interface}"'
        add("opened", child)
        add("links", f"{parent} . {child} . {PROTOCOL_NUMBERS[link.protocol]} . {link.port}")
        add("pairs", f"{parent} . {child}", f"{child} . {parent}")
        add("owners", link.parent_address, link.child_address)
        add("addresses", f"{link.parent_address} . {parent}", f"{link.child_address} . {child}")
    return entries


def change_elements(verb: str, table: str, entries: dict[str, set[str]]) -> str:
    """A script that adds or deletes elements; empty when there is nothing to do."""
    return "".join(
        f"{verb} element {FAMILY} {table} {name} {{ {', '.join(sorted(found))} }}\n"
        for name, found in sorted(entries.items())
        if found
    )


def replace_table(table: str, port_prefix: str, entries: dict[str, set[str]]) -> str:
    """A script that puts the table in place, whatever was there before. ``port_prefix`` is what our ports' names begin with."""
    ours = f'iifname "{port_prefix}*"'
    return f"""\
add table {FAMILY} {table}
delete table {FAMILY} {table}
table {FAMILY} {table} {{
  set opened {{ type ifname; }}
  set links {{ type ifname . ifname . inet_proto . inet_service; }}
  set pairs {{ type ifname . ifname; }}
  set owners {{ type ipv4_addr; }}
  set addresses {{ type ipv4_addr . ifname; }}
  chain prerouting {{
    type filter hook prerouting priority -300; policy accept;
    {ours} ip saddr @owners ip saddr . iifname != @addresses drop
    {ours} ether type arp arp saddr ip @owners arp saddr ip . iifname != @addresses drop
  }}
  chain forward {{
    type filter hook forward priority -200; policy accept;
    iifname @opened goto linked
    oifname @opened goto linked
  }}
  chain linked {{
    iifname . oifname @pairs ether type arp arp saddr ip . iifname @addresses accept
    ether type != ip drop
    iifname . oifname . meta l4proto . th dport @links accept
    tcp flags & (syn | ack) == syn drop
    oifname . iifname . meta l4proto . th sport @links accept
    iifname . oifname @pairs ip frag-off & 0x1fff != 0 accept
    iifname . oifname @pairs icmp type {{ destination-unreachable, time-exceeded, parameter-problem }} accept
    drop
  }}
}}
""" + change_elements("add", table, entries)
