"""The registries that can be reached from here, by the engine's rules: mirrors, which are insecure, certificates, proxies."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from kitepy.engine.distribution.authorization import Authorizer
from kitepy.engine.distribution.certificates import tls_context
from kitepy.engine.distribution.connection import TIMEOUT_S, Connection, OnWaiting, Route, unheard
from kitepy.engine.distribution.credentials import ANONYMOUS, Credentials
from kitepy.engine.distribution.endpoints import HUB, Endpoint, InsecureRegistries, endpoints_of, host_name
from kitepy.engine.distribution.repository import Repository
from kitepy.engine.model.reference import DEFAULT_DOMAIN, Reference

_READ_BYTES = 1 << 20


class Registries:
    """Makes conversations with registries; keeps tokens, never passwords."""

    def __init__(
        self,
        *,
        user_agent: str,
        insecure: InsecureRegistries,
        mirrors: Sequence[str] = (),
        certificates: Sequence[Path] = (),
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """``mirrors`` are base addresses for Docker Hub, ``certificates`` directories as ``certificates`` describes them."""
        self._user_agent = user_agent
        self._insecure = insecure
        self._mirrors = tuple(mirrors)
        self._certificates = tuple(certificates)
        self._timeout_s = timeout_s

    def repository(
        self,
        reference: Reference,
        credentials: Credentials = ANONYMOUS,
        actions: Sequence[str] = ("pull",),
        waiting: OnWaiting = unheard,
    ) -> Repository:
        """A repository to work with; opens nothing before it is entered. ``waiting`` is told before every pause."""
        host = HUB if reference.domain == DEFAULT_DOMAIN else reference.domain
        scope = f"repository:{reference.path}:{','.join(actions)}"
        return Repository(reference, lambda: self._connect(host, f"/v2/{reference.path}/", credentials, [scope], waiting))

    async def log_in(self, host: str, credentials: Credentials) -> str:
        """Try credentials at a registry; gives the identity token that its token service may hand out, else "".

        Raises Unauthorized when they are refused, Unreachable when nobody answers as a registry would.
        """
        async with self._connect(host, "/v2/", credentials, (), unheard) as connection:
            return await connection.log_in()

    @asynccontextmanager
    async def _connect(
        self, host: str, base: str, credentials: Credentials, scopes: Sequence[str], waiting: OnWaiting
    ) -> AsyncIterator[Connection]:
        routes: list[Route] = []
        try:
            for endpoint in endpoints_of(host, insecure=await self._is_insecure(host)):
                routes.append(Route(endpoint, self._session(endpoint), Authorizer(endpoint, credentials, scopes)))
            yield Connection(routes, base, waiting)
        finally:
            for route in routes:
                await route.session.close()

    def _session(self, endpoint: Endpoint) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=tls_context(endpoint, self._certificates), limit=0),
            headers={"User-Agent": self._user_agent},
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=60),
            read_bufsize=_READ_BYTES,
            # Not from the environment: that would add the credentials of somebody's ~/.netrc.
            trust_env=False,
        )

    async def _is_insecure(self, host: str) -> bool:
        if self._insecure.names(host):
            return True
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._timeout_s):
                found = await loop.getaddrinfo(host_name(host), None, type=socket.SOCK_STREAM)
        except (OSError, TimeoutError, UnicodeError):
            return False
        return self._insecure.contains(str(entry[4][0]) for entry in found)
