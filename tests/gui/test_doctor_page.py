"""The page on what this machine lacks: at the first start, when the engine is blocked, and from the menu."""

from __future__ import annotations

import asyncio

from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QAbstractButton, QApplication, QLabel, QWidget

from kitepy.gui.gateway.port import EngineUnavailable
from kitepy.gui.models.state import DISCOVER, DOCTOR, EnginePhase
from kitepy.gui.models.system_check import Finding, Fix, Severity, SystemCheck

FINE = Finding("kernel", Severity.FINE, "Linux 6.1.")
NO_IDS = Finding(
    "subordinate-ids",
    Severity.BLOCKS,
    "Your account has no ids.",
    "No container can run.",
    (Fix("sudo usermod --add-subuids 100000-165535 ada", "They carry no rights."), Fix("echo other | sudo tee /etc/subuid")),
)
NO_TOOLS = Finding("id-tools", Severity.BLOCKS, "newuidmap is not installed.", "None can run.", (Fix("sudo apt install uidmap"),))
NO_TUN = Finding(
    "uplink", Severity.DEGRADES, "You may not open /dev/net/tun.", "Offline.", (Fix("sudo chmod 0666 /dev/net/tun"),)
)
PORTS = Finding("low-ports", Severity.HINT, "Ports below 1024 can't be published.", "", (Fix("sudo sysctl -w x=80"),))


def blocked(stage, *findings: Finding) -> None:
    stage.gateway.system = SystemCheck((*findings, FINE))
    stage.gateway.start_failure = EngineUnavailable(findings[0].summary, check=stage.gateway.system)


def texts(stage, name: str) -> list[str]:
    return [found.text() for found in stage.window.doctor.findChildren(QLabel, name) if found.isVisible()]


def test_a_blocked_engine_shows_what_is_missing_and_the_command_instead_of_a_log(stage) -> None:
    blocked(stage, NO_IDS)

    async def story() -> None:
        await stage.shown(QWidget, "doctor-page")
        assert texts(stage, "doctor-finding") == ["Your account has no ids."]
        assert texts(stage, "doctor-command") == [fix.command for fix in NO_IDS.fixes]
        copies = [found for found in stage.window.doctor.findChildren(QAbstractButton, "doctor-copy") if found.isVisible()]
        assert {found.accessibleName() for found in copies} == {"Copy the command for: Your account has no ids."}
        copies[0].click()
        await stage.until(lambda: QGuiApplication.clipboard().text() == NO_IDS.fixes[0].command)
        assert not stage.find(QAbstractButton, "doctor-continue").isVisible(), "there is nothing to go on with"
        assert not stage.find(QAbstractButton, "doctor-copy-all").isVisible(), "one command has its own button"

    stage.play(story)


def test_checking_again_after_the_command_starts_the_engine_and_opens_the_app(stage) -> None:
    blocked(stage, NO_IDS)

    async def story() -> None:
        again = await stage.shown(QAbstractButton, "doctor-again")
        stage.gateway.start_failure = None
        stage.gateway.system = SystemCheck((FINE,))
        again.setFocus()
        QTest.keyClick(again, Qt.Key.Key_Space)
        await stage.ready()
        await stage.until(lambda: stage.window.pages.currentWidget() is stage.window.discover)

    stage.play(story)


def test_checking_again_in_vain_shows_what_is_left(stage) -> None:
    blocked(stage, NO_IDS, NO_TOOLS)

    async def story() -> None:
        again = await stage.shown(QAbstractButton, "doctor-again")
        assert texts(stage, "doctor-finding") == [NO_IDS.summary, NO_TOOLS.summary]
        stage.find(QAbstractButton, "doctor-copy-all").click()
        commands = f"{NO_IDS.fixes[0].command}\n\n{NO_TOOLS.fixes[0].command}"
        await stage.until(lambda: QGuiApplication.clipboard().text() == commands)
        blocked(stage, NO_TOOLS)
        again.click()
        await stage.until(lambda: texts(stage, "doctor-finding") == [NO_TOOLS.summary])
        await stage.until(again.isEnabled)

    stage.play(story)


def test_administrator_rights_are_taken_only_after_their_price_was_told(stage) -> None:
    blocked(stage, NO_IDS)

    async def story() -> None:
        rights = await stage.shown(QAbstractButton, "doctor-rights")
        rights.click()
        sheet = await stage.shown(QWidget, "confirm-sheet")
        assert any("take over the whole machine" in found.text() for found in sheet.findChildren(QLabel))
        stage.find(QAbstractButton, "confirm-no").click()
        await asyncio.sleep(0.05)
        assert ("choose_rights", "root") not in stage.gateway.calls
        rights.click()
        (await stage.shown(QAbstractButton, "confirm-yes")).click()
        await stage.ready()
        assert ("choose_rights", "root") in stage.gateway.calls
        assert stage.store.state.engine.phase is EnginePhase.READY
        stage.desk.intents.open_doctor.emit()
        back = await stage.shown(QAbstractButton, "doctor-rights")
        await stage.until(lambda: "your own rights" in back.text())
        back.click()
        await stage.until(lambda: ("choose_rights", "own") in stage.gateway.calls)
        await stage.until(lambda: stage.store.state.engine.phase is EnginePhase.READY)

    stage.play(story)


def test_the_first_start_shows_what_does_not_work_and_lets_the_user_go_on(stage) -> None:
    stage.gateway.system = SystemCheck((NO_TUN, PORTS, FINE))

    async def story() -> None:
        go_on = await stage.shown(QAbstractButton, "doctor-continue")
        assert go_on.text() == "Continue anyway"
        assert not stage.find(QAbstractButton, "doctor-rights").isVisible(), "nothing is blocked"
        go_on.click()
        await stage.until(lambda: stage.store.state.route == DISCOVER)

    stage.play(story)
    assert not stage.desk.settings.first_time("system-check"), "the next start doesn't ask again"


def test_a_machine_in_order_shows_no_page_at_the_first_start_but_on_demand(stage) -> None:
    stage.gateway.system = SystemCheck((PORTS, FINE))

    async def story() -> None:
        await stage.ready()
        await stage.until(lambda: stage.store.state.system is not None)
        assert stage.store.state.route == DISCOVER
        action = next(action for action in stage.window._menu.actions() if action.text().startswith("System check"))
        action.trigger()
        await stage.shown(QWidget, "doctor-page")
        await stage.until(lambda: not stage.store.state.checking_system)
        assert stage.store.state.route == DOCTOR
        assert stage.window.windowTitle() == "Kitepy"
        assert stage.find(QAbstractButton, "doctor-continue").text() == "Continue"

    stage.play(story)


def test_a_check_that_fails_is_told_and_can_be_repeated(stage) -> None:
    async def story() -> None:
        await stage.ready()
        await stage.until(lambda: stage.store.state.system is not None)
        stage.gateway.operation_failure = "The engine's program gave no findings."
        stage.desk.intents.open_doctor.emit()
        await stage.until(lambda: "The engine's program gave no findings." in stage.window.notices.texts())
        assert stage.find(QLabel, "doctor-title").text() == "This machine couldn't be checked"
        again = stage.find(QAbstractButton, "doctor-again")
        await stage.until(again.isEnabled)
        stage.gateway.operation_failure = ""
        again.click()
        await stage.until(lambda: stage.find(QLabel, "doctor-title").text() == "This machine is ready for containers")

    stage.play(story)


def test_every_button_of_the_page_is_reached_by_tab_and_has_a_name(stage) -> None:
    blocked(stage, NO_IDS, NO_TOOLS)

    async def story() -> None:
        again = await stage.shown(QAbstractButton, "doctor-again")
        await stage.until(lambda: again.isEnabled() and stage.window.isActiveWindow())
        wanted = {found for found in stage.window.doctor.findChildren(QAbstractButton) if found.isVisible()}
        assert len(wanted) >= 6
        assert all(found.accessibleName() or found.text() for found in wanted)
        again.setFocus()
        reached = set()
        for _ in range(40):
            reached.add(QApplication.focusWidget())
            QTest.keyClick(QApplication.focusWidget(), Qt.Key.Key_Tab)
        assert wanted <= reached

    stage.play(story)
