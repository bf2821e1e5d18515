"""The part of the gateway that asks about images, and the engine's documents about them turned into the app's values."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kitepy.client import EngineClient, ImagesLoaded, PumpedStream, Transfer, Unsupported, looks_like_image_archive
from kitepy.gui.gateway import translate
from kitepy.gui.gateway.failures import told
from kitepy.gui.gateway.image_port import ImagesArrived, Progress
from kitepy.gui.gateway.logins import Logins
from kitepy.gui.gateway.registries import transfer_message
from kitepy.gui.models.image import Image
from kitepy.gui.models.image_detail import ImageDetails, ImageLayer, ImageLayers, ImageStep, Wasted
from kitepy.gui.models.reference import parse_reference
from kitepy.gui.models.transfer import TransferMessage
from kitepy.gui.models.volume import Folder

Json = Mapping[str, Any]
_PAGE = 1000


class ImageOperations:
    """Part of `EngineGateway`."""

    _client: EngineClient
    _logins: Logins

    async def images(self) -> tuple[Image, ...]:
        with told():
            return tuple(translate.image_from_list(entry) for entry in await self._client.images())

    async def image_config(self, image_id: str) -> ImageDetails:
        with told():
            return config_from_inspect(await self._client.image(image_id))

    async def image_layers(self, image_id: str, *, usage: bool) -> ImageLayers:
        with told():
            try:
                return layers_from_document(await self._client.image_layers(image_id, usage=usage))
            except Unsupported:
                return layers_from_history(await self._client.history(image_id))

    async def image_folder(self, image_id: str, path: str, *, layer: int, own: bool, after: str = "") -> Folder:
        with told():
            document = await self._client.image_files(image_id, path, layer=layer, own=own, after=after, limit=_PAGE)
        return await asyncio.to_thread(translate.folder_from_listing, document)

    async def layer_sizes(self, image_id: str) -> Mapping[str, tuple[int, int]]:
        with told():
            try:
                document = await self._client.image_layers(image_id)
            except Unsupported:
                return {}
        return {
            str(layer["ChainId"]): (int(layer.get("Size") or 0), int(layer.get("Images") or 1)) for layer in document["Layers"]
        }

    async def tag_image(self, image_id: str, name: str) -> None:
        reference = parse_reference(name)
        with told():
            if reference is None:
                await self._client.tag(image_id, name)  # the engine says what is wrong with it
            else:
                await self._client.tag(image_id, reference.familiar_repository, reference.tag or "latest")

    async def remove_image(self, reference: str, *, force: bool) -> None:
        with told():
            await self._client.remove_image(reference, force=force)

    async def save_images(self, references: Sequence[str], target: Path) -> AsyncIterator[Progress]:
        with told():
            async with self._client.save_images(references, target) as stream:
                async for transfer in stream:
                    yield Progress(transfer.done_bytes, transfer.total_bytes)

    async def is_image_archive(self, source: Path) -> bool:
        with told():
            return await asyncio.to_thread(looks_like_image_archive, source)

    def load_images(self, source: Path) -> AsyncIterator[Progress | ImagesArrived]:
        return _arriving(self._client.load_images(source))

    def import_image(self, source: Path, name: str) -> AsyncIterator[Progress | ImagesArrived]:
        reference = parse_reference(name)
        repository, tag = (reference.familiar_repository, reference.tag or "latest") if reference else (name, "")
        return _arriving(self._client.import_image(source, repository, tag))

    async def push_image(self, name: str, *, all_tags: bool) -> AsyncIterator[TransferMessage]:
        reference = parse_reference(name)
        repository = reference.familiar_repository if reference else name
        tag = "" if all_tags or reference is None else reference.tag or "latest"
        authorization = await self._logins.authorization(reference.registry) if reference else ""
        with told():
            async with self._client.push_image(repository, tag, authorization) as stream:
                async for message in stream:
                    yield transfer_message(message)


async def _arriving(stream: PumpedStream[Transfer | ImagesLoaded]) -> AsyncIterator[Progress | ImagesArrived]:
    with told():
        async with stream as items:
            async for item in items:
                if isinstance(item, ImagesLoaded):
                    yield ImagesArrived(item.names)
                else:
                    yield Progress(item.done_bytes, item.total_bytes)


def layers_from_document(document: Json) -> ImageLayers:
    """`GET /kitepy/images/{name}/layers`."""
    usage = document.get("Usage")
    return ImageLayers(
        tuple(_step(step) for step in document.get("History") or ()),
        tuple(_layer(number, layer) for number, layer in enumerate(document.get("Layers") or ())),
        None if usage is None else int(usage.get("WastedBytes") or 0),
        tuple(_wasted(entry) for entry in (usage or {}).get("Worst") or ()),
        bool((usage or {}).get("Incomplete")),
    )


def layers_from_history(history: Sequence[Json]) -> ImageLayers:
    """`GET /images/{name}/history`, the newest first: a step without bytes is taken for one without a layer."""
    steps: list[ImageStep] = []
    layers: list[ImageLayer] = []
    for entry in reversed(history):
        size = int(entry.get("Size") or 0)
        created = translate.moment(float(entry.get("Created") or 0))
        steps.append(
            ImageStep(str(entry.get("CreatedBy") or ""), created, str(entry.get("Comment") or ""), len(layers) if size else None)
        )
        if size:
            layers.append(ImageLayer(len(layers), size))
    return ImageLayers(tuple(steps), tuple(layers), browsable=False)


def config_from_inspect(document: Json) -> ImageDetails:
    """`GET /images/{name}/json`."""
    config = document.get("Config") or {}
    platform = "/".join(str(document[key]) for key in ("Os", "Architecture", "Variant") if document.get(key))
    health = config.get("Healthcheck") or {}
    return ImageDetails(
        platform,
        str(document.get("Created") or ""),
        str(document.get("Author") or ""),
        str(config.get("User") or ""),
        str(config.get("WorkingDir") or ""),
        _words(config.get("Entrypoint")),
        _words(config.get("Cmd")),
        _words(config.get("Env")),
        tuple(sorted(config.get("ExposedPorts") or {})),
        tuple(sorted(config.get("Volumes") or {})),
        {str(key): str(value) for key, value in (config.get("Labels") or {}).items()},
        shlex.join(_words(health.get("Test"))[1:]),
        str(config.get("StopSignal") or ""),
        _words(document.get("RepoDigests")),
        document,
    )


def _words(value: Any) -> tuple[str, ...]:
    return tuple(str(word) for word in value) if isinstance(value, list) else ()


def _step(entry: Json) -> ImageStep:
    layer = entry.get("Layer")
    return ImageStep(
        str(entry.get("CreatedBy") or ""),
        str(entry.get("Created") or ""),
        str(entry.get("Comment") or ""),
        None if layer is None else int(layer),
    )


def _layer(number: int, entry: Json) -> ImageLayer:
    def count(key: str) -> int | None:
        return int(entry[key]) if key in entry else None

    return ImageLayer(
        number,
        int(entry.get("Size") or 0),
        str(entry.get("DiffId") or ""),
        int(entry.get("Images") or 0),
        count("Added"),
        count("Changed"),
        count("Removed"),
        count("WastedBytes"),
    )


def _wasted(entry: Json) -> Wasted:
    return Wasted(
        str(entry.get("Path") or ""),
        entry.get("Type") == "directory",
        int(entry.get("Layer") or 0),
        int(entry.get("HiddenBy") or 0),
        entry.get("Change") == "removed",
        int(entry.get("Files") or 0),
        int(entry.get("Size") or 0),
    )
