"""Networks as values: what a container asks to be published, what it got, and what is remembered of an endpoint.

Addresses are text in the values that get stored, so that any encoder can write them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv6Address
from typing import Literal

Protocol = Literal["tcp", "udp", "sctp"]
PROTOCOL_NUMBERS: dict[str, int] = {"tcp": 6, "udp": 17, "sctp": 132}

ANY_IPV4 = "0.0.0.0"
ANY_IPV6 = "::"


@dataclass(frozen=True)
class PortRequest:
    """A port of the container that is to be reachable from outside.

    ``host_ip`` "" means every address of the host, of both families. ``host_port`` None lets the engine choose, ``(a, b)``
    takes the first free one of the range, ``(a, a)`` exactly that one.
    """

    container_port: int
    protocol: Protocol = "tcp"
    host_ip: str = ""
    host_port: tuple[int, int] | None = None


@dataclass(frozen=True)
class PublishedPort:
    """A port that is reachable; an empty ``host_ip`` of the request has become one entry per family."""

    container_port: int
    protocol: Protocol
    host_ip: str
    host_port: int


@dataclass(frozen=True)
class Endpoint:
    """A container's place in a network: what is stored with the container, enough to adopt it after a restart of the engine."""

    endpoint_id: str
    container_id: str
    network: str
    """The network's name when the container joined it; ``network_id`` tells which one it is."""
    address: str
    """Empty in a network without IPv4."""
    prefix_length: int
    gateway: str
    mac: str
    host_interface: str
    """The host's end of the veth pair; empty where there is none, as with macvlan."""
    ports: tuple[PublishedPort, ...] = ()
    """On the endpoint that carries the default gateway; the others of the container have none."""
    network_id: str = ""
    address6: str = ""
    prefix_length6: int = 0
    gateway6: str = ""
    interface: str = "eth0"
    """Its name inside the container."""
    names: tuple[str, ...] = ()
    """What the container is called in this network, for the network's name service."""
    gateway_priority: int = 0
    links: tuple[tuple[str, str], ...] = ()
    """Names that are valid for this container only: (alias, name or id of the other container)."""


@dataclass(frozen=True)
class LinkedPort:
    """What a container may reach by a link though containers of its network can't otherwise talk to each other."""

    source: Endpoint
    """The linking container's."""
    target: Endpoint
    """The linked one's."""
    protocol: Protocol
    port: int


@dataclass(frozen=True)
class EndpointRequest:
    """What a container wishes in one network; None and "" let the engine choose."""

    network_id: str
    address: IPv4Address | None = None
    address6: IPv6Address | None = None
    mac: str | None = None
    names: tuple[str, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    """Names that are valid for this container only: (alias, name or id of the other container)."""
    gateway_priority: int = 0
    options: tuple[tuple[str, str], ...] = ()
    """Driver options, ``com.docker.network.endpoint.sysctls`` for example."""
    interface: str = ""
    link_local: tuple[IPv4Address | IPv6Address, ...] = ()
    """More addresses of its interface, which nobody else is asked about."""


@dataclass(frozen=True)
class SandboxRequest:
    """All that a container's network is made of at its start."""

    container_id: str
    name: str
    """For messages."""
    endpoints: tuple[EndpointRequest, ...]
    ports: tuple[PortRequest, ...] = ()
    plain: bool = False
    """Its namespace belongs to the engine's user namespace, also where containers are remapped by default."""
    upstream: tuple[str, ...] = ()
    """Name servers that get what the networks' own name service doesn't know."""
    keeps_single_labels: bool = False
    """Names without a dot aren't asked of them, since the container tries its search domains itself."""


class NetworkDriver(Enum):
    """Who carries a network's traffic, in the words of the Engine API."""

    BRIDGE = "bridge"
    HOST = "host"
    NULL = "null"
    MACVLAN = "macvlan"
    IPVLAN = "ipvlan"


@dataclass(frozen=True)
class SubnetConfig:
    """One subnet of a network, as text; an empty ``subnet`` or ``gateway`` of a request lets the engine choose."""

    subnet: str = ""
    gateway: str = ""
    ip_range: str = ""
    """Addresses are chosen from here when nobody asks for one; empty is the whole subnet."""
    auxiliary: tuple[tuple[str, str], ...] = ()
    """Addresses that no container gets, each with a name."""
    implied_gateway: str = ""
    """What the engine chose when a subnet was named without one; as with dockerd it is used, but not shown."""


@dataclass(frozen=True)
class NetworkRecord:
    """A network as it is stored, with everything chosen that a request left open."""

    network_id: str
    name: str
    driver: NetworkDriver
    created: str
    """RFC 3339 with nanoseconds."""
    subnets: tuple[SubnetConfig, ...] = ()
    ipv4: bool = True
    ipv6: bool = False
    internal: bool = False
    attachable: bool = False
    ipam_driver: str = "default"
    ipam_options: tuple[tuple[str, str], ...] = ()
    options: tuple[tuple[str, str], ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    device: str = ""
    """The interface of the bridge, or the parent of macvlan and ipvlan."""

    def option(self, key: str, default: str = "") -> str:
        """A driver option by its full key."""
        return next((value for name, value in self.options if name == key), default)
