"""Host ports: which one a request gets, and the bound sockets that keep it; where its traffic goes is decided elsewhere.

Each published port is held by a socket of the engine that is bound to it, so other programs get EADDRINUSE and we notice
theirs. The socket is also what the relay answers on when the kernel's address translation doesn't apply.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import ip_address

from kitepy.engine.kernel.port_sockets import bind_port
from kitepy.engine.kernel.sysctl import read_sysctl
from kitepy.engine.model.errors import InvalidParameter
from kitepy.engine.model.network import ANY_IPV4, ANY_IPV6, PortRequest, PublishedPort

_FALLBACK_RANGE = (49153, 65535)
# What a kernel without an address family answers.
_FAMILY_MISSING = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})


Binder = Callable[[str, str, int], socket.socket | None]
"""Binds (protocol, address, port) where the ports are to appear; None or OSError as ``bind_port``."""


class BindFailed(Exception):
    """A host port could not be had; the text is the tail of dockerd's message."""


@dataclass(frozen=True)
class Reservation:
    """A published port and the socket that holds it; None where the kernel has no sockets of that protocol."""

    port: PublishedPort
    socket: socket.socket | None

    def close(self) -> None:
        """Idempotent."""
        if self.socket is not None:
            self.socket.close()


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
    """The addresses to bind: an empty one stands for all of both families. Raises InvalidParameter."""
    if not host_ip:
        return (ANY_IPV4, ANY_IPV6)
    try:
        return (str(ip_address(host_ip)),)
    except ValueError:
        raise InvalidParameter(f"invalid IP address: {host_ip}") from None


def _show(host_ip: str, port: int) -> str:
    return f"[{host_ip}]:{port}" if ":" in host_ip else f"{host_ip}:{port}"


class PortReservations:
    """All host ports that one engine's network holds. Used from the event loop's thread only; calls don't block."""

    def __init__(self, bind: Binder = bind_port) -> None:
        self._bind = bind
        self._held: dict[tuple[str, int], int] = {}
        self._last_ephemeral = 0

    def reserve(self, requests: Sequence[PortRequest]) -> list[Reservation]:
        """Binds a port for every request, or none of them. The result follows the order of the requests.

        Certain ports are bound before free ones are chosen, so that the choice can't take one that is asked for.
        Raises BindFailed and InvalidParameter.
        """
        results: dict[int, list[Reservation]] = {}
        order = sorted(range(len(requests)), key=lambda position: requests[position].host_port is None)
        ephemeral = ephemeral_range()
        with ExitStack() as undo:
            for position in order:
                results[position] = self._reserve_one(requests[position], ephemeral)
                for reservation in results[position]:
                    undo.callback(self.release, reservation)
            undo.pop_all()
        return [reservation for position in range(len(requests)) for reservation in results[position]]

    def restore(self, port: PublishedPort, kept: socket.socket | None = None) -> Reservation:
        """Takes the port of an endpoint that outlived the engine: ``kept``, its socket, or binds it again.

        Raises BindFailed when somebody took it meanwhile.
        """
        if kept is not None:
            return self._hold(port, kept)
        try:
            bound = self._bind(port.protocol, port.host_ip, port.host_port)
        except OSError as error:
            raise BindFailed(self._complaint(port.protocol, port.host_ip, port.host_port, error)) from error
        return self._hold(port, bound)

    def release(self, reservation: Reservation) -> None:
        """Gives a port back."""
        reservation.close()
        key = (reservation.port.protocol, reservation.port.host_port)
        remaining = self._held.get(key, 0) - 1
        if remaining > 0:
            self._held[key] = remaining
        else:
            self._held.pop(key, None)

    def _hold(self, port: PublishedPort, bound: socket.socket | None) -> Reservation:
        key = (port.protocol, port.host_port)
        self._held[key] = self._held.get(key, 0) + 1
        return Reservation(port, bound)

    def _reserve_one(self, request: PortRequest, ephemeral: tuple[int, int]) -> list[Reservation]:
        addresses = host_addresses(request.host_ip)
        failure: BindFailed | None = None
        for port in candidate_ports(request.host_port, ephemeral, self._last_ephemeral):
            try:
                reservations = self._bind_all(request, addresses, port)
            except OSError as error:
                failure = BindFailed(self._complaint(request.protocol, addresses[0], port, error))
                if error.errno != errno.EADDRINUSE:
                    raise failure from error
            else:
                if request.host_port is None:
                    self._last_ephemeral = port
                return reservations
        if failure is None or request.host_port is None or request.host_port[0] != request.host_port[1]:
            raise BindFailed(f"Bind for {addresses[0]} failed: all ports are allocated")
        raise failure

    def _bind_all(self, request: PortRequest, addresses: tuple[str, ...], port: int) -> list[Reservation]:
        bound: list[Reservation] = []
        with ExitStack() as undo:
            for address in addresses:
                try:
                    held = self._bind(request.protocol, address, port)
                except OSError as error:
                    if not request.host_ip and address == ANY_IPV6 and error.errno in _FAMILY_MISSING:
                        continue  # a host without IPv6: "every address" means the IPv4 ones
                    raise
                if held is None and (request.protocol, port) in self._held:
                    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))  # no socket could notice
                reservation = Reservation(PublishedPort(request.container_port, request.protocol, address, port), held)
                undo.callback(reservation.close)
                bound.append(reservation)
            undo.pop_all()
        for reservation in bound:
            self._hold(reservation.port, reservation.socket)
        return bound

    def _complaint(self, protocol: str, host_ip: str, port: int, error: OSError) -> str:
        if error.errno == errno.EADDRINUSE and (protocol, port) in self._held:
            return f"Bind for {_show(host_ip, port)} failed: port is already allocated"
        reason = (error.strerror or str(error)).lower()
        return f"failed to bind host port {_show(host_ip, port)}/{protocol}: {reason}"
