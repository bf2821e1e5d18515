"""Makes an image of a container: its changes become a layer, its configuration the image's; the steps' order is Docker's."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import kitepy
from kitepy.engine.builder.changes import apply_changes
from kitepy.engine.model.container import ContainerRecord, ContainerStatus
from kitepy.engine.model.container_config import ContainerConfig, HealthConfig
from kitepy.engine.model.errors import Conflict, EngineError, InvalidParameter, NotFound, Unsupported
from kitepy.engine.model.image import Image
from kitepy.engine.model.oci import (
    EMPTY_LAYER,
    ChainId,
    Digest,
    HealthCheck,
    HistoryEntry,
    ImageConfig,
    ImageDocument,
)
from kitepy.engine.model.platform import host_platform
from kitepy.engine.model.reference import Reference, parse_reference
from kitepy.engine.model.timestamps import format_time
from kitepy.engine.services.container_index import ContainerIndex
from kitepy.engine.services.container_launch import ContainerLauncher, top_layer
from kitepy.engine.services.container_stops import ContainerStops
from kitepy.engine.services.images import ImageService
from kitepy.engine.services.ports import CommitOptions
from kitepy.engine.storage.layers import LayerStore

log = logging.getLogger(__name__)


class ContainerCommit:
    """``commit`` and then, when its event has been sent, ``finish``. Belongs to one event loop."""

    def __init__(
        self,
        *,
        index: ContainerIndex,
        stops: ContainerStops,
        launcher: ContainerLauncher,
        images: ImageService,
        layers: LayerStore,
    ) -> None:
        self._index = index
        self._stops = stops
        self._launcher = launcher
        self._images = images
        self._layers = layers
        self._paused: set[str] = set()
        """Containers that stand still for us."""

    async def commit(self, record: ContainerRecord, options: CommitOptions, config: ContainerConfig | None) -> tuple[str, str]:
        """Gives the image's id and its name, empty for none. A container paused for it stays so until ``finish``."""
        if record.state.status in (ContainerStatus.REMOVING, ContainerStatus.DEAD):
            words = "is Dead" if record.state.status is ContainerStatus.DEAD else "is being removed"
            raise Conflict(f"You cannot commit container {record.id} which {words}")
        reference = _reference(options.repository, options.tag)
        container_config = image_config(record.config)
        chosen = image_config(config) if config is not None else container_config
        merged = merge(apply_changes(chosen, options.changes) if options.changes else chosen, container_config)
        await self._pause(record, options.pause)
        try:
            image = await self._make_image(record, options, merged)
        except BaseException:
            await self.finish(record)
            raise
        self._images.announce_created(image)
        if reference is not None:
            self._images.set_tag(image, reference)
        return image.id, reference.familiar if reference is not None else ""

    async def finish(self, record: ContainerRecord) -> None:
        """Let the container go on, if it was paused here."""
        if record.id not in self._paused:
            return
        self._paused.discard(record.id)
        current = self._index.get(record.id)
        if current is None or current.state.status is not ContainerStatus.PAUSED:
            return
        try:
            await self._stops.set_paused(current, paused=False)
        except (Conflict, NotFound):
            return  # it ended, or somebody else was faster

    async def _pause(self, record: ContainerRecord, wanted: bool) -> None:
        if not wanted or record.state.status is not ContainerStatus.RUNNING:
            return
        try:
            await self._stops.set_paused(record, paused=True)
        except Conflict:
            return  # it has just ended, or been paused
        except Unsupported as error:
            # Clients ask for it without being asked by their users; an image is worth more than a refusal.
            log.warning("container %s goes on working while it becomes an image: %s", record.name, error)
            return
        self._paused.add(record.id)

    async def _make_image(self, record: ContainerRecord, options: CommitOptions, config: ImageConfig) -> Image:
        parent = self._parent(record)
        top = top_layer(record)
        upper = self._launcher.directory(record.id) / "upper"
        with self._layers.hold(top):
            try:
                layer = await self._layers.commit_directory(top, upper, keep=True)
            except (EngineError, OSError):
                if self._index.get(record.id) is None:
                    raise NotFound(f"No such container: {record.id}") from None
                raise
            below = [known.diff_id for known in self._layers.stack(top)]
            empty = layer.diff_id == EMPTY_LAYER
            created = format_time(time.time_ns())
            words = " ".join(record.config.cmd or ())
            entry = HistoryEntry(
                created=created, created_by=words, author=options.author, comment=options.comment, empty_layer=empty
            )
            document = parent.document if parent is not None else ImageDocument(architecture=host_platform().architecture)
            document = replace(
                document,
                config=config,
                diff_ids=tuple(below) if empty else (*below, layer.diff_id),
                history=(*document.history, entry),
                created=created,
                author=options.author,
                comment=options.comment,
                docker_version=kitepy.__version__,
            )
            layers: Sequence[ChainId] = [ChainId(name) for name in record.layers]
            return self._images.create_image(
                _with_container(document, record),
                layers if empty else [*layers, layer.chain_id],
                parent_id=parent.id if parent is not None else None,
            )

    def _parent(self, record: ContainerRecord) -> Image | None:
        try:
            return self._images.get(Digest(record.image_id))
        except NotFound:
            return None  # removed by force; its layers are here as long as the container is


def image_config(config: ContainerConfig) -> ImageConfig:
    """What of a container's configuration an image can hold."""
    health = config.healthcheck
    return ImageConfig(
        user=config.user,
        exposed_ports=tuple(sorted(config.exposed_ports or ())),
        env=tuple(config.env or ()),
        entrypoint=tuple(config.entrypoint) if config.entrypoint is not None else None,
        cmd=tuple(config.cmd) if config.cmd is not None else None,
        volumes=tuple(sorted(config.volumes or ())),
        working_dir=config.working_dir,
        labels=dict(config.labels or {}),
        stop_signal=config.stop_signal,
        args_escaped=config.args_escaped,
        on_build=tuple(config.on_build or ()),
        healthcheck=_health(health) if health is not None else None,
        shell=tuple(config.shell) if config.shell is not None else None,
    )


def merge(chosen: ImageConfig, container: ImageConfig) -> ImageConfig:
    """What the client left open comes from the container; lists by name are joined, the client's entries winning."""
    cmd, entrypoint, args_escaped = chosen.cmd, chosen.entrypoint, chosen.args_escaped
    if not entrypoint:
        if not cmd:
            cmd, args_escaped = container.cmd, container.args_escaped
        if entrypoint is None:
            entrypoint = container.entrypoint
    names = {variable.partition("=")[0] for variable in chosen.env}
    health = chosen.healthcheck or container.healthcheck
    if chosen.healthcheck is not None and container.healthcheck is not None:
        own, other = chosen.healthcheck, container.healthcheck
        health = HealthCheck(
            test=own.test or other.test,
            interval_ns=own.interval_ns or other.interval_ns,
            timeout_ns=own.timeout_ns or other.timeout_ns,
            start_period_ns=own.start_period_ns or other.start_period_ns,
            start_interval_ns=own.start_interval_ns or other.start_interval_ns,
            retries=own.retries or other.retries,
        )
    return replace(
        chosen,
        user=chosen.user or container.user,
        exposed_ports=tuple(sorted({*chosen.exposed_ports, *container.exposed_ports})),
        env=(*chosen.env, *(variable for variable in container.env if variable.partition("=")[0] not in names)),
        labels={**container.labels, **chosen.labels},
        entrypoint=entrypoint or None,
        cmd=cmd or None,
        args_escaped=args_escaped,
        healthcheck=health,
        working_dir=chosen.working_dir or container.working_dir,
        volumes=tuple(sorted({*chosen.volumes, *container.volumes})),
        stop_signal=chosen.stop_signal or container.stop_signal,
    )


def _health(health: HealthConfig) -> HealthCheck:
    return HealthCheck(
        test=tuple(health.test or ()),
        interval_ns=health.interval,
        timeout_ns=health.timeout,
        start_period_ns=health.start_period,
        start_interval_ns=health.start_interval,
        retries=health.retries,
    )


def _reference(repository: str, tag: str) -> Reference | None:
    """The name to give; a tag without a repository names nothing."""
    if not repository:
        return None
    reference = parse_reference(repository)
    if reference.digest is not None:
        raise InvalidParameter("cannot import digest reference")
    reference = reference.with_tag(tag) if tag else reference.with_default_tag()
    if reference.familiar_name in ("sha256", "sha384", "sha512"):
        raise InvalidParameter("refusing to create an ambiguous tag using digest algorithm as name")
    return reference


def _with_container(document: ImageDocument, record: ContainerRecord) -> bytes:
    """The image's document, which tells as Docker's does of which container it was made."""
    fields: Mapping[str, Any] = {
        **json.loads(document.encode()),
        "container": record.id,
        "container_config": record.config.document(),
    }
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()
