"""Brings the bridge device into the wanted state: the device, its address, the kernel's forwarding switches.

Deciding is pure (``plan_bridge``); ``prepare_bridge`` looks at the host, carries the plan out and reports what the host refused.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface

from kitepy.engine.kernel.netlink import (
    Link,
    LinkAddress,
    Message,
    Route,
    RouteSocket,
    add_address,
    add_bridge,
    delete_address,
    delete_link,
    set_link,
)
from kitepy.engine.kernel.sysctl import ensure_sysctl, read_sysctl, write_sysctl
from kitepy.engine.model.errors import SystemFailure
from kitepy.engine.network.addresses import bridge_mac

logger = logging.getLogger(__name__)

DEFAULT_MTU = 1500
MINIMUM_MTU = 576

Interface = IPv4Interface | IPv6Interface


@dataclass(frozen=True)
class BridgePlan:
    """How the bridge is to be, and the addresses that don't belong on it."""

    addresses: tuple[Interface, ...]
    mtu: int
    create: bool
    missing_addresses: tuple[Interface, ...]
    stale_addresses: tuple[Interface, ...]


@dataclass(frozen=True)
class BridgeState:
    """The bridge as it is now."""

    index: int
    addresses: tuple[Interface, ...]
    mtu: int
    loopback: bool
    """Whether the kernel routes loopback addresses to it."""
    forwarding_turned_on: bool
    """Whether the host didn't forward packets before; it isn't turned off again, since others may rely on it by then."""
    warnings: tuple[str, ...]


def plan_bridge(
    name: str,
    wanted: Sequence[Interface],
    mtu: int | None,
    links: Iterable[Link],
    addresses: Iterable[LinkAddress],
    routes: Iterable[Route],
    *,
    foreign: bool = False,
) -> BridgePlan:
    """Decides what is to be done to the device. Raises SystemFailure when it is no bridge.

    IPv6 addresses that the kernel chose stay. One that is ``foreign`` has to exist and keeps all it has.
    """
    by_index = {link.index: link for link in links}
    own = next((link for link in by_index.values() if link.name == name), None)
    if own is None and foreign:
        raise SystemFailure(f"bridge device with non default name {name} must be created manually")
    if own is not None and own.kind != "bridge":
        raise SystemFailure(f"existing interface {name} is not a bridge: remove or rename it")
    own_index = own.index if own else 0
    present = [address.interface for address in addresses if address.index == own_index]
    return BridgePlan(
        addresses=tuple(wanted),
        mtu=mtu or _route_mtu(by_index, routes),
        create=own is None,
        missing_addresses=tuple(address for address in wanted if address not in present),
        stale_addresses=tuple(
            address for address in present if not foreign and address not in wanted and not address.is_link_local
        ),
    )


def _route_mtu(links: dict[int, Link], routes: Iterable[Route]) -> int:
    """The MTU of the way out where it is smaller than Ethernet's: packets that must be fragmented are often lost."""
    ways_out = [links[route.index].mtu for route in routes if not route.destination.prefixlen and route.index in links]
    return max(min([DEFAULT_MTU, *ways_out]), MINIMUM_MTU)


def _apply(host: RouteSocket, name: str, plan: BridgePlan, owner: str, *, foreign: bool) -> Link:
    if plan.create:
        host.execute([add_bridge(name, bridge_mac(name), plan.mtu)])
    link = host.link(name)
    if link is None:
        raise SystemFailure(f"bridge {name} vanished while it was set up")
    if any(isinstance(address, IPv6Interface) for address in plan.addresses):
        _write(f"net/ipv6/conf/{name}/accept_ra", "0")
        _write(f"net/ipv6/conf/{name}/disable_ipv6", "0")
    elif not foreign:
        quiet_ipv6(name)
    messages: list[Message] = [delete_address(link.index, address) for address in plan.stale_addresses]
    messages.extend(add_address(link.index, address) for address in plan.missing_addresses)
    if foreign:
        messages.append(set_link(link.index, up=True))
    else:
        messages.append(set_link(link.index, up=True, mtu=plan.mtu, alias=owner if plan.create else ""))
    try:
        host.execute(messages)
    except OSError:
        if plan.create:
            host.execute([delete_link(name)], tolerate=(errno.ENODEV,))
        raise
    return link


def prepare_bridge(
    name: str,
    wanted: Sequence[Interface],
    mtu: int | None,
    *,
    forward: bool,
    owner: str = "",
    route_loopback: bool = True,
    foreign: bool = False,
) -> BridgeState:
    """Sets the bridge up, or reuses it. Blocks for milliseconds. Raises EngineError, and OSError from the kernel.

    ``owner`` is noted on a device that is made here. ``route_loopback`` lets the kernel lead 127.0.0.0/8 to it.
    """
    with RouteSocket() as host:
        plan = plan_bridge(name, wanted, mtu, host.links(), host.addresses(), host.routes(), foreign=foreign)
        link = _apply(host, name, plan, owner, foreign=foreign)
    warnings: list[str] = []
    loopback = route_loopback and _try(
        f"net/ipv4/conf/{name}/route_localnet", "1", warnings, "ports on 127.0.0.1 are relayed in user space"
    )
    turned_on = False
    consequence = "containers reach no other network"
    if not forward:
        if not _is_on("net/ipv4/ip_forward"):
            warnings.append("IPv4 forwarding is disabled")
    else:
        turned_on = not _is_on("net/ipv4/ip_forward")
        turned_on = _try("net/ipv4/ip_forward", "1", warnings, consequence) and turned_on
        _try(f"net/ipv4/conf/{name}/forwarding", "1", warnings, consequence)
        if any(isinstance(address, IPv6Interface) for address in wanted):
            for parameter in ("default", "all"):  # in this order, as a host that takes router advertisements would stop that
                _try(f"net/ipv6/conf/{parameter}/forwarding", "1", warnings, f"{consequence} over IPv6")
    return BridgeState(link.index, tuple(wanted), plan.mtu, loopback, turned_on, tuple(warnings))


def remove_bridge(name: str, owner: str) -> None:
    """Removes the device if it was made for that owner; no error when it is gone. Blocks for 10 to 20 ms."""
    with RouteSocket() as host:
        link = host.link(name)
        if link is not None and link.alias == owner:
            host.execute([delete_link(name)], tolerate=(errno.ENODEV,))


def _write(name: str, value: str) -> None:
    try:
        write_sysctl(name, value)
    except OSError as error:  # the kernel has no IPv6, or /proc/sys is read-only; what follows says so when it matters
        logger.debug("%s can't be set to %s: %s", name, value, error)


def quiet_ipv6(name: str) -> None:
    """Takes IPv6 from an interface that carries IPv4 only: no link-local address, no duplicate detection."""
    _write(f"net/ipv6/conf/{name}/disable_ipv6", "1")


def _is_on(name: str) -> bool:
    try:
        return read_sysctl(name) != "0"
    except OSError:
        return False


def _try(name: str, value: str, warnings: list[str], consequence: str) -> bool:
    try:
        ensure_sysctl(name, value)
    except OSError as error:
        warnings.append(f"{name.replace('/', '.')} can't be set to {value} ({error.strerror}): {consequence}")
        return False
    return True
