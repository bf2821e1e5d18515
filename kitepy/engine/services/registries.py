"""The user's dealings with image registries that change nothing here. Satisfies ``ports.RegistryService``."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from kitepy.engine.distribution.credentials import Credentials
from kitepy.engine.distribution.endpoints import registry_host
from kitepy.engine.distribution.failures import RegistryError, Unreachable
from kitepy.engine.distribution.registries import Registries
from kitepy.engine.distribution.repository import FetchedManifest, Repository, refuse_schema_1
from kitepy.engine.distribution.search import Found, split_term
from kitepy.engine.model.errors import InvalidParameter, NotFound, SystemFailure
from kitepy.engine.model.filters import Filters
from kitepy.engine.model.oci import DOCKER_MANIFEST, INDEX_TYPES, Descriptor, digest_of, parse_index, parse_manifest
from kitepy.engine.model.reference import parse_reference
from kitepy.engine.model.registry import AuthConfigBody

MOST_FOUND = 100
_USUAL_LIMIT = 25
_FILTERS = ("is-automated", "is-official", "stars")
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII)
_FULL_ID = re.compile(r"(?:sha256:)?[0-9a-f]{64}")
LARGEST_CONFIG = 8 << 20
_PLATFORM_KEYS = ("architecture", "os", "os.version", "os.features", "variant")


class RegistryAccess:
    """Asks registries; keeps no credentials."""

    def __init__(self, registries: Registries) -> None:
        self._registries = registries

    async def log_in(self, body: AuthConfigBody) -> dict[str, Any]:
        """Check credentials; gives the document of ``POST /auth``."""
        token = await self._registries.log_in(registry_host(body.serveraddress), Credentials.of(body))
        return {"IdentityToken": token, "Status": "Login Succeeded"}

    async def search(self, term: str, limit: int | None, filters: Filters, auth: AuthConfigBody) -> list[dict[str, Any]]:
        """Repositories of the registry that the term names, or of Docker Hub."""
        filters.require_known(_FILTERS)
        automated, official = (_flag(filters, key) for key in ("is-automated", "is-official"))
        stars = _least_stars(filters)
        if "://" in term:
            raise InvalidParameter(f"invalid repository name: repository name ({term}) should not have a scheme")
        limit = limit or _USUAL_LIMIT
        if not 1 <= limit <= MOST_FOUND:
            raise InvalidParameter(f"limit {limit} is outside the range of [1, {MOST_FOUND}]")
        if automated:
            return []  # nobody builds them any more, so dockerd finds none
        host, wanted = split_term(term)
        found = await self._registries.search(registry_host(host) if host else "", wanted, limit, Credentials.of(auth))
        return [_result(item) for item in found if official in (None, item.official) and item.stars >= stars]

    async def distribution(self, name: str, auth: AuthConfigBody) -> dict[str, Any]:
        """DistributionInspect: the descriptor and the platforms of what a registry has under a name."""
        if _FULL_ID.fullmatch(name):
            raise SystemFailure("no manifest found for full image ID")
        reference = parse_reference(name).with_default_tag()
        async with self._registries.repository(reference, Credentials.of(auth), patience_s=2) as repository:
            fetched = await repository.manifest(reference.digest or reference.tag or "", plainly=True)
            refuse_schema_1(fetched, reference)
            descriptor = Descriptor(fetched.media_type, fetched.digest, len(fetched.raw))
            return {"Descriptor": descriptor.to_json(), "Platforms": await _platforms(repository, fetched)}


async def fetch_config(repository: Repository, descriptor: Descriptor) -> bytes:
    """The bytes of an image's configuration, verified; raises SystemFailure for what is none."""
    if not 0 <= descriptor.size <= LARGEST_CONFIG:
        raise SystemFailure(f"the image's configuration has {descriptor.size} bytes: at most {LARGEST_CONFIG} are read")
    raw = b""
    async with repository.open_blob(descriptor.digest, descriptor.size) as blob:
        async for piece in blob:
            raw += piece
            if len(raw) > LARGEST_CONFIG:
                break  # and its digest will not be right
    if digest_of(raw) != descriptor.digest:
        raise SystemFailure(f"image config verification failed for digest {descriptor.digest}")
    return raw


async def _platforms(repository: Repository, fetched: FetchedManifest) -> list[Mapping[str, Any]] | None:
    if fetched.media_type in INDEX_TYPES:
        entries = json.loads(fetched.raw).get("manifests") or []
        parse_index(fetched.raw)
        return [_platform(entry.get("platform") or {}) for entry in entries] or None
    if fetched.media_type != DOCKER_MANIFEST:
        return None  # dockerd looks no further, either
    try:
        document = json.loads(await fetch_config(repository, parse_manifest(fetched.raw).config))
    except (ValueError, RecursionError, RegistryError, Unreachable, SystemFailure, NotFound):
        return None  # it is told apart from an error: an artifact that is no image has no platform
    if not isinstance(document, dict) or not (document.get("os") or document.get("architecture")):
        return None
    return [_platform(document)]


def _platform(document: Mapping[str, Any]) -> dict[str, Any]:
    found = {key: document[key] for key in _PLATFORM_KEYS if document.get(key)}
    return {"architecture": "", "os": "", **found}


def _flag(filters: Filters, key: str) -> bool | None:
    """A boolean filter; None when it is not given."""
    values = filters.get(key)
    if not values:
        return None
    truths = {value in ("1", "true") for value in values if value in ("0", "1", "false", "true")}
    if len(truths) != 1 or any(value not in ("0", "1", "false", "true") for value in values):
        raise InvalidParameter(f"invalid filter '{key}=[{' '.join(values)}]'")
    return truths.pop()


def _least_stars(filters: Filters) -> int:
    least = 0
    for value in filters.get("stars"):
        if not _INTEGER.fullmatch(value):
            raise InvalidParameter(f"invalid filter 'stars={value}': strconv.Atoi: parsing \"{value}\": invalid syntax")
        least = max(least, int(value))
    return least


def _result(found: Found) -> dict[str, Any]:
    return {
        "star_count": found.stars,
        "is_official": found.official,
        "name": found.name,
        "is_automated": False,
        "description": found.description,
    }
