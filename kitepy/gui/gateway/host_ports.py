"""Which sockets of this machine listen, and who holds them: from /proc, with this process's own rights. Blocking."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import pwd
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from kitepy.gui.gateway.port import BindResult, OperationFailed
from kitepy.gui.models.ports import Listener

# include/net/tcp_states.h: TCP_LISTEN; an unconnected UDP socket is in TCP_CLOSE.
_LISTENING = {"tcp": "0A", "tcp6": "0A", "udp": "07", "udp6": "07"}
_ENGINES = ("kitepy-engine", "kitepy-relay", "kitepy.engine", "docker-proxy", "dockerd", "rootlessport", "rootlesskit")
# A listening range can be thousands of ports of one container; more sockets than this nobody reads.
_MOST = 20_000


def read_listeners(proc: Path = Path("/proc")) -> tuple[Listener, ...]:
    """Processes of other users keep their files to themselves: then only the user of the socket is known."""
    sockets: list[tuple[str, str, int, int, int]] = []
    readable = False
    for table in _LISTENING:
        try:
            text = (proc / "self" / "net" / table).read_text(encoding="ascii", errors="replace")
        except FileNotFoundError:
            continue  # a kernel without IPv6
        except OSError as error:
            raise OperationFailed(f"This machine's ports can't be read: {error.strerror}.") from error
        readable = True
        sockets += parse_table(table, text)
    if not readable:
        raise OperationFailed("This machine's ports can't be read: /proc/net has no tables of sockets.")
    holders = _holders({inode for *_, inode in sockets}, proc)
    users: dict[int, str] = {}
    found = []
    for protocol, address, port, uid, inode in sockets[:_MOST]:
        pid, process, of_engine = holders.get(inode, (None, "", False))
        if uid not in users:
            users[uid] = _user(uid)
        found.append(Listener(protocol, address, port, process, pid, users[uid], of_engine))
    return tuple(dict.fromkeys(found))


def parse_table(table: str, text: str) -> list[tuple[str, str, int, int, int]]:
    """(protocol, address, port, uid, inode) of each socket of /proc/net/{tcp,tcp6,udp,udp6} that listens (proc(5))."""
    found = []
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 10 or fields[3] != _LISTENING[table]:
            continue
        address, _, port = fields[1].partition(":")
        # A connected UDP socket is in another state; one that isn't has no other side.
        if not port or fields[2].strip("0") != ":":
            continue
        with contextlib.suppress(ValueError):
            found.append((table.removesuffix("6"), _address(address), int(port, 16), int(fields[7]), int(fields[9])))
    return found


def _address(text: str) -> str:
    """Words of four bytes, each in this machine's byte order."""
    words = [bytes.fromhex(text[index : index + 8]) for index in range(0, len(text), 8)]
    raw = b"".join(word[::-1] if sys.byteorder == "little" else word for word in words)
    address = ipaddress.ip_address(raw)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def _holders(wanted: set[int], proc: Path) -> dict[int, tuple[int, str, bool]]:
    """(pid, name, whether it is an engine) by inode of the socket; the oldest process of several that share one."""
    found: dict[int, tuple[int, str, bool]] = {}
    for pid in sorted(int(entry) for entry in os.listdir(proc) if entry.isdigit()):
        named: tuple[int, str, bool] | None = None
        for inode in _sockets_of(proc / str(pid) / "fd"):
            if inode in wanted and inode not in found:
                named = named or (pid, *_name(proc / str(pid)))
                found[inode] = named
    return found


def _sockets_of(folder: Path) -> Iterator[int]:
    with contextlib.suppress(OSError):  # it ended, or it is another user's
        for entry in os.scandir(folder):
            with contextlib.suppress(OSError, ValueError):
                target = os.readlink(entry.path)
                if target.startswith("socket:["):
                    yield int(target[8:-1])


def _name(process: Path) -> tuple[str, bool]:
    try:
        name = (process / "comm").read_text(errors="replace").strip()
        line = (process / "cmdline").read_bytes()[:4096].decode(errors="replace").split("\0")
    except OSError:
        return "unknown", False
    # A process may call itself anything, control characters included.
    name = "".join(letter if letter.isprintable() else "?" for letter in name) or "unknown"
    of_engine = any(engine in word for engine in _ENGINES for word in (name, *line[:4]))
    return name, of_engine


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def try_bind(port: int, protocol: str) -> BindResult:
    """As a server would: connections that were closed a moment ago don't count."""
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        try:
            with socket.socket(family, kind) as probe:
                if protocol == "tcp":
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.bind((address, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return BindResult(True, "somebody holds it")
            if error.errno in (errno.EACCES, errno.EPERM):
                return BindResult(False, "An ordinary user's engine can't publish it: that takes administrator rights.")
            if family == socket.AF_INET:
                return BindResult(True, error.strerror or str(error))
    return BindResult(False)
