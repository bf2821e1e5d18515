"""One request with its redirects, none of which takes credentials to another host, or anything from TLS to none."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from urllib.parse import urljoin, urlsplit

import aiohttp
from yarl import URL

from kitepy.engine.distribution.failures import RedirectRefused, Unreachable, asking, connection_failure, shown
from kitepy.engine.distribution.transport import Transport

_MOST = 10
_STATUSES = (301, 302, 303, 307, 308)
_SECRETS = ("authorization", "cookie")


@asynccontextmanager
async def followed(
    transport: Transport, method: str, url: str, headers: Mapping[str, str], data: Any = None, *, spoken: str | None = None
) -> AsyncIterator[aiohttp.ClientResponse]:
    """An answer that is no redirect, whatever its status; raises Unreachable. Bodies are never sent to where a redirect leads.

    ``spoken`` is the method's name in messages, when it shall be another; empty leaves method and address out of them.
    """
    spoken = method if spoken is None else spoken
    begun = origin(url)
    named = url
    async with AsyncExitStack() as stack:
        for _ in range(_MOST):
            try:
                answer = await stack.enter_async_context(transport.request(method, url, headers, data))
            except (aiohttp.ClientError, OSError, ValueError) as error:
                raise connection_failure(spoken, named, error) from None
            location = answer.headers.get("Location")
            if answer.status not in _STATUSES or location is None or data is not None:
                yield answer
                return
            try:
                target = urljoin(url, location)
                scheme, host, leaves = urlsplit(target).scheme, urlsplit(target).hostname, origin(target) != begun
            except ValueError:
                raise Unreachable(f"{asking(spoken, shown(url))}it redirects to what is no address") from None
            named = location if location.startswith("/") else shown(target)
            if scheme not in ("https", "http") or not host:
                raise Unreachable(f'{asking(spoken, named)}unsupported protocol scheme "{scheme}"')
            if urlsplit(url).scheme == "https" and scheme != "https" and transport.secure:
                raise RedirectRefused(f"{asking(spoken, shown(url))}it redirects from TLS to {shown(target)}")
            if leaves:
                headers = {name: value for name, value in headers.items() if name.lower() not in _SECRETS}
            await answer.release()
            url = target
        raise RedirectRefused(f"{asking(spoken, named)}stopped after {_MOST} redirects")


async def read_short(answer: aiohttp.ClientResponse, limit_bytes: int) -> bytes:
    """A body that is short by its nature; raises Unreachable when it isn't."""
    pieces: list[bytes] = []
    size = 0
    url = shown(str(answer.url))
    try:
        async for piece in answer.content.iter_any():
            size += len(piece)
            if size > limit_bytes:
                raise Unreachable(f'{answer.method.title()} "{url}": the answer is longer than {limit_bytes} bytes')
            pieces.append(piece)
    except (aiohttp.ClientError, OSError) as error:
        raise connection_failure(answer.method, url, error) from None
    return b"".join(pieces)


def origin(url: str | URL) -> tuple[str, str | None, int | None]:
    """What two addresses share that belong to one server (RFC 6454); nothing belongs to what is no address."""
    try:
        parts = URL(str(url))
        return parts.scheme, parts.host, parts.port
    except ValueError:
        return "", None, None
