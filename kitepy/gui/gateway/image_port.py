"""What the app asks of the engine about images, as a part of the gateway's Protocol."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from kitepy.gui.models.image import Image
from kitepy.gui.models.image_detail import ImageDetails, ImageLayers
from kitepy.gui.models.transfer import TransferMessage
from kitepy.gui.models.volume import Folder


@dataclass(frozen=True)
class Progress:
    """How far a copy is; `total_bytes` is 0 while it isn't known."""

    done_bytes: int
    total_bytes: int = 0


@dataclass(frozen=True)
class ImagesArrived:
    """The end of a load or an import: names, or ids of what has none."""

    names: tuple[str, ...]


class ImageGateway(Protocol):
    async def images(self) -> tuple[Image, ...]: ...

    async def image_config(self, image_id: str) -> ImageDetails: ...

    async def image_layers(self, image_id: str, *, usage: bool) -> ImageLayers:
        """With `usage` every file is looked at. An engine that can't tell gives the history alone."""
        ...

    async def image_folder(self, image_id: str, path: str, *, layer: int, own: bool, after: str = "") -> Folder:
        """A page of a folder, with all layers up to one or as that one alone has it."""
        ...

    async def layer_sizes(self, image_id: str) -> Mapping[str, tuple[int, int]]:
        """Bytes of each layer, and how many images have it; empty for an engine that can't tell."""
        ...

    async def tag_image(self, image_id: str, name: str) -> None: ...

    async def remove_image(self, reference: str, *, force: bool) -> None:
        """A name, and the image with its last one; by id, the image with all its names."""
        ...

    def save_images(self, references: Sequence[str], target: Path) -> AsyncIterator[Progress]:
        """To a tar archive; nothing stays of one that is cancelled."""
        ...

    async def is_image_archive(self, source: Path) -> bool:
        """False for another tar archive, which may be a root file system. Raises OperationFailed for what is none."""
        ...

    def load_images(self, source: Path) -> AsyncIterator[Progress | ImagesArrived]: ...

    def import_image(self, source: Path, name: str) -> AsyncIterator[Progress | ImagesArrived]: ...

    def push_image(self, name: str, *, all_tags: bool) -> AsyncIterator[TransferMessage]:
        """With the credentials that are known for its registry. Raises OperationFailed with the registry's or engine's words."""
        ...
