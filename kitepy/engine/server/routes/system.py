"""Routes about the engine itself: ping, version, info, events, disk usage, registry login."""

from __future__ import annotations

import time

from aiohttp import web

from kitepy.engine.model.registry import AuthConfigBody
from kitepy.engine.server import older_versions
from kitepy.engine.server.api_version import ApiVersion
from kitepy.engine.server.call import Call, ClientLeft, Route
from kitepy.engine.server.errors import BadRequest
from kitepy.engine.server.responses import headers, json_response, stream_lines

_PING_HEADERS = {
    "Builder-Version": "1",
    "Swarm": "inactive",
    "Cache-Control": "no-cache, no-store, must-revalidate",
    "Pragma": "no-cache",
}
_CHOSEN_USAGE = ApiVersion(1, 42)
_DISK_USAGE_TYPES = ("container", "image", "volume", "build-cache")


async def ping(call: Call) -> web.Response:
    """GET and HEAD /_ping."""
    body = b"" if call.request.method == "HEAD" else b"OK"
    return web.Response(body=body, headers=headers("text/plain; charset=utf-8", _PING_HEADERS))


async def version(call: Call) -> web.Response:
    """GET /version."""
    return json_response(call.system.version())


async def info(call: Call) -> web.Response:
    """GET /info."""
    return json_response(older_versions.info(call.system.info(), call.version))


async def events(call: Call) -> web.StreamResponse:
    """GET /events."""
    query = call.query
    since_ns, until_ns = query.moment("since"), query.moment("until")
    if until_ns is not None and until_ns <= 0:
        until_ns = time.time_ns()  # as for dockerd: no bound, but nothing to wait for either
    elif since_ns is not None and until_ns is not None and until_ns < since_ns:
        since, until = query.text("since")[:64], query.text("until")[:64]
        raise BadRequest(f"`since` time ({since}) cannot be after `until` time ({until})")
    return await stream_lines(call, call.events.subscribe(call.query.filters(), since_ns, until_ns))


async def auth(call: Call) -> web.Response:
    """POST /auth."""
    return json_response(await call.registries.log_in(await call.body(AuthConfigBody)))


async def disk_usage(call: Call) -> web.Response:
    """GET /system/df."""
    chosen = call.query.all("type") if call.version >= _CHOSEN_USAGE else []
    wanted = chosen or list(_DISK_USAGE_TYPES)
    for kind in wanted:
        if kind not in _DISK_USAGE_TYPES:
            raise BadRequest(f"unknown object type: {kind}")
    return json_response(older_versions.disk_usage(await call.disk_usage.document(wanted), call.version))


ROUTES = (
    Route("GET", "/_ping", ping),
    Route("HEAD", "/_ping", ping),
    Route("GET", "/version", version),
    Route("GET", "/info", info),
    Route("GET", "/events", events, ClientLeft.ENDS),
    Route("POST", "/auth", auth),
    Route("GET", "/system/df", disk_usage),
)
