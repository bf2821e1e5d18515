"""Networks as values: what a container asks to be published, what it got, and what is remembered of an endpoint.

Addresses are text in the values that get stored, so that any encoder can write them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
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
    address: str
    prefix_length: int
    gateway: str
    mac: str
    host_interface: str
    """The end of the veth pair that is a port of the bridge."""
    ports: tuple[PublishedPort, ...] = ()


class NetworkDriver(Enum):
    """Who carries a network's traffic, in the words of the Engine API."""

    BRIDGE = "bridge"
    HOST = "host"
    NULL = "null"


@dataclass(frozen=True)
class NetworkSummary:
    """A network as services and the API see it; ``subnet`` and ``gateway`` are None without address management."""

    network_id: str
    name: str
    driver: NetworkDriver
    created: str
    """RFC 3339 with nanoseconds."""
    subnet: str | None = None
    gateway: str | None = None
    options: tuple[tuple[str, str], ...] = ()
