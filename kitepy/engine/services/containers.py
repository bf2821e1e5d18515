"""The containers resource of the Engine API, request by request; making and running them have modules of their own."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kitepy.engine.model.container import ContainerRecord, ContainerStatus, MountKind
from kitepy.engine.model.container_config import ContainerCreateBody, ContainerUpdateBody
from kitepy.engine.model.errors import Conflict, EngineError, InvalidParameter, NotModified, SystemFailure, Unsupported
from kitepy.engine.model.filters import Filters
from kitepy.engine.model.oci import ChainId
from kitepy.engine.services.container_creation import ContainerCreation
from kitepy.engine.services.container_filters import PruneFilter
from kitepy.engine.services.container_index import ContainerIndex
from kitepy.engine.services.container_inspection import ContainerInspection
from kitepy.engine.services.container_launch import ContainerLauncher, top_layer
from kitepy.engine.services.container_listing import ContainerListing
from kitepy.engine.services.container_names import check_name
from kitepy.engine.services.container_runs import ContainerRuns, PendingAttach, waited
from kitepy.engine.services.container_stops import ContainerStops, stop_signal
from kitepy.engine.services.container_update import apply_update, changed_resources
from kitepy.engine.services.container_view import Sizes, event_attributes
from kitepy.engine.services.container_waits import ContainerWaits
from kitepy.engine.services.events import EventBus
from kitepy.engine.services.images import ImageService
from kitepy.engine.services.log_reader import read_log
from kitepy.engine.services.ports import AttachOptions, CreateResult, LogOptions, WaitResult
from kitepy.engine.services.sessions import Session
from kitepy.engine.services.signals import SIGKILL, parse_signal
from kitepy.engine.services.volumes import VolumeService
from kitepy.engine.storage.directory_sizes import directory_size
from kitepy.engine.storage.layers import LayerStore
from kitepy.engine.storage.overlay import OverlayStore

DEFAULT_STOP_TIMEOUT_S = 10


class Containers:
    """Satisfies ``ports.ContainerService``. Belongs to one event loop."""

    def __init__(
        self,
        *,
        index: ContainerIndex,
        runs: ContainerRuns,
        stops: ContainerStops,
        launcher: ContainerLauncher,
        creation: ContainerCreation,
        waits: ContainerWaits,
        images: ImageService,
        layers: LayerStore,
        overlays: OverlayStore,
        volumes: VolumeService,
        events: EventBus,
        data_root: Path,
        exec_root: Path,
    ) -> None:
        self._index = index
        self._runs = runs
        self._stops = stops
        self._launcher = launcher
        self._creation = creation
        self._waits = waits
        self._images = images
        self._layers = layers
        self._overlays = overlays
        self._volumes = volumes
        self._events = events
        self._data_root = data_root
        self._exec_root = exec_root
        self.listing = ContainerListing(
            index=index,
            images=images,
            health_of=runs.health.state,
            volume_path=volumes.path,
            sizes_of=self._sizes_of,
        )
        self.inspection = ContainerInspection(
            index=index,
            launcher=launcher,
            health_of=runs.health.state,
            volume_path=volumes.path,
            sizes_of=self._sizes,
        )
        self._removing: set[str] = set()
        runs.remove_after_exit = self._remove_after_exit

    # --- life ---

    async def create(
        self, name: str | None, body: ContainerCreateBody, platform: str | None, *, flat_read_only: bool = False
    ) -> CreateResult:
        record, warnings = await self._creation.create(name, body, platform, flat_read_only=flat_read_only)
        self._emit(record, "create")
        return CreateResult(record.id, tuple(warnings))

    async def start(self, ref: str, detach_keys: str | None = None) -> None:  # noqa: ARG002  # a client's matter
        await self._runs.start(self._index.resolve(ref).id)

    async def stop(self, ref: str, timeout_s: int | None, signal: str | None) -> None:
        record = self._index.resolve(ref)
        if not record.state.status.counts_as_running:
            raise NotModified(f"container {record.name} is already stopped")
        with about(f"cannot stop container: {ref}"):
            number = parse_signal(signal) if signal else stop_signal(record)
            await self._stops.stop(record, number, self._grace_s(record, timeout_s))

    @staticmethod
    def _grace_s(record: ContainerRecord, timeout_s: int | None) -> float | None:
        chosen = timeout_s if timeout_s is not None else record.config.stop_timeout
        if chosen is None:
            return DEFAULT_STOP_TIMEOUT_S
        return None if chosen < 0 else chosen

    async def restart(self, ref: str, timeout_s: int | None, signal: str | None) -> None:
        record = self._index.resolve(ref)
        with about(f"Cannot restart container {ref}"), self._runs.restarting(record.id):
            if record.state.status.counts_as_running:
                number = parse_signal(signal) if signal else stop_signal(record)
                with contextlib.suppress(NotModified):
                    await self._stops.stop(record, number, self._grace_s(record, timeout_s))
            with contextlib.suppress(NotModified):  # somebody else was quicker
                await self._runs.start(record.id)
        self._emit(self._index.get(record.id) or record, "restart")

    async def kill(self, ref: str, signal: str | None) -> None:
        with about(f"cannot kill container: {ref}"):
            number = parse_signal(signal or "SIGKILL")
            await self._stops.kill(self._index.resolve(ref), number)

    async def pause(self, ref: str) -> None:
        await self._stops.set_paused(self._index.resolve(ref), paused=True)

    async def unpause(self, ref: str) -> None:
        await self._stops.set_paused(self._index.resolve(ref), paused=False)

    async def rename(self, ref: str, new_name: str) -> None:
        record = self._index.resolve(ref)
        if not new_name:
            raise InvalidParameter("Neither old nor new names may be empty")
        if new_name.removeprefix("/") == record.name:
            raise InvalidParameter("Renaming a container with the same name as its current name")
        with about("Error when allocating new name"):
            name = check_name("/" + new_name.removeprefix("/"))
            with self._creation.claimed_name(name):
                self._index.save(replace(record, name=name))
                self._launcher.links.renamed(self._runs.require(record.id))
                self._runs.renamed(self._runs.require(record.id))
        self._emit(replace(record, name=name), "rename", oldName=f"/{record.name}")

    async def remove(self, ref: str, force: bool, volumes: bool, link: bool) -> None:
        if link:
            await self._remove_link(ref)
            return
        record = self._index.resolve(ref)
        status = record.state.status
        if status is ContainerStatus.REMOVING or record.id in self._removing:
            raise Conflict(f"removal of container {ref} is already in progress")
        with about(f'cannot remove container "{ref}"'), self._being_removed(record.id):
            if status.counts_as_running:
                if not force:
                    raise Conflict(_why_not_removed(status))
                with contextlib.suppress(NotModified, Conflict):  # it ended by itself
                    await self._stops.kill(record, SIGKILL)
            await self._remove(record.id, volumes=volumes)

    async def _remove_link(self, ref: str) -> None:
        found = self._index.find_link(ref)
        if found is None:
            self._index.resolve(ref)
            raise Conflict("Conflict, cannot remove the default link name of the container")
        await self._launcher.links.remove_link(*found)

    @contextlib.contextmanager
    def _being_removed(self, container_id: str) -> Iterator[None]:
        """Whoever else wants to remove it meanwhile is told so, or has nothing to do."""
        self._removing.add(container_id)
        try:
            yield
        finally:
            self._removing.discard(container_id)

    async def _remove_after_exit(self, container_id: str) -> None:
        """``--rm``: the anonymous volumes go with the container."""
        if self._index.get(container_id) is not None and container_id not in self._removing:
            with self._being_removed(container_id):
                await self._remove(container_id, volumes=True)

    async def _remove(self, container_id: str, *, volumes: bool) -> None:
        if self._index.get(container_id) is None:
            return
        async with self._runs.live(container_id).lock:
            record = self._index.get(container_id)
            if record is None:
                return
            if record.state.status is ContainerStatus.REMOVING:
                return
            if record.state.status.counts_as_running:
                raise Conflict("container was started again: stop the container before removing or force remove")
            removing = replace(record, state=record.state.to(ContainerStatus.REMOVING))
            self._index.save(removing)
            await self._finish_removal(removing, volumes=volumes)

    async def _finish_removal(self, record: ContainerRecord, *, volumes: bool) -> None:
        """What a crash may interrupt; files without a record are removed at the engine's next start."""
        self._launcher.links.removed(record)
        self._index.remove(record.id)
        self._runs.forget(record.id)
        self._runs.spawn(self._remove_files(record.id), f"removal of the files of {record.id}")
        if volumes:
            for point in record.mounts:
                if point.kind is MountKind.VOLUME and point.anonymous:
                    await self._volumes.remove_if_unused(point.volume)
        self._emit(record, "destroy")
        self._waits.removed(record.id, WaitResult(record.state.exit_code))

    async def _remove_files(self, container_id: str) -> None:
        await self._launcher.remove_bundle(container_id)
        await self._overlays.remove_container(container_id)

    async def finish_removals(self) -> None:
        """Go on with removals that a crash interrupted; called once, at the engine's start."""
        for record in self._index:
            if record.state.status is ContainerStatus.REMOVING:
                await self._finish_removal(record, volumes=False)
            elif record.state.status is ContainerStatus.EXITED and record.host_config.auto_remove:
                await self._remove_after_exit(record.id)  # its engine ended between the exit and the removal
        for root in (self._data_root, self._exec_root):
            for directory in (root / "containers").glob("*"):
                if self._index.get(directory.name) is None:
                    await self._remove_files(directory.name)

    async def wait(self, ref: str, condition: str) -> Awaitable[WaitResult]:
        record = self._index.resolve(ref)
        present = None if record.state.status.counts_as_running else waited(record.state)
        return self._waits.register(record.id, condition, present)

    # --- looking ---

    async def inspect(self, ref: str, size: bool) -> dict[str, Any]:
        found = self._index.resolve(ref)
        await self._runs.settled(found.id)
        return await self.inspection.inspect(self._runs.require(found.id), size)

    async def _sizes(self, record: ContainerRecord) -> Sizes:
        return (await self._sizes_of([record]))[0]

    async def _sizes_of(self, records: Sequence[ContainerRecord]) -> builtins.list[Sizes]:
        """What containers wrote and have beneath, read in one go."""
        bases: dict[str | None, int] = {}
        for record in records:
            if (top := top_layer(record)) not in bases:
                bases[top] = sum(layer.size_bytes for layer in self._layers.stack(top))
        uppers = [self._launcher.directory(record.id) / "upper" for record in records]
        written = await asyncio.to_thread(lambda: [directory_size(upper) for upper in uppers])
        return [Sizes(written=size, root=bases[top_layer(record)] + size) for record, size in zip(records, written, strict=True)]

    async def list(self, all: bool, limit: int | None, size: bool, filters: Filters) -> builtins.list[dict[str, Any]]:
        return await self.listing.list(all, limit, size, filters)

    async def logs(self, ref: str, options: LogOptions) -> tuple[bool, AsyncIterator[builtins.list[tuple[int, bytes]]]]:
        record = self._index.resolve(ref)
        if self._launcher.readable_log(record) is None:
            raise Unsupported("configured logging driver does not support reading")
        running = self._runs.live(record.id).running
        ended = running.exited if running is not None else None
        if options.follow and running is None and record.state.status is ContainerStatus.CREATED:
            ended = None
        return record.config.tty, read_log(self._launcher.log_path(record), options, ended=ended)

    # --- streams ---

    async def attach(self, ref: str, options: AttachOptions) -> Session:
        record = self._index.resolve(ref)
        status = record.state.status
        if status is ContainerStatus.PAUSED:
            raise Conflict(f"container {ref} is paused, unpause the container before attach")
        if status is ContainerStatus.RESTARTING:
            raise Conflict(f"container {ref} is restarting, wait until the container is running")
        live = self._runs.live(record.id)
        stdin = options.stdin and record.config.open_stdin
        logs = options.logs and self._launcher.readable_log(record) is not None
        stream: Any = None
        if not options.stream or not (stdin or options.stdout or options.stderr):
            stream = None
        elif live.running is not None:
            stream = await live.running.attach(stdin=stdin, stdout=options.stdout, stderr=options.stderr, replay=logs)
        elif status in (ContainerStatus.CREATED, ContainerStatus.EXITED):
            stream = PendingAttach(stdin, options.stdout, options.stderr, asyncio.get_running_loop().create_future())
            live.pending_attach.append(stream)
        replay = None
        if logs:
            log_options = LogOptions(stdout=options.stdout, stderr=options.stderr)
            replay = read_log(self._launcher.log_path(record), log_options, log_end=getattr(stream, "log_end", None))
        self._emit(record, "attach")
        return Session(
            record.config.tty,
            stream,
            replay,
            # As dockerd has it, only with StdinOnce the end of a client's input is the end of the process's.
            input_ends_it=stdin and (record.config.tty or not record.config.stdin_once),
            on_detach=lambda: self._emit(record, "detach"),
        )

    async def resize(self, ref: str, rows: int, columns: int) -> None:
        record = self._index.resolve(ref)
        await self._runs.running(record).resize(rows, columns)
        self._emit(record, "resize", height=str(rows), width=str(columns))

    async def update(self, ref: str, body: ContainerUpdateBody) -> builtins.list[str]:
        record = self._index.resolve(ref)
        if record.state.status in (ContainerStatus.REMOVING, ContainerStatus.DEAD):
            raise Conflict(f'Cannot update container {record.id}: container is marked for removal and cannot be "update"')
        host, warnings = apply_update(record.id, record.host_config, body, self._creation.limits)
        running = self._runs.live(record.id).running
        if running is not None:
            try:
                await running.update_limits(changed_resources(host, body))
            except SystemFailure as error:  # the kernel refuses a value, e.g. less memory than is in use
                raise Conflict(f"Cannot update container {record.id}: {error}") from error
        current = self._index.resolve(record.id)
        self._index.save(replace(current, host_config=host))
        self._emit(current, "update")
        return warnings

    async def prune(self, filters: Filters) -> dict[str, Any]:
        filters.require_known(("until", "label", "label!"))
        chooser = PruneFilter(filters, time.time_ns())
        removed: builtins.list[str] = []
        reclaimed = 0
        for record in self._index:
            if record.state.status not in (ContainerStatus.CREATED, ContainerStatus.EXITED, ContainerStatus.DEAD):
                continue
            if record.id in self._removing or not chooser.matches(record):
                continue
            reclaimed += (await self._sizes(record)).written
            with contextlib.suppress(Conflict):
                await self._remove(record.id, volumes=False)
                removed.append(record.id)
        self._events.emit("container", "prune", "", {"reclaimed": str(reclaimed)})
        return {"ContainersDeleted": removed or None, "SpaceReclaimed": reclaimed}

    # --- for other services ---

    def using_image(self, image_id: str, mounts: bool) -> builtins.list[tuple[str, bool]]:
        """(container id, whether it runs) of each container that is made from an image, or, with ``mounts``, mounts it."""
        return [
            (record.id, record.state.status.counts_as_running)
            for record in self._index
            if record.image_id == image_id or (mounts and any(point.image_id == image_id for point in record.mounts))
        ]

    def held_layers(self) -> builtins.list[ChainId]:
        """The top layers that containers stand on, and those of images that they mount."""
        own = [record.layers[-1] for record in self._index if record.layers]
        mounted = [point.top_layer for record in self._index for point in record.mounts if point.top_layer]
        return [ChainId(layer) for layer in (*own, *mounted)]

    def using_volume(self, name: str) -> builtins.list[str]:
        """Ids of the containers that mount a volume."""
        return [record.id for record in self._index if any(point.volume == name for point in record.mounts)]

    def counts(self) -> dict[str, int]:
        """How many containers there are, for ``/info``."""
        states = [record.state for record in self._index]
        paused = sum(state.status is ContainerStatus.PAUSED for state in states)
        running = sum(state.status.counts_as_running for state in states) - paused
        return {"total": len(states), "running": running, "paused": paused, "stopped": len(states) - running - paused}

    def _emit(self, record: ContainerRecord, action: str, **more: str) -> None:
        self._events.emit("container", action, record.id, event_attributes(record, **more))


def _why_not_removed(status: ContainerStatus) -> str:
    if status is ContainerStatus.PAUSED:
        return "container is paused and must be unpaused first"
    return f"container is {status.value}: stop the container before removing or force remove"


@contextlib.contextmanager
def about(what: str) -> Iterator[None]:
    """Errors say which request they concern, in the words that users of Docker know; NotModified has none to say."""
    try:
        yield
    except NotModified:
        raise
    except EngineError as error:
        error.args = (f"{what}: {error}", *error.args[1:])
        raise
