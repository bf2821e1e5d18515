"""Sockets, TLS and proxies below the requests to one endpoint; knows nothing of registries."""

from __future__ import annotations

import ipaddress
import socket
import ssl
from collections.abc import Callable, Collection, Mapping
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from kitepy.engine.distribution.proxies import Proxies

READ_BYTES = 1 << 20
CONNECT_TIMEOUT_S = 30.0
STALL_TIMEOUT_S = 60.0

Context = Callable[[str], ssl.SSLContext]
"""How to speak TLS with a host (its port included)."""
Loopback = Callable[[str, int], socket.socket]
"""Begins to connect to an address of the host's loopback, for an engine in a network of its own; raises OSError."""
Lookup = Callable[[str, int, int], Any]
"""A coroutine function as ``loop.getaddrinfo``: host, port, family."""


class _Begun(socket.socket):
    """A socket whose connection somebody else began: connecting it means to wait for that."""

    def connect(self, address: Any) -> None:
        """The end of connecting, for asyncio's ``sock_connect``, which waits after BlockingIOError."""
        code = self.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, f"Connect call failed {address}")
        try:
            self.getpeername()
        except OSError:
            raise BlockingIOError from None


class Transport:
    """One endpoint's connections, kept alive until it is closed."""

    def __init__(
        self,
        *,
        secure: bool,
        context: Context,
        proxies: Proxies,
        user_agent: str,
        local: bool = False,
        loopback: Loopback | None = None,
        resolver: AbstractResolver | None = None,
    ) -> None:
        """``secure`` says whether the endpoint can't be listened to, ``local`` whether it is on this machine's loopback.

        Where it is not, the host's loopback is not reached through ``loopback`` but for a proxy there: whom a registry elsewhere
        sends us to must not be one of this machine's own services.
        """
        self.secure = secure
        self._context = context
        self._proxies = proxies
        self._contexts: dict[str, ssl.SSLContext] = {}
        factory = _factory(loopback, None if local else proxies.loopback_ports) if loopback is not None else None
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, socket_factory=factory, resolver=resolver),
            headers={"User-Agent": user_agent},
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=STALL_TIMEOUT_S),
            read_bufsize=READ_BYTES,
            # Not from the environment: that would add the credentials of somebody's ~/.netrc.
            trust_env=False,
        )

    def request(
        self, method: str, url: str, headers: Mapping[str, str], data: Any
    ) -> aiohttp.client._RequestContextManager:  # the only name it has
        """As the session's, without redirects. Raises what aiohttp raises."""
        return self._session.request(
            method,
            url,
            headers=headers,
            data=data,
            allow_redirects=False,
            proxy=self._proxies.of_url(url),
            ssl=self._context_of(url),
        )

    async def close(self) -> None:
        """End all connections."""
        await self._session.close()

    def _context_of(self, url: str) -> ssl.SSLContext | bool:
        parts = urlsplit(url)
        if parts.scheme != "https":
            return True
        if parts.netloc not in self._contexts:
            self._contexts[parts.netloc] = self._context(parts.netloc.rpartition("@")[2])
        return self._contexts[parts.netloc]


def _factory(loopback: Loopback, ports: Collection[int] | None) -> Callable[[Any], socket.socket]:
    """What makes sockets for aiohttp; only these ports of the loopback are the host's, or all."""

    def make(info: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, _, address = info
        if ipaddress.ip_address(address[0].partition("%")[0]).is_loopback and (ports is None or address[1] in ports):
            with loopback(address[0], address[1]) as begun:
                return _Begun(begun.family, begun.type, begun.proto, fileno=begun.detach())
        return socket.socket(family, kind, protocol)

    return make


class Resolver(AbstractResolver):
    """Names by somebody else's knowledge of them."""

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> list[ResolveResult]:
        """Raises OSError."""
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=int(address[1]),
                family=found,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for found, _, protocol, _, address in await self._lookup(host, port, family)
        ]

    async def close(self) -> None:
        """Holds nothing."""
