"""Feeds the Volumes page and does what is asked there: make, remove, prune, browse, back up, restore."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from kitepy.gui.controllers.controller import Controller
from kitepy.gui.controllers.engine import EngineController, Lists
from kitepy.gui.controllers.presenter import Presenter
from kitepy.gui.gateway.port import Gateway, GatewayError, Progress
from kitepy.gui.models.image import readable_size
from kitepy.gui.models.state import (
    AppState,
    BrowsingBegan,
    EnginePhase,
    FilePreviewed,
    FolderRead,
    JobChanged,
    JobForgotten,
    Navigated,
    Page,
    Route,
    Store,
    VolumesListed,
    VolumesMeasured,
)
from kitepy.gui.models.volume import (
    FileEntry,
    FilePreview,
    Folder,
    Job,
    JobPhase,
    RestorePlan,
    VolumeRow,
    unused,
    volume_rows,
)
from kitepy.gui.tasks import Tasks

_NOTHING_KEPT = "Cancelled: nothing of it was kept."


class VolumesController(Controller):
    def __init__(
        self,
        store: Store,
        gateway: Gateway,
        tasks: Tasks,
        engine: EngineController,
        presenter: Presenter,
        today: Callable[[], date] = date.today,
    ) -> None:
        super().__init__(store, gateway, tasks, engine, presenter)
        self._today = today
        self._visible = True
        self._measured_for: object = None
        self._measuring: asyncio.Task[None] | None = None
        self._asked: set[str] = set()
        self._running: dict[str, asyncio.Task[None]] = {}
        self._numbers = itertools.count(1)
        self._preview: asyncio.Task[None] | None = None
        store.subscribe(lambda state, _previous: self._follow(state))

    def set_visible(self, visible: bool) -> None:
        self._visible = visible
        self._follow(self._store.state)

    def refresh(self) -> None:
        """Measures anew, and reads the folders in sight anew."""
        self._measured_for = None
        browsing = self._store.state.browsing
        if self._store.state.route == Route(Page.VOLUMES, browsing.volume):
            self._asked.clear()
            for path in browsing.folders:
                self.open_folder(browsing.volume, path)
        self._follow(self._store.state)

    # Make and remove

    def create(self) -> None:
        taken = {volume.name for volume in self._store.state.volumes}
        self._presenter.ask_new_volume(
            taken, lambda name, labels: self._spawn(self._create(name, labels), f"create volume {name}")
        )

    def remove(self, name: str) -> None:
        row = self._row(name)
        if row is None:
            return
        if row.users:
            container = row.users[0].container
            running = [user.container.name for user in row.users if user.container.status.alive]
            text = f"It is used by {row.used_by}" + (f" ({', '.join(dict.fromkeys(running))} running)" if running else "")
            self._presenter.choose(
                f"{row.volume.title} is in use",
                f"{text}. A volume can be removed once no container has it: remove those containers first.",
                [(f"Show {container.name}", lambda: self._store.dispatch(Navigated(Route(Page.CONTAINER, container.id))))],
            )
            return
        size = f"{readable_size(row.size_bytes)} of files" if row.size_bytes else "All files in it"
        self._presenter.confirm(
            f"Remove the volume {row.volume.title}?",
            f"{size} will be deleted and can't be brought back. No container uses it. A backup keeps what is in it.",
            "Remove",
            lambda: self._spawn(self._remove([name]), f"remove volume {name}"),
        )

    def prune(self) -> None:
        state = self._store.state
        rows = unused(volume_rows(state.volumes, state.containers.values(), state.volume_sizes), named=True)
        if not rows:
            self._presenter.tell("Every volume is used by a container.")
            return
        self._presenter.ask_prune(rows, lambda names: self._spawn(self._remove(names), "prune volumes"))

    async def _create(self, name: str, labels: Mapping[str, str]) -> None:
        made = await self._gateway.create_volume(name, labels, {})
        self._store.dispatch(VolumesListed(await self._gateway.volumes()))
        self._store.dispatch(Navigated(Route(Page.VOLUMES, made)))

    async def _remove(self, names: Sequence[str]) -> None:
        """One by one and only those that were shown: a container may have taken one meanwhile, which the engine then refuses."""
        sizes = self._store.state.volume_sizes
        gone, freed, refused = 0, 0, []
        try:
            for name in names:
                try:
                    await self._gateway.remove_volume(name)
                except GatewayError as error:
                    refused.append(str(error))
                    continue
                gone, freed = gone + 1, freed + sizes.get(name, 0)
        finally:
            self._engine.refresh(Lists.VOLUMES)
        for message in refused:
            self._presenter.warn(message)
        if len(names) > 1 and gone:
            self._presenter.tell(f"Removed {gone} volumes, {readable_size(freed)}.")

    # Files

    def open_folder(self, volume: str, path: str) -> None:
        if volume == self._store.state.browsing.volume and path not in self._asked:
            self._asked.add(path)
            self._spawn(self._read_folder(volume, path), f"folder {path}")

    def preview(self, volume: str, path: str, entry: FileEntry) -> None:
        if self._preview is not None:
            self._preview.cancel()
        note = {"directory": "", "file": "", "symlink": f"A link to {entry.link_target}."}.get(entry.kind, f"A {entry.kind}.")
        if entry.kind != "file":
            self._store.dispatch(FilePreviewed(volume, FilePreview(path, note=note) if note else None))
            return
        self._preview = self._tasks.spawn(self._read_preview(volume, path, entry.size_bytes), name=f"preview {path}")

    def save(self, volume: str, path: str, is_folder: bool) -> None:
        name = path.rstrip("/").rpartition("/")[2] or volume
        self._presenter.ask_save_path(
            f"Save {name}",
            f"{name}.tar" if is_folder else name,
            lambda target: self._begin(
                f"Saving {name}", volume, self._gateway.save_file(volume, path, target), f"Saved {target}."
            ),
        )

    async def _read_folder(self, volume: str, path: str) -> None:
        try:
            folder = await self._gateway.list_folder(volume, path)
        except GatewayError as error:
            self._asked.discard(path)
            folder = Folder(error=str(error))
        self._store.dispatch(FolderRead(volume, path, folder))

    async def _read_preview(self, volume: str, path: str, size_bytes: int) -> None:
        try:
            preview = await self._gateway.preview_file(volume, path, size_bytes)
        except GatewayError as error:
            preview = FilePreview(path, note=str(error))
        self._store.dispatch(FilePreviewed(volume, preview))

    # Backups

    def back_up(self, name: str) -> None:
        row = self._row(name)
        if row is None:
            return
        title = row.volume.title.replace(" ", "-")
        self._presenter.ask_save_path(
            f"Back up {row.volume.title}",
            f"{title}-{self._today():%Y-%m-%d}.tar.gz",
            lambda target: self._begin(
                f"Backing up {row.volume.title}",
                name,
                self._gateway.back_up(name, target),
                f"Saved {target}.",
                row.size_bytes or 0,
            ),
        )

    def restore(self, name: str) -> None:
        """Into that volume, or with an empty name into a new one."""

        def chosen(source: Path) -> None:
            state = self._store.state
            rows = volume_rows(state.volumes, state.containers.values(), state.volume_sizes)
            self._presenter.ask_restore(source, rows, name, lambda plan: self._restore(plan, source))

        self._presenter.ask_archive("Choose a backup (tar archive)", chosen)

    def cancel(self, job_id: str) -> None:
        task = self._running.get(job_id)
        if task is not None:
            task.cancel()

    def dismiss(self, job_id: str) -> None:
        self._store.dispatch(JobForgotten(job_id))

    def _restore(self, plan: RestorePlan, source: Path) -> None:
        self._begin(
            f"Restoring {source.name} to {plan.volume}",
            plan.volume,
            self._gateway.restore(plan, source),
            f"{source.name} is restored.",
            cancelled=_NOTHING_KEPT if plan.create else "Cancelled: what was unpacked until then is in the volume.",
        )

    def _begin(
        self,
        title: str,
        volume: str,
        copy: AsyncIterator[Progress],
        done: str,
        total_bytes: int = 0,
        cancelled: str = _NOTHING_KEPT,
    ) -> None:
        job = Job(f"job-{next(self._numbers)}", title, volume, total_bytes=total_bytes)
        self._store.dispatch(JobChanged(job))
        task = self._running[job.id] = self._tasks.spawn(self._run(job, copy, done), name=title)
        task.add_done_callback(lambda _task: self._settle(job.id, cancelled))

    async def _run(self, job: Job, copy: AsyncIterator[Progress], done: str) -> None:
        try:
            async for progress in copy:
                total = progress.total_bytes or job.total_bytes
                job = replace(job, done_bytes=progress.done_bytes, total_bytes=total)
                self._store.dispatch(JobChanged(job))
            self._store.dispatch(JobChanged(replace(job, phase=JobPhase.DONE, note=done)))
        except GatewayError as error:
            self._store.dispatch(JobChanged(replace(job, phase=JobPhase.FAILED, note=str(error))))
        finally:
            self._engine.refresh(Lists.VOLUMES)
            self.refresh()

    def _settle(self, job_id: str, cancelled: str) -> None:
        """A task that is cancelled before its first step never runs, not even its clean-up."""
        self._running.pop(job_id, None)
        job = self._store.state.jobs.get(job_id)
        if job is not None and job.phase is JobPhase.RUNNING:
            self._store.dispatch(JobChanged(replace(job, phase=JobPhase.CANCELLED, note=cancelled)))

    # Following the state

    def _follow(self, state: AppState) -> None:
        if state.route.page is not Page.VOLUMES or not self._visible or state.engine.phase is not EnginePhase.READY:
            self._measured_for = None
            return
        name = state.route.key
        if name and name != state.browsing.volume:
            self._asked.clear()
            self._store.dispatch(BrowsingBegan(name))
            self.open_folder(name, "/")
            return
        volumes = tuple(volume.name for volume in state.volumes)
        if state.volumes_list.loaded and volumes != self._measured_for:
            self._measured_for = volumes
            if self._measuring is None or self._measuring.done():
                self._measuring = self._tasks.spawn(self._measure(), name="sizes of volumes")

    async def _measure(self) -> None:
        while True:
            wanted = self._measured_for
            sizes = await self._gateway.volume_sizes()
            self._store.dispatch(VolumesMeasured(sizes))
            if self._measured_for is None or wanted == self._measured_for:
                return

    def _row(self, name: str) -> VolumeRow | None:
        state = self._store.state
        rows = volume_rows(state.volumes, state.containers.values(), state.volume_sizes)
        return next((row for row in rows if row.volume.name == name), None)

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        self._tasks.spawn(work, name=name)
