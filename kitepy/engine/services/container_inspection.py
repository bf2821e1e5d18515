"""``GET /containers/{id}/json``: all that is known of one container. Clients ask for it again and again, so it is kept ready."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from kitepy.engine.model.container import ContainerRecord, MountKind
from kitepy.engine.model.health import Health
from kitepy.engine.services.container_index import ContainerIndex
from kitepy.engine.services.container_launch import ContainerLauncher
from kitepy.engine.services.container_view import Paths, Sizes, inspect_document, state_document
from kitepy.engine.services.record_cache import RecordCache

_HEAVY = ("GraphDriver", "HostConfig", "Config", "Mounts", "NetworkSettings")
"""Most of the document; it is turned into JSON once, not with each answer."""


class ContainerInspection:
    """Belongs to one event loop. What changes only with a container's record is kept beside it."""

    def __init__(
        self,
        *,
        index: ContainerIndex,
        launcher: ContainerLauncher,
        health_of: Callable[[str], Health | None],
        volume_path: Callable[[str], object],
        sizes_of: Callable[[ContainerRecord], Awaitable[Sizes]],
    ) -> None:
        self._launcher = launcher
        self._health_of = health_of
        self._volume_path = volume_path
        self._sizes_of = sizes_of
        self.exec_ids: Callable[[str], list[str]] = lambda _: []
        """Set by the execs service: the execs of a container."""
        self._documents = RecordCache(index, self._make)

    async def inspect(self, record: ContainerRecord, size: bool) -> dict[str, Any]:
        """ContainerInspectResponse; its large parts are JSON already (``msgspec.Raw``)."""
        document = self._documents.copy_of(record)
        health = self._health_of(record.id)
        if health is not None:
            document["State"] = state_document(record.state, health)
        document["ExecIDs"] = self.exec_ids(record.id) or None
        if size:
            sizes = await self._sizes_of(record)
            document["SizeRw"], document["SizeRootFs"] = sizes.written, sizes.root
        return document

    def _make(self, record: ContainerRecord) -> dict[str, Any]:
        directory = str(self._launcher.directory(record.id))
        log_driver = record.host_config.log_config.type
        document = inspect_document(
            record,
            paths=Paths(
                log=str(self._launcher.log_path(record)) if log_driver == "json-file" else "",
                resolv_conf=f"{directory}/resolv.conf",
                hostname=f"{directory}/hostname",
                hosts=f"{directory}/hosts",
            ),
            volume_paths={
                point.volume: str(self._volume_path(point.volume)) for point in record.mounts if point.kind is MountKind.VOLUME
            },
            graph_driver=self._graph_driver(record),
            apparmor_profile=self._launcher.apparmor_profile(record) if record.state.started_at_ns else "",
        )
        return document | {key: msgspec.Raw(msgspec.json.encode(document[key])) for key in _HEAVY}

    def _graph_driver(self, record: ContainerRecord) -> dict[str, Any]:
        root = self._launcher.root(record)
        return {
            "Name": "overlay2",
            "Data": {
                "ID": record.id,
                "LowerDir": ":".join(str(root.base / lower) for lower in root.lower),
                "MergedDir": str(self._launcher.bundle(record.id) / "rootfs"),
                "UpperDir": str(root.base / (root.upper or "")),
                "WorkDir": str(root.base / (root.work or "")),
            },
        }
