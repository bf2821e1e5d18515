"""Every port of this machine that somebody holds, containers or other programs, and whether one is free."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import QPoint, Qt, QTimer
from PySide6.QtGui import QIntValidator
from PySide6.QtWidgets import QLineEdit, QMenu, QStackedWidget, QWidget

from kitepy.gui.models.ports import LAST_PORT, PortRow, filter_ports, port_rows
from kitepy.gui.models.sidebar import Glyph
from kitepy.gui.models.state import AppState, Page, Route
from kitepy.gui.models.table import Column, TableModel
from kitepy.gui.views.intents import Intents
from kitepy.gui.widgets.buttons import Choice, TextButton
from kitepy.gui.widgets.glyph import GlyphWidget
from kitepy.gui.widgets.labels import label
from kitepy.gui.widgets.layout import Placeholder, column, frame, row
from kitepy.gui.widgets.search_field import SearchField
from kitepy.gui.widgets.table import Table

# A port is asked about when its number stands still: each digit of 8080 is a port of its own.
_TYPING_MS = 200

_COLUMNS: tuple[Column[PortRow], ...] = (
    Column("Port", lambda port: str(port.port), lambda port: (port.port, port.protocol), right=True),
    Column("Protocol", lambda port: port.protocol.upper()),
    Column("Address", lambda port: port.address_text, tip=lambda port: port.exact_text),
    Column("Held by", lambda port: port.holder, tone=lambda port: "" if port.process or port.published else "muted"),
    Column("Kind", lambda port: "Container" if port.published else "This machine", tone=lambda _port: "muted"),
    Column(
        "Container port",
        lambda port: f"{port.container_port}/{port.protocol}" if port.container_port else "",
        lambda port: port.container_port or 0,
        right=True,
    ),
)


def _key(port: PortRow) -> object:
    return port.port, port.protocol, port.container_id, port.pid, port.user


class PortsPage(QWidget):
    def __init__(self, intents: Intents) -> None:
        super().__init__()
        self.setObjectName("ports-page")
        self._intents = intents
        self._state = AppState()
        self._rows: tuple[PortRow, ...] = ()
        self._made_of: tuple[object, object] | None = None
        self._summary = label("", "muted")
        self._summary.setObjectName("ports-summary")
        self.filter = SearchField("Filter ports", "port-filter", self._show_rows, width=200)

        self._open = TextButton("Open in browser", "primary", "external")
        self._open.setObjectName("port-open")
        self._copy = TextButton("Copy address", "", "copy")
        self._copy.setObjectName("port-copy")
        self._show = TextButton("Show container", "", "container")
        self._show.setObjectName("port-show")
        self._free = TextButton("Free…", "", "stop")
        self._free.setObjectName("port-free")
        self._free.setToolTip("Stop the container that holds the port")
        self._open.clicked.connect(lambda: self._act(self._open_row))
        self._copy.clicked.connect(lambda: self._act(self._copy_row))
        self._show.clicked.connect(lambda: self._act(self._show_row))
        self._free.clicked.connect(lambda: self._act(self._free_row))

        model: TableModel[PortRow] = TableModel(_COLUMNS, _key, self)
        self.list: Table[PortRow] = Table("ports-list", "Ports", model, 3, {0: 74, 1: 84, 2: 150, 4: 110, 5: 116})
        self.list.selection_moved.connect(self._selection_moved)
        self.list.opened.connect(self._open_or_show)
        self.list.menu_wanted.connect(self._menu)

        self._wanted = QLineEdit(placeholderText="8080", clearButtonEnabled=True)
        self._wanted.setObjectName("port-wanted")
        self._wanted.setAccessibleName("Port to check")
        self._wanted.setValidator(QIntValidator(1, LAST_PORT, self._wanted))
        self._wanted.setFixedWidth(110)
        self._protocol = Choice()
        self._protocol.setObjectName("port-protocol")
        self._protocol.setAccessibleName("Protocol to check")
        self._protocol.addItems(["TCP", "UDP", "SCTP"])
        self._answer = label("", wrap=True, selectable=True)
        self._answer.setObjectName("port-answer")
        self._answer.setSizePolicy(self._answer.sizePolicy().Policy.Expanding, self._answer.sizePolicy().Policy.Preferred)
        self._answer_glyph = GlyphWidget()
        self._typing = QTimer(self, singleShot=True, interval=_TYPING_MS)
        self._typing.timeout.connect(self._check)
        self._wanted.textChanged.connect(lambda _text: self._typing.start())
        self._wanted.returnPressed.connect(self._check)
        self._protocol.currentIndexChanged.connect(lambda _index: self._check())
        caption = label("Is a port free?", "strong")
        caption.setBuddy(self._wanted)
        check = frame(
            "card",
            row(caption, self._wanted, self._protocol, self._answer_glyph, self._answer, spacing=10, margins=(16, 10, 16, 10)),
        )

        self._placeholder = Placeholder("port")
        self._placeholder.acted.connect(intents.refresh)
        self._body = QStackedWidget()
        self._body.addWidget(self._placeholder)
        self._body.addWidget(frame("card", column(self.list, margins=(6, 6, 6, 6))))
        self._trouble = label("", "error", wrap=True)
        self._trouble.setObjectName("ports-trouble")
        self.setLayout(
            column(
                row(label("Ports", "title"), self._summary, 0, self.filter, spacing=12),
                row(0, self._free, self._show, self._copy, self._open, spacing=8),
                check,
                self._trouble,
                self._body,
                spacing=10,
                margins=(32, 24, 32, 24),
            )
        )
        self._selection_moved()

    def show_state(self, state: AppState) -> None:
        self._state = state
        if self._made_of is None or self._made_of[0] is not state.containers or self._made_of[1] is not state.listeners:
            self._made_of = (state.containers, state.listeners)
            self._rows = port_rows(state.containers.values(), state.listeners)
        published = sum(port.published for port in self._rows)
        self._summary.setText(f"{published} published, {len(self._rows) - published} of this machine" if self._rows else "")
        # What containers publish is shown even when the machine's own ports can't be read.
        self._trouble.setText(state.listeners_list.error)
        self._trouble.setVisible(bool(state.listeners_list.error and self._rows))
        self._show_answer()
        self._show_rows()

    def _show_rows(self) -> None:
        shown = filter_ports(self._rows, self.filter.text())
        self.list.show_values(shown)
        self._body.setCurrentIndex(1 if shown else 0)
        if not shown:
            self._say_why()

    def _say_why(self) -> None:
        state = self._state
        if self._rows:
            self._placeholder.say("No port matches", f"None of {len(self._rows)} ports has “{self.filter.text()}” in its row.")
        elif state.listeners_list.error:
            self._placeholder.say("The ports couldn't be read", state.listeners_list.error, "Try again")
        elif not state.listeners_list.loaded:
            self._placeholder.say("Reading the ports…", "")
        else:
            self._placeholder.say(
                "No port is in use", "Published ports of containers and those of other programs are listed here."
            )

    def _show_answer(self) -> None:
        answer = self._state.port_answer
        mine = answer is not None and self._wanted.text() == str(answer.port)
        self._answer_glyph.setVisible(mine)
        if answer is None or not mine:
            self._answer.setText("")
            return
        self._answer.setText(answer.text)
        self._answer_glyph.show_glyph(Glyph.DONE if answer.free else Glyph.FAILED)

    def _check(self) -> None:
        self._typing.stop()
        text = self._wanted.text()
        port = int(text) if self._wanted.hasAcceptableInput() else 0
        self._answer.setText("")
        self._answer_glyph.hide()
        self._intents.check_port.emit(port, self._protocol.currentText().lower())

    def _selection_moved(self) -> None:
        port = self.list.selected()
        self._copy.setEnabled(port is not None)
        self._open.setEnabled(port is not None and bool(port.as_port.url))
        for button in (self._show, self._free):
            button.setEnabled(port is not None and port.published)

    def _act(self, deed: Callable[[PortRow], None]) -> None:
        port = self.list.selected()
        if port is not None:
            deed(port)

    def _open_row(self, port: PortRow) -> None:
        if port.as_port.url:
            self._intents.open_url.emit(port.as_port.url)

    def _copy_row(self, port: PortRow) -> None:
        self._intents.copy_text.emit(port.as_port.address, "the address")

    def _show_row(self, port: PortRow) -> None:
        if port.container_id:
            self._intents.navigate.emit(Route(Page.CONTAINER, port.container_id))

    def _free_row(self, port: PortRow) -> None:
        if port.container_id:
            self._intents.free_port.emit(port.container_id)

    def _open_or_show(self, port: PortRow) -> None:
        if port.published:
            self._show_row(port)
        else:
            self._open_row(port)

    def _menu(self, port: PortRow, point: QPoint) -> None:
        menu = QMenu(self)
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        for title, deed, enabled in (
            ("Open in browser", self._open_row, bool(port.as_port.url)),
            ("Copy address", self._copy_row, True),
            ("Show container", self._show_row, port.published),
            ("Free…", self._free_row, port.published),
        ):
            entry = menu.addAction(title)
            entry.setEnabled(enabled)
            entry.triggered.connect(lambda _checked=False, deed=deed: deed(port))
        menu.popup(point)
