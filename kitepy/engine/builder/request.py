"""What a client asks of one build, and the tools that the builder gets for it from the engine."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from kitepy.engine.builder.cache import BuildCache
from kitepy.engine.builder.steps import StepLimits, StepRunner
from kitepy.engine.model.image import Image
from kitepy.engine.model.platform import Platform
from kitepy.engine.storage.layers import LayerStore
from kitepy.engine.storage.overlay import OverlayStore
from kitepy.engine.storage.worker import WorkerPool

Say = Callable[[dict[str, Any]], Awaitable[None]]
"""Hands a message to whoever watches the build."""


@dataclass(frozen=True)
class BuildRequest:
    """The options of one build that concern its making; tags are the service's matter."""

    dockerfile: str = "Dockerfile"
    target: str = ""
    platform: str = ""
    build_args: Mapping[str, str | None] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    no_cache: bool = False
    remove_intermediate: bool = True
    network: str = ""
    extra_hosts: tuple[str, ...] = ()
    shm_size_bytes: int = 0
    cgroup_parent: str = ""
    security_opt: tuple[str, ...] = ()
    limits: StepLimits = field(default_factory=StepLimits)


@dataclass(frozen=True)
class Context:
    """The files of a build: an unpacked directory, from which ignored files are gone already."""

    root: Path
    scratch: Path
    """A directory of this build's own, on the file system of the data root; its owner removes it."""


class ImageLookup(Protocol):
    """Finds base images, or fetches them."""

    async def __call__(self, name: str, platform: Platform | None, say: Say, /) -> Image:
        """The image of a reference or id, for a platform if one was asked for; ``say`` is told how it is fetched.

        Raises an ``EngineError`` that says why there is none.
        """


@dataclass(frozen=True)
class Tools:
    """What building needs of the engine."""

    find_image: ImageLookup
    layers: LayerStore
    overlays: OverlayStore
    workers: WorkerPool
    cache: BuildCache
    runner: StepRunner
    cache_mounts: Path
    """Directory with the content of ``RUN --mount=type=cache``, kept between builds."""
    clock: Callable[[], int]
    """Nanoseconds since the epoch."""
    cache_locks: dict[str, asyncio.Lock] = field(default_factory=dict)
    """Of cache mounts that are not shared, by their ids; for all builds of an engine."""
