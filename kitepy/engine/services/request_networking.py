"""Rules for what a request says of networks: modes, ports, names, resolvers, MAC addresses, endpoints; pure.

The wording is dockerd's. What can't be known before the start (whether a network or another container exists) is checked there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import cast

import msgspec

from kitepy.engine.model.container import ContainerRecord
from kitepy.engine.model.container_config import ContainerConfig, EndpointSettings, HostConfig, NetworkingConfig
from kitepy.engine.model.errors import Forbidden, InvalidParameter, NotFound
from kitepy.engine.model.network import PortRequest, Protocol
from kitepy.engine.services.endpoints import check_endpoint, check_interface, check_mac_address, wish
from kitepy.engine.services.network_index import StoredNetwork

PROTOCOLS = ("tcp", "udp", "sctp")
OLD_MAC_ADDRESS = "The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead."

# int() alone would take signs, underscores, blanks and the digits of any script.
_PORT_NUMBER = re.compile(r"[0-9]{1,9}")
_NAMES = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,252}")
_RESOLVER_OPTION = re.compile(r"[a-zA-Z0-9_-]+(:[a-zA-Z0-9_.-]*)?")


# --- modes ---


@dataclass(frozen=True)
class NetworkMode:
    """What ``HostConfig.NetworkMode`` asks for."""

    kind: str
    """``bridge``, ``host``, ``none``, ``container`` or ``named``."""
    target: str = ""
    """The other container, or the network's name."""

    @property
    def network(self) -> str:
        """The network that the container is on by its mode; empty with another container's."""
        return "" if self.kind == "container" else self.target or self.kind


def parse_network_mode(text: str) -> NetworkMode:
    """Split a network mode; unknown words are names of networks."""
    if text in ("", "default", "bridge"):
        return NetworkMode("bridge")
    if text in ("host", "none"):
        return NetworkMode(text)
    kind, colon, target = text.partition(":")
    if kind == "container" and colon:
        if not target:
            raise InvalidParameter("invalid network mode: invalid container format container:<name|id>")
        return NetworkMode("container", target)
    return NetworkMode("named", text)


def check_network_combination(config: ContainerConfig, host: HostConfig) -> list[str]:
    """Options that make no sense together; gives warnings, raises InvalidParameter."""
    mode = parse_network_mode(host.network_mode)
    ports = any((host.port_bindings or {}).values())
    if mode.kind == "container":
        if config.hostname:
            raise InvalidParameter("conflicting options: hostname and the network mode")
        if host.links:
            raise InvalidParameter(
                "conflicting options: container type network can't be used with links. This would result in undefined behavior"
            )
        if host.dns:
            raise InvalidParameter("conflicting options: dns and the network mode")
        if host.extra_hosts:
            raise InvalidParameter("conflicting options: custom host-to-IP mapping and the network mode")
        if ports or host.publish_all_ports:
            raise InvalidParameter("conflicting options: port publishing and the container type network mode")
        if config.exposed_ports:
            raise InvalidParameter("conflicting options: port exposing and the container type network mode")
    if mode.kind == "host" and host.links:
        raise InvalidParameter(
            "conflicting options: host type networking can't be used with links. This would result in undefined behavior"
        )
    if host.uts_mode == "host" and config.hostname:
        raise InvalidParameter("conflicting options: hostname and the UTS mode")
    return ["Published ports are discarded when using host network mode"] if mode.kind == "host" and ports else []


# --- ports ---


def parse_port(text: str) -> tuple[int, Protocol]:
    """``80/tcp`` or ``80``: number and protocol."""
    number, _, protocol = text.partition("/")
    protocol = protocol.lower() or "tcp"
    if not _PORT_NUMBER.fullmatch(number) or not 0 < int(number) < 65536:
        raise InvalidParameter(f'invalid port specification: "{number}"')
    if protocol not in PROTOCOLS:
        raise InvalidParameter(f'invalid port specification: "{text}"')
    return int(number), cast(Protocol, protocol)


def known_port(text: str) -> tuple[int, Protocol] | None:
    """Like ``parse_port``, but None for what is no port: dockerd stores any text as an exposed port and then ignores it."""
    try:
        return parse_port(text)
    except InvalidParameter:
        return None


def parse_host_port(text: str) -> tuple[int, int] | None:
    """A host port, a range ``8000-8010``, or None for "any free one"."""
    if not text or text == "0":
        return None
    first, dash, last = text.partition("-")
    last = last if dash else first
    if _PORT_NUMBER.fullmatch(first) and _PORT_NUMBER.fullmatch(last) and 0 < int(first) <= int(last) < 65536:
        return int(first), int(last)
    raise InvalidParameter(f'invalid port specification: "{text}"')


def requested_ports(exposed: Mapping[str, object], host: HostConfig) -> tuple[PortRequest, ...]:
    """The ports to publish: each binding of an exposed one, and with PublishAllPorts the exposed ones that have none.

    Clients expose what they bind. What isn't exposed is not published, as with dockerd.
    """
    requests: list[PortRequest] = []
    bound: set[tuple[int, Protocol]] = set()
    known_ports = [known for text in exposed if (known := known_port(text))]
    for port_text, bindings in (host.port_bindings or {}).items():
        port, protocol = parse_port(port_text)
        asked = [PortRequest(port, protocol, binding.host_ip, parse_host_port(binding.host_port)) for binding in bindings or ()]
        if asked and (port, protocol) in known_ports:
            bound.add((port, protocol))
            requests += asked
    if host.publish_all_ports:
        for known in known_ports:
            if known not in bound:
                requests.append(PortRequest(container_port=known[0], protocol=known[1], host_ip="", host_port=None))
    return tuple(requests)


# --- names ---


def parse_extra_host(entry: str) -> tuple[str, str]:
    """``name:address`` of ``--add-host``; the address may be ``host-gateway``."""
    name, found, address = entry.partition(":")
    # Beyond what Docker allows would be no name, but a comment or a second entry in /etc/hosts.
    if not found or not _NAMES.fullmatch(name):
        raise InvalidParameter(f'bad format for add-host: "{entry}"')
    if address != "host-gateway":
        try:
            if not ip_address(address) or not address.isprintable() or " " in address or "#" in address:
                raise ValueError
        except ValueError:
            raise InvalidParameter(f'invalid IP address in add-host: "{address}"') from None
    return name, address


def check_resolver(host: HostConfig) -> None:
    """What goes into resolv.conf is one word each: a blank or a line end would begin another entry there."""
    for server in host.dns or ():
        try:
            ip_address(server)
        except ValueError:
            raise InvalidParameter(f"{server} is not an ip address") from None
        if not _NAMES.fullmatch(server.replace(":", "").replace("%", "")):
            raise InvalidParameter(f"{server} is not an ip address")
    for domain in host.dns_search or ():
        if domain != "." and not _NAMES.fullmatch(domain):
            raise InvalidParameter(f"{domain} is not a valid domain")
    for option in host.dns_options or ():
        if option and not _RESOLVER_OPTION.fullmatch(option):
            raise InvalidParameter(f"{option!r} is not a valid resolver option")


# --- endpoints ---


def wanted_endpoints(
    config: ContainerConfig,
    host: HostConfig,
    networking: NetworkingConfig,
    find: Callable[[str], StoredNetwork | None] = lambda _: None,
) -> tuple[dict[str, EndpointSettings], list[str]]:
    """The networks to join with what is wished for there, the mode's among them; and warnings. Raises InvalidParameter.

    ``find`` gives the network that a name or an id stands for, if it is there already.
    """
    mode = parse_network_mode(host.network_mode)
    wishes: dict[str, EndpointSettings] = {}
    for name, settings in (networking.endpoints_config or {}).items():
        if settings is None:
            raise InvalidParameter(f"invalid config for network {name}: EndpointsConfig is nil")
        wishes[_name_of("bridge" if name == "default" else name, find)] = wish(settings)
    warnings = [OLD_MAC_ADDRESS] if config.mac_address else []
    if mode.kind == "container" or config.network_disabled:
        return {}, warnings
    # As with dockerd the endpoints decide when there are any, whatever network the mode names.
    main_name = _name_of(mode.network, find)
    if main_name not in wishes and wishes:
        main_name = next(iter(wishes))
    main = wishes.pop(main_name, EndpointSettings())
    if config.mac_address:
        if main.mac_address and main.mac_address != config.mac_address:
            raise InvalidParameter(
                "the container-wide MAC address must match the endpoint-specific MAC address for the main network, "
                "or be left empty"
            )
        if main_name not in ("host", "none"):
            main = msgspec.structs.replace(main, mac_address=config.mac_address)
    endpoints = {main_name: main, **wishes}
    for name, settings in endpoints.items():
        try:
            check_mac_address(settings)
            check_endpoint(name, settings, find(name))
        except InvalidParameter as error:
            raise InvalidParameter(f"invalid config for network {name}: {error}") from None
    return endpoints, warnings


def _name_of(ref: str, find: Callable[[str], StoredNetwork | None]) -> str:
    network = find(ref)
    return network.name if network is not None else ref


def main_mac_address(endpoints: Mapping[str, EndpointSettings]) -> str:
    """What the old, container-wide field of the configuration shows."""
    name, settings = next(iter(endpoints.items()), ("", EndpointSettings()))
    return "" if name in ("host", "none") else settings.mac_address


def has_own_sandbox(record: ContainerRecord) -> bool:
    """Whether a container has a network namespace of its own, neither the host's nor another container's."""
    return parse_network_mode(record.host_config.network_mode).kind not in ("host", "container")


def check_companions(record: ContainerRecord, network: StoredNetwork) -> None:
    """Raise InvalidParameter when a container can't be in a network beside where it is already, Forbidden when nobody can."""
    kind = parse_network_mode(record.host_config.network_mode).kind
    if kind == "container" or (kind == "host" and network.name != "host"):
        raise InvalidParameter(
            "container sharing network namespace with another container or host cannot be connected to any other network"
        )
    if network.name == "host" and kind != "host":
        raise InvalidParameter("cannot connect container to host network - container must be created in host network mode")
    others = record.networks.keys() - {network.name}
    if others and "none" in {network.name, *others}:
        raise InvalidParameter(
            "container cannot be connected to multiple networks with one of the networks in private (none) mode"
        )
    if network.config_only:
        raise Forbidden("cannot create endpoint on configuration-only network")


def networks_to_join(
    record: ContainerRecord, find: Callable[[str], StoredNetwork]
) -> list[tuple[StoredNetwork, EndpointSettings]]:
    """The networks to join at a start, the default one first. Raises NotFound, InvalidParameter and Forbidden.

    An engine without default network has containers that are on it by their mode, and then have no network.
    """
    joined = []
    for name, settings in record.networks.items():
        try:
            # Once it was there, a network is known by its id: another one of the same name is not the one that was meant.
            joined.append((find(settings.network_id or name), settings))
        except NotFound:
            if name != "bridge":
                raise
    for network, settings in joined:
        check_companions(record, network)
        check_endpoint(network.name, settings, network)
        check_interface(settings)
    return sorted(joined, key=lambda place: place[0].name != "bridge")
