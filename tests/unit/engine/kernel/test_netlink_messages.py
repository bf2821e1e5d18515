"""Netlink messages are plain bytes that can be compared."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface

from kitepy.engine.kernel.netlink import add_address, add_bridge, add_default_route, set_link
from kitepy.engine.network.sandbox import addressing


def test_attributes_are_padded_to_four_bytes() -> None:
    for name in ("a", "ab", "abc", "abcd"):
        assert len(add_bridge(name, "02:00:00:00:00:01", 1500).body) % 4 == 0


def test_an_address_carries_its_prefix_and_broadcast() -> None:
    body = add_address(7, IPv4Interface("172.17.0.2/16")).body
    assert struct.unpack_from("=BBBBI", body) == (2, 16, 0, 0, 7)
    assert IPv4Address("172.17.255.255").packed in body


def test_an_ipv6_address_is_usable_at_once_and_has_no_broadcast() -> None:
    body = add_address(7, IPv6Interface("fd00::2/64")).body
    assert struct.unpack_from("=BBBBI", body) == (10, 64, 0x02, 0, 7)
    assert len(body) == 8 + 2 * (4 + 16)


def test_default_routes_are_of_their_gateways_family() -> None:
    assert add_default_route(3, IPv6Address("fd00::1")).body[0] == 10
    assert add_default_route(3, IPv4Address("10.0.0.1")).body[0] == 2


def test_an_interface_gets_its_addresses_and_then_its_mac() -> None:
    address, address6 = IPv4Interface("172.17.0.2/16"), IPv6Interface("fd00::2/64")
    messages = addressing(3, "02:42:ac:11:00:02", [address, address6])
    assert messages == [add_address(3, address), add_address(3, address6), set_link(3, mac="02:42:ac:11:00:02")]
    assert [message.what for message in messages[1:]] == ["add address fd00::2/64 to link 3", "set link 3"]
