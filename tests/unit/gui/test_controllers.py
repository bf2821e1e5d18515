"""The controllers over an engine in memory, under a plain asyncio loop: no Qt here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from support.fake_gateway import FakeGateway

from kitepy.gui.controllers.builds import BuildsController
from kitepy.gui.controllers.container_page import ContainerPageController
from kitepy.gui.controllers.containers import ContainersController
from kitepy.gui.controllers.engine import EngineController
from kitepy.gui.gateway.port import EngineUnavailable
from kitepy.gui.models.actions import ContainerAction
from kitepy.gui.models.build import BuildPhase, BuildRequest, BuildReview
from kitepy.gui.models.container import ContainerDetails, Status
from kitepy.gui.models.log import LogStore
from kitepy.gui.models.preview import Preview
from kitepy.gui.models.state import EnginePhase, Navigated, Page, Route, Store
from kitepy.gui.tasks import Tasks


class YesSayer:
    """A presenter that accepts everything and remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.warned: list[str] = []
        self.asked: list[str] = []

    def tell(self, text: str) -> None:
        self.told.append(text)

    def warn(self, text: str) -> None:
        self.warned.append(text)

    def review(self, review: BuildReview, go: Callable[[BuildRequest], None], done: Callable[[], None]) -> None:
        self.asked.append(review.suggested_name)
        go(BuildRequest(review, review.suggested_name))
        done()

    def confirm(self, title: str, text: str, action: str, go: Callable[[], None]) -> None:
        assert text
        assert action == "Remove"
        self.asked.append(title)
        go()

    def ask_name(self, name: str, taken: set[str], go: Callable[[str], None]) -> None:
        assert name in taken
        self.asked.append(name)
        go(f"{name}-renamed")


class View:
    def __init__(self) -> None:
        self.details: list[ContainerDetails] = []
        self.previews: list[Preview | None] = []
        self.logs: list[LogStore] = []

    def show_details(self, details: ContainerDetails) -> None:
        self.details.append(details)

    def show_preview(self, preview: Preview | None) -> None:
        self.previews.append(preview)

    def show_log(self, store: LogStore) -> None:
        self.logs.append(store)


class App:
    def __init__(self) -> None:
        self.store = Store()
        self.gateway = FakeGateway()
        self.presenter = YesSayer()
        self.view = View()
        self.tasks = Tasks(self.presenter.warn)
        self.engine = EngineController(self.store, self.gateway, self.tasks)
        self.containers = ContainersController(self.store, self.gateway, self.tasks, self.engine, self.presenter)
        self.builds = BuildsController(self.store, self.gateway, self.tasks, self.engine, self.presenter)
        self.page = ContainerPageController(self.store, self.gateway, self.tasks, self.view)

    async def until(self, true: Callable[[], Any], timeout_s: float = 5) -> None:
        deadline = time.monotonic() + timeout_s
        while not true():
            assert time.monotonic() < deadline, "it didn't happen"
            await asyncio.sleep(0.005)

    async def started(self) -> None:
        self.engine.start()
        await self.until(lambda: self.store.state.containers_list.loaded and self.store.state.images_list.loaded)


def play(story: Callable[[App], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        app = App()
        try:
            await asyncio.wait_for(story(app), 20)
        finally:
            await app.tasks.cancel_all()

    asyncio.run(run())


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "hello-web"
    folder.mkdir()
    (folder / "Dockerfile").write_text("FROM kitepy/starter\nCOPY . /www\nRUN make\nEXPOSE 8080\n")
    return folder


def test_a_dropped_folder_becomes_a_running_container(project: Path) -> None:
    async def story(app: App) -> None:
        await app.started()
        app.builds.add_paths([str(project)])
        await app.until(lambda: app.store.state.route.page is Page.CONTAINER)
        container = app.store.state.containers[app.store.state.route.key]
        assert (container.name, container.status) == ("hello-web", Status.RUNNING)
        assert ("run_image", "hello-web", "hello-web") in app.gateway.calls
        build = next(iter(app.store.state.builds.values()))
        assert build.phase is BuildPhase.DONE
        assert "Step 3/4" in app.builds.output_of(build.id).text(0, 1000)

    play(story)


def test_the_second_build_of_a_project_gets_a_name_of_its_own(project: Path) -> None:
    async def story(app: App) -> None:
        await app.started()
        app.gateway.add_container("hello-web")
        app.engine.refresh()
        await app.until(lambda: app.store.state.containers)
        app.builds.add_paths([str(project)])
        await app.until(lambda: any(container.name == "hello-web-2" for container in app.store.state.containers.values()))

    play(story)


def test_a_drop_waits_for_the_engine(project: Path) -> None:
    async def story(app: App) -> None:
        app.gateway.start_delay_s = 0.1
        app.engine.start()
        app.builds.add_paths([str(project)])
        await app.until(lambda: app.store.state.builds)
        assert next(iter(app.store.state.builds.values())).phase is BuildPhase.WAITING
        await app.until(lambda: app.store.state.route.page is Page.CONTAINER)

    play(story)


def test_a_failed_build_can_be_repaired_and_repeated(project: Path) -> None:
    async def story(app: App) -> None:
        await app.started()
        app.gateway.build_failure = "The command '/bin/sh -c make' returned a non-zero code: 127"
        app.builds.add_paths([str(project)])
        await app.until(lambda: any(build.phase is BuildPhase.FAILED for build in app.store.state.builds.values()))
        (build,) = app.store.state.builds.values()
        assert build.error_line == 3
        app.gateway.build_failure = ""
        app.builds.repeat(build.id)
        await app.until(lambda: app.store.state.route.page is Page.CONTAINER)
        assert build.id not in app.store.state.builds

    play(story)


def test_a_cancelled_build_is_cancelled_in_the_engine(project: Path) -> None:
    async def story(app: App) -> None:
        await app.started()
        app.gateway.hold_build = asyncio.Event()
        app.builds.add_paths([str(project)])
        await app.until(lambda: any(build.steps for build in app.store.state.builds.values()))
        (build_id,) = app.store.state.builds
        app.builds.cancel(build_id)
        await app.until(lambda: app.store.state.builds[build_id].phase is BuildPhase.CANCELLED)
        await app.until(lambda: ("build_cancelled", "hello-web") in app.gateway.calls)
        assert not app.store.state.containers

    play(story)


def test_a_container_that_can_not_start_fails_the_build_with_the_engine_s_words(project: Path) -> None:
    async def story(app: App) -> None:
        await app.started()
        app.gateway.operation_failure = "Port is already allocated."
        app.builds.add_paths([str(project)])
        await app.until(lambda: any(build.phase is BuildPhase.FAILED for build in app.store.state.builds.values()))
        (build,) = app.store.state.builds.values()
        assert build.error == "Port is already allocated."

    play(story)


def test_what_is_no_project_is_told_and_the_next_path_goes_on(project: Path, tmp_path: Path) -> None:
    async def story(app: App) -> None:
        await app.started()
        (tmp_path / "empty").mkdir()
        app.builds.add_paths([str(tmp_path / "empty"), str(project)])
        await app.until(lambda: app.store.state.builds)
        assert "has no Dockerfile" in app.presenter.warned[0]

    play(story)


def test_stop_start_and_remove_go_through_the_engine() -> None:
    async def story(app: App) -> None:
        container = app.gateway.add_container("web")
        await app.started()
        app.containers.act(ContainerAction.STOP, container.id)
        await app.until(lambda: app.store.state.containers[container.id].status is Status.EXITED)
        await app.until(lambda: not app.store.state.activities)
        app.containers.act(ContainerAction.STOP, container.id)
        app.containers.act(ContainerAction.START, container.id)
        await app.until(lambda: app.store.state.containers[container.id].status is Status.RUNNING)
        await app.until(lambda: not app.store.state.activities)
        app.containers.act(ContainerAction.REMOVE, container.id)
        await app.until(lambda: container.id not in app.store.state.containers)
        assert app.presenter.asked == ["Remove web?"]
        assert [call[0] for call in app.gateway.calls if call[0] in ("stop", "start", "remove")] == ["stop", "start", "remove"]

    play(story)


def test_a_refused_action_is_told_and_leaves_no_mark() -> None:
    async def story(app: App) -> None:
        container = app.gateway.add_container("web")
        await app.started()
        app.gateway.operation_failure = "The kernel refused."
        app.containers.act(ContainerAction.RENAME, container.id)
        await app.until(lambda: app.presenter.warned == ["The kernel refused."])
        await app.until(lambda: not app.store.state.activities)

    play(story)


def test_events_from_elsewhere_update_the_list() -> None:
    async def story(app: App) -> None:
        await app.started()
        container = app.gateway.add_container("made-by-docker-cli")
        app.gateway.emit("container", "create", container.id)
        await app.until(lambda: container.id in app.store.state.containers)

    play(story)


def test_after_a_lost_connection_the_lists_are_read_again() -> None:
    async def story(app: App) -> None:
        await app.started()
        app.gateway.add_container("made-meanwhile")
        app.gateway.disconnect()
        await app.until(lambda: app.store.state.containers)
        assert app.store.state.engine.phase is EnginePhase.READY
        assert app.gateway.calls.count(("start_engine",)) == 2

    play(story)


def test_an_engine_that_can_not_start_can_be_tried_again() -> None:
    async def story(app: App) -> None:
        app.gateway.start_failure = EngineUnavailable("No nft.", "sudo apt-get install nftables", "log")
        app.engine.start()
        await app.until(lambda: app.store.state.engine.phase is EnginePhase.FAILED)
        assert app.store.state.engine.hint == "sudo apt-get install nftables"
        app.gateway.start_failure = None
        app.engine.start()
        await app.until(lambda: app.store.state.engine.phase is EnginePhase.READY)

    play(story)


def test_the_page_follows_the_log_of_the_container_in_sight_and_of_no_other() -> None:
    async def story(app: App) -> None:
        web, job = app.gateway.add_container("web"), app.gateway.add_container("job")
        app.gateway.write_log(web.id, "before")
        await app.started()
        app.store.dispatch(Navigated(Route(Page.CONTAINER, web.id)))
        await app.until(lambda: app.view.logs and len(app.view.logs[-1]) == 1)
        app.gateway.write_log(web.id, "after")
        app.gateway.write_log(job.id, "elsewhere")
        await app.until(lambda: len(app.view.logs[-1]) == 2)
        assert app.view.logs[-1].text(0, 9) == "before\nafter"
        app.store.dispatch(Navigated(Route(Page.CONTAINER, job.id)))
        await app.until(lambda: app.view.logs[-1].text(0, 9) == "elsewhere")

    play(story)


def test_a_restarted_container_s_log_goes_on_without_doubled_lines() -> None:
    async def story(app: App) -> None:
        web = app.gateway.add_container("web")
        app.gateway.write_log(web.id, "first life")
        await app.started()
        app.store.dispatch(Navigated(Route(Page.CONTAINER, web.id)))
        await app.until(lambda: app.view.logs and len(app.view.logs[-1]) == 1)
        await app.gateway.stop(web.id)
        await app.until(lambda: app.store.state.containers[web.id].status is Status.EXITED)
        await app.gateway.start(web.id)
        app.gateway.write_log(web.id, "second life")
        await app.until(lambda: len(app.view.logs[-1]) == 2)
        assert app.view.logs[-1].text(0, 9) == "first life\nsecond life"

    play(story)


def test_the_page_is_asked_for_until_it_answers() -> None:
    async def story(app: App) -> None:
        web = app.gateway.add_container("web")
        await app.started()
        app.store.dispatch(Navigated(Route(Page.CONTAINER, web.id)))
        await app.until(lambda: ("preview", web.ports[0].url) in app.gateway.calls)
        app.gateway.page = Preview("", 200, "OK", "Hello")
        await app.until(lambda: app.view.previews and app.view.previews[-1] and app.view.previews[-1].title == "Hello")

    play(story)


def test_a_hidden_window_asks_the_engine_for_nothing() -> None:
    async def story(app: App) -> None:
        web = app.gateway.add_container("web")
        await app.started()
        app.store.dispatch(Navigated(Route(Page.CONTAINER, web.id)))
        await app.until(lambda: app.gateway._log_listeners.get(web.id))
        app.page.set_visible(False)
        await app.until(lambda: not app.gateway._log_listeners[web.id])
        asked = len(app.gateway.calls)
        await asyncio.sleep(0.4)
        assert len(app.gateway.calls) == asked
        app.page.set_visible(True)
        await app.until(lambda: app.gateway._log_listeners[web.id])

    play(story)


def test_a_bug_in_a_task_is_told_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def story(app: App) -> None:
        async def broken() -> None:
            raise ZeroDivisionError("one over none")

        app.tasks.spawn(broken(), name="sums")
        await app.until(lambda: app.presenter.warned)
        assert "ZeroDivisionError" in app.presenter.warned[0]

    play(story)
    assert "sums failed" in caplog.text
