"""The left side: filter, New, the containers with their states, the way to the other lists, and how the engine is."""

from __future__ import annotations

from PySide6.QtCore import QEvent, QModelIndex, QPersistentModelIndex, QPoint, QRectF, QSize, Qt, QTimer, Signal
from PySide6.QtGui import QColor, QFocusEvent, QFont, QFontMetrics, QHideEvent, QPainter, QShowEvent
from PySide6.QtWidgets import QFrame, QListView, QMenu, QStyle, QStyledItemDelegate, QStyleOptionViewItem, QWidget

from kitepy.gui.models.container import Container
from kitepy.gui.models.items import VALUE_ROLE, ValuesModel
from kitepy.gui.models.sidebar import Glyph, Row, rows
from kitepy.gui.models.state import DISCOVER, IMAGES, NETWORKS, PORTS, REGISTRIES, VOLUMES, AppState, EnginePhase, Route
from kitepy.gui.theme import tokens
from kitepy.gui.views.intents import Intents
from kitepy.gui.widgets.buttons import IconButton, TextButton
from kitepy.gui.widgets.glyph import SPIN_INTERVAL_MS, GlyphWidget, glyph_colour, paint_glyph
from kitepy.gui.widgets.labels import ElidedLabel, label
from kitepy.gui.widgets.layout import AppMark, column, row
from kitepy.gui.widgets.search_field import SearchField

WIDTH = 252
_ROW_HEIGHT = 50


class RowDelegate(QStyledItemDelegate):
    """Two lines and a glyph per container."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.turn_degrees = 0

    def sizeHint(self, option: QStyleOptionViewItem, _index: QModelIndex | QPersistentModelIndex) -> QSize:
        height = QFontMetrics(option.font).height()
        return QSize(100, max(_ROW_HEIGHT, 2 * height + 16))

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex) -> None:
        item: Row = index.data(VALUE_ROLE)
        look = tokens()
        box = QRectF(option.rect).adjusted(0, 1, 0, -1)
        state = option.state
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        if state & QStyle.StateFlag.State_Selected:
            painter.setBrush(QColor(look.selected))
            painter.drawRoundedRect(box, 8, 8)
        elif state & QStyle.StateFlag.State_MouseOver:
            painter.setBrush(QColor(look.hover))
            painter.drawRoundedRect(box, 8, 8)
        if state & QStyle.StateFlag.State_HasFocus and state & QStyle.StateFlag.State_Selected:
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.setPen(QColor(look.accent))
            painter.drawRoundedRect(box.adjusted(0.5, 0.5, -0.5, -0.5), 8, 8)
        paint_glyph(painter, QRectF(box.left() + 8, box.top(), 20, box.height()), item.glyph, look, self.turn_degrees)
        font = QFont(option.font)
        font.setWeight(QFont.Weight.DemiBold)
        painter.setFont(font)
        painter.setPen(QColor(look.text))
        half = box.height() / 2
        width = box.width() - 46
        title = painter.fontMetrics().elidedText(item.title, Qt.TextElideMode.ElideMiddle, int(width))
        bottom = Qt.AlignmentFlag.AlignBottom | Qt.AlignmentFlag.AlignLeft
        painter.drawText(QRectF(box.left() + 38, box.top(), width, half + 0.5), bottom, title)
        small = QFont(option.font)
        small.setPointSizeF(small.pointSizeF() * 0.9)
        painter.setFont(small)
        painter.setPen(QColor(look.muted if item.glyph in (Glyph.RUNNING, Glyph.STOPPED) else glyph_colour(item.glyph, look)))
        detail = painter.fontMetrics().elidedText(item.detail, Qt.TextElideMode.ElideRight, int(width))
        top = Qt.AlignmentFlag.AlignTop | Qt.AlignmentFlag.AlignLeft
        painter.drawText(QRectF(box.left() + 38, box.top() + half + 2, width, half), top, detail)
        painter.restore()


class ContainerList(QListView):
    """Rows of the sidebar; `chosen` is for clicks and Enter, `menu_wanted` for the context menu key and the right button."""

    chosen = Signal(object)
    menu_wanted = Signal(object, QPoint)

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("container-list")
        self.setAccessibleName("Containers")
        self.rows_model: ValuesModel[Row] = ValuesModel(lambda item: item.route, lambda item: item.spoken, self)
        self.setModel(self.rows_model)
        self._delegate = RowDelegate(self)
        self.setItemDelegate(self._delegate)
        self.setMouseTracking(True)
        self.setUniformItemSizes(True)
        self.setVerticalScrollMode(QListView.ScrollMode.ScrollPerPixel)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self.customContextMenuRequested.connect(self._want_menu)
        self._spinner = QTimer(self, interval=SPIN_INTERVAL_MS)
        self._spinner.timeout.connect(self._spin)
        self._showing = False
        self.selectionModel().currentChanged.connect(self._current_changed)
        self.clicked.connect(self._choose)
        self.activated.connect(self._choose)

    def show_rows(self, items: tuple[Row, ...], route: Route) -> None:
        self._showing = True
        self.rows_model.show(items)
        current = self.rows_model.row_of(route)
        if current < 0:
            self.selectionModel().clear()
        elif self.currentIndex().row() != current or not self.selectionModel().hasSelection():
            self.setCurrentIndex(self.rows_model.index(current))
        self._showing = False
        self._run_spinner()

    def _current_changed(self, index: QModelIndex) -> None:
        if not self._showing:
            self._choose(index)

    def _choose(self, index: QModelIndex) -> None:
        item = self.rows_model.value(index)
        if item is not None:
            self.chosen.emit(item.route)

    def focusInEvent(self, event: QFocusEvent) -> None:
        """Qt makes the first row current when the list gets the focus, with each return to the window too: nobody chose it."""
        self._showing = True
        super().focusInEvent(event)
        self._showing = False

    def _want_menu(self, point: QPoint) -> None:
        item = self.rows_model.value(self.indexAt(point))
        if item is not None:
            self.menu_wanted.emit(item.route, self.viewport().mapToGlobal(point))

    def _run_spinner(self) -> None:
        busy = any(item.glyph is Glyph.BUSY for item in self.rows_model.values)
        if busy and self.isVisible():
            self._spinner.start()
        else:
            self._spinner.stop()

    def _spin(self) -> None:
        self._delegate.turn_degrees = (self._delegate.turn_degrees + 24) % 360
        for number, item in enumerate(self.rows_model.values):
            if item.glyph is Glyph.BUSY:
                self.update(self.rows_model.index(number))

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._run_spinner()

    def hideEvent(self, event: QHideEvent) -> None:
        super().hideEvent(event)
        self._spinner.stop()


class Sidebar(QFrame):
    def __init__(self, intents: Intents, app_menu: QMenu) -> None:
        super().__init__()
        self.setObjectName("sidebar")
        self.setProperty("role", "sidebar")
        self.setFixedWidth(WIDTH)
        self._intents = intents
        self._state = AppState()

        self.filter = SearchField("Filter containers", "container-filter", self._show_rows)
        self.filter.setProperty("role", "filter")
        new = TextButton("New", "primary", "plus")
        new.setObjectName("new-button")
        new.setToolTip("Build or run something new (Ctrl+N)")
        new.clicked.connect(lambda: intents.navigate.emit(DISCOVER))
        menu_button = IconButton("more", "Menu")
        menu_button.setObjectName("app-menu-button")
        menu_button.setMenu(app_menu)
        menu_button.setPopupMode(IconButton.ToolButtonPopupMode.InstantPopup)

        self.list = ContainerList()
        self.list.chosen.connect(intents.navigate)
        self._count = label("", "small")
        self._empty = label("", "small", wrap=True)
        self._empty.setAlignment(Qt.AlignmentFlag.AlignTop)

        self._places = {
            IMAGES: self._place("Images", "images", IMAGES),
            VOLUMES: self._place("Volumes", "volume", VOLUMES),
            NETWORKS: self._place("Networks", "network", NETWORKS),
            PORTS: self._place("Ports", "port", PORTS),
            REGISTRIES: self._place("Registries", "registry", REGISTRIES),
        }

        self._engine_glyph = GlyphWidget()
        self._engine_text = ElidedLabel("", "small")
        self._engine_text.setObjectName("engine-status")

        self.setLayout(
            column(
                row(AppMark(24), label("Kitepy", "heading"), 0, menu_button, new, margins=(6, 0, 0, 0)),
                self.filter,
                row(label("Containers", "section"), 0, self._count, margins=(6, 6, 6, 0)),
                row(self._empty, margins=(6, 0, 6, 0)),
                self.list,
                column(*self._places.values(), spacing=2),
                row(self._engine_glyph, self._engine_text, 0, spacing=6, margins=(8, 6, 4, 2)),
                spacing=8,
                margins=(12, 14, 12, 10),
            )
        )

    def show_state(self, state: AppState) -> None:
        self._state = state
        self._show_rows()
        counts = {
            IMAGES: len(state.images) if state.images_list.loaded else None,
            VOLUMES: len(state.volumes) if state.volumes_list.loaded else None,
            NETWORKS: len(state.networks) if state.networks_list.loaded else None,
        }
        for route, button in self._places.items():
            button.setChecked(state.route.page is route.page)
            count = counts.get(route)
            title = route.page.value.capitalize()
            button.setText(title if count is None else f"{title}  {count}")
        glyph, text = _engine_line(state)
        self._engine_glyph.show_glyph(glyph)
        self._engine_text.set_text(text)
        self._engine_text.setToolTip(state.engine.why_root)
        self._engine_text.setAccessibleDescription(state.engine.why_root)

    def _place(self, title: str, icon: str, route: Route) -> TextButton:
        button = TextButton(title, "nav", icon)
        button.setObjectName(f"{route.page.value}-button")
        button.setCheckable(True)
        button.clicked.connect(lambda: self._intents.navigate.emit(route))
        return button

    def container(self, container_id: str) -> Container | None:
        return self._state.containers.get(container_id)

    def _show_rows(self) -> None:
        items = rows(self._state, self.filter.text())
        self.list.show_rows(items, self._state.route)
        alive = sum(container.status.alive for container in self._state.containers.values())
        self._count.setText(f"{alive} of {len(self._state.containers)} running" if self._state.containers else "")
        self._empty.setText(_empty_sentence(self._state, self.filter.text()))
        self._empty.setVisible(not items)

    def event(self, event: QEvent) -> bool:
        if event.type() == QEvent.Type.PaletteChange:
            self.list.viewport().update()
        return super().event(event)


def _engine_line(state: AppState) -> tuple[Glyph, str]:
    match state.engine.phase:
        case EnginePhase.STARTING:
            return Glyph.BUSY, "Starting the engine…"
        case EnginePhase.READY:
            suffix = " · as root" if state.engine.why_root else ""
            return Glyph.RUNNING, f"Engine {state.engine.version}".strip() + suffix
        case EnginePhase.RECONNECTING:
            return Glyph.BUSY, "Reconnecting to the engine…"
        case EnginePhase.FAILED:
            return Glyph.FAILED, "The engine isn't running"


def _empty_sentence(state: AppState, query: str) -> str:
    if query and state.containers:
        return f"No container matches “{query}”."
    if state.containers_list.error:
        return state.containers_list.error
    if not state.containers_list.loaded:
        return "Waiting for the engine…" if state.engine.phase is not EnginePhase.FAILED else ""
    return "No containers yet. Drop a folder with a Dockerfile anywhere on this window."
