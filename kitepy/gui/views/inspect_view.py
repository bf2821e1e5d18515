"""The Inspect tab: the engine's whole answer about a container as a tree, with a filter over keys and values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication, QKeySequence, QShortcut
from PySide6.QtWidgets import QHeaderView, QTreeWidget, QTreeWidgetItem, QWidget

from kitepy.gui.theme import monospace_font
from kitepy.gui.views.intents import Intents
from kitepy.gui.widgets.buttons import TextButton
from kitepy.gui.widgets.layout import column, row
from kitepy.gui.widgets.search_field import SearchField


class InspectView(QWidget):
    def __init__(self, intents: Intents) -> None:
        super().__init__()
        self._document: Mapping[str, Any] = {}
        self._search = SearchField("Filter keys and values", "inspect-search", self._filter, width=280)
        copy = TextButton("Copy as JSON", "", "copy")
        copy.clicked.connect(lambda: intents.copy_text.emit(json.dumps(self._document, indent=2), "the JSON"))
        self._tree = QTreeWidget()
        self._tree.setObjectName("inspect-tree")
        self._tree.setAccessibleName("Inspect")
        self._tree.setColumnCount(2)
        self._tree.setHeaderLabels(["Key", "Value"])
        self._tree.setUniformRowHeights(True)
        self._tree.header().setSectionResizeMode(0, QHeaderView.ResizeMode.ResizeToContents)
        self._tree.setFont(monospace_font(0.95))
        shortcut = QShortcut(QKeySequence(QKeySequence.StandardKey.Copy), self._tree)
        shortcut.setContext(Qt.ShortcutContext.WidgetShortcut)
        shortcut.activated.connect(self._copy_value)
        self.setLayout(column(row(self._search, 0, copy), self._tree, spacing=10, margins=(32, 16, 28, 24)))

    def show_document(self, document: Mapping[str, Any]) -> None:
        if document == self._document:
            return
        self._document = document
        opened = {self._path(item) for item in self._every() if item.isExpanded()}
        self._tree.clear()
        for key, value in document.items():
            self._add(self._tree.invisibleRootItem(), key, value)
        for item in self._every():
            if self._path(item) in opened:
                item.setExpanded(True)
        self._filter(self._search.text())

    def start_search(self) -> None:
        self._search.setFocus(Qt.FocusReason.ShortcutFocusReason)
        self._search.selectAll()

    def _add(self, parent: QTreeWidgetItem, key: str, value: Any) -> None:
        inner: list[tuple[str, Any]] = []
        if isinstance(value, dict):
            inner = [(str(name), child) for name, child in value.items()]
            text = "" if inner else "{}"
        elif isinstance(value, list):
            inner = [(str(number), child) for number, child in enumerate(value)]
            text = f"{len(inner)} entries" if inner else "[]"
        else:
            text = value if isinstance(value, str) else json.dumps(value)
        item = QTreeWidgetItem(parent, [key, text])
        for name, child in inner:
            self._add(item, name, child)

    def _filter(self, query: str) -> None:
        words = query.lower()

        def show(item: QTreeWidgetItem, above: bool) -> bool:
            own = above or words in f"{item.text(0)} {item.text(1)}".lower()
            inner = [show(child, own) for child in _children(item)]
            seen = own or any(inner)
            item.setHidden(not seen)
            if words and any(inner):
                item.setExpanded(True)
            return seen

        for number in range(self._tree.topLevelItemCount()):
            top = self._tree.topLevelItem(number)
            if top is not None:
                show(top, not words)

    def _every(self) -> list[QTreeWidgetItem]:
        found: list[QTreeWidgetItem] = []
        waiting = [self._tree.invisibleRootItem()]
        while waiting:
            item = waiting.pop()
            children = _children(item)
            found += children
            waiting += children
        return found

    def _path(self, item: QTreeWidgetItem) -> tuple[str, ...]:
        parent = item.parent()
        return (*(self._path(parent) if parent is not None else ()), item.text(0))

    def _copy_value(self) -> None:
        item = self._tree.currentItem()
        if item is not None:
            QGuiApplication.clipboard().setText(item.text(1) or item.text(0))


def _children(item: QTreeWidgetItem) -> list[QTreeWidgetItem]:
    found = (item.child(number) for number in range(item.childCount()))
    return [child for child in found if child is not None]
