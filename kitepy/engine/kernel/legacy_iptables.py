"""The policies of the old ``iptables``, whose tables nftables doesn't list (include/uapi/linux/netfilter_ipv4/ip_tables.h)."""

from __future__ import annotations

import ctypes
import socket
import struct
from dataclasses import dataclass
from pathlib import Path

from kitepy.engine.kernel.syscalls import libc_call

_GET_INFO, _GET_ENTRIES = 64, 65
_INFO = struct.Struct("=32sI5I5III")
_ENTRIES_HEAD = struct.Struct("=32sI4x")
_FORWARD = 2
_TARGET_HEAD = 32
_VERDICTS = {-1: "drop", -2: "accept"}


@dataclass(frozen=True)
class _Family:
    names: str
    domain: int
    level: int
    target_offset_at: int
    """Where an entry says where its target begins."""


_FAMILIES = {
    4: _Family("ip_tables_names", socket.AF_INET, socket.IPPROTO_IP, 88),
    6: _Family("ip6_tables_names", socket.AF_INET6, socket.IPPROTO_IPV6, 140),
}


def forward_policy(version: int) -> str:
    """``accept`` or ``drop``: what happens to forwarded packets that no rule of the table ``filter`` decides on.

    Empty when nobody uses the table in the calling thread's network namespace; to ask for it would create it.
    """
    family = _FAMILIES[version]
    try:
        used = Path("/proc/thread-self/net", family.names).read_text().split()
    except OSError:
        return ""
    if "filter" not in used:
        return ""
    try:
        with socket.socket(family.domain, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.IPPROTO_RAW) as sock:
            info = _INFO.unpack(_ask(sock, family.level, _GET_INFO, _INFO.pack(b"filter", *[0] * 13)))
            underflow, size = info[7 + _FORWARD], info[13]
            head = _ENTRIES_HEAD.pack(b"filter", size)
            entries = _ask(sock, family.level, _GET_ENTRIES, head + bytes(size))[_ENTRIES_HEAD.size :]
    except OSError:  # changed amid the two questions, or not ours to ask
        return ""
    (target,) = struct.unpack_from("=H", entries, underflow + family.target_offset_at)
    (verdict,) = struct.unpack_from("=i", entries, underflow + target + _TARGET_HEAD)
    return _VERDICTS.get(verdict, "")


def _ask(sock: socket.socket, level: int, option: int, request: bytes) -> bytes:
    """getsockopt(2) with a request in the buffer."""
    buffer = ctypes.create_string_buffer(request, len(request))
    length = ctypes.c_uint32(len(request))
    libc_call("getsockopt", "iptables", sock.fileno(), level, option, buffer, ctypes.byref(length))
    return buffer.raw
