"""IP address management: the subnets of all networks, and the addresses of their endpoints. Pure; words and order are dockerd's.

A network's record is resolved once, when it is created, and stored; after a restart the stored record is adopted. The
addresses of containers are known by the containers' endpoints, which are restored one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_address, ip_interface
from typing import cast

from kitepy.engine.model.errors import EngineError, Forbidden, InvalidParameter, NotFound, SystemFailure
from kitepy.engine.model.network import NetworkDriver, NetworkRecord, SubnetConfig
from kitepy.engine.network.address_pools import (
    DEFAULT_RANGES,
    Address,
    AddressRange,
    Network,
    SubnetAddresses,
    choose_subnet,
    parse_subnet,
    ula_range,
)

BRIDGE_OPTION = "com.docker.network.bridge."
GATEWAY_NAMES = {4: "DefaultGatewayIPv4", 6: "DefaultGatewayIPv6"}
_OVERLAP = "invalid pool request: Pool overlaps with other one on this address space"
_LAYER_3_MODES = ("l3", "l3s")


@dataclass(frozen=True)
class Lease:
    """What an endpoint gets; a family that the network lacks has None and 0.

    The gateways are where the container's default routes lead: None in internal networks.
    """

    address: IPv4Address | None = None
    prefix_length: int = 0
    gateway: IPv4Address | None = None
    address6: IPv6Address | None = None
    prefix_length6: int = 0
    gateway6: IPv6Address | None = None


@dataclass(frozen=True)
class _Pool:
    """A subnet in the use of one network. ``gateway`` is reserved; None where the network needs none."""

    addresses: SubnetAddresses
    part: Network
    """Where addresses are chosen from: the ``ip_range``, or all of the subnet."""
    gateway: Address | None
    auxiliary: tuple[Address, ...] = ()
    route: Address | None = None
    """Where default routes lead."""

    @property
    def subnet(self) -> Network:
        return self.addresses.subnet


@dataclass
class _Entry:
    record: NetworkRecord
    pools: list[_Pool]


# --- requests ---


def check_ipam_config(subnets: Iterable[SubnetConfig], *, ipv6: bool) -> None:
    """Whether the subnets of a request are well-formed. Raises InvalidParameter that lists what is wrong with them."""
    problems: list[str] = []
    for config in subnets:
        try:
            subnet = parse_subnet(config.subnet)
        except ValueError:
            problems.append(f"invalid subnet {config.subnet}: invalid CIDR block notation")
            continue
        if subnet.version == 4 or ipv6:
            problems.extend(_subnet_problems(config, subnet))
    if problems:
        listed = problems[0] if len(problems) == 1 else "\n".join(f"* {problem}" for problem in problems)
        raise InvalidParameter(f"invalid network config:\n{listed}")


def _subnet_problems(config: SubnetConfig, subnet: Network) -> Iterator[str]:
    if ip_interface(config.subnet).ip != subnet.network_address:
        yield f"invalid subnet {config.subnet}: it should be {subnet}"
    if subnet.version == 6 and IPv6Address(int(subnet.network_address)).ipv4_mapped is not None:
        yield f"invalid subnet {config.subnet}: IPv4-mapped addresses have no place on a network"
    if config.ip_range:
        yield from (f"invalid ip-range {config.ip_range}: {reason}" for reason in _range_problems(config.ip_range, subnet))
    if config.gateway and (reason := _address_problem(config.gateway, subnet)):
        yield f"invalid gateway {config.gateway}: {reason}"
    for name, address in config.auxiliary:
        if reason := _address_problem(address, subnet):
            yield f"invalid auxiliary address {name}: {reason}"


def _range_problems(text: str, subnet: Network) -> Iterator[str]:
    try:
        part = parse_subnet(text)
    except ValueError:
        yield "invalid CIDR block notation"
        return
    if part.version != subnet.version:
        yield f"parent subnet is an IPv{subnet.version} block"
        return
    if part.prefixlen < subnet.prefixlen:
        yield f"CIDR block is bigger than its parent subnet {subnet}"
    if ip_interface(text).ip != part.network_address:
        yield f"it should be {part}"
    if not part.overlaps(subnet):
        yield f"parent subnet {subnet} doesn't contain ip-range"


def _address_problem(text: str, subnet: Network) -> str:
    address, _, zone = text.partition("%")
    try:
        parsed = ip_address(address)
    except ValueError:
        return "invalid address"
    if parsed.version != subnet.version:
        return f"parent subnet is an IPv{subnet.version} block"
    return "" if parsed in subnet and not zone else f"parent subnet {subnet} doesn't contain this address"


def needs_gateway(record: NetworkRecord, version: int) -> bool:
    """Whether the network reserves a gateway address that nobody named."""
    if record.driver is NetworkDriver.BRIDGE:
        return record.option(f"{BRIDGE_OPTION}gateway_mode_ipv{version}") != "isolated"
    if record.driver is NetworkDriver.IPVLAN and record.option("ipvlan_mode") in _LAYER_3_MODES:
        return False
    return not record.internal and bool(record.option("parent"))


def bridge_addresses(record: NetworkRecord) -> tuple[IPv4Interface | IPv6Interface, ...]:
    """What the bridge of a resolved network gets. Containers may be told another gateway, see ``Lease``."""
    found: list[IPv4Interface | IPv6Interface] = []
    for config in record.subnets:
        gateway = config.gateway or config.implied_gateway
        if gateway and _is_used(record, parse_subnet(config.subnet).version):
            interface = ip_interface(f"{gateway}/{config.subnet.partition('/')[2]}")
            if interface.version == 6 or record.option(f"{BRIDGE_OPTION}inhibit_ipv4").lower() not in ("true", "1", "t"):
                found.append(interface)
    return tuple(found)


def used_subnets(record: NetworkRecord) -> tuple[Network, ...]:
    """The subnets of a resolved network, but not those of a family that it was given in vain."""
    subnets = (parse_subnet(config.subnet) for config in record.subnets)
    return tuple(subnet for subnet in subnets if _is_used(record, subnet.version))


def _is_used(record: NetworkRecord, version: int) -> bool:
    return record.ipv4 if version == 4 else record.ipv6


# --- the address space ---


class AddressSpace:
    """The subnets of all networks of an engine, and which of their addresses are in use."""

    def __init__(self, ranges: Sequence[AddressRange] = (), ula_seed: str = "") -> None:
        """``ranges`` is where subnets come from that nobody names; a family they lack has the default ones.

        ``ula_seed`` is the engine's identifier, from which its unique local addresses are derived.
        """
        self._ranges = [*ranges]
        if not any(addresses.base.version == 4 for addresses in ranges):
            self._ranges.extend(DEFAULT_RANGES)
        if not any(addresses.base.version == 6 for addresses in ranges):
            self._ranges.append(ula_range(ula_seed))
        self._entries: dict[str, _Entry] = {}

    def create(self, record: NetworkRecord, host_networks: Iterable[Network] = ()) -> NetworkRecord:
        """Takes the subnets and gateways of a new network; gives its record with all that was left open chosen.

        ``host_networks`` are the subnets the host routes, without default routes: none is chosen that overlaps one of them, but
        whoever names a subnet may know better.

        Raises InvalidParameter, Forbidden (an overlap), NotFound and SystemFailure, and takes nothing then.
        """
        check_ipam_config(record.subnets, ipv6=record.ipv6)
        if not record.ipv4 and not record.ipv6:
            raise InvalidParameter("IPv4 or IPv6 must be enabled")
        if record.ipam_driver not in ("default", "null", ""):
            raise NotFound(f'plugin "{record.ipam_driver}" not found')
        if record.ipam_driver == "null" and record.driver not in (NetworkDriver.HOST, NetworkDriver.NULL):
            raise InvalidParameter(f"ipv{4 if record.ipv4 else 6} pool is empty")
        asked = sorted(record.subnets, key=lambda config: parse_subnet(config.subnet).version)
        entry = self._entries[record.network_id] = _Entry(record, [])
        try:
            resolved = [self._take_subnet(entry, config) for config in asked]
            for version in (4, 6):
                if _is_used(record, version) and not any(pool.subnet.version == version for pool in entry.pools):
                    resolved.append(self._choose_subnet(entry, version, host_networks))
            self._check_bridge(entry)
        except EngineError:
            del self._entries[record.network_id]
            for pool in entry.pools:
                self._give_back(pool)
            raise
        entry.record = replace(record, subnets=tuple(resolved))
        return entry.record

    def _take_subnet(self, entry: _Entry, config: SubnetConfig) -> SubnetConfig:
        subnet = parse_subnet(config.subnet)
        if not _is_used(entry.record, subnet.version):
            return config
        part = parse_subnet(config.ip_range) if config.ip_range else subnet
        addresses = self._shared(subnet, part) or SubnetAddresses(subnet)
        gateway = self._take_pool(entry, addresses, part, config)
        return config if config.gateway or gateway is None else replace(config, implied_gateway=str(gateway))

    def _shared(self, subnet: Network, part: Network) -> SubnetAddresses | None:
        """Networks may share a subnet when each has a range of its own. Raises Forbidden for any other overlap."""
        shared = None
        for pool in self._pools():
            if pool.subnet == subnet and pool.part != subnet and part != subnet:
                shared = pool.addresses
            elif pool.subnet.overlaps(subnet):
                raise Forbidden(_OVERLAP)
        return shared

    def free_subnet(self, version: int, host_networks: Iterable[Network] = ()) -> Network:
        """The subnet that a network would get which names none. Raises InvalidParameter when there is none left."""
        return choose_subnet(self._ranges, version, [*host_networks, *(pool.subnet for pool in self._pools())])

    def _choose_subnet(self, entry: _Entry, version: int, host_networks: Iterable[Network]) -> SubnetConfig:
        subnet = self.free_subnet(version, host_networks)
        gateway = self._take_pool(entry, SubnetAddresses(subnet), subnet, SubnetConfig())
        return SubnetConfig(subnet=str(subnet), gateway="" if gateway is None else str(gateway))

    def _take_pool(self, entry: _Entry, addresses: SubnetAddresses, part: Network, config: SubnetConfig) -> Address | None:
        gateway: Address | None = None
        auxiliary: list[Address] = []
        try:
            if config.gateway or needs_gateway(entry.record, addresses.subnet.version):
                gateway = _take(addresses, config.gateway, part, f"gateway ({config.gateway})")
            for name, address in config.auxiliary:
                auxiliary.append(_take(addresses, address, part, f"secondary ip address ({name}:{address})"))
        except EngineError:
            for taken in (*auxiliary, *(() if gateway is None else (gateway,))):
                addresses.release(taken)
            raise
        entry.pools.append(_Pool(addresses, part, gateway, tuple(auxiliary), _route(entry.record, config, gateway)))
        return gateway

    def _check_bridge(self, entry: _Entry) -> None:
        if entry.record.driver is not NetworkDriver.BRIDGE:
            return
        versions = [pool.subnet.version for pool in entry.pools]
        if len(versions) != len(set(versions)):
            raise Forbidden("bridge driver doesn't support multiple subnets")
        for other in self._entries.values():
            if other is entry or other.record.driver is not NetworkDriver.BRIDGE:
                continue
            for version in sorted(versions):
                if {pool.addresses for pool in entry.pools if pool.subnet.version == version} & {
                    pool.addresses for pool in other.pools
                }:
                    raise Forbidden(
                        f"cannot create network {_with_device(entry.record)}: conflicts with network "
                        f"{_with_device(other.record)}: networks have overlapping IPv{version}"
                    )

    def adopt(self, record: NetworkRecord) -> None:
        """Takes the subnets of a network that is stored already, or that somebody else resolved. Idempotent."""
        if record.network_id in self._entries:
            return
        entry = self._entries[record.network_id] = _Entry(record, [])
        for config in record.subnets:
            subnet = parse_subnet(config.subnet)
            if not _is_used(record, subnet.version):
                continue
            part = parse_subnet(config.ip_range) if config.ip_range else subnet
            addresses = next((pool.addresses for pool in self._pools() if pool.subnet == subnet), None) or SubnetAddresses(subnet)
            text = config.gateway or config.implied_gateway
            gateway = ip_address(text) if text else None
            auxiliary = tuple(ip_address(address) for _, address in config.auxiliary)
            for address in (*auxiliary, *(() if gateway is None else (gateway,))):
                if not addresses.is_taken(address):
                    addresses.reserve(address)
            entry.pools.append(_Pool(addresses, part, gateway, auxiliary, _route(record, config, gateway)))

    def remove(self, network_id: str) -> None:
        """Gives a network's subnets back. Idempotent."""
        entry = self._entries.pop(network_id, None)
        for pool in entry.pools if entry is not None else ():
            self._give_back(pool)

    def _give_back(self, pool: _Pool) -> None:
        for address in (*pool.auxiliary, *(() if pool.gateway is None else (pool.gateway,))):
            pool.addresses.release(address)

    def _pools(self) -> Iterator[_Pool]:
        for entry in self._entries.values():
            yield from entry.pools

    def _entry(self, network_id: str) -> _Entry:
        entry = self._entries.get(network_id)
        if entry is None:
            raise NotFound(f"network {network_id} not found")
        return entry

    # --- endpoints ---

    def take(self, network_id: str, address: IPv4Address | None = None, address6: IPv6Address | None = None) -> Lease:
        """Addresses for an endpoint: certain ones, or the lowest that are free.

        Raises Forbidden when one is in use, SystemFailure when none is free, NotFound; takes nothing then.
        """
        entry = self._entry(network_id)
        first = self._take_address(entry, 4, address) if entry.record.ipv4 else None
        try:
            second = self._take_address(entry, 6, address6) if entry.record.ipv6 else None
        except EngineError:
            if first is not None:
                self.release(network_id, first[0])
            raise
        return _lease(first, second)

    def held(self, network_id: str) -> int:
        """How many addresses endpoints of the network have."""
        pools = self._entry(network_id).pools
        own = sum(len(pool.auxiliary) + (pool.gateway is not None) for pool in pools)
        return sum(len(pool.addresses) for pool in pools) - own

    def _take_address(self, entry: _Entry, version: int, wanted: Address | None) -> tuple[Address, _Pool]:
        pools = [pool for pool in entry.pools if pool.subnet.version == version]
        for pool in pools:
            if wanted is None:
                try:
                    return pool.addresses.allocate(pool.part), pool
                except SystemFailure:
                    continue
            if wanted in pool.subnet:
                pool.addresses.reserve(wanted)
                return wanted, pool
        record = entry.record
        raise SystemFailure(
            f"no available IPv{version} addresses on this network's address pools: {record.name} ({record.network_id})"
        )

    def restore(self, network_id: str, *addresses: str) -> None:
        """Takes addresses that endpoints have; empty ones stand for none. Raises InvalidParameter for a foreign one."""
        taken: list[str] = []
        try:
            for address in filter(None, addresses):
                parsed = ip_address(address)
                for pool in self._entry(network_id).pools:
                    if parsed in pool.subnet:
                        pool.addresses.reserve(parsed)
                        break
                else:
                    raise InvalidParameter(f"address {address} belongs to no subnet of network {network_id}")
                taken.append(address)
        except EngineError:
            for address in taken:
                self.release(network_id, address)
            raise

    def release(self, network_id: str, address: str | Address) -> None:
        """Gives an endpoint's address back, which its interface no longer has. Idempotent, also when the network is gone."""
        parsed = ip_address(address)
        entry = self._entries.get(network_id)
        for pool in entry.pools if entry is not None else ():
            if parsed in pool.subnet and parsed != pool.gateway and parsed not in pool.auxiliary:
                pool.addresses.release(parsed)


def _take(addresses: SubnetAddresses, wanted: str, part: Network, what: str) -> Address:
    """A certain address, or the lowest free one; dockerd calls any failure of this one its own."""
    try:
        if not wanted:
            return addresses.allocate(part)
        address = ip_address(wanted)
        addresses.reserve(address)
        return address
    except EngineError as error:
        raise SystemFailure(f"failed to allocate {what}: {error}") from None


def _lease(first: tuple[Address, _Pool] | None, second: tuple[Address, _Pool] | None) -> Lease:
    lease = Lease()
    if first is not None:
        chosen, pool = first
        lease = replace(
            lease,
            address=cast(IPv4Address, chosen),
            prefix_length=pool.subnet.prefixlen,
            gateway=cast(IPv4Address | None, pool.route),
        )
    if second is not None:
        chosen, pool = second
        lease = replace(
            lease,
            address6=cast(IPv6Address, chosen),
            prefix_length6=pool.subnet.prefixlen,
            gateway6=cast(IPv6Address | None, pool.route),
        )
    return lease


def _route(record: NetworkRecord, config: SubnetConfig, gateway: Address | None) -> Address | None:
    if record.internal or gateway is None:
        return None
    if record.driver is NetworkDriver.BRIDGE:
        for name, address in config.auxiliary:
            if name == GATEWAY_NAMES[gateway.version]:
                return ip_address(address)
    return gateway


def _with_device(record: NetworkRecord) -> str:
    """How dockerd names a network in a conflict: by its id and its bridge."""
    device = record.device or record.option(f"{BRIDGE_OPTION}name") or f"br-{record.network_id[:12]}"
    return f"{record.network_id} ({device})"
