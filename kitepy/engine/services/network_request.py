"""Rules for what a request to make a network says; pure. The wording, and the order of the checks, are dockerd's.

Subnets and addresses are checked by ``network/ipam.py``, interfaces by those who make them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from ipaddress import ip_address

import msgspec

from kitepy.engine.model.errors import EngineError, Forbidden, InvalidParameter, NotFound, SystemFailure
from kitepy.engine.model.filters import FALSE, TRUE
from kitepy.engine.model.network import NetworkDriver, NetworkRecord, SubnetConfig
from kitepy.engine.model.network_config import NetworkCreateBody
from kitepy.engine.services.network_index import PREDEFINED, StoredNetwork

BRIDGE_OPTION = "com.docker.network.bridge."
MTU_OPTION = "com.docker.network.driver.mtu"
NOT_IN_A_SWARM = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" '
    "to connect this node to swarm and try again."
)
_FAMILY_OPTIONS = {4: "com.docker.network.enable_ipv4", 6: "com.docker.network.enable_ipv6"}
_BRIDGE_BOOLEANS = ("default_bridge", "enable_icc", "enable_ip_masquerade", "inhibit_ipv4")
_BRIDGE_ADDRESSES = (
    "com.docker.network.bridge.host_binding_ipv4",
    "com.docker.network.host_ipv4",
    "com.docker.network.host_ipv6",
)
_GATEWAY_MODES = ("nat", "nat-unprotected", "routed", "isolated")


def wanted_subnets(body: NetworkCreateBody) -> tuple[SubnetConfig, ...]:
    """What the request says of addresses, unchecked."""
    configs = body.ipam.config if body.ipam is not None else None
    return tuple(
        SubnetConfig(
            subnet=config.subnet,
            gateway=config.gateway,
            ip_range=config.ip_range,
            auxiliary=tuple((config.auxiliary_addresses or {}).items()),
        )
        for config in configs or ()
    )


def check_name(name: str) -> None:
    """Raise Forbidden for what every engine has, under whichever name, and InvalidParameter for what forges lines of output.

    Otherwise dockerd takes any text.
    """
    if not name.isprintable():
        raise InvalidParameter(f"invalid name: {name!r} has characters that can't be printed")
    if name in (*PREDEFINED, "default"):
        raise Forbidden(f"operation is not permitted on predefined {name} network ")


def wanted_families(body: NetworkCreateBody) -> tuple[bool, bool]:
    """Whether IPv4 and IPv6 are to be had; the options by which clients of old say so count, too. Raises InvalidParameter."""
    return _family(body, body.enable_ipv4, 4, otherwise=True), _family(body, body.enable_ipv6, 6, otherwise=False)


def _family(body: NetworkCreateBody, given: bool | None, version: int, *, otherwise: bool) -> bool:
    option = _FAMILY_OPTIONS[version]
    if given is not None or option not in (body.options or {}):
        return otherwise if given is None else given
    try:
        return parse_bool((body.options or {})[option])
    except ValueError:
        raise InvalidParameter(f'driver-opt "{option}" is not a valid bool') from None


def check_swarm(body: NetworkCreateBody) -> None:
    """Raise Forbidden for a driver that only swarms have."""
    if body.driver == "overlay":
        raise Forbidden(NOT_IN_A_SWARM)


def with_default_options(body: NetworkCreateBody, defaults: Sequence[tuple[str, str, str]]) -> NetworkCreateBody:
    """The request with the options (driver, key, value) that its driver's networks have unless they say otherwise."""
    if body.config_only or body.config_from is not None:
        return body
    driver = body.driver or "bridge"
    missing = {key: value for name, key, value in defaults if name == driver}
    return msgspec.structs.replace(body, options={**missing, **(body.options or {})}) if missing else body


def wanted_network(
    body: NetworkCreateBody,
    *,
    network_id: str,
    created: str,
    find: Callable[[str], StoredNetwork | None],
) -> StoredNetwork:
    """The network that is asked for, with what is left open still open; ``find`` gives networks by name. Raises EngineError."""
    _check_dependence(body)
    ipv4, ipv6 = wanted_families(body)
    ipam = body.ipam
    record = NetworkRecord(
        network_id=network_id,
        name=body.name,
        driver=NetworkDriver.NULL if body.config_only else _driver(body),
        created=created,
        subnets=wanted_subnets(body),
        ipv4=ipv4,
        ipv6=ipv6,
        internal=body.internal,
        attachable=body.attachable,
        ipam_driver=(ipam.driver if ipam is not None else "") or "default",
        ipam_options=tuple(((ipam.options if ipam is not None else None) or {}).items()),
        options=tuple((body.options or {}).items()),
        labels=tuple((body.labels or {}).items()),
    )
    source = body.config_from.network if body.config_from is not None else ""
    network = StoredNetwork(
        record,
        scope=body.scope or "local",
        config_only=body.config_only,
        config_from=source,
        configured=tuple(config.subnet for config in record.subnets),
        has_ipam_options=ipam is not None and ipam.options is not None,
    )
    if body.config_only:
        return network
    if body.ingress:
        raise Forbidden("Ingress network can only be global scope network")
    if source:
        network = _with_configuration(network, find(source))
    if network.record.driver is NetworkDriver.BRIDGE:
        check_bridge_options(dict(network.record.options))
    return network


def _driver(body: NetworkCreateBody) -> NetworkDriver:
    name = body.driver or "bridge"
    if name in ("host", "null"):
        raise Forbidden(f'only one instance of "{name}" network is allowed')
    try:
        return NetworkDriver(name)
    except ValueError:
        raise NotFound(f'plugin "{name}" not found') from None


def _check_dependence(body: NetworkCreateBody) -> None:
    """What may not be said beside ConfigOnly and ConfigFrom."""
    if body.config_only and (body.ingress or body.internal or body.attachable or body.scope):
        raise Forbidden(
            "configuration network can only contain network specific fields. "
            "Network operator fields like [ ingress | internal | attachable | scope ] are not supported."
        )
    if body.config_from is None or not body.config_from.network:
        if body.scope == "swarm":
            raise Forbidden("cannot create a swarm scoped network when swarm is not active")
        return
    if body.config_only:
        raise Forbidden("a configuration network cannot depend on another configuration network")
    ipam = body.ipam
    if (
        body.labels
        or wanted_families(body) != (True, False)
        or (ipam is not None and (ipam.config or ipam.options or ipam.driver not in ("", "default")))
    ):
        raise Forbidden("user specified configurations are not supported if the network depends on a configuration network")
    if body.options:
        raise Forbidden("network driver options are not supported if the network depends on a configuration network")


def _with_configuration(network: StoredNetwork, source: StoredNetwork | None) -> StoredNetwork:
    if source is None or not source.config_only:
        raise NotFound(f'configuration network "{network.config_from}" does not exist')
    given = source.record
    return replace(
        network,
        record=replace(
            network.record,
            subnets=given.subnets,
            ipv4=given.ipv4,
            ipv6=given.ipv6,
            ipam_driver=given.ipam_driver,
            ipam_options=given.ipam_options,
            options=given.options,
            labels=given.labels,
        ),
        configured=source.configured,
        has_ipam_options=source.has_ipam_options,
    )


def check_bridge_options(options: Mapping[str, str]) -> None:
    """Raise InvalidParameter for values that a bridge network can't have; like dockerd, ignores unknown options."""
    for name in _BRIDGE_BOOLEANS:
        key = BRIDGE_OPTION + name
        if key in options:
            try:
                parse_bool(options[key])
            except ValueError:
                text = options[key]
                raise _unreadable(key, text, f"strconv.ParseBool: parsing {quoted(text)}: invalid syntax") from None
    for key in _BRIDGE_ADDRESSES:
        if key in options and not _is_address(options[key]):
            raise _unreadable(key, options[key], "nil ip")
    for version in (4, 6):
        key = f"{BRIDGE_OPTION}gateway_mode_ipv{version}"
        if options.get(key, "nat") not in _GATEWAY_MODES:
            raise _unreadable(key, options[key], f"unknown gateway mode {options[key]}")
    if MTU_OPTION in options:
        _check_mtu(options[MTU_OPTION])


def check_isolated(record: NetworkRecord) -> None:
    """Raise SystemFailure when a network without a gateway is not an internal one."""
    for version in (4, 6):
        if record.option(f"{BRIDGE_OPTION}gateway_mode_ipv{version}") == "isolated" and not record.internal:
            raise SystemFailure("gateway mode 'isolated' can only be used for an internal network")


def _check_mtu(text: str) -> None:
    digits = text[1:] if text[:1] in ("+", "-") else text
    if not (digits.isascii() and digits.isdecimal()):
        raise _unreadable(MTU_OPTION, text, f"strconv.Atoi: parsing {quoted(text)}: invalid syntax")
    if int(text[:30]) < 0:
        raise InvalidParameter(f"invalid MTU number: {text}")


def _unreadable(key: str, text: str, reason: str) -> EngineError:
    return InvalidParameter(f"failed to parse {key} value: {text} ({reason})")


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def parse_bool(text: str) -> bool:
    """The words that Go's ParseBool takes. Raises ValueError."""
    if text in TRUE:
        return True
    if text in FALSE:
        return False
    raise ValueError(text)


def quoted(text: str) -> str:
    """A text between quotation marks, as Go prints it in errors."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in escaped) + '"'
