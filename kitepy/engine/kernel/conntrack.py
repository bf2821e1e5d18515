"""Forgetting tracked connections, so that datagrams of a long-lived sender don't go on to a container that has gone.

A translation is decided by a flow's first packet. A UDP sender that never pauses keeps its flow, and with it the old
target, for as long as it sends.
"""

from __future__ import annotations

import socket
import struct
from ipaddress import IPv4Address

from kitepy.engine.kernel.netlink import Message, NetlinkSocket, attribute, nested

_NETLINK_NETFILTER = 12
_IPCTNL_MSG_CT_DELETE = (1 << 8) | 2
_CTA_TUPLE_REPLY, _CTA_FILTER = 2, 25
_CTA_TUPLE_IP, _CTA_IP_V4_SRC = 1, 1
_CTA_FILTER_ORIG_FLAGS, _CTA_FILTER_REPLY_FLAGS = 1, 2
_COMPARE_SOURCE = 1


def forget_flows(answered_by: IPv4Address) -> Message:
    """Removes the flows whose answers come from the address. Kernels before 5.8 refuse it: they can't filter.

    Not for IPv6: there kernels remove all flows but these (``ctnetlink_filter_match_tuple`` compares the wrong way round).
    """
    body = struct.pack("!BBH", socket.AF_INET, 0, 0) + b"".join(
        (
            nested(_CTA_TUPLE_REPLY, nested(_CTA_TUPLE_IP, attribute(_CTA_IP_V4_SRC, answered_by.packed))),
            nested(
                _CTA_FILTER,
                attribute(_CTA_FILTER_ORIG_FLAGS, struct.pack("=I", 0)),
                attribute(_CTA_FILTER_REPLY_FLAGS, struct.pack("=I", _COMPARE_SOURCE)),
            ),
        )
    )
    return Message(f"forget flows to {answered_by}", _IPCTNL_MSG_CT_DELETE, 0, body)


class ConntrackSocket(NetlinkSocket):
    """A socket for requests about tracked connections."""

    def __init__(self) -> None:
        super().__init__(_NETLINK_NETFILTER)
