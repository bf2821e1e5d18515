"""Routes that talk with processes: attach, exec, and the size of their terminals."""

from __future__ import annotations

import logging

from aiohttp import web

from kitepy.engine.model.container_config import ExecCreateBody, ExecStartBody
from kitepy.engine.model.errors import StartFailed, Unsupported
from kitepy.engine.server.call import Call, ClientLeft, Route
from kitepy.engine.server.detach import parse_detach_keys
from kitepy.engine.server.errors import BadRequest
from kitepy.engine.server.frames import STDOUT
from kitepy.engine.server.hijack import HijackedStream
from kitepy.engine.server.protocol import TakenOver
from kitepy.engine.server.responses import empty_response, hijack_head, json_response, stream_type
from kitepy.engine.services.ports import AttachOptions, AttachSession

logger = logging.getLogger(__name__)


async def attach(call: Call) -> web.StreamResponse:
    """POST /containers/{id}/attach."""
    query = call.query
    detach_keys = query.optional("detachKeys")
    parse_detach_keys(detach_keys)
    options = AttachOptions(
        stdin=query.flag("stdin"),
        stdout=query.flag("stdout"),
        stderr=query.flag("stderr"),
        stream=query.flag("stream"),
        logs=query.flag("logs"),
        detach_keys=detach_keys,
    )
    session = await call.containers.attach(call.argument, options)
    return await converse(call, session, takes_input=options.stdin and options.stream, detach_keys=detach_keys)


async def attach_websocket(_call: Call) -> web.Response:
    """GET /containers/{id}/attach/ws."""
    raise Unsupported("attaching over a websocket is not possible yet; use POST /containers/{id}/attach")


async def resize(call: Call) -> web.Response:
    """POST /containers/{id}/resize."""
    await call.containers.resize(call.argument, *_size(call))
    return empty_response(200)


async def exec_create(call: Call) -> web.Response:
    """POST /containers/{id}/exec."""
    body = await call.body(ExecCreateBody)
    if not body.cmd:
        raise BadRequest("No exec command specified")
    parse_detach_keys(body.detach_keys)
    return json_response({"Id": await call.execs.create(call.argument, body)}, 201)


async def exec_start(call: Call) -> web.StreamResponse:
    """POST /exec/{id}/start."""
    body = await call.body(ExecStartBody)
    detach_keys = None if body.detach else (await call.execs.inspect(call.argument)).get("DetachKeys")
    try:
        session = await call.execs.start(call.argument, body)
    except StartFailed as error:
        if body.detach:
            raise
        # As dockerd does: the client learns the exit code from inspect, and shows what the stream says.
        session = _OneMessage(f"{error}\r\n".encode(), tty=body.tty)
    if session is None:
        return empty_response(200)
    return await converse(call, session, takes_input=True, detach_keys=detach_keys)


async def exec_resize(call: Call) -> web.Response:
    """POST /exec/{id}/resize."""
    await call.execs.resize(call.argument, *_size(call))
    return empty_response(200)


async def exec_inspect(call: Call) -> web.Response:
    """GET /exec/{id}/json."""
    return json_response(await call.execs.inspect(call.argument))


async def converse(call: Call, session: AttachSession, *, takes_input: bool, detach_keys: str | None) -> web.StreamResponse:
    """Take the connection over and pump until the conversation ends; the session is closed in any case."""
    tty = session.tty
    stream = HijackedStream(framed=not tty, takes_input=takes_input, detach_keys=parse_detach_keys(detach_keys) if tty else None)
    protocol = call.protocol
    try:
        head = hijack_head(call, stream_type(tty, call.version))
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
    rows, columns = call.query.required_integer("h"), call.query.required_integer("w")
    for name, value in (("height", rows), ("width", columns)):
        if not 0 <= value <= 0xFFFF:
            raise BadRequest(f"invalid {name} {value}: a terminal has at most 65535 rows and columns")
    return rows, columns


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

    async def close_stdin(self) -> None:
        pass

    async def close(self) -> None:
        pass


ROUTES = (
    Route("POST", "/containers/{id}/attach", attach, ClientLeft.TALKS),
    Route("GET", "/containers/{id}/attach/ws", attach_websocket),
    Route("POST", "/containers/{id}/resize", resize),
    Route("POST", "/containers/{id}/exec", exec_create),
    Route("POST", "/exec/{id}/start", exec_start, ClientLeft.TALKS),
    Route("POST", "/exec/{id}/resize", exec_resize),
    Route("GET", "/exec/{id}/json", exec_inspect),
)
