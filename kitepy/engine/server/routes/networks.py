"""Routes of networks; only the predefined ones exist so far, so that connecting further ones answers 501."""

from __future__ import annotations

from aiohttp import web
from msgspec import Struct

from kitepy.engine.model.errors import Unsupported
from kitepy.engine.server.call import Call, Route
from kitepy.engine.server.errors import BadRequest
from kitepy.engine.server.responses import empty_response, json_response


class NetworkCreateBody(Struct, frozen=True, kw_only=True, rename="pascal"):
    """The body of POST /networks/create, as far as it matters while no network can be made."""

    name: str = ""


async def list_networks(call: Call) -> web.Response:
    """GET /networks."""
    return json_response(await call.networks.list(call.query.filters()))


async def inspect(call: Call) -> web.Response:
    """GET /networks/{id}."""
    return json_response(await call.networks.inspect(call.argument))


async def create(call: Call) -> web.Response:
    """POST /networks/create."""
    body = await call.body(NetworkCreateBody)
    if not body.name:
        raise BadRequest("network name is required")
    return json_response({"Id": await call.networks.create(body.name), "Warning": ""}, 201)


async def remove(call: Call) -> web.Response:
    """DELETE /networks/{id}."""
    await call.networks.remove(call.argument)
    return empty_response()


async def connect(call: Call) -> web.Response:
    """POST /networks/{id}/connect and disconnect."""
    await call.networks.inspect(call.argument)
    raise Unsupported("connecting a container to a further network, or disconnecting it, is not possible yet")


async def prune(call: Call) -> web.Response:
    """POST /networks/prune: predefined networks are never pruned, and there are no others."""
    call.query.filters().require_known(("until", "label", "label!"))
    return json_response({"NetworksDeleted": None})


ROUTES = (
    Route("GET", "/networks", list_networks),
    Route("GET", "/networks/{id}", inspect),
    Route("POST", "/networks/create", create),
    Route("POST", "/networks/prune", prune),
    Route("DELETE", "/networks/{id}", remove),
    Route("POST", "/networks/{id}/connect", connect),
    Route("POST", "/networks/{id}/disconnect", connect),
)
