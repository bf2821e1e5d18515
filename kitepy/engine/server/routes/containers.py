"""Routes of containers: their life, what they are, their output; conversations with them are in ``attaching``."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence

import msgspec
from aiohttp import web

from kitepy.engine.model.container_config import ContainerCreateBody, ContainerUpdateBody
from kitepy.engine.server.api_version import ApiVersion
from kitepy.engine.server.call import Call, ClientLeft, Route
from kitepy.engine.server.create_versions import adapt_create, read_only_is_flat
from kitepy.engine.server.errors import UNEXPECTED, BadRequest
from kitepy.engine.server.frames import encode_frame
from kitepy.engine.server.older_versions import ONE_SAMPLE, container_inspection
from kitepy.engine.server.query import Query
from kitepy.engine.server.responses import (
    JSON,
    Mapped,
    begin_stream,
    empty_response,
    json_response,
    stream_bytes,
    stream_lines,
    stream_type,
)
from kitepy.engine.services.ports import LogOptions, WaitResult

logger = logging.getLogger(__name__)

_EMPTY_BODY = 7
"""Bytes of a body that can't say anything, by dockerd's measure."""
_FIRST_WITH_SIGNAL = ApiVersion(1, 42)
_FIRST_WITH_CONDITIONS = ApiVersion(1, 30)
_SECONDS = re.compile(r"([+-]?)(\d{1,19})(?:\.(\d{1,30}))?", re.ASCII)
_FOREVER_NS = 2**63 - 1
_WAIT_CONDITIONS = ("not-running", "next-exit", "removed")


async def list_containers(call: Call) -> web.Response:
    """GET /containers/json."""
    query = call.query
    limit = query.integer("limit")
    found = await call.containers.list(
        all=query.flag("all"),
        limit=limit if limit is not None and limit > 0 else None,
        size=query.flag("size"),
        filters=query.filters(),
    )
    return json_response(found)


async def create(call: Call) -> web.Response:
    """POST /containers/create."""
    body = await call.body(ContainerCreateBody, required=True)
    body, platform = adapt_create(body, call.query.optional("platform"), call.version)
    result = await call.containers.create(
        call.query.optional("name"), body, platform, flat_read_only=read_only_is_flat(call.version)
    )
    return json_response({"Id": result.id, "Warnings": list(result.warnings)}, 201)


async def inspect(call: Call) -> web.Response:
    """GET /containers/{id}/json."""
    found = await call.containers.inspect(call.argument, call.query.flag("size"))
    return json_response(container_inspection(found, found["Id"], call.version))


async def start(call: Call) -> web.Response:
    """POST /containers/{id}/start. Up to API 1.23 the body could be a host configuration; ``null`` and ``{}`` still come."""
    if (call.request.content_length or 0) > _EMPTY_BODY or "Transfer-Encoding" in call.request.headers:
        raise BadRequest("starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24")
    if call.query.optional("checkpoint"):
        raise BadRequest("checkpoint is only supported in experimental mode")
    await call.containers.start(call.argument, call.query.optional("detachKeys"))
    return empty_response()


async def stop(call: Call) -> web.Response:
    """POST /containers/{id}/stop."""
    await call.containers.stop(call.argument, call.query.integer("t"), _ending_signal(call))
    return empty_response()


def _ending_signal(call: Call) -> str | None:
    return call.query.optional("signal") if call.version >= _FIRST_WITH_SIGNAL else None


async def restart(call: Call) -> web.Response:
    """POST /containers/{id}/restart."""
    await call.containers.restart(call.argument, call.query.integer("t"), _ending_signal(call))
    return empty_response()


async def kill(call: Call) -> web.Response:
    """POST /containers/{id}/kill."""
    await call.containers.kill(call.argument, call.query.optional("signal"))
    return empty_response()


async def pause(call: Call) -> web.Response:
    """POST /containers/{id}/pause."""
    await call.containers.pause(call.argument)
    return empty_response()


async def unpause(call: Call) -> web.Response:
    """POST /containers/{id}/unpause."""
    await call.containers.unpause(call.argument)
    return empty_response()


async def rename(call: Call) -> web.Response:
    """POST /containers/{id}/rename."""
    await call.containers.rename(call.argument, call.query.text("name"))
    return empty_response()


async def remove(call: Call) -> web.Response:
    """DELETE /containers/{id}."""
    query = call.query
    await call.containers.remove(call.argument, query.flag("force"), query.flag("v"), query.flag("link"))
    return empty_response()


async def wait(call: Call) -> web.StreamResponse:
    """POST /containers/{id}/wait: the head is the sign that the condition is watched, the body comes when it is met."""
    condition = call.query.optional("condition") or "not-running"
    if call.version < _FIRST_WITH_CONDITIONS:
        condition = "not-running"
    if condition not in _WAIT_CONDITIONS:
        raise BadRequest(f'invalid condition: "{condition}"')
    ending = await call.containers.wait(call.argument, condition)
    response = await begin_stream(call, JSON)
    try:
        result = await ending
    except Exception:
        logger.exception("request %s: the end of a container can't be awaited", call.request_id)
        result = WaitResult(-1, UNEXPECTED.format(request_id=call.request_id))
    finally:
        call.protocol.streaming = False
    document: dict[str, object] = {"StatusCode": result.status_code}
    if result.error is not None:
        document["Error"] = {"Message": result.error}
    await response.write(msgspec.json.encode(document) + b"\n")
    return response


async def logs(call: Call) -> web.StreamResponse:
    """GET /containers/{id}/logs."""
    query = call.query
    stdout, stderr = query.flag("stdout"), query.flag("stderr")
    if not stdout and not stderr:
        raise BadRequest("Bad parameters: you must choose at least one stream")
    options = LogOptions(
        stdout=stdout,
        stderr=stderr,
        since_ns=_moment(query, "since"),
        until_ns=_moment(query, "until"),
        timestamps=query.flag("timestamps"),
        tail=_tail(query.text("tail")),
        follow=query.flag("follow"),
        details=query.flag("details"),
    )
    tty, batches = await call.containers.logs(call.argument, options)
    framed = Mapped(batches, _unframed if tty else _framed)
    return await stream_bytes(call, stream_type(tty, call.version), framed)


def _framed(lines: Sequence[tuple[int, bytes]]) -> bytes:
    """A frame per line, since clients iterate over them, but one write for all, since a write per line is slow."""
    return b"".join(encode_frame(stream, data) for stream, data in lines)


def _unframed(lines: Sequence[tuple[int, bytes]]) -> bytes:
    return b"".join(data for _, data in lines)


def _tail(text: str) -> int | None:
    """The number of lines wanted; like dockerd, what is no number means all of them."""
    digits = text.removeprefix("+")
    return int(digits) if digits.isascii() and digits.isdecimal() and len(digits) < 19 else None


def _moment(query: Query, name: str) -> int:
    """Seconds and their fraction, also beyond all calendars; else what other times of the API may be, and 0 for none."""
    match = _SECONDS.fullmatch(query.text(name))
    if match is None:
        return query.moment(name) or 0
    sign = -1 if match[1] == "-" else 1
    moment_ns = int(match[2]) * 1_000_000_000 + int((match[3] or "0")[:9].ljust(9, "0"))
    return min(sign * moment_ns, _FOREVER_NS)


async def top(call: Call) -> web.Response:
    """GET /containers/{id}/top."""
    return json_response(await call.observer.top(call.argument, call.query.text("ps_args")))


async def stats(call: Call) -> web.StreamResponse:
    """GET /containers/{id}/stats."""
    stream = call.query.flag("stream", default=True)
    one_shot = call.query.flag("one-shot") and call.version >= ONE_SAMPLE
    if stream and one_shot:
        raise BadRequest("cannot have stream=true and one-shot=true")
    documents = await call.observer.stats(call.argument, stream, one_shot)
    return await stream_lines(call, documents)


async def update(call: Call) -> web.Response:
    """POST /containers/{id}/update."""
    warnings = await call.containers.update(call.argument, await call.body(ContainerUpdateBody))
    return json_response({"Warnings": list(warnings) or None})


async def prune(call: Call) -> web.Response:
    """POST /containers/prune."""
    return json_response(await call.containers.prune(call.query.filters()))


ROUTES = (
    Route("GET", "/containers/json", list_containers),
    Route("POST", "/containers/create", create),
    Route("POST", "/containers/prune", prune),
    Route("GET", "/containers/{id}/json", inspect),
    Route("POST", "/containers/{id}/start", start),
    Route("POST", "/containers/{id}/stop", stop),
    Route("POST", "/containers/{id}/restart", restart),
    Route("POST", "/containers/{id}/kill", kill),
    Route("POST", "/containers/{id}/pause", pause),
    Route("POST", "/containers/{id}/unpause", unpause),
    Route("POST", "/containers/{id}/rename", rename),
    Route("DELETE", "/containers/{id}", remove),
    Route("POST", "/containers/{id}/wait", wait, ClientLeft.ENDS),
    Route("GET", "/containers/{id}/logs", logs, ClientLeft.ENDS),
    Route("GET", "/containers/{id}/top", top),
    Route("GET", "/containers/{id}/stats", stats, ClientLeft.ENDS),
    Route("POST", "/containers/{id}/update", update),
)
