"""The nftables scripts of all bridge networks, as pure functions from values to text; applying them is left to ``ruleset``.

One table per engine, of the family ``inet``; where that can't translate addresses, one of ``ip`` and one of ``ip6``. What a
packet is checked against is looked up in sets and maps, so neither more networks nor more ports make it slower, and to
publish a port is a small transaction::

    ports4, ports6           address . protocol . port → container address . port     (bound to one address of the host)
    any_ports4, any_ports6             protocol . port → container address . port     (bound to all of them)
    open4, open6             container address . protocol . port                      (reached without translation)
    loopback4                address . protocol . port                                (published for this host only)
    links4                   address . address . protocol . port                      (who may pass although icc is off)

Chains that our table adds can't accept what another table drops: that is reported elsewhere, it can't be repaired here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Network, IPv6Network, ip_address

from kitepy.engine.model.network import ANY_IPV4, ANY_IPV6, PROTOCOL_NUMBERS, PublishedPort

Subnet = IPv4Network | IPv6Network
Entries = Mapping[str, Iterable[str]]
"""The elements of sets and maps, by the name of the set."""


class GatewayMode(Enum):
    """How a network's containers are reached from outside it, in the words of ``com.docker.network.bridge.gateway_mode_ipv4``."""

    NAT = "nat"
    NAT_UNPROTECTED = "nat-unprotected"
    ROUTED = "routed"
    ISOLATED = "isolated"


@dataclass(frozen=True)
class RuleContext:
    """What a bridge network's rules depend on."""

    bridge: str
    subnets: tuple[Subnet, ...]
    icc: bool = True
    """Whether containers may talk to each other."""
    loopback: bool = True
    """Whether the kernel routes 127.0.0.0/8 to the bridge (``route_localnet``); else a relay serves it."""
    masquerade: bool = True
    internal: bool = False
    gateway_mode4: GatewayMode = GatewayMode.NAT
    gateway_mode6: GatewayMode = GatewayMode.NAT
    source4: str = ""
    """What outgoing connections come from, instead of the address of the interface that they leave by."""
    source6: str = ""
    trusted_interfaces: tuple[str, ...] = ()
    """From here published ports of containers are reached at the containers' own addresses, too."""

    def mode(self, version: int) -> GatewayMode:
        """The gateway mode of an address family."""
        return self.gateway_mode4 if version == 4 else self.gateway_mode6

    def source(self, version: int) -> str:
        """The source address of an address family."""
        return self.source4 if version == 4 else self.source6


class Families(Enum):
    """The tables that carry both address families."""

    BOTH_IN_ONE = ("inet",)
    ONE_EACH = ("ip", "ip6")
    IPV4_ONLY = ("ip",)

    def of(self, version: int) -> str | None:
        """The table's family that holds the sets of an IP version; None when there is none."""
        if self is Families.BOTH_IN_ONE:
            return "inet"
        return "ip" if version == 4 else "ip6" if self is Families.ONE_EACH else None


@dataclass(frozen=True, order=True)
class MapElement:
    """A published port: what the packet was sent to, and where it goes instead; ``host_port`` 0 has no translation."""

    host_ip: str
    protocol: str
    host_port: int
    container_ip: str
    container_port: int

    @property
    def version(self) -> int:
        """Of the container's address, which is that of the host's, too."""
        return 6 if ":" in self.container_ip else 4

    @property
    def is_translated(self) -> bool:
        """Whether it has an entry in a map."""
        return self.host_port > 0

    @property
    def map_name(self) -> str:
        """Which of the maps holds it."""
        return f"{'any_ports' if self.host_ip in (ANY_IPV4, ANY_IPV6) else 'ports'}{self.version}"

    @property
    def key(self) -> str:
        """Protocols are numbers, because names need /etc/protocols, which small systems lack."""
        tail = f"{PROTOCOL_NUMBERS[self.protocol]} . {self.host_port}"
        return tail if self.host_ip in (ANY_IPV4, ANY_IPV6) else f"{self.host_ip} . {tail}"

    @property
    def entry(self) -> str:
        """Key and value."""
        return f"{self.key} : {self.container_ip} . {self.container_port}"

    @property
    def open_entry(self) -> str:
        """The container's end of it."""
        return f"{self.container_ip} . {PROTOCOL_NUMBERS[self.protocol]} . {self.container_port}"


def port_elements(address: str, ports: Iterable[PublishedPort], address6: str = "") -> list[MapElement]:
    """The entries for an endpoint's ports. What the kernel can't translate has none and is left to a relay.

    That is an IPv6 address of the host for a container without IPv6.
    """
    elements = []
    for port in ports:
        target = address if ip_address(port.host_ip).version == 4 else address6
        if target and "%" not in port.host_ip:  # a link-local address means nothing on the bridge
            elements.append(MapElement(port.host_ip, port.protocol, port.host_port, target, port.container_port))
    return elements


def relay_target(port: PublishedPort, address: str, address6: str = "") -> str:
    """The address of the container that a relay connects to for a port; empty when there is none.

    IPv6 clients reach a container that has IPv4 only, but not the other way round, as with Docker.
    """
    return address if ip_address(port.host_ip).version == 4 else address6 or address


# --- elements ---


def port_entries(elements: Iterable[MapElement], *, keys_only: bool = False) -> dict[str, list[str]]:
    """What published ports add to the maps; keys alone are enough to take them away."""
    entries: dict[str, list[str]] = {}
    for element in elements:
        if element.is_translated:
            entries.setdefault(element.map_name, []).append(element.key if keys_only else element.entry)
            if element.host_ip.startswith("127."):
                entries.setdefault("loopback4", []).append(element.key)
    return entries


def open_entries(contexts: Iterable[RuleContext], elements: Iterable[MapElement]) -> dict[str, set[str]]:
    """The ports of containers that are reached without translation: those of routed networks and of trusted interfaces."""
    direct = [
        subnet
        for context in contexts
        for subnet in context.subnets
        if context.trusted_interfaces or context.mode(subnet.version) is GatewayMode.ROUTED
    ]
    entries: dict[str, set[str]] = {}
    if direct:
        for element in elements:
            if not element.is_translated or any(ip_address(element.container_ip) in subnet for subnet in direct):
                entries.setdefault(f"open{element.version}", set()).add(element.open_entry)
    return entries


def change_elements(verb: str, table: str, families: Families, entries: Entries) -> str:
    """A script that adds or deletes elements; empty when there is nothing to do. To delete a missing one fails as a whole."""
    lines = []
    for name, found in sorted(entries.items()):
        family, listed = families.of(int(name[-1])), list(found)
        if family is not None and listed:
            lines.append(f"{verb} element {family} {table} {name} {{ {', '.join(listed)} }}\n")
    return "".join(lines)


def add_elements(table: str, families: Families, elements: Iterable[MapElement]) -> str:
    """A script that publishes ports."""
    return change_elements("add", table, families, port_entries(elements))


def delete_elements(table: str, families: Families, elements: Iterable[MapElement]) -> str:
    """A script that withdraws ports."""
    return change_elements("delete", table, families, port_entries(elements, keys_only=True))


# --- the table ---


def delete_table(table: str, families: Iterable[str] = ("inet", "ip", "ip6")) -> str:
    """A script that removes the tables of a name whether or not they exist."""
    return "".join(f"add table {family} {table}\ndelete table {family} {table}\n" for family in families)


def _declare(kind: str, name: str, type_: str, elements: Iterable[str] = ()) -> str:
    listed = ", ".join(elements)
    body = f"type {type_}; elements = {{ {listed} }}" if listed else f"type {type_}"
    return f"  {kind} {name} {{ {body}; }}\n"


def _chain(name: str, rules: Iterable[str], hook: str = "") -> str:
    head = [f"    type {hook}; policy accept;"] if hook else []
    return "\n".join([f"  chain {name} {{", *head, *(f"    {rule}" for rule in rules), "  }\n"])


def _quoted(names: Iterable[str]) -> list[str]:
    return [f'"{name}"' for name in names]


def _outbound(context: RuleContext, version: int) -> list[str]:
    """Hides the containers' addresses from whatever is not on their bridge."""
    if not context.masquerade or context.internal or context.mode(version) is GatewayMode.ROUTED:
        return []
    ip = "ip" if version == 4 else "ip6"
    source = context.source(version)
    verdict = f"snat {ip} to {source}" if source else "masquerade"
    return [
        f'{ip} saddr {subnet} oifname != "{context.bridge}" {verdict}' for subnet in context.subnets if subnet.version == version
    ]


def _inbound(context: RuleContext, version: int) -> list[str]:
    """What reaches a network's containers from outside beside published ports."""
    ip, icmp = ("ip", "icmp") if version == 4 else ("ip6", "ipv6-icmp")
    protocol, bridge = f"meta nfproto ipv{version}", f'oifname "{context.bridge}"'
    published = f"{ip} daddr . meta l4proto . th dport @open{version} accept"
    match context.mode(version):
        case GatewayMode.NAT_UNPROTECTED:
            return [f"{bridge} {protocol} accept"]
        case GatewayMode.ROUTED:
            return [f"{bridge} {protocol} meta l4proto {icmp} accept", f"{bridge} {published}"]
        case _:
            trusted = ", ".join(_quoted(context.trusted_interfaces))
            return [f"iifname {{ {trusted} }} {bridge} {published}"] if trusted else []


def _through_other_bridges(context: RuleContext, version: int) -> list[str]:
    """Routed networks are reached from the host's other networks as well."""
    if context.mode(version) is not GatewayMode.ROUTED:
        return []
    return [f'oifname "{context.bridge}" meta nfproto ipv{version} jump into_bridge']


def _sets(version: int) -> str:
    address = f"ipv{version}_addr"
    port, target = "inet_proto . inet_service", f"{address} . inet_service"
    declared = (
        _declare("map", f"ports{version}", f"{address} . {port} : {target}")
        + _declare("map", f"any_ports{version}", f"{port} : {target}")
        + _declare("set", f"open{version}", f"{address} . {port}")
    )
    if version == 4:
        declared += _declare("set", "loopback4", f"{address} . {port}")
        declared += _declare("set", "links4", f"{address} . {address} . {port}")
    return declared


def _table(family: str, table: str, contexts: Sequence[RuleContext]) -> str:
    versions = {"inet": (4, 6), "ip": (4,), "ip6": (6,)}[family]
    bridges = _quoted(context.bridge for context in contexts)
    internal = _quoted(context.bridge for context in contexts if context.internal)
    within = [f'"{context.bridge}" . "{context.bridge}" : {"accept" if context.icc else "jump linked"}' for context in contexts]
    by_version = [(context, version) for context in contexts for version in versions]
    publish, guard, arriving, leaving, hidden, linked = [], [], [], [], [], []
    if 4 in versions:
        guard = [
            "iifname @bridges drop",
            'iifname != "lo" ip daddr . meta l4proto . th dport @loopback4 drop',
        ]
        arriving = ["ip daddr 127.0.0.0/8 return"]
        if not all(context.loopback or context.internal for context in contexts):
            leaving = ["ip daddr 127.0.0.0/8 return"]
        hidden = ["oifname @bridges ip saddr 127.0.0.0/8 masquerade"]
        linked = ["ip saddr . ip daddr . meta l4proto . th dport @links4 accept"]
        publish += [
            "dnat ip to ip daddr . meta l4proto . th dport map @ports4",
            "meta nfproto ipv4 dnat ip to meta l4proto . th dport map @any_ports4",
        ]
    if 6 in versions:
        arriving = [*arriving, "ip6 saddr fe80::/10 return"]
        leaving = [*leaving, "ip6 daddr ::1 return"]
        publish += [
            "dnat ip6 to ip6 daddr . meta l4proto . th dport map @ports6",
            "meta nfproto ipv6 dnat ip6 to meta l4proto . th dport map @any_ports6",
        ]
    # guard: route_localnet on a bridge would let containers reach the host's loopback services, and where it is on for other
    # interfaces, the wire would reach what is published for this host only.
    # arriving, bridges: where br_netfilter is on, a translated packet of a container would be switched instead of routed, and
    # then neither come back to the same container nor pass between isolated ports. Containers are served by the relay.
    # arriving, link-local clients: their address means nothing on the bridge. ::1: IPv6 has no route_localnet.
    return "".join(
        (
            f"table {family} {table} {{\n",
            _declare("set", "bridges", "ifname", bridges),
            _declare("set", "internal", "ifname", internal),
            *(_sets(version) for version in versions),
            _chain("linked", [*linked, "drop"]),
            _declare("map", "within", "ifname . ifname : verdict", within),
            _chain("publish", publish),
            _chain("loopback", guard),
            # A jump, so that every other packet passes by one comparison.
            _chain("guard", ["ip daddr 127.0.0.0/8 jump loopback"] if guard else [], "filter hook prerouting priority -300"),
            _chain(
                "prerouting",
                ["iifname @bridges return", *arriving, "fib daddr type local jump publish"],
                "nat hook prerouting priority -100",
            ),
            _chain("output", [*leaving, "fib daddr type local jump publish"], "nat hook output priority -100"),
            _chain(
                "postrouting",
                [*(rule for pair in by_version for rule in _outbound(*pair)), *hidden],
                "nat hook postrouting priority 100",
            ),
            _chain("into_bridge", ["ct status dnat accept", *(rule for pair in by_version for rule in _inbound(*pair)), "drop"]),
            _chain(
                "from_bridge",
                [
                    "iifname . oifname vmap @within",
                    "iifname @internal drop",
                    "oifname @internal drop",
                    *(rule for pair in by_version for rule in _through_other_bridges(*pair)),
                    "oifname @bridges drop",
                    "accept",
                ],
            ),
            _chain(
                "forward",
                [
                    "ct state established,related accept",
                    "iifname @bridges jump from_bridge",
                    "oifname @internal drop",
                    "oifname @bridges jump into_bridge",
                ],
                "filter hook forward priority 0",
            ),
            "}\n",
        )
    )


def replace_table(table: str, families: Families, contexts: Sequence[RuleContext], entries: Entries) -> str:
    """A script that puts the whole table in place, whatever was there before, without a moment in which it is missing."""
    tables = "".join(_table(family, table, contexts) for family in families.value)
    # A kernel without IPv6 refuses even to forget a table of it.
    former = ("inet", "ip") if families is Families.IPV4_ONLY else ("inet", "ip", "ip6")
    return delete_table(table, former) + tables + change_elements("add", table, families, entries)
