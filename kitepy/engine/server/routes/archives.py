"""Routes for files of containers (``docker cp``) and for making an image of one (``docker commit``)."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
from aiohttp import web

from kitepy.engine.model.errors import Unsupported
from kitepy.engine.server.call import Call, ClientLeft, Route
from kitepy.engine.server.responses import TAR, empty_response, headers, stream_bytes

_STAT_HEADER = "X-Docker-Container-Path-Stat"


async def stat(call: Call) -> web.Response:
    """HEAD /containers/{id}/archive."""
    document = await call.containers.archive_stat(call.argument, call.query.required("path"))
    return web.Response(headers=headers(None, {_STAT_HEADER: encode_stat(document)}))


async def get(call: Call) -> web.StreamResponse:
    """GET /containers/{id}/archive."""
    document, pieces = await call.containers.archive_get(call.argument, call.query.required("path"))
    return await stream_bytes(call, TAR, pieces, {_STAT_HEADER: encode_stat(document)})


async def put(call: Call) -> web.Response:
    """PUT /containers/{id}/archive."""
    query = call.query
    await call.containers.archive_put(
        call.argument, query.required("path"), call.content(), query.flag("noOverwriteDirNonDir"), query.flag("copyUIDGID")
    )
    return empty_response(200)


def encode_stat(document: dict[str, Any]) -> str:
    """ContainerPathStat as a header's value."""
    return base64.b64encode(msgspec.json.encode(document)).decode()


async def commit(_call: Call) -> web.Response:
    """POST /commit."""
    raise Unsupported("making an image of a container is not possible yet; use a Dockerfile")


ROUTES = (
    Route("HEAD", "/containers/{id}/archive", stat),
    Route("GET", "/containers/{id}/archive", get, ClientLeft.ENDS),
    Route("PUT", "/containers/{id}/archive", put, ClientLeft.ENDS),
    Route("POST", "/commit", commit),
)
