"""The registries that can be reached from here, by the engine's rules: mirrors, which are insecure, certificates, proxies."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from kitepy.engine.distribution.authorization import Authorizer, Tokens
from kitepy.engine.distribution.certificates import TlsContexts
from kitepy.engine.distribution.connection import PING_TIMEOUT_S, Connection, OnWaiting, Way, unheard
from kitepy.engine.distribution.credentials import ANONYMOUS, Credentials
from kitepy.engine.distribution.endpoints import (
    HUB,
    Endpoint,
    InsecureRegistries,
    endpoints_of,
    host_name,
)
from kitepy.engine.distribution.hub import HUB_API, HubTag, hub_tags
from kitepy.engine.distribution.proxies import Proxies
from kitepy.engine.distribution.repository import Repository, pages
from kitepy.engine.distribution.search import SEARCH_HOST, Found, find_endpoint, search_catalog, search_service
from kitepy.engine.distribution.transport import Lookup, Loopback, Resolver, Transport
from kitepy.engine.distribution.web_files import WebFile, check_address, open_web_file
from kitepy.engine.model.errors import SystemFailure
from kitepy.engine.model.reference import DEFAULT_DOMAIN, Reference

_PATIENCE_S = 45.0


class Registries:
    """Makes conversations with registries; keeps access tokens, never passwords."""

    def __init__(
        self,
        *,
        user_agent: str,
        insecure: InsecureRegistries,
        mirrors: Sequence[str] = (),
        certificates: Sequence[Path] = (),
        proxies: Proxies | None = None,
        loopback: Loopback | None = None,
        lookup: Lookup | None = None,
    ) -> None:
        """``mirrors`` are base addresses for Docker Hub, ``certificates`` directories as ``certificates`` describes them.

        ``loopback`` and ``lookup`` are for an engine in a network of its own, see ``transport``.
        """
        self._user_agent = user_agent
        self._insecure = insecure
        self._mirrors = tuple(mirrors)
        self._contexts = TlsContexts(certificates)
        self._proxies = proxies or Proxies()
        self._loopback = loopback
        self._lookup = lookup
        self._tokens = Tokens()

    def repository(
        self,
        reference: Reference,
        credentials: Credentials = ANONYMOUS,
        actions: Sequence[str] = ("pull",),
        waiting: OnWaiting = unheard,
        *,
        patience_s: float = _PATIENCE_S,
    ) -> Repository:
        """A repository to work with; opens nothing before it is entered.

        ``waiting`` is told before every pause, none of which is longer than ``patience_s``.
        """
        hub = reference.domain == DEFAULT_DOMAIN
        scope = f"repository:{reference.path}:{','.join(actions)}"
        return Repository(
            reference,
            lambda: self._connect(
                HUB if hub else reference.domain,
                f"/v2/{reference.path}/",
                credentials,
                [scope],
                waiting,
                mirrors=self._mirrors if hub and tuple(actions) == ("pull",) else (),
                patience_s=patience_s,
            ),
        )

    async def log_in(self, host: str, credentials: Credentials) -> str:
        """Try credentials at a registry; gives the identity token that its token service may hand out, else "".

        Raises Unauthorized or SystemFailure when they are refused, Unreachable when nobody answers as a registry would.
        """
        async with self._connect(host, "/v2/", credentials, (), unheard, offline=True) as connection:
            return await connection.log_in()

    async def catalog(self, host: str, credentials: Credentials = ANONYMOUS) -> AsyncIterator[list[str]]:
        """The names of a registry's repositories, a page at a time."""
        async with self._connect(host, "/v2/", credentials, ["registry:catalog:*"], unheard, patience_s=0) as connection:
            async for names in pages(connection, "_catalog?n=1000", "repositories"):
                yield names

    async def hub_tags(self, path: str, *, words: str, page: int, page_size: int) -> tuple[list[HubTag], bool] | None:
        """A page of a repository's tags as Docker Hub's own API tells them; None where that doesn't know it."""
        transport = self._transport(Endpoint(urlsplit(HUB_API).netloc))
        try:
            return await hub_tags(transport, path, words=words, page=page, page_size=page_size)
        finally:
            await transport.close()

    async def search(self, host: str, term: str, limit: int, credentials: Credentials = ANONYMOUS) -> list[Found]:
        """Repositories of a registry, or of Docker Hub when ``host`` is empty; at most ``limit``."""
        endpoints = await self._endpoints(host) if host else endpoints_of(SEARCH_HOST)
        ways = [(endpoint, self._transport(endpoint)) for endpoint in endpoints]
        try:
            endpoint, transport = await find_endpoint(ways) if host else ways[0]
            found = await search_service(transport, endpoint, term, limit, credentials)
        finally:
            for _, transport in ways:
                await transport.close()
        if found is None and host:
            found = await search_catalog(self.catalog(host, credentials), term, limit)
        if found is None:
            raise SystemFailure("Unexpected status code 404")
        return found

    @asynccontextmanager
    async def web_file(self, address: str) -> AsyncIterator[WebFile]:
        """A file of the web, by the proxies and certificates of registries; see ``web_files``."""
        url = check_address(address)
        host = urlsplit(url).netloc.rpartition("@")[2]
        endpoint = Endpoint(host, urlsplit(url).scheme, local=_any_loopback(await self._addresses(host)))
        transport = self._transport(endpoint)
        try:
            async with open_web_file(transport, url) as file:
                yield file
        finally:
            await transport.close()

    @asynccontextmanager
    async def _connect(
        self,
        host: str,
        base: str,
        credentials: Credentials,
        scopes: Sequence[str],
        waiting: OnWaiting,
        *,
        mirrors: Sequence[str] = (),
        patience_s: float = _PATIENCE_S,
        offline: bool = False,
    ) -> AsyncIterator[Connection]:
        endpoints = [await self._mirror(address) for address in mirrors]
        endpoints += await self._endpoints(host)
        ways: list[Way] = []
        try:
            for endpoint in endpoints:
                known = ANONYMOUS if endpoint.mirror else credentials
                authorizer = Authorizer(endpoint, known, scopes, self._tokens, offline=offline)
                ways.append(Way(endpoint, self._transport(endpoint), authorizer))
            yield Connection(ways, base, waiting, patience_s=patience_s)
        finally:
            for way in ways:
                await way.transport.close()

    async def _endpoints(self, host: str) -> Sequence[Endpoint]:
        addresses = await self._addresses(host)
        return endpoints_of(host, insecure=self._is_insecure(host, addresses), local=_any_loopback(addresses))

    async def _mirror(self, address: str) -> Endpoint:
        parts = urlsplit(address)
        addresses = await self._addresses(parts.netloc)
        verify = not self._is_insecure(parts.netloc, addresses)
        local = _any_loopback(addresses)
        return Endpoint(parts.netloc, parts.scheme, verify, mirror=True, prefix=parts.path.rstrip("/"), local=local)

    def _transport(self, endpoint: Endpoint) -> Transport:
        def context(host: str) -> ssl.SSLContext:
            # A host that the registry sends us to is as good as the registry only where it is the same one.
            verify = endpoint.verify if host == endpoint.host else not self._is_insecure(host, [host_name(host)])
            return self._contexts.get((endpoint.host, host), verify=verify)

        return Transport(
            secure=endpoint.secure,
            context=context,
            proxies=self._proxies,
            user_agent=self._user_agent,
            local=endpoint.local,
            loopback=self._loopback,
            resolver=Resolver(self._lookup) if self._lookup is not None else None,
        )

    def _is_insecure(self, host: str, addresses: Sequence[str]) -> bool:
        return self._insecure.names(host) or self._insecure.contains(addresses)

    async def _addresses(self, host: str) -> list[str]:
        """Where a registry is; empty where nobody knows, or somebody else will look it up."""
        name = host_name(host)
        try:
            return [str(ipaddress.ip_address(name))]
        except ValueError:
            pass
        if self._proxies.of_url(f"https://{host}/"):
            return []
        try:
            async with asyncio.timeout(PING_TIMEOUT_S):
                found = await (self._lookup or _look_up)(name, 0, socket.AF_UNSPEC)
        except (OSError, TimeoutError, UnicodeError):
            return []
        return [str(entry[4][0]) for entry in found]


def _any_loopback(addresses: Sequence[str]) -> bool:
    return any(ipaddress.ip_address(address.partition("%")[0]).is_loopback for address in addresses)


async def _look_up(host: str, port: int, family: int) -> list[Any]:
    return list(await asyncio.get_running_loop().getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM))
