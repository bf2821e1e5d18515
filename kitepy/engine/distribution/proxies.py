"""Which HTTP proxy an address is reached through: the usual variables, read as the rest of the Docker world reads them; pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Proxies:
    """Empty strings stand for none; ``no_proxy`` lists hosts, domains, addresses and networks, each with a port if need be."""

    http: str = ""
    https: str = ""
    no_proxy: str = ""

    @classmethod
    def of_environment(cls, environ: Mapping[str, str]) -> Proxies:
        """``HTTP_PROXY``, ``HTTPS_PROXY`` and ``NO_PROXY``, in upper case or else in lower."""
        return cls(*(environ.get(name) or environ.get(name.lower(), "") for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")))

    def of_url(self, url: str) -> str | None:
        """The proxy's address, or None. This machine itself is always reached without."""
        parts = urlsplit(url)
        proxy = {"http": self.http, "https": self.https}.get(parts.scheme, "")
        host = (parts.hostname or "").rstrip(".")
        if not proxy or host == "localhost" or not self._applies(host, parts.port or (443 if parts.scheme == "https" else 80)):
            return None
        return proxy if "://" in proxy else f"http://{proxy}"

    @property
    def loopback_ports(self) -> frozenset[int]:
        """The ports of proxies that are on this machine's loopback."""
        found = set()
        for proxy in (self.http, self.https):
            try:
                parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
                port = parts.port or 80
            except ValueError:
                continue  # requests will tell
            address = _address(parts.hostname or "")
            if parts.hostname == "localhost" or (address is not None and address.is_loopback):
                found.add(port)
        return frozenset(found)

    def _applies(self, host: str, port: int) -> bool:
        address = _address(host)
        if address is not None and address.is_loopback:
            return False
        return not any(_matches(rule.strip().lower(), host, address, port) for rule in self.no_proxy.split(","))


_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _matches(rule: str, host: str, address: _Address | None, port: int) -> bool:
    if rule == "*":
        return True
    if not rule:
        return False
    if "/" in rule:
        try:
            return address is not None and address in ipaddress.ip_network(rule, strict=False)
        except ValueError:
            return False
    name, colon, number = rule.rpartition(":")
    if colon and number.isdecimal() and (":" not in name or name.startswith("[")):
        if int(number) != port:
            return False
        rule = name
    rule = rule.strip("[]")
    if (wanted := _address(rule)) is not None:
        return address == wanted
    rule = rule.removeprefix("*") if rule.startswith("*.") else rule
    return host.endswith(rule) if rule.startswith(".") else host == rule or host.endswith(f".{rule}")


def _address(text: str) -> _Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
