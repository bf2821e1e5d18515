"""Routes of volumes."""

from __future__ import annotations

from typing import Any

from aiohttp import web
from msgspec import Struct

from kitepy.engine.model.errors import Unavailable
from kitepy.engine.model.filters import Filters
from kitepy.engine.server.api_version import ApiVersion
from kitepy.engine.server.call import Call, ClientLeft, Route
from kitepy.engine.server.responses import TAR, empty_response, json_response, stream_bytes

_ANONYMOUS_ONLY = ApiVersion(1, 42)
"""Since when pruning spares volumes that have a name."""


class VolumeCreateBody(Struct, frozen=True, kw_only=True, rename="pascal"):
    """The body of POST /volumes/create."""

    name: str = ""
    driver: str = ""
    driver_opts: dict[str, str] | None = None
    labels: dict[str, str] | None = None
    cluster_volume_spec: dict[str, Any] | None = None


async def list_volumes(call: Call) -> web.Response:
    """GET /volumes."""
    return json_response(await call.volumes.list(call.query.filters()))


async def create(call: Call) -> web.Response:
    """POST /volumes/create."""
    body = await call.body(VolumeCreateBody)
    if body.cluster_volume_spec is not None:
        raise Unavailable(
            'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and '
            "try again."
        )
    return json_response(await call.volumes.create(body.name, body.driver, body.driver_opts, body.labels), 201)


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
    filters = call.query.filters()
    if call.version < _ANONYMOUS_ONLY:
        filters = Filters({**filters.values, "all": ("true",)})
    return json_response(await call.volumes.prune(filters))


async def files(call: Call) -> web.Response:
    """GET /kitepy/volumes/{name}/files: Kitepy's own, for browsing (docs/volume-files.md)."""
    return json_response(await call.volumes.files(call.argument, call.query.text("path") or "/"))


async def archive(call: Call) -> web.StreamResponse:
    """GET /kitepy/volumes/{name}/archive: Kitepy's own, for taking files out (docs/volume-files.md)."""
    return await stream_bytes(call, TAR, await call.volumes.archive(call.argument, call.query.text("path") or "/"))


ROUTES = (
    Route("GET", "/volumes", list_volumes),
    Route("POST", "/volumes/create", create),
    Route("POST", "/volumes/prune", prune),
    Route("GET", "/volumes/{name}", inspect),
    Route("PUT", "/volumes/{name}", update),
    Route("DELETE", "/volumes/{name}", remove),
    Route("GET", "/kitepy/volumes/{name}/files", files),
    Route("GET", "/kitepy/volumes/{name}/archive", archive, ClientLeft.ENDS),
)
