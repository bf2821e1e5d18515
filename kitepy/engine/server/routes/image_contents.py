"""Routes for looking into images: Kitepy's own (docs/image-layers.md)."""

from __future__ import annotations

from aiohttp import web

from kitepy.engine.server.call import Call, ClientLeft, Route
from kitepy.engine.server.responses import json_response


async def layers(call: Call) -> web.Response:
    """GET /kitepy/images/{name}/layers."""
    return json_response(await call.image_contents.layers(call.argument, usage=call.query.flag("usage")))


async def files(call: Call) -> web.Response:
    """GET /kitepy/images/{name}/files."""
    query = call.query
    return json_response(
        await call.image_contents.files(
            call.argument,
            query.text("path") or "/",
            layer=query.integer("layer"),
            own=query.flag("own"),
            after=query.text("after"),
            limit=query.integer("limit"),
        )
    )


ROUTES = (
    Route("GET", "/kitepy/images/{name}/layers", layers, ClientLeft.ENDS),
    Route("GET", "/kitepy/images/{name}/files", files, ClientLeft.ENDS),
)
