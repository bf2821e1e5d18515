"""The pages of volumes, networks and ports in a real window: by keyboard, with questions, failures and events."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtTest import QTest
from PySide6.QtWidgets import (
    QAbstractButton,
    QCheckBox,
    QComboBox,
    QLabel,
    QLineEdit,
    QListWidget,
    QPlainTextEdit,
    QTreeView,
)
from support.windows import answer, column, reached_by_tab

from kitepy.gui.models.actions import ContainerAction
from kitepy.gui.models.container import Attachment, Mount, Port, Status
from kitepy.gui.models.network import Subnet
from kitepy.gui.models.ports import Listener
from kitepy.gui.models.state import NETWORKS, PORTS, VOLUMES, Navigated, Page, Route
from kitepy.gui.models.volume import JobPhase
from kitepy.gui.widgets.table import Table


def test_the_ports_page_lists_checks_and_frees(stage) -> None:
    async def story() -> None:
        web = stage.gateway.add_container("web", ports=(Port(80, "tcp", "0.0.0.0", 8080), Port(53, "udp", "127.0.0.1", 5353)))
        stage.gateway.listeners = [
            Listener("tcp", "127.0.0.1", 8081, "node", 44, "ada"),
            Listener("tcp", "0.0.0.0", 22, "", None, "root"),
        ]
        await stage.ready()
        stage.find(QAbstractButton, "ports-button").click()
        table = await stage.shown(Table, "ports-list")
        await stage.until(lambda: column(table, 0) == ["22", "5353", "8080", "8081"])
        assert column(table, 3) == ["unknown, user root", "web", "web", "node (pid 44)"]
        # Sorted by its holder, and back; the row that is chosen stays it.
        table.setCurrentIndex(table.rows.index(2, 0))
        table.sortByColumn(3, Qt.SortOrder.DescendingOrder)
        assert column(table, 0) == ["5353", "8080", "22", "8081"]
        assert table.selected().port == 8080
        table.sortByColumn(0, Qt.SortOrder.AscendingOrder)
        stage.find(QLineEdit, "port-filter").setText("node")
        assert column(table, 0) == ["8081"]
        stage.find(QLineEdit, "port-filter").setText("")
        # Only containers can be made to let go of a port.
        table.setCurrentIndex(table.rows.index(table.rows.row_of((8081, "tcp", "", 44, "ada")), 0))
        assert not stage.find(QAbstractButton, "port-free").isEnabled()
        wanted = stage.find(QLineEdit, "port-wanted")
        QTest.keyClicks(wanted, "8080")
        text = stage.find(QLabel, "port-answer")
        await stage.until(lambda: text.text() == "8080/tcp is held by the container web on all addresses. 8082 is free.")
        wanted.setText("9000")
        QTest.keyClick(wanted, Qt.Key.Key_Return)
        await stage.until(lambda: text.text() == "9000/tcp is free.")
        stage.find(QComboBox, "port-protocol").setCurrentText("UDP")
        wanted.setText("5353")
        QTest.keyClick(wanted, Qt.Key.Key_Return)
        await stage.until(lambda: text.text().startswith("5353/udp is held by the container web on 127.0.0.1."))
        table.setCurrentIndex(table.rows.index(table.rows.row_of((8080, "tcp", web.id, None, "")), 0))
        stage.find(QAbstractButton, "port-copy").click()
        assert QGuiApplication.clipboard().text() == "localhost:8080"
        stage.find(QAbstractButton, "port-free").click()
        await answer(stage, "confirm-yes")
        await stage.until(lambda: column(table, 0) == ["22", "8081"])
        assert stage.store.state.containers[web.id].status is Status.EXITED

    stage.play(story)


def test_ports_are_read_when_they_are_looked_at_and_not_before(stage) -> None:
    async def story() -> None:
        await stage.ready()
        assert ("host_ports",) not in stage.gateway.calls
        stage.gateway.listeners_failure = "This machine's ports can't be read: Permission denied."
        stage.store.dispatch(Navigated(PORTS))
        await stage.until(lambda: stage.store.state.listeners_list.error)
        assert "couldn't be read" in " ".join(
            label.text() for label in stage.window.ports.findChildren(QLabel) if label.isVisible()
        )
        stage.gateway.listeners_failure = ""
        stage.gateway.listeners = [Listener("tcp", "::", 80, "nginx", 3)]
        stage.desk.intents.refresh.emit()
        table = await stage.shown(Table, "ports-list")
        await stage.until(lambda: column(table, 3) == ["nginx (pid 3)"])
        before = stage.gateway.calls.count(("host_ports",))
        stage.gateway.add_container("web")
        stage.gateway.emit("container", "start", "x")
        await stage.until(lambda: stage.gateway.calls.count(("host_ports",)) > before)
        await stage.until(lambda: table.model().rowCount() == 2)

    stage.play(story)


def test_a_start_that_meets_a_taken_port_names_the_holder_and_offers_ways_out(stage) -> None:
    async def story() -> None:
        holder = stage.gateway.add_container("old-web", ports=(Port(80, "tcp", "0.0.0.0", 8080),))
        web = stage.gateway.add_container("web", status=Status.EXITED, exit_code=0)
        stage.gateway.start_failures[web.id] = "Bind for 0.0.0.0:8080 failed: port is already allocated."
        stage.gateway.listeners = [Listener("tcp", "0.0.0.0", 8081, "node", 9)]
        await stage.ready()
        stage.desk.intents.act.emit(ContainerAction.START, web.id)
        move = await stage.shown(QAbstractButton, "choice-1")
        sheet = " ".join(label.text() for label in move.parent().findChildren(QLabel))
        assert "held by the container old-web" in sheet
        assert move.text() == "Use port 8082"
        assert stage.window.notices.texts() == []
        await answer(stage, "choice-1")
        await stage.until(lambda: ("move_port", web.id, "tcp", "8080", "8082") in stage.gateway.calls)
        # The other way: the holder makes room.
        other = stage.gateway.add_container("other", status=Status.EXITED, exit_code=0)
        stage.gateway.start_failures[other.id] = "Bind for 0.0.0.0:8080 failed: port is already allocated."
        stage.desk.intents.refresh.emit()
        await stage.until(lambda: other.id in stage.store.state.containers)
        stage.desk.intents.act.emit(ContainerAction.START, other.id)
        swap = await stage.shown(QAbstractButton, "choice-0")
        assert swap.text() == "Stop old-web and start"
        stage.gateway.start_failures.clear()
        await answer(stage, "choice-0")
        await stage.until(lambda: stage.store.state.containers[other.id].status is Status.RUNNING)
        assert stage.store.state.containers[holder.id].status is Status.EXITED
        # A program of the machine is named and left alone.
        last = stage.gateway.add_container("last", status=Status.EXITED, exit_code=0)
        stage.gateway.start_failures[last.id] = "listen tcp4 0.0.0.0:8081: bind: address already in use."
        stage.desk.intents.refresh.emit()
        await stage.until(lambda: last.id in stage.store.state.containers)
        stage.desk.intents.act.emit(ContainerAction.START, last.id)
        only = await stage.shown(QAbstractButton, "choice-0")
        assert only.text() == "Use port 8083"
        assert "node (pid 9)" in " ".join(label.text() for label in only.parent().findChildren(QLabel))
        await answer(stage, "choice-no")

    stage.play(story)


def test_volumes_are_made_opened_looked_into_and_removed(stage, tmp_path: Path) -> None:
    stage.gateway.files = {"/conf/app.ini": b"colour = red\n", "/data.bin": b"\0\1", "/read me.txt": b"hello"}

    async def story() -> None:
        await stage.ready()
        stage.store.dispatch(Navigated(VOLUMES))
        stage.find(QAbstractButton, "volume-create").click()
        name = await stage.shown(QLineEdit, "new-volume-name")
        name.setText("-")
        assert not stage.find(QAbstractButton, "new-volume-yes").isEnabled()
        name.setText("data")
        stage.find(QPlainTextEdit, "new-volume-labels").setPlainText("team=shop")
        QTest.keyClick(name, Qt.Key.Key_Return)
        await stage.until(lambda: stage.store.state.route == Route(Page.VOLUMES, "data"))
        assert ("create_volume", "data", "team=shop") in stage.gateway.calls
        tree = await stage.shown(QTreeView, "volume-files")
        model = tree.model()
        await stage.until(lambda: model.rowCount() == 3)
        assert [model.index(row, 0).data() for row in range(3)] == ["conf", "data.bin", "read me.txt"]
        tree.expand(model.index(0, 0))
        await stage.until(lambda: model.rowCount(model.index(0, 0)) == 1)
        tree.setCurrentIndex(model.index(0, 0, model.index(0, 0)))
        preview = stage.find(QPlainTextEdit, "file-preview")
        await stage.until(lambda: preview.toPlainText() == "colour = red\n")
        tree.setCurrentIndex(model.index(1, 0))
        note = stage.find(QLabel, "file-note")
        await stage.until(lambda: "This isn't text." in note.accessibleName())
        assert preview.toPlainText() == ""
        stage.session.volumes._presenter.ask_save_path = lambda _title, suggestion, go: go(tmp_path / suggestion)
        stage.find(QAbstractButton, "file-save").click()
        await stage.until(lambda: (tmp_path / "data.bin").exists())
        assert (tmp_path / "data.bin").read_bytes() == b"\0\1"
        stage.find(QAbstractButton, "volume-detail-remove").click()
        await answer(stage, "confirm-yes")
        await stage.until(lambda: stage.store.state.route == VOLUMES and not stage.store.state.volumes)

    stage.play(story)


def test_a_volume_in_use_says_who_has_it_and_prune_takes_what_was_shown(stage) -> None:
    async def story() -> None:
        stage.gateway.add_container("db", mounts=(Mount("volume", "pg", "/data", False),))
        stage.gateway.add_volume("pg", 5000)
        stage.gateway.add_volume("spare", 7_000_000)
        stage.gateway.add_volume("ab" * 32, 3_000_000)
        await stage.ready()
        stage.store.dispatch(Navigated(VOLUMES))
        table = await stage.shown(Table, "volumes-list")
        await stage.until(lambda: column(table, 1) == ["5.0 kB", "7.0 MB", "3.0 MB"])
        assert column(table, 3) == ["db", "", ""]
        stage.desk.intents.remove_volume.emit("pg")
        show = await stage.shown(QAbstractButton, "choice-0")
        assert show.text() == "Show db"
        await answer(stage, "choice-no")
        stage.find(QAbstractButton, "volume-prune").click()
        sum_up = await stage.shown(QLabel, "prune-sum")
        assert sum_up.text() == "1 volume, 3.0 MB"
        stage.find(QCheckBox, "prune-more").setChecked(True)
        assert sum_up.text() == "2 volumes, 10.0 MB"
        stage.find(QListWidget, "prune-list").item(0).setCheckState(Qt.CheckState.Unchecked)
        assert sum_up.text() == "1 volume, 3.0 MB"
        await answer(stage, "prune-volumes-yes")
        await stage.until(lambda: {volume.name for volume in stage.store.state.volumes} == {"pg", "spare"})

    stage.play(story)


def test_a_backup_shows_its_progress_and_can_be_cancelled(stage, tmp_path: Path) -> None:
    async def story() -> None:
        stage.gateway.add_volume("pg", 100_000_000)
        stage.gateway.hold_copy = asyncio.Event()
        await stage.ready()
        stage.session.volumes._presenter.ask_save_path = lambda _title, suggestion, go: go(tmp_path / suggestion)
        stage.session.volumes._presenter.ask_archive = lambda _title, go: go(tmp_path / "pg-2026-01-02.tar.gz")
        stage.store.dispatch(Navigated(VOLUMES))
        await stage.until(lambda: stage.store.state.volume_sizes)
        stage.desk.intents.back_up_volume.emit("pg")
        cancel = await stage.shown(QAbstractButton, "job-cancel")
        await stage.until(lambda: [job.percent for job in stage.store.state.jobs.values()] == [50])
        cancel.click()
        await stage.until(lambda: [job.phase for job in stage.store.state.jobs.values()] == [JobPhase.CANCELLED])
        (await stage.shown(QAbstractButton, "job-dismiss")).click()
        await stage.until(lambda: not stage.store.state.jobs)
        stage.gateway.copy_failure = "/x can't be written: No space left on device."
        stage.gateway.hold_copy.set()
        stage.find(QAbstractButton, "volume-restore").click()
        name = await stage.shown(QLineEdit, "restore-name")
        assert name.text() == "pg-2"
        await answer(stage, "restore-volume-yes")
        await stage.until(lambda: [job.phase for job in stage.store.state.jobs.values()] == [JobPhase.FAILED])
        await stage.until(lambda: [volume.name for volume in stage.store.state.volumes] == ["pg"])
        detail = await stage.shown(QLabel, "job-detail")
        assert "No space left" in detail.accessibleName()

    stage.play(story)


def test_files_that_can_not_be_shown_are_explained(stage) -> None:
    async def story() -> None:
        stage.gateway.add_volume("pg")
        stage.gateway.file_failure = "This engine can't show the files of volumes; Kitepy's own can."
        await stage.ready()
        stage.store.dispatch(Navigated(Route(Page.VOLUMES, "pg")))
        await stage.until(
            lambda: any(
                "Kitepy's own can" in label.text() for label in stage.window.volumes.findChildren(QLabel) if label.isVisible()
            )
        )
        stage.gateway.file_failure = ""
        stage.gateway.files = {"/a": b"x"}
        stage.desk.intents.refresh.emit()
        tree = await stage.shown(QTreeView, "volume-files")
        assert tree.model().rowCount() == 1

    stage.play(story)


def test_networks_are_made_and_containers_come_and_go(stage) -> None:
    async def story() -> None:
        bridge = next(network for network in stage.gateway.networks_by_id.values() if network.name == "bridge")
        web = stage.gateway.add_container("web", networks=(Attachment(bridge.id, "bridge", "172.17.0.2"),))
        await stage.ready()
        stage.store.dispatch(Navigated(NETWORKS))
        table = await stage.shown(Table, "networks-list")
        await stage.until(lambda: column(table, 0) == ["bridge", "host", "none"])
        assert column(table, 4) == ["web", "", ""]
        assert not stage.find(QAbstractButton, "network-remove").isEnabled()
        stage.find(QAbstractButton, "network-create").click()
        name = await stage.shown(QLineEdit, "new-network-name")
        name.setText("shop")
        subnet = stage.find(QLineEdit, "new-network-subnet")
        subnet.setText("172.17.4.0/24")
        problem = stage.find(QLabel, "new-network-problem")
        assert problem.text() == "172.17.4.0/24 overlaps with 172.17.0.0/16 of bridge."
        subnet.setText("10.20.0.0/24")
        QTest.keyClick(subnet, Qt.Key.Key_Return)
        await stage.until(lambda: stage.store.state.route.page is Page.NETWORKS and stage.store.state.route.key)
        shop = stage.store.state.route.key
        stage.find(QAbstractButton, "network-connect").click()
        address = await stage.shown(QLineEdit, "connect-address")
        address.setText("10.20.1.9")
        assert not stage.find(QAbstractButton, "connect-container-yes").isEnabled()
        address.setText("10.20.0.9")
        await answer(stage, "connect-container-yes")
        members = await stage.shown(Table, "network-members")
        await stage.until(lambda: column(members, 1) == ["10.20.0.9"])
        # In use: it says who has it instead of asking the engine.
        stage.desk.intents.remove_network.emit(shop)
        await answer(stage, "choice-no")
        assert not any(call[0] == "remove_network" for call in stage.gateway.calls)
        # Somebody else disconnects it: the page follows the event.
        rest = stage.gateway.containers_by_id[web.id].networks[:1]
        stage.gateway.containers_by_id[web.id] = replace(stage.gateway.containers_by_id[web.id], networks=rest)
        stage.gateway.emit("network", "disconnect", shop, container=web.id)
        await stage.until(lambda: column(members, 0) == [])
        stage.find(QAbstractButton, "network-detail-remove").click()
        await answer(stage, "confirm-yes")
        await stage.until(lambda: stage.store.state.route == NETWORKS and len(stage.store.state.networks) == 3)

    stage.play(story)


@pytest.mark.parametrize(
    ("route", "wanted"),
    [
        (VOLUMES, {"volume-filter", "volume-create", "volume-restore", "volume-prune", "volumes-list"}),
        (Route(Page.VOLUMES, "pg"), {"volume-back", "volume-detail-back-up", "volume-files", "file-save", "volume-user"}),
        (NETWORKS, {"network-filter", "network-create", "network-open", "networks-list"}),
        (PORTS, {"port-filter", "port-wanted", "port-protocol", "ports-list", "port-copy", "port-free"}),
    ],
)
def test_everything_is_reached_by_the_tab_key_and_has_a_name(stage, route: Route, wanted: set[str]) -> None:
    async def story() -> None:
        stage.gateway.add_volume("pg", 1)
        stage.gateway.add_volume("spare", 1)
        stage.gateway.files = {"/a": b"x"}
        stage.gateway.add_network("shop", "bridge", Subnet("10.0.0.0/24"))
        stage.gateway.add_container("db", mounts=(Mount("volume", "pg", "/data", False),))
        await stage.ready()
        stage.window.activateWindow()
        await stage.until(lambda: stage.window.isActiveWindow())
        stage.store.dispatch(Navigated(route))
        await stage.until(lambda: stage.store.state.listeners_list.loaded or route is not PORTS)
        if route.key:
            tree = await stage.shown(QTreeView, "volume-files")
            tree.setCurrentIndex(tree.model().index(0, 0))
        seen = reached_by_tab(stage, 40)
        assert wanted <= seen, wanted - seen

    stage.play(story)
