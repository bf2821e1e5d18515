"""One container: header with state and actions, and the tabs Home, Logs and Inspect. The tab outlives a change of container."""

from __future__ import annotations

from PySide6.QtCore import Qt, SignalInstance
from PySide6.QtGui import QAction
from PySide6.QtWidgets import QMenu, QStackedWidget, QTabBar, QWidget

from kitepy.gui.models.actions import ContainerAction, available
from kitepy.gui.models.container import Container, ContainerDetails, preview_port
from kitepy.gui.models.log import LogStore
from kitepy.gui.models.preview import Preview
from kitepy.gui.models.sidebar import container_row, state_word
from kitepy.gui.models.state import AppState
from kitepy.gui.views.container_home import ContainerHome
from kitepy.gui.views.container_logs import ContainerLogs
from kitepy.gui.views.inspect_view import InspectView
from kitepy.gui.views.intents import Intents
from kitepy.gui.widgets.buttons import IconButton, TextButton
from kitepy.gui.widgets.labels import ElidedLabel, Pill
from kitepy.gui.widgets.layout import Placeholder, column, frame, row

HOME, LOGS, INSPECT = range(3)


class ContainerPage(QWidget):
    def __init__(self, intents: Intents) -> None:
        super().__init__()
        self.setObjectName("container-page")
        self._intents = intents
        self._container: Container | None = None

        self._name = ElidedLabel("", "title", Qt.TextElideMode.ElideMiddle)
        self._name.setObjectName("container-name")
        self._pill = Pill()
        self._pill.setObjectName("container-state")
        self._image = ElidedLabel("", "muted", Qt.TextElideMode.ElideMiddle)
        self._image.setObjectName("container-image")

        self._open = TextButton("Open in browser", "primary", "external")
        self._open.setObjectName("container-open")
        self._open.clicked.connect(self._open_page)
        self._buttons: dict[ContainerAction, TextButton | IconButton] = {
            ContainerAction.START: TextButton("Start", "", "play"),
            ContainerAction.STOP: TextButton("Stop", "", "stop"),
            ContainerAction.RESTART: IconButton("restart", "Restart"),
        }
        for action, button in self._buttons.items():
            button.setObjectName(f"container-{action.name.lower()}")
            self._connect(button.clicked, action)
        more = IconButton("more", "More actions")
        more.setObjectName("container-more")
        self._menu = QMenu(more)
        self._menu_actions: dict[ContainerAction, QAction] = {}
        for action in (ContainerAction.RENAME, ContainerAction.KILL, ContainerAction.REMOVE):
            entry = self._menu.addAction(action.label)
            entry.setObjectName(f"container-{action.name.lower()}")
            self._connect(entry.triggered, action)
            self._menu_actions[action] = entry
        self._menu.addSeparator()
        self._menu.addAction("Copy id").triggered.connect(self._copy_id)
        more.setMenu(self._menu)
        more.setPopupMode(IconButton.ToolButtonPopupMode.InstantPopup)

        self.tabs = QTabBar()
        self.tabs.setObjectName("container-tabs")
        self.tabs.setAccessibleName("Views of this container")
        self.tabs.setUsesScrollButtons(False)
        self.tabs.setExpanding(False)
        for title in ("Home", "Logs", "Inspect"):
            self.tabs.addTab(title)
        self.home = ContainerHome(intents)
        self.logs = ContainerLogs(intents)
        self.inspect = InspectView(intents)
        self._body = QStackedWidget()
        for page in (self.home, self.logs, self.inspect):
            self._body.addWidget(page)
        self._loading = Placeholder("container")
        self._loading.say("Reading the container…")
        self._body.addWidget(self._loading)
        self.tabs.currentChanged.connect(self._body.setCurrentIndex)
        self.tabs.currentChanged.connect(self._show_open_button)
        self.home.logs_wanted.connect(lambda: self.tabs.setCurrentIndex(LOGS))

        header = frame(
            "header",
            column(
                row(
                    self._name,
                    self._pill,
                    0,
                    self._open,
                    self._buttons[ContainerAction.START],
                    self._buttons[ContainerAction.STOP],
                    self._buttons[ContainerAction.RESTART],
                    more,
                    spacing=8,
                ),
                row(self._image, 0),
                row(self.tabs, 0, margins=(0, 6, 0, 0)),
                spacing=4,
                margins=(32, 22, 28, 0),
            ),
        )
        self.setLayout(column(header, self._body, spacing=0))

    @property
    def container_id(self) -> str:
        return self._container.id if self._container else ""

    def show_state(self, state: AppState) -> None:
        container = state.containers.get(state.route.key)
        known = container is not None
        self.tabs.setEnabled(known)
        self._body.setCurrentIndex(self.tabs.currentIndex() if known else self._body.indexOf(self._loading))
        if container is None:
            self._container = None
            self._name.set_text("")
            self._image.set_text("")
            self._pill.hide()
            for button in (*self._buttons.values(), self._open):
                button.hide()
            return
        activity = state.activities.get(container.id, "")
        self._container = container
        self._name.set_text(container.name)
        self._image.set_text(f"{container.image.removesuffix(':latest')}  ·  {container.short_id}")
        self._pill.show()
        self._pill.show_state(container_row(container, activity).glyph, f"{activity}…" if activity else state_word(container))
        for action, button in self._buttons.items():
            button.setEnabled(available(action, container, activity))
        alive = container.status.alive
        self._buttons[ContainerAction.START].setVisible(not alive)
        self._buttons[ContainerAction.STOP].setVisible(alive)
        self._buttons[ContainerAction.RESTART].setVisible(True)
        for action, entry in self._menu_actions.items():
            entry.setEnabled(available(action, container, activity))
        self._show_open_button()
        self.home.show_container(container)
        self.logs.show_container(container)

    def show_details(self, details: ContainerDetails) -> None:
        if details.container.id == self.container_id:
            self.home.show_details(details)
            self.inspect.show_document(details.document)

    def show_preview(self, preview: Preview | None) -> None:
        """None while it is being fetched for the first time."""
        self.home.show_preview(preview)

    def show_log(self, store: LogStore) -> None:
        self.home.recent_logs.show_store(store)
        self.logs.view.show_store(store)

    def start_search(self) -> None:
        """Ctrl+F: the search of the tab in sight, the log's when the tab has none."""
        if self.tabs.currentIndex() == INSPECT:
            self.inspect.start_search()
        else:
            self.tabs.setCurrentIndex(LOGS)
            self.logs.start_search()

    def _connect(self, signal: SignalInstance, action: ContainerAction) -> None:
        signal.connect(lambda: self._intents.act.emit(action, self.container_id) if self._container else None)

    def _show_open_button(self) -> None:
        """Home has the same button beside the page's address."""
        container = self._container
        served = container is not None and container.status.alive and preview_port(container.ports) is not None
        self._open.setVisible(served and self.tabs.currentIndex() != HOME)

    def _open_page(self) -> None:
        port = preview_port(self._container.ports) if self._container else None
        if port is not None:
            self._intents.open_url.emit(port.url)

    def _copy_id(self) -> None:
        if self._container is not None:
            self._intents.copy_text.emit(self._container.id, "the id")
