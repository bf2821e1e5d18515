"""Searches for repositories: by the search service of Docker Hub and registries like it, or through a registry's catalog."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from urllib.parse import urlencode

from kitepy.engine.distribution.answers import json_problem
from kitepy.engine.distribution.credentials import Credentials
from kitepy.engine.distribution.endpoints import Endpoint
from kitepy.engine.distribution.failures import RegistryError, Unreachable
from kitepy.engine.distribution.redirects import followed, read_short
from kitepy.engine.distribution.transport import Transport
from kitepy.engine.model.errors import InvalidParameter, SystemFailure

SEARCH_HOST = "index.docker.io"
"""Docker Hub's search service."""
_HUB_NAMES = frozenset({"docker.io", "index.docker.io"})
_LONGEST_ANSWER = 8 << 20
_MOST_PAGES = 100


@dataclass(frozen=True)
class Found:
    """A repository; ``name`` is without its registry."""

    name: str
    description: str = ""
    stars: int = 0
    official: bool = False


def split_term(term: str) -> tuple[str, str]:
    """The registry that a search term names, empty for Docker Hub, and what to look for there."""
    first, slash, rest = term.partition("/")
    if not slash or not (set(first) & {".", ":"} or first == "localhost"):
        return "", term
    return ("", rest.removeprefix("library/")) if first in _HUB_NAMES else (first, rest)


async def search_service(
    transport: Transport, endpoint: Endpoint, term: str, limit: int, credentials: Credentials
) -> list[Found] | None:
    """What a search service finds; None where there is none."""
    url = f"{endpoint.url}/v1/search?{urlencode({'q': term, 'n': limit})}"
    headers = {"X-Docker-Token": "true"}
    if credentials.basic:
        headers["Authorization"] = credentials.basic
    async with followed(transport, "GET", url, headers) as answer:
        raw = await read_short(answer, _LONGEST_ANSWER)
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise SystemFailure(f"Unexpected status code {answer.status}")
    try:
        entries = json.loads(raw).get("results") or []
    except (ValueError, RecursionError):
        raise SystemFailure(f"error decoding registry search results: {json_problem(raw)}") from None
    except AttributeError:
        raise SystemFailure("error decoding registry search results: they are no object") from None
    if not isinstance(entries, list):
        raise SystemFailure("error decoding registry search results: they are no list")
    return [_found(entry) for entry in entries if isinstance(entry, dict)]


async def find_endpoint(ways: Sequence[tuple[Endpoint, Transport]]) -> tuple[Endpoint, Transport]:
    """The first endpoint that answers; raises InvalidParameter, worded as dockerd does, when none does."""
    problems: list[str] = []
    for endpoint, transport in ways:
        try:
            async with followed(transport, "GET", f"{endpoint.url}/v1/_ping", {}) as answer:
                await read_short(answer, _LONGEST_ANSWER)
            return endpoint, transport
        except Unreachable as error:
            problems.append(str(error))
    host = ways[0][0].host
    if len(problems) > 1:
        raise InvalidParameter(
            f'invalid registry endpoint "http://{host}/v1/". HTTPS attempt: {problems[0]}. HTTP attempt: {problems[1]}'
        )
    raise InvalidParameter(
        f"invalid registry endpoint https://{host}/v1/: {problems[0]}. If this private registry supports only HTTP or HTTPS with "
        f"an unknown CA certificate, please add `--insecure-registry {host}` to the daemon's arguments. In the case of HTTPS, if "
        "you have access to the registry's CA certificate, no need for the flag; simply place the CA certificate at "
        f"/etc/docker/certs.d/{host}/ca.crt"
    )


async def search_catalog(catalog: AsyncIterator[list[str]], term: str, limit: int) -> list[Found] | None:
    """Repositories of a catalog whose names contain the term; None where the registry shows no catalog."""
    found: list[Found] = []
    pages = 0
    try:
        async with aclosing(catalog) as listing:  # type: ignore[type-var]  # every asynchronous generator can be closed
            async for names in listing:
                found += [Found(name) for name in names if term.lower() in name.lower()]
                pages += 1
                if len(found) >= limit or pages >= _MOST_PAGES:
                    break
    except RegistryError as error:
        if error.status in (404, 405):
            return None
        raise
    return found[:limit]


def _found(entry: dict[str, object]) -> Found:
    stars = entry.get("star_count")
    return Found(
        name=str(entry.get("name") or ""),
        description=str(entry.get("description") or ""),
        stars=stars if isinstance(stars, int) else 0,
        official=entry.get("is_official") is True,
    )
