"""The name server's address inside a sandbox: sockets on ports that the kernel chose, and rules that lead 127.0.0.11:53 there.

Containers may listen on port 53 themselves, on all addresses too, which they couldn't if the sockets had it. The rules change
ports without tracking connections: with address translation each packet of the container would be looked up and remembered
by its namespace, names or not. They stand in a table of their own, so that a container that flushes its iptables keeps its
name service.
"""

from __future__ import annotations

import logging
import socket
from contextlib import ExitStack
from dataclasses import dataclass

from kitepy.engine.kernel.netns import in_namespace
from kitepy.engine.kernel.nftables import Nftables, NftablesError, NftablesMissing

logger = logging.getLogger(__name__)

ADDRESS = "127.0.0.11"
"""Where containers of user-defined networks find their name server; the same as with dockerd, and written in documentation."""
PORT = 53
TABLE = "kitepy_dns"
_BACKLOG = 256


@dataclass
class ResolverSockets:
    """What a sandbox's name service listens on. Whoever has it closes it."""

    udp: socket.socket
    tcp: socket.socket

    def close(self) -> None:
        """Idempotent."""
        self.udp.close()
        self.tcp.close()


def redirection(udp_port: int, tcp_port: int) -> str:
    """The script that leads there and back; it fails where it was applied before.

    A table that is removed first costs ten times as much, since the kernel waits for who is reading it.
    """
    return f"""
create table ip {TABLE}
table ip {TABLE} {{
    chain output {{
        type filter hook output priority raw; policy accept;
        ip daddr {ADDRESS} udp dport {PORT} udp dport set {udp_port}
        ip daddr {ADDRESS} tcp dport {PORT} tcp dport set {tcp_port}
        ip saddr {ADDRESS} udp sport {udp_port} udp sport set {PORT}
        ip saddr {ADDRESS} tcp sport {tcp_port} tcp sport set {PORT}
    }}
}}
"""


def prepare_resolver(netns_fd: int) -> ResolverSockets:
    """Sockets in a network namespace whose loopback interface is up, reachable at ``ADDRESS``:``PORT`` there.

    Where there are no rules to be had, the sockets have that port themselves. Blocks for some milliseconds; raises OSError.
    """
    return in_namespace(netns_fd, prepare_resolver_here)


def prepare_resolver_here() -> ResolverSockets:
    """The same in the network namespace of the calling thread."""
    with ExitStack() as undo:
        sockets = _bind(0, 0)
        undo.callback(sockets.close)
        try:
            _redirect(sockets.udp.getsockname()[1], sockets.tcp.getsockname()[1])
        except (NftablesMissing, NftablesError) as error:
            logger.warning("the name service of a container takes port %d itself: %s", PORT, error.strerror)
        else:
            undo.pop_all()
            return sockets
    return _bind(PORT, PORT)


def _redirect(udp_port: int, tcp_port: int) -> None:
    script = redirection(udp_port, tcp_port)
    rules = Nftables()
    try:
        try:
            rules.apply(script)
        except NftablesError:
            rules.apply(f"delete table ip {TABLE}\n{script}")  # of a name service that was killed
    finally:
        rules.close()


def _bind(udp_port: int, tcp_port: int) -> ResolverSockets:
    with ExitStack() as undo:
        udp = undo.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC))
        tcp = undo.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC))
        udp.bind((ADDRESS, udp_port))
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        tcp.bind((ADDRESS, tcp_port))
        tcp.listen(_BACKLOG)
        undo.pop_all()
        return ResolverSockets(udp, tcp)
