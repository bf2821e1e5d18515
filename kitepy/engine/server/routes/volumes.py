"""Routes of volumes."""

from __future__ import annotations

from aiohttp import web
from msgspec import Struct

from kitepy.engine.model.errors import Unavailable
from kitepy.engine.server.call import Call, Route
from kitepy.engine.server.responses import empty_response, json_response


class VolumeCreateBody(Struct, frozen=True, kw_only=True, rename="pascal"):
    """The body of POST /volumes/create."""

    name: str = ""
    driver: str = ""
    driver_opts: dict[str, str] | None = None
    labels: dict[str, str] | None = None


async def list_volumes(call: Call) -> web.Response:
    """GET /volumes."""
    return json_response(await call.volumes.list(call.query.filters()))


async def create(call: Call) -> web.Response:
    """POST /volumes/create."""
    body = await call.body(VolumeCreateBody)
    return json_response(await call.volumes.create(body.name, body.driver, body.driver_opts or {}, body.labels or {}), 201)


async def inspect(call: Call) -> web.Response:
    """GET /volumes/{name}."""
    return json_response(await call.volumes.inspect(call.argument))


async def update(_call: Call) -> web.Response:
    """PUT /volumes/{name}."""
    raise Unavailable("volume update only valid for cluster volumes, but swarm is unavailable")


async def remove(call: Call) -> web.Response:
    """DELETE /volumes/{name}."""
    await call.volumes.remove(call.argument, call.query.flag("force"))
    return empty_response()


async def prune(call: Call) -> web.Response:
    """POST /volumes/prune."""
    return json_response(await call.volumes.prune(call.query.filters()))


ROUTES = (
    Route("GET", "/volumes", list_volumes),
    Route("POST", "/volumes/create", create),
    Route("POST", "/volumes/prune", prune),
    Route("GET", "/volumes/{name}", inspect),
    Route("PUT", "/volumes/{name}", update),
    Route("DELETE", "/volumes/{name}", remove),
)
