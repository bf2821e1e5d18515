"""All networks of the engine: the one door through which services give containers their place in them and take it back.

A running container has one sandbox, a network namespace, with one interface per network that it joined. Order of a start:
addresses, host ports, sandbox, kernel (inside, then rules), relays; all of it is undone when a step fails or the caller goes
away. Kernel work runs on threads; the state belongs to one event loop. An address is given out again only when the interface
that had it has lost it, since the bridge could still send frames there.

After a restart of the engine: ``set_up``, ``adopt`` for each container that is alive, ``finish_adoption``. Until then the
rules of the former engine stay as they are, so published ports work throughout.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network

from kitepy.engine.kernel.netlink import Link, LinkAddress, Route, RouteSocket
from kitepy.engine.kernel.netns import open_namespace_of
from kitepy.engine.kernel.port_holders import find_holder
from kitepy.engine.kernel.port_sockets import bind_port
from kitepy.engine.model.errors import Conflict, EngineError, Forbidden, InvalidParameter, NotFound, SystemFailure, Unsupported
from kitepy.engine.model.ids import new_id, short_id
from kitepy.engine.model.network import (
    Endpoint,
    EndpointRequest,
    LinkedPort,
    NetworkDriver,
    NetworkRecord,
    PortRequest,
    SandboxRequest,
)
from kitepy.engine.network import plugging
from kitepy.engine.network.addresses import mac_for
from kitepy.engine.network.attachment import Attachment, Place, choose_gateways, free_interface_name
from kitepy.engine.network.bridge import Bridge, Carrier, default_record
from kitepy.engine.network.bridge_link import DEFAULT_MTU
from kitepy.engine.network.default_bridge import BridgeSettings, create_default
from kitepy.engine.network.ipam import AddressSpace, Lease
from kitepy.engine.network.kernel_work import KernelWork
from kitepy.engine.network.name_service import NameService
from kitepy.engine.network.naming import KernelNames, builtin_id
from kitepy.engine.network.parent_carrier import ParentCarrier
from kitepy.engine.network.parent_links import ParentLinks
from kitepy.engine.network.ports import Binder, HolderFinder, PortReservations
from kitepy.engine.network.publisher import Publisher
from kitepy.engine.network.relay_process import RelayProcess
from kitepy.engine.network.resolver_process import ResolverProcess
from kitepy.engine.network.rule_table import RuleTable
from kitepy.engine.network.rules import RuleContext
from kitepy.engine.network.sandbox import Sandbox
from kitepy.engine.network.sandbox_supply import SandboxSupply

logger = logging.getLogger(__name__)

_MAC = re.compile(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}")
_INTERFACE_OPTION = "com.docker.network.endpoint.ifname"
_PREFIX_OPTION = "com.docker.network.container_iface_prefix"


class Networks:
    """The default bridge, the networks that users made, and the sandboxes of running containers."""

    def __init__(
        self,
        names: KernelNames,
        settings: BridgeSettings,
        relays: RelayProcess,
        *,
        created: str,
        space: AddressSpace | None = None,
        resolver: ResolverProcess | None = None,
        parents: ParentLinks | None = None,
        bind: Binder = bind_port,
        find_holder: HolderFinder = find_holder,
        make_namespace: Callable[[], int] | None = None,
    ) -> None:
        """``created`` is the time that the default network shows; ``space`` is where subnets come from.

        ``resolver`` serves names on user-defined networks, ``parents`` makes what macvlan and ipvlan networks consist of.
        ``bind`` holds a published port of the machine, which may be in another network namespace than the bridges;
        ``find_holder`` tells who has one there.
        ``make_namespace`` gives the network namespaces of sandboxes where they are not the caller's own to make.
        """
        self.names = names
        self.settings = settings
        self._work = KernelWork()
        self._space = space or AddressSpace()
        self._default = Bridge(default_record(names, settings, builtin_id(settings.name, names.tag), created), names, settings)
        self._carriers: dict[str, Carrier] = {}
        self._table = RuleTable(names, self._work)
        self._ports = Publisher(PortReservations(bind, find_holder), relays, self._table, self._work)
        self._supply = SandboxSupply(names, self._work, self._sandbox_mtu, make_namespace, settings.pool_size)
        self._names = NameService(resolver, self._default.record.network_id)
        self._parents = parents or ParentLinks(names.tag)
        self._places: dict[str, Place] = {}
        self._removals: dict[str, set[asyncio.Task[None]]] = {}
        """What is being removed and still has addresses, by network."""
        self._vacating: dict[str, set[asyncio.Task[None]]] = {}
        """What is about to give its addresses back, by network."""
        self._repairing = asyncio.Lock()
        self._adoption: asyncio.Task[None] | None = None
        self._warnings: list[str] = []
        self._is_set_up = False

    # --- what there is ---

    @property
    def default_id(self) -> str:
        """The identifier of the default network, known before it is set up."""
        return self._default.record.network_id

    @property
    def default(self) -> NetworkRecord:
        """The default network as it is; without an address before ``set_up``."""
        return self._default.record

    @property
    def warnings(self) -> tuple[str, ...]:
        """What this host refused, or what stands in the way; for ``/info``."""
        found = (warning for carrier in self._carriers.values() for warning in carrier.warnings)
        return tuple(dict.fromkeys([*found, *self._warnings, *self._table.warnings, *filter(None, [self._names.problem])]))

    def endpoints(self, network_id: str) -> list[Endpoint]:
        """The endpoints of running containers in a network."""
        found = (place.attachment_in(network_id) for place in self._places.values())
        return [attachment.endpoint for attachment in found if attachment is not None]

    def netns_fd(self, container_id: str) -> int:
        """The namespace of a container's sandbox; it stays ours, who close it in ``stop``. Raises NotFound."""
        place = self._place(container_id)
        if place.sandbox is None:
            raise NotFound(f"container {container_id} has no network sandbox")
        return place.sandbox.netns_fd

    def _place(self, container_id: str) -> Place:
        try:
            return self._places[container_id]
        except KeyError:
            raise NotFound(f"container {container_id} has no network sandbox") from None

    def _carrier(self, network_id: str) -> Carrier:
        try:
            return self._carriers[network_id]
        except KeyError:
            raise NotFound(f"network {network_id} not found") from None

    # --- networks ---

    async def set_up(self, records: Iterable[NetworkRecord] = ()) -> None:
        """Make or reuse what the networks consist of, the default one included. Raises EngineError.

        A network of a user's that can't be had is only warned of: the others go on.
        """
        records = list(records)
        for record in records:
            self._space.adopt(record)
        if self.settings.enabled:
            await self._set_up_default()
        for record in records:
            try:
                carrier = self._carriers[record.network_id] = self._make_carrier(record)
                await self._work.run(carrier.set_up)
            except (OSError, EngineError) as error:
                logger.warning("network %s can't be set up: %s", record.name, error)
                self._warnings.append(f"network {record.name} can't be set up: {error}")
        self._is_set_up = True
        if self.settings.use_rules:
            await self._table.open(self._contexts())
        await self._work.run(self._names.take_over)
        await self._ports.take_over()
        self._supply.start()
        self._expect_names()

    def _contexts(self) -> list[RuleContext | None]:
        return [carrier.context for carrier in self._carriers.values()]

    def _sandbox_mtu(self) -> int:
        return self._default.mtu if self.settings.enabled else self.settings.mtu or DEFAULT_MTU

    def _expect_names(self) -> None:
        """Make ready for containers that have names, once there is a network for them."""
        if self._carriers.keys() - {self.default_id}:
            self._supply.expect_names()
            self._work.spawn(self._work.run(self._names.warm))

    async def _set_up_default(self) -> None:
        def look() -> tuple[list[Link], list[LinkAddress], list[Route]]:
            with RouteSocket() as host:
                return host.links(), host.addresses(), host.routes()

        default = self._default
        try:
            default.record = create_default(default.record, self.settings, self._space, *await self._work.run(look))
            await self._work.run(default.set_up)
        except OSError as error:
            raise SystemFailure(f"could not set up bridge {default.record.device}: {error.strerror or error}") from error
        if default.state.forwarding_turned_on:
            logger.info("turned on net.ipv4.ip_forward for network %s", default.record.name)
        self._carriers[self.default_id] = default

    def _make_carrier(self, record: NetworkRecord) -> Carrier:
        if record.driver is NetworkDriver.BRIDGE:
            return Bridge(record, self.names, self.settings)
        if record.driver in (NetworkDriver.MACVLAN, NetworkDriver.IPVLAN):
            return ParentCarrier(record, self._parents, lambda: [carrier.record for carrier in self._carriers.values()])
        raise Unsupported(f"networks with the driver {record.driver.value} are not supported by this version of Kitepy")

    async def create(self, record: NetworkRecord) -> NetworkRecord:
        """Make a network; gives the record with all that was left open. Raises EngineError."""
        await self.finish_adoption()
        host_networks = await self._work.run(_host_networks)
        self._check_device(self._make_carrier(record))  # nothing is awaited from here until the network is known
        carrier = self._make_carrier(self._space.create(record, host_networks))
        self._carriers[record.network_id] = carrier
        try:
            await asyncio.shield(self._work.spawn(self._create(carrier)))
        except OSError as error:
            raise SystemFailure(f"could not set up network {record.name}: {(error.strerror or str(error)).lower()}") from error
        self._expect_names()
        return carrier.record

    def _check_device(self, carrier: Carrier) -> None:
        record = carrier.record
        for other in (found.record for found in self._carriers.values()):
            if other.driver is record.driver is NetworkDriver.BRIDGE and other.device == record.device:
                raise Forbidden(
                    f"cannot create network {record.network_id} ({record.device}): conflicts with network "
                    f"{other.network_id} ({other.device}): networks have same bridge name"
                )

    async def _create(self, carrier: Carrier) -> None:
        try:
            await self._work.run(carrier.set_up)
            await self._table.set_networks(self._contexts())
        except BaseException:
            await self._tear_down(carrier)
            raise

    async def remove(self, network_id: str) -> None:
        """Remove a network. Raises NotFound, Forbidden while it has endpoints, and SystemFailure."""
        carrier = self._carrier(network_id)
        if self.endpoints(network_id):
            raise Forbidden(f"error while removing network: network {carrier.record.name} has active endpoints")
        del self._carriers[network_id]  # at once: nobody joins it any more, and who else removes it finds nothing
        await asyncio.shield(self._work.spawn(self._tear_down(carrier)))

    async def _tear_down(self, carrier: Carrier) -> None:
        """The device first: rules for one that is gone harm nobody, a device without rules might."""
        network_id = carrier.record.network_id
        self._carriers.pop(network_id, None)
        try:
            await self._work.run_slowly(carrier.tear_down)
            await self._table.set_networks(self._contexts())
        except (OSError, EngineError) as error:
            logger.warning("removing network %s: %s", carrier.record.name, error)
        for removal in list(self._removals.pop(network_id, ())):
            await asyncio.wait([removal])
        self._vacating.pop(network_id, None)
        self._space.remove(network_id)

    # --- start and stop ---

    async def start(self, request: SandboxRequest) -> tuple[Endpoint, ...]:
        """Give a container its sandbox with all its endpoints and published ports, or nothing at all.

        Without endpoints the sandbox has only a loopback interface. Raises InvalidParameter, NotFound, Forbidden (an address is
        in use) and SystemFailure (a port is taken, the kernel refused).
        """
        for wish in request.endpoints:
            _check_wish(wish)
            self._carrier(wish.network_id)
        await self.finish_adoption()
        if request.container_id in self._places:
            raise Conflict(f"container {request.container_id} has a network sandbox already")
        place = self._places[request.container_id] = Place(
            request.container_id,
            request.name or short_id(request.container_id),
            upstream=request.upstream,
            keeps_single_labels=request.keeps_single_labels,
        )
        steps = self._work.spawn(self._start(place, request))
        try:
            await asyncio.shield(steps)
        except BaseException:
            # A thread that is in the kernel can't be interrupted, so undoing starts when it is through.
            del self._places[request.container_id]
            await asyncio.shield(self._dispose(place, after=steps))
            raise
        return place.endpoints

    async def _start(self, place: Place, request: SandboxRequest) -> None:
        for wish in request.endpoints:
            carrier = self._carrier(wish.network_id)
            place.attachments.append(await self._take_endpoint(place, carrier, wish, place.endpoints))
        place.gateways = choose_gateways(place.attachments)
        self._ports.reserve(place, request.ports)
        try:
            try:
                await self._plug_in(place, plain=request.plain)
            except OSError as error:
                if not await self._repair(attachment.carrier for attachment in place.attachments):
                    raise
                logger.info("once more, since a network was made again: %s", error.strerror)
                await self._give_up_sandbox(place)
                await self._plug_in(place, plain=request.plain)
        except OSError as error:
            raise SystemFailure(f"failed to set up the network of container {place.name}: {error.strerror or error}") from error
        await self._ports.publish(place)

    async def _plug_in(self, place: Place, *, plain: bool) -> None:
        place.sandbox = sandbox = await self._supply.take(
            veth=any(attachment.carrier.uses_veth for attachment in place.attachments),
            named=self._names.concerns(place),
            plain=plain,
        )
        attachments, gateways = place.attachments, place.gateways

        def plug() -> None:
            plugging.plug_all(sandbox, attachments, gateways, self._supply.new_veth)
            self._names.follow(place)

        if attachments:
            await self._work.run(plug)

    async def _give_up_sandbox(self, place: Place) -> None:
        """What is half-made is made anew; addresses and ports stay."""
        await self._work.run(lambda: self._names.leave(place))
        sandbox, place.sandbox = place.sandbox, None
        names = [attachment.endpoint.host_interface for attachment in place.attachments]
        if sandbox is not None:
            names.append(sandbox.host_interface)
            sandbox.close()
        for attachment in place.attachments:
            attachment.index, attachment.endpoint = 0, replace(attachment.endpoint, host_interface="")
        await self._supply.remove(names)

    async def _repair(self, carriers: Iterable[Carrier]) -> bool:
        """Make devices again that somebody removed, and put their containers back. Raises OSError and EngineError."""
        repaired = False
        async with self._repairing:
            for carrier in carriers:
                if await self._work.run(carrier.is_there):
                    continue
                record = carrier.record
                logger.warning("the device %s of network %s is gone: making it again", record.device, record.name)
                await self._work.run(carrier.set_up)
                for place in list(self._places.values()):
                    attachment = place.attachment_in(record.network_id)
                    if attachment is not None and attachment.endpoint.host_interface:
                        await self._replug(attachment)
                await self._table.set_networks(self._contexts())
                repaired = True
        return repaired

    async def _replug(self, attachment: Attachment) -> None:
        try:
            await self._work.run(lambda: plugging.replug(attachment))
        except OSError as error:
            logger.warning("putting interface %s back: %s", attachment.endpoint.host_interface, error.strerror)

    async def _take_endpoint(
        self, place: Place, carrier: Carrier, wish: EndpointRequest, others: Sequence[Endpoint]
    ) -> Attachment:
        """Addresses and names; nothing in the kernel yet."""
        record = carrier.record
        if vacating := self._vacating.get(record.network_id):
            # A moment's patience: a container that is restarted has the same addresses again then.
            await asyncio.wait(list(vacating))
        while True:
            try:
                lease = self._space.take(record.network_id, wish.address, wish.address6)
                break
            except EngineError:
                if not (removals := self._removals.get(record.network_id)):
                    raise
                await asyncio.wait(list(removals), return_when=asyncio.FIRST_COMPLETED)
        taken = {endpoint.interface for endpoint in others}
        interface = wish.interface or dict(wish.options).get(_INTERFACE_OPTION, "")
        endpoint = Endpoint(
            endpoint_id=new_id(),
            container_id=place.container_id,
            network=record.name,
            address=_text(lease.address),
            prefix_length=lease.prefix_length,
            gateway=_text(lease.gateway),
            mac=_mac_of(wish, carrier, lease),
            host_interface="",
            network_id=record.network_id,
            address6=_text(lease.address6),
            prefix_length6=lease.prefix_length6,
            gateway6=_text(lease.gateway6),
            interface=interface or free_interface_name(record.option(_PREFIX_OPTION) or "eth", taken),
            names=wish.names,
            gateway_priority=wish.gateway_priority,
            links=wish.links,
        )
        return Attachment(endpoint, carrier, wish.options, link_local=wish.link_local)

    async def stop(self, container_id: str) -> None:
        """Free the ports, then return; interfaces and addresses follow in the background. Idempotent."""
        place = self._places.pop(container_id, None)
        if place is not None:
            await asyncio.shield(self._dispose(place))

    def _dispose(self, place: Place, after: asyncio.Task[None] | None = None) -> asyncio.Task[None]:
        """Give everything back; the task ends when the ports are free."""
        withdrawn = self._work.spawn(self._withdraw(place, after))
        vacated = self._work.spawn(self._vacate(place, withdrawn))
        removal = self._work.spawn(self._remove(place, vacated))
        for attachment in place.attachments:
            _note(self._vacating, attachment.endpoint.network_id, vacated)
            _note(self._removals, attachment.endpoint.network_id, removal)
        return withdrawn

    async def _withdraw(self, place: Place, after: asyncio.Task[None] | None) -> None:
        if after is not None:
            await asyncio.wait([after])
        async with place.lock:  # whoever connects or disconnects it comes to an end first
            await self._ports.withdraw(place)
            self._ports.release(place)
            if place.has_names:
                await self._work.run(lambda: self._names.leave(place))

    async def _vacate(self, place: Place, withdrawn: asyncio.Task[None]) -> None:
        await asyncio.wait([withdrawn])
        sandbox, attachments = place.sandbox, place.attachments
        if sandbox is None or (attachments and await self._work.run(lambda: plugging.vacate(sandbox, attachments))):
            self._release_addresses(place)

    def _release_addresses(self, place: Place) -> None:
        for attachment in place.attachments:
            self._release_endpoint(attachment.endpoint)
        place.attachments = [replace_addresses(attachment) for attachment in place.attachments]

    def _release_endpoint(self, endpoint: Endpoint) -> None:
        for address in filter(None, (endpoint.address, endpoint.address6)):
            self._space.release(endpoint.network_id, address)

    async def _remove(self, place: Place, vacated: asyncio.Task[None]) -> None:
        await asyncio.wait([vacated])
        names = [attachment.endpoint.host_interface for attachment in place.attachments]
        if place.sandbox is not None:
            names.append(place.sandbox.host_interface)
            place.sandbox.close()
        await self._supply.remove(names)
        self._release_addresses(place)

    # --- running containers ---

    async def connect(
        self, container_id: str, request: EndpointRequest, ports: Sequence[PortRequest] = ()
    ) -> tuple[Endpoint, ...]:
        """Join a running container to one more network; gives all its endpoints. ``ports`` are all that it publishes.

        Raises EngineError, and leaves everything as it was then.
        """
        _check_wish(request)
        place, carrier = self._place(container_id), self._carrier(request.network_id)
        await asyncio.shield(self._work.spawn(self._connect(place, carrier, request, ports)))
        return place.endpoints

    async def _connect(self, place: Place, carrier: Carrier, request: EndpointRequest, ports: Sequence[PortRequest]) -> None:
        async with place.lock:
            sandbox = self._sandbox_in_use(place)
            await self._repair([carrier])
            if place.attachment_in(request.network_id) is not None:
                raise Forbidden(f"container {place.container_id} is already connected to network {carrier.record.name}")
            attachment = await self._take_endpoint(place, carrier, request, place.endpoints)
            try:
                await self._work.run(lambda: plugging.plug(sandbox, attachment, self._supply.new_veth))
                place.attachments.append(attachment)
                await self._follow_gateways(place, ports)
                await self._work.run(lambda: self._names.follow(place))
            except BaseException as error:
                if attachment in place.attachments:
                    place.attachments.remove(attachment)
                self._names.withdraw([attachment])
                await self._pull_out(place, attachment)
                await self._follow_gateways(place, ports)
                if isinstance(error, OSError):
                    raise SystemFailure(
                        f"failed to connect container {place.name} to network {carrier.record.name}: {error.strerror or error}"
                    ) from error
                raise

    async def disconnect(self, container_id: str, network_id: str) -> tuple[Endpoint, ...]:
        """Take a running container out of a network; gives the endpoints it has left. Raises NotFound and SystemFailure."""
        place = self._place(container_id)
        await asyncio.shield(self._work.spawn(self._disconnect(place, network_id)))
        return place.endpoints

    async def _disconnect(self, place: Place, network_id: str) -> None:
        async with place.lock:
            self._sandbox_in_use(place)
            attachment = place.attachment_in(network_id)
            if attachment is None:
                raise NotFound(f"container {place.container_id} is not connected to network {network_id}")
            place.attachments.remove(attachment)
            await self._work.run(lambda: self._names.withdraw([attachment]))
            carrying = place.publication.endpoint
            if carrying is not None and carrying.endpoint_id == attachment.endpoint.endpoint_id:
                await self._ports.withdraw(place)
            await self._pull_out(place, attachment)
            await self._follow_gateways(place, ())
            await self._work.run(lambda: self._names.follow(place))

    def _sandbox_in_use(self, place: Place) -> Sandbox:
        if place.sandbox is None or self._places.get(place.container_id) is not place:
            raise Conflict(f"container {place.container_id} is not running")
        return place.sandbox

    async def _pull_out(self, place: Place, attachment: Attachment) -> None:
        sandbox = self._sandbox_in_use(place)
        try:
            await self._work.run_slowly(lambda: plugging.pull_out(sandbox, attachment))
        except OSError as error:
            logger.warning("removing interface %s of %s: %s", attachment.endpoint.interface, place.name, error)
        self._supply.disown(attachment.endpoint.host_interface)
        self._release_endpoint(attachment.endpoint)

    async def _follow_gateways(self, place: Place, ports: Sequence[PortRequest]) -> None:
        """Default routes and ports go over the endpoint that is to carry them now. Raises EngineError."""
        sandbox = self._sandbox_in_use(place)
        before, after = place.gateways, choose_gateways(place.attachments)
        if before != after:
            known = tuple(old if old in place.attachments else None for old in before)
            try:
                await self._work.run(lambda: plugging.change_routes(sandbox, (known[0], known[1]), after))
            except OSError as error:
                raise SystemFailure(f"the default route of container {place.name}: {error.strerror or error}") from error
        place.gateways = after
        await self._ports.follow(place, ports)

    async def set_links(self, container_id: str, ports: Sequence[LinkedPort]) -> None:
        """All that a container may reach by its links, instead of what it might before; matters only without icc. Idempotent.

        Raises Unsupported when this host can't let it through.
        """
        if not self.settings.icc:
            await self._table.set_links(container_id, ports)

    def rename(self, container_id: str, names: Mapping[str, tuple[str, ...]]) -> None:
        """A container is called otherwise now, by network."""
        place = self._places.get(container_id)
        if place is None:
            return
        for attachment in place.attachments:
            if (changed := names.get(attachment.endpoint.network_id)) is not None:
                attachment.endpoint = replace(attachment.endpoint, names=changed)
        self._names.follow(place)  # a packet to a local process

    # --- after a restart of the engine ---

    async def adopt(
        self,
        container_id: str,
        endpoints: Sequence[Endpoint],
        pid: int,
        *,
        upstream: tuple[str, ...] = (),
        keeps_single_labels: bool = False,
    ) -> tuple[Endpoint, ...]:
        """Take over what a container that outlived the engine has; call it before the first ``start``.

        Gives the endpoints that are intact; one whose interface or network is gone is only warned of. So is a host port that
        somebody took meanwhile: the rules keep serving the container. Raises NotFound when the process is gone.
        """
        if container_id in self._places:
            return self._places[container_id].endpoints
        try:
            sandbox = Sandbox(await self._work.run(lambda: open_namespace_of(pid)))
        except OSError as error:
            raise NotFound(f"container {container_id} can't be adopted: {error.strerror or error}") from error
        place = self._places[container_id] = Place(
            container_id, short_id(container_id), sandbox, upstream=upstream, keeps_single_labels=keeps_single_labels
        )
        for endpoint in endpoints:
            try:
                place.attachments.append(await self._adopt_endpoint(sandbox, endpoint))
            except (OSError, EngineError) as error:
                reason = error.strerror if isinstance(error, OSError) else str(error)
                logger.warning("container %s lost network %s: %s", place.name, endpoint.network, reason)
        place.gateways = choose_gateways(place.attachments)
        await self._ports.adopt(place)
        await self._work.run(lambda: self._names.follow(place))
        return place.endpoints

    async def _adopt_endpoint(self, sandbox: Sandbox, endpoint: Endpoint) -> Attachment:
        endpoint = replace(endpoint, network_id=endpoint.network_id or self.default_id)
        attachment = Attachment(endpoint, self._carrier(endpoint.network_id))
        self._space.restore(endpoint.network_id, endpoint.address, endpoint.address6)
        try:
            await self._work.run(lambda: plugging.replug(attachment))
            await self._work.run(lambda: plugging.find_interface(sandbox, attachment))
        except BaseException:
            self._release_endpoint(endpoint)
            raise
        self._supply.own(endpoint.host_interface)
        return attachment

    async def finish_adoption(self) -> None:
        """Put the rules of exactly what was adopted in place, in one transaction, and remove what belongs to no container.

        Done once, by the first ``start`` at the latest. Raises SystemFailure.
        """
        if not self._is_set_up:
            raise SystemFailure("the networks are not set up")
        if self._adoption is None:
            self._adoption = self._work.spawn(self._finish_adoption())
        try:
            await asyncio.shield(self._adoption)
        except OSError as error:
            self._adoption = None
            raise SystemFailure(f"could not set up the rules of networks: {error.strerror}") from error

    async def _finish_adoption(self) -> None:
        await self._work.run(self._names.finish_adoption)
        await self._ports.finish_adoption(self._places.values())
        self._work.spawn(self._remove_strays())

    async def _remove_strays(self) -> None:
        await self._supply.remove_strays(self._carriers.keys())
        try:
            await self._work.run_slowly(lambda: self._parents.remove_strays(list(self._carriers)))
        except OSError as error:
            logger.warning("removing parent links that belong to no network: %s", error)

    # --- the end ---

    async def settled(self) -> None:
        """Returns when the pools are full and what was given back is gone from the kernel."""
        await self._supply.filled()
        await self._work.settled()

    async def close(self, *, keep: bool = False) -> None:
        """Ends the engine's part: its sockets and the pools. ``keep`` leaves all that serves running containers.

        Without it everything that the networks made is removed from the kernel. They can't be used again.
        """
        spare = await self._supply.close()
        places = list(self._places.values())
        self._places.clear()
        for place in places:
            self._ports.release(place)
        await self._work.settled()
        await self._ports.close(keep=keep)
        await self._work.run(lambda: self._names.close(keep=keep))
        names = [sandbox.host_interface for sandbox in spare]
        if not keep:
            names.extend(attachment.endpoint.host_interface for place in places for attachment in place.attachments)
        for sandbox in (*spare, *(place.sandbox for place in places if place.sandbox is not None)):
            sandbox.close()
        await self._supply.remove(names)
        await self._table.close(keep=keep)
        if not keep:
            for carrier in self._carriers.values():
                try:
                    await self._work.run_slowly(carrier.tear_down)
                except (OSError, EngineError) as error:
                    logger.warning("removing the device of network %s: %s", carrier.record.name, error)
        self._is_set_up = False
        self._work.close()


def _check_wish(wish: EndpointRequest) -> None:
    if wish.mac is not None and not _MAC.fullmatch(wish.mac):
        raise InvalidParameter(f"invalid MAC address: {wish.mac}")
    for address in wish.link_local:
        if not address.is_link_local:
            raise InvalidParameter(f"invalid link local IP address: {address}")


def _mac_of(wish: EndpointRequest, carrier: Carrier, lease: Lease) -> str:
    if not carrier.takes_mac:
        return ""
    address = lease.address or lease.address6
    return wish.mac.lower() if wish.mac else (mac_for(address) if address is not None else "")


def _note(tasks: dict[str, set[asyncio.Task[None]]], network_id: str, task: asyncio.Task[None]) -> None:
    """Remember a task for as long as it runs."""
    running = tasks.setdefault(network_id, set())
    running.add(task)
    task.add_done_callback(running.discard)


def _text(address: object) -> str:
    return "" if address is None else str(address)


def replace_addresses(attachment: Attachment) -> Attachment:
    """The same without its addresses, which are somebody else's now."""
    return replace(attachment, endpoint=replace(attachment.endpoint, address="", address6=""))


def _host_networks() -> list[IPv4Network | IPv6Network]:
    """The subnets that the host routes, without default routes."""
    with RouteSocket() as host:
        routed = [route.destination for route in host.routes() if route.destination.prefixlen]
        return [*routed, *(address.interface.network for address in host.addresses())]
