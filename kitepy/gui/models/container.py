"""A container as the app sees it: its status, ports and details. Parsing the engine's answers is left to the gateway."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


class Status(enum.Enum):
    """What the engine says a container is doing; the values are the engine's own words."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    RESTARTING = "restarting"
    REMOVING = "removing"
    EXITED = "exited"
    DEAD = "dead"

    @property
    def alive(self) -> bool:
        """A process of the container exists, so it can be stopped and killed."""
        return self in (Status.RUNNING, Status.PAUSED, Status.RESTARTING)


@dataclass(frozen=True)
class Port:
    """One port of a container; `host_port` is None while it isn't published."""

    container_port: int
    protocol: str
    host_ip: str = ""
    host_port: int | None = None

    @property
    def host(self) -> str:
        """The name to reach it by from this machine."""
        return "localhost" if self.host_ip in ("", "0.0.0.0", "::") else self.host_ip

    @property
    def address(self) -> str:
        """`host:port` as typed by people, empty when not published."""
        if self.host_port is None:
            return ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.host_port}"

    @property
    def url(self) -> str:
        if not self.address or self.protocol != "tcp":
            return ""
        scheme = "https" if self.container_port in (443, 8443) else "http"
        return f"{scheme}://{self.address}/"


@dataclass(frozen=True)
class Mount:
    kind: str
    source: str
    """A volume's name, or a path of the host."""
    destination: str
    read_only: bool


@dataclass(frozen=True)
class Attachment:
    """A container on a network; addresses are empty while it doesn't run."""

    network_id: str
    network: str
    address: str = ""
    address6: str = ""
    mac: str = ""


@dataclass(frozen=True)
class Container:
    """A row of the container list."""

    id: str
    name: str
    image: str
    status: Status
    ports: tuple[Port, ...] = ()
    created_s: float = 0.0
    exit_code: int | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()
    networks: tuple[Attachment, ...] = ()
    image_id: str = ""

    @property
    def short_id(self) -> str:
        return self.id[:12]


@dataclass(frozen=True)
class ContainerDetails:
    """What an inspect adds to the row; `document` is the engine's whole answer for the Inspect tab."""

    container: Container
    command: str = ""
    started_at: str = ""
    finished_at: str = ""
    error: str = ""
    out_of_memory: bool = False
    address: str = ""
    mounts: tuple[Mount, ...] = ()
    has_tty: bool = False
    document: Mapping[str, Any] = field(default_factory=dict)


# Ports that usually speak HTTP come first when one has to be chosen for the preview.
_WEB_PORTS = (80, 8080, 8000, 3000, 5000, 8888, 443, 8443, 9000, 4200, 5173)


def preview_port(ports: tuple[Port, ...]) -> Port | None:
    """The published TCP port that most likely serves a web page."""
    published = [port for port in ports if port.url]

    def rank(port: Port) -> tuple[int, int]:
        known = port.container_port in _WEB_PORTS
        return (_WEB_PORTS.index(port.container_port) if known else len(_WEB_PORTS), port.container_port)

    return min(published, key=rank, default=None)


def distinct_ports(ports: tuple[Port, ...]) -> tuple[Port, ...]:
    """The ports without the second line that the engine lists for IPv6, in order of container port."""
    seen: dict[tuple[int, str, str, int | None], Port] = {}
    for port in ports:
        seen.setdefault((port.container_port, port.protocol, port.host, port.host_port), port)
    return tuple(sorted(seen.values(), key=lambda port: (port.container_port, port.protocol, port.host_port or 0)))


def free_name(wanted: str, taken: set[str]) -> str:
    """`wanted`, or `wanted-2`, `wanted-3`, … when a container already has that name."""
    if wanted not in taken:
        return wanted
    number = 2
    while f"{wanted}-{number}" in taken:
        number += 1
    return f"{wanted}-{number}"


# SIGKILL and SIGTERM by the shell's convention of 128 + signal number.
_EXIT_MEANINGS = {
    0: "finished normally",
    125: "could not be created",
    126: "its command could not be run",
    127: "its command was not found",
}
_SIGNALS = {1: "SIGHUP", 2: "SIGINT", 6: "SIGABRT", 9: "SIGKILL", 11: "SIGSEGV", 15: "SIGTERM"}


def explain_exit(exit_code: int, *, out_of_memory: bool = False) -> str:
    """Why a container stopped, in a few words."""
    if out_of_memory:
        return "was killed because it ran out of memory"
    if exit_code in _EXIT_MEANINGS:
        return _EXIT_MEANINGS[exit_code]
    signal = _SIGNALS.get(exit_code - 128)
    if signal:
        return f"was ended by {signal}"
    return f"failed with exit code {exit_code}"
