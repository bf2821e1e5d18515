"""Composition root of the app: shows the window first, then brings up the loop, the gateway and the controllers.

Nothing that is slow to import (asyncio, docker, aiohttp) is touched before the first paint.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QUrl
from PySide6.QtGui import QDesktopServices, QGuiApplication
from PySide6.QtWidgets import QApplication

from kitepy import __version__
from kitepy.gui import icons
from kitepy.gui.actions import Actions
from kitepy.gui.models.log import LogStore
from kitepy.gui.models.state import Navigated, Store
from kitepy.gui.models.volume import JobPhase
from kitepy.gui.settings import Settings
from kitepy.gui.single_instance import SingleInstance, socket_path
from kitepy.gui.theme import Theme, ThemeChoice
from kitepy.gui.tray import Tray
from kitepy.gui.views.intents import Intents
from kitepy.gui.views.main_window import MainWindow
from kitepy.gui.views.presenter import WindowPresenter

if TYPE_CHECKING:
    import asyncio

    from kitepy.client import EnginePaths
    from kitepy.gui.controllers.builds import BuildsController
    from kitepy.gui.gateway.port import Gateway

_log = logging.getLogger(__name__)

APP_ID = "io.github.kitepy.Kitepy"
_FIRST_PAINT_PATIENCE_S = 1.0


def run(argv: list[str], *, engine_paths: EnginePaths | None = None, engine_mode: str = "") -> int:
    """Opens the app and gives its exit code when it ends; `argv` are paths to build, without the program's name.

    `engine_mode` ("rootless" or "root") counts this time instead of what the user prefers.
    """
    app = make_application()
    paths = [str(Path(path).absolute()) for path in argv if not path.startswith("-")]
    instance = SingleInstance(socket_path(dict(os.environ), os.getuid()), app)
    if instance.hand_over(paths):
        return 0
    if not instance.listen():
        _log.warning("Other starts can't find this one: no safe place for its socket.")
    desk = Desk(app, Settings.of_environment())
    desk.window.show()
    _paint(app, desk.window)
    _log.info("window painted %.2f s after the process began", _age_of_process_s())

    import qasync

    loop = qasync.QEventLoop(app)
    with loop:
        code: int = loop.run_until_complete(_live(desk, instance, paths, engine_paths, engine_mode))
    return code


def make_application() -> QApplication:
    QGuiApplication.setDesktopFileName(APP_ID)
    app = QApplication(["kitepy"])
    app.setApplicationName("kitepy")
    app.setApplicationDisplayName("Kitepy")
    app.setApplicationVersion(__version__)
    app.setOrganizationName("kitepy")
    app.setWindowIcon(icons.app_icon())
    app.setQuitOnLastWindowClosed(False)
    return app


class Desk:
    """Everything that can be seen, and the state it shows. Has no engine yet: `Session` brings it to life."""

    def __init__(self, app: QApplication, settings: Settings) -> None:
        self.app = app
        self.settings = settings
        self.theme = Theme(app, settings.theme)
        self.store = Store()
        self.intents = Intents()
        self.builds: BuildsController | None = None
        actions = Actions(self.intents, settings.theme)
        self.window = MainWindow(self.intents, actions, self._output_of)
        if not settings.geometry.isEmpty():
            self.window.restoreGeometry(settings.geometry)
        self.tray = Tray(self.intents, actions)
        self.presenter = WindowPresenter(self.window)
        self.store.subscribe(lambda state, _previous: self.window.show_state(state))
        self.store.subscribe(lambda state, _previous: self.tray.show_state(state))
        self.window.show_state(self.store.state)
        self.tray.show_state(self.store.state)
        self.intents.navigate.connect(lambda route: self.store.dispatch(Navigated(route)))
        self.intents.open_url.connect(open_url)
        self.intents.copy_text.connect(self._copy)
        self.intents.choose_theme.connect(self._choose_theme)
        self.intents.show_window.connect(self.window.bring_to_front)
        self.intents.choose_folder.connect(lambda: self.window.ask_folder(self._build))
        self.intents.choose_dockerfile.connect(lambda: self.window.ask_dockerfile(self._build))

    def _output_of(self, build_id: str) -> LogStore:
        return self.builds.output_of(build_id) if self.builds else LogStore(limit=1)

    def _build(self, path: str) -> None:
        self.intents.build_paths.emit([path])

    def _copy(self, text: str, what: str) -> None:
        QGuiApplication.clipboard().setText(text)
        self.presenter.tell(f"Copied {what}.")

    def _choose_theme(self, choice: ThemeChoice) -> None:
        self.settings.theme = choice
        self.theme.choose(choice)


class Session:
    """The controllers of one run of the app; must be made while the event loop runs."""

    def __init__(self, desk: Desk, gateway: Gateway) -> None:
        import asyncio

        from kitepy.gui.controllers.builds import BuildsController
        from kitepy.gui.controllers.container_page import ContainerPageController
        from kitepy.gui.controllers.containers import ContainersController
        from kitepy.gui.controllers.discover import DiscoverController
        from kitepy.gui.controllers.engine import EngineController
        from kitepy.gui.controllers.image_contents import ImageContentsController
        from kitepy.gui.controllers.images import ImagesController
        from kitepy.gui.controllers.networks import NetworksController
        from kitepy.gui.controllers.ports import PortsController
        from kitepy.gui.controllers.pulls import PullsController
        from kitepy.gui.controllers.registries import RegistriesController
        from kitepy.gui.controllers.system import SystemController
        from kitepy.gui.controllers.volumes import VolumesController
        from kitepy.gui.tasks import Tasks

        self._desk = desk
        self._gateway = gateway
        self.tasks = Tasks(desk.presenter.warn)
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        intents = desk.intents
        self.engine = EngineController(desk.store, gateway, self.tasks)
        # Kept, because Qt holds only weak references to the methods that signals are connected to.
        self.containers = ContainersController(desk.store, gateway, self.tasks, self.engine, desk.presenter)
        self.images = ImagesController(desk.store, gateway, self.tasks, self.engine, desk.presenter)
        self.image_contents = ImageContentsController(desk.store, gateway, self.tasks)
        self.builds = desk.builds = BuildsController(desk.store, gateway, self.tasks, self.engine, desk.presenter)
        self.system = SystemController(desk.store, gateway, self.tasks, self.engine, desk.presenter)
        self.page = ContainerPageController(desk.store, gateway, self.tasks, desk.window.container)
        self.volumes = VolumesController(desk.store, gateway, self.tasks, self.engine, desk.presenter)
        self.networks = NetworksController(desk.store, gateway, self.tasks, self.engine, desk.presenter)
        self.ports = PortsController(desk.store, gateway, self.tasks, self.containers, desk.presenter)
        self.discover = DiscoverController(desk.store, gateway, self.tasks, self.engine)
        self.pulls = PullsController(desk.store, gateway, self.tasks, self.engine, desk.presenter, desk.settings)
        self.registries = RegistriesController(
            desk.store, gateway, self.tasks, self.engine, desk.presenter, desk.settings, self.discover.registries_changed
        )
        intents.act.connect(self.containers.act)
        intents.run_image.connect(self.containers.run_image)
        intents.remove_image.connect(self.images.remove)
        intents.tag_image.connect(self.images.tag)
        intents.untag_image.connect(self.images.untag)
        intents.push_image.connect(self.images.push)
        intents.save_image.connect(self.images.save)
        intents.load_images.connect(self.images.load)
        intents.prune_images.connect(self.images.prune)
        intents.look_at_layer.connect(self.image_contents.look_at_layer)
        intents.open_image_folder.connect(self.image_contents.open_folder)
        intents.more_image_files.connect(self.image_contents.more_files)
        intents.build_paths.connect(self.take_paths)
        intents.cancel_build.connect(self.builds.cancel)
        intents.repeat_build.connect(self.builds.repeat)
        intents.dismiss_build.connect(self.builds.dismiss)
        intents.create_volume.connect(self.volumes.create)
        intents.remove_volume.connect(self.volumes.remove)
        intents.prune_volumes.connect(self.volumes.prune)
        intents.back_up_volume.connect(self.volumes.back_up)
        intents.restore_volume.connect(self.volumes.restore)
        intents.open_folder.connect(self.volumes.open_folder)
        intents.preview_file.connect(self.volumes.preview)
        intents.save_file.connect(self.volumes.save)
        intents.cancel_job.connect(self.volumes.cancel)
        intents.cancel_job.connect(self.images.cancel)
        intents.dismiss_job.connect(self.volumes.dismiss)
        intents.create_network.connect(self.networks.create)
        intents.remove_network.connect(self.networks.remove)
        intents.connect_container.connect(self.networks.connect)
        intents.disconnect_container.connect(self.networks.disconnect)
        intents.check_port.connect(self.ports.check)
        intents.free_port.connect(self.ports.free)
        intents.search.connect(self.discover.search)
        intents.search_again.connect(self.discover.search_again)
        intents.filter_tags.connect(self.discover.filter_tags)
        intents.more_tags.connect(self.discover.more_tags)
        intents.list_tags_again.connect(self.discover.list_again)
        intents.choose_tag.connect(self.discover.choose_tag)
        intents.choose_platform.connect(self.discover.choose_platform)
        intents.preview_again.connect(self.discover.preview_again)
        intents.pull.connect(self.pulls.pull)
        intents.pause_pull.connect(self.pulls.pause)
        intents.resume_pull.connect(self.pulls.resume)
        intents.cancel_pull.connect(self.pulls.cancel)
        intents.add_registry.connect(self.registries.add)
        intents.log_in.connect(self.registries.log_in)
        intents.log_out.connect(self.registries.log_out)
        intents.remove_registry.connect(self.registries.remove)
        intents.check_registry.connect(self.registries.check)
        intents.retry_engine.connect(self.engine.start)
        intents.open_doctor.connect(self.system.open)
        intents.check_system.connect(self.system.check)
        intents.choose_rights.connect(self.system.choose_rights)
        intents.refresh.connect(self._refresh)
        intents.refresh_preview.connect(self.page.refresh_preview)
        intents.quit.connect(self.quit)
        desk.window.closed.connect(self._window_closed)
        for follower in (self.page, self.volumes, self.ports, self.image_contents):
            desk.window.visibility_changed.connect(follower.set_visible)
        desk.window.looked_at.connect(self.ports.refresh)

    def start(self) -> None:
        self.pulls.recall()
        self.registries.start()
        self.engine.start()
        if self._desk.settings.first_time("system-check"):
            self.system.check_at_first_start()
        if self._desk.settings.first_time("starter-image"):
            self.tasks.spawn(self._make_starter_image(), name="starter image")

    def take_paths(self, paths: list[str]) -> None:
        """What was dropped, chosen or handed over: archives of images are loaded, the rest is built."""
        self.builds.add_paths(self.images.take_archives(paths))

    def quit(self) -> None:
        """Containers and the engine stay; a build in hand would be lost, so that is asked about."""
        state = self._desk.store.state
        building = [build.name for build in state.builds.values() if build.phase.active]
        copying = [job.title for job in state.jobs.values() if job.phase is JobPhase.RUNNING]
        if building or copying:
            lost = [f"The build of {', '.join(building)} is cancelled."] if building else []
            lost += [f"{title} is cancelled." for title in copying]
            text = f"{' '.join(lost)} Running containers keep running."
            self._desk.presenter.confirm("Quit while building?" if building else "Quit while copying?", text, "Quit", self.end)
        else:
            self.end()

    async def close(self) -> None:
        self._desk.settings.geometry = self._desk.window.saveGeometry()
        self.pulls.interrupt()
        await self.tasks.cancel_all()
        await self._gateway.close()
        self._desk.tray.hide()
        self._desk.window.hide()

    def end(self) -> None:
        if not self.ended.done():
            self.ended.set_result(0)

    def _refresh(self) -> None:
        self.engine.refresh()
        self.page.refresh_preview()
        self.volumes.refresh()
        self.image_contents.refresh()
        self.ports.refresh()
        self.registries.refresh()

    def _window_closed(self) -> None:
        if not self._desk.tray.available:
            self.quit()
            return
        self._desk.window.hide()
        if self._desk.settings.first_time("told-about-tray"):
            self._desk.tray.say_once_that_it_stays()

    async def _make_starter_image(self) -> None:
        from kitepy.gui.gateway.port import GatewayError

        await self.engine.ready()
        try:
            await self._gateway.make_starter_image()
        except GatewayError as error:
            # Only the examples need it; whoever builds one is told then.
            _log.info("no starter image: %s", error)


async def _live(
    desk: Desk, instance: SingleInstance, paths: list[str], engine_paths: EnginePaths | None, engine_mode: str
) -> int:
    import asyncio

    from kitepy.client import EngineMode, EnginePaths
    from kitepy.gui.gateway.engine import EngineGateway

    mode = EngineMode(engine_mode) if engine_mode else None
    session = Session(desk, EngineGateway(engine_paths or EnginePaths.default(mode=mode)))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, session.end)

    def take_over(later_paths: list[str]) -> None:
        desk.window.bring_to_front()
        session.take_paths(later_paths)

    instance.handed_over.connect(take_over)
    desk.tray.show()
    session.start()
    session.take_paths(paths)
    try:
        return await session.ended
    finally:
        instance.close()
        await session.close()


def open_url(url: str) -> None:
    """Only pages of this machine's containers come here, but a scheme other than the web's is never opened."""
    target = QUrl(url)
    if target.scheme() in ("http", "https"):
        QDesktopServices.openUrl(target)


def _paint(app: QApplication, window: Any) -> None:
    """Lets the window appear before anything slow begins; a desktop that shows it late isn't waited for."""
    deadline = time.monotonic() + _FIRST_PAINT_PATIENCE_S
    while time.monotonic() < deadline:
        app.processEvents()
        handle = window.windowHandle()
        if handle is not None and handle.isExposed():
            app.processEvents()
            return
        time.sleep(0.005)


def _age_of_process_s() -> float:
    """proc(5): starttime is in clock ticks after boot."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    began_s = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - began_s


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    sys.exit(run(sys.argv[1:]))
