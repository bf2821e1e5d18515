"""The images that a build begins with or copies from: those on this machine, and the others pulled on its behalf."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any, Protocol

from kitepy.engine.model.errors import NotFound
from kitepy.engine.model.image import Image
from kitepy.engine.model.platform import Platform
from kitepy.engine.model.reference import DEFAULT_DOMAIN, Reference, parse_reference
from kitepy.engine.model.registry import AuthConfigBody

HUB_ACCOUNT = "https://index.docker.io/v1/"
"""What clients keep credentials for Docker Hub under."""

Say = Callable[[dict[str, Any]], Awaitable[None]]


class Resolver(Protocol):
    """Finds images on this machine."""

    def resolve(self, name: str) -> Image: ...


class Puller(Protocol):
    """Fetches the others."""

    def pull(
        self, reference: Reference, platform: Platform | None, auth: AuthConfigBody
    ) -> AsyncGenerator[dict[str, Any], None]: ...


class BaseImages:
    """For one build; satisfies the builder's ``ImageLookup``."""

    def __init__(
        self,
        images: Resolver,
        puller: Puller | None,
        *,
        always_pull: bool = False,
        auths: Mapping[str, AuthConfigBody] | None = None,
    ) -> None:
        """``always_pull`` asks registries also for what is here, once a name; ``auths`` are credentials by registry."""
        self._images = images
        self._puller = puller
        self._always = always_pull
        self._auths = auths or {}
        self._pulled: set[tuple[str, Platform | None]] = set()
        self._pulling = asyncio.Lock()

    async def __call__(self, name: str, platform: Platform | None, say: Say) -> Image:
        """The image of a name, for a platform if one was asked for; ``say`` is told how it is pulled.

        Raises whatever stands in the way of pulling it.
        """
        # One after the other, so that messages don't mix and no two stages pull the same.
        async with self._pulling:
            fresh = (name, platform) in self._pulled or not self._always
            image = self._here(name) if fresh or self._puller is None else None
            if image is not None and (platform is None or self._puller is None or platform.rank(image.platform) is not None):
                return image
            if self._puller is None or _is_id(image or self._here(name), name):
                return self._images.resolve(name)
            reference = parse_reference(name).with_default_tag()
            async with aclosing(self._puller.pull(reference, platform, self._credentials(reference))) as messages:
                async for message in messages:
                    await say(message)
            self._pulled.add((name, platform))
            return self._images.resolve(name)

    def _here(self, name: str) -> Image | None:
        try:
            return self._images.resolve(name)
        except NotFound:
            return None

    def _credentials(self, reference: Reference) -> AuthConfigBody:
        key = HUB_ACCOUNT if reference.domain == DEFAULT_DOMAIN else reference.domain
        if key in self._auths:
            return self._auths[key]
        for account, auth in self._auths.items():
            host = account.partition("://")[2] or account
            if host.partition("/")[0] == reference.domain:
                return auth
        return AuthConfigBody()


def _is_id(image: Image | None, name: str) -> bool:
    """Whether a name is an image's id rather than what a registry may know."""
    return image is not None and image.id.removeprefix("sha256:").startswith(name.removeprefix("sha256:"))
