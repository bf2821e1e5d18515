"""Which images of a build are pulled, and as whom."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

import pytest

from kitepy.engine.model.errors import NotFound
from kitepy.engine.model.image import Image
from kitepy.engine.model.oci import Digest, ImageDocument
from kitepy.engine.model.platform import Platform, parse_platform
from kitepy.engine.model.reference import Reference
from kitepy.engine.model.registry import AuthConfigBody
from kitepy.engine.services.base_images import HUB_ACCOUNT, BaseImages

AMD, ARM = parse_platform("linux/amd64"), parse_platform("linux/arm64")


def image(platform: Platform) -> Image:
    document = ImageDocument(os=platform.os, architecture=platform.architecture)
    return Image(Digest("sha256:" + "ab" * 32), document, b"", (), 0, 0)


@dataclass
class Machine:
    """Images here, and a registry that has all names."""

    here: dict[str, Image] = field(default_factory=dict)
    pulled: list[tuple[str, str, str]] = field(default_factory=list)
    """(reference, platform, user)"""

    def resolve(self, name: str) -> Image:
        if name not in self.here:
            raise NotFound(f"No such image: {name}")
        return self.here[name]

    async def pull(
        self, reference: Reference, platform: Platform | None, auth: AuthConfigBody
    ) -> AsyncGenerator[dict[str, Any], None]:
        self.pulled.append((reference.familiar, str(platform or ""), auth.username))
        yield {"status": "Pulling"}
        self.here[reference.familiar.removesuffix(":latest")] = image(platform or AMD)


def found(machine: Machine, *wanted: tuple[str, Platform | None], **options: Any) -> list[Image]:
    async def main() -> list[Image]:
        bases = BaseImages(machine, machine, **options)
        return list(await asyncio.gather(*(bases(name, platform, say) for name, platform in wanted)))

    async def say(_: dict[str, Any]) -> None:
        await asyncio.sleep(0)

    return asyncio.run(main())


def test_what_is_here_is_not_asked_for_and_what_is_missing_once() -> None:
    machine = Machine({"here:1": image(AMD)})
    found(machine, ("here:1", None), ("missing", None), ("missing", None))
    assert machine.pulled == [("missing:latest", "", "")]


def test_what_is_here_is_asked_for_once_when_that_is_wished() -> None:
    machine = Machine({"here:1": image(AMD)})
    found(machine, ("here:1", None), ("here:1", None), always_pull=True)
    assert machine.pulled == [("here:1", "", "")]


def test_an_id_is_no_name_to_ask_for() -> None:
    machine = Machine({"abababababab": image(AMD)})
    found(machine, ("abababababab", None), always_pull=True)
    assert machine.pulled == []


def test_another_platform_than_the_one_here_is_pulled() -> None:
    machine = Machine({"here:1": image(AMD)})
    (got,) = found(machine, ("here:1", ARM))
    assert machine.pulled == [("here:1", "linux/arm64", "")]
    assert got.architecture == "arm64"
    found(machine, ("here:1", ARM))
    assert len(machine.pulled) == 1


@pytest.mark.parametrize(
    ("account", "name", "user"),
    [
        (HUB_ACCOUNT, "library/app", "anna"),
        ("registry.example:5000", "registry.example:5000/app", "anna"),
        ("https://registry.example/v1/", "registry.example/app", "anna"),
        ("registry.example", "registry.example:5000/app", ""),
        ("registry.example", "app", ""),
    ],
)
def test_credentials_are_shown_to_their_registry_alone(account: str, name: str, user: str) -> None:
    machine = Machine()
    found(machine, (f"{name}:1".removeprefix("library/"), None), auths={account: AuthConfigBody(username="anna")})
    assert machine.pulled[0][2] == user
