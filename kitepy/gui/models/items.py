"""The Qt item model for every list: a tuple of values in, roles out; keeps the view's place when only contents change."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from PySide6.QtCore import QAbstractListModel, QModelIndex, QObject, QPersistentModelIndex, Qt

Value = TypeVar("Value")
VALUE_ROLE = Qt.ItemDataRole.UserRole
Index = QModelIndex | QPersistentModelIndex


def plain_tip(text: str) -> str:
    """A tooltip that says just this: Qt would take what looks like markup for markup, and load what it names."""
    return f'<span style="white-space: pre-wrap">{html.escape(text)}</span>' if "<" in text or "&" in text else text


class KeyedRows(Generic[Value]):
    """What models of lists and tables have in common: a value a row, known over time by its key."""

    _key: Callable[[Value], Any]
    _values: tuple[Value, ...]

    @property
    def values(self) -> tuple[Value, ...]:
        """In the order of the rows."""
        return self._values

    def value(self, index: Index) -> Value | None:
        return self._values[index.row()] if index.isValid() and index.row() < len(self._values) else None

    def row_of(self, key: Any) -> int:
        """-1 when it isn't there."""
        return next((row for row, value in enumerate(self._values) if self._key(value) == key), -1)


class ValuesModel(QAbstractListModel, KeyedRows[Value]):
    """`key` tells which value is which over time, `spoken` is what assistive tools read."""

    def __init__(self, key: Callable[[Value], Any], spoken: Callable[[Value], str], parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._key = key
        self._spoken = spoken
        self._values: tuple[Value, ...] = ()

    def show(self, values: tuple[Value, ...]) -> None:
        """Reports only what changed: rows in place, one run inserted or removed, else a reset."""
        old, self_keys = [self._key(value) for value in self._values], [self._key(value) for value in values]
        if old == self_keys:
            changed = [row for row, value in enumerate(values) if value != self._values[row]]
            self._values = values
            for row in changed:
                self.dataChanged.emit(self.index(row), self.index(row))
            return
        start = 0
        while start < min(len(old), len(self_keys)) and old[start] == self_keys[start]:
            start += 1
        tail = 0
        while tail < min(len(old), len(self_keys)) - start and old[-1 - tail] == self_keys[-1 - tail]:
            tail += 1
        if len(old) == start + tail:
            self.beginInsertRows(QModelIndex(), start, len(self_keys) - tail - 1)
            self._values = values
            self.endInsertRows()
        elif len(self_keys) == start + tail:
            self.beginRemoveRows(QModelIndex(), start, len(old) - tail - 1)
            self._values = values
            self.endRemoveRows()
        else:
            self.beginResetModel()
            self._values = values
            self.endResetModel()
            return
        if values:
            self.dataChanged.emit(self.index(0), self.index(len(values) - 1))

    def rowCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008 - Qt's signature
        return 0 if parent.isValid() else len(self._values)

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        value = self.value(index)
        if value is None:
            return None
        if role == VALUE_ROLE:
            return value
        if role in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.AccessibleTextRole):
            return self._spoken(value)
        return None
