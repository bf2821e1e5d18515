"""The addresses the engine listens on (``-H``): reading them, and sockets that nobody else can use for even a moment."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kitepy.engine.model.errors import InvalidParameter, SystemFailure

_TCP_PORT = 2375
_BACKLOG = 512
_LONGEST_UNIX_PATH = 107


@dataclass(frozen=True)
class UnixHost:
    """A socket in the file system."""

    path: Path

    def __str__(self) -> str:
        return f"unix://{self.path}"


@dataclass(frozen=True)
class TcpHost:
    """A TCP port, without encryption."""

    address: str
    port: int

    def __str__(self) -> str:
        return f"tcp://[{self.address}]:{self.port}" if ":" in self.address else f"tcp://{self.address}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect."""
        if self.address == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.address).is_loopback
        except ValueError:
            return False


Host = UnixHost | TcpHost


@dataclass(frozen=True)
class SocketAccess:
    """Who may use a unix socket: its owner and the members of its group; None leaves the engine's own."""

    owner_uid: int | None = None
    group_gid: int | None = None


def parse_host(text: str) -> Host:
    """Read one ``-H`` value; raises InvalidParameter."""
    scheme, separator, rest = text.partition("://")
    if scheme == "unix" and separator:
        if not rest.startswith("/"):
            raise InvalidParameter(f"invalid host {text}: the path of a unix socket must be absolute")
        if len(os.fsencode(rest)) > _LONGEST_UNIX_PATH:
            raise InvalidParameter(f"invalid host {text}: the path of a unix socket has at most {_LONGEST_UNIX_PATH} bytes")
        return UnixHost(Path(rest))
    if scheme == "tcp" and separator:
        return _parse_tcp(text, rest)
    if scheme == "fd" and separator:
        raise InvalidParameter(f"invalid host {text}: sockets handed over by systemd are not possible yet")
    raise InvalidParameter(f"invalid host {text}: expected unix:///path or tcp://address:port")


def _parse_tcp(text: str, rest: str) -> TcpHost:
    rest = rest.removesuffix("/")
    if rest.startswith("["):
        address, bracket, port_text = rest[1:].partition("]")
        port_text = port_text.removeprefix(":")
        valid = bool(bracket)
    else:
        address, _, port_text = rest.partition(":")
        valid = ":" not in port_text
    port = int(port_text) if port_text.isascii() and port_text.isdecimal() and len(port_text) < 6 else _TCP_PORT
    if not valid or "/" in rest or (port_text and (str(port) != port_text or port > 65535)):
        raise InvalidParameter(f"invalid host {text}: expected tcp://address:port")
    return TcpHost(address or "localhost", port)


def listen(host: Host, access: SocketAccess) -> list[socket.socket]:
    """Listening sockets for a host, all or none; raises SystemFailure with the reason."""
    try:
        return [_listen_unix(host.path, access)] if isinstance(host, UnixHost) else _listen_tcp(host)
    except OSError as error:
        raise SystemFailure(f"failed to listen on {host}: {error.strerror or error}") from error


def _listen_unix(path: Path, access: SocketAccess) -> socket.socket:
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    _remove_stale(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    # The mode is right from the first moment: bind(2) honours the umask. No other thread runs yet that could mind.
    previous = os.umask(0o177)
    try:
        listener.bind(str(path))
        if access.owner_uid is not None or access.group_gid is not None:
            os.chown(path, _or_same(access.owner_uid), _or_same(access.group_gid), follow_symlinks=False)
        if access.group_gid is not None:
            os.chmod(path, 0o660)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    finally:
        os.umask(previous)
    return listener


def _or_same(number: int | None) -> int:
    return -1 if number is None else number


def _remove_stale(path: Path) -> None:
    """Remove a socket that nobody listens on; raises OSError when somebody does, or when it is no socket."""
    if not path.exists() and not path.is_symlink():
        return
    if not path.is_socket():
        raise OSError(errno.EEXIST, "there is a file of that name that is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            with suppress(FileNotFoundError):
                path.unlink()
            return
        except (TimeoutError, BlockingIOError):
            pass  # its queue is full: somebody listens
    raise OSError(errno.EADDRINUSE, "another program listens on this socket")


def _listen_tcp(host: TcpHost) -> list[socket.socket]:
    listeners: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in socket.getaddrinfo(
            host.address, host.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            listener = socket.socket(family, kind | socket.SOCK_CLOEXEC, protocol)
            listeners.append(listener)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind(address)
            listener.listen(_BACKLOG)
            listener.setblocking(False)
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    return listeners


def check_exposure(host: Host, *, forced: bool) -> None:
    """Refuse a port that other machines reach without encryption: whoever connects is root on this machine."""
    if isinstance(host, TcpHost) and not host.is_loopback and not forced:
        raise InvalidParameter(
            f"refusing to listen on {host} without TLS: everyone who reaches it would have root access to this machine; "
            "use a unix socket, or a loopback address with an SSH tunnel"
        )
