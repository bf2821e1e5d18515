"""The app on a private X display with a window manager, its engine in memory, its event loop driven by the test."""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
import qasync
from PySide6.QtCore import QCoreApplication, QEvent
from PySide6.QtWidgets import QApplication, QWidget
from support.fake_gateway import FakeGateway

from kitepy.demo.display import Display, virtual_display
from kitepy.gui.app import Desk, Session, make_application
from kitepy.gui.settings import Settings

Found = TypeVar("Found", bound=QWidget)


@pytest.fixture(scope="session", autouse=True)
def display() -> Iterator[Display]:
    """A display of its own even on a desktop: the tests move the pointer. Fails, and says why, where one can't be had."""
    with virtual_display() as started:
        kept = {
            name: os.environ.get(name) for name in ("DISPLAY", "QT_QPA_PLATFORM", "QT_SCALE_FACTOR", "DBUS_SESSION_BUS_ADDRESS")
        }
        os.environ.update({name: started.environment[name] for name in ("DISPLAY", "QT_QPA_PLATFORM")})
        os.environ.pop("QT_SCALE_FACTOR", None)
        # The desktop's own panel must not see these icons.
        os.environ["DBUS_SESSION_BUS_ADDRESS"] = "disabled:"
        yield started
        # Qt would end the process when its display goes before it.
        app = QApplication.instance()
        if app is not None:
            app.shutdown()
        for name, value in kept.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@pytest.fixture(scope="module", autouse=True)
def _no_widgets_left() -> Iterator[None]:
    """Windows hang together in cycles: collected by a thread that tests of the engine run later, they would crash Qt."""
    yield
    gc.collect()
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)


@pytest.fixture(scope="session")
def qapp(display: Display) -> QApplication:
    """pytest-qt's application, made as the app itself makes it."""
    del display
    return make_application()


class Stage:
    """A window with its controllers; `play` runs a coroutine on the GUI thread's loop."""

    def __init__(self, app: QApplication, home: Path, display: Display) -> None:
        self.app = app
        self.display = display
        self.home = home
        self.loop = qasync.QEventLoop(app)
        asyncio.set_event_loop(self.loop)
        self.gateway = FakeGateway()
        self.desk = Desk(app, Settings(str(home)))
        self.window = self.desk.window
        self.store = self.desk.store
        self.session: Session | None = None

    def play(self, story: Callable[[], Coroutine[Any, Any, None]], timeout_s: float = 60) -> None:
        async def whole() -> None:
            self.session = Session(self.desk, self.gateway)
            await self.until(lambda: self.window.isVisible() and self.window.windowHandle().isExposed())
            # Right before the story: what it puts into the gateway before it first waits is there when the lists are read.
            self.session.start()
            await story()

        self.window.show()
        self.loop.run_until_complete(asyncio.wait_for(whole(), timeout_s))

    async def until(self, true: Callable[[], Any], timeout_s: float = 10) -> None:
        deadline = time.monotonic() + timeout_s
        while not true():
            assert time.monotonic() < deadline, self.picture()
            await asyncio.sleep(0.01)

    def picture(self) -> str:
        """What a failed wait says of the window."""
        page = self.window.pages.currentWidget().objectName()
        seen = f"{page} in a {'visible' if self.window.isVisible() else 'hidden'} window"
        return f"it didn't happen: {seen}, {self.store.state.route}, notices {self.window.notices.texts()}"

    async def ready(self) -> None:
        """Networks are the last of the lists."""
        await self.until(lambda: self.store.state.containers_list.loaded and self.store.state.networks_list.loaded)

    def find(self, kind: type[Found], name: str) -> Found:
        found = self.window.findChild(kind, name)
        assert found is not None, f"there is no {name}"
        return found

    async def shown(self, kind: type[Found], name: str) -> Found:
        """The visible widget of that name, as soon as there is one."""
        seen: list[Found] = []

        def look() -> bool:
            seen[:] = [widget for widget in self.window.findChildren(kind, name) if widget.isVisible()]
            return bool(seen)

        await self.until(look)
        return seen[0]

    def close(self) -> None:
        if self.session is not None and not self.loop.is_closed():
            self.loop.run_until_complete(self.session.close())
        self.window.hide()
        self.window.deleteLater()
        self.desk.tray.hide()
        self.desk.intents.deleteLater()
        self.desk.theme.deleteLater()
        QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
        self.loop.close()


@pytest.fixture
def stage(qapp: QApplication, tmp_path: Path, display: Display) -> Iterator[Stage]:
    made = Stage(qapp, tmp_path, display)
    yield made
    made.close()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "hello-web"
    folder.mkdir()
    (folder / "Dockerfile").write_text('FROM kitepy/starter\nCOPY . /www\nRUN make\nEXPOSE 8080\nCMD ["httpd"]\n')
    (folder / "index.html").write_text("<title>Hello</title>")
    return folder
