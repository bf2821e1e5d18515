"""Routes of networks; only the predefined ones exist so far, so that connecting further ones answers 501."""

from __future__ import annotations

from aiohttp import web
from msgspec import Struct

from kitepy.engine.model.errors import NotFound, Unsupported
from kitepy.engine.model.filters import FALSE, TRUE
from kitepy.engine.server.call import Call, Route
from kitepy.engine.server.errors import BadRequest
from kitepy.engine.server.responses import empty_response, json_response


class NetworkCreateBody(Struct, frozen=True, kw_only=True, rename="pascal"):
    """The body of POST /networks/create, as far as it matters while no network can be made."""

    name: str = ""


class NetworkConnectBody(Struct, frozen=True, kw_only=True, rename="pascal"):
    """The body of POST /networks/{id}/connect, as far as it matters while no network can be made."""

    container: str = ""


async def list_networks(call: Call) -> web.Response:
    """GET /networks."""
    return json_response(await call.networks.list(call.query.filters()))


async def inspect(call: Call) -> web.Response:
    """GET /networks/{id}."""
    verbose, scope = call.query.text("verbose"), call.query.text("scope")
    if verbose not in ("", *TRUE, *FALSE):
        raise BadRequest(f"invalid value for verbose: {verbose[:40]}: not a boolean")
    found = await call.networks.inspect(call.argument)
    if scope not in ("", found["Scope"]):
        raise NotFound(f"network {call.argument} not found")
    return json_response(found)


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
    body = await call.body(NetworkConnectBody)
    if not body.container:
        raise BadRequest('invalid name or ID supplied: ""')
    await call.containers.inspect(body.container, False)
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
