"""The default network: which subnets it has, by the engine's options, the bridge as it is, and what the host routes. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network

from kitepy.engine.kernel.netlink import Link, LinkAddress, Route
from kitepy.engine.model.errors import InvalidParameter
from kitepy.engine.model.network import ANY_IPV4, NetworkRecord, SubnetConfig
from kitepy.engine.network.address_pools import Address, Network, parse_subnet
from kitepy.engine.network.addresses import check_gateway
from kitepy.engine.network.ipam import GATEWAY_NAMES, AddressSpace

Interface = IPv4Interface | IPv6Interface


@dataclass(frozen=True)
class BridgeSettings:
    """What the engine's options say about networks, the default one above all."""

    name: str = "bridge"
    enabled: bool = True
    """False: there is no default network (``--bridge none``)."""
    foreign: bool = False
    """The default network's device is somebody else's (``--bridge NAME``): it has to exist and is left as it is."""
    gateway: IPv4Interface | None = None
    """``--bip``; None takes the first free pool."""
    fixed: IPv4Network | None = None
    """``--fixed-cidr``: where its addresses are chosen from."""
    route: IPv4Address | None = None
    """``--default-gateway``, which may be another machine on the bridge; None is the bridge."""
    ipv6: bool = False
    gateway6: IPv6Interface | None = None
    fixed6: IPv6Network | None = None
    route6: IPv6Address | None = None
    host_ip: str = ANY_IPV4
    """``--ip``: where the default network's ports are published that name no address."""
    mtu: int | None = None
    """``--mtu``; None follows the default route, at most 1500."""
    icc: bool = True
    use_rules: bool = True
    """``--iptables``: False touches no rules; ports are relayed and nothing is masqueraded."""
    forward: bool = True
    masquerade: bool = True
    pool_size: int = 3


def create_default(
    record: NetworkRecord,
    settings: BridgeSettings,
    space: AddressSpace,
    links: Sequence[Link],
    addresses: Sequence[LinkAddress],
    routes: Iterable[Route],
) -> NetworkRecord:
    """Gives the default network its subnets, for which room is taken in the address space. Raises EngineError.

    Without a wanted address an existing bridge keeps its own: containers of an earlier engine may still use it.
    """
    names = {link.index: link.name for link in links}
    own = next((link.index for link in links if link.name == record.device), 0)
    present = [address.interface for address in addresses if address.index == own]
    taken = [
        (network, names.get(index, "?"))
        for index, network in (
            *((address.index, address.interface.network) for address in addresses),
            *((route.index, route.destination) for route in routes if route.destination.prefixlen),
        )
        if index != own
    ]
    host_networks = [network for network, _ in taken]
    if settings.gateway is not None:
        check_gateway(settings.gateway, [(network, name) for network, name in taken if isinstance(network, IPv4Network)])
    families = [_Family(4, settings.gateway, settings.fixed, settings.route)]
    if settings.ipv6:
        families.append(_Family(6, settings.gateway6, settings.fixed6, settings.route6))
    subnets = []
    for family in families:
        found = [address for address in present if address.version == family.version and not address.is_link_local]
        base = family.base(record.device, found[0] if found else None, foreign=settings.foreign)
        if base is None and family.route is not None:
            free = space.free_subnet(family.version, host_networks)
            base = SubnetConfig(str(free), gateway=str(free[1]))
        if base is not None:
            subnets.append(family.with_choices(base))
    return space.create(replace(record, ipv6=settings.ipv6, subnets=tuple(subnets)), host_networks)


@dataclass(frozen=True)
class _Family:
    """What the options say about one family of addresses."""

    version: int
    bip: Interface | None
    fixed: Network | None
    route: Address | None

    def base(self, device: str, present: Interface | None, *, foreign: bool) -> SubnetConfig | None:
        """The subnet, and the gateway if that is given; None when any will do. ``present`` is what the bridge has."""
        own, fixed = self.bip or present, self.fixed
        if fixed is None:
            return None if own is None else SubnetConfig(str(own.network), gateway=str(own.ip))
        if own is None or (own.network == fixed and self.bip is None and not foreign):
            return SubnetConfig(str(fixed))
        if fixed.network_address in own.network and fixed.broadcast_address in own.network:
            return SubnetConfig(str(own.network), gateway=str(own.ip))
        if self.bip is None and not foreign:
            return SubnetConfig(str(fixed))  # the bridge had its address under other options
        raise InvalidParameter(f"the fixed subnet {fixed} is not within {own.network}, the subnet of bridge {device}")

    def with_choices(self, base: SubnetConfig) -> SubnetConfig:
        """The same with what containers get of it."""
        subnet, name = parse_subnet(base.subnet), GATEWAY_NAMES[self.version]
        if self.route is not None and self.route not in subnet:
            raise InvalidParameter(f"auxiliary address: ({name}:{self.route}) must belong to the master pool: {subnet}")
        other_route = self.route is not None and str(self.route) != base.gateway
        return replace(
            base,
            ip_range="" if self.fixed is None else str(self.fixed),
            auxiliary=((name, str(self.route)),) if other_route else (),
        )
