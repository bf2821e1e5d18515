"""Sockets bound to a port of this machine: what holds a published port and what its relay answers on."""

from __future__ import annotations

import errno
import socket

_SOCKET_TYPES = {
    "tcp": (socket.SOCK_STREAM, socket.IPPROTO_TCP),
    "udp": (socket.SOCK_DGRAM, socket.IPPROTO_UDP),
    "sctp": (socket.SOCK_STREAM, socket.IPPROTO_SCTP),
}
_BACKLOG = 1024
PROTOCOL_MISSING = frozenset({errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT})
"""What a kernel without a protocol answers: SCTP is often missing."""


def bind_port(protocol: str, host_ip: str, port: int) -> socket.socket:
    """A non-blocking socket bound to the port, listening if the protocol connects. Raises OSError."""
    family = socket.AF_INET6 if ":" in host_ip else socket.AF_INET
    kind, number = _SOCKET_TYPES[protocol]
    bound = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, number)
    try:
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if kind == socket.SOCK_STREAM:
            # Connections of an earlier listener in TIME_WAIT shall not keep the port; two listeners still collide.
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host_ip, port))
        if kind == socket.SOCK_STREAM:
            bound.listen(_BACKLOG)
    except OSError:
        bound.close()
        raise
    return bound
