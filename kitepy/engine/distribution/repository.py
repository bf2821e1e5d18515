"""One repository of a registry: its manifests, blobs and tags, read and written over connections that are kept for it.

Resuming a blob is left to its reader, who knows what it has: ``open_blob`` takes the offset to go on from.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from urllib.parse import urlencode

import aiohttp
from yarl import URL

from kitepy.engine.distribution.connection import Connection
from kitepy.engine.distribution.failures import CutOff, RegistryError, connection_failure, pull_error
from kitepy.engine.distribution.redirects import read_short
from kitepy.engine.model.errors import EngineError, SystemFailure
from kitepy.engine.model.oci import (
    DOCKER_MANIFEST,
    DOCKER_MANIFEST_LIST,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    Digest,
    digest_of,
)
from kitepy.engine.model.reference import Reference, check_digest

MANIFEST_TYPES = (DOCKER_MANIFEST, DOCKER_MANIFEST_LIST, OCI_MANIFEST, OCI_INDEX)
LARGEST_MANIFEST = 4 << 20
_MOST_PAGES = 10_000

Source = Callable[[int], AsyncIterator[bytes]]
"""A blob's bytes from an offset on; asked again with another offset when an upload has to go on from there."""
Sent = Callable[[int], None]
"""Told how many bytes the registry has been sent so far; may go back."""


@dataclass(frozen=True)
class FetchedManifest:
    """A manifest or an index as the registry has it; ``digest`` is that of ``raw``."""

    raw: bytes
    media_type: str
    digest: Digest


class BlobStream:
    """The bytes of a blob as they come; iterating raises CutOff when they stop coming before the end."""

    def __init__(self, answer: aiohttp.ClientResponse, offset: int, size: int) -> None:
        self.offset = offset
        """Where the bytes begin: 0 also where another offset was wished and the registry can't do it."""
        self.size = size
        """The whole blob's."""
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        position = self.offset
        try:
            async for piece in self._answer.content.iter_any():
                position += len(piece)
                if position > self.size:
                    raise SystemFailure(f"the registry sends more than the {self.size} bytes of the blob")
                yield piece
        except (aiohttp.ClientError, OSError) as error:
            raise connection_failure("GET", str(self._answer.url), error) from None
        if position != self.size:
            raise CutOff(f"the blob ended after {position} of {self.size} bytes")


class Repository:
    """Use it as an asynchronous context manager; many tasks may use it at once."""

    def __init__(self, reference: Reference, connect: Callable[[], AbstractAsyncContextManager[Connection]]) -> None:
        self.reference = reference
        self._connecting = connect()
        self._connection: Connection | None = None
        self._uploads: dict[Digest, URL] = {}
        """Uploads that the registry began where a blob couldn't be mounted."""

    async def __aenter__(self) -> Repository:
        self._connection = await self._connecting.__aenter__()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._connecting.__aexit__(kind, error, trace)

    @property
    def _open(self) -> Connection:
        assert self._connection is not None, "the repository is used outside of its context"
        return self._connection

    # manifests

    async def manifest(self, ref: str, accept: Sequence[str] = MANIFEST_TYPES) -> FetchedManifest:
        """What a tag or digest stands for; raises NotFound."""
        headers = {"Accept": ", ".join(accept)}
        try:
            async with self._open.request("GET", f"manifests/{ref}", headers=headers) as answer:
                raw = await read_short(answer, LARGEST_MANIFEST)
                media_type = answer.headers.get("Content-Type", "").partition(";")[0].strip()
        except EngineError as error:
            raise pull_error(error, self._named(ref)) from None
        digest = digest_of(raw)
        if ":" in ref and digest != check_digest(ref):
            raise SystemFailure(f"manifest verification failed for digest {ref}")
        return FetchedManifest(raw, media_type, digest)

    async def head_manifest(self, ref: str) -> Descriptor | None:
        """What a tag or digest stands for, without fetching it; None when there is no such thing."""
        headers = {"Accept": ", ".join(MANIFEST_TYPES)}
        try:
            async with self._open.request("HEAD", f"manifests/{ref}", headers=headers) as answer:
                media_type = answer.headers.get("Content-Type", "").partition(";")[0].strip()
                digest, size = answer.headers.get("Docker-Content-Digest", ""), answer.content_length
        except RegistryError as error:
            if error.status == 404:
                return None
            raise pull_error(error, self._named(ref)) from None
        if not digest or size is None:
            fetched = await self.manifest(ref)  # a registry that doesn't say
            return Descriptor(fetched.media_type, fetched.digest, len(fetched.raw))
        return Descriptor(media_type, Digest(check_digest(digest)), size)

    async def put_manifest(self, ref: str, raw: bytes, media_type: str) -> Digest:
        """Write a manifest or an index whose parts are there already."""
        async with self._open.request("PUT", f"manifests/{ref}", headers={"Content-Type": media_type}, data=raw):
            return digest_of(raw)

    # blobs

    def open_blob(self, digest: Digest, size: int, offset: int = 0) -> AbstractAsyncContextManager[BlobStream]:
        """The blob's bytes, from an offset on where the registry can do that. Nobody has verified them."""
        return self._open_blob(digest, size, offset)

    @asynccontextmanager
    async def _open_blob(self, digest: Digest, size: int, offset: int) -> AsyncIterator[BlobStream]:
        headers = {"Accept-Encoding": "identity"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
        async with self._open.request("GET", f"blobs/{digest}", headers=headers) as answer:
            yield BlobStream(answer, offset if answer.status == 206 else 0, size)

    async def head_blob(self, digest: Digest) -> int | None:
        """The size of a blob; None when it is not there."""
        try:
            async with self._open.request("HEAD", f"blobs/{digest}", headers={"Accept-Encoding": "identity"}) as answer:
                return answer.content_length
        except RegistryError as error:
            if error.status == 404:
                return None
            raise

    async def mount_blob(self, digest: Digest, from_repository: str) -> bool:
        """Take a blob over from another repository of the registry; False when the registry wants it uploaded."""
        query = urlencode({"mount": digest, "from": from_repository})
        async with self._open.request("POST", f"blobs/uploads/?{query}") as answer:
            if answer.status == 201:
                return True
            self._uploads[digest] = self._location(answer)
            return False

    async def upload_blob(self, digest: Digest, size: int, source: Source, sent: Sent, chunk_bytes: int | None = None) -> None:
        """Write a blob, in one request or in chunks; goes on where the registry stopped listening."""
        if (location := self._uploads.pop(digest, None)) is None:
            async with self._open.request("POST", "blobs/uploads/") as answer:
                location = self._location(answer)
        if chunk_bytes is not None:
            position = 0
            while position < size:
                end = min(position + chunk_bytes, size)
                headers = {
                    "Content-Type": "application/octet-stream",
                    "Content-Length": str(end - position),
                    "Content-Range": f"{position}-{end - 1}",
                }
                piece = _counted(_bounded(source(position), end - position), sent, position)
                async with self._open.request("PATCH", str(location), headers=headers, data=piece) as answer:
                    location = self._location(answer)
                position = end
            async with self._open.request("PUT", str(location.update_query({"digest": digest})), headers={"Content-Length": "0"}):
                return
        target = location.update_query({"digest": digest})
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        async with self._open.request("PUT", str(target), headers=headers, data=_counted(source(0), sent, 0)):
            return

    # tags

    async def tags(self) -> AsyncIterator[list[str]]:
        """The names of the tags, a page at a time; raises NotFound."""
        path = "tags/list"
        for _ in range(_MOST_PAGES):
            try:
                async with self._open.request("GET", path) as answer:
                    raw = await read_short(answer, LARGEST_MANIFEST)
                    following = _next_page(answer)
            except EngineError as error:
                raise pull_error(error, self.reference) from None
            yield _names(raw, "tags")
            if following is None:
                return
            path = str(following)

    def _location(self, answer: aiohttp.ClientResponse) -> URL:
        location = answer.headers.get("Location")
        if not location:
            raise SystemFailure(f"{answer.url.host} names no place for the upload of a blob")
        return answer.url.join(URL(location, encoded=True))

    def _named(self, ref: str) -> Reference:
        digest = ref if ":" in ref else None
        return Reference(self.reference.domain, self.reference.path, None if digest else ref, digest)


async def _bounded(pieces: AsyncIterator[bytes], size: int) -> AsyncIterator[bytes]:
    async for piece in pieces:
        yield piece[:size]
        size -= len(piece)
        if size <= 0:
            return


async def _counted(pieces: AsyncIterator[bytes], sent: Sent, position: int) -> AsyncIterator[bytes]:
    async for piece in pieces:
        yield piece
        position += len(piece)
        sent(position)


def _names(raw: bytes, key: str) -> list[str]:
    """The list of strings below a key of a document; raises SystemFailure for anything else."""
    try:
        found = json.loads(raw)[key] or []
    except (ValueError, RecursionError, KeyError, TypeError):
        raise SystemFailure(f"the registry's answer has no {key}") from None
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise SystemFailure(f"the registry's answer has no valid {key}")
    return found


def _next_page(answer: aiohttp.ClientResponse) -> str | None:
    """RFC 8288: ``Link: <…>; rel="next"``."""
    for name, link in answer.links.items():
        if name == "next":
            return str(link.get("url"))
    return None
