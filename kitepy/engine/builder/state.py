"""An image in the making: what a stage has come to after each of its instructions. Pure values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from kitepy.engine.builder import metadata
from kitepy.engine.builder.arguments import StageArguments
from kitepy.engine.model.image import Image
from kitepy.engine.model.oci import ChainId, DiffId, Digest, HistoryEntry, ImageConfig, ImageDocument, digest_of
from kitepy.engine.model.platform import Platform


@dataclass(frozen=True)
class StageState:
    """The image so far, and what only matters while it is made."""

    config: ImageConfig
    platform: Platform
    top: ChainId | None = None
    diff_ids: tuple[DiffId, ...] = ()
    layers: tuple[ChainId, ...] = ()
    """Chain ids, bottom first."""
    history: tuple[HistoryEntry, ...] = ()
    created: str = ""
    author: str = ""
    os_version: str = ""
    base: Image | None = None
    arguments: StageArguments = field(default_factory=StageArguments)
    command_is_own: bool = False
    """CMD was given in this stage, so ENTRYPOINT keeps it."""
    changed: bool = False
    """Whether this is another image than its base."""

    @property
    def env(self) -> dict[str, str]:
        """The image's variables."""
        return metadata.environment(self.config.env)

    def document(self) -> ImageDocument:
        """The configuration document of the image so far."""
        return ImageDocument(
            config=self.config,
            diff_ids=self.diff_ids,
            history=self.history,
            created=self.created,
            author=self.author,
            architecture=self.platform.architecture,
            os=self.platform.os,
            variant=self.platform.variant,
            os_version=self.os_version,
        )

    @property
    def image_id(self) -> Digest:
        """The id that the image so far would have."""
        if self.base is not None and not self.changed:
            return self.base.id
        return digest_of(self.document().encode())

    def with_step(self, created_by: str | None, created: str, layer: tuple[ChainId, DiffId] | None) -> StageState:
        """After a step that left a history entry (or none), and perhaps a layer."""
        history = self.history
        if created_by is not None:
            entry = HistoryEntry(
                created=created,
                created_by=created_by,
                author=self.author,
                comment=metadata.HISTORY_COMMENT,
                empty_layer=layer is None,
            )
            history = (*history, entry)
        state = replace(self, history=history, created=created, changed=True)
        if layer is None:
            return state
        chain, diff_id = layer
        return replace(state, top=chain, layers=(*self.layers, chain), diff_ids=(*self.diff_ids, diff_id))

    def with_labels(self, labels: Mapping[str, str], created: str) -> StageState:
        """With the labels that the client asked for."""
        if not labels:
            return self
        config = replace(self.config, labels={**self.config.labels, **labels})
        return replace(self, config=config, created=self.created or created, changed=True)


def from_scratch(platform: Platform) -> StageState:
    """The state after ``FROM scratch``."""
    return StageState(ImageConfig(env=(f"PATH={metadata.DEFAULT_PATH}",), working_dir="/"), platform)


def from_image(image: Image) -> tuple[StageState, tuple[str, ...]]:
    """The state after ``FROM image``, and the triggers that the image left for its children."""
    document = image.document
    state = StageState(
        config=replace(document.config, on_build=()),
        platform=Platform(document.os, document.architecture, document.variant),
        top=image.top_layer,
        diff_ids=document.diff_ids,
        layers=image.layers,
        history=document.history,
        created=document.created,
        author=document.author,
        os_version=document.os_version,
        base=image,
    )
    return state, document.config.on_build
