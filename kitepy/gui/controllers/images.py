"""Images: names, removal, archives, pushing and pruning. What is lost is said first, what can be taken back is offered back."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kitepy.gui.controllers.controller import Controller
from kitepy.gui.controllers.engine import EngineController, Lists
from kitepy.gui.controllers.feed import Feed
from kitepy.gui.controllers.presenter import Presenter
from kitepy.gui.gateway.image_port import ImagesArrived
from kitepy.gui.gateway.port import Gateway, GatewayError, OperationFailed, Progress
from kitepy.gui.models.image import Image, archive_name, looks_like_archive, readable_size
from kitepy.gui.models.image_list import ImageRow, PruneCandidate, freed_bytes, image_rows, loss_of_removal, unused
from kitepy.gui.models.reference import DOCKER_HUB, parse_reference
from kitepy.gui.models.state import IMAGES, JobChanged, Navigated, Page, Route, Store
from kitepy.gui.models.transfer import Transfer, TransferMessage, advance
from kitepy.gui.models.trouble import Cause, Remedy, explain
from kitepy.gui.models.volume import Job, JobPhase, JobTopic
from kitepy.gui.tasks import Tasks

_NOTHING_KEPT = "Cancelled: nothing of it was kept."
_ASKED_AT_ONCE = 8


class ImagesController(Controller):
    def __init__(
        self,
        store: Store,
        gateway: Gateway,
        tasks: Tasks,
        engine: EngineController,
        presenter: Presenter,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(store, gateway, tasks, engine, presenter)
        self._clock = clock
        self._running: dict[str, asyncio.Task[None]] = {}
        self._numbers = itertools.count(1)

    # Names

    def tag(self, image_id: str) -> None:
        row = self._row(image_id)
        if row is not None:
            self._presenter.ask_tag(row.image, self._store.state.images, lambda name: self._give_name(row.image, name))

    def untag(self, image_id: str, name: str) -> None:
        row = self._row(image_id)
        if row is None or name not in row.image.tags:
            return
        if len(row.image.tags) == 1:
            self.remove(image_id)  # the image goes with its last name
        else:
            self._spawn(self._untag(row.image, name), f"untag {name}")

    def _give_name(self, image: Image, name: str) -> None:
        async def work() -> None:
            await self._gateway.tag_image(image.id, name)
            self._engine.refresh(Lists.IMAGES)

        self._spawn(work(), f"tag {name}")

    async def _untag(self, image: Image, name: str) -> None:
        try:
            await self._gateway.remove_image(name, force=False)
        finally:
            self._engine.refresh(Lists.IMAGES)
        self._presenter.offer(f"The name {name} is gone; the image is still there.", "Undo", lambda: self._give_name(image, name))

    # Remove

    def remove(self, reference: str) -> None:
        row = self._row(reference)
        if row is None:
            return
        image = row.image
        if row.users:
            self._tell_users(row)
            return
        remove_all = lambda: self._spawn(self._remove([image]), f"remove image {image.title}")  # noqa: E731 - used twice
        if len(image.tags) > 1:
            name = reference if reference in image.tags else image.tags[0]
            self._presenter.choose(
                f"Remove {name}?",
                f"The image has {len(image.tags)} names. The name alone can be given back; of the whole image: "
                f"{loss_of_removal(row)}",
                [("The whole image", remove_all), ("Only this name", lambda: self.untag(image.id, name))],
            )
            return
        self._presenter.confirm(f"Remove the image {image.title}?", loss_of_removal(row), "Remove", remove_all)

    def _tell_users(self, row: ImageRow) -> None:
        running = [container.name for container in row.users if container.status.alive]
        first = row.users[0]
        words = f"It is used by {row.used_by}" + (f" ({', '.join(running)} running)" if running else "")
        self._presenter.choose(
            f"{row.image.title} is in use",
            f"{words}. An image can be removed once no container is made of it: remove those containers first.",
            [(f"Show {first.name}", lambda: self._store.dispatch(Navigated(Route(Page.CONTAINER, first.id))))],
        )

    async def _remove(self, images: Sequence[Image]) -> None:
        """Name by name and never by force: a container may have been made of one meanwhile, which the engine then refuses."""
        gone, refused = 0, []
        try:
            for image in images:
                try:
                    for name in image.tags or (image.id,):
                        await self._gateway.remove_image(name, force=False)
                except GatewayError as error:
                    refused.append(str(error))
                    continue
                gone += 1
        finally:
            self._engine.refresh(Lists.IMAGES)
        for message in refused:
            self._presenter.warn(message)
        if len(images) > 1 and gone:
            self._presenter.tell(f"Removed {gone} images.")

    def prune(self) -> None:
        self._spawn(self._ask_prune(), "prune images")

    async def _ask_prune(self) -> None:
        rows = unused(self._rows(), tagged=True)
        if not rows:
            self._presenter.tell("Every image is used by a container.")
            return
        slots = asyncio.Semaphore(_ASKED_AT_ONCE)

        async def candidate(row: ImageRow) -> PruneCandidate | None:
            async with slots:
                try:
                    return PruneCandidate(row, await self._gateway.layer_sizes(row.image.id))
                except OperationFailed:
                    return None  # it is gone already

        candidates = [each for each in await asyncio.gather(*map(candidate, rows)) if each is not None]
        by_id = {each.row.image.id: each for each in candidates}

        def go(ids: Sequence[str]) -> None:
            chosen = [by_id[key] for key in ids]
            self._spawn(self._prune(chosen), "prune images")

        self._presenter.ask_image_prune(candidates, go)

    async def _prune(self, chosen: Sequence[PruneCandidate]) -> None:
        await self._remove([each.row.image for each in chosen])
        if len(chosen) == 1:
            self._presenter.tell(f"Removed {chosen[0].row.image.title}, {readable_size(freed_bytes(chosen))}.")

    # Archives

    def save(self, image_id: str) -> None:
        row = self._row(image_id)
        if row is None:
            return
        image = row.image
        self._presenter.ask_save_path(
            f"Save {image.title}",
            archive_name(image),
            lambda target: self._begin(
                Job("", f"Saving {image.title}", image.id, total_bytes=image.size_bytes),
                self._gateway.save_images(image.tags or (image.id,), target),
                f"Saved {target}.",
            ),
        )

    def load(self) -> None:
        self._presenter.ask_archive("Choose an image archive", lambda source: self._spawn(self._take(source), f"load {source}"))

    def take_archives(self, paths: Sequence[str]) -> list[str]:
        """What was dropped or handed over: archives are loaded, the others are given back."""
        rest = []
        for path in paths:
            if looks_like_archive(path):
                self._spawn(self._take(Path(path)), f"load {path}")
            else:
                rest.append(path)
        return rest

    async def _take(self, source: Path) -> None:
        await self._engine.ready()
        is_image = await self._gateway.is_image_archive(source)
        self._store.dispatch(Navigated(IMAGES))
        if is_image:
            self._begin(Job("", f"Loading {source.name}", ""), self._gateway.load_images(source), "")
        else:
            self._presenter.ask_import(source, self._store.state.images, lambda name: self._import(source, name))

    def _import(self, source: Path, name: str) -> None:
        self._begin(Job("", f"Importing {source.name}", ""), self._gateway.import_image(source, name), f"{name} is there.")

    # Push

    def push(self, image_id: str) -> None:
        row = self._row(image_id)
        if row is not None:
            user_of = self._store.state.registries.user_of
            self._presenter.ask_push(row.image, user_of, lambda name, all_tags: self._push(row.image, name, all_tags))

    def _push(self, image: Image, name: str, all_tags: bool) -> None:
        reference = parse_reference(name)
        pulled = reference.pulled if reference else name
        what = reference.familiar_repository if reference and all_tags else pulled

        async def work() -> AsyncIterator[TransferMessage]:
            if pulled not in image.tags:
                await self._gateway.tag_image(image.id, pulled)
                self._engine.refresh(Lists.IMAGES)
            async for message in self._gateway.push_image(pulled, all_tags=all_tags):
                yield message

        job = Job("", f"Pushing {what}", image.id, transfer=Transfer())
        self._begin(job, work(), f"{what} is at {reference.registry if reference else 'the registry'}.", pushed=pulled)

    # Jobs

    def cancel(self, job_id: str) -> None:
        task = self._running.get(job_id)
        if task is not None:
            task.cancel()

    def _begin(
        self,
        job: Job,
        steps: AsyncIterator[Progress | ImagesArrived] | AsyncIterator[Progress] | AsyncIterator[TransferMessage],
        done: str,
        pushed: str = "",
    ) -> None:
        job = replace(job, id=f"image-job-{next(self._numbers)}", topic=JobTopic.IMAGE)
        self._store.dispatch(JobChanged(job))
        task = self._running[job.id] = self._tasks.spawn(self._run(job, steps, done, pushed), name=job.title)
        task.add_done_callback(lambda _task: self._settle(job.id, pushed))

    async def _run(self, job: Job, steps: AsyncIterator[Any], done: str, pushed: str) -> None:
        feed: Feed[Job] = Feed(lambda newest: self._store.dispatch(JobChanged(newest)))
        try:
            async for step in steps:
                if isinstance(step, ImagesArrived):
                    done = done or f"Loaded {', '.join(_shown(name) for name in step.names) or 'nothing'}."
                    continue
                job = self._after(job, step)
                await feed.take(job)
            feed.flush()
            self._store.dispatch(JobChanged(replace(job, phase=JobPhase.DONE, note=done)))
        except GatewayError as error:
            feed.flush()
            self._store.dispatch(JobChanged(_refused(job, str(error), pushed)))
        finally:
            feed.flush()
            self._engine.refresh(Lists.IMAGES)

    def _after(self, job: Job, step: Progress | TransferMessage) -> Job:
        if isinstance(step, Progress):
            # The engine goes on when it has the last byte, and doesn't tell how far: the bar only says that it does.
            total = 0 if step.done_bytes == step.total_bytes else step.total_bytes or job.total_bytes
            return replace(job, done_bytes=step.done_bytes, total_bytes=total)
        transfer = advance(job.transfer or Transfer(), step, self._clock())
        return replace(job, transfer=transfer, done_bytes=transfer.done_bytes, total_bytes=transfer.total_bytes)

    def _settle(self, job_id: str, pushed: str) -> None:
        """A task that is cancelled before its first step never runs, not even its clean-up."""
        self._running.pop(job_id, None)
        job = self._store.state.jobs.get(job_id)
        if job is not None and job.phase is JobPhase.RUNNING:
            note = "Cancelled: what the registry has already, a later push needn't send." if pushed else _NOTHING_KEPT
            self._store.dispatch(JobChanged(replace(job, phase=JobPhase.CANCELLED, note=note)))

    # Inside

    def _rows(self) -> tuple[ImageRow, ...]:
        return image_rows(self._store.state.images, self._store.state.containers.values())

    def _row(self, reference: str) -> ImageRow | None:
        return next((row for row in self._rows() if reference in (row.image.id, *row.image.tags)), None)

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        self._tasks.spawn(work, name=name)


def _shown(name: str) -> str:
    return name.removeprefix("sha256:")[:12] if name.startswith("sha256:") else name


def _refused(job: Job, message: str, pushed: str) -> Job:
    """The job with what went wrong, told by what can be done about it."""
    job = replace(job, phase=JobPhase.FAILED, note=message)
    reference = parse_reference(pushed) if pushed else None
    if reference is None:
        return job
    trouble = explain(message, reference)
    if trouble.cause in (Cause.DENIED, Cause.UNKNOWN_NAME):
        place = "Docker Hub" if reference.registry == DOCKER_HUB else reference.registry
        name = reference.familiar_repository
        note = f"{place} doesn't take {name}. Log in there with an account that may write it. ({message})"
        return replace(job, note=note, log_in=reference.registry)
    return replace(job, note=trouble.sentence, log_in=reference.registry if Remedy.LOG_IN in trouble.remedies else "")
