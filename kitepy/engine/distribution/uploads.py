"""Writes a blob to a registry, in one request or in chunks, and goes on where the registry stopped listening.

Protocol: OCI distribution-spec 1.1, "Pushing blobs": POST for a place, PATCH for pieces, PUT with the digest to finish; GET at
the place says how much has arrived.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing

import aiohttp
from yarl import URL

from kitepy.engine.distribution.connection import Connection
from kitepy.engine.distribution.failures import RefusedNotFound, RefusedUnauthorized, RegistryError, Unreachable
from kitepy.engine.model.errors import SystemFailure
from kitepy.engine.model.oci import Digest

Source = Callable[[int], AsyncIterator[bytes]]
"""A blob's bytes from an offset on; asked again with another offset when an upload has to go on from there."""
Sent = Callable[[int], None]
"""Told how many bytes the registry has been sent so far; may go back."""

Retrying = Callable[[float], None]
"""Told before a pause in seconds, after which a failed upload goes on."""

_ATTEMPTS = 5
_FIRST_PAUSE_S = 0.4
_RANGE = re.compile(r"(?:bytes=)?0-([0-9]{1,18})")
_OCTETS = "application/octet-stream"


class Upload:
    """One blob on its way. ``size`` may be None where it shows at the end only, and so may the digest be a function."""

    def __init__(
        self,
        connection: Connection,
        digest: Digest | Callable[[], Digest],
        size: int | None,
        source: Source,
        sent: Sent,
        chunk_bytes: int | None,
        retrying: Retrying | None = None,
    ) -> None:
        self._connection = connection
        self._digest = digest
        self._size = size
        self._source = source
        self._sent = sent
        self._chunk_bytes = chunk_bytes
        self._retrying = retrying
        self._place: URL | None = None
        self._arrived = 0
        self._best = 0
        self._renewed = False

    async def run(self, place: URL | None = None) -> None:
        """Do it. ``place`` is one that the registry has given already. Raises RegistryError and Unreachable."""
        self._place = place
        attempt = 0
        while True:
            attempt += 1
            try:
                await self._go_on()
                return
            except (Unreachable, RegistryError) as error:
                if isinstance(error, RefusedUnauthorized) and self._place is not None and not self._renewed:
                    self._renewed = True  # a token that went out of date while the blob was sent; there is a new one now
                elif not _worth_another(error) or attempt >= _ATTEMPTS:
                    raise
            pause_s = _FIRST_PAUSE_S * 2 ** (attempt - 1) * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load
            if self._retrying is not None:
                self._retrying(pause_s)
            await asyncio.sleep(pause_s)
            await self._look()
            if self._arrived > self._best:
                self._best, attempt = self._arrived, 0  # it gets on, so it will get there

    async def _go_on(self) -> None:
        if self._place is None:
            async with self._connection.request("POST", "blobs/uploads/", headers={"Content-Length": "0"}, spoken="") as answer:
                self._place = place_of(answer)
            self._arrived = 0
        size, digest = self._size, self._digest
        if self._chunk_bytes is None and size is not None and not callable(digest) and not self._arrived:
            headers = {"Content-Type": _OCTETS, "Content-Length": str(size)}
            await self._finish(digest, headers, _told(self._source(0), self._sent, 0) if size else b"")
            return
        while size is None or self._arrived < size:
            if not await self._patch():
                break
        await self._finish(digest() if callable(digest) else digest, {"Content-Length": "0"}, None)

    async def _patch(self) -> bool:
        """Send the next piece; False when it was the last one."""
        start = self._arrived
        position = start
        headers = {"Content-Type": _OCTETS}
        limit = self._chunk_bytes
        if self._size is not None:
            end = min(start + limit, self._size) if limit is not None else self._size
            headers |= {"Content-Length": str(end - start), "Content-Range": f"{start}-{end - 1}"}
            limit = end - start
        ended = True

        async def body() -> AsyncIterator[bytes]:
            nonlocal position, ended
            async with aclosing(self._source(start)) as pieces:  # type: ignore[type-var]  # a generator, or as good
                async for piece in pieces:
                    taken = piece if limit is None else piece[: start + limit - position]
                    yield taken
                    position += len(taken)
                    self._sent(position)
                    if limit is not None and position >= start + limit:
                        ended = False
                        return

        assert self._place is not None
        async with self._connection.request("PATCH", str(self._place), headers=headers, data=body(), spoken="") as answer:
            self._place = place_of(answer)
        self._arrived = position
        return not ended

    async def _finish(self, digest: Digest, headers: dict[str, str], data: AsyncIterator[bytes] | bytes | None) -> None:
        assert self._place is not None
        target = str(self._place.update_query({"digest": digest}))
        async with self._connection.request("PUT", target, headers=headers, data=data, spoken=""):
            self._place = None

    async def _look(self) -> None:
        """Learn how much the registry has; where it doesn't know the upload any more, begin a new one."""
        if self._place is None:
            self._arrived = 0
            return
        try:
            async with self._connection.request("GET", str(self._place)) as answer:
                found = _RANGE.fullmatch(answer.headers.get("Range", ""))
                # An empty upload is "0-0" as well as one of a single byte: sending that one again does no harm.
                self._arrived = int(found[1]) + 1 if found and found[1] != "0" else 0
                if "Location" in answer.headers:
                    self._place = place_of(answer)
            if not self._arrived or (self._size is not None and self._arrived > self._size):
                self._place, self._arrived = None, 0
        except (RegistryError, Unreachable):
            self._place, self._arrived = None, 0
        self._sent(self._arrived)


def place_of(answer: aiohttp.ClientResponse) -> URL:
    """Where an upload goes on."""
    location = answer.headers.get("Location")
    if not location:
        raise SystemFailure(f"{answer.url.host} names no place for the upload of a blob")
    try:
        place = answer.url.join(URL(location, encoded=True))
        if place.host and place.port:  # neither was read before
            return place
    except ValueError:
        pass
    raise SystemFailure(f"{answer.url.host} names no valid place for the upload of a blob")


def _worth_another(error: Unreachable | RegistryError) -> bool:
    if isinstance(error, RegistryError):
        return error.status in (408, 416, 429) or error.status >= 500 or isinstance(error, RefusedNotFound)
    return True


async def _told(pieces: AsyncIterator[bytes], sent: Sent, position: int) -> AsyncIterator[bytes]:
    async for piece in pieces:
        yield piece
        position += len(piece)
        sent(position)
