"""An image as the engine knows it: identity, document, layers and size; where it is stored is storage's business."""

from __future__ import annotations

from dataclasses import dataclass

from kitepy.engine.model.errors import NotFound
from kitepy.engine.model.oci import ChainId, Digest, ImageConfig, ImageDocument
from kitepy.engine.model.platform import Platform


@dataclass(frozen=True)
class Image:
    """One image. Its tags are not part of it: they come and go without changing the image."""

    id: Digest
    """Digest of the configuration document's bytes."""
    document: ImageDocument
    raw_config: bytes
    """The bytes that ``id`` is the digest of."""
    layers: tuple[ChainId, ...]
    """Chain ids, bottom first: the last one stands for the whole root file system."""
    size_bytes: int
    """Sum of the layers' file sizes."""
    created_ns: int
    """When the image was made according to its document, else when it came here; since the epoch."""
    parent_id: Digest | None = None
    """The image this one was built from, when it was built here."""

    @property
    def config(self) -> ImageConfig:
        """Defaults for containers."""
        return self.document.config

    @property
    def top_layer(self) -> ChainId | None:
        """The chain id to mount; None for an image without layers (``FROM scratch`` and only metadata)."""
        return self.layers[-1] if self.layers else None

    @property
    def architecture(self) -> str:
        return self.document.architecture

    @property
    def os(self) -> str:
        return self.document.os

    @property
    def platform(self) -> Platform:
        return Platform(self.document.os, self.document.architecture, self.document.variant)

    def check_platform(self, wanted: Platform, name: str) -> None:
        """Raise ``NotFound`` when the image doesn't run on the platform that the client wants."""
        if wanted.rank(self.platform) is None and not wanted.accepts(self.platform):
            raise NotFound(
                f"image with reference {name} was found but its platform ({self.platform}) "
                f"does not match the specified platform ({wanted})"
            )
