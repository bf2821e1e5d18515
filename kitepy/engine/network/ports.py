"""Host ports: which one a request gets, and the bound sockets that keep it; where its traffic goes is decided elsewhere.

Each published port is held by a socket of the engine that is bound to it, so other programs get EADDRINUSE and we notice
theirs. The socket is also what the relay answers on when the kernel's address translation doesn't apply.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address

from kitepy.engine.kernel.port_holders import PortHolder, find_holder
from kitepy.engine.kernel.port_sockets import PROTOCOL_MISSING, bind_port
from kitepy.engine.kernel.sysctl import read_sysctl
from kitepy.engine.model.errors import InvalidParameter
from kitepy.engine.model.network import ANY_IPV4, ANY_IPV6, PortRequest, Protocol, PublishedPort

_FALLBACK_RANGE = (49153, 65535)
# What a kernel without an address family answers.
_FAMILY_MISSING = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})


Binder = Callable[[str, str, int], socket.socket]
"""Binds (protocol, address, port) where the ports are to appear; raises OSError as ``bind_port``."""

HolderFinder = Callable[[str, str, int], PortHolder | None]
"""Who holds (protocol, address, port) there."""


class BindFailed(Exception):
    """A host port could not be had; the text is the tail of dockerd's message."""


@dataclass(frozen=True, eq=False)
class Reservation:
    """A published port and the socket that holds it; None when nothing is held, since the kernel routes to the container."""

    port: PublishedPort
    socket: socket.socket | None
    owner: str = ""
    """The container's name, for messages."""

    def close(self) -> None:
        """Idempotent."""
        if self.socket is not None:
            self.socket.close()


@dataclass(frozen=True)
class PortTarget:
    """The container that ports are for: its addresses ("" without one), and the families in which it is routed to directly."""

    owner: str = ""
    address: str = ""
    address6: str = ""
    routed4: bool = False
    routed6: bool = False

    def serves(self, host_ip: str) -> bool:
        """Whether clients of an address of the host can be led to it: from IPv6 to IPv4, but not the other way round."""
        return ":" in host_ip or bool(self.address) or not self.address6

    def routes(self, host_ip: str) -> bool:
        """Whether the container's own address takes the place of the host's."""
        return (self.routed6 and bool(self.address6)) if ":" in host_ip else self.routed4

    def shown(self, host_ip: str, port: int) -> str:
        """The container's end, for messages; empty when it isn't known."""
        address = self.address6 or self.address if ":" in host_ip else self.address
        return f":{_show(address, port)}" if address else ""


@dataclass(frozen=True)
class _Want:
    """Host ports that are to have the same number: one port of the container at one or several addresses of the host."""

    container_port: int
    protocol: Protocol
    host_port: tuple[int, int] | None
    addresses: tuple[str, ...]
    may_lack_ipv6: bool

    @property
    def is_exact(self) -> bool:
        """Whether only one number will do."""
        return self.host_port is not None and self.host_port[0] == self.host_port[1]


def ephemeral_range() -> tuple[int, int]:
    """The ports to choose from when a request names none: the kernel's, as dockerd does."""
    try:
        low, high = (int(part) for part in read_sysctl("net/ipv4/ip_local_port_range").split())
    except (OSError, ValueError):
        return _FALLBACK_RANGE
    return low, high


def candidate_ports(wanted: tuple[int, int] | None, ephemeral: tuple[int, int], last: int) -> Iterator[int]:
    """The ports to try, in order: a range from its start, ephemeral ones from where the last search ended, once around."""
    if wanted is not None:
        yield from range(wanted[0], wanted[1] + 1)
        return
    low, high = ephemeral
    start = last + 1 if low <= last < high else low
    yield from range(start, high + 1)
    yield from range(low, start)


def host_addresses(host_ip: str) -> tuple[str, ...]:
    """The addresses to bind: an empty one stands for all of both families. Raises InvalidParameter.

    dockerd takes what it can't read for an empty one, and so opens a port to the world that somebody meant for ``localhost``.
    """
    if not host_ip:
        return (ANY_IPV4, ANY_IPV6)
    bare = host_ip[1:-1] if host_ip.startswith("[") and host_ip.endswith("]") else host_ip
    try:
        address = ip_address(bare)
    except ValueError:
        raise InvalidParameter(f"invalid IP address: {host_ip}") from None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (str(mapped or address),)


def _order(address: str) -> tuple[bool, int]:
    found = ip_address(address)
    return found.version == 6, int(found)


def _wants(requests: Iterable[PortRequest], target: PortTarget) -> list[_Want]:
    """What to look for, in dockerd's order: exact ports, so that the choice of others can't take one that is asked for."""
    groups: dict[tuple[int, Protocol, tuple[int, int] | None], list[list[str]]] = {}
    both: set[tuple[int, Protocol, tuple[int, int] | None]] = set()
    for request in requests:
        key = request.container_port, request.protocol, request.host_port
        addresses = [address for address in host_addresses(request.host_ip) if target.serves(address)]
        if not request.host_ip:
            both.add(key)
        # Bindings that differ in the host's address only get one number; what is asked for twice gets two, if it may.
        rows = groups.setdefault(key, [[]])
        row = next((row for row in rows if not set(row) & set(addresses)), None)
        if row is None:
            rows.append(row := [])
        row.extend(addresses)
    wants = [
        _Want(port, protocol, host_port, tuple(sorted(row, key=_order)), (port, protocol, host_port) in both)
        for (port, protocol, host_port), rows in groups.items()
        for row in rows
        if row
    ]
    return sorted(wants, key=lambda want: (not want.is_exact, want.container_port, want.protocol, want.host_port or (0, 0)))


def _show(host_ip: str, port: int) -> str:
    return f"[{host_ip}]:{port}" if ":" in host_ip else f"{host_ip}:{port}"


def _collide(one: str, other: str) -> bool:
    """Whether two addresses of the host can't have the same port."""
    return one == other or ((":" in one) == (":" in other) and bool({one, other} & {ANY_IPV4, ANY_IPV6}))


class PortReservations:
    """All host ports that one engine's networks hold. Used from the event loop's thread only.

    Calls don't block, but for the search for whoever holds a port that can't be had.
    """

    def __init__(self, bind: Binder = bind_port, find_holder: HolderFinder = find_holder) -> None:
        self._bind = bind
        self._find_holder = find_holder
        self._held: dict[tuple[str, int], list[Reservation]] = {}
        self._last_ephemeral: dict[tuple[str, str], int] = {}

    def reserve(self, requests: Iterable[PortRequest], target: PortTarget = PortTarget()) -> list[Reservation]:
        """Binds a port for every request, or none of them. The result is ordered by the container's ports.

        Requests that the container can't serve get nothing: those for IPv4 when it has IPv6 only. Raises BindFailed and
        InvalidParameter.
        """
        found: list[Reservation] = []
        ephemeral = ephemeral_range()
        with ExitStack() as undo:
            for want in _wants(requests, target):
                for reservation in self._reserve_one(want, target, ephemeral):
                    undo.callback(self.release, reservation)
                    found.append(reservation)
            undo.pop_all()
        return sorted(found, key=lambda reservation: (reservation.port.container_port, reservation.port.protocol))

    def restore(self, port: PublishedPort, kept: socket.socket | None = None, owner: str = "") -> Reservation:
        """Takes the port of an endpoint that outlived the engine: ``kept``, its socket, or binds it again.

        Raises BindFailed when somebody took it meanwhile.
        """
        if kept is None and port.host_port:
            try:
                kept = self._bind(port.protocol, port.host_ip, port.host_port)
            except OSError as error:
                want = _Want(port.container_port, port.protocol, None, (port.host_ip,), may_lack_ipv6=False)
                raise self._refusal(want, PortTarget(), port.host_ip, port.host_port, error) from error
        return self._hold(Reservation(port, kept, owner))

    def release(self, reservation: Reservation) -> None:
        """Gives a port back. Idempotent."""
        reservation.close()
        key = (reservation.port.protocol, reservation.port.host_port)
        remaining = [held for held in self._held.get(key, ()) if held is not reservation]
        if remaining:
            self._held[key] = remaining
        else:
            self._held.pop(key, None)

    def _hold(self, reservation: Reservation) -> Reservation:
        if reservation.port.host_port:
            self._held.setdefault((reservation.port.protocol, reservation.port.host_port), []).append(reservation)
        return reservation

    def _holding(self, protocol: str, addresses: Iterable[str], port: int) -> Reservation | None:
        return next(
            (
                held
                for address in addresses
                for held in self._held.get((protocol, port), ())
                if _collide(address, held.port.host_ip)
            ),
            None,
        )

    def _reserve_one(self, want: _Want, target: PortTarget, ephemeral: tuple[int, int]) -> list[Reservation]:
        direct = [
            Reservation(PublishedPort(want.container_port, want.protocol, _any_of(address), 0), None, target.owner)
            for address in want.addresses
            if target.routes(address)
        ]
        addresses = tuple(address for address in want.addresses if not target.routes(address))
        if not addresses:
            return direct
        counter = want.protocol, addresses[0]
        for port in candidate_ports(want.host_port, ephemeral, self._last_ephemeral.get(counter, 0)):
            held = self._holding(want.protocol, addresses, port)
            if held is not None:
                if want.is_exact:
                    by = f" (container {held.owner})" if held.owner else ""
                    # Docker names the address of the one that has it, without brackets.
                    raise BindFailed(f"Bind for {held.port.host_ip}:{port} failed: port is already allocated{by}")
                continue
            bound = self._bind_all(want, target, addresses, port)
            if bound is not None:
                if want.host_port is None:
                    self._last_ephemeral[counter] = port
                return [*direct, *bound]
        raise BindFailed("all ports are allocated")

    def _bind_all(self, want: _Want, target: PortTarget, addresses: Iterable[str], port: int) -> list[Reservation] | None:
        """None when another program has the port, and another number will do as well."""
        bound: list[Reservation] = []
        with ExitStack() as undo:
            for address in addresses:
                try:
                    held = self._bind(want.protocol, address, port)
                except OSError as error:
                    if want.may_lack_ipv6 and address == ANY_IPV6 and error.errno in _FAMILY_MISSING:
                        continue  # a host without IPv6: "every address" means the IPv4 ones
                    if error.errno == errno.EADDRINUSE and not want.is_exact:
                        return None
                    raise self._refusal(want, target, address, port, error) from error
                published = PublishedPort(want.container_port, want.protocol, address, port)
                bound.append(Reservation(published, held, target.owner))
                undo.callback(bound[-1].close)
            undo.pop_all()
        return [self._hold(reservation) for reservation in bound]

    def _refusal(self, want: _Want, target: PortTarget, host_ip: str, port: int, error: OSError) -> BindFailed:
        reason = error.strerror or str(error)
        reason = reason[:1].lower() + reason[1:]
        if error.errno in PROTOCOL_MISSING:
            return BindFailed(f"error starting userland proxy: failed to listen on {_show(host_ip, port)}: {reason}")
        by = ""
        if error.errno == errno.EADDRINUSE:
            with suppress(OSError):
                holder = self._find_holder(want.protocol, host_ip, port)
                by = f" ({holder})" if holder is not None else ""
        end = target.shown(host_ip, want.container_port)
        return BindFailed(f"failed to bind host port for {_show(host_ip, port)}{end}/{want.protocol}: {reason}{by}")


def _any_of(address: str) -> str:
    return ANY_IPV6 if ":" in address else ANY_IPV4
