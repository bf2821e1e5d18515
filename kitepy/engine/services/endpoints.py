"""A container's place in one network: what may be wished for, what it is called there, and what is asked of the network; pure.

The wording is dockerd's.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import msgspec

from kitepy.engine.model.container import ContainerRecord
from kitepy.engine.model.container_config import EndpointIPAMConfig, EndpointSettings
from kitepy.engine.model.errors import InvalidParameter, SystemFailure, Unsupported
from kitepy.engine.model.ids import short_id
from kitepy.engine.model.network import Endpoint, EndpointRequest
from kitepy.engine.services.network_index import PREDEFINED, StoredNetwork

INTERFACE_OPTION = "com.docker.network.endpoint.ifname"
_ENDPOINT_OPTIONS = "com.docker.network.endpoint."
SYSCTLS_OPTION = "com.docker.network.endpoint.sysctls"
_HONOURED_OPTIONS = (INTERFACE_OPTION, SYSCTLS_OPTION)
_SYSCTL = re.compile(r"net\.(ipv4|ipv6|mpls)\.[a-z0-9_-]+\.IFNAME\..*", re.DOTALL)
"""Of the kernel's parameters, those of an interface: ``net.X.Y.ethN.Z=V``, with a word in the interface's place."""
_SYSCTL_SETTING = re.compile(r"([a-z0-9_-]+\.)+IFNAME\.[a-z0-9_-]+=[^\0]*")
_INTERFACE_NAME = re.compile(r"[^\s/:\0]{1,15}")
"""What Linux takes; ``%d`` in it is the kernel's to fill in."""
_MAC_ADDRESS = re.compile(
    r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}|[0-9a-fA-F]{2}(-[0-9a-fA-F]{2}){5}|[0-9a-fA-F]{4}(\.[0-9a-fA-F]{4}){2}"
)
_ONLY_CONFIGURED = "user specified IP address is supported only when connecting to networks with user configured subnets"


def wish(settings: EndpointSettings) -> EndpointSettings:
    """Only what a client may wish for; the rest of the structure is what an engine reports."""
    return EndpointSettings(
        ipam_config=_addresses_wished(settings.ipam_config),
        links=settings.links,
        aliases=settings.aliases,
        mac_address=settings.mac_address,
        driver_opts=settings.driver_opts,
        gw_priority=settings.gw_priority,
    )


def _addresses_wished(wanted: EndpointIPAMConfig | None) -> EndpointIPAMConfig | None:
    """Without an empty list, which says nothing and isn't shown."""
    if wanted is None or wanted.link_local_ips:
        return wanted
    return msgspec.structs.replace(wanted, link_local_ips=None)


# --- checks ---


def check_mac_address(settings: EndpointSettings) -> None:
    """Raise InvalidParameter for what is no MAC address."""
    if settings.mac_address and not _MAC_ADDRESS.fullmatch(settings.mac_address):
        raise InvalidParameter(f"invalid MAC address {settings.mac_address}")


def check_endpoint(name: str, settings: EndpointSettings, network: StoredNetwork | None) -> None:
    """Raise InvalidParameter for wishes that can't be granted in a network; None when it does not exist yet."""
    for option in settings.driver_opts or ():
        if option.startswith(_ENDPOINT_OPTIONS) and option not in _HONOURED_OPTIONS:
            raise Unsupported(f"The network option {option} is not supported by this version of Kitepy")
    wanted = settings.ipam_config or EndpointIPAMConfig()
    problems = _sysctl_problems(settings.driver_opts or {})
    if name in PREDEFINED:
        if settings.aliases:
            problems.append("network-scoped alias is supported only for containers in user defined networks")
        if wanted.ipv4_address or wanted.ipv6_address:
            problems.append("user specified IP address is supported on user defined networks only")
    if wanted.ipv4_address and not _is_address(IPv4Address, wanted.ipv4_address):
        problems.append(f"invalid IPv4 address: {wanted.ipv4_address}")
    if wanted.ipv6_address and not _is_address(IPv6Address, wanted.ipv6_address):
        problems.append(f"invalid IPv6 address: {wanted.ipv6_address}")
    problems += [
        f"invalid link-local IP address: {text}".rstrip() for text in wanted.link_local_ips or () if not _is_any_address(text)
    ]
    if network is not None:
        problems += _subnet_problems(wanted.ipv4_address, 4, network)
        problems += _subnet_problems(wanted.ipv6_address, 6, network)
    if problems:
        listed = problems[0] if len(problems) == 1 else "\n".join(f"* {problem}" for problem in problems)
        raise InvalidParameter(f"invalid endpoint settings:\n{listed}")


def check_interface(settings: EndpointSettings) -> None:
    """Raise SystemFailure, as dockerd calls it, for an interface name or parameter that can't be had at a start."""
    options = settings.driver_opts or {}
    name = options.get(INTERFACE_OPTION, "")
    if name and (name in (".", "..", "lo") or len(name.encode()) > 15 or not _INTERFACE_NAME.fullmatch(name)):
        raise SystemFailure(f'error renaming interface to "{name}": invalid argument')
    for setting in options.get(SYSCTLS_OPTION, "").split(",") if options.get(SYSCTLS_OPTION) else ():
        if "=" not in setting:
            raise SystemFailure(f"expected sysctl '{setting}' to have format name=value")
        if not _SYSCTL_SETTING.fullmatch(setting):
            raise SystemFailure(f"expected sysctl '{setting}' to have format net.X.Y.IFNAME.Z")


def _sysctl_problems(options: Mapping[str, str]) -> list[str]:
    if SYSCTLS_OPTION not in options:
        return []
    return [
        f"unrecognised network interface sysctl '{setting}'; represent 'net.X.Y.ethN.Z=V' as 'net.X.Y.IFNAME.Z=V', "
        "'X' must be 'ipv4', 'ipv6' or 'mpls'"
        for setting in options[SYSCTLS_OPTION].split(",")
        if not _SYSCTL.fullmatch(setting)
    ]


def _subnet_problems(address: str, version: int, network: StoredNetwork) -> list[str]:
    """Certain addresses are had in subnets only that the network's maker chose: the others may change."""
    if not address:
        return []
    subnets = [subnet for subnet in map(ip_network, network.configured) if subnet.version == version]
    if not subnets:
        return [_ONLY_CONFIGURED]
    kind = IPv4Address if version == 4 else IPv6Address
    if _is_address(kind, address) and any(kind(address) in subnet for subnet in subnets):
        return []
    return [f"no configured subnet or ip-range contain the IP address {address}"]


def _is_address(kind: type[IPv4Address] | type[IPv6Address], text: str) -> bool:
    try:
        return not kind(text).is_unspecified
    except ValueError:
        return False


def _is_any_address(text: str) -> bool:
    return _is_address(IPv4Address, text) or _is_address(IPv6Address, text)


def kernel_mac_address(text: str) -> str:
    """The address in the one form that the kernel's tools know, whatever separators a client used."""
    digits = re.sub(r"[^0-9a-fA-F]", "", text).lower()
    return ":".join(digits[index : index + 2] for index in range(0, len(digits), 2))


# --- names ---


def dns_names(record: ContainerRecord, aliases: Sequence[str] | None) -> list[str]:
    """What a container is called in a network that its user made: its name, aliases, short id and host name."""
    names = (record.name, *(aliases or ()), short_id(record.id), record.config.hostname)
    return list(dict.fromkeys(name for name in names if name))


def joined_settings(record: ContainerRecord, network: StoredNetwork, settings: EndpointSettings) -> EndpointSettings:
    """What is remembered once the container has joined: which network it was, and what it is called there."""
    return msgspec.structs.replace(settings, network_id=network.id, dns_names=names_in(record, network, settings))


def names_in(record: ContainerRecord, network: StoredNetwork, settings: EndpointSettings) -> list[str] | None:
    """Only networks of users have a name service: None in the predefined ones."""
    return None if network.predefined else dns_names(record, settings.aliases)


def has_name_service(networks: Mapping[str, EndpointSettings]) -> bool:
    """Whether the engine answers for names in one of the networks that a container has joined."""
    return any(settings.dns_names is not None for settings in networks.values())


# --- requests ---


def endpoint_request(
    record: ContainerRecord, network: StoredNetwork, settings: EndpointSettings, links: tuple[tuple[str, str], ...] = ()
) -> EndpointRequest:
    """What is asked of a network for a container; ``links`` are the settings' ones, as (alias, name)."""
    wanted = settings.ipam_config or EndpointIPAMConfig()
    options = settings.driver_opts or {}
    return EndpointRequest(
        network_id=network.id,
        address=IPv4Address(wanted.ipv4_address) if wanted.ipv4_address else None,
        address6=IPv6Address(wanted.ipv6_address) if wanted.ipv6_address else None,
        mac=kernel_mac_address(settings.mac_address) or None,
        names=tuple(names_in(record, network, settings) or ()),
        links=links,
        gateway_priority=settings.gw_priority,
        options=tuple(options.items()),
        interface=options.get(INTERFACE_OPTION, ""),
        link_local=tuple(ip_address(text) for text in wanted.link_local_ips or ()),
    )


# --- what is shown ---


def addresses_of(endpoints: Iterable[Endpoint]) -> list[str]:
    """The addresses of a container, in the order in which it joined its networks."""
    return [address for endpoint in endpoints for address in (endpoint.address, endpoint.address6) if address]


def placeholder(record: ContainerRecord, name: str, network_id: str) -> Endpoint:
    """The endpoint that is shown for a network without addresses: the host's, or none."""
    return Endpoint(
        endpoint_id=run_id(record, network_id),
        container_id=record.id,
        network=name,
        address="",
        prefix_length=0,
        gateway="",
        mac="",
        host_interface="",
        network_id=network_id,
    )


def run_id(record: ContainerRecord, what: str) -> str:
    """An identifier that is the same as long as this run of the container lasts."""
    return hashlib.sha256(f"{record.id} {record.state.started_at_ns} {what}".encode()).hexdigest()
