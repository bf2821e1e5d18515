"""The mark for a state: each state has its own shape as well as its own colour."""

from __future__ import annotations

from PySide6.QtCore import QPointF, QRectF, Qt, QTimer
from PySide6.QtGui import QColor, QHideEvent, QPainter, QPaintEvent, QPen, QShowEvent
from PySide6.QtWidgets import QWidget

from kitepy.gui.models.sidebar import Glyph
from kitepy.gui.theme import Tokens, tokens

SPIN_INTERVAL_MS = 60


def glyph_colour(glyph: Glyph, look: Tokens) -> str:
    return {
        Glyph.RUNNING: look.success,
        Glyph.BUSY: look.accent,
        Glyph.PAUSED: look.warning,
        Glyph.STOPPED: look.muted,
        Glyph.FAILED: look.danger,
        Glyph.DONE: look.success,
    }[glyph]


def paint_glyph(painter: QPainter, box: QRectF, glyph: Glyph, look: Tokens, turn_degrees: int = 0) -> None:
    """Draws into the middle of `box`, 12 px wide; `turn_degrees` turns the busy ring."""
    painter.save()
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    colour = QColor(glyph_colour(glyph, look))
    centre = box.center()
    pen = QPen(colour, 1.8, Qt.PenStyle.SolidLine, Qt.PenCapStyle.RoundCap)
    match glyph:
        case Glyph.RUNNING:
            halo = QColor(colour)
            halo.setAlpha(55)
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(halo)
            painter.drawEllipse(centre, 6.5, 6.5)
            painter.setBrush(colour)
            painter.drawEllipse(centre, 4, 4)
        case Glyph.BUSY:
            faint = QColor(colour)
            faint.setAlpha(60)
            painter.setPen(QPen(faint, 1.8))
            painter.drawEllipse(centre, 5, 5)
            painter.setPen(pen)
            painter.drawArc(QRectF(centre.x() - 5, centre.y() - 5, 10, 10), (90 - turn_degrees) * 16, -110 * 16)
        case Glyph.PAUSED:
            painter.setPen(QPen(colour, 2.6, Qt.PenStyle.SolidLine, Qt.PenCapStyle.RoundCap))
            for offset in (-2.6, 2.6):
                painter.drawLine(QPointF(centre.x() + offset, centre.y() - 4), QPointF(centre.x() + offset, centre.y() + 4))
        case Glyph.STOPPED:
            painter.setPen(pen)
            painter.drawRoundedRect(QRectF(centre.x() - 4.2, centre.y() - 4.2, 8.4, 8.4), 2.2, 2.2)
        case Glyph.DONE:
            painter.setPen(QPen(colour, 2, Qt.PenStyle.SolidLine, Qt.PenCapStyle.RoundCap, Qt.PenJoinStyle.RoundJoin))
            points = [QPointF(centre.x() + x, centre.y() + y) for x, y in ((-4.5, 0.2), (-1.4, 3.4), (4.5, -3.4))]
            painter.drawPolyline(points)
        case Glyph.FAILED:
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(colour)
            painter.drawEllipse(centre, 6, 6)
            painter.setPen(QPen(QColor(look.surface), 1.7, Qt.PenStyle.SolidLine, Qt.PenCapStyle.RoundCap))
            painter.drawLine(QPointF(centre.x(), centre.y() - 3), QPointF(centre.x(), centre.y() + 0.4))
            painter.drawPoint(QPointF(centre.x(), centre.y() + 3))
    painter.restore()


class GlyphWidget(QWidget):
    """A glyph by itself; it only turns while it is busy and can be seen."""

    def __init__(self, glyph: Glyph = Glyph.STOPPED, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._glyph = glyph
        self._turn = 0
        self._timer = QTimer(self)
        self._timer.setInterval(SPIN_INTERVAL_MS)
        self._timer.timeout.connect(self._spin)
        self.setFixedSize(18, 18)

    def show_glyph(self, glyph: Glyph) -> None:
        self._glyph = glyph
        self._run_timer()
        self.update()

    def _run_timer(self) -> None:
        if self._glyph is Glyph.BUSY and self.isVisible():
            self._timer.start()
        else:
            self._timer.stop()

    def _spin(self) -> None:
        self._turn = (self._turn + 24) % 360
        self.update()

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._run_timer()

    def hideEvent(self, event: QHideEvent) -> None:
        super().hideEvent(event)
        self._timer.stop()

    def paintEvent(self, _event: QPaintEvent) -> None:
        painter = QPainter(self)
        paint_glyph(painter, QRectF(self.rect()), self._glyph, tokens(), self._turn)
        painter.end()
