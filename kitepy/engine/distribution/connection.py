"""Requests to one registry: finds a way to it, shows credentials to whom they belong, follows redirects, tries again.

Who gets to see a password: the registry, when it asks for Basic; the token service that the registry names, when that is reached
over TLS, or the registry itself wasn't. A redirect to another host never carries it. No credential appears in a message or a log.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin

import aiohttp

from kitepy.engine.distribution.authorization import Authorizer
from kitepy.engine.distribution.challenge import parse_challenges
from kitepy.engine.distribution.endpoints import Endpoint
from kitepy.engine.distribution.failures import RegistryError, Unreachable, registry_error, status_line
from kitepy.engine.distribution.redirects import followed, read_short
from kitepy.engine.model.errors import EngineError, Unauthorized

logger = logging.getLogger(__name__)

TIMEOUT_S = 15.0
_LONGEST_ERROR = 1 << 16


@dataclass(frozen=True)
class Route:
    """An endpoint with the open session that reaches it."""

    endpoint: Endpoint
    session: aiohttp.ClientSession
    authorizer: Authorizer

    def send(
        self, method: str, url: str, headers: Mapping[str, str] | None = None, data: Any = None
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """As ``followed``."""
        return followed(self.session, method, url, headers or {}, data, secure=self.endpoint.secure)


@dataclass(frozen=True)
class Waiting:
    """A registry asked for patience, or failed, and is asked again by and by."""

    host: str
    seconds: float
    reason: str


OnWaiting = Callable[[Waiting], None]


def unheard(_: Waiting) -> None:
    """Nobody wants to know."""


class Connection:
    """A way to a registry and what is behind it; made by ``Registries``."""

    def __init__(self, routes: Sequence[Route], base: str, waiting: OnWaiting = unheard) -> None:
        """``base`` is the path that requests are beneath, with a slash at its end."""
        self._routes = list(routes)
        self._base = base
        self._waiting = waiting
        self._found: Route | None = None
        self._finding = asyncio.Lock()

    @asynccontextmanager
    async def request(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, data: Any = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """An answer below 400, its body not yet read; raises RegistryError and Unreachable."""
        route = await self._route()
        url = urljoin(f"{route.endpoint.url}{self._base}", path)
        async with AsyncExitStack() as stack:
            answer = await stack.enter_async_context(self._authorized(route, method, url, dict(headers or {}), data))
            if answer.status >= 400:
                body = await read_short(answer, _LONGEST_ERROR)
                raise registry_error(answer.status, body, parse_challenges(answer.headers.getall("WWW-Authenticate", [])))
            yield answer

    async def log_in(self) -> str:
        """Show the credentials and nothing else; gives the identity token that is got for them."""
        try:
            async with asyncio.timeout(TIMEOUT_S), self.request("GET", "") as answer:
                await read_short(answer, _LONGEST_ERROR)
        except TimeoutError:
            raise Unreachable("the registry does not answer in time") from None
        except RegistryError as error:
            url = f"{(await self._route()).endpoint.url}/v2/"
            if error.status in (401, 403):
                raise Unauthorized(f'Get "{url}": {error}') from None
            raise Unreachable(f"login attempt to {url} failed with status: {status_line(error.status)}") from None
        return (await self._route()).authorizer.identity_token

    async def _route(self) -> Route:
        async with self._finding:
            if self._found is None:
                self._found = await self._find()
            return self._found

    async def _find(self) -> Route:
        failure: EngineError | None = None
        for route in self._routes:
            url = f"{route.endpoint.url}/v2/"
            try:
                async with (
                    asyncio.timeout(TIMEOUT_S),
                    route.send("GET", url) as answer,
                ):
                    route.authorizer.hear(answer.headers.getall("WWW-Authenticate", []))
                    if answer.status in (200, 401):
                        return route
                    raise registry_error(answer.status, await read_short(answer, _LONGEST_ERROR))
            except TimeoutError:
                failure = Unreachable(f'Get "{url}": net/http: request canceled while waiting for connection')
            except (Unreachable, RegistryError) as error:
                failure = error
        assert failure is not None
        raise failure

    @asynccontextmanager
    async def _authorized(
        self, route: Route, method: str, url: str, headers: dict[str, str], data: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        authorization = await route.authorizer.authorization(route.session)
        async with AsyncExitStack() as stack:
            answer = await stack.enter_async_context(
                followed(
                    route.session,
                    method,
                    url,
                    headers | ({"Authorization": authorization} if authorization else {}),
                    data,
                    secure=route.endpoint.secure,
                )
            )
            if answer.status == 401 and str(answer.url).startswith(route.endpoint.url):
                route.authorizer.hear(answer.headers.getall("WWW-Authenticate", []))
                again = await route.authorizer.authorization(route.session, refused=authorization)
                if again and again != authorization:
                    await read_short(answer, _LONGEST_ERROR)
                    answer = await stack.enter_async_context(
                        followed(
                            route.session, method, url, headers | {"Authorization": again}, data, secure=route.endpoint.secure
                        )
                    )
            yield answer
