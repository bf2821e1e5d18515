"""The images on this machine: run one or remove it."""

from __future__ import annotations

import time

from PySide6.QtCore import QModelIndex, QPersistentModelIndex, QRectF, QSize, Qt, SignalInstance
from PySide6.QtGui import QColor, QFont, QFontMetrics, QPainter
from PySide6.QtWidgets import QListView, QStackedWidget, QStyle, QStyledItemDelegate, QStyleOptionViewItem, QWidget

from kitepy.gui import icons
from kitepy.gui.models.image import Image, readable_age, readable_size
from kitepy.gui.models.items import VALUE_ROLE, ValuesModel
from kitepy.gui.models.state import DISCOVER, AppState
from kitepy.gui.theme import tokens
from kitepy.gui.views.intents import Intents
from kitepy.gui.widgets.buttons import TextButton
from kitepy.gui.widgets.labels import label
from kitepy.gui.widgets.layout import Placeholder, column, frame, row
from kitepy.gui.widgets.search_field import SearchField


class ImageDelegate(QStyledItemDelegate):
    """Name and tags at the left, size and age at the right."""

    def sizeHint(self, option: QStyleOptionViewItem, _index: QModelIndex | QPersistentModelIndex) -> QSize:
        return QSize(200, 2 * QFontMetrics(option.font).height() + 22)

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex) -> None:
        image: Image = index.data(VALUE_ROLE)
        look = tokens()
        box = QRectF(option.rect).adjusted(4, 2, -4, -2)
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        if option.state & (QStyle.StateFlag.State_Selected | QStyle.StateFlag.State_MouseOver):
            painter.setBrush(QColor(look.selected if option.state & QStyle.StateFlag.State_Selected else look.hover))
            painter.drawRoundedRect(box, 8, 8)
        drawn = icons.pixmap("images", look.accent if image.tags else look.muted, 22, painter.device().devicePixelRatioF())
        painter.drawPixmap(int(box.left() + 12), int(box.center().y() - 11), drawn)
        bold = QFont(option.font)
        bold.setWeight(QFont.Weight.DemiBold)
        small = QFont(option.font)
        small.setPointSizeF(small.pointSizeF() * 0.9)
        left, right_width, half = box.left() + 48, 170.0, box.height() / 2
        width = box.width() - 48 - right_width - 16
        bottom, top = Qt.AlignmentFlag.AlignBottom, Qt.AlignmentFlag.AlignTop
        painter.setFont(bold)
        painter.setPen(QColor(look.text))
        title = painter.fontMetrics().elidedText(image.title, Qt.TextElideMode.ElideMiddle, int(width))
        painter.drawText(QRectF(left, box.top(), width, half), bottom | Qt.AlignmentFlag.AlignLeft, title)
        painter.setFont(small)
        right = QRectF(box.right() - right_width - 12, box.top(), right_width, half)
        painter.drawText(right, bottom | Qt.AlignmentFlag.AlignRight, readable_size(image.size_bytes))
        painter.setPen(QColor(look.muted))
        others = [tag.removesuffix(":latest") for tag in image.tags[1:]]
        detail = painter.fontMetrics().elidedText("  ".join([image.short_id, *others]), Qt.TextElideMode.ElideRight, int(width))
        painter.drawText(QRectF(left, box.top() + half + 2, width, half), top | Qt.AlignmentFlag.AlignLeft, detail)
        age = readable_age(time.time() - image.created_s) if image.created_s > 0 else ""
        used = f"used by {image.containers}" if image.containers > 0 else ""
        facts = " · ".join(part for part in (used, age) if part)
        painter.drawText(right.translated(0, half + 2), top | Qt.AlignmentFlag.AlignRight, facts)
        painter.restore()


class ImagesPage(QWidget):
    def __init__(self, intents: Intents) -> None:
        super().__init__()
        self.setObjectName("images-page")
        self._state = AppState()
        self._summary = label("", "muted")
        self.filter = SearchField("Filter images", "image-filter", self._show_images, width=220)
        self._run = TextButton("Run", "primary", "play")
        self._run.setObjectName("image-run")
        self._remove = TextButton("Remove…", "", "trash")
        self._remove.setObjectName("image-remove")
        self.list = QListView(uniformItemSizes=True)
        self.list.setMouseTracking(True)
        self.list.setObjectName("images-list")
        self.list.setAccessibleName("Images")
        self.list.setVerticalScrollMode(QListView.ScrollMode.ScrollPerPixel)
        self._model: ValuesModel[Image] = ValuesModel(lambda image: image.id, _spoken, self)
        self.list.setModel(self._model)
        self.list.setItemDelegate(ImageDelegate(self.list))
        self.list.selectionModel().selectionChanged.connect(self._selection_changed)
        self.list.activated.connect(lambda _index: self._emit(intents.run_image))
        self._run.clicked.connect(lambda: self._emit(intents.run_image))
        self._remove.clicked.connect(lambda: self._emit(intents.remove_image))
        self._placeholder = Placeholder("images")
        self._placeholder.acted.connect(lambda: self._act_on_placeholder(intents))
        self._body = QStackedWidget()
        self._body.addWidget(self._placeholder)
        self._body.addWidget(frame("card", column(self.list, margins=(4, 6, 4, 6))))
        self.setLayout(
            column(
                row(label("Images", "title"), self._summary, 0, self.filter, self._remove, self._run, spacing=12),
                8,
                self._body,
                spacing=8,
                margins=(32, 24, 32, 24),
            )
        )
        self._selection_changed()

    def show_state(self, state: AppState) -> None:
        self._state = state
        total = sum(image.size_bytes for image in state.images)
        self._summary.setText(f"{len(state.images)}, {readable_size(total)}" if state.images else "")
        self._show_images()

    def _show_images(self) -> None:
        state, query = self._state, self.filter.text().lower()
        newest = sorted(state.images, key=lambda image: image.created_s, reverse=True)
        shown = tuple(image for image in newest if query in f"{' '.join(image.tags)} {image.id}".lower())
        self._model.show(shown)
        self._body.setCurrentIndex(1 if shown else 0)
        if shown:
            if not self.list.currentIndex().isValid():
                self.list.setCurrentIndex(self._model.index(0))
        elif state.images_list.error:
            self._placeholder.say("The images couldn't be read", state.images_list.error, "Try again")
        elif not state.images_list.loaded:
            self._placeholder.say("Waiting for the engine…", "The images are listed as soon as it answers.")
        elif state.images:
            self._placeholder.say(
                "No image matches", f"None of {len(state.images)} images has “{self.filter.text()}” in its name."
            )
        else:
            self._placeholder.say("No images yet", "An image is what a container starts from. Build your first one.", "Build one")
        self._selection_changed()

    def _act_on_placeholder(self, intents: Intents) -> None:
        if self._state.images_list.error:
            intents.refresh.emit()
        else:
            intents.navigate.emit(DISCOVER)

    def _selection_changed(self) -> None:
        selected = self._model.value(self.list.currentIndex()) is not None
        self._run.setEnabled(selected)
        self._remove.setEnabled(selected)

    def _emit(self, signal: SignalInstance) -> None:
        image = self._model.value(self.list.currentIndex())
        if image is not None:
            signal.emit(image.reference)


def _spoken(image: Image) -> str:
    return f"{image.title}, {readable_size(image.size_bytes)}"
