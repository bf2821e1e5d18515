"""The files of containers: in and out as archives (``docker cp``, ``export``), compared (``diff``), and as images (``commit``).

Everything that touches a container's files happens in confined workers (``storage/container_jobs.py``); here is only which
container, what is mounted in it, and who has to wait for whom.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from kitepy.engine.kernel.processes import open_namespace
from kitepy.engine.model.container import ContainerRecord, ContainerStatus, MountKind
from kitepy.engine.model.container_config import ContainerConfig
from kitepy.engine.model.errors import Conflict, EngineError, NotFound
from kitepy.engine.services.archive_pipe import JobOutput, feed
from kitepy.engine.services.container_commit import ContainerCommit
from kitepy.engine.services.container_index import ContainerIndex
from kitepy.engine.services.container_launch import ContainerLauncher
from kitepy.engine.services.container_runs import ContainerRuns
from kitepy.engine.services.container_stops import ContainerStops
from kitepy.engine.services.container_view import event_attributes
from kitepy.engine.services.events import EventBus
from kitepy.engine.services.images import ImageService
from kitepy.engine.services.ports import CommitOptions
from kitepy.engine.services.request_networking import parse_network_mode
from kitepy.engine.storage.layers import LayerStore
from kitepy.engine.storage.worker import WorkerPool

log = logging.getLogger(__name__)

_JOBS = "kitepy.engine.storage.container_jobs:"
_ENGINE_FILES = ("resolv.conf", "hostname", "hosts")


class ContainerArchives:
    """Satisfies ``ports.ContainerArchives``. Belongs to one event loop."""

    def __init__(
        self,
        *,
        index: ContainerIndex,
        runs: ContainerRuns,
        stops: ContainerStops,
        launcher: ContainerLauncher,
        images: ImageService,
        layers: LayerStore,
        workers: WorkerPool,
        events: EventBus,
    ) -> None:
        self._index = index
        self._runs = runs
        self._launcher = launcher
        self._workers = workers
        self._events = events
        self._commit = ContainerCommit(index=index, stops=stops, launcher=launcher, images=images, layers=layers)

    async def stat(self, ref: str, path: str) -> dict[str, Any]:
        record = self._index.resolve(ref)
        async with self._runs.live(record.id).lock, self._volumes_mounted(record):
            result = await self._run("stat_path", record, {"path": path, "container": ref})
        found: dict[str, Any] = result["stat"]
        return found

    async def get(self, ref: str, path: str) -> tuple[dict[str, Any], AsyncIterator[bytes]]:
        record = self._index.resolve(ref)
        found: dict[str, Any] = {}

        def begun(report: dict[str, Any]) -> None:
            found.update(report["stat"])
            self._emit(record, "archive-path")

        pieces = await self._stream("pack_path", record, {"path": path, "container": ref}, begun)
        return found, pieces

    async def put(
        self, ref: str, path: str, content: AsyncIterator[bytes], *, no_overwrite_dir_non_dir: bool, copy_uid_gid: bool
    ) -> None:
        record = self._index.resolve(ref)
        owner = None
        if copy_uid_gid and record.config.user:
            account = self._launcher.account(record)
            owner = [account.uid, account.gid]
        params = {
            "path": path,
            "container": ref,
            "read_only": record.host_config.readonly_rootfs,
            "keep_kinds": no_overwrite_dir_non_dir,
            "owner": owner,
        }
        async with AsyncExitStack() as held:
            if self._runs.live(record.id).running is None:
                # An overlay must not be mounted twice: nobody may start it meanwhile.
                await held.enter_async_context(self._runs.live(record.id).lock)
            await held.enter_async_context(self._volumes_mounted(record))
            result = await feed(content, lambda pipe: self._run("unpack_into", record, params, pipe))
            self._emit(record, "extract-to-dir")
        for warning in result["warnings"]:
            log.warning("copying into container %s: %s", record.name, warning)

    async def export(self, ref: str) -> AsyncIterator[bytes]:
        record = self._index.resolve(ref)
        if record.state.status is ContainerStatus.REMOVING:
            raise Conflict(f"You cannot export container {record.id} which is being removed")
        pieces = await self._stream("pack_root", record, {}, mounted=False)
        self._emit(record, "export")
        return pieces

    async def changes(self, ref: str) -> list[dict[str, Any]] | None:
        record = self._index.resolve(ref)
        try:
            result = await self._workers.run(f"{_JOBS}list_changes", {"tree": self._tree(record, mounted=False)})
        except EngineError:
            self._require(record)
            raise
        return [{"Kind": kind, "Path": path} for path, kind in result["changes"]] or None

    async def commit(self, ref: str, options: CommitOptions, config: ContainerConfig | None) -> str:
        record = self._index.resolve(ref)
        image_id, name = await self._commit.commit(record, options, config)
        current = self._index.get(record.id) or record
        self._emit(current, "commit", comment=options.comment, imageID=image_id, imageRef=name)
        await self._commit.finish(record)
        return image_id

    # --- inside ---

    async def _stream(
        self, job: str, record: ContainerRecord, params: dict[str, Any], report: Any = None, *, mounted: bool = True
    ) -> AsyncIterator[bytes]:
        """A job's output. What goes wrong before it is raised here; until then nobody starts or removes the container."""

        async def run(pipe: int) -> dict[str, Any]:
            async with AsyncExitStack() as held:
                if mounted:
                    held.callback(os.close, pipe)  # in case the volumes can't be mounted
                    await held.enter_async_context(self._volumes_mounted(record))
                    pipe = os.dup(pipe)
                return await self._run(job, record, params, pipe, progress=report, mounted=mounted)

        async with self._runs.live(record.id).lock:
            return await JobOutput.begin(run)

    @asynccontextmanager
    async def _volumes_mounted(self, record: ContainerRecord) -> AsyncIterator[None]:
        """Its volumes are there to be looked into, whether or not it runs; as with dockerd that is told."""
        async with self._launcher.content.visited(record):
            self._runs.emit_mounts(record)
            try:
                yield
            finally:
                self._runs.emit_unmounts(record)

    async def _run(
        self,
        job: str,
        record: ContainerRecord,
        params: dict[str, Any],
        pipe: int | None = None,
        *,
        progress: Any = None,
        mounted: bool = True,
    ) -> dict[str, Any]:
        fds = [] if pipe is None else [pipe]
        try:
            namespace_fd = self._mount_namespace(record)
            if namespace_fd is not None:
                fds.append(namespace_fd)
            params = {**params, "tree": self._tree(record, mounted=mounted)}
        except BaseException:
            for fd in fds:
                os.close(fd)
            raise
        try:
            return await self._workers.run(_JOBS + job, params, fds, progress=progress, paced=pipe is not None)
        except NotFound:
            raise
        except EngineError:
            self._require(record)  # if it was removed meanwhile, this is why
            raise

    def _mount_namespace(self, record: ContainerRecord) -> int | None:
        """That of a container that runs; None for others, whose file system is nobody's at the moment."""
        running = self._runs.live(record.id).running
        if running is None or running.exited.done():
            return None
        try:
            return open_namespace(running.pid, running.pid_started, "mnt")
        except ProcessLookupError:
            return None

    def _require(self, record: ContainerRecord) -> None:
        if self._index.get(record.id) is None:
            raise NotFound(f"No such container: {record.id}")

    def _tree(self, record: ContainerRecord, *, mounted: bool) -> dict[str, Any]:
        """What ``ContainerTree`` has to know."""
        root = self._launcher.root(record)
        remapping = self._launcher.remapping_of(record)
        return {
            "base": str(root.base),
            "lower": list(root.lower),
            "upper": root.upper,
            "work": root.work,
            "flavour": root.flavour.value,
            "mounts": [*self._volume_mounts(record), *self._engine_files(record)] if mounted else [],
            "uids": [list(row) for row in remapping.uids.ranges] if remapping is not None else None,
            "gids": [list(row) for row in remapping.gids.ranges] if remapping is not None else None,
        }

    def _volume_mounts(self, record: ContainerRecord) -> list[dict[str, Any]]:
        return [
            {
                "source": self._launcher.content.source(point),
                "destination": point.destination,
                "part": point.subpath,
                "read_only": point.read_only,
                "flat": point.flat_read_only,
                "recursive": not point.non_recursive,
                "mapped": point.kind is MountKind.VOLUME or point.engine_owned,
                "optional": False,
            }
            for point in record.mounts
            if point.kind is not MountKind.TMPFS
        ]

    def _engine_files(self, record: ContainerRecord) -> list[dict[str, Any]]:
        """``/etc/hosts`` and the like, which exist once the container has been started."""
        directory = self._launcher.directory(self._network_owner(record).id)
        taken = {point.destination for point in record.mounts}
        return [
            {
                "source": str(directory / name),
                "destination": f"/etc/{name}",
                "part": "",
                "read_only": record.host_config.readonly_rootfs,
                "flat": True,
                "recursive": False,
                "mapped": True,
                "optional": True,
            }
            for name in _ENGINE_FILES
            if f"/etc/{name}" not in taken
        ]

    def _network_owner(self, record: ContainerRecord) -> ContainerRecord:
        """Whose network, and with it names and name service, the container has."""
        seen = {record.id}
        while (mode := parse_network_mode(record.host_config.network_mode)).kind == "container":
            try:
                peer = self._index.resolve(mode.target)
            except EngineError:
                break
            if peer.id in seen:
                break
            seen.add(peer.id)
            record = peer
        return record

    def _emit(self, record: ContainerRecord, action: str, **more: str) -> None:
        self._events.emit("container", action, record.id, event_attributes(record, **more))
