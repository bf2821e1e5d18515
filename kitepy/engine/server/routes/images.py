"""Routes of images on this machine, and of those that come to it."""

from __future__ import annotations

from dataclasses import replace

from aiohttp import web

from kitepy.engine.model.errors import InvalidParameter
from kitepy.engine.model.filters import Filters
from kitepy.engine.model.platform import Platform, parse_platform, parse_platform_document
from kitepy.engine.model.reference import Reference, check_digest, check_tag, parse_reference
from kitepy.engine.server import older_versions
from kitepy.engine.server.api_version import ApiVersion
from kitepy.engine.server.call import Call, ClientLeft, Route
from kitepy.engine.server.errors import BadRequest
from kitepy.engine.server.registry_auth import registry_auth
from kitepy.engine.server.responses import TAR, empty_response, json_response, stream_bytes, stream_progress
from kitepy.engine.services.ports import ImportRequest

_PLATFORM_SINCE = ApiVersion(1, 32)
_WITHOUT_FILTER = ApiVersion(1, 41)
_SHARED_SIZE = ApiVersion(1, 42)
_PUSHED_BY_PLATFORM = ApiVersion(1, 46)
_PLATFORMS = ApiVersion(1, 48)
_INSPECTED_BY_PLATFORM = ApiVersion(1, 49)
_REMOVED_BY_PLATFORM = ApiVersion(1, 50)
_CONTAINERS_COUNTED = ApiVersion(1, 51)


async def list_images(call: Call) -> web.Response:
    """GET /images/json."""
    query = call.query
    filters = query.filters()
    if call.version < _WITHOUT_FILTER and (pattern := query.optional("filter")):
        filters = Filters({**filters.values, "reference": (*filters.get("reference"), pattern)})
    found = await call.images.list(
        all=query.flag("all"),
        filters=filters,
        shared_size=query.flag("shared-size") and call.version >= _SHARED_SIZE,
        containers=call.version >= _CONTAINERS_COUNTED,
    )
    return json_response([older_versions.image_summary(document, call.version) for document in found])


async def create(call: Call) -> web.StreamResponse:
    """POST /images/create: pull, or import from the body or the web."""
    query = call.query
    if name := query.optional("fromImage"):
        platform = query.optional("platform") if call.version >= _PLATFORM_SINCE else None
        reference = _pulled_reference(name, query.text("tag"))
        wanted = parse_platform(platform) if platform is not None else None
        return await stream_progress(call, call.pulls.pull(reference, wanted, registry_auth(call)))
    request = ImportRequest(
        query.text("repo"),
        query.text("tag"),
        query.text("message"),
        query.all("changes"),
        query.optional("platform") if call.version >= _PLATFORM_SINCE else None,
    )
    source = query.text("fromSrc")
    if source == "-":
        documents = call.images.import_archive(call.protocol.upload or call.content(), request)
    else:
        documents = call.images.import_url(source, request)
    return await stream_progress(call, documents)


async def load(call: Call) -> web.StreamResponse:
    """POST /images/load. Whatever is wrong with the archive is told in the stream, and never by the status."""
    content = call.protocol.upload or call.content()
    documents = call.images.load(content, call.query.flag("quiet", default=True), _platform(call))
    return await stream_progress(call, documents, head_first=True)


async def save_several(call: Call) -> web.StreamResponse:
    """GET /images/get."""
    archive = call.images.save(call.query.all("names"), _platform(call))
    return await stream_bytes(call, TAR, archive, head_first=False)


async def save(call: Call) -> web.StreamResponse:
    """GET /images/{name}/get."""
    return await stream_bytes(call, TAR, call.images.save([call.argument], _platform(call)), head_first=False)


async def inspect(call: Call) -> web.Response:
    """GET /images/{name}/json."""
    platform = _platform(call, since=_INSPECTED_BY_PLATFORM)
    if platform is not None and call.query.flag("manifests"):
        raise BadRequest("conflicting options: manifests and platform options cannot both be set")
    return json_response(older_versions.image_inspection(await call.images.inspect(call.argument, platform), call.version))


async def history(call: Call) -> web.Response:
    """GET /images/{name}/history."""
    return json_response(await call.images.history(call.argument, _platform(call)))


async def tag(call: Call) -> web.Response:
    """POST /images/{name}/tag."""
    repository = call.query.text("repo")
    await call.images.tag(call.argument, repository, call.query.text("tag"))
    return empty_response(201 if repository else 200)


async def push(call: Call) -> web.StreamResponse:
    """POST /images/{name}/push."""
    reference = parse_reference(call.argument)
    if tag := call.query.text("tag"):
        reference = replace(reference, tag=check_tag(tag), digest=None)
    platform = call.query.optional("platform") if call.version >= _PUSHED_BY_PLATFORM else None
    wanted = parse_platform_document(platform) if platform else None
    return await stream_progress(call, call.pushes.push(reference, wanted, registry_auth(call)))


async def remove(call: Call) -> web.Response:
    """DELETE /images/{name}."""
    query = call.query
    given = query.all("platforms") if call.version >= _REMOVED_BY_PLATFORM else ()
    platforms = [parse_platform_document(text) for text in given]
    if len(platforms) > 1:
        raise BadRequest("multiple platforms are not supported")
    removed = await call.images.remove(
        call.argument, query.flag("force"), not query.flag("noprune"), platforms[0] if platforms else None
    )
    return json_response(removed)


async def prune(call: Call) -> web.Response:
    """POST /images/prune."""
    return json_response(await call.images.prune(call.query.filters()))


def _pulled_reference(name: str, tag: str) -> Reference:
    """What is to be pulled; the "tag" may be a digest."""
    reference = parse_reference(name.removesuffix(":"))
    if not tag:
        return reference
    try:
        return Reference(reference.domain, reference.path, None, check_digest(tag))
    except InvalidParameter:
        return replace(reference, tag=check_tag(tag))


def _platform(call: Call, since: ApiVersion = _PLATFORMS) -> Platform | None:
    """The platform that the client wants of an image, for which older versions have no parameter."""
    given = [text for text in call.query.all("platform") if text] if call.version >= since else []
    if len(given) > 1 and since == _PLATFORMS:
        raise BadRequest("multiple platform parameters not supported")
    return parse_platform_document(given[0]) if given else None


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
    Route("POST", "/images/{name}/push", push, ClientLeft.ENDS),
    Route("DELETE", "/images/{name}", remove),
)
