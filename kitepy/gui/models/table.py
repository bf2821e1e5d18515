"""The Qt item model for every table: a tuple of values and columns that say how each is shown and sorted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic

from PySide6.QtCore import QAbstractTableModel, QModelIndex, QObject, Qt

from kitepy.gui.models.items import VALUE_ROLE, Index, KeyedRows, Value, plain_tip

TONE_ROLE = Qt.ItemDataRole.UserRole + 1


@dataclass(frozen=True)
class Column(Generic[Value]):
    title: str
    text: Callable[[Value], str]
    order: Callable[[Value], Any] | None = None
    """What rows are sorted by, when that isn't the text."""
    right: bool = False
    tip: Callable[[Value], str] | None = None
    tone: Callable[[Value], str] | None = None
    """The name of a colour token."""


class TableModel(QAbstractTableModel, KeyedRows[Value]):
    """`key` tells which value is which over time. Values come in the order of their own until a column is sorted by."""

    def __init__(self, columns: tuple[Column[Value], ...], key: Callable[[Value], Any], parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._columns = columns
        self._key = key
        self._given: tuple[Value, ...] = ()
        self._values: tuple[Value, ...] = ()
        self._sort: tuple[int, Qt.SortOrder] | None = None

    def key_at(self, index: Index) -> Any:
        value = self.value(index)
        return None if value is None else self._key(value)

    def show(self, values: tuple[Value, ...]) -> None:
        """Rows that stay keep the view's place; others make it look for its row by key."""
        if values == self._given:
            return
        self._given = values
        ordered = self._ordered()
        if [self._key(value) for value in ordered] == [self._key(value) for value in self._values]:
            changed = [row for row, value in enumerate(ordered) if value != self._values[row]]
            self._values = ordered
            for row in changed:
                self.dataChanged.emit(self.index(row, 0), self.index(row, len(self._columns) - 1))
            return
        self.beginResetModel()
        self._values = ordered
        self.endResetModel()

    def sort(self, column: int, order: Qt.SortOrder = Qt.SortOrder.AscendingOrder) -> None:
        """A column of -1 gives the values' own order back."""
        self._sort = (column, order) if 0 <= column < len(self._columns) else None
        self.beginResetModel()
        self._values = self._ordered()
        self.endResetModel()

    def _ordered(self) -> tuple[Value, ...]:
        if self._sort is None:
            return self._given
        column = self._columns[self._sort[0]]
        order = column.order or (lambda value: column.text(value).lower())
        return tuple(sorted(self._given, key=order, reverse=self._sort[1] is Qt.SortOrder.DescendingOrder))

    def rowCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008 - Qt's signature
        return 0 if parent.isValid() else len(self._values)

    def columnCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008 - Qt's signature
        return 0 if parent.isValid() else len(self._columns)

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        if orientation is not Qt.Orientation.Horizontal:
            return None
        if role == Qt.ItemDataRole.DisplayRole:
            return self._columns[section].title
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return self._alignment(section)
        return None

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        value = self.value(index)
        if value is None:
            return None
        column = self._columns[index.column()]
        if role in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.AccessibleTextRole):
            return column.text(value)
        if role == Qt.ItemDataRole.ToolTipRole:
            return plain_tip(column.tip(value) if column.tip else column.text(value))
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return self._alignment(index.column())
        if role == VALUE_ROLE:
            return value
        if role == TONE_ROLE:
            return column.tone(value) if column.tone else ""
        return None

    def _alignment(self, section: int) -> Qt.AlignmentFlag:
        side = Qt.AlignmentFlag.AlignRight if self._columns[section].right else Qt.AlignmentFlag.AlignLeft
        return side | Qt.AlignmentFlag.AlignVCenter
