"""The registries that are searched and pulled from: who is logged in where, who keeps the login, and whether they answer."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import QPoint, Qt
from PySide6.QtWidgets import QMenu, QStackedWidget, QWidget

from kitepy.gui.models.registry import Registry
from kitepy.gui.models.state import AppState
from kitepy.gui.models.table import Column, TableModel
from kitepy.gui.models.trouble import Remedy
from kitepy.gui.views.intents import Intents
from kitepy.gui.widgets.buttons import TextButton
from kitepy.gui.widgets.labels import label
from kitepy.gui.widgets.layout import IconLabel, Placeholder, column, frame, row
from kitepy.gui.widgets.search_field import SearchField
from kitepy.gui.widgets.table import Table
from kitepy.gui.widgets.trouble import TroubleCard


def _connection(registry: Registry) -> str:
    if registry.mirrors:
        return f"mirror {', '.join(registry.mirrors)}"
    return "plain HTTP allowed" if registry.insecure else "TLS"


def _tone(registry: Registry) -> str:
    if registry.checking or not registry.state:
        return "muted"
    return "danger" if registry.trouble else "success"


_COLUMNS: tuple[Column[Registry], ...] = (
    Column("Registry", lambda item: item.title, tip=lambda item: item.host),
    Column("Logged in as", lambda item: item.account or "not logged in", tone=lambda item: "" if item.login else "muted"),
    Column("Login kept in", lambda item: item.kept_in, tone=lambda _item: "muted"),
    Column("Connection", _connection, tone=lambda item: "warning" if item.insecure else "muted"),
    Column("State", lambda item: item.state, tone=_tone, tip=lambda item: item.trouble.sentence if item.trouble else item.state),
)


class RegistriesPage(QWidget):
    def __init__(self, intents: Intents) -> None:
        super().__init__()
        self.setObjectName("registries-page")
        self._intents = intents
        self._state = AppState()
        self._summary = label("", "muted")
        self.filter = SearchField("Filter registries", "registry-filter", self._show_list, width=200)
        add = self._button("Add…", "primary", "plus", "registry-add", intents.add_registry.emit)
        self._log_in = self._button("Log in…", "", "key", "registry-log-in", lambda: self._act(intents.log_in.emit))
        self._log_out = self._button("Log out…", "", "unlink", "registry-log-out", lambda: self._act(intents.log_out.emit))
        self._check = self._button("Test", "", "refresh", "registry-check", lambda: self._act(intents.check_registry.emit))
        self._check.setToolTip("Ask it whether it answers and accepts the login")
        self._remove = self._button("Remove…", "", "trash", "registry-remove", lambda: self._act(intents.remove_registry.emit))
        model: TableModel[Registry] = TableModel(_COLUMNS, lambda item: item.host, self)
        self.list: Table[Registry] = Table("registries-list", "Registries", model, 2, {0: 190, 1: 130, 3: 150, 4: 170})
        self.list.selection_moved.connect(self._selection_moved)
        self.list.opened.connect(lambda item: intents.log_in.emit(item.host))
        self.list.menu_wanted.connect(self._menu)
        self._trouble = TroubleCard("registry-trouble", self._remedy, intents.copy_text.emit)
        self._notes = label("", wrap=True, selectable=True)
        self._notes.setObjectName("registry-notes")
        notes = row(IconLabel("info", 18, "warning"), self._notes, spacing=10, margins=(14, 10, 14, 10))
        notes.setStretch(1, 1)
        self._notes_frame = frame("card", notes)
        self._placeholder = Placeholder("registry")
        self._placeholder.acted.connect(intents.refresh.emit)
        self._body = QStackedWidget()
        self._body.addWidget(self._placeholder)
        self._body.addWidget(frame("card", column(self.list, margins=(6, 6, 6, 6))))
        whole = column(
            row(label("Registries", "title"), self._summary, 0, self.filter, spacing=12),
            row(0, self._remove, self._check, self._log_out, self._log_in, add, spacing=8),
            self._notes_frame,
            self._body,
            self._trouble,
            spacing=10,
            margins=(32, 24, 32, 24),
        )
        whole.setStretchFactor(self._body, 1)
        self.setLayout(whole)
        self._selection_moved()

    def show_state(self, state: AppState) -> None:
        self._state = state
        notes = "\n".join(state.registries.notes)
        self._notes.setText(notes)
        self._notes_frame.setVisible(bool(notes))
        self._show_list()

    def _show_list(self) -> None:
        registries, words = self._state.registries, self.filter.text().lower().split()
        shown = tuple(item for item in registries.known if all(word in _text_of(item) for word in words))
        logged_in = sum(item.login is not None for item in registries.known)
        self._summary.setText(f"{len(registries.known)}, logged in at {logged_in}" if registries.loaded else "")
        self.list.show_values(shown if registries.loaded else ())
        failed = bool(registries.error)
        self._body.setCurrentIndex(1 if shown and registries.loaded and not failed else 0)
        if failed:
            self._placeholder.say("The logins couldn't be read", registries.error, "Try again")
        elif not registries.loaded:
            self._placeholder.say("Reading the logins…", "A keyring may want to be unlocked first.")
        elif not shown:
            self._placeholder.say(
                "No registry matches", f"None of {len(registries.known)} has “{self.filter.text()}” in its row."
            )
        self._selection_moved()

    def _button(self, text: str, kind: str, icon: str, name: str, deed: Callable[[], None]) -> TextButton:
        button = TextButton(text, kind, icon)
        button.setObjectName(name)
        button.clicked.connect(lambda: deed())
        return button

    def _selection_moved(self) -> None:
        item = self.list.selected()
        self._log_in.setEnabled(item is not None)
        self._check.setEnabled(item is not None and not item.checking)
        self._log_out.setEnabled(item is not None and item.login is not None)
        self._remove.setEnabled(item is not None and item.can_go)
        self._trouble.show_trouble(item.trouble if item is not None else None, (Remedy.SEARCH, Remedy.SHOW_TAGS))

    def _act(self, deed: Callable[[str], None]) -> None:
        item = self.list.selected()
        if item is not None:
            deed(item.host)

    def _remedy(self, remedy: Remedy) -> None:
        if remedy is Remedy.LOG_IN:
            self._act(self._intents.log_in.emit)
        else:
            self._act(self._intents.check_registry.emit)

    def _menu(self, item: Registry, point: QPoint) -> None:
        menu = QMenu(self)
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        host = item.host
        menu.addAction("Log in…").triggered.connect(lambda: self._intents.log_in.emit(host))
        log_out = menu.addAction("Log out…")
        log_out.setEnabled(item.login is not None)
        log_out.triggered.connect(lambda: self._intents.log_out.emit(host))
        menu.addAction("Test").triggered.connect(lambda: self._intents.check_registry.emit(host))
        menu.addAction("Copy address").triggered.connect(lambda: self._intents.copy_text.emit(host, "the address"))
        remove = menu.addAction("Remove…")
        remove.setEnabled(item.can_go)
        remove.triggered.connect(lambda: self._intents.remove_registry.emit(host))
        menu.popup(point)


def _text_of(item: Registry) -> str:
    return f"{item.title} {item.host} {item.account} {item.kept_in} {item.state}".lower()
