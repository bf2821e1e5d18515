"""From a dropped path to a running container: review, build, run. Each build can be cancelled and done again."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from kitepy.gui.controllers.controller import Controller
from kitepy.gui.controllers.engine import EngineController
from kitepy.gui.controllers.port_conflicts import PortConflicts
from kitepy.gui.controllers.presenter import Presenter
from kitepy.gui.gateway.port import Gateway, GatewayError
from kitepy.gui.models.build import (
    Build,
    BuildPhase,
    BuildRequest,
    BuildReview,
    OutputWritten,
    StepStarted,
    advance,
    cancel,
    fail,
    finish,
)
from kitepy.gui.models.container import free_name
from kitepy.gui.models.image import name_from_reference
from kitepy.gui.models.log import Line, LineAssembler, LogStore
from kitepy.gui.models.state import (
    BuildChanged,
    BuildForgotten,
    ContainersListed,
    Navigated,
    Page,
    Route,
    Store,
)
from kitepy.gui.tasks import Tasks

# A build that prints more than this has its first lines dropped.
_OUTPUT_LIMIT_LINES = 200_000


class BuildsController(Controller):
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
        self._conflicts = PortConflicts(store, gateway, tasks, engine, presenter)
        self._waiting: deque[Path] = deque()
        self._reviewing = False
        self._running: dict[str, asyncio.Task[None]] = {}
        self._outputs: dict[str, LogStore] = {}
        self._number = 0

    def output_of(self, build_id: str) -> LogStore:
        return self._outputs.setdefault(build_id, LogStore(_OUTPUT_LIMIT_LINES))

    def add_paths(self, paths: list[str]) -> None:
        """Shows one review sheet after the other."""
        self._waiting.extend(Path(path) for path in paths)
        self._review_next()

    def begin(self, request: BuildRequest) -> None:
        self._number += 1
        taken = {container.name for container in self._store.state.containers.values()}
        taken |= {build.name for build in self._store.state.builds.values() if build.phase.active}
        name = free_name(name_from_reference(request.tag), taken)
        build = Build(f"build-{self._number}", name, request, self._clock())
        self._store.dispatch(BuildChanged(build))
        self._store.dispatch(Navigated(Route(Page.BUILD, build.id)))
        task = self._running[build.id] = self._tasks.spawn(self._build(build), name=f"build {name}")
        task.add_done_callback(lambda _task: self._settle(build.id))

    def cancel(self, build_id: str) -> None:
        task = self._running.get(build_id)
        if task is not None:
            task.cancel()

    def repeat(self, build_id: str) -> None:
        """Reads the folder anew, since the Dockerfile has probably been changed, and builds without asking again."""
        build = self._store.state.builds.get(build_id)
        if build is not None and not build.phase.active:
            self._tasks.spawn(self._repeat(build), name=f"repeat {build.name}")

    def dismiss(self, build_id: str) -> None:
        self._outputs.pop(build_id, None)
        self._store.dispatch(BuildForgotten(build_id))

    def _review_next(self) -> None:
        if self._waiting and not self._reviewing:
            self._reviewing = True
            self._tasks.spawn(self._review(self._waiting.popleft()), name="review")

    async def _review(self, path: Path) -> None:
        try:
            review = await self._gateway.review(path)
        except BaseException:
            self._reviewed()
            raise
        self._presenter.review(review, self.begin, self._reviewed)

    def _reviewed(self) -> None:
        self._reviewing = False
        self._review_next()

    async def _repeat(self, old: Build) -> None:
        review: BuildReview = await self._gateway.review(old.request.review.dockerfile)
        if review.context != old.request.review.context:
            review = replace(review, context=old.request.review.context)
        self.dismiss(old.id)
        self.begin(replace(old.request, review=review))

    async def _build(self, build: Build) -> None:
        output = self.output_of(build.id)
        assembler = LineAssembler(timestamps=False)
        try:
            await self._engine.ready()
            async for event in self._gateway.build(build.request):
                if isinstance(event, StepStarted):
                    heading = f"\x1b[1mStep {event.index}/{event.total}  {event.text}\x1b[0m"
                    output.append([*assembler.flush(), Line(heading)])
                elif isinstance(event, OutputWritten):
                    output.append(assembler.feed("stdout", event.text.encode("utf-8", "replace")))
                lines = output.end_number - (1 if isinstance(event, StepStarted) else 0)
                build = advance(build, event, self._clock(), lines)
                if not isinstance(event, OutputWritten) or "Using cache" in event.text:
                    self._show(build)
            output.append(assembler.flush())
            if build.phase is BuildPhase.STARTING:
                build = await self._run(build)
            elif build.phase.active:
                build = fail(build, "The engine ended the build without a result.", self._clock())
        except asyncio.CancelledError:
            build = cancel(build, self._clock())
            raise
        except GatewayError as error:
            build = fail(build, await self._conflicts.named(str(error)), self._clock())
        finally:
            if build.phase.active:
                build = fail(build, "The build was given up because of an error inside of Kitepy.", self._clock())
            self._show(build)
            self._engine.refresh()

    async def _run(self, build: Build) -> Build:
        if not build.request.run:
            return finish(build, "", self._clock())
        container_id = await self._gateway.run_image(build.request.tag, build.name)
        self._store.dispatch(ContainersListed(await self._gateway.containers()))
        return finish(build, container_id, self._clock())

    def _settle(self, build_id: str) -> None:
        """A task that is cancelled before its first step never runs, not even its clean-up."""
        self._running.pop(build_id, None)
        build = self._store.state.builds.get(build_id)
        if build is not None and build.phase.active:
            self._show(cancel(build, self._clock()))

    def _show(self, build: Build) -> None:
        self._store.dispatch(BuildChanged(build))
