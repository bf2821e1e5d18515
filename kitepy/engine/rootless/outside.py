"""The process outside: an ordinary process of the user in the host's network, at the service of the engine inside.

It binds published ports where people look for them and hands the sockets in, keeps the uplink alive, and knows the host's
address. It outlives the engine, as containers do, and ends with the namespaces. Requests are packets (``kernel/packets``) on
``outside.sock``, mode 0600; each is answered by one packet:

``bind``    ``protocol``, ``address``, ``port`` → a bound socket rides along; or ``errno`` and ``text``
``holder``  the same → ``holder`` (pid, name, user) of the process that has it, or null
``connect`` ``address``, ``port`` → a socket that is being connected rides along, to this machine's loopback only; or the same
``lookup``  ``host``, ``port``, ``family`` → ``found`` as getaddrinfo(3) has it for streams; or the same
``status``  → ``uplink`` (kind, mtu, dns) or null, ``problem``, ``host_address``
``end``     → end the uplink and the namespaces' holder
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import ipaddress
import os
import select
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any

from kitepy.engine.kernel.namespaces import pidfd_open, pidfd_send_signal
from kitepy.engine.kernel.packets import Message, receive, send
from kitepy.engine.kernel.port_holders import find_holder
from kitepy.engine.kernel.port_sockets import bind_port
from kitepy.engine.rootless.state import HelperState, ProcessMark, write_state
from kitepy.engine.rootless.uplink import Uplink, UplinkMissing, start_uplink

SOCKET_NAME = "outside.sock"
_MOST_ADDRESSES = 16
_RESTARTS = 5
_RESTART_WINDOW_S = 60.0
_PRIVILEGED = "net/ipv4/ip_unprivileged_port_start"


class Outside:
    """Serves until the inside ends."""

    def __init__(self, directory: Path, inside: ProcessMark, inside_pidfd: int) -> None:
        self._directory = directory
        self._inside = inside
        self._inside_pidfd = inside_pidfd
        self._uplink: Uplink | None = None
        self._uplink_pidfd = -1
        self._problem = ""
        self._renewed_read, self._renewed_write = os.pipe2(os.O_CLOEXEC)
        self._restarts: list[float] = []
        self._connections: dict[int, socket.socket] = {}
        path = directory / SOCKET_NAME
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        mask = os.umask(0o177)
        self._listener.bind(str(path))
        os.umask(mask)
        self._listener.listen(64)

    def connect_uplink(self, known: ProcessMark | None = None, kind: str = "") -> None:
        """Start the uplink, or take over one that runs already; a failure is kept as the problem."""
        if known is not None and known.is_alive():
            self._uplink = Uplink(kind, known.pid)
        else:
            try:
                self._uplink = start_uplink(self._inside.pid, self._directory)
                self._problem = ""
            except UplinkMissing as error:
                self._uplink, self._problem = None, str(error)
        if self._uplink is not None:
            self._uplink_pidfd = pidfd_open(self._uplink.pid)
        mark = ProcessMark.of(self._uplink.pid) if self._uplink is not None else None
        write_state(self._directory, HelperState(self._inside, mark, self._uplink.kind if self._uplink is not None else ""))

    def serve(self) -> None:
        """The loop."""
        while True:
            poller = select.poll()
            for fd in (self._listener.fileno(), self._inside_pidfd, self._renewed_read, *self._connections):
                poller.register(fd, select.POLLIN)
            if self._uplink_pidfd >= 0:
                poller.register(self._uplink_pidfd, select.POLLIN)
            for fd, _ in poller.poll():
                if fd == self._inside_pidfd:
                    self._end()
                    return
                if fd == self._uplink_pidfd:
                    self._renew_uplink()
                elif fd == self._renewed_read:
                    os.read(self._renewed_read, 1)  # so that the poller learns of the new uplink
                elif fd == self._listener.fileno():
                    connection, _ = self._listener.accept()
                    self._connections[connection.fileno()] = connection
                elif fd in self._connections:
                    self._hear(self._connections[fd])

    def _hear(self, connection: socket.socket) -> None:
        try:
            received = receive(connection)
            if received is not None:
                message, _, fds = received
                for fd in fds:
                    os.close(fd)
                self._answer(connection, message)
                return
        except ConnectionError:
            pass  # the engine was killed: the same as a hang-up
        del self._connections[connection.fileno()]
        connection.close()

    def _answer(self, connection: socket.socket, message: dict[str, Any]) -> None:
        wish = message.get("op")
        if wish == "bind":
            self._bind(connection, str(message["protocol"]), str(message["address"]), int(message["port"]))
        elif wish == "holder":
            holder = find_holder(str(message["protocol"]), str(message["address"]), int(message["port"]))
            send(connection, {"holder": None if holder is None else dataclasses.asdict(holder)})
        elif wish == "status":
            send(connection, self._status())
        elif wish == "connect":
            self._connect(connection, str(message["address"]), int(message["port"]))
        elif wish == "lookup":
            # On a thread, since a name service may take its time; the engine opens a connection for each.
            own = socket.socket(fileno=os.dup(connection.fileno()))
            threading.Thread(target=_look_up, args=(own, message), daemon=True).start()
        elif wish == "end":
            send(connection, {"ok": True})
            with contextlib.suppress(ProcessLookupError):
                pidfd_send_signal(self._inside_pidfd, signal.SIGKILL)
        else:
            send(connection, {"errno": errno.EINVAL, "text": "unknown request"})

    def _bind(self, connection: socket.socket, protocol: str, address: str, port: int) -> None:
        try:
            if protocol == "sctp":  # nobody could carry it inside
                raise OSError(errno.EPROTONOSUPPORT, os.strerror(errno.EPROTONOSUPPORT))
            bound = bind_port(protocol, address, port)
        except OSError as error:
            text = error.strerror or str(error)
            if error.errno == errno.EACCES:
                text = _explain_privileged(port)
            send(connection, {"errno": error.errno or errno.EIO, "text": text})
            return
        with bound:
            send(connection, {"bound": True}, fds=[bound.fileno()])

    @staticmethod
    def _connect(connection: socket.socket, address: str, port: int) -> None:
        """Registries on this machine's loopback: the engine inside has a loopback of its own.

        Nothing else is connected to: all other ways out are the uplink's, which keeps the inside from this very loopback. Only
        the engine can ask (the socket is in a directory of mode 0700 that no container sees), and it asks for addresses of
        registries that its user named, never for those that a registry redirects to.
        """
        try:
            begun = begin_loopback(address, port)
        except OSError as error:
            send(connection, {"errno": error.errno or errno.EIO, "text": error.strerror or str(error)})
            return
        with begun:
            send(connection, {"begun": True}, fds=[begun.fileno()])

    def _status(self) -> Message:
        uplink = self._uplink
        return {
            "uplink": None if uplink is None else {"kind": uplink.kind, "mtu": uplink.mtu, "dns": uplink.dns},
            "problem": self._problem,
            "host_address": host_address(),
        }

    def _renew_uplink(self) -> None:
        os.close(self._uplink_pidfd)
        self._uplink_pidfd = -1
        self._reap()
        now = time.monotonic()
        self._restarts = [moment for moment in self._restarts if now - moment < _RESTART_WINDOW_S]
        if len(self._restarts) >= _RESTARTS:
            self._uplink, self._problem = None, "the uplink has ended too often; restart the engine"
            return
        self._restarts.append(now)
        self._uplink, self._problem = None, "the uplink is being renewed"
        # On a thread, since it takes a while and requests must not wait for it.
        threading.Thread(target=self._connect_again, daemon=True).start()

    def _connect_again(self) -> None:
        self.connect_uplink()
        os.write(self._renewed_write, b"x")

    def _end(self) -> None:
        if self._uplink_pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                pidfd_send_signal(self._uplink_pidfd, signal.SIGKILL)  # nothing is lost, and slirp4netns heeds no other
        with contextlib.suppress(FileNotFoundError):
            (self._directory / SOCKET_NAME).unlink()
        self._reap()

    @staticmethod
    def _reap() -> None:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                continue


def begin_loopback(address: str, port: int) -> socket.socket:
    """A non-blocking stream socket on its way to an address of the loopback; raises OSError, EACCES for any other address."""
    try:
        target = ipaddress.ip_address(address)
    except ValueError:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL)) from None
    if not target.is_loopback or not 0 < port < 65536:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))
    family = socket.AF_INET if target.version == 4 else socket.AF_INET6
    begun = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        code = begun.connect_ex((str(target), port))
        if code not in (0, errno.EINPROGRESS):
            raise OSError(code, os.strerror(code))
    except OSError:
        begun.close()
        raise
    return begun


def _look_up(connection: socket.socket, message: dict[str, Any]) -> None:
    with connection:
        try:
            host, port, family = str(message["host"]), int(message["port"]), int(message["family"])
            found = socket.getaddrinfo(host, port, socket.AddressFamily(family), socket.SOCK_STREAM)
            answer: Message = {"found": [[int(kind), list(where)] for kind, _, _, _, where in found[:_MOST_ADDRESSES]]}
        except (OSError, ValueError) as error:
            number = error.errno if isinstance(error, OSError) else None
            answer = {"errno": number or errno.EIO, "text": str(getattr(error, "strerror", None) or error)}
        with contextlib.suppress(OSError):
            send(connection, answer)


def host_address() -> str:
    """The address this machine shows to others: the source of its default route; empty without one. Sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("198.51.100.1", 9))  # TEST-NET-2: no machine, but routed like any other
            return str(probe.getsockname()[0])
        except OSError:
            return ""


def _explain_privileged(port: int) -> str:
    from kitepy.engine.kernel.sysctl import read_sysctl

    first = read_sysctl(_PRIVILEGED).strip()
    return (
        f"permission denied: an ordinary user may take ports from {first} on; to allow port {port}: "
        f"sudo sysctl -w net.ipv4.ip_unprivileged_port_start={port}"
    )
