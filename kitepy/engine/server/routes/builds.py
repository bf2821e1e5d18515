"""Routes of the builder: the query of a build is read into options here, what they mean is the builder's matter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

import msgspec
from aiohttp import web

from kitepy.engine.model.container_config import Ulimit
from kitepy.engine.model.errors import Unsupported
from kitepy.engine.server.call import Call, ClientLeft, Route
from kitepy.engine.server.errors import BadRequest
from kitepy.engine.server.query import Query
from kitepy.engine.server.registry_auth import registry_auths
from kitepy.engine.server.responses import json_response, stream_progress
from kitepy.engine.services.ports import BuildOptions

Shape = TypeVar("Shape")


async def build(call: Call) -> web.StreamResponse:
    """POST /build."""
    if call.query.text("version", "1") not in ("", "1"):
        raise Unsupported("building with BuildKit's protocol is not possible; set DOCKER_BUILDKIT=0 to use the classic one")
    if call.query.text("outputs") not in ("", "[]", "null"):
        raise Unsupported("build outputs other than an image are not supported by the classic builder: leave --output out")
    options = replace(read_options(call.query), registry_auths=registry_auths(call))
    return await stream_progress(call, call.builds.build(call.content(), options))


def read_options(query: Query) -> BuildOptions:
    """The options of a build; raises BadRequest for a malformed value."""
    return BuildOptions(
        dockerfile=query.optional("dockerfile") or "Dockerfile",
        tags=tuple(tag for tag in query.all("t") if tag),
        quiet=query.flag("q"),
        no_cache=query.flag("nocache"),
        remove_intermediate=query.flag("rm", default=True),
        build_args=_json(query, "buildargs", dict[str, str | None], {}),
        labels=_json(query, "labels", dict[str, str], {}),
        target=query.text("target"),
        platform=query.text("platform"),
        network_mode=query.text("networkmode"),
        shm_size_bytes=query.integer("shmsize") or 0,
        memory_bytes=query.integer("memory") or 0,
        memory_swap_bytes=query.integer("memswap") or 0,
        cpu_shares=query.integer("cpushares") or 0,
        cpu_period=query.integer("cpuperiod") or 0,
        cpu_quota=query.integer("cpuquota") or 0,
        cpuset_cpus=query.text("cpusetcpus"),
        cpuset_mems=query.text("cpusetmems"),
        cgroup_parent=query.text("cgroupparent"),
        extra_hosts=tuple(host for given in query.all("extrahosts") for host in given.split(",") if host),
        cache_from=tuple(_json(query, "cachefrom", list[str], [])),
        squash=query.flag("squash"),
        remote=query.text("remote"),
        pull=query.flag("pull"),
        ulimits=tuple(_ulimit(limit) for limit in _json(query, "ulimits", list[Ulimit], [])),
        security_opt=tuple(_json(query, "securityopt", list[str], [])),
    )


def _ulimit(limit: Ulimit) -> Mapping[str, Any]:
    document: dict[str, Any] = msgspec.to_builtins(limit)
    return document


def _json(query: Query, name: str, shape: type[Shape], default: Shape) -> Shape:
    text = query.optional(name)
    if text is None or text == "null":
        return default
    try:
        return msgspec.json.decode(text.encode(), type=shape)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        raise BadRequest(f"invalid value for {name}: {error}") from None


async def prune(call: Call) -> web.Response:
    """POST /build/prune."""
    query = call.query
    keep_bytes = query.integer("reserved-space") or query.integer("keep-storage") or 0
    return json_response(await call.builds.prune(query.flag("all"), query.filters(), keep_bytes))


async def cancel(_call: Call) -> web.Response:
    """POST /build/cancel."""
    raise Unsupported("cancelling a build by its id is not possible; close its connection instead")


async def session(call: Call) -> web.Response:
    """POST /session and /grpc: BuildKit's ways in."""
    if "Upgrade" not in call.request.headers:
        raise BadRequest("no upgrade proto in request")
    raise Unsupported("BuildKit sessions are not possible; set DOCKER_BUILDKIT=0 to use the classic builder")


ROUTES = (
    Route("POST", "/build", build, ClientLeft.ENDS),
    Route("POST", "/build/prune", prune),
    Route("POST", "/build/cancel", cancel),
    Route("POST", "/session", session),
    Route("POST", "/grpc", session),
)
