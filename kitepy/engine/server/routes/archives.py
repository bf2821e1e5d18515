"""Routes for files of containers: ``docker cp``, ``export``, ``diff``, and ``commit``, which makes an image of one."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
from aiohttp import web

from kitepy.engine.model.container_config import ContainerConfig
from kitepy.engine.server.bodies import JSON_LIMIT_BYTES, decode_body
from kitepy.engine.server.call import Call, ClientLeft, Route
from kitepy.engine.server.errors import BadRequest
from kitepy.engine.server.media_type import require_json
from kitepy.engine.server.responses import TAR, empty_response, headers, json_response, stream_bytes
from kitepy.engine.services.ports import CommitOptions

_STAT_HEADER = "X-Docker-Container-Path-Stat"


async def stat(call: Call) -> web.Response:
    """HEAD /containers/{id}/archive."""
    document = await call.archives.stat(call.argument, _path(call))
    return web.Response(headers=headers(None, {_STAT_HEADER: encode_stat(document)}))


async def get(call: Call) -> web.StreamResponse:
    """GET /containers/{id}/archive."""
    document, pieces = await call.archives.get(call.argument, _path(call))
    return await stream_bytes(call, TAR, pieces, {_STAT_HEADER: encode_stat(document)})


async def put(call: Call) -> web.Response:
    """PUT /containers/{id}/archive."""
    query = call.query
    await call.archives.put(
        call.argument,
        _path(call),
        call.protocol.upload or call.content(),
        no_overwrite_dir_non_dir=query.flag("noOverwriteDirNonDir"),
        copy_uid_gid=query.flag("copyUIDGID"),
    )
    return empty_response(200)


async def export(call: Call) -> web.StreamResponse:
    """GET /containers/{id}/export."""
    return await stream_bytes(call, "application/octet-stream", await call.archives.export(call.argument))


async def changes(call: Call) -> web.Response:
    """GET /containers/{id}/changes."""
    return json_response(await call.archives.changes(call.argument))


async def commit(call: Call) -> web.Response:
    """POST /commit."""
    query = call.query
    # No configuration and an empty one are not the same: what can't be merged is lost with the second.
    config = None
    if call.has_body:
        require_json(call.request.headers.get("Content-Type", ""))
        body = await call.read(JSON_LIMIT_BYTES)
        config = decode_body(body, ContainerConfig) if body.strip() != b"null" else None
    options = CommitOptions(
        repository=query.text("repo"),
        tag=query.text("tag"),
        comment=query.text("comment"),
        author=query.text("author"),
        pause=query.flag("pause") or not query.text("pause"),
        changes=query.all("changes"),
    )
    container = query.text("container")
    if not container:
        raise BadRequest('invalid name or ID supplied: ""')
    return json_response({"Id": await call.archives.commit(container, options, config)}, 201)


def encode_stat(document: dict[str, Any]) -> str:
    """ContainerPathStat as a header's value."""
    return base64.b64encode(msgspec.json.encode(document)).decode()


def _path(call: Call) -> str:
    path = call.query.text("path")
    if not path:
        raise BadRequest("bad parameter: path cannot be empty")
    return path


ROUTES = (
    Route("HEAD", "/containers/{id}/archive", stat),
    Route("GET", "/containers/{id}/archive", get, ClientLeft.ENDS),
    Route("PUT", "/containers/{id}/archive", put, ClientLeft.ENDS),
    Route("GET", "/containers/{id}/export", export, ClientLeft.ENDS),
    Route("GET", "/containers/{id}/changes", changes, ClientLeft.ENDS),
    Route("POST", "/commit", commit),
)
