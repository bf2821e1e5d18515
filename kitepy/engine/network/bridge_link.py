"""Brings the bridge device into the wanted state: the device, its address, the kernel's forwarding switches.

Deciding is pure (``plan_bridge``); ``prepare_bridge`` looks at the host, carries the plan out and reports what the host refused.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv4Network

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
from kitepy.engine.network.addresses import bridge_mac, check_gateway, choose_gateway

logger = logging.getLogger(__name__)

DEFAULT_MTU = 1500
MINIMUM_MTU = 576


@dataclass(frozen=True)
class BridgePlan:
    """How the bridge is to be, and the addresses that don't belong on it."""

    gateway: IPv4Interface
    mtu: int
    create: bool
    add_address: bool
    stale_addresses: tuple[IPv4Interface, ...]


@dataclass(frozen=True)
class BridgeState:
    """The bridge as it is now."""

    index: int
    gateway: IPv4Interface
    mtu: int
    loopback: bool
    """Whether the kernel routes loopback addresses to it."""
    forwarding_turned_on: bool
    """Whether the host didn't forward packets before; it isn't turned off again, since others may rely on it by then."""
    warnings: tuple[str, ...]


def plan_bridge(
    name: str,
    wanted: IPv4Interface | None,
    mtu: int | None,
    links: Iterable[Link],
    addresses: Iterable[LinkAddress],
    routes: Iterable[Route],
) -> BridgePlan:
    """Decides on address and MTU. Raises InvalidParameter for an address that collides, SystemFailure if nothing is free.

    Without a wanted address an existing bridge keeps its own: containers of an earlier engine may still use it.
    """
    by_index = {link.index: link for link in links}
    own = next((link for link in by_index.values() if link.name == name), None)
    if own is not None and own.kind != "bridge":
        raise SystemFailure(f"interface {name} exists but is not a bridge: remove or rename it")
    own_index = own.index if own else 0
    routes = list(routes)
    # This plan is about IPv4; what the bridge has of IPv6 is another's matter.
    assigned = [(address.index, address.interface) for address in addresses if isinstance(address.interface, IPv4Interface)]
    routed = [(route.index, route.destination) for route in routes if isinstance(route.destination, IPv4Network)]
    present = [interface for index, interface in assigned if index == own_index]
    taken: list[tuple[IPv4Network, str]] = [
        (network, by_index[index].name if index in by_index else "?")
        for index, network in (
            *((index, interface.network) for index, interface in assigned),
            *((index, destination) for index, destination in routed if destination.prefixlen),
        )
        if index != own_index
    ]
    if wanted is not None:
        check_gateway(wanted, taken)
        gateway = wanted
    else:
        gateway = present[0] if present else choose_gateway(network for network, _ in taken)
    return BridgePlan(
        gateway=gateway,
        mtu=mtu or _route_mtu(by_index, routes),
        create=own is None,
        add_address=gateway not in present,
        stale_addresses=tuple(address for address in present if address != gateway),
    )


def _route_mtu(links: dict[int, Link], routes: list[Route]) -> int:
    """The MTU of the way out where it is smaller than Ethernet's: packets that must be fragmented are often lost."""
    ways_out = [links[route.index].mtu for route in routes if not route.destination.prefixlen and route.index in links]
    return max(min([DEFAULT_MTU, *ways_out]), MINIMUM_MTU)


def _apply(host: RouteSocket, name: str, plan: BridgePlan) -> Link:
    if plan.create:
        host.execute([add_bridge(name, bridge_mac(name), plan.mtu)])
    link = host.link(name)
    if link is None:
        raise SystemFailure(f"bridge {name} vanished while it was set up")
    messages: list[Message] = [delete_address(link.index, address) for address in plan.stale_addresses]
    if plan.add_address:
        messages.append(add_address(link.index, plan.gateway))
    messages.append(set_link(link.index, up=True, mtu=plan.mtu))
    try:
        host.execute(messages)
    except OSError:
        if plan.create:
            host.execute([delete_link(name)], tolerate=(errno.ENODEV,))
        raise
    return link


def prepare_bridge(name: str, wanted: IPv4Interface | None, mtu: int | None, *, forward: bool) -> BridgeState:
    """Sets the bridge up, or reuses it. Blocks for milliseconds. Raises EngineError, and OSError from the kernel."""
    with RouteSocket() as host:
        plan = plan_bridge(name, wanted, mtu, host.links(), host.addresses(), host.routes())
        link = _apply(host, name, plan)
    warnings: list[str] = []
    quiet_ipv6(name)
    loopback = _try(f"net/ipv4/conf/{name}/route_localnet", "1", warnings, "ports on 127.0.0.1 are relayed in user space")
    turned_on = False
    if forward:
        turned_on = not _is_on("net/ipv4/ip_forward")
        consequence = "containers reach no other network"
        turned_on = _try("net/ipv4/ip_forward", "1", warnings, consequence) and turned_on
        _try(f"net/ipv4/conf/{name}/forwarding", "1", warnings, consequence)
    elif not _is_on("net/ipv4/ip_forward"):
        warnings.append("IPv4 forwarding is disabled")
    return BridgeState(link.index, plan.gateway, plan.mtu, loopback, turned_on, tuple(warnings))


def quiet_ipv6(name: str) -> None:
    """Takes IPv6 from an interface that carries IPv4 only: no link-local address, no duplicate detection."""
    try:
        write_sysctl(f"net/ipv6/conf/{name}/disable_ipv6", "1")
    except OSError as error:  # the kernel has no IPv6, or /proc/sys is read-only: noise on the bridge is all that follows
        logger.debug("interface %s keeps IPv6: %s", name, error)


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
