"""Where dockerd (28.5) answers otherwise than its own description says, and so do we.

Places are written as in ``support.contract``: a definition's name and the fields on the way, ``[]`` for items and values of maps.
"""

from __future__ import annotations

from typing import Any

Operation = tuple[str, str]

STATUSES: dict[Operation, set[int]] = {}
"""What dockerd answers besides the documented statuses."""

MEDIA_TYPES: dict[Operation, set[str]] = {}
"""What answers are of, where it isn't what the description says they are."""

STREAMS: dict[Operation, str] = {
    ("GET", "/events"): "EventMessage",
    ("GET", "/containers/{id}/stats"): "ContainerStatsResponse",
    ("POST", "/build"): "BuildInfo",
    ("POST", "/images/create"): "CreateImageInfo",
    ("POST", "/images/load"): "CreateImageInfo",
    ("POST", "/images/{name}/push"): "PushImageInfo",
}
"""Answers that are any number of documents of one definition."""

NULLS: frozenset[str] = frozenset()
"""Null although it isn't ``x-nullable``."""

FIELDS: dict[str, dict[str, Any]] = {}
"""Fields that no definition names, with their schema."""

OPEN: frozenset[str] = frozenset()
"""Objects with any fields."""

NOTHING_REQUIRED: frozenset[str] = frozenset()
"""Objects whose required fields are left out at times."""

OTHER_VALUES: dict[str, dict[str, Any]] = {}
"""Values of other types than the description has."""
