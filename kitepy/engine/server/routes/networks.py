"""Routes of networks."""

from __future__ import annotations

import msgspec
from aiohttp import web

from kitepy.engine.model.filters import FALSE, TRUE
from kitepy.engine.model.network_config import NetworkConnectBody, NetworkCreateBody, NetworkDisconnectBody
from kitepy.engine.server.api_version import ApiVersion
from kitepy.engine.server.call import Call, Route
from kitepy.engine.server.errors import BadRequest
from kitepy.engine.server.responses import empty_response, json_response

_LIST_WITHOUT_CONTAINERS = ApiVersion(1, 28)
_IPV4_CAN_BE_OFF = ApiVersion(1, 48)
_GATEWAY_PRIORITY = ApiVersion(1, 48)


async def list_networks(call: Call) -> web.Response:
    """GET /networks."""
    detailed = call.version < _LIST_WITHOUT_CONTAINERS
    return json_response(await call.networks.list(call.query.filters(), detailed=detailed))


async def inspect(call: Call) -> web.Response:
    """GET /networks/{id}."""
    verbose = call.query.text("verbose")
    if verbose not in ("", *TRUE, *FALSE):
        raise BadRequest(
            f'invalid value for verbose: {verbose[:40]}: strconv.ParseBool: parsing "{verbose[:40]}": invalid syntax'
        )
    return json_response(await call.networks.inspect(call.argument, call.query.text("scope")))


async def create(call: Call) -> web.Response:
    """POST /networks/create."""
    body = await call.body(NetworkCreateBody)
    if call.version < _IPV4_CAN_BE_OFF:
        body = msgspec.structs.replace(body, enable_ipv4=None)
    return json_response({"Id": await call.networks.create(body), "Warning": ""}, 201)


async def remove(call: Call) -> web.Response:
    """DELETE /networks/{id}."""
    await call.networks.remove(call.argument)
    return empty_response()


async def connect(call: Call) -> web.Response:
    """POST /networks/{id}/connect."""
    body = await call.body(NetworkConnectBody)
    if call.version < _GATEWAY_PRIORITY and body.endpoint_config is not None:
        body = msgspec.structs.replace(body, endpoint_config=msgspec.structs.replace(body.endpoint_config, gw_priority=0))
    await call.networks.connect(call.argument, body)
    return empty_response(200)


async def disconnect(call: Call) -> web.Response:
    """POST /networks/{id}/disconnect."""
    await call.networks.disconnect(call.argument, await call.body(NetworkDisconnectBody))
    return empty_response(200)


async def prune(call: Call) -> web.Response:
    """POST /networks/prune."""
    return json_response(await call.networks.prune(call.query.filters()))


ROUTES = (
    Route("GET", "/networks", list_networks),
    Route("GET", "/networks/", list_networks),  # as dockerd has it
    Route("GET", "/networks/{id}", inspect),
    Route("POST", "/networks/create", create),
    Route("POST", "/networks/prune", prune),
    Route("DELETE", "/networks/{id}", remove),
    Route("POST", "/networks/{id}/connect", connect),
    Route("POST", "/networks/{id}/disconnect", disconnect),
)
