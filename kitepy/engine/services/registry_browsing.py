"""What the app shows of registries before anything is pulled: repositories, tags, and what a pull would bring.

Kitepy's own (docs/registries.md); nothing here waits for a registry that wants to be left alone.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

from kitepy.engine.distribution.credentials import Credentials
from kitepy.engine.distribution.endpoints import registry_host
from kitepy.engine.distribution.failures import RegistryError, Unreachable
from kitepy.engine.distribution.registries import Registries
from kitepy.engine.distribution.repository import FetchedManifest, Repository, refuse_schema_1
from kitepy.engine.model.errors import EngineError, InvalidParameter, NotFound
from kitepy.engine.model.oci import INDEX_TYPES, Digest, Manifest, chain_ids, parse_image_document, parse_index, parse_manifest
from kitepy.engine.model.platform import Platform, host_platform, parse_platform
from kitepy.engine.model.reference import DEFAULT_DOMAIN, Reference, parse_reference
from kitepy.engine.model.registry import AuthConfigBody
from kitepy.engine.services.pulls import choose_manifest
from kitepy.engine.services.registries import fetch_config
from kitepy.engine.storage.content import ContentStore
from kitepy.engine.storage.images import ImageStore
from kitepy.engine.storage.layers import LayerStore

_MOST_ON_A_PAGE = 1000
_USUAL_PAGE = 100
_DEEPEST_INDEX = 4
_MOST_NAMES = 50_000
_PAGE_OF_REGISTRY = 1000


class RegistryBrowsing:
    """Satisfies ``ports.RegistryBrowsing``."""

    def __init__(self, registries: Registries, images: ImageStore, layers: LayerStore, content: ContentStore) -> None:
        self._registries = registries
        self._images = images
        self._layers = layers
        self._content = content

    async def repositories(self, registry: str, limit: int | None, last: str, words: str, auth: AuthConfigBody) -> dict[str, Any]:
        """A page of the names of a registry's repositories: those that contain ``words``, after ``last``."""
        names = self._registries.catalog(registry_host(registry), Credentials.of(auth))
        try:
            async with aclosing(names):  # type: ignore[type-var]  # every asynchronous generator can be closed
                found, following = await _page(names, _checked_limit(limit), last, words)
        except RegistryError as error:
            raise _with_hint(error) from None
        return {"Repositories": found, "Next": following}

    async def tags(self, name: str, limit: int | None, last: str, words: str, auth: AuthConfigBody) -> dict[str, Any]:
        """A page of a repository's tags: those that contain ``words``, after ``last``; ``Next`` is the next page's ``last``."""
        reference = parse_reference(name)
        size = _checked_limit(limit)
        if reference.domain == DEFAULT_DOMAIN:
            page = int(last) if last.isdecimal() and len(last) < 9 else 1
            try:
                known = await self._registries.hub_tags(reference.path, words=words, page=page, page_size=min(size, 100))
            except EngineError:
                known = None  # private, or not reached; the registry is asked itself
            if known is not None:
                following = str(page + 1) if known[1] else ""
                tags = [
                    {
                        "Name": tag.name,
                        "Digest": tag.digest,
                        "Created": tag.updated,
                        "Size": _size_here([(image.platform, image.size) for image in tag.images]),
                        "Platforms": [image.platform for image in tag.images],
                    }
                    for tag in known[0]
                ]
                return {"Name": reference.familiar_name, "Tags": tags, "Next": following}
        async with self._registries.repository(reference, Credentials.of(auth), patience_s=0) as repository:
            names = repository.tags(page_size=_PAGE_OF_REGISTRY, last=last)
            try:
                async with aclosing(names):  # type: ignore[type-var]  # as above
                    found, following = await _page(names, size, last, words)
            except EngineError as error:
                raise _with_hint(error) from None
        return {"Name": reference.familiar_name, "Tags": [{"Name": tag} for tag in found], "Next": following}

    async def preview(self, name: str, platform: str, auth: AuthConfigBody) -> dict[str, Any]:
        """What a pull would bring, and which of it is here."""
        reference = parse_reference(name).with_default_tag()
        wanted = parse_platform(platform) if platform else host_platform()
        try:
            async with self._registries.repository(reference, Credentials.of(auth), patience_s=0) as repository:
                top = await repository.manifest(reference.digest or reference.tag or "")
                refuse_schema_1(top, reference)
                found, platforms = await _image_of(repository, top, wanted)
                manifest = parse_manifest(found.raw)
                if manifest.config.media_type not in _CONFIGS:
                    raise InvalidParameter(
                        f"{reference.familiar} is no image: unsupported media type {manifest.config.media_type}"
                    )
                raw = await fetch_config(repository, manifest.config)
        except (RegistryError, Unreachable) as error:
            raise _with_hint(error) from None
        return self._preview(reference, top, manifest, raw, platforms)

    def _preview(
        self, reference: Reference, top: FetchedManifest, manifest: Manifest, raw: bytes, platforms: list[str]
    ) -> dict[str, Any]:
        document = parse_image_document(raw)
        if len(document.diff_ids) != len(manifest.layers):
            raise InvalidParameter(
                f"{reference.familiar} is no image: its configuration and its manifest count layers differently"
            )
        chains = chain_ids(document.diff_ids)
        layers = [
            {
                "Digest": layer.digest,
                "Size": layer.size,
                "DiffID": diff_id,
                "Here": self._layers.find(chain) is not None or layer.digest in self._content,
            }
            for layer, diff_id, chain in zip(manifest.layers, document.diff_ids, chains, strict=True)
        ]
        own = str(Platform(document.os, document.architecture, document.variant))
        missing = sum(layer.size for layer, entry in zip(manifest.layers, layers, strict=True) if not entry["Here"])
        return {
            "Reference": reference.familiar,
            "Digest": top.digest,
            "MediaType": top.media_type,
            "ID": manifest.config.digest,
            "Created": document.created,
            "Platform": own,
            "Platforms": platforms or [own],
            "Layers": layers,
            "Size": sum(layer.size for layer in manifest.layers) + manifest.config.size,
            "Fetch": missing + (0 if self._has_image(manifest.config.digest) else manifest.config.size),
            "Config": document.config.to_json(),
        }

    def _has_image(self, image_id: Digest) -> bool:
        try:
            self._images.get(image_id)
        except NotFound:
            return False
        return True


_CONFIGS = (
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
    "application/octet-stream",
    "",
)


async def _image_of(repository: Repository, top: FetchedManifest, wanted: Platform) -> tuple[FetchedManifest, list[str]]:
    """The manifest of one image, and all platforms of the index that it was chosen from."""
    found, platforms = top, platforms_of(top)
    for _ in range(_DEEPEST_INDEX):
        if found.media_type not in INDEX_TYPES:
            return found, platforms
        found = await repository.manifest(choose_manifest(found.raw, wanted).digest)
    raise InvalidParameter("image indexes are nested too deeply")


def platforms_of(manifest: FetchedManifest) -> list[str]:
    """Platforms an index has images for; attestations name none."""
    if manifest.media_type not in INDEX_TYPES:
        return []
    found = [Platform.of(entry.platform) for entry in parse_index(manifest.raw).manifests if entry.platform]
    return list(dict.fromkeys(str(platform) for platform in found if platform.os not in ("", "unknown")))


async def _page(names: Any, limit: int, last: str, words: str) -> tuple[list[str], str]:
    """Names after ``last`` that contain ``words``, at most ``limit``, and the last of them where there are more.

    Registries that know no pages give all names, those before ``last`` too.
    """
    found: list[str] = []
    seen = 0
    waiting = bool(last)
    async for page in names:
        if waiting:
            page = page[page.index(last) + 1 :] if last in page else page
            waiting = False
        for name in page:
            if words.lower() not in name.lower():
                continue
            if len(found) == limit:
                return found, found[-1]
            found.append(name)
        seen += len(page)
        if seen > _MOST_NAMES:
            return found, ""
    return found, ""


def _size_here(sizes: list[tuple[str, int]]) -> int:
    """The size for this machine's platform, else the first one's."""
    host = host_platform()
    for platform, size in sizes:
        if host.rank(Platform(*[*platform.split("/"), "", ""][:3])) == 0:
            return size
    return sizes[0][1] if sizes else 0


def _checked_limit(limit: int | None) -> int:
    if limit is None:
        return _USUAL_PAGE
    if not 1 <= limit <= _MOST_ON_A_PAGE:
        raise InvalidParameter(f"n {limit} is outside the range of [1, {_MOST_ON_A_PAGE}]")
    return limit


def _with_hint(error: EngineError) -> EngineError:
    """The error, with how long the registry wants to be left alone where it said so."""
    if isinstance(error, RegistryError) and error.status == 429 and error.retry_after_s:
        return error.worded(f"{str(error).rstrip('.')}, try again in {error.retry_after_s:.0f} s")
    return error
