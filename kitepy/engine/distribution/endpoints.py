"""Where a registry is reached: its address from what users write, over TLS unless it is known to be insecure; pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from kitepy.engine.model.errors import InvalidParameter

HUB = "registry-1.docker.io"
_HUB_NAMES = frozenset({"", "docker.io", "index.docker.io"})
_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_LOOPBACK = ("127.0.0.0/8", "::1/128")
_LONGEST = 300


@dataclass(frozen=True)
class Endpoint:
    """One way to a registry; ``verify`` False accepts any certificate."""

    host: str
    """With its port, where one was given."""
    scheme: str = "https"
    verify: bool = True
    mirror: bool = False
    """It stands in for Docker Hub, and is told no credentials."""
    prefix: str = ""
    """A path that all of its paths are beneath, without a slash at its end."""
    local: bool = False
    """It is on this machine's loopback."""

    @property
    def secure(self) -> bool:
        """Whether nobody can listen or pass for the registry."""
        return self.scheme == "https" and self.verify

    @property
    def url(self) -> str:
        """The beginning of every address, without a slash at its end."""
        return f"{self.scheme}://{self.host}{self.prefix}"


def registry_host(address: str) -> str:
    """The host, with its port, that a server address means; raises InvalidParameter for what is none."""
    text = address if address.startswith(("https://", "http://")) else f"https://{address}"
    try:
        host = urlsplit(text).netloc
    except ValueError:
        host = "?"
    if not address:
        return HUB
    port = host.rpartition(":")[2] if not host.endswith("]") and ":" in host else "0"
    if len(address) > _LONGEST or not address.isprintable() or not _HOST.fullmatch(host) or int(port) > 65535:
        raise InvalidParameter(f"unable to parse server address: {_shown(address)} has no valid host")
    return HUB if host.lower() in _HUB_NAMES else host


def host_name(host: str) -> str:
    """The name or address without port and brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


class InsecureRegistries:
    """Which registries need no valid certificate and may speak plain HTTP: this machine's own, and those that were named."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        """``names`` are hosts (with a port, to mean only that) or networks in CIDR notation."""
        self._hosts = set()
        self._networks = [ipaddress.ip_network(text) for text in _LOOPBACK]
        for name in names:
            try:
                self._networks.append(ipaddress.ip_network(name, strict=False))
            except ValueError:
                self._hosts.add(name.removeprefix("http://").removeprefix("https://").rstrip("/").lower())

    def names(self, host: str) -> bool:
        """Whether a host is insecure by its name."""
        name = host_name(host).lower()
        return host.lower() in self._hosts or name in self._hosts or name == "localhost"

    def contains(self, addresses: Iterable[str]) -> bool:
        """Whether one of a host's addresses lies in an insecure network."""
        found = []
        for text in addresses:
            try:
                found.append(ipaddress.ip_address(text.partition("%")[0]))
            except ValueError:
                continue
        return any(address in network for address in found for network in self._networks if address.version == network.version)


def endpoints_of(host: str, *, insecure: bool = False, local: bool = False) -> Sequence[Endpoint]:
    """The ways to try, the best first."""
    if not insecure:
        return (Endpoint(host, local=local),)
    return (Endpoint(host, verify=False, local=local), Endpoint(host, "http", local=local))


def _shown(address: str) -> str:
    """An address for a message: without credentials that somebody may have put into it."""
    return re.sub(r"(?<=://)[^/]*@", "", address)[:100]
