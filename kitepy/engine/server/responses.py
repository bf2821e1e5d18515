"""Answers: JSON documents, nothing, streams that are flushed piece by piece, and the head of a raw conversation."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Generic, TypeVar
from urllib.parse import quote

import msgspec
from aiohttp import web
from multidict import CIMultiDict

from kitepy.engine.model.errors import Cancelled, EngineError
from kitepy.engine.server.api_version import ApiVersion
from kitepy.engine.server.call import Call
from kitepy.engine.server.common_headers import COMMON_HEADERS
from kitepy.engine.server.errors import UNEXPECTED, status_of
from kitepy.engine.server.splicing import Piped, plain_socket, send_chunks

logger = logging.getLogger(__name__)

Item = TypeVar("Item")

JSON = "application/json"
RAW_STREAM = "application/vnd.docker.raw-stream"
MULTIPLEXED_STREAM = "application/vnd.docker.multiplexed-stream"
TAR = "application/x-tar"
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""RFC 9110, 5.6.2"""
_MULTIPLEXED_SINCE = ApiVersion(1, 42)


def headers(content_type: str | None = None, extra: Mapping[str, str] | None = None) -> CIMultiDict[str]:
    """The headers that every answer carries."""
    result = CIMultiDict(COMMON_HEADERS)
    if content_type is not None:
        result["Content-Type"] = content_type
    if extra:
        result.update(extra)
    return result


def json_response(document: Any, status: int = 200) -> web.Response:
    """A document, with a line end as dockerd sends it."""
    return web.Response(body=msgspec.json.encode(document) + b"\n", status=status, headers=headers(JSON))


def empty_response(status: int = 204) -> web.Response:
    """Only a status."""
    return web.Response(status=status, headers=headers())


def redirect_response(path: str, query: str) -> web.Response:
    """The client is to ask again at a path."""
    location = quote(path, safe="/:@!$&'()*+,;=~") + (f"?{query}" if query else "")
    return web.Response(status=301, headers={"Location": location})


def error_response(status: int, message: str, extra: Mapping[str, str] | None = None) -> web.Response:
    """Docker's form of an error; 304 can't have a body."""
    if status == 304:
        return empty_response(304)
    return web.Response(body=msgspec.json.encode({"message": message}) + b"\n", status=status, headers=headers(JSON, extra))


def stream_type(tty: bool, version: ApiVersion) -> str:
    """The media type of a process's output: since API 1.42 it tells whether the stream has frames."""
    return MULTIPLEXED_STREAM if not tty and version >= _MULTIPLEXED_SINCE else RAW_STREAM


def hijack_head(call: Call, content_type: str) -> bytes:
    """The head that turns a connection into a raw stream: 101 when the client asked to upgrade, else 200.

    As dockerd has it, only those who upgrade are told by the type whether the stream has frames.
    """
    if "Upgrade" in call.request.headers:
        lines = ["HTTP/1.1 101 UPGRADED", f"Content-Type: {content_type}", "Connection: Upgrade", "Upgrade: tcp"]
    else:
        lines = ["HTTP/1.1 200 OK", f"Content-Type: {RAW_STREAM}"]
    lines += [f"{name}: {value}" for name, value in COMMON_HEADERS.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def websocket_head(call: Call, accept: str) -> bytes:
    """The head that turns a connection into a websocket; the client's subprotocol, if it names one, is as good as any."""
    protocol = call.request.headers.get("Sec-WebSocket-Protocol", "")
    lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Accept: {accept}"]
    if _TOKEN.fullmatch(protocol):
        lines.append(f"Sec-WebSocket-Protocol: {protocol}")
    lines += [f"{name}: {value}" for name, value in COMMON_HEADERS.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def begin_stream(call: Call, content_type: str | None, extra: Mapping[str, str] | None = None) -> web.StreamResponse:
    """Send the head of a chunked answer at once; the caller writes pieces, each of which goes out at once."""
    response = web.StreamResponse(status=200, headers=headers(content_type, extra))
    call.protocol.streaming = True
    await response.prepare(call.request)
    return response


async def stream_lines(call: Call, documents: AsyncIterator[Any]) -> web.StreamResponse:
    """Compact JSON documents, one a line, with the head sent at once since the first may be long in coming."""
    return await stream_bytes(call, JSON, Mapped(documents, lambda document: msgspec.json.encode(document) + b"\n"))


class Mapped(AsyncIterator[bytes], Generic[Item]):
    """Encodes the items of a source; unlike a generator its ``aclose`` closes the source even when nothing was read yet."""

    def __init__(self, source: AsyncIterator[Item], encode: Callable[[Item], bytes]) -> None:
        self._source = source
        self._encode = encode

    async def __anext__(self) -> bytes:
        return self._encode(await anext(self._source))

    async def aclose(self) -> None:
        await _close(self._source)


async def stream_bytes(
    call: Call,
    content_type: str | None,
    pieces: AsyncIterator[bytes],
    extra: Mapping[str, str] | None = None,
    *,
    head_first: bool = True,
) -> web.StreamResponse:
    """An answer made of pieces; an error amid them cuts the connection, so that a client can't take it for the end.

    With ``head_first`` the head is sent at once; else what is raised before the first piece becomes the answer's status.
    """
    response: web.StreamResponse | None = None
    try:
        socket_fd = plain_socket(call.request.transport) if isinstance(pieces, Piped) else None
        first = b"" if head_first or socket_fd is not None else await anext(pieces, b"")
        response = await begin_stream(call, content_type, extra)
        if isinstance(pieces, Piped) and socket_fd is not None and response.chunked:
            await call.protocol.flushed()
            await send_chunks(pieces.pipe_fd, socket_fd)
            await pieces.finish()
            return response
        if first:
            await response.write(first)
        async for piece in pieces:
            await response.write(piece)
    except ConnectionError:
        raise
    except Exception as error:
        if response is None:
            raise
        _log_failure(call, error)
        cut(call)
    finally:
        call.protocol.streaming = False
        await _close(pieces)
    return response


async def stream_progress(call: Call, documents: AsyncIterator[Any], *, head_first: bool = False) -> web.StreamResponse:
    """Progress messages, one a line: what is raised before the first becomes the status, later the last message.

    With ``head_first`` all errors are messages.
    """
    response: web.StreamResponse | None = None
    try:
        if head_first:
            response = await begin_stream(call, JSON)
        first = await anext(documents, None)
        response = response or await begin_stream(call, JSON)
        if first is not None:
            await response.write(msgspec.json.encode(first) + b"\r\n")
        async for document in documents:
            await response.write(msgspec.json.encode(document) + b"\r\n")
    except ConnectionError:
        raise
    except Exception as error:
        if response is None:
            raise
        _log_failure(call, error)
        await response.write(msgspec.json.encode(error_document(call, error)) + b"\r\n")
    finally:
        call.protocol.streaming = False
        await _close(documents)
    return response


def error_document(call: Call, error: Exception) -> dict[str, Any]:
    """An error inside a stream of progress messages."""
    message = str(error) if isinstance(error, EngineError) else UNEXPECTED.format(request_id=call.request_id)
    return {"errorDetail": {"message": message}, "error": message}


def cut(call: Call) -> None:
    """Close the connection in the middle of an answer."""
    if call.request.transport is not None:
        call.request.transport.abort()


def _log_failure(call: Call, error: Exception) -> None:
    if isinstance(error, Cancelled):
        logger.info("request %s: %s", call.request_id, error)  # its client has left, and nobody else is hurt
    elif not isinstance(error, EngineError) or status_of(error) >= 500:
        logger.error("request %s failed amid its answer", call.request_id, exc_info=error)


async def _close(source: AsyncIterator[Any]) -> None:
    """End an asynchronous generator now rather than when it is collected."""
    close = getattr(source, "aclose", None)
    if close is not None:
        await close()
