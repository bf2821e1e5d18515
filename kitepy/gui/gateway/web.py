"""Fetches a page that a container serves, for its preview card. Only reads, never runs; at most 64 KiB and three seconds."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from kitepy.gui.models.preview import Preview, excerpt_of, title_of

if TYPE_CHECKING:
    import aiohttp

_LIMIT_BYTES = 64 * 1024
_TIMEOUT_S = 3.0


async def fetch_preview(url: str) -> Preview:
    """Every failure is told in the result. Certificates aren't checked: a container's own is nearly always self-signed."""
    import aiohttp

    began = time.monotonic()
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, auto_decompress=True) as session,
            session.get(url, ssl=False, max_redirects=5, headers={"Accept": "text/html,*/*;q=0.8"}) as response,
        ):
            latency_ms = (time.monotonic() - began) * 1000
            body = await _read_some(response.content)
            content_type = response.headers.get("Content-Type", "")
            page = body.decode(response.charset or "utf-8", "replace")
            return Preview(
                url=url,
                status=response.status,
                reason=response.reason or "",
                title=title_of(page) if "html" in content_type else "",
                excerpt=excerpt_of(page, content_type),
                content_type=content_type.split(";")[0],
                server=response.headers.get("Server", ""),
                latency_ms=latency_ms,
                final_url=str(response.url),
            )
    except TimeoutError:
        return Preview(url, error="Nothing answered within three seconds.")
    except aiohttp.ClientConnectorError:
        return Preview(url, error="Nothing listens on this port yet.")
    except (aiohttp.ClientError, LookupError) as error:
        return Preview(url, error=f"It doesn't answer as a web page: {str(error) or type(error).__name__}.")


async def _read_some(content: aiohttp.StreamReader) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for chunk in content.iter_chunked(16 * 1024):
        parts.append(chunk)
        size += len(chunk)
        if size >= _LIMIT_BYTES:
            break
    return b"".join(parts)
