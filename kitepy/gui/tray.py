"""The tray icon and its menu: every container with what can be done to it. A convenience only; some desktops have no tray."""

from __future__ import annotations

from PySide6.QtCore import QObject
from PySide6.QtGui import QAction
from PySide6.QtWidgets import QMenu, QSystemTrayIcon

from kitepy.gui import icons
from kitepy.gui.actions import Actions
from kitepy.gui.models.actions import ContainerAction, available
from kitepy.gui.models.container import Container, preview_port
from kitepy.gui.models.sidebar import container_row
from kitepy.gui.models.state import AppState, EnginePhase, Page, Route
from kitepy.gui.views.intents import Intents

# A tray menu is for the few containers one works with; the window has them all.
_MOST = 20


class ContainerMenu(QMenu):
    """The submenu of one container, changed in place: tray hosts crash when a menu they know is deleted under them."""

    def __init__(self, container: Container, intents: Intents, parent: QMenu) -> None:
        super().__init__(parent)
        self._intents = intents
        self._id = container.id
        self._url = ""
        self._open = self.addAction("Open in browser")
        self._open.triggered.connect(lambda: intents.open_url.emit(self._url))
        self.addSeparator()
        self._actions: dict[ContainerAction, QAction] = {}
        for action in (ContainerAction.START, ContainerAction.STOP, ContainerAction.RESTART):
            entry = self.addAction(action.label)
            entry.triggered.connect(lambda _checked=False, action=action: intents.act.emit(action, self._id))
            self._actions[action] = entry
        self.addSeparator()
        self.addAction("Show").triggered.connect(self._show)
        self.addAction("Logs").triggered.connect(self._show_logs)

    def show_container(self, container: Container, activity: str) -> None:
        row = container_row(container, activity)
        self.setTitle(f"{row.title.replace('&', '&&')} — {row.detail}")
        port = preview_port(container.ports) if container.status.alive else None
        self._url = port.url if port is not None else ""
        self._open.setEnabled(bool(self._url))
        for action, entry in self._actions.items():
            entry.setEnabled(available(action, container, activity))

    def _show(self) -> None:
        self._intents.show_window.emit()
        self._intents.navigate.emit(Route(Page.CONTAINER, self._id))

    def _show_logs(self) -> None:
        self._show()
        self._intents.show_container_logs.emit(self._id)


class Tray(QObject):
    def __init__(self, intents: Intents, actions: Actions) -> None:
        super().__init__(intents)
        self._intents = intents
        self.menu = QMenu()
        self.menu.setObjectName("tray-menu")
        self._empty = self.menu.addAction("No containers")
        self._empty.setEnabled(False)
        self._after_containers = self.menu.addSeparator()
        self.menu.addActions([actions.new, actions.build_folder])
        self.menu.addSeparator()
        self.menu.addActions([actions.show_window, actions.quit])
        self._menus: dict[str, ContainerMenu] = {}
        self.icon = QSystemTrayIcon(icons.app_icon(), self)
        self.icon.setToolTip("Kitepy")
        self.icon.setContextMenu(self.menu)
        self.icon.activated.connect(self._activated)

    def show(self) -> None:
        self.icon.show()

    def hide(self) -> None:
        self.icon.hide()

    @property
    def available(self) -> bool:
        """Whether there is a tray right now; one may come and go with the desktop's panel."""
        return QSystemTrayIcon.isSystemTrayAvailable() and self.icon.isVisible()

    def say_once_that_it_stays(self) -> None:
        self.icon.showMessage(
            "Kitepy is still here", "Containers keep running. Open or quit Kitepy from this icon.", icons.app_icon()
        )

    def show_state(self, state: AppState) -> None:
        newest = sorted(state.containers.values(), key=lambda container: (not container.status.alive, container.name.lower()))[
            :_MOST
        ]
        wanted = {container.id for container in newest}
        for container_id in [key for key in self._menus if key not in wanted]:
            gone = self._menus.pop(container_id)
            self.menu.removeAction(gone.menuAction())
            gone.deleteLater()
        for container in newest:
            if container.id not in self._menus:
                entry = ContainerMenu(container, self._intents, self.menu)
                self._menus[container.id] = entry
                self.menu.insertMenu(self._after_containers, entry)
            self._menus[container.id].show_container(container, state.activities.get(container.id, ""))
        self._empty.setVisible(not newest)
        self._empty.setText("No containers" if state.engine.phase is EnginePhase.READY else "The engine isn't running")
        running = sum(container.status.alive for container in state.containers.values())
        self.icon.setToolTip(f"Kitepy: {running} running" if running else "Kitepy")

    def _activated(self, reason: QSystemTrayIcon.ActivationReason) -> None:
        if reason in (QSystemTrayIcon.ActivationReason.Trigger, QSystemTrayIcon.ActivationReason.DoubleClick):
            self._intents.show_window.emit()
