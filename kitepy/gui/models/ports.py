"""Ports of this machine: which are published by containers, which host processes hold, and who stands in the way of one."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from kitepy.gui.models.container import Container, Port

LAST_PORT = 65535
_WILDCARDS = ("", "0.0.0.0", "::")


@dataclass(frozen=True)
class Listener:
    """A socket of the host that takes connections or datagrams; who holds it is empty where it can't be read."""

    protocol: str
    address: str
    port: int
    process: str = ""
    pid: int | None = None
    user: str = ""
    of_engine: bool = False
    """Held by an engine for a container."""


@dataclass(frozen=True)
class PortRow:
    """One port with one holder, on all the addresses that it is held on."""

    protocol: str
    port: int
    addresses: tuple[str, ...]
    container_id: str = ""
    container_name: str = ""
    container_port: int | None = None
    process: str = ""
    pid: int | None = None
    user: str = ""

    @property
    def published(self) -> bool:
        return bool(self.container_id)

    @property
    def holder(self) -> str:
        """Who holds it, as it is told to people."""
        if self.container_id:
            return self.container_name
        if self.process:
            return f"{self.process} (pid {self.pid})"
        return f"unknown, user {self.user}" if self.user else "unknown"

    @property
    def address_text(self) -> str:
        return ", ".join("all addresses" if address in _WILDCARDS else address for address in self._shown())

    @property
    def exact_text(self) -> str:
        return ", ".join(f"[{address}]:{self.port}" if ":" in address else f"{address}:{self.port}" for address in self.addresses)

    def _shown(self) -> tuple[str, ...]:
        """Without the second wildcard, that of IPv6."""
        return tuple(dict.fromkeys("" if address in _WILDCARDS else address for address in self.addresses))

    @property
    def as_port(self) -> Port:
        """The way to reach it from this machine."""
        loopback = next((address for address in self.addresses if address in _WILDCARDS or _is_loopback(address)), None)
        address = self.addresses[0] if loopback is None else "" if loopback in _WILDCARDS else loopback
        return Port(self.container_port or self.port, self.protocol, address, self.port)


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return False


def port_rows(containers: Iterable[Container], listeners: Iterable[Listener]) -> tuple[PortRow, ...]:
    """Published ports and the host's own, by port; a socket that an engine holds for a published port is no row of its own."""
    published: dict[tuple[int, str, str, int], tuple[Container, list[str]]] = {}
    for container in containers:
        for port in container.ports:
            if port.host_port is not None:
                key = (port.host_port, port.protocol, container.id, port.container_port)
                published.setdefault(key, (container, []))[1].append(port.host_ip or "0.0.0.0")
    rows = [
        PortRow(protocol, number, _in_order(addresses), container.id, container.name, container_port)
        for (number, protocol, _, container_port), (container, addresses) in published.items()
    ]
    of_containers: dict[tuple[int, str], list[PortRow]] = {}
    for row in rows:
        of_containers.setdefault((row.port, row.protocol), []).append(row)
    held: dict[tuple[int, str, int | None, str, str], list[str]] = {}
    for listener in listeners:
        if not _is_of_published(listener, of_containers.get((listener.port, listener.protocol), ())):
            key5 = (listener.port, listener.protocol, listener.pid, listener.process, listener.user)
            held.setdefault(key5, []).append(listener.address)
    rows += [
        PortRow(protocol, number, _in_order(addresses), process=process, pid=pid, user=user)
        for (number, protocol, pid, process, user), addresses in held.items()
    ]
    return tuple(sorted(rows, key=lambda row: (row.port, row.protocol, row.addresses)))


def _in_order(addresses: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(dict.fromkeys(addresses), key=lambda address: (":" in address, address)))


def _is_of_published(listener: Listener, rows: Iterable[PortRow]) -> bool:
    """`rows` are containers' of the same port: a host process may hold it on another address, and then it is a row of its own."""
    return any(listener.of_engine or (listener.address in row.addresses and not listener.process) for row in rows)


def filter_ports(rows: Iterable[PortRow], query: str) -> tuple[PortRow, ...]:
    """All words must match something that is shown."""
    words = query.lower().split()
    return tuple(row for row in rows if all(word in _text_of(row) for word in words))


def _text_of(row: PortRow) -> str:
    kind = "container" if row.published else "host"
    return f"{row.port} {row.protocol} {row.exact_text} {row.address_text} {row.holder} {row.container_port or ''} {kind}".lower()


def holders(rows: Iterable[PortRow], port: int, protocol: str, address: str = "") -> tuple[PortRow, ...]:
    """Who stands in the way of a bind: the same port on the same address, or on all of them on either side."""
    return tuple(
        row
        for row in rows
        if (row.port, row.protocol) == (port, protocol)
        and (address in _WILDCARDS or any(each in _WILDCARDS or each == address for each in row.addresses))
    )


def next_free(rows: Iterable[PortRow], port: int, protocol: str) -> int | None:
    """The first port above that nobody holds."""
    taken = {row.port for row in rows if row.protocol == protocol}
    return next((number for number in range(port + 1, LAST_PORT + 1) if number not in taken), None)


@dataclass(frozen=True)
class PortAnswer:
    """Whether a port could be used; `holder` is None when it is free or its holder isn't known."""

    port: int
    protocol: str
    free: bool
    holder: PortRow | None = None
    reason: str = ""
    suggestion: int | None = None

    @property
    def text(self) -> str:
        name = f"{self.port}/{self.protocol}"
        if self.free:
            return f"{name} is free. {self.reason}".strip()
        if self.holder is not None:
            kind = "the container " if self.holder.published else ""
            sentence = f"{name} is held by {kind}{self.holder.holder} on {self.holder.address_text}."
        else:
            sentence = f"{name} can't be used: {self.reason or 'somebody holds it'}."
        return f"{sentence} {self.suggestion} is free." if self.suggestion else sentence


def answer_about(
    rows: tuple[PortRow, ...], port: int, protocol: str, *, bind_error: str = "", bind_taken: bool = False
) -> PortAnswer:
    """From what is known of all holders, and from trying to bind it just now."""
    found = holders(rows, port, protocol)
    if found or bind_taken:
        # The container is the more useful thing to name: it can be stopped.
        holder = min(found, key=lambda row: not row.published, default=None)
        return PortAnswer(port, protocol, False, holder, bind_error, next_free(rows, port, protocol))
    return PortAnswer(port, protocol, True, reason=bind_error)


@dataclass(frozen=True)
class Conflict:
    """A container couldn't be started for a port that somebody holds."""

    port: int
    protocol: str
    """Empty when the refusal doesn't say it."""
    address: str = ""


# dockerd: "Bind for 0.0.0.0:8080 failed: port is already allocated", "failed to bind host port for 0.0.0.0:80:172.17.0.2:80/tcp:
# address already in use", "listen tcp4 0.0.0.0:80: bind: address already in use". Kitepy adds who holds it.
_TAKEN = re.compile(r"already allocated|already in use|in use by|is held by", re.IGNORECASE)
_PLACE = re.compile(
    r"(?:(?P<first>tcp|udp|sctp)\d?\s+)?(?P<address>\[[0-9a-fA-F:.]*\]|\d+\.\d+\.\d+\.\d+|::|):(?P<port>\d{1,5})\b"
)
_PROTOCOL = re.compile(r"\b(tcp|udp|sctp)", re.IGNORECASE)


def conflict_in(message: str) -> Conflict | None:
    """The port that an engine's refusal is about, if that is what it is about."""
    if not _TAKEN.search(message):
        return None
    place = _PLACE.search(message)
    if place is None or not 0 < int(place["port"]) <= LAST_PORT:
        return None
    protocol = place["first"] or (_PROTOCOL.search(message) or [""])[0]
    return Conflict(int(place["port"]), protocol.lower(), place["address"].strip("[]"))


def with_protocol(conflict: Conflict, rows: Iterable[PortRow]) -> Conflict:
    """The protocol in which somebody stands in the way, when the refusal doesn't say it."""
    rows = tuple(rows)
    if conflict.protocol:
        return conflict
    found = (each for each in ("tcp", "udp", "sctp") if holders(rows, conflict.port, each, conflict.address))
    return replace(conflict, protocol=next(found, "tcp"))
