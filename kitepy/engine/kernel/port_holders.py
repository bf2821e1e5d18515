"""Who holds a port of this machine: the kernel's tables of sockets, then the descriptors of processes (proc(5))."""

from __future__ import annotations

import contextlib
import os
import pwd
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_LISTENING = "0A"
_UNSPECIFIED = ("0.0.0.0", "::")


@dataclass(frozen=True)
class PortHolder:
    """A process, as far as the caller may see it: ``pid`` 0 when its descriptors are closed to us."""

    pid: int
    name: str
    user: str

    def __str__(self) -> str:
        return f"process {self.name}, pid {self.pid}" if self.pid else f"a process of user {self.user}"


@dataclass(frozen=True)
class BoundSocket:
    """One row of a table of sockets."""

    address: str
    port: int
    state: str
    uid: int
    inode: int


def _address(digits: str) -> str:
    """As the kernel prints it: words of 32 bits in the machine's byte order, which is little-endian where we run."""
    raw = b"".join(bytes.fromhex(digits[at : at + 8])[::-1] for at in range(0, len(digits), 8))
    if len(raw) == 4:
        return socket.inet_ntop(socket.AF_INET, raw)
    if raw.startswith(bytes(10) + b"\xff\xff"):
        return socket.inet_ntop(socket.AF_INET, raw[12:])
    return socket.inet_ntop(socket.AF_INET6, raw)


def parse_sockets(lines: Iterable[str]) -> Iterator[BoundSocket]:
    """The rows of ``/proc/net/tcp`` and its relatives, headline included."""
    for line in lines:
        words = line.split()
        if len(words) > 9 and words[1].count(":") == 1 and words[9].isdigit():
            address, port = words[1].split(":")
            yield BoundSocket(_address(address), int(port, 16), words[3], int(words[7]), int(words[9]))


def holding_socket(protocol: str, address: str, port: int, sockets: Iterable[BoundSocket]) -> BoundSocket | None:
    """The socket that keeps others from binding the port of the address, the closest one first."""
    found = [
        row
        for row in sockets
        if row.port == port and (protocol != "tcp" or row.state == _LISTENING) and _collide(address, row.address)
    ]
    return min(found, key=lambda row: row.address != address, default=None)


def _collide(wanted: str, held: str) -> bool:
    if wanted == held or held == "::":  # which keeps IPv4 as well, unless told otherwise
        return True
    return (":" in wanted) == (":" in held) and (wanted in _UNSPECIFIED or held in _UNSPECIFIED)


def find_holder(protocol: str, address: str, port: int) -> PortHolder | None:
    """Who holds a port in the network namespace of the calling thread; None when nobody is found. Blocks for milliseconds."""
    rows: list[BoundSocket] = []
    for table in (protocol, f"{protocol}6"):
        with contextlib.suppress(OSError), open(f"/proc/thread-self/net/{table}") as lines:
            rows.extend(parse_sockets(lines))
    row = holding_socket(protocol, address, port, rows)
    if row is None:
        return None
    pid = _process_with(f"socket:[{row.inode}]")
    name = ""
    if pid:
        with contextlib.suppress(OSError), open(f"/proc/{pid}/comm") as comm:
            name = comm.read().rstrip("\n")
    try:
        user = pwd.getpwuid(row.uid).pw_name
    except KeyError:
        user = str(row.uid)
    return PortHolder(pid if name else 0, name, user)


def _process_with(link: str) -> int:
    """The first process with such a descriptor: servers hand theirs on to processes that they start later."""
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdigit()):
        try:
            fds = os.listdir(f"/proc/{pid}/fd")
        except OSError:  # gone, or somebody else's
            continue
        for fd in fds:
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{pid}/fd/{fd}") == link:
                    return pid
    return 0
