"""Routes of Swarm and plugins, which Kitepy doesn't have: answered as dockerd does on a machine that is no Swarm node."""

from __future__ import annotations

from aiohttp import web

from kitepy.engine.model.errors import NotFound, Unavailable, Unsupported
from kitepy.engine.server.call import Call, Handler, Route
from kitepy.engine.server.responses import json_response

_NO_SWARM = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" '
    "to connect this node to swarm and try again."
)


async def no_swarm(_call: Call) -> web.Response:
    """Whatever needs a Swarm manager."""
    raise Unavailable(_NO_SWARM)


async def no_swarm_here(_call: Call) -> web.Response:
    """Becoming part of a Swarm."""
    raise Unsupported("this engine can't be part of a Swarm")


async def list_plugins(_call: Call) -> web.Response:
    """GET /plugins: truthfully none."""
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
        ("POST", "/swarm/leave", no_swarm),
        ("POST", "/swarm/update", no_swarm),
        ("GET", "/swarm/unlockkey", no_swarm),
        ("POST", "/swarm/unlock", no_swarm),
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
            lines += [("DELETE", f"/{resource}/{{id}}", no_swarm), ("POST", f"/{resource}/{{id}}/update", no_swarm)]
        if resource in ("services", "secrets", "configs"):
            lines.append(("POST", f"/{resource}/create", no_swarm))
        if resource in ("services", "tasks"):
            lines.append(("GET", f"/{resource}/{{id}}/logs", no_swarm))
    return tuple(Route(method, template, handler) for method, template, handler in lines)


ROUTES = _routes()
