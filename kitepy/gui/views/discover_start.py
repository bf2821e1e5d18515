"""What Discover shows before anything is searched: a place to drop a project, and this machine's images. Needs no network."""

from __future__ import annotations

import time

from PySide6.QtCore import QRectF, Qt
from PySide6.QtGui import QColor, QPainter, QPaintEvent, QPen, QResizeEvent
from PySide6.QtWidgets import QFrame, QGridLayout, QWidget

from kitepy.gui.models.image import Image, readable_age, readable_size
from kitepy.gui.models.state import IMAGES, AppState, EnginePhase
from kitepy.gui.theme import tokens
from kitepy.gui.views.intents import Intents
from kitepy.gui.widgets.buttons import TextButton
from kitepy.gui.widgets.labels import ElidedLabel, label
from kitepy.gui.widgets.layout import IconLabel, clear_layout, column, frame, row, scrolling

_MOST_CARDS = 12
_CARD_WIDTH = 236


class DropTarget(QWidget):
    """The dashed field in the middle; a click on its button opens a file chooser instead of dropping."""

    def __init__(self, intents: Intents) -> None:
        super().__init__()
        self.setObjectName("drop-target")
        self.setAccessibleName("Drop a folder with a Dockerfile here")
        choose_folder = TextButton("Choose a folder…", "primary", "folder")
        choose_folder.setObjectName("choose-folder-button")
        choose_folder.clicked.connect(intents.choose_folder)
        choose_file = TextButton("Choose a Dockerfile…", "", "file")
        choose_file.setObjectName("choose-dockerfile-button")
        choose_file.clicked.connect(intents.choose_dockerfile)
        text = label("Kitepy builds it, runs it and shows you the page it serves.", "muted")
        self.setLayout(
            column(
                row(0, IconLabel("drop", 44, "accent"), 0),
                row(0, label("Drop a folder with a Dockerfile", "heading"), 0),
                row(0, text, 0),
                8,
                row(0, choose_folder, choose_file, 0, spacing=10),
                spacing=8,
                margins=(24, 24, 24, 24),
            )
        )

    def paintEvent(self, _event: QPaintEvent) -> None:
        look = tokens()
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setBrush(QColor(look.surface))
        painter.setPen(QPen(QColor(look.strong_border), 1.6, Qt.PenStyle.CustomDashLine))
        pen = painter.pen()
        pen.setDashPattern([5, 4])
        painter.setPen(pen)
        painter.drawRoundedRect(QRectF(self.rect()).adjusted(1, 1, -1, -1), 14, 14)
        painter.end()


class DiscoverStart(QWidget):
    def __init__(self, intents: Intents) -> None:
        super().__init__()
        self._intents = intents
        self._shown: tuple[Image, ...] | None = None
        self._columns = 3
        self._grid = QGridLayout()
        self._grid.setSpacing(12)
        self._hint = label("", "muted", wrap=True)
        self._all = TextButton("All images", "flat")
        self._all.clicked.connect(lambda: intents.navigate.emit(IMAGES))
        content = QWidget()
        content.setLayout(
            column(
                DropTarget(intents),
                18,
                row(label("On this machine", "heading"), 0, self._all),
                self._hint,
                self._grid,
                0,
                spacing=6,
                margins=(32, 0, 32, 28),
            )
        )
        area = scrolling(content)
        self.setLayout(column(area))

    def show_state(self, state: AppState) -> None:
        self._hint.setText(_hint(state))
        self._hint.setVisible(bool(self._hint.text()))
        named = tuple(image for image in state.images if image.tags)
        newest = tuple(sorted(named, key=lambda image: image.created_s, reverse=True)[:_MOST_CARDS])
        self._all.setVisible(bool(state.images))
        if newest != self._shown:
            self._shown = newest
            self._fill()

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        columns = max(1, (self.width() - 64 + 12) // (_CARD_WIDTH + 12))
        if columns != self._columns:
            self._columns = columns
            self._fill()

    def _fill(self) -> None:
        clear_layout(self._grid)
        for position, image in enumerate(self._shown or ()):
            self._grid.addWidget(self._card(image), position // self._columns, position % self._columns)
        for position in range(4):
            self._grid.setColumnStretch(position, 1 if position < self._columns else 0)

    def _card(self, image: Image) -> QFrame:
        run = TextButton("Run", "", "play")
        run.setObjectName("image-card-run")
        run.setAccessibleName(f"Run {image.title}")
        run.clicked.connect(lambda: self._intents.run_image.emit(image.reference))
        age = readable_age(time.time() - image.created_s) if image.created_s > 0 else ""
        facts = " · ".join(part for part in (readable_size(image.size_bytes), age) if part)
        head = row(
            IconLabel("images", 22, "accent"), ElidedLabel(image.title, "card-title", Qt.TextElideMode.ElideMiddle), spacing=10
        )
        return frame("card", column(head, row(label(facts, "small"), 0, run), spacing=8, margins=(14, 12, 12, 12)))


def _hint(state: AppState) -> str:
    if state.images_list.error:
        return state.images_list.error
    if not state.images_list.loaded:
        if state.engine.phase is EnginePhase.STARTING:
            return "The engine is starting. You can drop a project already, it is built as soon as the engine is ready."
        return "Waiting for the engine…"
    if not any(image.tags for image in state.images):
        return "No images yet. The first one comes from a project that you drop."
    return ""
