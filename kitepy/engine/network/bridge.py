"""The bridge network: gives containers a sandbox, an address and published ports, and takes them back.

Order of an attachment: address, host ports, sandbox, kernel (inside, then rules), relays; all of it is undone when a step
fails or the caller goes away. Kernel work runs on threads of the network's own; the state belongs to the event loop's
thread. An address is given out again only after its old interface is gone, since the bridge could still send frames there.

After a restart of the engine: ``set_up``, ``adopt`` for each container that is alive, ``finish_adoption``. Until then the
rules of the former engine stay as they are, so published ports work throughout.
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket
from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Interface
from typing import Any, TypeVar

from kitepy.engine.kernel.netlink import RouteSocket
from kitepy.engine.kernel.netns import open_namespace_of
from kitepy.engine.kernel.nftables import Nftables, NftablesError, NftablesMissing
from kitepy.engine.kernel.port_sockets import bind_port
from kitepy.engine.model.errors import InvalidParameter, NotFound, SystemFailure, Unsupported
from kitepy.engine.model.ids import new_id, short_id
from kitepy.engine.model.network import Endpoint, PortRequest
from kitepy.engine.network.addresses import AddressPool, mac_for
from kitepy.engine.network.attachment import Attachment
from kitepy.engine.network.bridge_link import BridgeState, prepare_bridge
from kitepy.engine.network.firewall import forward_obstacles
from kitepy.engine.network.link_rules import LinkException
from kitepy.engine.network.naming import KernelNames
from kitepy.engine.network.ports import Binder, BindFailed, PortReservations
from kitepy.engine.network.relay_process import RelayProcess, key_of
from kitepy.engine.network.rules import RuleContext
from kitepy.engine.network.ruleset import RuleSet
from kitepy.engine.network.sandbox import Sandbox, SandboxPool, build_sandbox, isolate_interface, remove_interface

logger = logging.getLogger(__name__)

T = TypeVar("T")

_MAC = re.compile(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}")
_WITHOUT_RULES = "ports are relayed in user space and containers reach no other network"


@dataclass(frozen=True)
class BridgeSettings:
    """What the engine's options say about the network."""

    name: str = "bridge"
    gateway: IPv4Interface | None = None
    """``--bip``; None takes the first free pool."""
    mtu: int | None = None
    """``--mtu``; None follows the default route, at most 1500."""
    icc: bool = True
    use_rules: bool = True
    """``--iptables``: False touches no rules; ports are relayed and nothing is masqueraded."""
    forward: bool = True
    masquerade: bool = True
    pool_size: int = 3


class BridgeNetwork:
    """One bridge with its table of rules. Methods are coroutines of one event loop and may run concurrently."""

    def __init__(
        self,
        names: KernelNames,
        settings: BridgeSettings,
        relays: RelayProcess,
        *,
        bind: Binder = bind_port,
        make_namespace: Callable[[], int] | None = None,
    ) -> None:
        """``bind`` holds a published port of the machine, which may be in another network namespace than the bridge.

        ``make_namespace`` gives the network namespaces of sandboxes where they are not the caller's own to make.
        """
        self._make_namespace = make_namespace
        self.names = names
        self.settings = settings
        self._kernel = ThreadPoolExecutor(3, thread_name_prefix="network")
        # Removals wait for RCU; on a thread of their own they delay nobody else.
        self._remover = ThreadPoolExecutor(1, thread_name_prefix="network-removal")
        self._rules: RuleSet | None = None
        self._state: BridgeState | None = None
        self._addresses: AddressPool | None = None
        self._ports = PortReservations(bind)
        self._relays = relays
        self._kept: dict[str, socket.socket] = {}
        self._pool = SandboxPool(self._build_sandbox, self._kernel, size=settings.pool_size)
        self._attached: dict[str, Attachment] = {}
        self._interfaces: set[str] = set()
        self._removals: dict[IPv4Address, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._adoption: asyncio.Task[None] | None = None
        self._warnings: list[str] = []

    @property
    def gateway(self) -> IPv4Interface:
        """The bridge's own address, with the subnet's prefix length."""
        return self._ready()[0].gateway

    @property
    def mtu(self) -> int:
        """The MTU of the bridge and of its containers."""
        return self._ready()[0].mtu

    @property
    def endpoints(self) -> list[Endpoint]:
        """All endpoints that are attached."""
        return [attachment.endpoint for attachment in self._attached.values()]

    @property
    def warnings(self) -> tuple[str, ...]:
        """What this host refused, or what stands in the way; for ``/info``."""
        return tuple(self._warnings)

    def netns_fd(self, endpoint: Endpoint) -> int:
        """The descriptor of the endpoint's namespace; it stays the network's, which closes it in ``detach``. Raises NotFound."""
        attachment = self._attached.get(endpoint.endpoint_id)
        if attachment is None or attachment.sandbox is None:
            raise NotFound(f"endpoint {endpoint.endpoint_id} is not attached to network {self.settings.name}")
        return attachment.sandbox.netns_fd

    def _ready(self) -> tuple[BridgeState, AddressPool]:
        if self._state is None or self._addresses is None:
            raise SystemFailure(f"network {self.settings.name} is not set up")
        return self._state, self._addresses

    async def _in_kernel(self, work: Callable[[], T], executor: ThreadPoolExecutor | None = None) -> T:
        return await asyncio.get_running_loop().run_in_executor(executor or self._kernel, work)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # --- setting up, and taking over from a former engine ---

    async def set_up(self) -> None:
        """Makes or reuses the bridge and its rules, and begins to fill the pool. Raises EngineError."""
        settings, bridge = self.settings, self.names.bridge
        try:
            state = await self._in_kernel(
                lambda: prepare_bridge(bridge, settings.gateway, settings.mtu, forward=settings.forward)
            )
        except OSError as error:
            raise SystemFailure(f"could not set up bridge {bridge}: {error.strerror or error}") from error
        self._state, self._addresses = state, AddressPool(state.gateway)
        self._warnings = list(state.warnings)
        if state.forwarding_turned_on:
            logger.info("turned on net.ipv4.ip_forward for network %s", settings.name)
        if settings.use_rules:
            await self._in_kernel(lambda: self._open_rules(state))
        try:
            self._kept = await self._in_kernel(self._relays.held)
        except OSError as error:
            logger.warning("the former engine's relays are out of reach: %s", error)
        self._pool.start_refill()

    def _open_rules(self, state: BridgeState) -> None:
        """Rules of a former engine stay until the adoption has ended. What the host lacks becomes a warning."""
        settings = self.settings
        try:
            nftables = Nftables()
            rules = RuleSet(nftables, self.names.table, self.names.veth_prefix)
            context = RuleContext(
                bridge=self.names.bridge,
                subnets=(state.gateway.network,),
                icc=settings.icc,
                loopback=state.loopback,
                masquerade=settings.masquerade,
            )
            rules.set_networks([context])
            self._warnings.extend(forward_obstacles(nftables.query("list chains"), self.names.bridge))
        except NftablesMissing as error:
            self._warnings.append(f"{error.strerror}; until then {_WITHOUT_RULES}")
        except NftablesError as error:
            self._warnings.append(f"{error.strerror}: {_WITHOUT_RULES}")
        else:
            self._rules = rules

    async def adopt(self, endpoint: Endpoint, pid: int) -> Endpoint:
        """Takes over an endpoint whose container outlived the engine; call it before the first ``attach``.

        Raises NotFound when its process or interface is gone, InvalidParameter when its address isn't of this subnet. A host
        port that somebody took meanwhile is only warned of: the rules keep serving the container.
        """
        _, addresses = self._ready()
        if endpoint.endpoint_id in self._attached:
            return self._attached[endpoint.endpoint_id].endpoint
        address = IPv4Address(endpoint.address)
        addresses.reserve(address)
        try:
            fd = await self._in_kernel(lambda: self._reopen(endpoint, pid))
        except OSError as error:
            addresses.release(address)
            raise NotFound(f"endpoint {endpoint.endpoint_id} can't be adopted: {error.strerror or error}") from error
        self._interfaces.add(endpoint.host_interface)
        attachment = Attachment(endpoint, Sandbox(fd, endpoint.host_interface))
        served = {key_of(port) for port in endpoint.ports} & self._kept.keys()
        for port in endpoint.ports:
            try:
                attachment.reservations.append(self._ports.restore(port, self._kept.pop(key_of(port), None)))
            except BindFailed as error:
                logger.warning("container %s: %s", short_id(endpoint.container_id), error)
        self._attached[endpoint.endpoint_id] = attachment
        await self._start_relays(attachment, served)
        return endpoint

    async def _start_relays(self, attachment: Attachment, served: Collection[str] = ()) -> None:
        try:
            await self._in_kernel(lambda: attachment.start_relays(self._relays, served))
        except OSError as error:
            raise SystemFailure(
                f"the ports of container {short_id(attachment.endpoint.container_id)} can't be served: {error}"
            ) from error

    def _reopen(self, endpoint: Endpoint, pid: int) -> int:
        with RouteSocket() as host:
            if host.link(endpoint.host_interface) is None:
                raise FileNotFoundError(0, f"interface {endpoint.host_interface} is gone")
            if not self.settings.icc:
                isolate_interface(host, endpoint.host_interface)
        return open_namespace_of(pid)

    async def finish_adoption(self) -> None:
        """Puts the rules of exactly the adopted endpoints in place, in one transaction, and removes ownerless interfaces.

        Done once, by the first ``attach`` at the latest. Raises SystemFailure.
        """
        self._ready()
        if self._adoption is None:
            self._adoption = self._spawn(self._finish_adoption())
        try:
            await asyncio.shield(self._adoption)
        except OSError as error:
            self._adoption = None
            raise SystemFailure(f"could not set up the rules of network {self.settings.name}: {error.strerror}") from error

    async def _finish_adoption(self) -> None:
        rules = self._rules
        if rules is not None:
            elements = [element for attachment in self._attached.values() for element in attachment.elements]
            await self._in_kernel(lambda: rules.replace(elements))
        ownerless, self._kept = self._kept, {}
        for bound in ownerless.values():
            bound.close()
        if ownerless:
            await self._in_kernel(lambda: self._relays.drop(ownerless))
        self._spawn(self._remove_strays())

    async def _remove_strays(self) -> None:
        def ours() -> list[str]:
            with RouteSocket() as host:
                return [link.name for link in host.links() if link.name.startswith(self.names.veth_prefix)]

        # The set is looked at after the listing: it holds every name before the interface exists.
        for name in await self._in_kernel(ours):
            if name not in self._interfaces:
                logger.info("removing interface %s, which belongs to no container", name)
                await self._remove_interface(name)

    # --- endpoints ---

    async def attach(
        self,
        container_id: str,
        *,
        ports: Sequence[PortRequest] = (),
        mac: str | None = None,
        address: IPv4Address | None = None,
        name: str = "",
        plain: bool = False,
        network_id: str = "",
    ) -> Endpoint:
        """A sandbox on this network with its ports published; ``name`` is the container's, for messages.

        ``plain``: its namespace belongs to the engine's user namespace, whatever ``make_namespace`` gives.

        Raises InvalidParameter, Conflict (the address is in use) and SystemFailure (a port is taken, the kernel refused).
        """
        if mac is not None and not _MAC.fullmatch(mac):
            raise InvalidParameter(f"invalid MAC address: {mac}")
        state, _ = self._ready()
        await self.finish_adoption()
        chosen = await self._take_address(address)
        endpoint = Endpoint(
            endpoint_id=new_id(),
            container_id=container_id,
            network=self.settings.name,
            address=str(chosen),
            prefix_length=state.gateway.network.prefixlen,
            gateway=str(state.gateway.ip),
            mac=mac.lower() if mac else mac_for(chosen),
            host_interface="",
            network_id=network_id,
        )
        attachment = Attachment(endpoint)
        steps = self._spawn(self._attach(attachment, ports, name or short_id(container_id), plain=plain))
        try:
            await asyncio.shield(steps)
        except BaseException:
            # A thread that is in the kernel can't be interrupted, so undoing starts when it is through.
            await asyncio.shield(self._dispose(attachment, after=steps))
            raise
        self._attached[endpoint.endpoint_id] = attachment
        return attachment.endpoint

    async def _take_address(self, wanted: IPv4Address | None) -> IPv4Address:
        _, addresses = self._ready()
        if wanted is not None:
            if wanted in self._removals:
                await asyncio.wait([self._removals[wanted]])
            addresses.reserve(wanted)
            return wanted
        while True:
            try:
                return addresses.allocate()
            except SystemFailure:
                if not self._removals:
                    raise
                await asyncio.wait(list(self._removals.values()), return_when=asyncio.FIRST_COMPLETED)

    async def _attach(self, attachment: Attachment, ports: Sequence[PortRequest], name: str, *, plain: bool) -> None:
        state, _ = self._ready()
        endpoint = attachment.endpoint
        try:
            attachment.reservations = self._ports.reserve(ports)
        except BindFailed as error:
            raise SystemFailure(
                f"driver failed programming external connectivity on endpoint {name} ({endpoint.endpoint_id}): {error}"
            ) from error
        try:
            sandbox = await self._take_sandbox(plain=plain)
            attachment.sandbox = sandbox
            attachment.endpoint = replace(
                endpoint,
                host_interface=sandbox.host_interface,
                ports=tuple(reservation.port for reservation in attachment.reservations),
            )
            await self._in_kernel(lambda: self._configure(attachment, sandbox, state.gateway.ip))
        except OSError as error:
            raise SystemFailure(f"failed to set up the network of container {name}: {error.strerror or error}") from error
        await self._start_relays(attachment)

    def _configure(self, attachment: Attachment, sandbox: Sandbox, gateway: IPv4Address) -> None:
        endpoint = attachment.endpoint
        sandbox.configure(endpoint.mac, IPv4Interface((endpoint.address, endpoint.prefix_length)), gateway)
        if self._rules is not None:
            attachment.publish_rules(self._rules)

    async def detach(self, endpoint: Endpoint) -> None:
        """Withdraws and frees the ports, then returns; the interface and the address follow in the background. Idempotent.

        An endpoint that was never adopted (its container died with the former engine) only loses its interface.
        """
        attachment = self._attached.pop(endpoint.endpoint_id, None)
        if attachment is not None:
            await asyncio.shield(self._dispose(attachment))
        elif endpoint.host_interface.startswith(self.names.veth_prefix) and endpoint.host_interface not in self._interfaces:
            self._spawn(self._remove_interface(endpoint.host_interface))

    def _dispose(self, attachment: Attachment, after: asyncio.Task[None] | None = None) -> asyncio.Task[None]:
        """Gives everything back; the task ends when the ports are free."""
        withdrawn = self._spawn(self._withdraw(attachment, after))
        address = IPv4Address(attachment.endpoint.address)
        self._removals[address] = self._spawn(self._remove(attachment, address, withdrawn))
        return withdrawn

    async def change_links(self, *, allowed: Iterable[LinkException], forbidden: Iterable[LinkException]) -> None:
        """Let linked containers pass, or no longer, on a bridge whose containers may not talk to each other.

        Raises Unsupported when this host can't.
        """
        allowed, forbidden, rules = frozenset(allowed), frozenset(forbidden), self._rules
        if rules is None:
            if allowed:
                raise Unsupported("links between containers need rules where containers may not talk to each other (--icc=false)")
            return

        def change() -> None:
            rules.forbid_link(forbidden)
            rules.allow_link(allowed)

        try:
            await self._in_kernel(change)
        except OSError as error:
            words = "links between containers can't be let through, since this kernel can't filter on bridges"
            raise Unsupported(f"{words}: {error.strerror}") from error

    async def _withdraw(self, attachment: Attachment, after: asyncio.Task[None] | None) -> None:
        if after is not None:
            await asyncio.wait([after])
        try:
            await self._in_kernel(lambda: attachment.stop_relays(self._relays))
        except OSError as error:
            logger.warning("the relays of %s: %s", short_id(attachment.endpoint.container_id), error)
        rules = self._rules
        if rules is not None and attachment.endpoint.ports:
            try:
                await self._in_kernel(lambda: attachment.withdraw_rules(rules))
            except OSError as error:
                logger.warning("withdrawing the ports of %s: %s", short_id(attachment.endpoint.container_id), error.strerror)
        for reservation in attachment.reservations:
            self._ports.release(reservation)
        if attachment.sandbox is None:
            address = IPv4Address(attachment.endpoint.address)
            del self._removals[address]
            self._ready()[1].release(address)

    async def _remove(self, attachment: Attachment, address: IPv4Address, withdrawn: asyncio.Task[None]) -> None:
        await asyncio.wait([withdrawn])
        if attachment.sandbox is None:
            return  # the address is free, and may be another container's, since the ports are
        try:
            attachment.sandbox.close()
            await self._remove_interface(attachment.sandbox.host_interface)
        finally:
            del self._removals[address]
            self._ready()[1].release(address)

    async def _remove_interface(self, name: str) -> None:
        try:
            await self._in_kernel(lambda: remove_interface(name), self._remover)
        except OSError as error:
            logger.warning("removing interface %s: %s", name, error.strerror or error)
        self._interfaces.discard(name)

    async def _take_sandbox(self, *, plain: bool) -> Sandbox:
        if plain and self._make_namespace is not None:
            return await self._in_kernel(lambda: self._build_sandbox(plain=True))
        return await self._pool.take()

    def _build_sandbox(self, *, plain: bool = False) -> Sandbox:
        """Runs on a thread of the executor."""
        state, _ = self._ready()
        name = self.names.new_veth()
        self._interfaces.add(name)
        try:
            return build_sandbox(
                name,
                bridge_index=state.index,
                mtu=state.mtu,
                isolated=not self.settings.icc,
                make_namespace=None if plain else self._make_namespace,
            )
        except BaseException:
            self._interfaces.discard(name)
            raise

    async def settled(self) -> None:
        """Returns when the pool is full and what was detached is gone from the kernel."""
        await self._pool.filled()
        while self._tasks:
            await asyncio.wait(list(self._tasks))

    # --- the end ---

    async def close(self, *, keep: bool = False) -> None:
        """Ends the engine's part: its sockets and the pool. ``keep`` leaves all that serves running containers.

        Without it everything that the network made is removed from the kernel. The network can't be used again.
        """
        spare = await self._pool.close()
        attachments = list(self._attached.values())
        self._attached.clear()
        for attachment in attachments:
            for reservation in attachment.reservations:
                self._ports.release(reservation)
        while self._tasks:
            await asyncio.wait(list(self._tasks))
        await self._in_kernel(self._relays.close if keep else self._relays.end)
        sandboxes = [*spare, *(attachment.sandbox for attachment in attachments if attachment.sandbox is not None)]
        for sandbox in sandboxes:
            sandbox.close()
        for sandbox in spare if keep else sandboxes:
            await self._remove_interface(sandbox.host_interface)
        rules = self._rules
        if rules is not None:
            if not keep:
                await self._in_kernel(rules.remove)
            rules.close()
        if not keep and self._state is not None:
            await self._remove_interface(self.names.bridge)
        self._rules = self._state = None
        self._kernel.shutdown(wait=False)
        self._remover.shutdown(wait=False)
