"""Requests to one registry: finds a way to it, shows credentials to whom they belong, and tries again where that may help.

Who gets to see a password: the registry, when it asks for Basic; the token service that the registry names, when that is reached
over TLS, or the registry itself wasn't. Mirrors never do. No credential appears in a message or a log.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urljoin

import aiohttp

from kitepy.engine.distribution.answers import LONGEST_ERROR, registry_error, status_line
from kitepy.engine.distribution.authorization import Authorizer, without_authorization
from kitepy.engine.distribution.endpoints import Endpoint
from kitepy.engine.distribution.failures import (
    CutOff,
    RefusedRateLimited,
    RegistryError,
    Unreachable,
    connection_failure,
    without_secrets,
)
from kitepy.engine.distribution.redirects import followed, origin, read_short
from kitepy.engine.distribution.transport import Transport
from kitepy.engine.model.errors import EngineError, SystemFailure

logger = logging.getLogger(__name__)

PING_TIMEOUT_S = 15.0
_ATTEMPTS = 4
_MOST_DISAPPOINTMENTS = 2
"""Of a mirror; after that it isn't asked any more."""
_FIRST_PAUSE_S = 0.4
_TRANSIENT = (408, 500, 502, 503, 504)
_REPEATABLE = ("GET", "HEAD", "PUT", "POST")


@dataclass(frozen=True)
class Waiting:
    """A registry asked for patience, or failed, and is asked again by and by."""

    host: str
    seconds: float
    reason: str
    rate_limited: bool


OnWaiting = Callable[[Waiting], None]


def unheard(_: Waiting) -> None:
    """Nobody wants to know."""


@dataclass
class Way:
    """An endpoint with what reaches it."""

    endpoint: Endpoint
    transport: Transport
    authorizer: Authorizer
    failure: EngineError | None = None
    """Why it is none."""
    known: bool = False
    disappointments: int = 0
    """How many of its answers turned out to be no good when they were read."""
    finding: asyncio.Lock = field(default_factory=asyncio.Lock)


class Connection:
    """The ways to a registry and what is behind them; made by ``Registries``. Many tasks may use it at once."""

    def __init__(self, ways: Sequence[Way], base: str, waiting: OnWaiting = unheard, *, patience_s: float = 45.0) -> None:
        """``base`` is the path that requests are beneath, with a slash at its end.

        No request waits for longer than ``patience_s`` in all, be it that the registry wants to be left alone.
        """
        self._ways = list(ways)
        self._base = base
        self._waiting = waiting
        self._patience_s = patience_s

    @asynccontextmanager
    async def request(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        data: Any = None,
        scopes: Sequence[str] = (),
        spoken: str | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """An answer below 400, its body not yet read; raises RegistryError and Unreachable.

        ``path`` may also be a whole address that the registry gave. ``scopes`` are asked for besides the connection's own.
        ``spoken`` is as in ``followed``. Requests whose ``data`` is bytes, or that have none, are repeated where that may help.
        """
        async with AsyncExitStack() as stack:
            way, answer = await self._ask(
                stack, method, path, dict(headers or {}), data, scopes, method if spoken is None else spoken
            )
            try:
                yield answer
            except EngineError:
                way.disappointments += 1
                raise

    async def reach(self) -> None:
        """Find a way; raises Unreachable when there is none."""
        failure: EngineError | None = None
        for way in self._ways:
            try:
                await self._find(way)
                return
            except EngineError as error:
                failure = error
        assert failure is not None
        raise failure

    async def log_in(self) -> str:
        """Show the credentials and nothing else; gives the identity token that is got for them."""
        failure: EngineError | None = None
        for way in self._ways:
            url = f"{way.endpoint.url}/v2/"
            try:
                await self._find(way)
                async with self._once(way, "GET", url, {}, None, (), "GET") as answer:
                    if answer.status != 200:
                        raise SystemFailure(f"login attempt to {url} failed with status: {status_line(answer.status)}")
                    return way.authorizer.identity_token
            except Unreachable as error:
                failure = error
                if way.known:
                    break  # the registry is there; plain HTTP would only show the password to more people
        assert failure is not None
        raise failure

    async def _ask(
        self,
        stack: AsyncExitStack,
        method: str,
        path: str,
        headers: dict[str, str],
        data: Any,
        scopes: Sequence[str],
        spoken: str,
    ) -> tuple[Way, aiohttp.ClientResponse]:
        failure: EngineError | None = None
        for way in self._ways:
            if way.endpoint.mirror and way.disappointments >= _MOST_DISAPPOINTMENTS:
                continue
            try:
                await self._find(way)
                url = _joined(f"{way.endpoint.url}{self._base}", path)
                return way, await self._persistently(stack, way, method, url, headers, data, scopes, spoken)
            except EngineError as error:
                if not way.endpoint.mirror and (way.known or not isinstance(error, Unreachable)):
                    raise
                if way.endpoint.mirror:
                    logger.info("the mirror %s can't help: %s", way.endpoint.host, error)
                failure = error
        assert failure is not None
        raise failure

    async def _find(self, way: Way) -> None:
        """Ask an endpoint who it lets in; raises Unreachable when nobody answers there."""
        async with way.finding:
            if way.failure is not None:
                raise way.failure
            if way.known:
                return
            patient = bool(self._patience_s) and not way.endpoint.mirror
            for attempt in range(_ATTEMPTS if patient else 1):
                if attempt:
                    await asyncio.sleep(_FIRST_PAUSE_S * attempt)
                way.failure = await self._ping(way)
                if not isinstance(way.failure, CutOff):
                    break
            if way.failure is not None:
                raise way.failure
            way.known = True

    @staticmethod
    async def _ping(way: Way) -> Unreachable | None:
        url = f"{way.endpoint.url}/v2/"
        try:
            async with asyncio.timeout(PING_TIMEOUT_S), followed(way.transport, "GET", url, {}) as answer:
                if origin(answer.url) == origin(url):
                    way.authorizer.hear(answer.headers.getall("WWW-Authenticate", []))
                await read_short(answer, LONGEST_ERROR)
        except TimeoutError as error:
            return connection_failure("GET", url, error)
        except Unreachable as error:
            return error
        return None

    async def _persistently(
        self,
        stack: AsyncExitStack,
        way: Way,
        method: str,
        url: str,
        headers: dict[str, str],
        data: Any,
        scopes: Sequence[str],
        spoken: str,
    ) -> aiohttp.ClientResponse:
        repeatable = (data is None or isinstance(data, bytes)) and method in _REPEATABLE and not way.endpoint.mirror
        attempt, waited_s = 0, 0.0
        while True:
            attempt += 1
            inner = AsyncExitStack()
            try:
                answer = await inner.enter_async_context(self._once(way, method, url, headers, data, scopes, spoken))
                if answer.status >= 400:
                    raise await _refusal(answer, way.authorizer.secrets)
            except (RegistryError, CutOff) as error:
                await inner.aclose()
                pause_s = (
                    self._pause_s(error, attempt, self._patience_s - waited_s) if repeatable and attempt < _ATTEMPTS else None
                )
                if pause_s is None:
                    raise
                self._waiting(Waiting(way.endpoint.host, pause_s, str(error), isinstance(error, RefusedRateLimited)))
                logger.info("asking %s again in %.1f s: %s", way.endpoint.host, pause_s, error)
                await asyncio.sleep(pause_s)
                waited_s += pause_s
            except BaseException:
                await inner.aclose()
                raise
            else:
                stack.push_async_exit(inner)
                return answer

    @staticmethod
    def _pause_s(error: RegistryError | CutOff, attempt: int, patience_s: float) -> float | None:
        """How long to wait before the next attempt; None when it wouldn't help."""
        backoff_s = _FIRST_PAUSE_S * 2 ** (attempt - 1) * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, hides nothing
        if isinstance(error, CutOff):
            return backoff_s if backoff_s <= patience_s else None
        if error.status != 429 and error.status not in _TRANSIENT:
            return None
        pause_s = backoff_s if error.retry_after_s is None else max(error.retry_after_s, backoff_s / 4)
        return pause_s if pause_s <= patience_s else None

    @asynccontextmanager
    async def _once(
        self, way: Way, method: str, url: str, headers: dict[str, str], data: Any, scopes: Sequence[str], spoken: str
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One request, shown credentials as asked for; twice when the first shown ones are out of date."""
        ours = origin(url) == origin(way.endpoint.url)
        async with AsyncExitStack() as stack:
            shown = await self._authorization(way, url, scopes, spoken) if ours else ""
            answer = await stack.enter_async_context(
                followed(way.transport, method, url, headers | _header(shown), data, spoken=spoken)
            )
            if ours and answer.status == 401 and origin(answer.url) == origin(url):
                way.authorizer.hear(answer.headers.getall("WWW-Authenticate", []))
                better = await self._better(way, scopes, shown)
                # What can't be sent again is its sender's matter, who has a better token the next time.
                if better and better != shown and (data is None or isinstance(data, bytes)):
                    await answer.release()
                    answer = await stack.enter_async_context(
                        followed(way.transport, method, url, headers | _header(better), data, spoken=spoken)
                    )
            yield answer

    async def _authorization(self, way: Way, url: str, scopes: Sequence[str], spoken: str) -> str:
        try:
            return await way.authorizer.authorization(way.transport, scopes)
        except EngineError as error:
            raise without_authorization(error, spoken, url) from None

    @staticmethod
    async def _better(way: Way, scopes: Sequence[str], shown: str) -> str:
        try:
            return await way.authorizer.authorization(way.transport, scopes, refused=shown)
        except EngineError as error:
            logger.info("no other way to be let in by %s: %s", way.endpoint.host, error)
            return ""


def _joined(base: str, path: str) -> str:
    try:
        return urljoin(base, path)
    except ValueError:
        raise Unreachable(f"{base}: the registry names an address that is none") from None


def _header(authorization: str) -> dict[str, str]:
    return {"Authorization": authorization} if authorization else {}


async def _refusal(answer: aiohttp.ClientResponse, secrets: Sequence[str]) -> RegistryError:
    body = b"" if answer.method == "HEAD" else await read_short(answer, LONGEST_ERROR)
    error = registry_error(answer.status, answer.headers, body, answer.headers.getall("WWW-Authenticate", []))
    return without_secrets(error, secrets)
