"""One image looked into: the steps of its making, its layers with their files, what is in it in vain, its configuration. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from kitepy.gui.models.volume import Folder


@dataclass(frozen=True)
class ImageStep:
    """One line of the history. `layer` is the number of the layer that it made, from 0 at the bottom; None for none."""

    created_by: str
    created_at: str = ""
    comment: str = ""
    layer: int | None = None

    @property
    def words(self) -> str:
        """The instruction; an import has none, but a comment."""
        return instruction(self.created_by or self.comment)


@dataclass(frozen=True)
class ImageLayer:
    """`images`: how many of this machine have it, 0 when that isn't known. The counts are None while nobody has counted."""

    number: int
    size_bytes: int = 0
    digest: str = ""
    images: int = 0
    added: int | None = None
    changed: int | None = None
    removed: int | None = None
    wasted_bytes: int | None = None

    @property
    def words(self) -> str:
        """What it does to the files, for one line."""
        if self.added is None:
            return ""
        parts = [
            f"{count:,} {word}"
            for count, word in ((self.added, "added"), (self.changed, "changed"), (self.removed, "removed"))
            if count
        ]
        return ", ".join(parts) or "no files"


@dataclass(frozen=True)
class Wasted:
    """A file or folder of a layer that layer `by` replaces or removes."""

    path: str
    is_folder: bool
    layer: int
    by: int
    removed: bool
    files: int
    size_bytes: int


@dataclass(frozen=True)
class ImageLayers:
    """`wasted_bytes` is None while nobody has counted. `browsable`: the engine shows files by layer."""

    steps: tuple[ImageStep, ...] = ()
    layers: tuple[ImageLayer, ...] = ()
    wasted_bytes: int | None = None
    worst: tuple[Wasted, ...] = ()
    incomplete: bool = False
    browsable: bool = True

    @property
    def size_bytes(self) -> int:
        return sum(layer.size_bytes for layer in self.layers)

    @property
    def efficiency(self) -> float | None:
        """The share of the bytes that anybody sees."""
        if self.wasted_bytes is None:
            return None
        return 1.0 - self.wasted_bytes / self.size_bytes if self.size_bytes else 1.0

    def step_of(self, layer: int) -> ImageStep | None:
        return next((step for step in self.steps if step.layer == layer), None)


@dataclass(frozen=True)
class ImageDetails:
    """What containers get of it, and where it comes from."""

    platform: str = ""
    created_at: str = ""
    author: str = ""
    user: str = ""
    directory: str = ""
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    health_check: str = ""
    stop_signal: str = ""
    digests: tuple[str, ...] = ()
    document: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Looking:
    """The image in sight, as far as it was asked for. `own`: only what the layer itself has, else all up to it."""

    image_id: str = ""
    config: ImageDetails | None = None
    layers: ImageLayers | None = None
    error: str = ""
    usage_error: str = ""
    """Why nobody could count what is in it in vain."""
    layer: int = -1
    own: bool = True
    folders: Mapping[str, Folder] = field(default_factory=dict)
    """By path, of the layer that is chosen."""

    @property
    def view(self) -> str:
        """What the folders belong to."""
        return f"{self.image_id} {self.layer} {self.own}"


def with_layer(looking: Looking, layer: int, own: bool) -> Looking:
    """Another layer's files, none of which are known yet."""
    if (layer, own) == (looking.layer, looking.own):
        return looking
    return replace(looking, layer=layer, own=own, folders={})


def with_folder(looking: Looking, path: str, folder: Folder) -> Looking:
    return replace(looking, folders={**looking.folders, path: folder})


_SHELL = re.compile(r"^(?:\|\d+ .*? )?/bin/(?:ba)?sh (?:-o \S+ )?-e?c ", re.DOTALL)
_NOP = re.compile(r"^#\(nop\)\s+")


def instruction(created_by: str) -> str:
    """A step as a Dockerfile has it: without the shell around it and the marks of builders, on one line."""
    text = created_by.removesuffix("# buildkit").strip()
    explicit = text.startswith("RUN ")
    inner = _SHELL.sub("", text.removeprefix("RUN ").lstrip() if explicit else text)
    if explicit or inner != text:
        text = _NOP.sub("", inner) if _NOP.match(inner) else f"RUN {inner}"
    return "".join(letter if letter.isprintable() else " " for letter in " ".join(text.split())) or "(nothing is told)"


CHANGE_SIGNS = {"added": "+", "changed": "~", "removed": "−"}
"""Beside the name, so that a change isn't told by its colour alone."""
