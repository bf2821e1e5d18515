"""One request with its redirects, none of which takes credentials to another host, or anything from TLS to none."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from urllib.parse import urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp

from kitepy.engine.distribution.failures import Unreachable, connection_failure, shown

_MOST = 10
_STATUSES = (301, 302, 303, 307, 308)


@asynccontextmanager
async def followed(
    session: aiohttp.ClientSession, method: str, url: str, headers: Mapping[str, str], data: Any = None, *, secure: bool
) -> AsyncIterator[aiohttp.ClientResponse]:
    """An answer that is no redirect, whatever its status; raises Unreachable. ``secure`` forbids the way from TLS to none."""
    begun = _origin(url)
    async with AsyncExitStack() as stack:
        for _ in range(_MOST + 1):
            try:
                answer = await stack.enter_async_context(
                    session.request(method, url, headers=headers, data=data, allow_redirects=False, proxy=_proxy_for(url))
                )
            except (aiohttp.ClientError, OSError, ValueError) as error:
                raise connection_failure(method, url, error) from None
            if answer.status not in _STATUSES or "Location" not in answer.headers:
                yield answer
                return
            target = urljoin(url, answer.headers["Location"])
            if data is not None or urlsplit(target).scheme not in ("https", "http"):
                raise Unreachable(f'{method.title()} "{shown(url)}": it redirects where credentials may not go')
            if urlsplit(url).scheme == "https" and urlsplit(target).scheme != "https" and secure:
                raise Unreachable(f'{method.title()} "{shown(url)}": it redirects from TLS to {shown(target)}')
            if _origin(target) != begun:
                headers = {name: value for name, value in headers.items() if name != "Authorization"}
            url = target
        raise Unreachable(f'{method.title()} "{shown(url)}": stopped after {_MOST} redirects')


async def read_short(answer: aiohttp.ClientResponse, limit_bytes: int) -> bytes:
    """A body that is short by its nature; raises Unreachable when it isn't."""
    pieces: list[bytes] = []
    size = 0
    url = str(answer.url)
    try:
        async for piece in answer.content.iter_any():
            size += len(piece)
            if size > limit_bytes:
                raise Unreachable(f'{answer.method.title()} "{shown(url)}": the answer is longer than {limit_bytes} bytes')
            pieces.append(piece)
    except (aiohttp.ClientError, OSError) as error:
        raise connection_failure(answer.method, url, error) from None
    return b"".join(pieces)


def _proxy_for(url: str) -> str | None:
    parts = urlsplit(url)
    if parts.hostname is None or proxy_bypass(parts.hostname):
        return None
    return getproxies().get(parts.scheme)


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port
