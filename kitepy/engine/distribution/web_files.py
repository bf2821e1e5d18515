"""Files of the web that clients name by address (``docker import http://…``): http and https only, worded as dockerd does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp

from kitepy.engine.distribution.failures import Unreachable, connection_failure
from kitepy.engine.distribution.redirects import followed
from kitepy.engine.distribution.transport import Transport
from kitepy.engine.model import errors

_LONGEST_COMPLAINT_BYTES = 4096
_KINDS: dict[int, type[errors.EngineError]] = {
    400: errors.InvalidParameter,
    401: errors.Unauthorized,
    403: errors.Forbidden,
    404: errors.NotFound,
    409: errors.Conflict,
    501: errors.Unsupported,
    503: errors.Unavailable,
}


@dataclass(frozen=True)
class WebFile:
    """An open download; ``size`` is what the server announces, -1 when it doesn't."""

    url: str
    size: int
    _answer: aiohttp.ClientResponse

    async def pieces(self) -> AsyncIterator[bytes]:
        """Its content; raises Unreachable when it breaks off."""
        try:
            async for piece in self._answer.content.iter_any():
                yield piece
        except (aiohttp.ClientPayloadError, ConnectionError):
            raise Unreachable("unexpected EOF") from None
        except (aiohttp.ClientError, OSError) as error:
            raise connection_failure("GET", self.url, error) from None


def check_address(text: str) -> str:
    """The whole address of what a client calls so, http if it says nothing; raises ``InvalidParameter`` or ``SystemFailure``."""
    url = text if "://" in text else f"http://{text}"
    quoted = '"' + url.replace('"', '\\"') + '"'
    if url.startswith(":"):
        raise errors.InvalidParameter(f"parse {quoted}: missing protocol scheme")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise errors.InvalidParameter(f"parse {quoted}: {error}") from None
    if any(character.isspace() or not character.isprintable() for character in url):
        raise errors.InvalidParameter(f"parse {quoted}: invalid character in address")
    if parts.scheme.lower() not in ("http", "https"):
        raise errors.SystemFailure(f'Get {quoted}: unsupported protocol scheme "{parts.scheme}"')
    if not host:
        raise errors.SystemFailure(f'Get "{parts.scheme}:": http: no Host in request URL')
    return url


@asynccontextmanager
async def open_web_file(transport: Transport, url: str) -> AsyncIterator[WebFile]:
    """Begin a download; raises the kind of the server's status when it has no such file."""
    async with followed(transport, "GET", url, {"Accept-Encoding": "identity"}) as answer:
        if answer.status >= 400:
            complaint = await answer.content.read(_LONGEST_COMPLAINT_BYTES)
            kind = _KINDS.get(answer.status, errors.InvalidParameter if answer.status < 500 else errors.SystemFailure)
            text = complaint.decode("utf-8", "replace")
            raise kind(f"failed to GET {url} with status {answer.status} {answer.reason}: {text}")
        yield WebFile(url, answer.content_length if answer.content_length is not None else -1, answer)
