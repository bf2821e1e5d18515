"""A table that can be sorted by its heads, keeps its row over changes, and works by keyboard."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from PySide6.QtCore import QModelIndex, QPersistentModelIndex, QPoint, Qt, Signal
from PySide6.QtGui import QColor, QPalette
from PySide6.QtWidgets import QAbstractItemView, QHeaderView, QStyledItemDelegate, QStyleOptionViewItem, QTreeView

from kitepy.gui.models.table import TONE_ROLE, TableModel
from kitepy.gui.theme import tokens

Value = TypeVar("Value")


class ToneDelegate(QStyledItemDelegate):
    def initStyleOption(self, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex) -> None:
        super().initStyleOption(option, index)
        if tone := index.data(TONE_ROLE):
            colour = QColor(str(getattr(tokens(), tone)))
            option.palette.setColor(QPalette.ColorRole.Text, colour)
            option.palette.setColor(QPalette.ColorRole.HighlightedText, colour)


class Table(QTreeView, Generic[Value]):
    opened = Signal(object)
    """A row was double-clicked, or Enter pressed on it."""
    menu_wanted = Signal(object, QPoint)
    selection_moved = Signal()

    def __init__(self, name: str, title: str, model: TableModel[Value], stretch: int, widths: dict[int, int]) -> None:
        super().__init__()
        self.rows: TableModel[Value] = model
        self._kept: Any = None
        self.setObjectName(name)
        self.setAccessibleName(title)
        self.setProperty("role", "table")
        self.setModel(model)
        self.setItemDelegate(ToneDelegate(self))
        self.setRootIsDecorated(False)
        self.setUniformRowHeights(True)
        self.setAllColumnsShowFocus(True)
        self.setSortingEnabled(True)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        header = self.header()
        header.setStretchLastSection(False)
        header.setSortIndicatorClearable(True)
        header.setSortIndicator(-1, Qt.SortOrder.AscendingOrder)
        header.setHighlightSections(False)
        for column in range(model.columnCount()):
            header.setSectionResizeMode(column, QHeaderView.ResizeMode.Interactive)
        for column, width in widths.items():
            header.resizeSection(column, width)
        header.setSectionResizeMode(stretch, QHeaderView.ResizeMode.Stretch)
        model.modelAboutToBeReset.connect(self._keep)
        model.modelReset.connect(self._find_again)
        self.customContextMenuRequested.connect(self._want_menu)
        self.activated.connect(self._open)
        self.selectionModel().selectionChanged.connect(lambda *_: self.selection_moved.emit())

    def selected(self) -> Value | None:
        return self.rows.value(self.currentIndex())

    def show_values(self, values: tuple[Value, ...]) -> None:
        """There is always a row to act on."""
        self.rows.show(values)
        if values and not self.currentIndex().isValid():
            self.setCurrentIndex(self.rows.index(0, 0))
        self.selection_moved.emit()

    def _keep(self) -> None:
        self._kept = self.rows.key_at(self.currentIndex())

    def _find_again(self) -> None:
        row = -1 if self._kept is None else self.rows.row_of(self._kept)
        if row >= 0:
            self.setCurrentIndex(self.rows.index(row, 0))

    def _open(self, index: QModelIndex) -> None:
        value = self.rows.value(index)
        if value is not None:
            self.opened.emit(value)

    def _want_menu(self, point: QPoint) -> None:
        index = self.indexAt(point)
        # The menu key asks at the middle of the widget or at the pointer, wherever that is: the current row is meant.
        value = self.rows.value(index if index.isValid() else self.currentIndex())
        if value is not None:
            place = point if index.isValid() else self.visualRect(self.currentIndex()).center()
            self.menu_wanted.emit(value, self.viewport().mapToGlobal(place))
