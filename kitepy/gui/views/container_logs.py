"""The Logs tab: the whole log with search, follow, timestamps, copy and an emptied view."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtGui import QKeySequence, QShortcut
from PySide6.QtWidgets import QWidget

from kitepy.gui.models.container import Container
from kitepy.gui.views.intents import Intents
from kitepy.gui.widgets.buttons import IconButton
from kitepy.gui.widgets.labels import label
from kitepy.gui.widgets.layout import column, frame, row
from kitepy.gui.widgets.log_view import LogView
from kitepy.gui.widgets.search_field import SearchField


class ContainerLogs(QWidget):
    def __init__(self, intents: Intents) -> None:
        super().__init__()
        self.view = LogView()
        self.view.setObjectName("log-view")
        self._search = SearchField("Search the log", "log-search", self.view.search, width=240)
        self._search.returnPressed.connect(self.view.next_match)
        backwards = QShortcut(QKeySequence("Shift+Return"), self._search)
        backwards.setContext(Qt.ShortcutContext.WidgetShortcut)
        backwards.activated.connect(lambda: self.view.next_match(-1))
        leave = QShortcut(QKeySequence("Escape"), self._search)
        leave.setContext(Qt.ShortcutContext.WidgetShortcut)
        leave.activated.connect(self._leave_search)
        self._found = label("", "small")
        self._found.setObjectName("log-found")
        self.view.search_changed.connect(self._show_found)
        previous = IconButton("up", "Previous match")
        previous.clicked.connect(lambda: self.view.next_match(-1))
        following = IconButton("down", "Next match")
        following.clicked.connect(lambda: self.view.next_match(1))
        times = IconButton("clock", "Show timestamps", checkable=True)
        times.setObjectName("log-timestamps")
        times.toggled.connect(self.view.set_timestamps)
        follow = IconButton("follow", "Follow the end of the log", checkable=True)
        follow.setObjectName("log-follow")
        follow.setChecked(True)
        follow.clicked.connect(self.view.set_follow)
        self.view.follow_changed.connect(follow.setChecked)
        empty = IconButton("clear", "Empty this view (the log itself stays)")
        empty.setObjectName("log-clear")
        empty.clicked.connect(lambda: self.view.store.hide_all())
        copy = IconButton("copy", "Copy selection, or the whole log")
        copy.setObjectName("log-copy")
        copy.clicked.connect(self._copy)
        self._intents = intents
        tools = row(self._search, previous, following, self._found, 0, times, follow, empty, copy, spacing=4)
        self.setLayout(
            column(tools, frame("well", column(self.view, margins=(1, 1, 1, 1))), spacing=10, margins=(32, 16, 28, 24))
        )

    def show_container(self, container: Container) -> None:
        self.view.set_empty_text("No output yet." if container.status.alive else "It has written nothing.")

    def start_search(self) -> None:
        self._search.setFocus(Qt.FocusReason.ShortcutFocusReason)
        self._search.selectAll()

    def _leave_search(self) -> None:
        self._search.clear()
        self.view.setFocus()

    def _copy(self) -> None:
        text = self.view.selected_text()
        what = "the selection" if text else "the log"
        store = self.view.store
        self._intents.copy_text.emit(text or store.text(store.first_number, store.end_number), what)

    def _show_found(self, current: int, total: int, finished: bool) -> None:
        if not self._search.text():
            self._found.setText("")
        elif total:
            self._found.setText(f"{current} of {total}{'' if finished else '…'}")
        else:
            self._found.setText("No match" if finished else "Searching…")
