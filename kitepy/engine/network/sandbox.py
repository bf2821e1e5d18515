"""Sandboxes: network namespaces with their interface ready for a container, made before they are needed.

The costly steps (a namespace, a veth pair, its port of the bridge) happen ahead of time and off the event loop. What is
left for the moment a container starts is its MAC, its address and its route: one round trip to the kernel. A sandbox that
served a container is never used again, since the container may have changed anything inside.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface

from kitepy.engine.kernel.netlink import (
    LOOPBACK_INDEX,
    Message,
    RouteSocket,
    add_address,
    add_default_route,
    add_veth,
    delete_link,
    isolate_port,
    set_link,
)
from kitepy.engine.kernel.netns import in_namespace, in_new_namespace, open_current_namespace
from kitepy.engine.kernel.sysctl import write_sysctl
from kitepy.engine.kernel.user_namespaces import own_gid_map
from kitepy.engine.network.bridge_link import quiet_ipv6

logger = logging.getLogger(__name__)

INTERFACE = "eth0"

# Docker's defaults: ping without a capability, and low ports for any user, since nothing else lives in the namespace.
# IPv6 is off for interfaces made from now on; loopback exists already and keeps ::1. arp_notify announces a new MAC to
# the bridge and to neighbours that remember the address's former owner.
SANDBOX_SYSCTLS = (
    ("net/ipv6/conf/default/disable_ipv6", "1"),
    ("net/ipv4/conf/default/arp_notify", "1"),
    ("net/ipv4/ip_unprivileged_port_start", "0"),
)
_LAST_GROUP = 2**31 - 1
"""The highest that the kernel takes for ping_group_range."""
_LINK_GONE = (errno.ENODEV,)


@dataclass
class Sandbox:
    """A namespace and the host's end of its veth pair; until it is configured, a netlink socket inside it as well."""

    netns_fd: int
    host_interface: str
    interface_index: int = 0
    inside: RouteSocket | None = None

    def configure(self, mac: str, address: IPv4Interface, gateway: IPv4Address) -> None:
        """The hot path: one batch. Blocks well below a millisecond unless the kernel is busy removing links."""
        if self.inside is None:
            raise OSError(errno.EALREADY, f"the sandbox of {self.host_interface} was configured before")
        with self.inside as inside:
            self.inside = None
            inside.execute(configuration(self.interface_index, mac, address, gateway))

    def close(self) -> None:
        """Closes the descriptors; the kernel removes the namespace after its last process. Idempotent."""
        if self.inside is not None:
            self.inside.close()
        if self.netns_fd >= 0:
            os.close(self.netns_fd)
            self.netns_fd = -1


def configuration(index: int, mac: str, address: IPv4Interface, gateway: IPv4Address) -> list[Message]:
    """What turns a ready sandbox into a certain container's. The MAC follows the address: its change announces both."""
    return [add_address(index, address), set_link(index, mac=mac), add_default_route(index, gateway)]


def _enter() -> tuple[int, RouteSocket]:
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
        undo.pop_all()
    return fd, inside


def _make_namespace(make: Callable[[], int] | None) -> tuple[int, RouteSocket]:
    if make is None:
        return in_new_namespace(_enter)
    fd = make()
    try:
        return in_namespace(fd, _enter)
    finally:
        os.close(fd)


def build_sandbox(
    veth_name: str, *, bridge_index: int, mtu: int, isolated: bool, make_namespace: Callable[[], int] | None = None
) -> Sandbox:
    """Makes a sandbox on a bridge; ``make_namespace`` gives its network namespace where a plain one won't do.

    Blocks for a few milliseconds; raises OSError and leaves nothing behind then.
    """
    with ExitStack() as undo:
        fd, inside = _make_namespace(make_namespace)
        undo.callback(os.close, fd)
        undo.callback(inside.close)
        host = undo.enter_context(RouteSocket())
        host.execute([add_veth(veth_name, bridge_index=bridge_index, mtu=mtu, peer_name=INTERFACE, peer_netns_fd=fd)])
        undo.callback(host.execute, [delete_link(veth_name)], tolerate=_LINK_GONE)
        quiet_ipv6(veth_name)
        if isolated:
            isolate_interface(host, veth_name)
        inner = inside.link(INTERFACE)
        if inner is None:
            raise OSError(errno.ENODEV, f"the inner end of {veth_name} did not appear")
        # Up already now: the bridge learns of a port's carrier through a work queue that is rate-limited to once a second,
        # so a link raised only when its container starts could lose the container's first packets.
        inside.execute([set_link(inner.index, up=True)])
        undo.pop_all()
        host.close()
    return Sandbox(fd, veth_name, inner.index, inside)


def isolate_interface(host: RouteSocket, name: str) -> None:
    """Keeps a container from its neighbours on the bridge."""
    link = host.link(name)
    if link is None:
        raise OSError(errno.ENODEV, f"there is no interface {name}")
    host.execute([isolate_port(link.index)])


def remove_interface(name: str) -> None:
    """Removes the host's end of a veth pair, and with it the other; no error when it is gone. Blocks for 10 to 20 ms."""
    with RouteSocket() as host:
        host.execute([delete_link(name)], tolerate=_LINK_GONE)


def build_isolated(make_namespace: Callable[[], int] | None = None) -> Sandbox:
    """A namespace with nothing but loopback, for a container without network. Blocks for about a millisecond."""
    fd, inside = _make_namespace(make_namespace)
    inside.close()
    return Sandbox(fd, "")


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
