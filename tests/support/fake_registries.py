"""Registries in memory for the app's fake gateway: searches, tags, previews, pulls in steps, logins, and every failure."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

from kitepy.gui.gateway.port import Disconnected, OperationFailed
from kitepy.gui.gateway.registry_port import LoginsRead
from kitepy.gui.models.discover import Hit, ImageConfig, LayerToFetch, PullPreview, Tag, TagsPage
from kitepy.gui.models.reference import Reference, parse_reference
from kitepy.gui.models.registry import EngineRegistries, Keeper, KeeperChoice, Login, NewLogin
from kitepy.gui.models.transfer import TransferMessage

LAYER_BYTES = (31_400_000, 18_200_000, 1_200, 4_700_000)


def digest_of(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


@dataclass
class FakeRegistries:
    """Part of `FakeGateway`: change its fields to say what happens next."""

    calls: list[tuple[str, ...]] = field(default_factory=list)
    hits: dict[str, list[Hit]] = field(default_factory=dict)
    """By registry."""
    tags_of: dict[str, list[Tag]] = field(default_factory=dict)
    """By repository as people write it."""
    previews: dict[str, PullPreview] = field(default_factory=dict)
    """By reference; others are made up."""
    search_failures: dict[str, str] = field(default_factory=dict)
    tags_failure: str = ""
    preview_failures: dict[str, str] = field(default_factory=dict)
    pull_failures: list[str] = field(default_factory=list)
    """Why the next pulls end half way, in this order; an empty text: the engine goes away."""
    hold_search: asyncio.Event | None = None
    hold_pull: asyncio.Event | None = None
    """A pull waits for it half way."""
    hold_first_byte: asyncio.Event | None = None
    hold_login: asyncio.Event | None = None
    pull_steps: list[TransferMessage] = field(default_factory=list)
    """Said before the first byte."""
    logins_by_host: dict[str, Login] = field(default_factory=dict)
    passwords: dict[str, str] = field(default_factory=dict)
    """Which one a registry accepts; others let in anybody."""
    login_failures: dict[str, str] = field(default_factory=dict)
    check_failures: dict[str, str] = field(default_factory=dict)
    keyring_trouble: str = ""
    login_notes: tuple[str, ...] = ()
    configured: EngineRegistries = field(default_factory=EngineRegistries)

    # For tests

    def offer(self, name: str, *tags: str, description: str = "", stars: int = 0, official: bool = False) -> Hit:
        reference = parse_reference(name)
        assert reference is not None
        hit = Hit(reference.registry, reference.repository, description, stars, official)
        self.hits.setdefault(reference.registry, []).append(hit)
        self.tags_of[reference.familiar_repository] = [Tag(tag) for tag in tags]
        return hit

    def preview_of(self, name: str, here: int = 1, **more: object) -> PullPreview:
        """Four layers, the last `here` of which this machine has."""
        layers = tuple(
            LayerToFetch(digest_of(f"{name}{number}"), size, number >= len(LAYER_BYTES) - here)
            for number, size in enumerate(LAYER_BYTES)
        )
        preview = PullPreview(
            name,
            digest_of(name),
            digest_of(f"{name} config"),
            "2026-10-30T09:00:00Z",
            "linux/amd64",
            ("linux/amd64", "linux/arm64/v8"),
            layers,
            sum(LAYER_BYTES),
            sum(layer.size_bytes for layer in layers if not layer.here),
            ImageConfig("", ("80/tcp",), ("PATH=/usr/bin", "VERSION=1.27"), ("/entrypoint.sh",), ("nginx", "-g", "daemon off;")),
        )
        return replace(preview, **more)  # type: ignore[arg-type]  # names are checked by dataclasses.replace

    # RegistryGateway

    async def search(self, registry: str, words: str, limit: int) -> tuple[Hit, ...]:
        self.calls.append(("search", registry, words))
        if self.hold_search is not None:
            try:
                await self.hold_search.wait()
            except asyncio.CancelledError:
                self.calls.append(("search_cancelled", registry, words))
                raise
        await asyncio.sleep(0)
        if registry in self.search_failures:
            raise OperationFailed(self.search_failures[registry])
        found = [hit for hit in self.hits.get(registry, []) if words.lower() in f"{hit.repository} {hit.description}".lower()]
        return tuple(found[:limit])

    async def tags(self, repository: Reference, *, after: str, words: str, limit: int) -> TagsPage:
        self.calls.append(("tags", repository.familiar_repository, after, words))
        await asyncio.sleep(0)
        if self.tags_failure:
            raise OperationFailed(self.tags_failure)
        every = [tag for tag in self.tags_of.get(repository.familiar_repository, []) if words in tag.name]
        first = next((number + 1 for number, tag in enumerate(every) if tag.name == after), 0)
        page = every[first : first + limit]
        return TagsPage(tuple(page), page[-1].name if first + limit < len(every) else "")

    async def preview_pull(self, reference: Reference, platform: str) -> PullPreview:
        self.calls.append(("preview_pull", reference.familiar, platform))
        await asyncio.sleep(0)
        name = reference.familiar
        if name in self.preview_failures:
            raise OperationFailed(self.preview_failures[name])
        preview = self.previews.get(name) or self.preview_of(name)
        return replace(preview, platform=platform) if platform else preview

    async def pull(self, reference: str, platform: str) -> AsyncIterator[TransferMessage]:
        self.calls.append(("pull", reference, platform))
        try:
            parsed = parse_reference(reference)
            assert parsed is not None
            yield TransferMessage(f"Pulling from {parsed.repository}", parsed.tag)
            for step in self.pull_steps:
                yield step
            if self.hold_first_byte is not None:
                await self.hold_first_byte.wait()
            layers = self.previews.get(reference, self.preview_of(reference)).layers
            ids = [layer.digest.removeprefix("sha256:")[:12] for layer in layers]
            for layer, short in zip(layers, ids, strict=True):
                yield TransferMessage("Already exists" if layer.here else "Pulling fs layer", short)
            for number, (layer, short) in enumerate(zip(layers, ids, strict=True)):
                if layer.here:
                    continue
                yield TransferMessage("Downloading", short, layer.size_bytes // 3, layer.size_bytes)
                if number == 1:
                    if self.hold_pull is not None:
                        await self.hold_pull.wait()
                    if self.pull_failures:
                        failure = self.pull_failures.pop(0)
                        raise OperationFailed(failure) if failure else Disconnected("The engine doesn't answer.")
                yield TransferMessage("Downloading", short, layer.size_bytes, layer.size_bytes)
                yield TransferMessage("Verifying Checksum", short)
                yield TransferMessage("Download complete", short)
                yield TransferMessage("Extracting", short, layer.size_bytes // 2, layer.size_bytes)
                yield TransferMessage("Pull complete", short)
            yield TransferMessage(f"Digest: {digest_of(reference)}")
            yield TransferMessage(f"Status: Downloaded newer image for {reference}")
            self.pulled(reference)
        except (asyncio.CancelledError, GeneratorExit):
            self.calls.append(("pull_cancelled", reference))
            raise

    def pulled(self, reference: str) -> None:
        """The image is here now."""

    async def logins(self) -> LoginsRead:
        await asyncio.sleep(0)
        keepers = (
            KeeperChoice(Keeper.KEYRING, self.keyring_trouble),
            KeeperChoice(Keeper.SESSION, note="Forgotten when Kitepy ends."),
            KeeperChoice(Keeper.HELPER, note="Docker's own commands find it there, too.", detail="pass"),
        )
        return LoginsRead(tuple(self.logins_by_host.values()), keepers, self.login_notes)

    async def engine_registries(self) -> EngineRegistries:
        await asyncio.sleep(0)
        return self.configured

    async def check_registry(self, host: str) -> None:
        self.calls.append(("check_registry", host))
        await asyncio.sleep(0)
        if host in self.check_failures:
            raise OperationFailed(self.check_failures[host])

    async def log_in(self, login: NewLogin) -> None:
        self.calls.append(("log_in", login.host, login.user, login.keeper.name))
        if self.hold_login is not None:
            await self.hold_login.wait()
        await asyncio.sleep(0)
        if login.host in self.login_failures:
            raise OperationFailed(self.login_failures[login.host])
        if self.passwords.get(login.host, login.password) != login.password:
            raise OperationFailed("Login failed: unauthorized: incorrect username or password.")
        self.logins_by_host[login.host] = Login(login.host, login.user, login.keeper)

    async def log_out(self, host: str) -> None:
        self.calls.append(("log_out", host))
        await asyncio.sleep(0)
        self.logins_by_host.pop(host, None)
