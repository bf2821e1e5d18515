"""Routes of Swarm and plugins, which Kitepy doesn't have: answered as dockerd does on a machine that is no Swarm node."""

from __future__ import annotations

from aiohttp import web
from msgspec import Struct

from kitepy.engine.model.errors import NotFound, Unavailable, Unsupported
from kitepy.engine.server.call import Call, Handler, Route
from kitepy.engine.server.errors import BadRequest, PageNotFound
from kitepy.engine.server.responses import json_response

_NO_SWARM = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" '
    "to connect this node to swarm and try again."
)


class _Document(Struct, frozen=True):
    """Any JSON object."""


async def no_swarm(call: Call) -> web.Response:
    """Whatever needs a Swarm manager. Names have no slash here, unlike all others."""
    if "/" in call.argument:
        raise PageNotFound
    raise Unavailable(_NO_SWARM)


async def no_swarm_for_this(call: Call) -> web.Response:
    """Whatever sends a Swarm manager a document, which has to be one."""
    await call.body(_Document)
    raise Unavailable(_NO_SWARM)


async def no_swarm_to_change(call: Call) -> web.Response:
    """Changing what has versions, one of which the client has to name."""
    await call.body(_Document)
    version = call.query.text("version")
    if not version.isascii() or not version.isdecimal() or int(version[:20]) >= 2**64:
        raise BadRequest(f"invalid version '{version[:40]}': not a number")
    raise Unavailable(_NO_SWARM)


async def no_swarm_here(call: Call) -> web.Response:
    """Becoming part of a Swarm."""
    await call.body(_Document)
    raise Unavailable("this engine can't be part of a Swarm")


async def not_in_a_swarm(_call: Call) -> web.Response:
    """Leaving it."""
    raise Unavailable("This node is not part of a swarm")


async def list_plugins(call: Call) -> web.Response:
    """GET /plugins: truthfully none."""
    call.query.filters().require_known(("capability", "enabled"))
    return json_response([])


async def no_such_plugin(call: Call) -> web.Response:
    """Whatever needs a plugin that is there."""
    raise NotFound(f'plugin "{call.argument}" not found')


async def no_plugins(_call: Call) -> web.Response:
    """Installing or making a plugin."""
    raise Unsupported("this engine doesn't run plugins")


def _routes() -> tuple[Route, ...]:
    lines: list[tuple[str, str, Handler]] = [
        ("GET", "/swarm", no_swarm),
        ("POST", "/swarm/init", no_swarm_here),
        ("POST", "/swarm/join", no_swarm_here),
        ("POST", "/swarm/leave", not_in_a_swarm),
        ("POST", "/swarm/update", no_swarm_to_change),
        ("GET", "/swarm/unlockkey", no_swarm),
        ("POST", "/swarm/unlock", no_swarm_for_this),
        ("GET", "/plugins", list_plugins),
        ("GET", "/plugins/privileges", no_plugins),
        ("POST", "/plugins/pull", no_plugins),
        ("POST", "/plugins/create", no_plugins),
        ("GET", "/plugins/{name}/json", no_such_plugin),
        ("DELETE", "/plugins/{name}", no_such_plugin),
    ]
    lines += [
        ("POST", f"/plugins/{{name}}/{action}", no_such_plugin) for action in ("enable", "disable", "upgrade", "push", "set")
    ]
    for resource in ("nodes", "services", "tasks", "secrets", "configs"):
        lines += [("GET", f"/{resource}", no_swarm), ("GET", f"/{resource}/{{id}}", no_swarm)]
        if resource != "tasks":
            lines += [("DELETE", f"/{resource}/{{id}}", no_swarm), ("POST", f"/{resource}/{{id}}/update", no_swarm_to_change)]
        if resource in ("services", "secrets", "configs"):
            lines.append(("POST", f"/{resource}/create", no_swarm_for_this))
        if resource in ("services", "tasks"):
            lines.append(("GET", f"/{resource}/{{id}}/logs", no_swarm))
    return tuple(Route(method, template, handler) for method, template, handler in lines)


ROUTES = _routes()
