"""The addresses the engine listens on (``-H``): reading them, and sockets that nobody else can use for even a moment."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from kitepy.engine.model.errors import InvalidParameter, SystemFailure

_TCP_PORT = 2375
_TLS_PORT = 2376
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 15), (socket.TCP_KEEPCNT, 4))
"""A client that vanished without a word is noticed within two minutes."""
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
    """A TCP port."""

    address: str
    port: int

    def __str__(self) -> str:
        return f"tcp://[{self.address}]:{self.port}" if ":" in self.address else f"tcp://{self.address}:{self.port}"


Host = UnixHost | TcpHost


@dataclass(frozen=True)
class SocketAccess:
    """Who may use a unix socket: its owner and the members of its group; None leaves the engine's own."""

    owner_uid: int | None = None
    group_gid: int | None = None


def parse_host(text: str, *, tls: bool = False) -> Host:
    """Read one ``-H`` value (``tls`` decides the port that is meant when none is given); raises InvalidParameter."""
    scheme, separator, rest = text.partition("://")
    if scheme == "unix" and separator:
        if not rest.startswith("/"):
            raise InvalidParameter(f"invalid host {text}: the path of a unix socket must be absolute")
        if len(os.fsencode(rest)) > _LONGEST_UNIX_PATH:
            raise InvalidParameter(f"invalid host {text}: the path of a unix socket has at most {_LONGEST_UNIX_PATH} bytes")
        return UnixHost(Path(rest))
    if scheme == "tcp" and separator:
        return _parse_tcp(text, rest, _TLS_PORT if tls else _TCP_PORT)
    if scheme == "fd" and separator:
        raise InvalidParameter(f"invalid host {text}: sockets handed over by systemd are not possible yet")
    raise InvalidParameter(f"invalid host {text}: expected unix:///path or tcp://address:port")


def _parse_tcp(text: str, rest: str, default_port: int) -> TcpHost:
    rest = rest.removesuffix("/")
    if rest.startswith("["):
        address, bracket, port_text = rest[1:].partition("]")
        port_text = port_text.removeprefix(":")
        valid = bool(bracket)
    else:
        address, _, port_text = rest.partition(":")
        valid = ":" not in port_text
    port = int(port_text) if port_text.isascii() and port_text.isdecimal() and len(port_text) < 6 else default_port
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
    shared = _check_directory(path.parent, access)
    _remove_stale(path, only_own=shared)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        # bind(2) gives the file the mode of the socket's own inode, so nobody else can connect for even a moment, and the
        # process's umask, which all threads share, is left alone.
        os.fchmod(listener.fileno(), 0o600)
        listener.bind(str(path))
        _give_access(path, access)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


def _check_directory(directory: Path, access: SocketAccess) -> bool:
    """Whether others may make files there, too (as in /tmp); raises OSError when they could put their own socket in our place."""
    found = directory.stat()
    shared = bool(found.st_mode & stat.S_IWOTH)
    if found.st_mode & stat.S_ISVTX:
        return shared or bool(found.st_mode & stat.S_IWGRP)  # files are removed and renamed by their owners alone
    trusted_uids = {0, os.geteuid(), access.owner_uid}
    trusted_gids = {0, os.getegid(), access.group_gid}
    if shared or found.st_uid not in trusted_uids or (found.st_mode & stat.S_IWGRP and found.st_gid not in trusted_gids):
        raise OSError(
            errno.EACCES,
            f"other users may write in {directory} and could put a socket of their own in its place; use another directory",
        )
    return False


def _give_access(path: Path, access: SocketAccess) -> None:
    """Let in whom ``access`` names: first the owner, then the mode, which until then lets in nobody else."""
    if access.owner_uid is None and access.group_gid is None:
        return
    fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        found = os.fstat(fd)
        if not stat.S_ISSOCK(found.st_mode) or found.st_uid != os.geteuid():
            raise OSError(errno.EEXIST, "another file was put in its place")
        itself = f"/proc/self/fd/{fd}"
        os.chown(itself, _or_same(access.owner_uid), _or_same(access.group_gid))
        if access.group_gid is not None:
            os.chmod(itself, 0o660)
    finally:
        os.close(fd)


def _or_same(number: int | None) -> int:
    return -1 if number is None else number


def _remove_stale(path: Path, *, only_own: bool) -> None:
    """Remove a socket that nobody listens on; raises OSError when somebody does, or for anything else: links aren't followed."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if stat.S_ISLNK(found.st_mode):
        raise OSError(errno.EEXIST, "there is a symbolic link of that name")
    if not stat.S_ISSOCK(found.st_mode):
        raise OSError(errno.EEXIST, "there is a file of that name that is not a socket")
    if only_own and found.st_uid != os.geteuid():
        raise OSError(errno.EEXIST, "there is a socket of another user of that name")
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
            for option, value in _KEEPALIVE:  # what accept(2) gives inherits them
                listener.setsockopt(socket.IPPROTO_TCP, option, value)
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


class Protection(Enum):
    """What stands between a TCP port and whoever reaches it."""

    MUTUAL_TLS = "mutual TLS"
    ONE_SIDED_TLS = "TLS without client certificates"
    NOTHING = "no TLS"


def check_exposure(host: Host, protection: Protection, *, forced: bool) -> None:
    """Refuse a port that lets in whoever reaches it, other users of this machine included: all of them would be root."""
    if not isinstance(host, TcpHost) or forced or protection is Protection.MUTUAL_TLS:
        return
    if protection is Protection.ONE_SIDED_TLS:
        raise InvalidParameter(
            f"refusing to listen on {host} without TLS client verification: everyone who reaches it would have root access "
            "to this machine; use --tlsverify, or say --tlsverify=false to allow it nevertheless"
        )
    raise InvalidParameter(
        f"refusing to listen on {host} without TLS: everyone who reaches it would have root access to this machine; "
        "use --tlsverify (`kitepy tls` makes the certificates), a unix socket, or say --tls=false to allow it nevertheless"
    )


_EXPOSED = """
         Access to the remote API is equivalent to root access on the host. Refer
         to the 'Docker daemon attack surface' section in the documentation for
         more information: https://docs.docker.com/go/attack-surface/"""


def exposure_warnings(hosts: Iterable[Host], protection: Protection) -> list[str]:
    """What ``/info`` says about open ports, in the words of Docker's engine, which scripts look for."""
    addresses = [str(host).removeprefix("tcp://") for host in hosts if isinstance(host, TcpHost)]
    if protection is Protection.NOTHING:
        return [f"[DEPRECATION NOTICE]: API is accessible on http://{at} without encryption.{_EXPOSED}" for at in addresses]
    if protection is Protection.ONE_SIDED_TLS:
        lacking = "without TLS client verification"
        return [f"[DEPRECATION NOTICE]: API is accessible on https://{at} {lacking}.{_EXPOSED}" for at in addresses]
    return []
