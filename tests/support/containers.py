"""Looks at containers that several files of tests share."""

from __future__ import annotations

from typing import Any

from docker.models.containers import Container


def ready(container: Container, until: Any) -> Container:
    """The container, once it has written that it is ready; ``until`` is the fixture."""
    until(lambda: b"ready" in container.logs())
    return container


def state_of(container: Container) -> dict[str, Any]:
    """``State`` of inspect, as it is now."""
    container.reload()
    return dict(container.attrs["State"])
