"""The engine's options about networks: what their values may be, in text and in the JSON file, and which contradict each other.

As in ``config``: values are only well-formed here, and the standard library is all that is known.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

DRIVERS = ("bridge", "macvlan", "ipvlan")
_INTERFACE_NAME = re.compile(r"[A-Za-z0-9_.-]{1,15}")


@dataclass(frozen=True)
class AddressPoolOption:
    """One ``--default-address-pool``: networks that name no subnet get one of this prefix length from the base."""

    base: Network
    size: int


@dataclass(frozen=True)
class NetworkDefault:
    """One ``--default-network-opt``: networks of the driver get the option unless they set it."""

    driver: str
    key: str
    value: str


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("expected a string")
    return value


def bip(value: object) -> ipaddress.IPv4Interface:
    """``--bip``: the bridge's own address."""
    text = _text(value)
    if "/" not in text:
        raise ValueError("expected an IPv4 address with a prefix length, like 172.17.0.1/16")
    interface = ipaddress.IPv4Interface(text)
    network = interface.network
    if network.prefixlen > 30 or interface.ip in (network.network_address, network.broadcast_address):
        raise ValueError("expected the address of a host in a subnet of at least four addresses")
    return interface


def bip6(value: object) -> ipaddress.IPv6Interface:
    """``--bip6``: the bridge's own IPv6 address."""
    text = _text(value)
    if "/" not in text or "%" in text:
        raise ValueError("expected an IPv6 address with a prefix length, like fd00::1/64")
    interface = ipaddress.IPv6Interface(text)
    if interface.ip == interface.network.network_address or interface.network.prefixlen > 126:
        raise ValueError("expected the address of a host in a subnet of at least four addresses")
    return interface


def fixed_cidr(value: object) -> ipaddress.IPv4Network:
    """``--fixed-cidr``; bits of a host are dropped, as dockerd does."""
    text = _text(value)
    if "/" not in text:
        raise ValueError("expected an IPv4 subnet, like 172.17.128.0/17")
    return ipaddress.IPv4Network(text, strict=False)


def fixed_cidr_v6(value: object) -> ipaddress.IPv6Network:
    """``--fixed-cidr-v6``."""
    text = _text(value)
    if "/" not in text or "%" in text:
        raise ValueError("expected an IPv6 subnet, like fd00::/64")
    return ipaddress.IPv6Network(text, strict=False)


def ipv4_address(value: object) -> ipaddress.IPv4Address:
    """An address of a host."""
    return ipaddress.IPv4Address(_text(value))


def ipv4_text(value: object) -> str:
    """An address of this machine."""
    return str(ipv4_address(value))


def ipv6_address(value: object) -> ipaddress.IPv6Address:
    """An address of a host, without zone."""
    if "%" in _text(value):
        raise ValueError("an address with a zone has no meaning for containers")
    return ipaddress.IPv6Address(_text(value))


def bridge_name(value: object) -> str:
    """``--bridge``: an interface, or ``none``; empty is the engine's own."""
    text = _text(value)
    if text and (not _INTERFACE_NAME.fullmatch(text) or text in (".", "..")):
        raise ValueError("expected the name of an interface, or none")
    return text


def address_pool(value: object) -> AddressPoolOption:
    """``base=10.10.0.0/16,size=24``, or the file's object with the same keys."""
    if isinstance(value, Mapping):
        known = {str(key).lower(): item for key, item in value.items()}
        if isinstance(known.get("size"), str):
            raise ValueError("size: expected a number")
    else:
        known = {}
        for part in _text(value).split(","):
            key, equals, item = part.partition("=")
            if not equals:
                raise ValueError("expected base=<subnet>,size=<prefix length>")
            known[key.strip().lower()] = item.strip()
    unknown = sorted(known.keys() - {"base", "size"})
    if unknown:
        raise ValueError(f"unknown key {unknown[0]}")
    if "base" not in known or "size" not in known:
        raise ValueError("base and size are both needed")
    base_text, size_text = known["base"], str(known["size"])
    if not isinstance(base_text, str) or "/" not in base_text:
        raise ValueError("base: expected a subnet, like 10.10.0.0/16")
    if not size_text.isdecimal() or len(size_text) > 3:
        raise ValueError("size: expected a number")
    base, size = ipaddress.ip_network(base_text, strict=False), int(size_text)
    if not base.prefixlen <= size <= base.max_prefixlen:
        raise ValueError(f"size {size} is no prefix length of subnets of {base}")
    if size > base.max_prefixlen - 2:
        raise ValueError(f"subnets of size {size} have no room for containers")
    return AddressPoolOption(base, size)


def network_default(value: object) -> NetworkDefault:
    """``driver=key=value``."""
    driver, first, rest = _text(value).partition("=")
    key, second, option = rest.partition("=")
    if not first or not second or not driver or not key:
        raise ValueError("expected driver=key=value")
    return _known_driver(NetworkDefault(driver, key, option))


def network_defaults_of_file(value: object) -> tuple[NetworkDefault, ...]:
    """dockerd's form: ``{"bridge": {"com.docker.network.driver.mtu": "1400"}}``."""
    if not isinstance(value, Mapping):
        raise ValueError("expected an object of options by driver")
    found: list[NetworkDefault] = []
    for driver, options in value.items():
        if not isinstance(options, Mapping):
            raise ValueError(f"{driver}: expected an object of strings")
        found.extend(_known_driver(NetworkDefault(str(driver), str(key), _text(option))) for key, option in options.items())
    return tuple(found)


def _known_driver(default: NetworkDefault) -> NetworkDefault:
    if default.driver not in DRIVERS:
        raise ValueError(f"there is no network driver {default.driver} whose networks have options")
    return default


def contradiction(values: Mapping[str, Any]) -> str:
    """What is wrong with the options together, by their names in EngineConfig; empty when nothing is."""
    if not values.get("ip6tables", True) and values.get("iptables", True):
        return "--ip6tables=false needs --iptables=false: the rules of both families are one table"
    own_bridge = bool(values.get("bridge"))
    gateway, gateway6 = values.get("bip"), values.get("bip6")
    if own_bridge and (gateway or gateway6):
        return "You specified -b & --bip, mutually exclusive options. Please specify only one"
    wanted, wanted6 = values.get("fixed_cidr"), values.get("fixed_cidr_v6")
    if gateway and wanted and not wanted.subnet_of(gateway.network):
        return f"--fixed-cidr {wanted} is not within the bridge's subnet {gateway.network}"
    if gateway6 and wanted6 and not wanted6.subnet_of(gateway6.network):
        return f"--fixed-cidr-v6 {wanted6} is not within the bridge's subnet {gateway6.network}"
    for name, route, own in (
        ("--default-gateway", values.get("default_gateway"), gateway),
        ("--default-gateway-v6", values.get("default_gateway_v6"), gateway6),
    ):
        if route and own and route not in own.network:
            return f"{name} {route} is not within the bridge's subnet {own.network}"
    if not values.get("ipv6"):
        for name in ("bip6", "fixed_cidr_v6", "default_gateway_v6"):
            if values.get(name):
                return f"--{name.replace('_', '-')} needs --ipv6"
    return ""
