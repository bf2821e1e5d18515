"""The app with its real engine, taken through a container's life by its own widgets, as a process of its own.

`python -m support.engine_tour FOLDER-TO-BUILD`, with DISPLAY and KITEPY_HOME set. Prints each step; an AssertionError ends it.
"""

from __future__ import annotations

import asyncio
import io
import os
import signal
import socket
import sys
import tarfile
import time
from collections.abc import Callable
from typing import Any, TypeVar

import qasync
from PySide6.QtWidgets import QAbstractButton, QLabel, QLineEdit, QPlainTextEdit, QTreeView, QWidget

from kitepy.client import BundledEngine, EnginePaths
from kitepy.gui.app import Desk, Session, make_application
from kitepy.gui.gateway.engine import EngineGateway
from kitepy.gui.models.actions import ContainerAction
from kitepy.gui.models.container import Container
from kitepy.gui.models.log import LogStore
from kitepy.gui.models.state import IMAGES, NETWORKS, PORTS, VOLUMES, EnginePhase, Navigated, Page, Route
from kitepy.gui.models.volume import JobPhase
from kitepy.gui.settings import Settings

Found = TypeVar("Found", bound=QWidget)
TITLE = "Hello from Kitepy"


class Tour:
    def __init__(self, desk: Desk, paths: EnginePaths) -> None:
        self.desk = desk
        self.paths = paths
        self.session = Session(desk, EngineGateway(paths))

    async def until(self, what: str, true: Callable[[], object], timeout_s: float = 40) -> None:
        began = time.monotonic()
        while not true():
            state = self.desk.store.state
            assert time.monotonic() - began < timeout_s, (what, self.desk.window.notices.texts(), state.engine, state.containers)
            await asyncio.sleep(0.01)
        print(f"{time.monotonic() - began:6.2f} s  {what}", flush=True)

    def find(self, kind: type[Found], name: str) -> Found:
        found = self.desk.window.findChild(kind, name)
        assert found is not None, name
        return found

    async def walk(self, folder: str) -> None:
        store = self.desk.store
        self.session.start()
        await self.until(
            "the starter image is listed", lambda: any("kitepy/starter:latest" in image.tags for image in store.state.images)
        )
        self.desk.intents.build_paths.emit([folder])
        await self.until("the review sheet is open", self.desk.window.sheet_is_open)
        self.find(QAbstractButton, "review-run").click()
        await self.until("it is built and its page is open", lambda: store.state.route.page is Page.CONTAINER, 120)
        container_id = store.state.route.key
        await self._live(container_id)
        await self._look_at_resources(container_id)
        await self._survive_the_engine(container_id)
        menu = {action.objectName(): action for action in self.desk.window.container._menu.actions()}
        menu["container-remove"].trigger()
        await self.until("it asks before it removes", self.desk.window.sheet_is_open)
        self.find(QAbstractButton, "confirm-yes").click()
        await self.until("removed", lambda: container_id not in store.state.containers)
        assert store.state.route.page is Page.DISCOVER
        assert self.desk.window.notices.texts() == []

    async def _live(self, container_id: str) -> None:
        title = self.find(QLabel, "preview-title")
        await self.until("the preview shows the page", lambda: title.text() == TITLE)
        await self.until("the request is in the log", lambda: "response:200" in self._log_text())
        self.find(QAbstractButton, "container-stop").click()
        await self.until("stopped from the page", lambda: self._is(container_id, alive=False))
        self.find(QAbstractButton, "container-start").click()
        await self.until("started from the page", lambda: self._is(container_id, alive=True))
        await self.until("the log goes on", lambda: self._log_text().count("serving") == 2)
        self.find(QAbstractButton, "container-restart").click()
        await self.until("restarting is under way", lambda: container_id in self.desk.store.state.activities)
        await self.until("restarted", lambda: self._is(container_id, alive=True))
        await self.until("no line is doubled", lambda: self._log_text().count("serving") == 3)
        submenu = next(action.menu() for action in self.desk.tray.menu.actions() if action.menu())
        entries = {action.text(): action for action in submenu.actions()}
        entries["Stop"].trigger()
        await self.until("stopped from the tray", lambda: self._is(container_id, alive=False))
        entries["Start"].trigger()
        await self.until("started from the tray", lambda: self._is(container_id, alive=True))
        self.desk.intents.act.emit(ContainerAction.KILL, container_id)
        await self.until("killed", lambda: self._is(container_id, alive=False))
        assert self.desk.store.state.containers[container_id].exit_code == 137
        self.desk.intents.act.emit(ContainerAction.START, container_id)
        await self.until("started again", lambda: self._is(container_id, alive=True))
        await self.until("the preview is there again", lambda: title.text() == TITLE)

    async def _look_at_resources(self, container_id: str) -> None:
        """Ports, volumes and networks: what the engine and the kernel say, and back again what is done on the pages."""
        store, window, name = self.desk.store, self.desk.window, self._container(container_id).name
        with socket.create_server(("127.0.0.1", 0)) as server:
            own = server.getsockname()[1]
            store.dispatch(Navigated(PORTS))
            rows = lambda: {row.port: row for row in window.ports.list.rows.values}  # noqa: E731 - one line, used often
            published = next(port.host_port for port in self._container(container_id).ports if port.host_port)
            await self.until("this program's own port is listed", lambda: own in rows() and rows()[own].pid == os.getpid())
            assert rows()[published].holder == name
            self.find(QLineEdit, "port-wanted").setText(str(published))
            answer = self.find(QLabel, "port-answer")
            await self.until("the taken port's holder is told", lambda: f"held by the container {name}" in answer.text())
        await self._look_at_volumes()
        await self._look_at_networks(container_id)
        await self._look_at_images(container_id)
        store.dispatch(Navigated(Route(Page.CONTAINER, container_id)))

    async def _look_at_volumes(self) -> None:
        store, folder = self.desk.store, self.paths.socket.parent
        with tarfile.open(folder / "notes.tar.gz", "w:gz") as archive:
            entry = tarfile.TarInfo("sub/note.txt")
            entry.size, entry.mode, entry.uid = 6, 0o640, 12
            archive.addfile(entry, io.BytesIO(b"hello\n"))
        presenter: Any = self.session.volumes._presenter  # file dialogs are the desktop's and not in sight of Qt's tests
        presenter.ask_archive = lambda _title, go: go(folder / "notes.tar.gz")
        presenter.ask_save_path = lambda _title, suggestion, go: go(folder / suggestion)
        store.dispatch(Navigated(VOLUMES))
        self.find(QAbstractButton, "volume-restore").click()
        self.find(QAbstractButton, "restore-volume-yes").click()
        jobs = lambda: [job.phase for job in store.state.jobs.values()]  # noqa: E731 - one line, used twice
        await self.until("a volume is made from an archive", lambda: jobs() == [JobPhase.DONE])
        await self.until("it is measured", lambda: store.state.volume_sizes.get("notes"))
        store.dispatch(Navigated(Route(Page.VOLUMES, "notes")))
        tree = self.find(QTreeView, "volume-files")
        await self.until("its files are listed", lambda: tree.model().rowCount() == 1)
        tree.expand(tree.model().index(0, 0))
        await self.until("a folder opens", lambda: tree.model().rowCount(tree.model().index(0, 0)) == 1)
        tree.setCurrentIndex(tree.model().index(0, 0, tree.model().index(0, 0)))
        preview = self.find(QPlainTextEdit, "file-preview")
        await self.until("a file is shown", lambda: preview.toPlainText() == "hello\n")
        self.find(QAbstractButton, "volume-detail-back-up").click()
        await self.until("it is backed up", lambda: jobs() == [JobPhase.DONE] * 2)
        (backup,) = folder.glob("notes-*.tar.gz")
        with tarfile.open(backup) as archive:
            found = archive.getmember("./sub/note.txt")
            assert (found.mode, found.uid, found.size) == (0o640, 12, 6)
        self.find(QAbstractButton, "volume-detail-remove").click()
        self.find(QAbstractButton, "confirm-yes").click()
        await self.until("it is removed", lambda: not store.state.volumes and store.state.route == VOLUMES)

    async def _look_at_networks(self, container_id: str) -> None:
        store = self.desk.store
        store.dispatch(Navigated(NETWORKS))
        self.find(QAbstractButton, "network-create").click()
        self.find(QLineEdit, "new-network-name").setText("tour")
        self.find(QAbstractButton, "new-network-yes").click()
        await self.until("a network is made", lambda: store.state.route.page is Page.NETWORKS and store.state.route.key)
        self.find(QAbstractButton, "network-connect").click()
        self.find(QAbstractButton, "connect-container-yes").click()
        members = self.desk.window.networks.detail.members.rows
        await self.until(
            "its member has an address", lambda: [bool(each.attachment.address) for each in members.values] == [True]
        )
        self.desk.intents.disconnect_container.emit(store.state.route.key, container_id)
        self.find(QAbstractButton, "confirm-yes").click()
        await self.until("it is disconnected", lambda: members.values == ())
        self.find(QAbstractButton, "network-detail-remove").click()
        self.find(QAbstractButton, "confirm-yes").click()
        await self.until("the network is removed", lambda: store.state.route == NETWORKS)

    async def _look_at_images(self, container_id: str) -> None:
        """After the volumes, whose archives go where these do."""
        store, folder = self.desk.store, self.paths.socket.parent
        image = next(each for each in store.state.images if each.id == self._container(container_id).image_id)
        store.dispatch(Navigated(Route(Page.IMAGES, image.id)))
        looking = lambda: store.state.looking  # noqa: E731 - one line, used often
        await self.until("its layers are told", lambda: looking().layers and looking().layers.layers)
        assert any("COPY" in step.created_by for step in looking().layers.steps)
        tree = self.find(QTreeView, "image-files")
        await self.until("files of its last layer are listed", lambda: tree.model().rowCount())
        await self.until("what is in vain is counted", lambda: looking().layers.wasted_bytes is not None)
        self.find(QAbstractButton, "image-detail-save").click()
        jobs = lambda: [job.note for job in store.state.jobs.values() if job.subject == image.id]  # noqa: E731 - used twice
        await self.until("it is saved", lambda: any(note.startswith("Saved") for note in jobs()))
        (saved,) = folder.glob("*.tar")
        self.desk.intents.untag_image.emit(image.id, image.tags[0])
        self.find(QAbstractButton, "choice-no").click()  # its last name, and the container stands in the way
        self.desk.intents.build_paths.emit([str(saved)])
        loaded = lambda: [job.note for job in store.state.jobs.values() if job.note.startswith("Loaded")]  # noqa: E731
        await self.until("it is loaded again", loaded)
        assert store.state.route == IMAGES

    async def _survive_the_engine(self, container_id: str) -> None:
        ports = self._container(container_id).ports
        os.kill(int(self.paths.pidfile.read_text()), signal.SIGKILL)
        phase = lambda: self.desk.store.state.engine.phase  # noqa: E731 - one line, used twice
        await self.until("the app notices that the engine is gone", lambda: phase() is not EnginePhase.READY)
        await self.until("the engine is back", lambda: phase() is EnginePhase.READY)
        await self.until("the log is read again", lambda: self._log_text().count("serving") == 5)
        assert self._container(container_id).ports == ports
        asked = self._log_text().count("response:200")
        self.session.page.refresh_preview()
        await self.until("the same port answers", lambda: self._log_text().count("response:200") > asked)

    def _container(self, container_id: str) -> Container:
        return self.desk.store.state.containers[container_id]

    def _is(self, container_id: str, *, alive: bool) -> bool:
        return self._container(container_id).status.alive is alive and not self.desk.store.state.activities

    def _log_text(self) -> str:
        log: LogStore = self.desk.window.container.logs.view.store
        return log.text(log.first_number, log.end_number)


async def _run(desk: Desk, paths: EnginePaths, folder: str) -> None:
    tour = Tour(desk, paths)
    try:
        await asyncio.wait_for(tour.walk(folder), 240)
    finally:
        await tour.session.close()
        await BundledEngine(paths).stop()


def main() -> int:
    app = make_application()
    desk = Desk(app, Settings.of_environment())
    desk.window.show()
    with qasync.QEventLoop(app) as loop:
        loop.run_until_complete(_run(desk, EnginePaths.default(), sys.argv[1]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
