"""The gateway's part about registries: the client's documents as the app's values, and whose login goes with which request."""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import Any

from kitepy.client import BundledEngine, EngineClient, EngineMode, NotFound
from kitepy.client.docker_config import server_of
from kitepy.gui.gateway.failures import told
from kitepy.gui.gateway.logins import Logins
from kitepy.gui.gateway.registry_port import LoginsRead
from kitepy.gui.models.discover import Hit, ImageConfig, LayerToFetch, LocalImage, PullPreview, Tag, TagsPage
from kitepy.gui.models.reference import DOCKER_HUB, Reference, is_tag, parse_reference
from kitepy.gui.models.registry import EngineRegistries, NewLogin
from kitepy.gui.models.transfer import TransferMessage
from kitepy.gui.models.trouble import EnginePlaces

Json = Mapping[str, Any]

_LONGEST_TEXT = 400
_MOST_ENTRIES = 64


class RegistryCalls:
    """Part of `EngineGateway`."""

    _client: EngineClient
    _bundled: BundledEngine
    _logins: Logins

    async def search(self, registry: str, words: str, limit: int) -> tuple[Hit, ...]:
        authorization = await self._logins.authorization(registry)
        term = words if registry == DOCKER_HUB else f"{registry}/{words}"
        with told():
            found = await self._client.search(term, limit, authorization)
        return tuple(hit for entry in found if (hit := hit_from_search(registry, entry)) is not None)

    async def tags(self, repository: Reference, *, after: str, words: str, limit: int) -> TagsPage:
        authorization = await self._logins.authorization(repository.registry)
        with told():
            document = await self._client.tags(repository.familiar_repository, after, words, limit, authorization)
        found = (tag_from(entry) for entry in document.get("Tags") or ())
        # What no pull could name isn't shown: a registry may say anything.
        return TagsPage(tuple(tag for tag in found if is_tag(tag.name)), str(document.get("Next") or ""))

    async def preview_pull(self, reference: Reference, platform: str) -> PullPreview:
        authorization = await self._logins.authorization(reference.registry)
        with told():
            document = await self._client.preview_pull(reference.pulled, platform, authorization)
            return preview_from(reference.pulled, document, await self._local(reference.pulled))

    async def pull(self, reference: str, platform: str) -> AsyncIterator[TransferMessage]:
        parsed = parse_reference(reference)
        authorization = await self._logins.authorization(parsed.registry) if parsed else ""
        with told():
            async with self._client.pull(reference, platform, authorization) as stream:
                async for message in stream:
                    yield transfer_message(message)

    async def engine_registries(self) -> EngineRegistries:
        with told():
            config = (await self._client.info()).get("RegistryConfig") or {}
        insecure = tuple(name for name, index in (config.get("IndexConfigs") or {}).items() if not index.get("Secure", True))
        return EngineRegistries(
            (*insecure, *(config.get("InsecureRegistryCIDRs") or ())), tuple(config.get("Mirrors") or ()), self._places
        )

    async def logins(self) -> LoginsRead:
        return await self._logins.read()

    async def check_registry(self, host: str) -> None:
        authorization = await self._logins.authorization(host)
        with told():
            await self._client.check_login(server_of(host), authorization)

    async def log_in(self, login: NewLogin) -> None:
        with told():
            token = await self._client.log_in(server_of(login.host), login.user, login.password)
        await self._logins.keep(login, token)

    async def log_out(self, host: str) -> None:
        await self._logins.forget(host)

    @property
    def _places(self) -> EnginePlaces:
        """Where this engine looks, by whose rights it runs with."""
        if self._bundled.paths.mode is EngineMode.ROOT:
            return EnginePlaces()
        configured = os.environ.get("XDG_CONFIG_HOME", "")
        home = Path(configured) if configured.startswith("/") else Path.home() / ".config"
        return EnginePlaces(str(home / "docker/certs.d"), str(home / "kitepy/engine.json"))

    async def _local(self, reference: str) -> LocalImage | None:
        try:
            return local_from_inspect(await self._client.image(reference))
        except NotFound:
            return None


def hit_from_search(registry: str, entry: Json) -> Hit | None:
    """One entry of `GET /images/search`, which may tell its registry in its name; None for what is no name."""
    name = str(entry.get("name") or "").removeprefix(f"{registry}/")
    parsed = parse_reference(name if registry == DOCKER_HUB else f"{registry}/{name}")
    if parsed is None or parsed.registry != registry:
        return None
    stars = entry.get("star_count")
    return Hit(
        registry,
        parsed.repository,
        shown(entry.get("description")),
        max(0, stars) if isinstance(stars, int) else 0,
        entry.get("is_official") is True,
    )


def tag_from(entry: Json) -> Tag:
    """One entry of `GET /kitepy/registries/tags`."""
    return Tag(
        str(entry.get("Name") or ""),
        shown(entry.get("Digest")),
        int(entry.get("Size") or 0),
        shown(entry.get("Created")),
        _several(entry.get("Platforms")),
    )


def preview_from(reference: str, document: Json, local: LocalImage | None) -> PullPreview:
    """`GET /kitepy/registries/preview`."""
    layers = tuple(
        LayerToFetch(str(layer.get("Digest") or ""), int(layer.get("Size") or 0), layer.get("Here") is True)
        for layer in document.get("Layers") or ()
    )
    return PullPreview(
        reference,
        str(document.get("Digest") or ""),
        str(document.get("ID") or ""),
        shown(document.get("Created")),
        shown(document.get("Platform")),
        _several(document.get("Platforms")),
        layers,
        int(document.get("Size") or 0),
        int(document.get("Fetch") or 0),
        config_from(document.get("Config") or {}),
        local,
    )


def config_from(document: Json) -> ImageConfig:
    """An image's configuration (OCI image-spec 1.1, config.md), as registries and `GET /images/{name}/json` have it."""
    return ImageConfig(
        shown(document.get("User")),
        _several(sorted(document.get("ExposedPorts") or {})),
        _several(document.get("Env")),
        _several(document.get("Entrypoint")),
        _several(document.get("Cmd")),
        shown(document.get("WorkingDir")),
        _several(sorted(document.get("Volumes") or {})),
    )


def local_from_inspect(document: Json) -> LocalImage:
    digests = tuple(str(name).partition("@")[2] for name in document.get("RepoDigests") or ())
    return LocalImage(
        str(document.get("Id") or ""),
        str(document.get("Created") or ""),
        int(document.get("Size") or 0),
        config_from(document.get("Config") or {}),
        digests,
    )


def transfer_message(message: Json) -> TransferMessage:
    detail = message.get("progressDetail")
    detail = detail if isinstance(detail, dict) else {}
    return TransferMessage(
        str(message.get("status") or ""), str(message.get("id") or ""), _count(detail.get("current")), _count(detail.get("total"))
    )


def _count(value: object) -> int:
    return value if isinstance(value, int) else 0


def shown(value: object, limit: int = _LONGEST_TEXT) -> str:
    """Text of strangers as it may be shown: on one line, of bearable length, without marks that turn or hide what follows."""
    text = str(value or "")[: 8 * limit]
    text = " ".join("".join(mark if mark.isprintable() or mark.isspace() else "\ufffd" for mark in text).split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _several(values: Iterable[Any] | None) -> tuple[str, ...]:
    return tuple(shown(value) for value in itertools.islice(values or (), _MOST_ENTRIES))
