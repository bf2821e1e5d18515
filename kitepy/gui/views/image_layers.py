"""The layers of an image: the steps that made them beside the files of the one that is chosen, with what it did to each."""

from __future__ import annotations

from PySide6.QtCore import QModelIndex, QPoint, Qt
from PySide6.QtGui import QFont, QFontMetrics
from PySide6.QtWidgets import (
    QAbstractItemView,
    QButtonGroup,
    QHeaderView,
    QMenu,
    QPlainTextEdit,
    QSplitter,
    QStackedWidget,
    QTreeView,
    QWidget,
)

from kitepy.gui.models.image import readable_size
from kitepy.gui.models.image_detail import ImageStep, Looking
from kitepy.gui.models.image_tree import ImageTreeModel
from kitepy.gui.models.table import Column, TableModel
from kitepy.gui.models.volume import Browsing
from kitepy.gui.theme import monospace_font
from kitepy.gui.views.intents import Intents
from kitepy.gui.widgets.buttons import TextButton
from kitepy.gui.widgets.labels import ElidedLabel
from kitepy.gui.widgets.layout import Placeholder, card, column, row
from kitepy.gui.widgets.table import Table, ToneDelegate

Row = tuple[int, ImageStep, int | None]
"""Its place in the history, the step, and the bytes of its layer."""


def _layer(item: Row) -> str:
    return "" if item[1].layer is None else str(item[1].layer + 1)


_COLUMNS: tuple[Column[Row], ...] = (
    Column("Layer", _layer, lambda item: item[0], right=True),
    Column("Size", lambda item: "" if item[2] is None else readable_size(item[2]), lambda item: item[2] or 0, right=True),
    Column(
        "Made by",
        lambda item: item[1].words,
        tip=lambda item: item[1].created_by[:2000],
        tone=lambda item: "muted" if item[1].layer is None else "",
    ),
)


class ImageLayersView(QWidget):
    def __init__(self, intents: Intents) -> None:
        super().__init__()
        self._intents = intents
        self._looking = Looking()
        model: TableModel[Row] = TableModel(_COLUMNS, lambda item: item[0], self)
        self.steps: Table[Row] = Table("image-steps", "Steps that made this image", model, 2, {0: 64, 1: 76})
        self.steps.selection_moved.connect(self._step_chosen)
        self.command = QPlainTextEdit(readOnly=True)
        self.command.setObjectName("image-command")
        self.command.setAccessibleName("What the step did")
        self.command.setFont(monospace_font(0.92))
        self.command.setFixedHeight(92)
        self.command.setTabChangesFocus(True)
        left = card("Steps, the first on top", self.steps, self.command)
        self._own = self._toggle("This layer's changes", "image-own", True)
        self._all = self._toggle("All up to here", "image-all", False)
        group = QButtonGroup(self)
        for button in (self._own, self._all):
            group.addButton(button)
        self.tree = QTreeView()
        self.tree.setObjectName("image-files")
        self.tree.setAccessibleName("Files of the layer")
        self.tree.setProperty("role", "files")
        self.tree.setUniformRowHeights(True)
        self.tree.setIndentation(14)
        self.tree.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.tree.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self.tree.customContextMenuRequested.connect(self._menu)
        self.model = ImageTreeModel(self)
        self.model.folder_wanted.connect(intents.open_image_folder)
        self.tree.setModel(self.model)
        self.tree.setItemDelegate(ToneDelegate(self.tree))
        self.tree.activated.connect(self._activated)
        header = self.tree.header()
        header.setStretchLastSection(False)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        for section, width in ((1, 70), (2, 50), (3, 56), (4, 50)):
            header.resizeSection(section, width)
        self._counts = ElidedLabel("", "muted")
        self._counts.setObjectName("image-layer-counts")
        self._placeholder = Placeholder("folder")
        self._placeholder.acted.connect(intents.refresh)
        self._body = QStackedWidget()
        self._body.addWidget(self._placeholder)
        self._body.addWidget(self.tree)
        right = card("Files", row(self._own, self._all, 0, spacing=6), self._body, self._counts)
        splitter = QSplitter(Qt.Orientation.Horizontal)
        splitter.addWidget(left)
        splitter.addWidget(right)
        splitter.setChildrenCollapsible(False)
        splitter.setHandleWidth(14)
        splitter.setStretchFactor(0, 2)
        splitter.setStretchFactor(1, 3)
        splitter.setSizes([340, 510])
        self.setLayout(column(splitter))

    def show_looking(self, looking: Looking) -> None:
        before, self._looking = self._looking, looking
        layers = looking.layers
        if layers is None:
            self.steps.show_values(())
            self.command.setPlainText("")
            self._counts.set_text("")
            self._show_placeholder("Reading the layers…" if not looking.error else "The image can't be shown", looking.error)
            return
        sizes = {layer.number: layer.size_bytes for layer in layers.layers}
        rows = tuple(
            (number, step, None if step.layer is None else sizes.get(step.layer)) for number, step in enumerate(layers.steps)
        )
        anew = before.image_id != looking.image_id or before.layers is None or before.layer != looking.layer
        self.steps.show_values(rows)
        if anew:
            self._choose(looking.layer)
        for button, own in ((self._own, True), (self._all, False)):
            button.setChecked(looking.own is own)
        self._show_files()

    def _show_files(self) -> None:
        looking, layers = self._looking, self._looking.layers
        if layers is None:
            return
        step = self._step()
        has_files = step is not None and step.layer is not None and layers.browsable
        for button in (self._own, self._all):
            button.setEnabled(has_files)
        layer = next((each for each in layers.layers if step is not None and each.number == step.layer), None)
        self._counts.set_text(self._words(layer.words if layer else ""))
        if not layers.browsable:
            self._show_placeholder("No files", "This engine can't show what is in layers; Kitepy's own can.")
            return
        if not has_files:
            self._show_placeholder(
                "No files", "This step changes only the configuration." if step else "The image has no layers."
            )
            return
        # All of it is of this layer then, and deep trees need the room.
        self.tree.setColumnHidden(2, looking.own)
        self.model.show(Browsing(looking.view, looking.folders))
        root = looking.folders.get("/")
        if root is None:
            self._show_placeholder("Reading the files…")
        elif root.error:
            self._show_placeholder("The files can't be shown", root.error, "Try again")
        elif not root.entries:
            self._show_placeholder("Empty", "There are no files in this layer.")
        else:
            self._body.setCurrentIndex(1)

    def _words(self, counts: str) -> str:
        if self._looking.usage_error:
            return self._looking.usage_error
        return f"{counts}   ·   + added  ~ changed  − removed" if counts else ""

    def _show_placeholder(self, title: str, text: str = "", action: str = "") -> None:
        self._placeholder.say(title, text, action)
        self._body.setCurrentIndex(0)

    def _step(self) -> ImageStep | None:
        item = self.steps.selected()
        return item[1] if item is not None else None

    def _choose(self, layer: int) -> None:
        for number, (_, step, _size) in enumerate(self.steps.rows.values):
            if step.layer == layer:
                self.steps.setCurrentIndex(self.steps.rows.index(number, 0))

    def _step_chosen(self) -> None:
        step, looking = self._step(), self._looking
        text = "" if step is None else "\n".join(part for part in (step.created_by, step.comment) if part)
        if self.command.toPlainText() != text:
            self.command.setPlainText(text)
        if step is not None and step.layer is not None and looking.layers is not None and step.layer != looking.layer:
            self._intents.look_at_layer.emit(step.layer, looking.own)
        else:
            self._show_files()

    def _toggle(self, text: str, name: str, own: bool) -> TextButton:
        button = TextButton(text, "nav")
        button.setObjectName(name)
        button.setCheckable(True)
        button.setChecked(own)
        bold = QFont(button.font())
        bold.setWeight(QFont.Weight.DemiBold)
        # The one that is chosen is bold, and must not become wider by that.
        button.setMinimumWidth(QFontMetrics(bold).horizontalAdvance(text) + 30)
        button.clicked.connect(lambda: self._intents.look_at_layer.emit(self._looking.layer, own))
        return button

    def _activated(self, index: QModelIndex) -> None:
        path = self.model.folder_with_more(index)
        if path:
            self._intents.more_image_files.emit(path)

    def _menu(self, point: QPoint) -> None:
        index = self.tree.indexAt(point)
        if index.isValid():
            self.tree.setCurrentIndex(index)
        index = self.tree.currentIndex()
        if self.model.entry(index) is None:
            return
        path = self.model.path(index)
        menu = QMenu(self)
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        menu.addAction("Copy path").triggered.connect(lambda: self._intents.copy_text.emit(path, "the path"))
        menu.popup(self.tree.viewport().mapToGlobal(point))
