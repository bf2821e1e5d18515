"""Routes that talk with processes: attach, exec, and the size of their terminals."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from kitepy.engine.model.container_config import ExecCreateBody, ExecStartBody
from kitepy.engine.model.detach_keys import parse_detach_keys
from kitepy.engine.model.errors import StartFailed
from kitepy.engine.server.call import Call, ClientLeft, Route
from kitepy.engine.server.errors import BadRequest
from kitepy.engine.server.frames import STDOUT
from kitepy.engine.server.hijack import HijackedStream
from kitepy.engine.server.protocol import TakenOver
from kitepy.engine.server.query import Query
from kitepy.engine.server.responses import empty_response, hijack_head, json_response, stream_type, websocket_head
from kitepy.engine.server.websocket import accept_key, is_same_origin
from kitepy.engine.server.wire import RawWire, WebSocketWire, Wire
from kitepy.engine.services.ports import AttachOptions, AttachSession

_SIZE = re.compile("[0-9]+", re.ASCII)
_SIZE_END = 2**32


async def attach(call: Call) -> web.StreamResponse:
    """POST /containers/{id}/attach."""
    options, keys = _attach_options(call.query)
    session = await call.containers.attach(call.argument, options)
    tty = session.tty
    stream = _Conversation(RawWire(framed=not tty), hijack_head, stream_type(tty, call.version))
    return await converse(call, session, stream, takes_input=options.stdin and options.stream, detach_keys=keys if tty else None)


async def attach_websocket(call: Call) -> web.StreamResponse:
    """GET /containers/{id}/attach/ws."""
    options, keys = _attach_options(call.query)
    accept = _accept_websocket(call.request)
    session = await call.containers.attach(call.argument, options)
    stream = _Conversation(WebSocketWire(), websocket_head, accept)
    takes_input = options.stdin and options.stream
    return await converse(call, session, stream, takes_input=takes_input, detach_keys=keys if session.tty else None)


def _attach_options(query: Query) -> tuple[AttachOptions, bytes]:
    text = query.optional("detachKeys")
    try:
        keys = parse_detach_keys(text)
    except ValueError:
        raise BadRequest(f"Invalid detach keys ({(text or '')[:80]}) provided") from None
    options = AttachOptions(
        stdin=query.flag("stdin"),
        stdout=query.flag("stdout"),
        stderr=query.flag("stderr"),
        stream=query.flag("stream"),
        logs=query.flag("logs"),
        detach_keys=text,
    )
    return options, keys


def _accept_websocket(request: web.BaseRequest) -> str:
    """The handshake's answer (RFC 6455, 4.2.1)."""
    headers = request.headers
    if headers.get("Upgrade", "").lower() != "websocket" or "upgrade" not in headers.get("Connection", "").lower():
        raise BadRequest("not websocket protocol: the request has to ask for an upgrade to it")
    if headers.get("Sec-WebSocket-Version") != "13":
        raise BadRequest("missing or bad WebSocket Version: this engine speaks version 13")
    if not is_same_origin(headers.get("Origin"), headers.get("Host", "")):
        raise BadRequest("websockets from web pages are refused: the Origin header names another place than this engine")
    accept = accept_key(headers.get("Sec-WebSocket-Key", ""))
    if accept is None:
        raise BadRequest("mismatch challenge/response: Sec-WebSocket-Key has to be 16 bytes in base64")
    return accept


async def resize(call: Call) -> web.Response:
    """POST /containers/{id}/resize."""
    await call.containers.resize(call.argument, *_size(call))
    return empty_response(200)


async def exec_create(call: Call) -> web.Response:
    """POST /containers/{id}/exec."""
    body = await call.body(ExecCreateBody)
    if not body.cmd:
        raise BadRequest("No exec command specified")
    try:
        parse_detach_keys(body.detach_keys)
    except ValueError:
        raise BadRequest(f"Invalid escape keys ({body.detach_keys[:80]}) provided") from None
    return json_response({"Id": await call.execs.create(call.argument, body)}, 201)


async def exec_start(call: Call) -> web.StreamResponse:
    """POST /exec/{id}/start."""
    body = await call.body(ExecStartBody)
    keys = b"" if body.detach else base64.b64decode((await call.execs.inspect(call.argument))["DetachKeys"])
    try:
        session = await call.execs.start(call.argument, body)
    except StartFailed as error:
        if body.detach:
            raise
        # As dockerd does: the client learns the exit code from inspect, and shows what the stream says.
        session = _OneMessage(f"{error}\r\n".encode(), tty=body.tty)
    if session is None:
        return empty_response(200)
    # Clients read the stream as they said at the start, whatever the exec was created with.
    stream = _Conversation(RawWire(framed=not body.tty), hijack_head, stream_type(body.tty, call.version))
    detach_keys = (keys or parse_detach_keys(None)) if session.tty else None
    return await converse(call, session, stream, takes_input=True, detach_keys=detach_keys)


async def exec_resize(call: Call) -> web.Response:
    """POST /exec/{id}/resize."""
    await call.execs.resize(call.argument, *_size(call))
    return empty_response(200)


async def exec_inspect(call: Call) -> web.Response:
    """GET /exec/{id}/json."""
    return json_response(await call.execs.inspect(call.argument))


@dataclass(frozen=True)
class _Conversation:
    """How the connection is taken over: what is written on it, and the head that the client gets first."""

    wire: Wire
    head: Callable[[Call, str], bytes]
    head_argument: str


async def converse(
    call: Call, session: AttachSession, conversation: _Conversation, *, takes_input: bool, detach_keys: bytes | None
) -> web.StreamResponse:
    """Take the connection over and pump until the conversation ends; the session is closed in any case."""
    stream = HijackedStream(wire=conversation.wire, takes_input=takes_input, detach_keys=detach_keys)
    protocol = call.protocol
    try:
        head = conversation.head(call, conversation.head_argument)
        transport, early, half_closed = protocol.take_over(stream)
    except BaseException:
        await session.close()
        raise
    stream.start(transport, head, early, half_closed)
    lost: Exception | None = None
    try:
        lost = await stream.run(session)
    finally:
        protocol.taken_over_closed(lost)
    return TakenOver()


def _size(call: Call) -> tuple[int, int]:
    return _length(call.query.text("h"), "height"), _length(call.query.text("w"), "width")


def _length(text: str, what: str) -> int:
    """One side of a terminal; what exceeds 16 bits is cut by the kernel's interface, as Docker has it."""
    if not _SIZE.fullmatch(text):
        problem = "value out of range" if _SIZE.fullmatch(text.removeprefix("-")) else "invalid syntax"
        raise BadRequest(f'invalid resize {what} "{text[:40]}": {problem}')
    if len(text) > 20 or int(text) >= _SIZE_END:
        raise BadRequest(f'invalid resize {what} "{text[:40]}": value out of range')
    return int(text)


class _OneMessage:
    """A session that only says why there is none."""

    def __init__(self, message: bytes, tty: bool) -> None:
        self._message: bytes | None = message
        self.tty = tty

    async def read(self) -> tuple[int, bytes] | None:
        message, self._message = self._message, None
        return None if message is None else (STDOUT, message)

    async def write(self, data: bytes) -> None:  # noqa: ARG002  # the port's signature
        raise BrokenPipeError

    async def close_stdin(self) -> bool:
        return True

    async def detached(self) -> None:
        pass

    async def close(self) -> None:
        pass


ROUTES = (
    Route("POST", "/containers/{id}/attach", attach, ClientLeft.TALKS),
    Route("GET", "/containers/{id}/attach/ws", attach_websocket, ClientLeft.TALKS),
    Route("POST", "/containers/{id}/resize", resize),
    Route("POST", "/containers/{id}/exec", exec_create),
    Route("POST", "/exec/{id}/start", exec_start, ClientLeft.TALKS),
    Route("POST", "/exec/{id}/resize", exec_resize),
    Route("GET", "/exec/{id}/json", exec_inspect),
)
