"""Brings images here: pulls that can be paused, go on, be given up, and are remembered when the app ends meanwhile."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from dataclasses import replace

from kitepy.gui.controllers.controller import Controller
from kitepy.gui.controllers.engine import EngineController
from kitepy.gui.controllers.memory import Memory
from kitepy.gui.controllers.port_conflicts import PortConflicts
from kitepy.gui.controllers.presenter import Presenter
from kitepy.gui.gateway.port import Disconnected, Gateway, GatewayError
from kitepy.gui.models.container import free_name
from kitepy.gui.models.image import name_from_reference
from kitepy.gui.models.pull import Pull, PullPhase, failed, finished, from_memory, paused, resumed, same_pull, to_memory
from kitepy.gui.models.reference import DOCKER_HUB, parse_reference
from kitepy.gui.models.state import (
    AppState,
    ContainersListed,
    EnginePhase,
    Navigated,
    Page,
    PullChanged,
    PullForgotten,
    Route,
    Store,
)
from kitepy.gui.models.transfer import Transfer, advance, foreseen, with_sizes
from kitepy.gui.models.trouble import Cause, Remedy, Trouble
from kitepy.gui.tasks import Tasks

# Messages come by the hundred a second: the window is drawn anew this often.
_SHOWN_EVERY_S = 0.1
_AT_ONCE = 50
# How much of a pull's progress may be forgotten when the app is killed; nothing of what has arrived is.
_REMEMBERED_EVERY_S = 5.0


class PullsController(Controller):
    def __init__(
        self,
        store: Store,
        gateway: Gateway,
        tasks: Tasks,
        engine: EngineController,
        presenter: Presenter,
        memory: Memory,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(store, gateway, tasks, engine, presenter)
        self._memory = memory
        self._clock = clock
        self._conflicts = PortConflicts(store, gateway, tasks, engine, presenter)
        self._running: dict[str, asyncio.Task[None]] = {}
        self._leaving: set[str] = set()
        self._numbers = itertools.count(1)
        self._remembered_at_s = 0.0
        self._ending = False
        store.subscribe(self._follow)

    def recall(self) -> None:
        """Shows what was unfinished when the app ended the last time; going on with it is the user's choice."""
        for pull in from_memory(self._memory.unfinished_pulls):
            self._store.dispatch(PullChanged(replace(pull, id=self._new_id())))

    def pull(self, name: str, platform: str, run: bool) -> None:
        """Begins one and shows it; of one that brings the same, goes on with that."""
        parsed = parse_reference(name)
        if parsed is None:
            self._presenter.warn(f"“{name}” isn't the name of an image.")
            return
        reference = parsed.pulled
        known = same_pull(self._store.state.pulls.values(), reference, platform)
        if known is not None:
            self._store.dispatch(PullChanged(replace(known, run=run)))
            self._store.dispatch(Navigated(Route(Page.PULL, known.id)))
            self.resume(known.id)
            return
        pull = Pull(self._new_id(), reference, platform, run, transfer=self._foreseen(reference, platform))
        self._store.dispatch(PullChanged(pull))
        self._store.dispatch(Navigated(Route(Page.PULL, pull.id)))
        self._begin(pull)

    def pause(self, pull_id: str) -> None:
        """Closes the connection; the engine keeps what has arrived."""
        if pull_id in self._running:
            self._running[pull_id].cancel()

    def resume(self, pull_id: str) -> None:
        pull = self._store.state.pulls.get(pull_id)
        if pull is not None and pull.resumable and pull_id not in self._running:
            self._begin(resumed(pull, self._clock()))

    def cancel(self, pull_id: str) -> None:
        """Gives it up; also puts away one that has ended."""
        self._leaving.add(pull_id)
        if pull_id in self._running:
            self._running[pull_id].cancel()
        else:
            self._forget(pull_id)

    def interrupt(self) -> None:
        """The app ends: what goes on is remembered as it is, before its task is ended."""
        self._remember()
        self._ending = True

    def _follow(self, state: AppState, previous: AppState) -> None:
        """Goes on with what an engine that went away has interrupted."""
        if state.engine.phase is EnginePhase.READY and previous.engine.phase is not EnginePhase.READY:
            for pull in state.pulls.values():
                if pull.phase is PullPhase.FAILED and pull.trouble is not None and pull.trouble.cause is Cause.ENGINE:
                    self.resume(pull.id)

    def _begin(self, pull: Pull) -> None:
        pull = replace(pull, started_s=self._clock())
        self._show(pull)
        task = self._running[pull.id] = self._tasks.spawn(self._run(pull), name=f"pull {pull.reference}")
        task.add_done_callback(lambda _task: self._settle(pull.id))

    async def _run(self, pull: Pull) -> None:
        feed = _Feed(self, pull)
        foreseeing: asyncio.Task[None] | None = None
        try:
            await self._engine.ready()
            if not pull.transfer.layers:
                foreseeing = self._tasks.spawn(self._foresee(feed), name=f"sizes of {pull.reference}")
            taken = 0
            async for message in self._gateway.pull(pull.reference, pull.platform):
                feed.take(advance(feed.pull.transfer, message, self._clock()))
                taken += 1
                if taken % _AT_ONCE == 0:
                    # What has been waiting comes without a pause: the window has its turn in between.
                    await asyncio.sleep(0)
        except GatewayError as error:
            feed.close()
            self._show(failed(feed.pull, self._explained(pull, error)))
            return
        finally:
            feed.close()
            if foreseeing is not None:
                foreseeing.cancel()
            self._engine.refresh()
        if pull.run:
            self._show(replace(feed.pull, phase=PullPhase.STARTING))
            await self._start(feed.pull)
        else:
            self._show(finished(feed.pull))
            self._tell_elsewhere(feed.pull, f"{pull.title} is here.")

    def _tell_elsewhere(self, pull: Pull, text: str) -> None:
        """Whoever looks at the pull sees it."""
        if self._store.state.route != Route(Page.PULL, pull.id):
            self._presenter.tell(text)

    async def _start(self, pull: Pull) -> None:
        taken = {container.name for container in self._store.state.containers.values()}
        try:
            container_id = await self._gateway.run_image(pull.reference, free_name(name_from_reference(pull.reference), taken))
            self._store.dispatch(ContainersListed(await self._gateway.containers()))
        except GatewayError as error:
            words = await self._conflicts.named(str(error))
            trouble = Trouble(
                Cause.OTHER, f"{pull.title} is here, but doesn't start", words, (Remedy.RETRY,), original=str(error)
            )
            self._show(replace(finished(pull), phase=PullPhase.FAILED, trouble=trouble))
        else:
            self._tell_elsewhere(pull, f"{pull.title} is here and runs.")
            self._show(finished(pull, container_id))
        finally:
            self._engine.refresh()

    def _explained(self, pull: Pull, error: GatewayError) -> Trouble:
        if isinstance(error, Disconnected):
            text = "What has arrived is kept. The pull goes on as soon as the engine is found again."
            return Trouble(Cause.ENGINE, "The engine doesn't answer", text, (Remedy.RETRY,), original=str(error))
        parsed = parse_reference(pull.reference)
        assert parsed is not None  # `pull` and the memory let nothing else in
        return self._store.state.registries.explain(str(error), parsed)

    def _foreseen(self, reference: str, platform: str) -> Transfer:
        """What the preview in sight knows of it."""
        preview = self._store.state.discover.repository.preview
        if preview is None or preview.reference != reference or (platform and preview.platform != platform):
            return Transfer()
        return foreseen(tuple((layer.digest, layer.size_bytes, layer.here) for layer in preview.layers))

    async def _foresee(self, feed: _Feed) -> None:
        """Asks beside the pull how much there is to come, so that the rest can be told."""
        reference = parse_reference(feed.pull.reference)
        if reference is None or reference.registry == DOCKER_HUB:
            return  # Docker Hub counts each manifest that is asked for against the user's pulls.
        try:
            preview = await self._gateway.preview_pull(reference, feed.pull.platform)
        except GatewayError:
            return  # The pull itself says what is wrong.
        expected = foreseen(tuple((layer.digest, layer.size_bytes, layer.here) for layer in preview.layers))
        feed.take(with_sizes(feed.pull.transfer, expected))

    def _settle(self, pull_id: str) -> None:
        """After its task, however that ended: one that was cancelled is paused, or gone."""
        self._running.pop(pull_id, None)
        if pull_id in self._leaving:
            self._forget(pull_id)
            return
        pull = self._store.state.pulls.get(pull_id)
        if pull is not None and pull.phase.active:
            self._show(paused(pull))

    def _forget(self, pull_id: str) -> None:
        self._leaving.discard(pull_id)
        self._store.dispatch(PullForgotten(pull_id))
        self._remember()

    def _show(self, pull: Pull) -> None:
        before = self._store.state.pulls.get(pull.id)
        self._store.dispatch(PullChanged(pull))
        late = self._clock() - self._remembered_at_s >= _REMEMBERED_EVERY_S
        if late or before is None or before.phase is not pull.phase:
            self._remember()

    def _remember(self) -> None:
        if self._ending:
            return
        self._remembered_at_s = self._clock()
        text = to_memory(self._store.state.pulls.values())
        if text != self._memory.unfinished_pulls:
            self._memory.unfinished_pulls = text

    def _new_id(self) -> str:
        return f"pull-{next(self._numbers)}"


class _Feed:
    """Gathers the changes of one pull and shows the newest a few times a second."""

    def __init__(self, controller: PullsController, pull: Pull) -> None:
        self.pull = pull
        self._controller = controller
        self._due: asyncio.TimerHandle | None = None

    def take(self, transfer: Transfer) -> None:
        self.pull = replace(self.pull, transfer=transfer)
        if self._due is None:
            self._due = asyncio.get_running_loop().call_later(_SHOWN_EVERY_S, self._show)

    def close(self) -> None:
        """Shows the last of it; what is shown afterwards stays."""
        if self._due is not None:
            self._due.cancel()
            self._show()

    def _show(self) -> None:
        self._due = None
        self._controller._show(self.pull)
