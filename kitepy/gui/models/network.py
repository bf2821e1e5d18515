"""Networks as the app lists them, who is attached, and what a new one is checked for before the engine is asked."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from kitepy.gui.models.container import Attachment, Container

PREDEFINED = ("bridge", "host", "none")
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*$")


@dataclass(frozen=True)
class Subnet:
    subnet: str
    gateway: str = ""
    ip_range: str = ""


@dataclass(frozen=True)
class Network:
    id: str
    name: str
    driver: str = "bridge"
    scope: str = "local"
    created_at: str = ""
    subnets: tuple[Subnet, ...] = ()
    internal: bool = False
    ipv6: bool = False
    attachable: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def predefined(self) -> bool:
        """Every engine has it, and it can't be removed."""
        return self.name in PREDEFINED

    @property
    def takes_containers(self) -> bool:
        """Whether a container can be attached while it exists; `host` and `none` are chosen when it is made."""
        return self.driver not in ("host", "null")

    @property
    def subnet_text(self) -> str:
        return ", ".join(subnet.subnet for subnet in self.subnets)

    @property
    def gateway_text(self) -> str:
        return ", ".join(subnet.gateway for subnet in self.subnets if subnet.gateway)


@dataclass(frozen=True)
class Member:
    container: Container
    attachment: Attachment


@dataclass(frozen=True)
class NetworkRow:
    network: Network
    members: tuple[Member, ...] = ()

    @property
    def traits(self) -> str:
        """What is unlike most networks."""
        found = [(self.network.internal, "internal"), (self.network.ipv6, "IPv6"), (self.network.attachable, "attachable")]
        return ", ".join(word for true, word in found if true)

    @property
    def attached(self) -> str:
        return ", ".join(member.container.name for member in self.members)


@dataclass(frozen=True)
class NetworkPlan:
    """A network to be made; empty texts leave the choice to the engine."""

    name: str
    driver: str = "bridge"
    subnet: str = ""
    gateway: str = ""
    internal: bool = False
    ipv6: bool = False
    subnet6: str = ""
    parent: str = ""
    """The host's interface, for macvlan and ipvlan."""


def network_rows(networks: Iterable[Network], containers: Iterable[Container], query: str = "") -> tuple[NetworkRow, ...]:
    """The user's own first, by name; all words of `query` must match."""
    members: dict[str, list[Member]] = {}
    for container in sorted(containers, key=lambda container: container.name.lower()):
        for attachment in container.networks:
            members.setdefault(attachment.network_id or attachment.network, []).append(Member(container, attachment))
    rows = [
        NetworkRow(network, tuple(members.get(network.id, ())) or tuple(members.get(network.name, ()))) for network in networks
    ]
    rows.sort(key=lambda row: (row.network.predefined, row.network.name.lower()))
    words = query.lower().split()
    return tuple(row for row in rows if all(word in _text_of(row) for word in words))


def _text_of(row: NetworkRow) -> str:
    addresses = " ".join(f"{member.attachment.address} {member.attachment.mac}" for member in row.members)
    network = row.network
    return " ".join(
        (network.name, network.id, network.driver, network.subnet_text, network.gateway_text, row.traits, row.attached, addresses)
    ).lower()


def connectable(row: NetworkRow, containers: Iterable[Container]) -> tuple[Container, ...]:
    """Containers that are not on the network and could be; one that shares another's or the host's network can't."""
    there = {member.container.id for member in row.members}
    fixed = {"host"}
    return tuple(
        container
        for container in sorted(containers, key=lambda container: container.name.lower())
        if container.id not in there and container.networks and not fixed & {each.network for each in container.networks}
    )


def trouble_with_network(plan: NetworkPlan, networks: Iterable[Network]) -> str:
    """Why the plan can't work, in a sentence, or an empty text; the engine has the last word."""
    networks = tuple(networks)
    if not _NAME.match(plan.name):
        return "A name begins with a letter or digit; then letters, digits and . _ -." if plan.name else "Give it a name."
    if any(network.name == plan.name for network in networks):
        return f"There is a network {plan.name} already."
    if plan.gateway and not plan.subnet:
        return "A gateway needs the subnet that it is in."
    for text, version in ((plan.subnet, 4), (plan.subnet6, 6)):
        if text and (trouble := _trouble_with_subnet(text, version, networks)):
            return trouble
    if plan.gateway:
        try:
            gateway = ipaddress.ip_address(plan.gateway)
        except ValueError:
            return f"{plan.gateway} isn't an address."
        if gateway not in ipaddress.ip_network(plan.subnet):
            return f"The gateway {gateway} isn't in {plan.subnet}."
    return ""


def _trouble_with_subnet(text: str, version: int, networks: tuple[Network, ...]) -> str:
    try:
        wanted = ipaddress.ip_network(text)
    except ValueError:
        example = "10.20.0.0/24" if version == 4 else "fd00:20::/64"
        return f"{text} isn't a subnet: write it like {example}, without bits behind the prefix."
    if wanted.version != version or "/" not in text:
        return f"{text} isn't an IPv{version} subnet with a prefix."
    for network in networks:
        for subnet in network.subnets:
            try:
                other = ipaddress.ip_network(subnet.subnet)
            except ValueError:
                continue
            if other.version == version and other.overlaps(wanted):
                return f"{text} overlaps with {subnet.subnet} of {network.name}."
    return ""


def trouble_with_address(text: str, network: Network) -> str:
    """Why a container can't have that address on the network; an empty one is chosen by the engine."""
    if not text:
        return ""
    try:
        address = ipaddress.IPv4Address(text)
    except ValueError:
        return f"{text} isn't an IPv4 address."
    for subnet in network.subnets:
        if "." in subnet.subnet and address in ipaddress.ip_network(subnet.subnet, strict=False):
            return f"{text} is the gateway." if text == subnet.gateway else ""
    return f"{text} isn't in {network.subnet_text or 'the network'}."
