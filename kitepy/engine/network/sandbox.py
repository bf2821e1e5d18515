"""Sandboxes: network namespaces with an interface ready for a container, made before they are needed.

The costly steps (a namespace, a veth pair) happen ahead of time and off the event loop. A sandbox belongs to no network yet:
what is left for the moment a container starts is to join the pair to a bridge and to give it MAC, address and route. A sandbox
that served a container is never used again, since the container may have changed anything inside.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface

from kitepy.engine.kernel.netlink import (
    LOOPBACK_INDEX,
    Message,
    RouteSocket,
    add_address,
    add_veth,
    delete_link,
    set_link,
)
from kitepy.engine.kernel.netns import in_namespace, in_new_namespace, open_current_namespace
from kitepy.engine.kernel.sysctl import write_sysctl
from kitepy.engine.kernel.user_namespaces import own_gid_map
from kitepy.engine.network.bridge_link import quiet_ipv6
from kitepy.engine.network.resolver_redirect import ResolverSockets

logger = logging.getLogger(__name__)

FIRST_INTERFACE = "eth0"

# Docker's defaults: ping without a capability, and low ports for any user, since nothing else lives in the namespace.
# IPv6 is off for interfaces made from now on; loopback exists already and keeps ::1. The two notifications announce a new
# MAC to the bridge and to neighbours that remember the address's former owner.
SANDBOX_SYSCTLS = (
    ("net/ipv6/conf/default/disable_ipv6", "1"),
    ("net/ipv6/conf/default/ndisc_notify", "1"),
    ("net/ipv4/conf/default/arp_notify", "1"),
    ("net/ipv4/ip_unprivileged_port_start", "0"),
)
_LAST_GROUP = 2**31 - 1
"""The highest that the kernel takes for ping_group_range."""
_LINK_GONE = (errno.ENODEV,)
_CARRIER_PATIENCE_S = 1.5
_CARRIER_POLL_S = 0.002

PrepareResolver = Callable[[], ResolverSockets]
"""Makes what a sandbox's name service listens on; it runs in a thread inside the namespace."""


@dataclass
class Sandbox:
    """A namespace and, unless it was made without, the host's end of its veth pair; a netlink socket inside while it is new."""

    netns_fd: int
    host_interface: str = ""
    host_index: int = 0
    interface_index: int = 0
    """Of ``eth0`` inside."""
    mtu: int = 0
    inside: RouteSocket | None = None
    resolver: ResolverSockets | None = None

    def enter(self) -> RouteSocket:
        """A netlink socket inside, which the caller closes. Blocks for a moment."""
        inside, self.inside = self.inside, None
        return inside if inside is not None else in_namespace(self.netns_fd, RouteSocket)

    def close(self) -> None:
        """Closes the descriptors; the kernel removes the namespace after its last process. Idempotent."""
        if self.inside is not None:
            self.inside.close()
            self.inside = None
        if self.resolver is not None:
            self.resolver.close()
            self.resolver = None
        if self.netns_fd >= 0:
            os.close(self.netns_fd)
            self.netns_fd = -1


def addressing(index: int, mac: str, addresses: Sequence[IPv4Interface | IPv6Interface]) -> list[Message]:
    """What gives an interface its identity. The MAC follows the addresses: its change announces both."""
    found = [add_address(index, address) for address in addresses]
    return [*found, set_link(index, mac=mac)] if mac else found


def _enter(prepare: PrepareResolver | None) -> tuple[int, RouteSocket, ResolverSockets | None]:
    """Runs in the thread that made the namespace."""
    with ExitStack() as undo:
        fd = open_current_namespace()
        undo.callback(os.close, fd)
        inside = undo.enter_context(RouteSocket())
        # Every group may ping; in a user namespace the kernel takes groups only that exist there.
        groups = ("net/ipv4/ping_group_range", f"0 {min(own_gid_map().last, _LAST_GROUP)}")
        for name, value in (*SANDBOX_SYSCTLS, groups):
            try:
                write_sysctl(name, value)
            except OSError as error:  # /proc/sys is read-only, or the kernel has no IPv6: conveniences, not safety
                logger.debug("sandbox parameter %s: %s", name, error)
        inside.execute([set_link(LOOPBACK_INDEX, up=True)])
        try:
            resolver = prepare() if prepare is not None else None
        except OSError as error:  # it is made again, or complained of, when a container is to have it
            logger.warning("preparing a name service failed: %s", error)
            resolver = None
        undo.pop_all()
    return fd, inside, resolver


def _make_namespace(
    make: Callable[[], int] | None, prepare: PrepareResolver | None = None
) -> tuple[int, RouteSocket, ResolverSockets | None]:
    if make is None:
        return in_new_namespace(lambda: _enter(prepare))
    fd = make()
    try:
        return in_namespace(fd, lambda: _enter(prepare))
    finally:
        os.close(fd)


def build_sandbox(
    veth_name: str,
    *,
    mtu: int,
    make_namespace: Callable[[], int] | None = None,
    prepare_resolver: PrepareResolver | None = None,
) -> Sandbox:
    """Makes a sandbox with a veth pair; ``make_namespace`` gives its network namespace where a plain one won't do.

    Blocks for a few milliseconds; raises OSError and leaves nothing behind then.
    """
    with ExitStack() as undo:
        fd, inside, resolver = _make_namespace(make_namespace, prepare_resolver)
        sandbox = Sandbox(fd, veth_name, mtu=mtu, inside=inside, resolver=resolver)
        undo.callback(sandbox.close)
        host = undo.enter_context(RouteSocket())
        sandbox.host_index, sandbox.interface_index = add_interface(
            host, inside, fd, veth_name, name=FIRST_INTERFACE, mtu=mtu, undo=undo
        )
        raise_link(host, inside, veth_name, sandbox.interface_index)
        undo.pop_all()
        host.close()
    return sandbox


def add_interface(
    host: RouteSocket, inside: RouteSocket, netns_fd: int, veth_name: str, *, name: str, mtu: int, undo: ExitStack
) -> tuple[int, int]:
    """A veth pair into a namespace: the indexes of the host's end, up, and of the inner one, still down. Raises OSError."""
    host.execute([add_veth(veth_name, mtu=mtu, peer_name=name, peer_netns_fd=netns_fd)])
    undo.callback(remove_interfaces, [veth_name])
    quiet_ipv6(veth_name)
    outer, inner = host.link(veth_name), inside.link(name)
    if outer is None or inner is None:
        raise OSError(errno.ENODEV, f"an end of {veth_name} did not appear")
    return outer.index, inner.index


def raise_link(host: RouteSocket, inside: RouteSocket, veth_name: str, index: int) -> None:
    """Bring the inner end up, and wait until the outer one carries packets. Raises OSError.

    The kernel tells that through a work queue; a bridge that a pair joins before loses the container's first packets.
    """
    inside.execute([set_link(index, up=True)])
    deadline = time.monotonic() + _CARRIER_PATIENCE_S
    while (link := host.link(veth_name)) is not None and not link.operational:
        if time.monotonic() > deadline:
            logger.debug("interface %s gets no carrier", veth_name)
            return
        time.sleep(_CARRIER_POLL_S)


def remove_interfaces(names: Sequence[str]) -> None:
    """Removes the host's ends of veth pairs, and with them the others; no error when they are gone. Blocks 10 to 20 ms each."""
    with RouteSocket() as host:
        host.execute([delete_link(name) for name in names], tolerate=_LINK_GONE)


def build_isolated(make_namespace: Callable[[], int] | None = None, prepare_resolver: PrepareResolver | None = None) -> Sandbox:
    """A namespace with nothing but loopback. Blocks for about a millisecond."""
    fd, inside, resolver = _make_namespace(make_namespace, prepare_resolver)
    inside.close()
    return Sandbox(fd, resolver=resolver)


class SandboxPool:
    """Keeps a few sandboxes ready. Used from the event loop; building runs on the executor (None: the loop's own).

    Refilling waits a moment, so that it doesn't compete with the very container that took the sandbox.
    """

    def __init__(
        self, build: Callable[[], Sandbox], executor: Executor | None, *, size: int = 3, refill_delay_s: float = 0.03
    ) -> None:
        self._build = build
        self._executor = executor
        self._size = size
        self._refill_delay_s = refill_delay_s
        self._ready: deque[Sandbox] = deque()
        self._refill: asyncio.Task[None] | None = None
        self._closed = False

    def __len__(self) -> int:
        """How many are ready."""
        return len(self._ready)

    def start_refill(self) -> None:
        """Fills the pool in the background, unless that is under way."""
        if not self._closed and (self._refill is None or self._refill.done()):
            self._refill = asyncio.get_running_loop().create_task(self._fill(), name="sandbox pool")

    async def take(self) -> Sandbox:
        """A ready sandbox, or one made on the spot; the caller owns it. Raises OSError."""
        sandbox = self._ready.popleft() if self._ready else await self._make()
        self.start_refill()
        return sandbox

    async def filled(self) -> None:
        """Returns when the refill that is under way has ended."""
        if self._refill is not None:
            await asyncio.wait([self._refill])

    async def _make(self) -> Sandbox:
        job = asyncio.get_running_loop().run_in_executor(self._executor, self._build)
        try:
            return await asyncio.shield(job)
        except asyncio.CancelledError:
            job.add_done_callback(self._keep)  # the thread can't be stopped: what it makes is for the next one
            raise

    def _keep(self, job: asyncio.Future[Sandbox]) -> None:
        if job.exception() is None:
            if self._closed:
                # Its link goes with the namespace, a little later than if we removed it.
                job.result().close()
            else:
                self._ready.append(job.result())

    async def _fill(self) -> None:
        while len(self._ready) < self._size and not self._closed:
            await asyncio.sleep(self._refill_delay_s if self._ready else 0)
            try:
                sandbox = await self._make()
            except OSError as error:
                logger.warning("preparing a network sandbox failed: %s", error)
                return  # whoever needs one tries again, and gets the error
            self._ready.append(sandbox)

    async def close(self) -> list[Sandbox]:
        """Stops refilling and hands over what is left, for removal."""
        self._closed = True
        if self._refill is not None:
            self._refill.cancel()
            await asyncio.wait([self._refill])
        left = list(self._ready)
        self._ready.clear()
        return left
