"""The app's own commands as QActions, each named once; menus, tray and shortcuts all show these."""

from __future__ import annotations

from PySide6.QtCore import QObject, Qt
from PySide6.QtGui import QAction, QActionGroup, QKeySequence
from PySide6.QtWidgets import QMenu, QWidget

from kitepy.gui.models.state import DISCOVER, IMAGES, NETWORKS, PORTS, REGISTRIES, VOLUMES
from kitepy.gui.theme import ThemeChoice
from kitepy.gui.views.intents import Intents


class Actions(QObject):
    def __init__(self, intents: Intents, choice: ThemeChoice) -> None:
        super().__init__(intents)
        self.new = self._make("New…", "Ctrl+N")
        self.new.triggered.connect(intents.show_window)
        self.new.triggered.connect(lambda: intents.navigate.emit(DISCOVER))
        self.build_folder = self._make("Build a folder…", "Ctrl+B")
        self.build_folder.triggered.connect(intents.show_window)
        self.build_folder.triggered.connect(intents.choose_folder)
        self.build_dockerfile = self._make("Build a Dockerfile…", "Ctrl+Shift+B")
        self.build_dockerfile.triggered.connect(intents.choose_dockerfile)
        self.images = self._make("Images", "Ctrl+I")
        self.volumes = self._make("Volumes", "Ctrl+Shift+V")
        self.networks = self._make("Networks", "Ctrl+Shift+N")
        self.ports = self._make("Ports", "Ctrl+Shift+P")
        self.registries = self._make("Registries", "Ctrl+Shift+R")
        self.places = [self.images, self.volumes, self.networks, self.ports, self.registries]
        for action, route in zip(self.places, (IMAGES, VOLUMES, NETWORKS, PORTS, REGISTRIES), strict=True):
            action.triggered.connect(lambda _checked=False, route=route: intents.navigate.emit(route))
        self.doctor = self._make("System check…", "")
        self.doctor.triggered.connect(intents.show_window)
        self.doctor.triggered.connect(intents.open_doctor)
        self.refresh = self._make("Refresh", "F5")
        self.refresh.triggered.connect(intents.refresh)
        self.find = self._make("Find…", "Ctrl+F")
        self.find.triggered.connect(intents.find)
        self.show_window = self._make("Show window", "")
        self.show_window.triggered.connect(intents.show_window)
        self.quit = self._make("Quit (containers keep running)", "Ctrl+Q")
        self.quit.triggered.connect(intents.quit)
        self._themes = QActionGroup(self)
        self.themes: list[QAction] = []
        for theme, title in (
            (ThemeChoice.SYSTEM, "Follow the system"),
            (ThemeChoice.LIGHT, "Light"),
            (ThemeChoice.DARK, "Dark"),
        ):
            action = self._make(title, "")
            action.setCheckable(True)
            action.setChecked(theme is choice)
            action.triggered.connect(lambda _checked=False, theme=theme: intents.choose_theme.emit(theme))
            self._themes.addAction(action)
            self.themes.append(action)

    def attach(self, window: QWidget) -> None:
        """Makes the shortcuts work anywhere in the window."""
        window.addActions([self.new, self.build_folder, self.build_dockerfile, *self.places, self.refresh, self.find, self.quit])

    def app_menu(self) -> QMenu:
        """The menu behind the sidebar's three dots."""
        menu = QMenu()
        menu.addActions([self.new, self.build_folder, self.build_dockerfile])
        menu.addSeparator()
        menu.addActions(self.places)
        menu.addSeparator()
        menu.addActions([self.find, self.refresh])
        menu.addSeparator()
        appearance = menu.addMenu("Appearance")
        appearance.addActions(self.themes)
        menu.addAction(self.doctor)
        menu.addSeparator()
        menu.addAction(self.quit)
        return menu

    def _make(self, text: str, shortcut: str) -> QAction:
        action = QAction(text, self)
        if shortcut:
            action.setShortcut(QKeySequence(shortcut))
            action.setShortcutContext(Qt.ShortcutContext.WindowShortcut)
        return action
