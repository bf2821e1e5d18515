"""Links, addresses and routes over rtnetlink(7): messages are values, and a batch of them costs one round trip.

A message can be printed and compared before it is sent. What to send is decided by the network package. The few messages
that containers need are encoded here, since a general library costs 150 ms of start-up and one round trip a request.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network, ip_interface, ip_network
from typing import Self

NETLINK_ROUTE = 0
_SOL_NETLINK = 270
_NETLINK_CAP_ACK = 10
_NETLINK_EXT_ACK = 11
_NETLINK_GET_STRICT_CHK = 12

_NLMSG_ERROR = 2
_NLMSG_DONE = 3
_NLM_F_REQUEST = 0x1
_NLM_F_ACK = 0x4
_NLM_F_CAPPED = 0x100
_NLM_F_ACK_TLVS = 0x200
_NLM_F_REPLACE = 0x100
_NLM_F_EXCL = 0x200
_NLM_F_CREATE = 0x400
_NLM_F_DUMP = 0x300
_NLMSGERR_ATTR_MSG = 1

_RTM_NEWLINK, _RTM_DELLINK, _RTM_GETLINK, _RTM_SETLINK = 16, 17, 18, 19
_RTM_NEWADDR, _RTM_DELADDR, _RTM_GETADDR = 20, 21, 22
_RTM_NEWROUTE, _RTM_DELROUTE, _RTM_GETROUTE = 24, 25, 26

_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINK, _IFLA_MASTER, _IFLA_PROTINFO = 1, 3, 4, 5, 10, 12
_IFLA_TXQLEN, _IFLA_OPERSTATE, _IFLA_LINKINFO, _IFLA_IFALIAS, _IFLA_NET_NS_FD = 13, 16, 18, 20, 28
_IF_OPER_UP = 6
_IFLA_INFO_KIND, _IFLA_INFO_DATA = 1, 2
_VETH_INFO_PEER = 1
_IFLA_MACVLAN_MODE = 1
_IFLA_IPVLAN_MODE, _IFLA_IPVLAN_FLAGS = 1, 2
_IFLA_VLAN_ID = 1
_IFLA_BRPORT_ISOLATED = 33
_IFF_UP, _IFF_LOOPBACK = 0x1, 0x8

_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST = 1, 2, 4
_IFA_F_NODAD = 0x02
_RTA_DST, _RTA_OIF, _RTA_GATEWAY = 1, 4, 5
_RT_TABLE_MAIN, _RTPROT_BOOT, _RTN_UNICAST = 254, 3, 1
_RT_SCOPE_UNIVERSE, _RT_SCOPE_LINK = 0, 253

_NLMSGHDR = struct.Struct("=IHHII")
_IFINFOMSG = struct.Struct("=BxHiII")
_IFADDRMSG = struct.Struct("=BBBBI")
_RTMSG = struct.Struct("=BBBBBBBBI")
_RTATTR = struct.Struct("=HH")
_NLA_F_NESTED = 0x8000
_NLA_TYPE_MASK = 0x3FFF

MACVLAN_MODES = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8}
IPVLAN_MODES = {"l2": 0, "l3": 1, "l3s": 2}
IPVLAN_FLAGS = {"bridge": 0, "private": 1, "vepa": 2}

LOOPBACK_INDEX = 1
"""The loopback device is always the first of its namespace."""


@dataclass(frozen=True)
class Message:
    """One request: ``what`` names it in errors, the rest is rtnetlink's."""

    what: str
    kind: int
    flags: int
    body: bytes


@dataclass(frozen=True)
class Link:
    """A network interface as the kernel lists it."""

    index: int
    name: str
    up: bool
    kind: str
    master: int
    mtu: int
    mac: str
    loopback: bool = False
    alias: str = ""
    operational: bool = False
    """Whether it can carry packets now."""


@dataclass(frozen=True)
class LinkAddress:
    """An address of an interface, of either family."""

    index: int
    interface: IPv4Interface | IPv6Interface


@dataclass(frozen=True)
class Route:
    """A unicast route of either family; the default route has the prefix 0.0.0.0/0 or ::/0."""

    destination: IPv4Network | IPv6Network
    index: int


def attribute(kind: int, payload: bytes) -> bytes:
    """One attribute, padded as the kernel wants it."""
    length = _RTATTR.size + len(payload)
    return _RTATTR.pack(length, kind) + payload + b"\0" * (-length % 4)


def nested(kind: int, *attributes: bytes) -> bytes:
    """An attribute made of attributes."""
    return attribute(kind | _NLA_F_NESTED, b"".join(attributes))


def _text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def _number(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("=I", value))


def _mac_bytes(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def add_bridge(name: str, mac: str, mtu: int) -> Message:
    """A bridge that is up. EEXIST when there is a link of that name."""
    body = _IFINFOMSG.pack(0, 0, 0, _IFF_UP, _IFF_UP) + b"".join(
        (
            _text(_IFLA_IFNAME, name),
            attribute(_IFLA_ADDRESS, _mac_bytes(mac)),
            _number(_IFLA_MTU, mtu),
            nested(_IFLA_LINKINFO, _text(_IFLA_INFO_KIND, "bridge")),
        )
    )
    return Message(f"add bridge {name}", _RTM_NEWLINK, _NLM_F_CREATE | _NLM_F_EXCL, body)


def add_veth(name: str, *, mtu: int, peer_name: str, peer_netns_fd: int, bridge_index: int = 0) -> Message:
    """A veth pair in one step: this end is up, and a port of the bridge if there is one, the other born down in the namespace.

    The kernel makes the other end first, and a veth device can't be up without its peer.
    """
    peer = _IFINFOMSG.pack(0, 0, 0, 0, 0) + b"".join(
        (
            _text(_IFLA_IFNAME, peer_name),
            _number(_IFLA_MTU, mtu),
            _number(_IFLA_TXQLEN, 0),
            _number(_IFLA_NET_NS_FD, peer_netns_fd),
        )
    )
    body = _IFINFOMSG.pack(0, 0, 0, _IFF_UP, _IFF_UP) + b"".join(
        (
            _text(_IFLA_IFNAME, name),
            _number(_IFLA_MTU, mtu),
            _number(_IFLA_TXQLEN, 0),
            *((_number(_IFLA_MASTER, bridge_index),) if bridge_index else ()),
            nested(
                _IFLA_LINKINFO,
                _text(_IFLA_INFO_KIND, "veth"),
                nested(_IFLA_INFO_DATA, attribute(_VETH_INFO_PEER, peer)),
            ),
        )
    )
    return Message(f"add veth {name}", _RTM_NEWLINK, _NLM_F_CREATE | _NLM_F_EXCL, body)


def isolate_port(index: int, *, isolated: bool = True) -> Message:
    """Forbids a bridge port to exchange frames with other isolated ports; the bridge's own address stays reachable."""
    body = _IFINFOMSG.pack(socket.AF_BRIDGE, 0, index, 0, 0) + nested(
        _IFLA_PROTINFO, attribute(_IFLA_BRPORT_ISOLATED, bytes([isolated]))
    )
    return Message(f"isolate bridge port {index}", _RTM_SETLINK, 0, body)


def set_link(
    index: int,
    *,
    up: bool | None = None,
    mac: str | None = None,
    mtu: int | None = None,
    master: int | None = None,
    name: str = "",
    alias: str = "",
) -> Message:
    """Changes some properties of a link and leaves the others; most links can be renamed only while they are down."""
    flags = _IFF_UP if up else 0
    body = _IFINFOMSG.pack(0, 0, index, flags, 0 if up is None else _IFF_UP)
    if mac is not None:
        body += attribute(_IFLA_ADDRESS, _mac_bytes(mac))
    if mtu is not None:
        body += _number(_IFLA_MTU, mtu)
    if master is not None:
        body += _number(_IFLA_MASTER, master)
    if name:
        body += _text(_IFLA_IFNAME, name)
    if alias:
        body += _text(_IFLA_IFALIAS, alias)
    return Message(f"set link {index}", _RTM_SETLINK, 0, body)


def delete_link(name: str) -> Message:
    """Removes a link by name (with a veth its peer goes too). Waits for RCU grace periods: 10 to 20 ms."""
    return Message(f"delete link {name}", _RTM_DELLINK, 0, _IFINFOMSG.pack(0, 0, 0, 0, 0) + _text(_IFLA_IFNAME, name))


def _family(version: int) -> int:
    return socket.AF_INET if version == 4 else socket.AF_INET6


def _address_body(index: int, interface: IPv4Interface | IPv6Interface) -> bytes:
    packed = interface.ip.packed
    prefix_length = interface.network.prefixlen
    if isinstance(interface, IPv6Interface):
        # Nobody else has what the engine gave: without duplicate detection the address is usable at once.
        return _IFADDRMSG.pack(socket.AF_INET6, prefix_length, _IFA_F_NODAD, 0, index) + b"".join(
            (attribute(_IFA_LOCAL, packed), attribute(_IFA_ADDRESS, packed))
        )
    attributes = [attribute(_IFA_LOCAL, packed), attribute(_IFA_ADDRESS, packed)]
    if prefix_length < 31:  # RFC 3021: two hosts need no broadcasts
        attributes.append(attribute(_IFA_BROADCAST, interface.network.broadcast_address.packed))
    return _IFADDRMSG.pack(socket.AF_INET, prefix_length, 0, 0, index) + b"".join(attributes)


def add_address(index: int, interface: IPv4Interface | IPv6Interface) -> Message:
    """Gives a link an address with its prefix route. EACCES for an IPv6 address where ``disable_ipv6`` is set."""
    body = _address_body(index, interface)
    return Message(f"add address {interface} to link {index}", _RTM_NEWADDR, _NLM_F_CREATE | _NLM_F_EXCL, body)


def delete_address(index: int, interface: IPv4Interface | IPv6Interface) -> Message:
    """Takes an address from a link."""
    return Message(f"delete address {interface} of link {index}", _RTM_DELADDR, 0, _address_body(index, interface))


def _default_route_body(index: int, version: int, gateway: IPv4Address | IPv6Address | None) -> bytes:
    scope = _RT_SCOPE_LINK if gateway is None and version == 4 else _RT_SCOPE_UNIVERSE
    body = _RTMSG.pack(_family(version), 0, 0, 0, _RT_TABLE_MAIN, _RTPROT_BOOT, scope, _RTN_UNICAST, 0)
    if gateway is not None:
        body += attribute(_RTA_GATEWAY, gateway.packed)
    return body + _number(_RTA_OIF, index)


def add_default_route(index: int, gateway: IPv4Address | IPv6Address) -> Message:
    """A default route over the link, in the main table."""
    body = _default_route_body(index, gateway.version, gateway)
    return Message(f"add default route via {gateway}", _RTM_NEWROUTE, _NLM_F_CREATE | _NLM_F_EXCL, body)


def add_default_link_route(index: int, version: int) -> Message:
    """A default route to the link itself, for links that hand packets on by themselves (ipvlan in a layer 3 mode)."""
    body = _default_route_body(index, version, None)
    return Message(f"add default IPv{version} route to link {index}", _RTM_NEWROUTE, _NLM_F_CREATE | _NLM_F_EXCL, body)


def delete_default_route(index: int, version: int) -> Message:
    """Removes the default route over the link. ESRCH when there is none."""
    body = _RTMSG.pack(_family(version), 0, 0, 0, _RT_TABLE_MAIN, 0, 255, 0, 0) + _number(_RTA_OIF, index)
    return Message(f"delete default IPv{version} route of link {index}", _RTM_DELROUTE, 0, body)


def _child_link(what: str, name: str, kind: str, data: Sequence[bytes], attributes: Sequence[bytes], *, up: bool) -> Message:
    flags = _IFF_UP if up else 0
    body = _IFINFOMSG.pack(0, 0, 0, flags, flags) + b"".join(
        (
            _text(_IFLA_IFNAME, name),
            *attributes,
            nested(_IFLA_LINKINFO, _text(_IFLA_INFO_KIND, kind), *([nested(_IFLA_INFO_DATA, *data)] if data else [])),
        )
    )
    return Message(f"{what} {name}", _RTM_NEWLINK, _NLM_F_CREATE | _NLM_F_EXCL, body)


def add_macvlan(
    name: str, *, parent_index: int, mode: str, netns_fd: int, mac: str | None = None, mtu: int | None = None
) -> Message:
    """A link with a MAC address of its own on another link, born down in the given namespace; see ``MACVLAN_MODES``."""
    attributes = [_number(_IFLA_LINK, parent_index), _number(_IFLA_NET_NS_FD, netns_fd)]
    if mac is not None:
        attributes.append(attribute(_IFLA_ADDRESS, _mac_bytes(mac)))
    if mtu is not None:
        attributes.append(_number(_IFLA_MTU, mtu))
    return _child_link("add macvlan", name, "macvlan", [_number(_IFLA_MACVLAN_MODE, MACVLAN_MODES[mode])], attributes, up=False)


def add_ipvlan(name: str, *, parent_index: int, mode: str, flag: str, netns_fd: int, mtu: int | None = None) -> Message:
    """A link that shares the MAC address of another link, born down in the given namespace; see ``IPVLAN_MODES``."""
    attributes = [_number(_IFLA_LINK, parent_index), _number(_IFLA_NET_NS_FD, netns_fd)]
    if mtu is not None:
        attributes.append(_number(_IFLA_MTU, mtu))
    data = [
        attribute(_IFLA_IPVLAN_MODE, struct.pack("=H", IPVLAN_MODES[mode])),
        attribute(_IFLA_IPVLAN_FLAGS, struct.pack("=H", IPVLAN_FLAGS[flag])),
    ]
    return _child_link("add ipvlan", name, "ipvlan", data, attributes, up=False)


def add_vlan(name: str, *, parent_index: int, vlan_id: int) -> Message:
    """A link that is up and carries one VLAN (802.1Q) of another."""
    data = [attribute(_IFLA_VLAN_ID, struct.pack("=H", vlan_id))]
    return _child_link("add vlan", name, "vlan", data, [_number(_IFLA_LINK, parent_index)], up=True)


def add_dummy(name: str) -> Message:
    """A link that is up and leads nowhere."""
    return _child_link("add dummy", name, "dummy", [], [], up=True)


def add_ifb(name: str) -> Message:
    """A link that is up and drops what it is given, as long as no filter redirects packets to it."""
    return _child_link("add ifb", name, "ifb", [], [], up=True)


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset + _RTATTR.size <= len(data):
        length, kind = _RTATTR.unpack_from(data, offset)
        if length < _RTATTR.size:
            return
        yield kind & _NLA_TYPE_MASK, data[offset + _RTATTR.size : offset + length]
        offset += length + (-length % 4)


def _parse_link(body: bytes) -> Link:
    _, _, index, flags, _ = _IFINFOMSG.unpack_from(body)
    values = dict(_attributes(body[_IFINFOMSG.size :]))
    kind = dict(_attributes(values.get(_IFLA_LINKINFO, b""))).get(_IFLA_INFO_KIND, b"")
    return Link(
        index=index,
        name=values[_IFLA_IFNAME].rstrip(b"\0").decode(errors="replace"),
        up=bool(flags & _IFF_UP),
        kind=kind.rstrip(b"\0").decode(),
        master=_native_int(values.get(_IFLA_MASTER)),
        mtu=_native_int(values.get(_IFLA_MTU)),
        mac=values.get(_IFLA_ADDRESS, b"").hex(":"),
        loopback=bool(flags & _IFF_LOOPBACK),
        alias=values.get(_IFLA_IFALIAS, b"").rstrip(b"\0").decode(errors="replace"),
        operational=values.get(_IFLA_OPERSTATE) == bytes([_IF_OPER_UP]),
    )


def _native_int(data: bytes | None) -> int:
    return int(struct.unpack("=I", data)[0]) if data else 0


class NetlinkSocket:
    """A netlink socket of the network namespace of the thread that opens it; usable from any one thread at a time.

    Requests block: microseconds as a rule, but a link's removal elsewhere may hold the kernel's lock for milliseconds.
    """

    def __init__(self, protocol: int, timeout_s: float = 15.0) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        try:
            self._socket.bind((0, 0))
            self._socket.settimeout(timeout_s)
            for option in (_NETLINK_CAP_ACK, _NETLINK_EXT_ACK, _NETLINK_GET_STRICT_CHK):
                self._socket.setsockopt(_SOL_NETLINK, option, 1)
        except OSError:
            self._socket.close()
            raise
        self._sequence = 0

    def close(self) -> None:
        """Idempotent."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _pack(self, message: Message, flags: int) -> bytes:
        self._sequence += 1
        length = _NLMSGHDR.size + len(message.body)
        return _NLMSGHDR.pack(length, message.kind, _NLM_F_REQUEST | flags | message.flags, self._sequence, 0) + message.body

    def _receive(self) -> Iterator[tuple[int, int, int, bytes]]:
        # A dump's datagram has at most 32 KiB (netlink_dump in the kernel), an acknowledgement far less.
        data = self._socket.recv(65536)
        offset = 0
        while offset + _NLMSGHDR.size <= len(data):
            length, kind, flags, sequence, _ = _NLMSGHDR.unpack_from(data, offset)
            yield kind, flags, sequence, data[offset + _NLMSGHDR.size : offset + length]
            offset += length + (-length % 4)

    def execute(self, messages: Sequence[Message], *, tolerate: Iterable[int] = ()) -> None:
        """Sends the requests in one system call and waits for all answers; the kernel carries them out in order.

        Raises OSError for the first request that failed with an error number that isn't tolerated. Requests after a
        failed one have been carried out all the same (netlink knows no transactions).
        """
        if not messages:
            return
        first = self._sequence + 1
        by_sequence = {first + position: message for position, message in enumerate(messages)}
        self._socket.send(b"".join(self._pack(message, _NLM_F_ACK) for message in messages))
        tolerated = frozenset(tolerate)
        failure: OSError | None = None
        while by_sequence:
            for kind, flags, sequence, body in self._receive():
                message = by_sequence.get(sequence)
                if kind != _NLMSG_ERROR or message is None:
                    continue  # a late answer to an earlier request that timed out
                del by_sequence[sequence]
                number = -struct.unpack_from("=i", body)[0]
                if number and number not in tolerated and failure is None:
                    failure = OSError(number, f"{message.what}: {_explanation(number, flags, body)}")
        if failure is not None:
            raise failure

    def _dump(self, message: Message) -> Iterator[bytes]:
        self._socket.send(self._pack(message, _NLM_F_DUMP))
        wanted = self._sequence
        while True:
            for kind, flags, sequence, body in self._receive():
                if sequence != wanted:
                    continue
                if kind in (_NLMSG_DONE, _NLMSG_ERROR):
                    number = -struct.unpack_from("=i", body)[0]
                    if number > 0:
                        raise OSError(number, f"{message.what}: {_explanation(number, flags, body)}")
                    return
                yield body


class RouteSocket(NetlinkSocket):
    """A socket for links, addresses and routes."""

    def __init__(self) -> None:
        super().__init__(NETLINK_ROUTE)

    def links(self) -> list[Link]:
        """All interfaces of the namespace."""
        body = _IFINFOMSG.pack(0, 0, 0, 0, 0)
        return [_parse_link(answer) for answer in list(self._dump(Message("list links", _RTM_GETLINK, 0, body)))]

    def link(self, name: str) -> Link | None:
        """The interface of that name, or None."""
        body = _IFINFOMSG.pack(0, 0, 0, 0, 0) + _text(_IFLA_IFNAME, name)
        self._socket.send(self._pack(Message(f"look up link {name}", _RTM_GETLINK, 0, body), 0))
        wanted = self._sequence
        while True:
            for kind, _, sequence, answer in self._receive():
                if sequence != wanted:
                    continue
                if kind != _NLMSG_ERROR:
                    return _parse_link(answer)
                number = -struct.unpack_from("=i", answer)[0]
                if number == errno.ENODEV:
                    return None
                raise OSError(number, f"look up link {name}: {os.strerror(number)}")

    def addresses(self) -> list[LinkAddress]:
        """All addresses of the namespace."""
        found = []
        for family in (socket.AF_INET, socket.AF_INET6):
            for answer in self._dump_family(Message("list addresses", _RTM_GETADDR, 0, _IFADDRMSG.pack(family, 0, 0, 0, 0))):
                _, prefix_length, _, _, index = _IFADDRMSG.unpack_from(answer)
                values = dict(_attributes(answer[_IFADDRMSG.size :]))
                packed = values.get(_IFA_LOCAL) or values.get(_IFA_ADDRESS)
                if packed:
                    found.append(LinkAddress(index, ip_interface((packed, prefix_length))))
        return found

    def routes(self) -> list[Route]:
        """All unicast routes of every table."""
        found = []
        for family, length in ((socket.AF_INET, 4), (socket.AF_INET6, 16)):
            body = _RTMSG.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)
            for answer in self._dump_family(Message("list routes", _RTM_GETROUTE, 0, body)):
                _, prefix_length, _, _, _, _, _, kind, _ = _RTMSG.unpack_from(answer)
                if kind != _RTN_UNICAST:
                    continue
                values = dict(_attributes(answer[_RTMSG.size :]))
                network = ip_network((values.get(_RTA_DST, bytes(length)), prefix_length))
                found.append(Route(network, _native_int(values.get(_RTA_OIF))))
        return found

    def _dump_family(self, message: Message) -> list[bytes]:
        """Nothing where the kernel lacks the family: it then answers for all that it has (rtnl_dump_all)."""
        family = message.body[0]
        return [answer for answer in self._dump(message) if answer[0] == family]


def _explanation(number: int, flags: int, body: bytes) -> str:
    text = os.strerror(number)
    if flags & _NLM_F_ACK_TLVS and flags & _NLM_F_CAPPED:
        # struct nlmsgerr: the error number and the header of the request, then attributes.
        message = dict(_attributes(body[4 + _NLMSGHDR.size :])).get(_NLMSGERR_ATTR_MSG)
        if message:
            text += f" ({message.rstrip(bytes(1)).decode(errors='replace')})"
    return text
