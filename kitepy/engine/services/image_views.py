"""Images as the Engine API shows them: summaries, inspect and history documents, and the filters of list and prune.

Shapes: Engine API v1.51, ImageSummary, ImageInspect, HistoryResponseItem. Nothing here touches the database or the disk.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kitepy.engine.builder.patterns import compile_pattern
from kitepy.engine.model.errors import InvalidParameter, SystemFailure
from kitepy.engine.model.filters import Filters
from kitepy.engine.model.image import Image
from kitepy.engine.model.oci import ImageConfig
from kitepy.engine.model.reference import Reference
from kitepy.engine.model.timestamps import NEVER, format_time, parse_time
from kitepy.engine.storage.images import Listed
from kitepy.engine.storage.layer_index import Layer

LIST_FILTERS = ("dangling", "label", "before", "since", "until", "reference")
_UNSET: Mapping[str, Any] = {
    "User": "",
    "Env": None,
    "Entrypoint": None,
    "Cmd": None,
    "Volumes": None,
    "WorkingDir": "",
    "Labels": None,
    "OnBuild": None,
}
"""Keys of a configuration that inspect shows also where the image says nothing."""
PRUNE_FILTERS = ("dangling", "label", "label!", "until")


@dataclass(frozen=True)
class ListFilters:
    """The filters of the list of images, read: which images, and which of their references, are shown."""

    filters: Filters
    dangling: bool | None
    """None when it wasn't asked for."""
    before_ns: int | None
    since_ns: int | None
    patterns: tuple[re.Pattern[str], ...]

    def references(self, item: Listed, *, is_parent: bool, all: bool) -> tuple[Reference, ...] | None:
        """The image's references that are shown, tags and digests; None when the image isn't. ``is_parent``: others lie on it."""
        image = item.image
        if self.dangling and is_parent:
            return None
        dated = bool(image.document.created)
        if self.before_ns is not None and not (dated and image.created_ns < self.before_ns):
            return None
        if self.since_ns is not None and not (dated and image.created_ns > self.since_ns):
            return None
        if not self.filters.labels(image.config.labels):
            return None
        found = tuple(reference for reference in (*item.tags, *item.digests) if self._matches(reference))
        if found:
            return None if self.dangling and any(reference.digest is None for reference in found) else found
        if (is_parent and not all) or self.dangling is False or "reference" in self.filters:
            return None
        return found

    def _matches(self, reference: Reference) -> bool:
        if "reference" not in self.filters:
            return True
        return any(pattern.fullmatch(text) for pattern in self.patterns for text in (reference.familiar, reference.familiar_name))


def read_list_filters(filters: Filters, resolve: Callable[[str], Image]) -> ListFilters:
    """Read and check them; ``resolve`` finds the images of ``before`` and ``since``."""
    filters.require_known(LIST_FILTERS)
    dangling = filters.flag("dangling", False) if "dangling" in filters.values else None
    now = time.time_ns()
    # Several values are as strict as the strictest.
    before = [image.created_ns for image in map(resolve, filters.get("before")) if image.document.created]
    before += [until_ns(value, now) for value in filters.get("until")]
    since = [image.created_ns for image in map(resolve, filters.get("since")) if image.document.created]
    try:
        # Here two stars are no more than one.
        patterns = tuple(compile_pattern(re.sub(r"\*+", "*", pattern)) for pattern in filters.get("reference"))
    except ValueError:
        raise SystemFailure("syntax error in pattern") from None  # 500 on dockerd, too
    return ListFilters(filters, dangling, min(before, default=None), max(since, default=None), patterns)


def summary(image: Image, references: Sequence[Reference], shared_size: int, containers: int) -> dict[str, Any]:
    """One line of the list of images."""
    return {
        "Id": image.id,
        "ParentId": image.parent_id or "",
        "RepoTags": [reference.familiar for reference in references if reference.digest is None],
        "RepoDigests": [reference.familiar for reference in references if reference.digest is not None],
        "Created": image.created_ns // 1_000_000_000,
        "Size": image.size_bytes,
        "SharedSize": shared_size,
        "Labels": dict(image.config.labels) or None,
        "Containers": containers,
    }


def inspection(listed: Listed, layers: Sequence[Layer], data_root: Path) -> dict[str, Any]:
    """All there is to know about one image."""
    image, document = listed.image, listed.image.document
    answer: dict[str, Any] = {
        "Id": image.id,
        "RepoTags": [tag.familiar for tag in listed.tags],
        "RepoDigests": [reference.familiar for reference in listed.digests],
        "Parent": image.parent_id or "",
        "Comment": document.comment or (document.history[-1].comment if document.history else ""),
        "DockerVersion": document.docker_version,
        "Author": document.author,
        "Config": _config(document.config),
        "Architecture": document.architecture,
        "Os": document.os,
        "Size": image.size_bytes,
        "GraphDriver": {"Name": "overlay2", "Data": _driver_data(layers, data_root)},
        "RootFS": {"Type": "layers", "Layers": list(document.diff_ids)} if document.diff_ids else {"Type": "layers"},
        "Metadata": {"LastTagTime": format_time(listed.last_tag_ns) if listed.last_tag_ns else NEVER},
    }
    if document.created:
        answer["Created"] = _go_time(document.created)
    if document.variant:
        answer["Variant"] = document.variant
    if document.os_version:
        answer["OsVersion"] = document.os_version
    return answer | _made_by(image.raw_config)


def _made_by(raw_config: bytes) -> dict[str, Any]:
    """The container that an image was committed from, which builders of old told; only older versions show it."""
    document = json.loads(raw_config)
    container, config = document.get("container"), document.get("container_config")
    found: dict[str, Any] = {"Container": container} if isinstance(container, str) and container else {}
    if isinstance(config, dict):
        found["ContainerConfig"] = config
    return found


def history(
    image: Image, layers: Sequence[Layer], known: Mapping[int, tuple[str, tuple[Reference, ...]]]
) -> list[dict[str, Any]]:
    """The steps of an image's making, newest first.

    ``known`` gives id and tags for positions in the history (0 is the oldest) whose image is on this machine.
    """
    entries = image.document.history
    sizes = iter(layers)
    answer: list[dict[str, Any]] = []
    for position, entry in enumerate(entries):
        layer = None if entry.empty_layer else next(sizes, None)
        if layer is None and not entry.empty_layer:
            raise InvalidParameter(f"the history of image {image.id} lists more layers than the image has")
        image_id, tags = known.get(position, ("<missing>", ()))
        answer.append(
            {
                "Id": image_id,
                "Created": _seconds(entry.created),
                "CreatedBy": entry.created_by,
                "Tags": [tag.familiar for tag in tags] or None,
                "Size": layer.size_bytes if layer is not None else 0,
                "Comment": entry.comment,
            }
        )
    answer.reverse()
    return answer


def until_ns(value: str, now_ns: int) -> int:
    """The moment given by an ``until`` filter; bad ones are not the client's fault on dockerd, and so neither here."""
    try:
        return parse_time(value, now_ns=now_ns)
    except InvalidParameter as error:
        raise SystemFailure(str(error)) from None


def _driver_data(layers: Sequence[Layer], data_root: Path) -> dict[str, str] | None:
    if not layers:
        return None
    paths = [str(data_root / layer.directory) for layer in reversed(layers)]
    top = str(data_root / "layers" / str(layers[-1].number))
    data = {"MergedDir": f"{top}/merged", "UpperDir": paths[0], "WorkDir": f"{top}/work"}
    if len(paths) > 1:
        data["LowerDir"] = ":".join(paths[1:])
    return data


def _config(config: ImageConfig) -> dict[str, Any]:
    shown = {**_UNSET, **config.to_json()}
    # An empty command is as good as none.
    return shown | {key: shown[key] or None for key in ("Entrypoint", "Cmd")}


def _go_time(text: str) -> str:
    """RFC 3339 as Go writes it: without zeros at the end of the fraction."""
    whole, point, rest = text.partition(".")
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    if not point:
        return text
    kept, zone = digits.rstrip("0"), rest[len(digits) :]
    return f"{whole}.{kept}{zone}" if kept else whole + zone


def _seconds(text: str) -> int:
    try:
        return parse_time(text, now_ns=0) // 1_000_000_000 if text else 0
    except InvalidParameter:
        return 0
