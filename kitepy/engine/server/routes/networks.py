"""Routes of networks; only the predefined ones exist so far, so that changing them answers 501."""

from __future__ import annotations

from aiohttp import web

from kitepy.engine.model.errors import Unsupported
from kitepy.engine.server.call import Call, Route
from kitepy.engine.server.responses import json_response


async def list_networks(call: Call) -> web.Response:
    """GET /networks."""
    return json_response(await call.networks.list(call.query.filters()))


async def inspect(call: Call) -> web.Response:
    """GET /networks/{id}."""
    return json_response(await call.networks.inspect(call.argument))


async def create(_call: Call) -> web.Response:
    """POST /networks/create."""
    raise Unsupported("creating networks is not possible yet; containers can use the default bridge, host and none")


async def remove(call: Call) -> web.Response:
    """DELETE /networks/{id}."""
    await call.networks.inspect(call.argument)
    raise Unsupported(f"{call.argument} is a pre-defined network and cannot be removed")


async def connect(call: Call) -> web.Response:
    """POST /networks/{id}/connect and disconnect."""
    await call.networks.inspect(call.argument)
    raise Unsupported("connecting a container to a further network, or disconnecting it, is not possible yet")


async def prune(_call: Call) -> web.Response:
    """POST /networks/prune."""
    raise Unsupported("pruning networks is not possible yet: there are only pre-defined ones")


ROUTES = (
    Route("GET", "/networks", list_networks),
    Route("GET", "/networks/{id}", inspect),
    Route("POST", "/networks/create", create),
    Route("POST", "/networks/prune", prune),
    Route("DELETE", "/networks/{id}", remove),
    Route("POST", "/networks/{id}/connect", connect),
    Route("POST", "/networks/{id}/disconnect", connect),
)
