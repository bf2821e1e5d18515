"""The main story in a real window: a drag of a folder, its build, its container, its page; and what goes wrong on the way."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from PySide6.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
from PySide6.QtGui import QDesktopServices, QDragEnterEvent, QDropEvent, QGuiApplication
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QAbstractButton, QApplication, QLabel, QLineEdit, QPlainTextEdit, QTabBar, QWidget

from kitepy.demo import drag_source
from kitepy.gui.gateway.port import EngineUnavailable
from kitepy.gui.models.build import BuildPhase
from kitepy.gui.models.container import Status
from kitepy.gui.models.preview import Preview
from kitepy.gui.models.state import DISCOVER, IMAGES, Navigated, Page, Route
from kitepy.gui.widgets.labels import ElidedLabel, Pill
from kitepy.gui.widgets.log_view import LogView

PAGE = Preview("", 200, "OK", "Hello from Kitepy", "Hello", "text/html", "httpd", 3.0)


async def xdotool(stage, *arguments: str) -> str:
    """Doesn't block: the window has to answer while the pointer moves."""
    process = await asyncio.create_subprocess_exec(
        "xdotool", *arguments, env=stage.display.environment, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    return out.decode()


def drop(stage, *paths: Path) -> QDropEvent:
    """A drop as Qt delivers it."""
    mime = QMimeData()
    mime.setUrls([QUrl.fromLocalFile(str(path)) for path in paths])
    everything = (Qt.DropAction.CopyAction, mime, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier)
    QApplication.sendEvent(stage.window, QDragEnterEvent(QPoint(300, 300), *everything))
    event = QDropEvent(QPointF(300, 300), *everything)
    QApplication.sendEvent(stage.window, event)
    return event


def test_a_folder_dragged_onto_the_window_becomes_a_page(stage, project: Path) -> None:
    async def story() -> None:
        await stage.ready()
        stage.gateway.page = PAGE
        stage.gateway.build_pause_s = 0.05
        source = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "kitepy.demo.drag_source", str(project), env=stage.display.environment, stdout=subprocess.PIPE
        )
        try:
            window = ""
            while not window:
                window = (await xdotool(stage, "search", "--onlyvisible", "--name", f"^{drag_source.TITLE}$")).strip()
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.3)  # the window manager is still placing it
            place = stage.display.geometry(window).centre
            target = stage.window.mapToGlobal(stage.window.rect().center())
            await xdotool(stage, "mousemove", str(place[0]), str(place[1]))
            await asyncio.sleep(0.1)
            await xdotool(stage, "mousedown", "1")
            for step in range(1, 25):
                x = place[0] + (target.x() - place[0]) * step // 24
                y = place[1] + (target.y() - place[1]) * step // 24
                await xdotool(stage, "mousemove", str(x), str(y))
                await asyncio.sleep(0.02)
            await stage.until(lambda: stage.window.overlay.isVisible())
            await xdotool(stage, "mousemove", str(target.x() + 2), str(target.y() + 2))
            await asyncio.sleep(0.15)
            await xdotool(stage, "mouseup", "1")
            name = await stage.shown(QLineEdit, "review-image-name")
            assert not stage.window.overlay.isVisible()
            assert (await source.stdout.readline()).decode().strip() == "CopyAction"
        finally:
            if source.returncode is None:
                source.kill()
            await source.wait()
        assert name.text() == "hello-web"
        await stage.until(lambda: stage.window.isActiveWindow())
        QTest.keyClick(name, Qt.Key.Key_Return)
        await stage.until(lambda: stage.store.state.route.page is Page.BUILD)
        await stage.until(lambda: stage.window.sidebar.list.rows_model.values)
        assert "hello-web" in stage.window.sidebar.list.rows_model.values[0].spoken
        await stage.until(lambda: stage.store.state.route.page is Page.CONTAINER)
        title = await stage.shown(QLabel, "preview-title")
        await stage.until(lambda: title.text() == "Hello from Kitepy")
        assert (await stage.shown(Pill, "container-state")).text() == "Running"
        assert "Running" in stage.window.sidebar.list.rows_model.values[0].detail

    stage.play(story)


def test_a_single_dockerfile_can_be_dropped(stage, project: Path) -> None:
    async def story() -> None:
        await stage.ready()
        assert drop(stage, project / "Dockerfile").isAccepted()
        folder = await stage.shown(ElidedLabel, "review-context")
        assert folder.whole_text().endswith("hello-web")
        (await stage.shown(QAbstractButton, "review-cancel")).click()
        await stage.until(lambda: not stage.window.sheet_is_open())
        assert not stage.store.state.builds

    stage.play(story)


def test_the_review_sheet_keeps_the_keyboard_and_checks_the_name(stage, project: Path) -> None:
    async def story() -> None:
        await stage.ready()
        drop(stage, project)
        name = await stage.shown(QLineEdit, "review-image-name")
        name.setText("Not Good")
        run = stage.find(QAbstractButton, "review-run")
        assert not run.isEnabled()
        QTest.keyClick(name, Qt.Key.Key_Return)
        assert stage.window.sheet_is_open()
        name.setText("good/name:1")
        stage.window.activateWindow()
        await stage.until(lambda: stage.window.isActiveWindow())
        for _ in range(3):
            QTest.keyClick(QApplication.focusWidget(), Qt.Key.Key_Tab)
        assert QApplication.focusWidget() is name
        QTest.keyClick(name, Qt.Key.Key_Escape)
        await stage.until(lambda: not stage.window.sheet_is_open())
        await asyncio.sleep(0.05)
        # The sheet is gone and has taken nothing of the window's Python side with it.
        stage.window.container.show_state(stage.store.state)

    stage.play(story)


def test_what_can_not_be_built_is_told(stage, tmp_path: Path) -> None:
    async def story() -> None:
        await stage.ready()
        (tmp_path / "empty").mkdir()
        drop(stage, tmp_path / "empty")
        await stage.until(lambda: stage.window.notices.texts())
        assert "empty has no Dockerfile" in stage.window.notices.texts()[0]

    stage.play(story)


def test_a_failed_build_shows_the_line_of_the_dockerfile(stage, project: Path) -> None:
    async def story() -> None:
        await stage.ready()
        stage.gateway.build_failure = "The command '/bin/sh -c make' returned a non-zero code: 127"
        drop(stage, project)
        QTest.keyClick(await stage.shown(QLineEdit, "review-image-name"), Qt.Key.Key_Return)
        line = await stage.shown(QLabel, "build-error-line")
        assert line.text() == "Dockerfile, line 3"
        assert "127" in stage.find(QLabel, "build-error").text()
        assert (await stage.shown(Pill, "build-state")).text() == "Build failed"
        output = await stage.shown(LogView, "build-output")
        await stage.until(lambda: "make: not found" in output.visible_text())
        stage.gateway.build_failure = ""
        (await stage.shown(QAbstractButton, "build-again")).click()
        await stage.until(lambda: stage.store.state.route.page is Page.CONTAINER)

    stage.play(story)


def test_a_build_can_be_cancelled_from_its_page(stage, project: Path) -> None:
    async def story() -> None:
        await stage.ready()
        stage.gateway.hold_build = asyncio.Event()
        drop(stage, project)
        QTest.keyClick(await stage.shown(QLineEdit, "review-image-name"), Qt.Key.Key_Return)
        (await stage.shown(QAbstractButton, "build-cancel")).click()
        await stage.until(lambda: (next(iter(stage.store.state.builds.values()))).phase is BuildPhase.CANCELLED)
        assert stage.find(QAbstractButton, "build-again").isVisible()

    stage.play(story)


def test_the_page_is_opened_by_the_desktop_s_browser(stage, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(QDesktopServices, "openUrl", lambda url: opened.append(url.toString()))

    async def story() -> None:
        web = stage.gateway.add_container("web")
        stage.gateway.page = PAGE
        await stage.ready()
        stage.store.dispatch(Navigated(Route(Page.CONTAINER, web.id)))
        (await stage.shown(QAbstractButton, "preview-open")).click()
        (await stage.shown(QAbstractButton, "port-address")).click()
        assert opened == [web.ports[0].url] * 2
        stage.desk.intents.open_url.emit("file:///etc/passwd")
        assert len(opened) == 2
        stage.find(QTabBar, "container-tabs").setCurrentIndex(1)
        (await stage.shown(QAbstractButton, "container-open")).click()
        assert len(opened) == 3

    stage.play(story)


def test_stop_start_rename_and_remove_from_the_page(stage) -> None:
    async def story() -> None:
        web = stage.gateway.add_container("web")
        await stage.ready()
        stage.store.dispatch(Navigated(Route(Page.CONTAINER, web.id)))
        (await stage.shown(QAbstractButton, "container-stop")).click()
        start = await stage.shown(QAbstractButton, "container-start")
        assert (await stage.shown(QLabel, "stopped-reason")).text().endswith("was ended by SIGTERM.")
        await stage.until(start.isEnabled)
        start.click()
        await stage.shown(QAbstractButton, "container-stop")
        await stage.until(lambda: not stage.store.state.activities)
        actions = {action.objectName(): action for action in stage.window.container._menu.actions()}
        actions["container-rename"].trigger()
        field = await stage.shown(QLineEdit, "rename-name")
        field.setText("shop")
        QTest.keyClick(field, Qt.Key.Key_Return)
        await stage.until(lambda: stage.find(ElidedLabel, "container-name").whole_text() == "shop")
        await stage.until(lambda: not stage.store.state.activities)
        actions["container-remove"].trigger()
        confirm = await stage.shown(QAbstractButton, "confirm-no")
        assert QApplication.focusWidget() is confirm or not stage.window.isActiveWindow()
        (await stage.shown(QAbstractButton, "confirm-yes")).click()
        await stage.until(lambda: stage.store.state.route == DISCOVER)
        assert ("remove", web.id, "force") in stage.gateway.calls

    stage.play(story)


def test_the_tab_stays_when_another_container_is_chosen(stage) -> None:
    async def story() -> None:
        web, job = stage.gateway.add_container("web"), stage.gateway.add_container("job")
        stage.gateway.write_log(job.id, "only mine")
        await stage.ready()
        stage.store.dispatch(Navigated(Route(Page.CONTAINER, web.id)))
        stage.find(QTabBar, "container-tabs").setCurrentIndex(1)
        stage.store.dispatch(Navigated(Route(Page.CONTAINER, job.id)))
        view = await stage.shown(LogView, "log-view")
        await stage.until(lambda: view.visible_text() == "only mine")

    stage.play(story)


def test_an_engine_that_can_not_start_is_explained_and_tried_again(stage) -> None:
    stage.gateway.start_failure = EngineUnavailable("The engine needs nft.", "sudo apt-get install nftables", "ERROR no nft")

    async def story() -> None:
        reason = await stage.shown(QLabel, "failure-reason")
        assert reason.text() == "The engine needs nft."
        assert "ERROR no nft" in stage.find(QPlainTextEdit, "failure-log").toPlainText()
        stage.find(QAbstractButton, "failure-copy-hint").click()
        assert QGuiApplication.clipboard().text() == "sudo apt-get install nftables"
        stage.gateway.start_failure = None
        stage.find(QAbstractButton, "failure-retry").click()
        await stage.ready()
        await stage.until(lambda: stage.window.discover.isVisible())

    stage.play(story)


def test_images_can_be_run_and_removed(stage) -> None:
    async def story() -> None:
        stage.gateway.add_image("kitepy/starter:latest")
        stage.gateway.add_image("old:1", age_s=9000)
        await stage.ready()
        assert (await stage.shown(QAbstractButton, "image-card-run")).accessibleName() == "Run kitepy/starter"
        stage.find(QAbstractButton, "images-button").click()
        await stage.shown(QAbstractButton, "image-remove")
        stage.find(QLineEdit, "image-filter").setText("old")
        stage.find(QAbstractButton, "image-remove").click()
        (await stage.shown(QAbstractButton, "confirm-yes")).click()
        await stage.until(lambda: len(stage.store.state.images) == 1)
        stage.find(QLineEdit, "image-filter").clear()
        stage.find(QAbstractButton, "image-run").click()
        await stage.until(lambda: stage.store.state.route.page is Page.CONTAINER)
        assert stage.find(ElidedLabel, "container-name").whole_text() == "starter"

    stage.play(story)


def test_shortcuts_lead_where_they_say(stage) -> None:
    async def story() -> None:
        web = stage.gateway.add_container("web")
        await stage.ready()
        stage.window.activateWindow()
        await stage.until(lambda: stage.window.isActiveWindow())
        stage.store.dispatch(Navigated(Route(Page.CONTAINER, web.id)))
        QTest.keyClick(stage.window, Qt.Key.Key_F, Qt.KeyboardModifier.ControlModifier)
        assert QApplication.focusWidget().objectName() == "log-search"
        QTest.keyClick(stage.window, Qt.Key.Key_I, Qt.KeyboardModifier.ControlModifier)
        assert stage.store.state.route == IMAGES
        QTest.keyClick(stage.window, Qt.Key.Key_N, Qt.KeyboardModifier.ControlModifier)
        assert stage.store.state.route == DISCOVER
        stage.gateway.containers_by_id.clear()
        QTest.keyClick(stage.window, Qt.Key.Key_F5)
        await stage.until(lambda: not stage.store.state.containers)
        QTest.keyClick(stage.window, Qt.Key.Key_Q, Qt.KeyboardModifier.ControlModifier)
        assert stage.session.ended.done()

    stage.play(story)


def test_closing_without_a_tray_ends_the_app_and_opening_it_again_finds_the_containers(stage, qapp, tmp_path, display) -> None:
    web = stage.gateway.add_container("web")

    async def first() -> None:
        await stage.ready()
        assert not stage.desk.tray.available
        stage.window.close()
        assert stage.session.ended.done()
        await stage.session.close()

    stage.play(first)
    assert not stage.window.isVisible()
    assert stage.gateway.containers_by_id[web.id].status is Status.RUNNING

    again = type(stage)(qapp, tmp_path, display)
    again.gateway = stage.gateway

    async def second() -> None:
        await again.ready()
        assert "web, Running" in again.window.sidebar.list.rows_model.values[0].spoken

    again.play(second)
    again.close()


def test_coming_back_to_the_window_opens_no_container_by_itself(stage) -> None:
    async def story() -> None:
        web = stage.gateway.add_container("web")
        await stage.ready()
        stage.window.activateWindow()
        await stage.until(lambda: stage.window.isActiveWindow())
        stage.find(QLineEdit, "container-filter").setFocus()
        stage.window.sidebar.list.setFocus(Qt.FocusReason.ActiveWindowFocusReason)
        assert stage.store.state.route == DISCOVER
        QTest.keyClick(stage.window.sidebar.list, Qt.Key.Key_Return)
        assert stage.store.state.route == Route(Page.CONTAINER, web.id)

    stage.play(story)


def test_quitting_while_building_asks_first(stage, project: Path) -> None:
    async def story() -> None:
        await stage.ready()
        stage.gateway.hold_build = asyncio.Event()
        drop(stage, project)
        QTest.keyClick(await stage.shown(QLineEdit, "review-image-name"), Qt.Key.Key_Return)
        await stage.shown(QAbstractButton, "build-cancel")
        stage.desk.intents.quit.emit()
        yes = await stage.shown(QAbstractButton, "confirm-yes")
        assert not stage.session.ended.done()
        yes.click()
        assert stage.session.ended.done()

    stage.play(story)


def test_every_button_has_a_name_and_every_field_too(stage, project: Path) -> None:
    async def story() -> None:
        web = stage.gateway.add_container("web")
        stage.gateway.add_image("kitepy/starter:latest")
        stage.gateway.page = PAGE
        await stage.ready()
        stage.gateway.build_failure = "no"
        drop(stage, project)
        QTest.keyClick(await stage.shown(QLineEdit, "review-image-name"), Qt.Key.Key_Return)
        await stage.shown(QLabel, "build-error")
        drop(stage, project)
        await stage.shown(QLineEdit, "review-image-name")
        stage.store.dispatch(Navigated(Route(Page.CONTAINER, web.id)))
        await stage.shown(QAbstractButton, "preview-open")
        # Qt's own parts are left out: the cross inside of a line edit, the arrows of a tab bar.
        nameless = [
            (widget.metaObject().className(), widget.parent().objectName())
            for widget in stage.window.findChildren(QWidget)
            if isinstance(widget, QAbstractButton | QLineEdit)
            and not widget.isHidden()
            and not isinstance(widget.parent(), QLineEdit | QTabBar)
            and not (widget.accessibleName() or (isinstance(widget, QAbstractButton) and widget.text()))
        ]
        assert not nameless

    stage.play(story)
