"""Routes of images on this machine; fetching from registries answers 501 until distribution exists."""

from __future__ import annotations

from aiohttp import web

from kitepy.engine.model.errors import Unsupported
from kitepy.engine.model.reference import parse_reference
from kitepy.engine.server import older_versions
from kitepy.engine.server.call import Call, ClientLeft, Route
from kitepy.engine.server.errors import BadRequest
from kitepy.engine.server.responses import TAR, empty_response, json_response, stream_bytes, stream_progress


async def list_images(call: Call) -> web.Response:
    """GET /images/json."""
    query = call.query
    found = await call.images.list(query.flag("all"), query.filters(), query.flag("shared-size"), query.flag("digests"))
    return json_response([older_versions.image_summary(document, call.version) for document in found])


async def create(call: Call) -> web.StreamResponse:
    """POST /images/create: import from the body; pull and import from a URL are not possible yet."""
    query = call.query
    if name := query.optional("fromImage"):
        tag = query.optional("tag")
        parse_reference(name)
        raise Unsupported(
            f"pulling {f'{name}:{tag}' if tag else name} is not possible yet: this engine can't reach image registries"
        )
    source = query.optional("fromSrc")
    if source is None:
        raise BadRequest("either fromImage or fromSrc must say where the image comes from")
    if source != "-":
        raise Unsupported("importing an image from a URL is not possible yet; send the archive in the request body")
    documents = call.images.import_archive(
        call.content(),
        query.text("repo"),
        query.text("tag"),
        query.text("message"),
        query.all("changes"),
        query.optional("platform"),
    )
    return await stream_progress(call, documents)


async def load(call: Call) -> web.StreamResponse:
    """POST /images/load."""
    return await stream_progress(call, call.images.load(call.content(), call.query.flag("quiet")))


async def save_several(call: Call) -> web.StreamResponse:
    """GET /images/get."""
    names = [name for given in call.query.all("names") for name in given.split(",") if name]
    if not names:
        raise BadRequest("no image names were given")
    return await stream_bytes(call, TAR, call.images.save(names), head_first=False)


async def save(call: Call) -> web.StreamResponse:
    """GET /images/{name}/get."""
    return await stream_bytes(call, TAR, call.images.save([call.argument]), head_first=False)


async def inspect(call: Call) -> web.Response:
    """GET /images/{name}/json."""
    return json_response(older_versions.image_inspection(await call.images.inspect(call.argument), call.version))


async def history(call: Call) -> web.Response:
    """GET /images/{name}/history."""
    return json_response(await call.images.history(call.argument))


async def tag(call: Call) -> web.Response:
    """POST /images/{name}/tag."""
    await call.images.tag(call.argument, call.query.text("repo"), call.query.text("tag"))
    return empty_response(201)


async def push(call: Call) -> web.Response:
    """POST /images/{name}/push."""
    parse_reference(call.argument)
    raise Unsupported(f"pushing {call.argument} is not possible yet: this engine can't reach image registries")


async def remove(call: Call) -> web.Response:
    """DELETE /images/{name}."""
    query = call.query
    return json_response(await call.images.remove(call.argument, query.flag("force"), not query.flag("noprune")))


async def prune(call: Call) -> web.Response:
    """POST /images/prune."""
    return json_response(await call.images.prune(call.query.filters()))


ROUTES = (
    Route("GET", "/images/json", list_images),
    Route("POST", "/images/create", create, ClientLeft.ENDS),
    Route("POST", "/images/load", load, ClientLeft.ENDS),
    Route("GET", "/images/get", save_several, ClientLeft.ENDS),
    Route("POST", "/images/prune", prune),
    Route("GET", "/images/{name}/json", inspect),
    Route("GET", "/images/{name}/history", history),
    Route("GET", "/images/{name}/get", save, ClientLeft.ENDS),
    Route("POST", "/images/{name}/tag", tag),
    Route("POST", "/images/{name}/push", push),
    Route("DELETE", "/images/{name}", remove),
)
