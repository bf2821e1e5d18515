"""Use cases of looking into images: which instruction made each layer, which files are in it, and which in vain."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kitepy.engine.model.errors import InvalidParameter, NotFound
from kitepy.engine.model.image import Image
from kitepy.engine.model.oci import ChainId, HistoryEntry
from kitepy.engine.storage.images import ImageStore
from kitepy.engine.storage.layer_index import Layer
from kitepy.engine.storage.layers import LayerStore
from kitepy.engine.storage.worker import WorkerPool

MAX_ENTRIES = 10_000
_PAGE = 1_000
_KEPT_REPORTS = 32
_JOBS = "kitepy.engine.storage.image_jobs:"


class ImageContents:
    """What the layers of images on this machine hold."""

    def __init__(self, data_root: Path, images: ImageStore, layers: LayerStore, workers: WorkerPool) -> None:
        self._data_root = data_root
        self._images = images
        self._layers = layers
        self._workers = workers
        self._reports: dict[ChainId, dict[str, Any]] = {}
        """By topmost layer: what is in a layer never changes."""

    async def layers(self, name: str, *, usage: bool = False) -> dict[str, Any]:
        """The steps of an image's making and its layers, bottom first; with ``usage`` also what is in them in vain."""
        image = self._images.resolve(name)
        stack = self._layers.stack(image.top_layer)
        report = await self._usage(image, stack) if usage else None
        users = Counter(layer for item in self._images.all() for layer in item.image.layers)
        counts = report["Layers"] if report else [{}] * len(stack)
        return {
            "Id": image.id,
            "Size": image.size_bytes,
            "History": _steps(image.document.history, len(stack)),
            "Layers": [
                {
                    "DiffId": layer.diff_id,
                    "ChainId": layer.chain_id,
                    "Size": layer.size_bytes,
                    "BlobDigest": layer.blob_digest or "",
                    "BlobSize": layer.blob_size,
                    "MediaType": layer.media_type,
                    "Images": users[layer.chain_id],
                    **count,
                }
                for layer, count in zip(stack, counts, strict=True)
            ],
            "Usage": None if report is None else {key: value for key, value in report.items() if key != "Layers"},
        }

    async def files(
        self, name: str, path: str, *, layer: int | None = None, own: bool = False, after: str = "", limit: int | None = None
    ) -> dict[str, Any]:
        """A page of a directory with all layers up to one, or (``own``) as that one alone has it."""
        image = self._images.resolve(name)
        stack = self._layers.stack(image.top_layer)
        if limit is not None and not 1 <= limit <= MAX_ENTRIES:
            raise InvalidParameter(f"limit {limit} is outside the range of [1, {MAX_ENTRIES}]")
        if layer is not None and not 0 <= layer < len(stack):
            raise NotFound(f"image {name} has no layer {layer}: it has {len(stack)}, counted from 0")
        params = {
            "image": name,
            "path": path,
            "layer": len(stack) - 1 if layer is None else layer,
            "own": own,
            "after": after,
            "limit": limit or _PAGE,
        }
        if not stack:
            raise NotFound(f"image {name} has no layers")
        return await self._run("list_image_files", image, stack, params)

    async def _usage(self, image: Image, stack: Sequence[Layer]) -> dict[str, Any]:
        top = image.top_layer
        if top is None:
            return {"Layers": [], "WastedBytes": 0, "Worst": [], "Incomplete": False}
        report = self._reports.pop(top, None) or await self._run("measure_image_usage", image, stack, {})
        self._reports[top] = report
        while len(self._reports) > _KEPT_REPORTS:
            del self._reports[next(iter(self._reports))]
        return report

    async def _run(self, job: str, image: Image, stack: Sequence[Layer], params: dict[str, Any]) -> dict[str, Any]:
        where = {
            "base": str(self._data_root),
            "layers": [layer.directory for layer in stack],
            "flavour": self._layers.flavour.value,
        }
        with self._layers.hold(image.top_layer):
            return await self._workers.run(_JOBS + job, {**where, **params})


def _steps(history: Sequence[HistoryEntry], layers: int) -> list[dict[str, Any]]:
    """The history oldest first, each step with the number of the layer it made. An image may tell any nonsense here."""
    steps: list[dict[str, Any]] = []
    made = 0
    for entry in history:
        layer = None
        if not entry.empty_layer and made < layers:
            layer, made = made, made + 1
        steps.append(
            {
                "Created": entry.created,
                "CreatedBy": entry.created_by,
                "Author": entry.author,
                "Comment": entry.comment,
                "Layer": layer,
            }
        )
    unknown = {"Created": "", "CreatedBy": "", "Author": "", "Comment": ""}
    return steps + [{**unknown, "Layer": layer} for layer in range(made, layers)]
