"""Draws one log line with its colours; measures with fractional advances so that columns stay true along a long line."""

from __future__ import annotations

from dataclasses import dataclass

from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QFont, QFontMetricsF, QPainter

from kitepy.gui.models.ansi import TRUE_COLOUR, Style, overwrite, spans
from kitepy.gui.models.log import STDERR, Line, clock_time
from kitepy.gui.theme import Tokens

TIMESTAMP_COLUMNS = 14


@dataclass(frozen=True)
class Mark:
    """A run of columns with another background: the selection or a search match."""

    start: int
    end: int
    colour: str


class LinePainter:
    """Bound to one font and one look; made anew when either changes."""

    def __init__(self, font: QFont, look: Tokens) -> None:
        self.look = look
        self._regular = font
        self._bold = QFont(font)
        self._bold.setBold(True)
        metrics = QFontMetricsF(font)
        self.advance = metrics.horizontalAdvance("0" * 64) / 64
        self.height = max(metrics.height(), metrics.lineSpacing()) + 2
        self._ascent = metrics.ascent() + 1

    def paint(
        self, painter: QPainter, x: float, y: float, line: Line, marks: list[Mark], *, timestamps: bool, width: float
    ) -> None:
        """`x` may be negative when scrolled; what lies outside of `width` is left out."""
        if line.stream == STDERR:
            bar = QColor(self.look.warning)
            painter.fillRect(QRectF(x - 7, y + 2, 2, self.height - 4), bar)
        if timestamps:
            painter.setFont(self._regular)
            painter.setPen(QColor(self.look.muted))
            painter.drawText(QPointF(x, y + self._ascent), clock_time(line.timestamp))
            x += TIMESTAMP_COLUMNS * self.advance
        for mark in marks:
            left = x + mark.start * self.advance
            painter.fillRect(QRectF(left, y, max(2.0, (mark.end - mark.start) * self.advance), self.height), QColor(mark.colour))
        first = max(0, int(-x / self.advance) - 1)
        last = int((width - x) / self.advance) + 2
        begin = 0
        for span in spans(overwrite(line.text)):
            end = begin + len(span.text)
            if end > first and begin < last:
                cut = span.text[max(0, first - begin) : last - begin]
                left = x + max(begin, first) * self.advance
                self._paint_span(painter, left, y, cut, span.style)
            begin = end

    def _paint_span(self, painter: QPainter, x: float, y: float, text: str, style: Style) -> None:
        foreground = self._colour(style.foreground) or QColor(self.look.text)
        background = self._colour(style.background)
        if style.inverse:
            foreground, background = background or QColor(self.look.log), foreground
        if style.faint:
            foreground.setAlpha(150)
        if background is not None:
            painter.fillRect(QRectF(x, y, len(text) * self.advance, self.height), background)
        painter.setFont(self._bold if style.bold else self._regular)
        painter.setPen(foreground)
        baseline = y + self._ascent
        if text.isascii():
            painter.drawText(QPointF(x, baseline), text.expandtabs(1))
        else:
            # Other scripts and symbols come from fonts with other widths: each keeps to its own column.
            for offset, character in enumerate(text):
                painter.drawText(QPointF(x + offset * self.advance, baseline), character)
        if style.underline:
            painter.drawLine(QPointF(x, baseline + 2), QPointF(x + len(text) * self.advance, baseline + 2))

    def _colour(self, value: int | None) -> QColor | None:
        if value is None:
            return None
        if value >= TRUE_COLOUR:
            return QColor.fromRgb(value - TRUE_COLOUR)
        if value < 16:
            return QColor(self.look.ansi[value])
        if value < 232:
            levels = (0, 95, 135, 175, 215, 255)
            cube = value - 16
            return QColor(levels[cube // 36], levels[cube // 6 % 6], levels[cube % 6])
        grey = 8 + (value - 232) * 10
        return QColor(grey, grey, grey)


def pen_for_hint(painter: QPainter, look: Tokens) -> None:
    painter.setPen(QColor(look.muted))
    painter.setBrush(Qt.BrushStyle.NoBrush)
