"""Routes about what registries have: search, the descriptor of an image, and Kitepy's own (docs/registries.md)."""

from __future__ import annotations

import re

from aiohttp import web

from kitepy.engine.server.call import Call, ClientLeft, Route
from kitepy.engine.server.errors import BadRequest
from kitepy.engine.server.registry_auth import registry_auth
from kitepy.engine.server.responses import json_response

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII)


async def search(call: Call) -> web.Response:
    """GET /images/search."""
    limit = call.query.text("limit")
    if limit and not _INTEGER.fullmatch(limit):
        raise BadRequest(f'invalid limit specified: strconv.Atoi: parsing "{limit[:40]}": invalid syntax')
    term, filters = call.query.text("term"), call.query.filters()
    return json_response(await call.registries.search(term, int(limit or 0), filters, registry_auth(call)))


async def distribution(call: Call) -> web.Response:
    """GET /distribution/{name}/json."""
    return json_response(await call.registries.distribution(call.argument, registry_auth(call)))


async def repositories(call: Call) -> web.Response:
    """GET /kitepy/registries/repositories."""
    query = call.query
    return json_response(
        await call.registry_browsing.repositories(
            query.text("registry"), query.integer("n"), query.text("last"), query.text("filter"), registry_auth(call)
        )
    )


async def tags(call: Call) -> web.Response:
    """GET /kitepy/registries/tags."""
    query = call.query
    return json_response(
        await call.registry_browsing.tags(
            query.text("repository"), query.integer("n"), query.text("last"), query.text("filter"), registry_auth(call)
        )
    )


async def preview(call: Call) -> web.Response:
    """GET /kitepy/registries/preview."""
    query = call.query
    return json_response(
        await call.registry_browsing.preview(query.text("reference"), query.text("platform"), registry_auth(call))
    )


ROUTES = (
    Route("GET", "/images/search", search, ClientLeft.ENDS),
    Route("GET", "/distribution/{name}/json", distribution, ClientLeft.ENDS),
    Route("GET", "/kitepy/registries/repositories", repositories, ClientLeft.ENDS),
    Route("GET", "/kitepy/registries/tags", tags, ClientLeft.ENDS),
    Route("GET", "/kitepy/registries/preview", preview, ClientLeft.ENDS),
)
