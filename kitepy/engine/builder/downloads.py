"""``ADD https://…``: fetches one file over HTTP; what becomes of it is for copying to do."""

from __future__ import annotations

import asyncio
import email.utils
import hashlib
import os
import posixpath
import re
from urllib.parse import unquote, urlsplit

import aiohttp

from kitepy.engine.model.errors import InvalidParameter, SystemFailure, Unsupported

_GIT = re.compile(r"(?:git@|git://|ssh://)|https?://.+\.git(?:[#?].*)?$")
_CHUNK = 1 << 18
_CONNECT_TIMEOUT_S = 30
_STALL_TIMEOUT_S = 60
_MAX_BYTES = 64 << 30
_CHECKSUM = re.compile(r"(sha256|sha384|sha512):([0-9a-f]{64,128})")


def is_url(source: str) -> bool:
    """Whether a source of ADD is not in the context."""
    return source.startswith(("http://", "https://")) or _GIT.match(source) is not None


async def fetch(url: str, directory: str, destination: str, checksum: str) -> str:
    """Fetch into a new directory; gives the file's name there. Mode 0600, and the server's Last-Modified as its time."""
    if _GIT.match(url):
        raise Unsupported(f"ADD {url}: git repositories can't be added yet; clone in a RUN instead")
    name = _file_name(url, destination)
    expected = _CHECKSUM.fullmatch(checksum)
    if checksum and expected is None:
        raise InvalidParameter(f"unsupported checksum {checksum}: use sha256: and 64 hexadecimal digits")
    await asyncio.to_thread(os.mkdir, directory, 0o700)
    path = os.path.join(directory, name)
    digest = hashlib.new(expected[1] if expected else "sha256")
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT_S, sock_read=_STALL_TIMEOUT_S)
    try:
        async with aiohttp.ClientSession(timeout=timeout, trust_env=True, auto_decompress=False) as session:
            async with session.get(url, headers={"Accept-Encoding": "identity"}) as response:
                if response.status >= 400:
                    raise InvalidParameter(f"{url}: the server answered {response.status} {response.reason}")
                fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                with open(fd, "wb") as stream:
                    async for piece in response.content.iter_chunked(_CHUNK):
                        await asyncio.to_thread(stream.write, piece)
                        digest.update(piece)
                        if stream.tell() > _MAX_BYTES:
                            raise InvalidParameter(f"{url}: larger than {_MAX_BYTES >> 30} GiB")
                _set_time(path, response.headers.get("Last-Modified"))
    except (aiohttp.ClientError, TimeoutError) as error:
        raise InvalidParameter(f"{url}: {error or 'the server does not answer'}") from error
    except OSError as error:
        raise SystemFailure(f"cannot store {url}: {error.strerror}") from error
    if expected and digest.hexdigest() != expected[2]:
        raise InvalidParameter(f"{url}: digest mismatch {expected[1]}:{digest.hexdigest()}: {checksum}")
    return name


def _file_name(url: str, destination: str) -> str:
    name = posixpath.basename(unquote(urlsplit(url).path).rstrip("/"))
    if name in ("", ".", "..") or "\0" in name:
        if destination.endswith("/"):
            raise InvalidParameter(f"cannot determine filename from url: {url}")
        return "download"
    return name


def _set_time(path: str, last_modified: str | None) -> None:
    try:
        modified = email.utils.parsedate_to_datetime(last_modified).timestamp() if last_modified else 0.0
    except ValueError:
        modified = 0.0
    os.utime(path, (modified, modified))
