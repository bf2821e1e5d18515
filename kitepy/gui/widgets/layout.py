"""Small layout pieces: rows, columns, cards, lines, a scrolling column, and what a page shows while it has no content."""

from __future__ import annotations

from PySide6.QtCore import QEvent, Qt, Signal
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QLayout, QScrollArea, QVBoxLayout, QWidget

from kitepy.gui import icons
from kitepy.gui.theme import tokens
from kitepy.gui.widgets.buttons import TextButton
from kitepy.gui.widgets.labels import label

Item = QWidget | QLayout | int
"""An int is a fixed space in pixels; 0 is a stretch."""


def column(*items: Item, spacing: int = 8, margins: tuple[int, int, int, int] = (0, 0, 0, 0)) -> QVBoxLayout:
    layout = QVBoxLayout()
    _fill(layout, items, spacing, margins)
    return layout


def row(*items: Item, spacing: int = 8, margins: tuple[int, int, int, int] = (0, 0, 0, 0)) -> QHBoxLayout:
    layout = QHBoxLayout()
    _fill(layout, items, spacing, margins)
    return layout


def _fill(layout: QVBoxLayout | QHBoxLayout, items: tuple[Item, ...], spacing: int, margins: tuple[int, int, int, int]) -> None:
    layout.setSpacing(spacing)
    layout.setContentsMargins(*margins)
    for item in items:
        if isinstance(item, QWidget):
            layout.addWidget(item)
        elif isinstance(item, QLayout):
            layout.addLayout(item)
        elif item == 0:
            layout.addStretch(1)
        else:
            layout.addSpacing(item)


def frame(role: str, layout: QLayout) -> QFrame:
    result = QFrame()
    result.setProperty("role", role)
    result.setLayout(layout)
    return result


def card(title: str, *items: Item, corner: QWidget | None = None) -> QFrame:
    """A rounded surface with a small heading and, at its right, room for one control."""
    head = row(label(title, "section"), 0, *([corner] if corner else []))
    return frame("card", column(head, *items, spacing=10, margins=(18, 14, 18, 16)))


def line() -> QFrame:
    result = QFrame()
    result.setProperty("role", "line")
    return result


def scrolling(content: QWidget) -> QScrollArea:
    area = QScrollArea()
    area.setWidgetResizable(True)
    area.setFrameShape(QFrame.Shape.NoFrame)
    area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    area.setWidget(content)
    area.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    return area


def clear_layout(layout: QLayout) -> None:
    """Takes everything out and lets Qt delete the widgets."""
    while layout.count():
        item = layout.takeAt(0)
        widget = item.widget() if item else None
        inner = item.layout() if item else None
        if widget is not None:
            widget.hide()
            widget.deleteLater()
        elif inner is not None:
            clear_layout(inner)


class IconLabel(QLabel):
    """An icon that follows the theme; `tone` names a colour token."""

    def __init__(self, name: str, size_px: int, tone: str = "muted") -> None:
        super().__init__()
        self._name, self._size_px, self._tone = name, size_px, tone
        self.setFixedSize(size_px, size_px)
        self._draw()

    def retone(self, tone: str) -> None:
        if tone != self._tone:
            self._tone = tone
            self._draw()

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.PaletteChange:
            self._draw()

    def _draw(self) -> None:
        colour = str(getattr(tokens(), self._tone))
        self.setPixmap(icons.pixmap(self._name, colour, self._size_px, self.devicePixelRatioF()))


class AppMark(QLabel):
    """The app's own icon."""

    def __init__(self, size_px: int) -> None:
        super().__init__()
        self.setFixedSize(size_px, size_px)
        self.setPixmap(icons.app_pixmap(size_px, self.devicePixelRatioF()))


class Placeholder(QWidget):
    """The loading, empty and error states of a page: an icon, one sentence, at most one action."""

    acted = Signal()

    def __init__(self, icon_name: str = "container", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._icon = IconLabel(icon_name, 48, "strong_border")
        self._title = label("", "heading")
        self._text = label("", "muted", wrap=True)
        self._button = TextButton("", "primary")
        self._button.clicked.connect(self.acted)
        self._button.hide()
        self._text.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._text.setFixedWidth(420)
        self._title.setAlignment(Qt.AlignmentFlag.AlignCenter)
        stack = column(0, row(0, self._icon, 0), 6, self._title, row(0, self._text, 0), 8, row(0, self._button, 0), 0, spacing=8)
        self.setLayout(stack)

    def say(self, title: str, text: str = "", action: str = "") -> None:
        self._title.setText(title)
        self._text.setText(text)
        self._text.setVisible(bool(text))
        self._button.relabel(action)
        self._button.setVisible(bool(action))
