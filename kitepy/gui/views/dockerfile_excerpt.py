"""A few lines of a Dockerfile with one of them marked."""

from __future__ import annotations

from PySide6.QtCore import QRectF, QSize, Qt
from PySide6.QtGui import QColor, QFontMetricsF, QPainter, QPaintEvent
from PySide6.QtWidgets import QSizePolicy, QWidget

from kitepy.gui.theme import monospace_font, tokens

_AROUND = 2
_PADDING = 8


class DockerfileExcerpt(QWidget):
    def __init__(self) -> None:
        super().__init__()
        self._lines: list[tuple[int, str]] = []
        self._marked = 0
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def show_line(self, source: str, number: int) -> None:
        rows = source.splitlines()
        first = max(1, number - _AROUND)
        self._lines = [(row, rows[row - 1]) for row in range(first, min(len(rows), number + _AROUND) + 1)]
        self._marked = number
        self.setAccessibleName(f"Line {number}: {rows[number - 1] if number <= len(rows) else ''}")
        self.updateGeometry()
        self.update()

    def sizeHint(self) -> QSize:
        height = QFontMetricsF(monospace_font()).lineSpacing() + 3
        return QSize(200, int(height * len(self._lines)) + 2 * _PADDING)

    def paintEvent(self, _event: QPaintEvent) -> None:
        look = tokens()
        font = monospace_font()
        height = QFontMetricsF(font).lineSpacing() + 3
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(look.log))
        painter.drawRoundedRect(QRectF(self.rect()), 8, 8)
        painter.setFont(font)
        gutter = painter.fontMetrics().horizontalAdvance("0000 ")
        for position, (number, text) in enumerate(self._lines):
            box = QRectF(0, _PADDING + position * height, self.width(), height)
            if number == self._marked:
                painter.fillRect(box, QColor(look.danger_soft))
                painter.fillRect(QRectF(0, box.top(), 3, height), QColor(look.danger))
            middle = Qt.AlignmentFlag.AlignVCenter
            painter.setPen(QColor(look.danger if number == self._marked else look.muted))
            painter.drawText(QRectF(0, box.top(), gutter, height), middle | Qt.AlignmentFlag.AlignRight, str(number))
            painter.setPen(QColor(look.text))
            painter.drawText(QRectF(gutter + 14, box.top(), self.width(), height), middle | Qt.AlignmentFlag.AlignLeft, text)
        painter.end()
