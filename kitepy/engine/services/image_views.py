"""Images as the Engine API shows them: summaries, inspect and history documents, and the filters of list and prune.

Shapes: Engine API v1.51, ImageSummary, ImageInspect, HistoryResponseItem. Nothing here touches the database or the disk.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kitepy.engine.model.errors import InvalidParameter
from kitepy.engine.model.filters import Filters
from kitepy.engine.model.image import Image
from kitepy.engine.model.oci import HistoryEntry
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


def summary(listed: Listed, tags: Sequence[Reference], shared_size: int) -> dict[str, Any]:
    """One line of the list of images."""
    image = listed.image
    return {
        "Id": image.id,
        "ParentId": image.parent_id or "",
        "RepoTags": [tag.familiar for tag in tags],
        "RepoDigests": [reference.familiar for reference in listed.digests],
        "Created": image.created_ns // 1_000_000_000,
        "Size": image.size_bytes,
        "SharedSize": shared_size,
        "Labels": dict(image.config.labels) or None,
        "Containers": -1,
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
        "Created": document.created or NEVER,
        "DockerVersion": document.docker_version,
        "Author": document.author,
        "Config": {**_UNSET, **document.config.to_json()},
        "Architecture": document.architecture,
        "Os": document.os,
        "Size": image.size_bytes,
        "GraphDriver": {"Name": "overlay2", "Data": _driver_data(layers, data_root)},
        "RootFS": {"Type": "layers", "Layers": list(document.diff_ids)} if document.diff_ids else {"Type": "layers"},
        "Metadata": {"LastTagTime": format_time(listed.last_tag_ns) if listed.last_tag_ns else NEVER},
    }
    if document.variant:
        answer["Variant"] = document.variant
    if document.os_version:
        answer["OsVersion"] = document.os_version
    return answer


def history(
    image: Image, layers: Sequence[Layer], known: Mapping[int, tuple[str, tuple[Reference, ...]]]
) -> list[dict[str, Any]]:
    """The steps of an image's making, newest first.

    ``known`` gives id and tags for positions in the history (0 is the oldest) whose image is on this machine.
    """
    entries = image.document.history or tuple(HistoryEntry() for _ in layers)
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


def matching_tags(filters: Filters, tags: Sequence[Reference]) -> tuple[Reference, ...] | None:
    """The tags that the ``reference`` filter lets through; None when it hides the image."""
    patterns = filters.get("reference")
    if not patterns:
        return tuple(tags)
    compiled = [_glob(pattern) for pattern in patterns]
    found = tuple(
        tag for tag in tags if any(regex.fullmatch(text) for regex in compiled for text in (tag.familiar, tag.familiar_name))
    )
    return found or None


def until_ns(filters: Filters, now_ns: int) -> int | None:
    """The moment given by the ``until`` filter."""
    value = filters.single("until")
    return None if value is None else parse_time(value, now_ns=now_ns)


def _driver_data(layers: Sequence[Layer], data_root: Path) -> dict[str, str] | None:
    if not layers:
        return None
    paths = [str(data_root / layer.directory) for layer in reversed(layers)]
    data = {"UpperDir": paths[0]}
    if len(paths) > 1:
        data["LowerDir"] = ":".join(paths[1:])
    return data


def _seconds(text: str) -> int:
    try:
        return parse_time(text, now_ns=0) // 1_000_000_000 if text else 0
    except InvalidParameter:
        return 0


def _glob(pattern: str) -> re.Pattern[str]:
    """Shell pattern in which ``*`` and ``?`` don't cross a slash, as Go's path.Match has it."""
    pieces: list[str] = []
    position = 0
    while position < len(pattern):
        character = pattern[position]
        if character == "*":
            pieces.append("[^/]*")
        elif character == "?":
            pieces.append("[^/]")
        elif character == "[" and (end := pattern.find("]", position + 2)) > 0:
            body = pattern[position + 1 : end].replace("\\", r"\\").replace("[", r"\[")
            pieces.append(f"[{body}]")
            position = end
        else:
            pieces.append(re.escape(character))
        position += 1
    try:
        return re.compile("".join(pieces))
    except re.error:
        raise InvalidParameter(f"invalid filter 'reference={pattern}'") from None
