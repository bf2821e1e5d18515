"""The window: sidebar, pages, drop overlay, notices and sheets. Shows a state; says what was dropped and that it was closed."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import QEvent, QMimeData, QPoint, QSize, Qt, Signal
from PySide6.QtGui import (
    QCloseEvent,
    QDragEnterEvent,
    QDragLeaveEvent,
    QDragMoveEvent,
    QDropEvent,
    QHideEvent,
    QResizeEvent,
    QShowEvent,
)
from PySide6.QtWidgets import QFileDialog, QMenu, QStackedWidget, QWidget

from kitepy.gui.actions import Actions
from kitepy.gui.models.actions import ContainerAction, available
from kitepy.gui.models.build import BuildReview
from kitepy.gui.models.image import looks_like_archive
from kitepy.gui.models.log import LogStore
from kitepy.gui.models.state import AppState, EnginePhase, Page, Route
from kitepy.gui.views.build_page import BuildPage
from kitepy.gui.views.container_page import LOGS, ContainerPage
from kitepy.gui.views.discover import DiscoverPage
from kitepy.gui.views.doctor_page import DoctorPage
from kitepy.gui.views.failure_page import FailurePage
from kitepy.gui.views.images_page import ImagesPage
from kitepy.gui.views.intents import Intents
from kitepy.gui.views.networks_page import NetworksPage
from kitepy.gui.views.ports_page import PortsPage
from kitepy.gui.views.pull_page import PullPage
from kitepy.gui.views.registries_page import RegistriesPage
from kitepy.gui.views.rename_sheet import RenameSheet
from kitepy.gui.views.review_sheet import ReviewSheet
from kitepy.gui.views.sidebar import Sidebar
from kitepy.gui.views.volumes_page import VolumesPage
from kitepy.gui.widgets.drop_overlay import DropOverlay
from kitepy.gui.widgets.layout import row
from kitepy.gui.widgets.notice import Notices
from kitepy.gui.widgets.sheet import ConfirmSheet, Sheet


class MainWindow(QWidget):
    closed = Signal()
    """The user closed it; whether the app ends is decided elsewhere."""
    visibility_changed = Signal(bool)
    looked_at = Signal()
    """The user has come back to it from another window."""

    def __init__(self, intents: Intents, actions: Actions, output_of: Callable[[str], LogStore]) -> None:
        super().__init__()
        self.setObjectName("main-window")
        self.setWindowTitle("Kitepy")
        self.setMinimumSize(QSize(860, 560))
        self.resize(1120, 740)
        self.setAcceptDrops(True)
        self._intents = intents
        self._menu = actions.app_menu()
        actions.attach(self)

        self.sidebar = Sidebar(intents, self._menu)
        self.sidebar.list.menu_wanted.connect(self._container_menu)
        self.discover = DiscoverPage(intents)
        self.images = ImagesPage(intents)
        self.volumes = VolumesPage(intents)
        self.networks = NetworksPage(intents)
        self.ports = PortsPage(intents)
        self.registries = RegistriesPage(intents)
        self.pull = PullPage(intents)
        self.container = ContainerPage(intents)
        self.build = BuildPage(intents, output_of)
        self.failure = FailurePage(intents)
        self.doctor = DoctorPage(intents)
        self.pages = QStackedWidget()
        self._lists = (self.images, self.volumes, self.networks, self.ports, self.registries)
        for page in (self.discover, *self._lists, self.pull, self.container, self.build, self.failure, self.doctor):
            self.pages.addWidget(page)
        layout = row(self.sidebar, self.pages, spacing=0)
        layout.setStretch(1, 1)
        self.setLayout(layout)
        self.overlay = DropOverlay(self)
        self.notices = Notices(self)
        intents.find.connect(self._find)
        intents.show_container_logs.connect(lambda _id: self.container.tabs.setCurrentIndex(LOGS))
        self.sidebar.list.setFocus()

    # State

    def show_state(self, state: AppState) -> None:
        self.sidebar.show_state(state)
        if state.engine.phase is EnginePhase.FAILED:
            if state.engine.blocked or state.route.page is Page.DOCTOR:
                self.doctor.show_state(state)
                self.pages.setCurrentWidget(self.doctor)
            else:
                self.failure.show_state(state)
                self.pages.setCurrentWidget(self.failure)
            self.setWindowTitle("Kitepy")
            return
        match state.route.page:
            case Page.DISCOVER:
                page: QWidget = self.discover
                self.discover.show_state(state)
            case Page.IMAGES:
                page = self.images
                self.images.show_state(state)
            case Page.VOLUMES:
                page = self.volumes
                self.volumes.show_state(state)
            case Page.NETWORKS:
                page = self.networks
                self.networks.show_state(state)
            case Page.PORTS:
                page = self.ports
                self.ports.show_state(state)
            case Page.REGISTRIES:
                page = self.registries
                self.registries.show_state(state)
            case Page.PULL:
                page = self.pull
                self.pull.show_state(state)
            case Page.CONTAINER:
                page = self.container
                self.container.show_state(state)
            case Page.DOCTOR:
                page = self.doctor
                self.doctor.show_state(state)
            case Page.BUILD:
                page = self.build
                self.build.show_state(state)
        self.pages.setCurrentWidget(page)
        self.setWindowTitle(_window_title(state))

    def copy(self, text: str, what: str) -> None:
        self._intents.copy_text.emit(text, what)

    # Questions

    def ask_review(self, review: BuildReview) -> ReviewSheet:
        sheet = ReviewSheet(self, review)
        sheet.ask()
        self.activateWindow()
        return sheet

    def ask_to_confirm(self, title: str, text: str, action: str) -> ConfirmSheet:
        sheet = ConfirmSheet(self, title, text, action)
        sheet.ask()
        return sheet

    def ask_name(self, name: str, taken: set[str]) -> RenameSheet:
        sheet = RenameSheet(self, name, taken)
        sheet.ask()
        return sheet

    def ask_folder(self, answer: Callable[[str], None]) -> None:
        """Doesn't block: a nested event loop would stop the operations that are under way."""
        dialog = QFileDialog(self, "Choose a folder with a Dockerfile")
        dialog.setFileMode(QFileDialog.FileMode.Directory)
        dialog.setOption(QFileDialog.Option.ShowDirsOnly)
        self._open_dialog(dialog, answer)

    def ask_dockerfile(self, answer: Callable[[str], None]) -> None:
        dialog = QFileDialog(self, "Choose a Dockerfile")
        dialog.setFileMode(QFileDialog.FileMode.ExistingFile)
        self._open_dialog(dialog, answer)

    def _open_dialog(self, dialog: QFileDialog, answer: Callable[[str], None]) -> None:
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.fileSelected.connect(answer)
        dialog.open()

    def ask_save_path(self, title: str, suggestion: str, answer: Callable[[str], None]) -> None:
        dialog = QFileDialog(self, title)
        dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
        dialog.setFileMode(QFileDialog.FileMode.AnyFile)
        dialog.selectFile(suggestion)
        self._open_dialog(dialog, answer)

    def ask_archive(self, title: str, answer: Callable[[str], None]) -> None:
        dialog = QFileDialog(self, title)
        dialog.setFileMode(QFileDialog.FileMode.ExistingFile)
        dialog.setNameFilters(["Archives (*.tar *.tar.gz *.tgz *.tar.xz *.txz *.tar.bz2 *.tar.zst)", "All files (*)"])
        self._open_dialog(dialog, answer)

    def sheet_is_open(self) -> bool:
        return any(sheet.isVisible() for sheet in self.findChildren(Sheet))

    def bring_to_front(self) -> None:
        self.show()
        self.setWindowState(self.windowState() & ~Qt.WindowState.WindowMinimized)
        self.raise_()
        self.activateWindow()

    # Drag and drop

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        paths = local_paths(event.mimeData())
        if paths and not self.sheet_is_open():
            names = ", ".join(path.rstrip("/").rsplit("/", 1)[-1] for path in paths[:3])
            title = "Drop to load the image" if all(map(looks_like_archive, paths)) else "Drop to build and run"
            self.overlay.cover(names + (" …" if len(paths) > 3 else ""), title)
            event.setDropAction(Qt.DropAction.CopyAction)
            event.accept()

    def dragMoveEvent(self, event: QDragMoveEvent) -> None:
        if self.overlay.isVisible():
            event.setDropAction(Qt.DropAction.CopyAction)
            event.accept()

    def dragLeaveEvent(self, _event: QDragLeaveEvent) -> None:
        self.overlay.hide()

    def dropEvent(self, event: QDropEvent) -> None:
        self.overlay.hide()
        paths = local_paths(event.mimeData())
        if paths:
            event.setDropAction(Qt.DropAction.CopyAction)
            event.accept()
            self._intents.build_paths.emit(paths)

    # Window

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        if self.overlay.isVisible():
            self.overlay.setGeometry(self.rect())

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self.visibility_changed.emit(True)

    def hideEvent(self, event: QHideEvent) -> None:
        super().hideEvent(event)
        self.visibility_changed.emit(False)

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.ActivationChange and self.isActiveWindow():
            self.looked_at.emit()

    def closeEvent(self, event: QCloseEvent) -> None:
        event.ignore()
        self.closed.emit()

    def _find(self) -> None:
        if self.pages.currentWidget() is self.container:
            self.container.start_search()
        elif (page := self.pages.currentWidget()) in self._lists:
            page.filter.setFocus(Qt.FocusReason.ShortcutFocusReason)
        elif page is self.discover:
            self.discover.start_search()
        else:
            self.sidebar.filter.setFocus(Qt.FocusReason.ShortcutFocusReason)

    def _container_menu(self, route: Route, point: QPoint) -> None:
        if route.page is not Page.CONTAINER:
            return
        container = self.sidebar.container(route.key)
        if container is None:
            return
        menu = QMenu(self)
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        for action in ContainerAction:
            entry = menu.addAction(action.label)
            entry.setEnabled(available(action, container))
            entry.triggered.connect(lambda _checked=False, action=action: self._intents.act.emit(action, container.id))
        menu.popup(point)


def local_paths(mime: QMimeData) -> list[str]:
    """Files and folders of this machine among what is dragged; anything remote is left out."""
    return [url.toLocalFile() for url in mime.urls() if url.isLocalFile()] if mime.hasUrls() else []


def _window_title(state: AppState) -> str:
    match state.route.page:
        case Page.CONTAINER if state.route.key in state.containers:
            return f"{state.containers[state.route.key].name} — Kitepy"
        case Page.BUILD if state.route.key in state.builds:
            return f"Building {state.builds[state.route.key].name} — Kitepy"
        case Page.PULL if state.route.key in state.pulls:
            return f"Pulling {state.pulls[state.route.key].title} — Kitepy"
        case Page.IMAGES | Page.VOLUMES | Page.NETWORKS | Page.PORTS | Page.REGISTRIES:
            return f"{state.route.page.value.capitalize()} — Kitepy"
        case _:
            return "Kitepy"
