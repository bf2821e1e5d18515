"""One repository of a registry: its manifests, blobs and tags, read and written over connections that are kept for it.

Resuming a blob is left to its reader, who knows what it has: ``open_blob`` takes the offset to go on from.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from urllib.parse import urlencode

import aiohttp
from yarl import URL

from kitepy.engine.distribution.answers import json_problem
from kitepy.engine.distribution.connection import Connection
from kitepy.engine.distribution.failures import (
    CutOff,
    RegistryError,
    Unreachable,
    WrongManifest,
    connection_failure,
    pull_error,
    shown,
)
from kitepy.engine.distribution.redirects import read_short
from kitepy.engine.distribution.uploads import Retrying, Sent, Source, Upload, place_of
from kitepy.engine.model.errors import EngineError, InvalidParameter, NotFound, SystemFailure
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

MANIFEST_TYPES = (DOCKER_MANIFEST, DOCKER_MANIFEST_LIST, OCI_INDEX, OCI_MANIFEST)
SCHEMA_1_TYPES = (
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
    "application/vnd.docker.distribution.manifest.v1+json",
)
LARGEST_MANIFEST = 4 << 20
_LARGEST_PAGE = 16 << 20
_MOST_PAGES = 1_000
_LARGEST_SURPLUS = 64 << 20
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-")


@dataclass(frozen=True)
class FetchedManifest:
    """A manifest or an index as the registry has it; ``digest`` is that of ``raw``."""

    raw: bytes
    media_type: str
    """As the registry says, or else as the document itself does."""
    digest: Digest


def refuse_schema_1(fetched: FetchedManifest, reference: Reference) -> None:
    """Raise InvalidParameter for a manifest of the kind that nobody should use any more, worded as dockerd does."""
    if fetched.media_type in SCHEMA_1_TYPES:
        raise InvalidParameter(
            "Docker Image Format v1 and Docker Image manifest version 2, schema 1 support has been removed. "
            f"Suggest the author of {reference.familiar} to upgrade the image to the OCI Format or Docker Image manifest v2, "
            "schema 2. More information at https://docs.docker.com/go/deprecated-image-specs/"
        )


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
            # What came before the cut, and waits to be read, is good; there is no public way to get it.
            if rest := self._answer.content._read_nowait(-1)[: self.size - position]:
                yield rest
            raise connection_failure("GET", shown(str(self._answer.url)), error) from None
        if position != self.size:
            raise CutOff(f"the blob ended after {position} of {self.size} bytes: unexpected EOF")


class Repository:
    """Use it as an asynchronous context manager; many tasks may use it at once.

    A blob that is being read when the context is left may be read to its end: somebody else may want it, too.
    """

    def __init__(self, reference: Reference, connect: Callable[[], AbstractAsyncContextManager[Connection]]) -> None:
        self.reference = reference
        self._connecting = connect()
        self._connection: Connection | None = None
        self._streams = 0
        """Blobs that are being read."""
        self._left = False
        self._uploads: dict[Digest, URL] = {}
        """Uploads that the registry began where a blob couldn't be mounted."""

    async def __aenter__(self) -> Repository:
        self._connection = await self._connecting.__aenter__()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._left = True
        if not self._streams:
            await self._close()

    async def _close(self) -> None:
        self._connection = None
        await self._connecting.__aexit__(None, None, None)

    @property
    def _open(self) -> Connection:
        assert self._connection is not None, "the repository is used outside of its context"
        return self._connection

    async def reach(self) -> None:
        """Find the way to the registry, which is otherwise left to the first request; raises Unreachable."""
        await self._open.reach()

    # manifests

    async def manifest(self, ref: str, accept: Sequence[str] = MANIFEST_TYPES, *, plainly: bool = False) -> FetchedManifest:
        """What a tag or digest stands for; raises NotFound. Refusals are worded for a pull, or ``plainly`` as they came."""
        headers = {"Accept": ", ".join(accept)}
        spoken = "GET" if ":" in ref else "HEAD"  # dockerd looks for tags first, and its users see that in messages
        try:
            async with self._open.request("GET", f"manifests/{ref}", headers=headers, spoken=spoken) as answer:
                raw = await read_short(answer, LARGEST_MANIFEST)
                media_type = answer.headers.get("Content-Type", "").partition(";")[0].strip()
        except EngineError as error:
            raise error if plainly else pull_error(error, self._named(ref)) from None
        digest = digest_of(raw)
        if ":" in ref:
            _check_content(raw, ref)
        return FetchedManifest(raw, _checked_type(raw, media_type), digest)

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
            digest, size, media_type = "", None, ""  # the answer to GET tells why
        except Unreachable:
            digest, size, media_type = "", None, ""  # some answer HEAD with a body, which nobody can make sense of
        if digest and size is not None and media_type in MANIFEST_TYPES:
            try:
                return Descriptor(media_type, Digest(check_digest(digest)), size)
            except InvalidParameter as error:
                raise SystemFailure(f"the registry gives no valid digest: {error}") from None
        try:
            fetched = await self.manifest(ref)
        except NotFound:
            return None
        return Descriptor(fetched.media_type, fetched.digest, len(fetched.raw))

    async def put_manifest(self, ref: str, raw: bytes, media_type: str) -> Digest:
        """Write a manifest or an index whose parts are there already."""
        async with self._open.request("PUT", f"manifests/{ref}", headers={"Content-Type": media_type}, data=raw, spoken=""):
            return digest_of(raw)

    # blobs

    def open_blob(self, digest: Digest, size: int, offset: int = 0) -> AbstractAsyncContextManager[BlobStream]:
        """The blob's bytes, from an offset on where the registry can do that. Nobody has verified them."""
        return self._open_blob(digest, size, offset)

    @asynccontextmanager
    async def _open_blob(self, digest: Digest, size: int, offset: int) -> AsyncIterator[BlobStream]:
        self._streams += 1
        try:
            headers = {"Accept-Encoding": "identity"}
            if offset:
                headers["Range"] = f"bytes={offset}-"
            async with self._open.request("GET", f"blobs/{digest}", headers=headers) as answer:
                begin = 0
                if answer.status == 206:
                    found = _CONTENT_RANGE.match(answer.headers.get("Content-Range", ""))
                    begin = int(found[1]) if found else offset
                    if begin > offset:
                        raise SystemFailure(f"the registry sends bytes from {begin} on instead of from {offset}")
                # What the registry says counts for more than what a manifest does: there are wrong ones, and the digest decides.
                length = answer.content_length
                whole = size if length is None else begin + length
                if whole > max(size, 0) + _LARGEST_SURPLUS:
                    raise SystemFailure(f"the registry has {whole} bytes for a blob of {size}")
                yield BlobStream(answer, begin, whole)
        finally:
            self._streams -= 1
            if self._left and not self._streams:
                await self._close()

    async def head_blob(self, digest: Digest) -> int | None:
        """The size of a blob; None when it is not there, or the registry doesn't say."""
        try:
            try:
                return await self._blob_size("HEAD", digest)
            except Unreachable:
                return await self._blob_size("GET", digest)  # some answer HEAD with a body
        except RegistryError as error:
            if error.status < 500 and error.status != 429:
                return None
            raise

    async def _blob_size(self, method: str, digest: Digest) -> int:
        headers = {"Accept-Encoding": "identity"}
        async with self._open.request(method, f"blobs/{digest}", headers=headers, spoken="") as answer:
            return answer.content_length or 0

    async def mount_blob(self, digest: Digest, from_repository: str) -> bool:
        """Take a blob over from another repository (its path) of the registry; False when the registry wants it uploaded."""
        query = urlencode({"mount": digest, "from": from_repository})
        scopes = [f"repository:{from_repository}:pull"]
        headers = {"Content-Length": "0"}
        async with self._open.request("POST", f"blobs/uploads/?{query}", headers=headers, scopes=scopes, spoken="") as answer:
            if answer.status == 201:
                return True
            self._uploads[digest] = place_of(answer)
            return False

    async def upload_blob(
        self,
        digest: Digest | Callable[[], Digest],
        size: int | None,
        source: Source,
        sent: Sent,
        chunk_bytes: int | None = None,
        retrying: Retrying | None = None,
    ) -> None:
        """Write a blob, in one request or in chunks; goes on where the registry stopped listening.

        A blob that is made while it is sent has no ``size``, and a function that gives its digest when ``source`` has ended;
        it is sent as one chunk.
        """
        place = None if callable(digest) else self._uploads.pop(digest, None)
        await Upload(self._open, digest, size, source, sent, chunk_bytes, retrying).run(place)

    # tags

    async def tags(self, *, page_size: int | None = None, last: str = "") -> AsyncIterator[list[str]]:
        """The names of the tags after ``last``, a page at a time; raises NotFound."""
        query = ({"n": str(page_size)} if page_size is not None else {}) | ({"last": last} if last else {})
        path = f"tags/list?{urlencode(query)}" if query else "tags/list"
        try:
            async for names in pages(self._open, path, "tags"):
                yield names
        except RegistryError as error:
            raise pull_error(error, self.reference) from None

    def _named(self, ref: str) -> Reference:
        digest = ref if ":" in ref else None
        return Reference(self.reference.domain, self.reference.path, None if digest else ref, digest)


async def pages(connection: Connection, path: str, key: str) -> AsyncIterator[list[str]]:
    """The lists of strings below ``key`` in an answer and in those that it links to as the next ones (RFC 8288)."""
    seen = set()
    for _ in range(_MOST_PAGES):
        seen.add(path)
        async with connection.request("GET", path) as answer:
            raw = await read_short(answer, _LARGEST_PAGE)
            try:
                following = next((str(link.get("url")) for name, link in answer.links.items() if name == "next"), None)
            except ValueError:
                following = None  # it leads nowhere
        yield _names(raw, key)
        if following is None or following in seen:
            return
        path = following
    raise SystemFailure(f"the registry has more than {_MOST_PAGES} pages of {key}")


def _names(raw: bytes, key: str) -> list[str]:
    try:
        found = json.loads(raw)[key] or []
    except (ValueError, RecursionError, KeyError, TypeError):
        raise SystemFailure(f"the registry's answer has no {key}") from None
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise SystemFailure(f"the registry's answer has no valid {key}")
    return found


def _check_content(raw: bytes, wanted: str) -> None:
    """Raises SystemFailure when bytes are not what a digest stands for."""
    algorithm, _, encoded = check_digest(wanted).partition(":")
    if hashlib.new(algorithm, raw).hexdigest() != encoded:
        raise WrongManifest(f"manifest verification failed for digest {wanted}")


def _checked_type(raw: bytes, media_type: str) -> str:
    """The type of a manifest; raises SystemFailure for what is none."""
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError):
        problem = json_problem(raw)
        prefix = "" if media_type in MANIFEST_TYPES else "error unmarshalling content: "
        raise SystemFailure(f"{prefix}{problem}") from None
    if not isinstance(document, dict):
        raise SystemFailure("error unmarshalling content: the manifest is no JSON object")
    own = document.get("mediaType") or ""
    if media_type in SCHEMA_1_TYPES or document.get("schemaVersion") == 1:
        if not document.get("signatures"):
            raise SystemFailure("missing signature key")
        return SCHEMA_1_TYPES[0]
    if media_type in MANIFEST_TYPES:
        if own != media_type and (own or media_type in (DOCKER_MANIFEST, DOCKER_MANIFEST_LIST)):
            raise SystemFailure(f"mediaType in manifest should be '{media_type}' not '{own}'")
        return media_type
    if own in MANIFEST_TYPES:
        return str(own)
    raise SystemFailure("missing signature key")  # dockerd takes it for a manifest of the oldest kind, and says this
