"""The engine's connection to the process outside. Calls block for one packet there and back; one thread at a time."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kitepy.engine.kernel.packets import Message, receive, send
from kitepy.engine.kernel.port_holders import PortHolder
from kitepy.engine.rootless.delegation import Delegation
from kitepy.engine.rootless.outside import SOCKET_NAME

_ANSWER_TIMEOUT_S = 20.0
_LOOKUP_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class OutsideStatus:
    """What the process outside knows."""

    uplink: str
    """``pasta``, ``slirp4netns`` or empty."""
    mtu: int
    dns: str
    """The address inside at which the host's resolver answers; empty without an uplink."""
    problem: str
    """Why there is no uplink."""
    host_address: str
    """The host's address as others see it; empty when it has no network."""


class RootlessSession:
    """Open for as long as the engine runs."""

    def __init__(self, directory: Path) -> None:
        """Raises OSError when nobody is outside."""
        self._lock = threading.Lock()
        self._path = directory / SOCKET_NAME
        self.delegation = Delegation("")
        """The control groups that the user may rule."""
        self._channel = self._connect()

    def _connect(self) -> socket.socket:
        channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        try:
            channel.settimeout(_ANSWER_TIMEOUT_S)
            channel.connect(str(self._path))
        except OSError:
            channel.close()
            raise
        return channel

    def bind(self, protocol: str, address: str, port: int) -> socket.socket:
        """As ``kernel.port_sockets.bind_port``, in the host's network. Raises OSError."""
        answer, fds = self._ask({"op": "bind", "protocol": protocol, "address": address, "port": port})
        if "errno" in answer:
            raise OSError(int(answer["errno"]), str(answer["text"]))
        return socket.socket(fileno=fds[0])

    def find_holder(self, protocol: str, address: str, port: int) -> PortHolder | None:
        """As ``kernel.port_holders.find_holder``, in the host's network. Raises OSError."""
        answer, _ = self._ask({"op": "holder", "protocol": protocol, "address": address, "port": port})
        holder = answer.get("holder")
        return PortHolder(int(holder["pid"]), str(holder["name"]), str(holder["user"])) if holder else None

    def connect_loopback(self, address: str, port: int) -> socket.socket:
        """A non-blocking socket that is being connected to an address of the host's loopback. Raises OSError."""
        answer, fds = self._ask({"op": "connect", "address": address, "port": port})
        if "errno" in answer:
            raise OSError(int(answer["errno"]), str(answer["text"]))
        return socket.socket(fileno=fds[0])

    async def look_up(self, host: str, port: int, family: int) -> list[tuple[int, int, int, str, tuple[Any, ...]]]:
        """As ``loop.getaddrinfo`` for streams, by the host's name services: some answer on its loopback only.

        Raises OSError, and socket.gaierror for names that nobody knows.
        """
        return await asyncio.to_thread(self._look_up, host, port, family)

    def _look_up(self, host: str, port: int, family: int) -> list[tuple[int, int, int, str, tuple[Any, ...]]]:
        with self._connect() as channel:
            channel.settimeout(_LOOKUP_TIMEOUT_S)
            send(channel, {"op": "lookup", "host": host, "port": port, "family": family})
            received = receive(channel)
        if received is None:
            raise ConnectionResetError(104, f"{os.strerror(104)}: the process outside has ended; restart the engine")
        answer: dict[str, Any] = received[0]
        if answer.get("text") == "unknown request":  # a process outside of an earlier version
            local = socket.getaddrinfo(host, port, socket.AddressFamily(family), socket.SOCK_STREAM)
            return [(int(entry[0]), int(entry[1]), entry[2], entry[3], tuple(entry[4])) for entry in local]
        if "errno" in answer:
            raise socket.gaierror(int(answer["errno"]), str(answer["text"]))
        return [(int(kind), socket.SOCK_STREAM, socket.IPPROTO_TCP, "", tuple(where)) for kind, where in answer["found"]]

    def status(self) -> OutsideStatus:
        """How things are now. Raises OSError."""
        answer, _ = self._ask({"op": "status"})
        uplink = answer["uplink"] or {"kind": "", "mtu": 0, "dns": ""}
        return OutsideStatus(uplink["kind"], uplink["mtu"], uplink["dns"], answer["problem"], answer["host_address"])

    def end(self) -> None:
        """End the helpers and with them the namespaces, but for processes that are still in them. Raises OSError."""
        self._ask({"op": "end"})
        self.close()

    def close(self) -> None:
        """The helpers stay."""
        self._channel.close()

    def _ask(self, message: Message) -> tuple[dict[str, Any], list[int]]:
        with self._lock:
            send(self._channel, message)
            received = receive(self._channel)
        if received is None:
            raise ConnectionResetError(104, f"{os.strerror(104)}: the process outside has ended; restart the engine")
        answer, _, fds = received
        return answer, fds
