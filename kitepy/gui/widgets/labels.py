"""Text widgets: roles from the style sheet, text cut with an ellipsis, and the coloured pill for a state."""

from __future__ import annotations

from PySide6.QtCore import QRectF, QSize, Qt
from PySide6.QtGui import QColor, QPainter, QPaintEvent, QResizeEvent
from PySide6.QtWidgets import QLabel, QSizePolicy, QWidget

from kitepy.gui.models.items import plain_tip
from kitepy.gui.models.sidebar import Glyph
from kitepy.gui.theme import Tokens, tokens
from kitepy.gui.widgets.glyph import paint_glyph


def label(text: str = "", role: str = "", *, wrap: bool = False, selectable: bool = False) -> QLabel:
    """A plain-text label; text from outside is never read as markup."""
    result = QLabel(text)
    result.setTextFormat(Qt.TextFormat.PlainText)
    result.setProperty("role", role)
    result.setWordWrap(wrap)
    if selectable:
        result.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    return result


class ElidedLabel(QLabel):
    """One line that gives way: cut in the middle or at the end when there is no room, whole in its tooltip."""

    def __init__(self, text: str = "", role: str = "", mode: Qt.TextElideMode = Qt.TextElideMode.ElideRight) -> None:
        super().__init__()
        self._whole = text
        self._mode = mode
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setProperty("role", role)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        self.set_text(text)

    def set_text(self, text: str) -> None:
        self._whole = text
        self.setAccessibleName(text)
        self._cut()
        self.updateGeometry()

    def whole_text(self) -> str:
        return self._whole

    def minimumSizeHint(self) -> QSize:
        return QSize(min(40, super().minimumSizeHint().width()), super().minimumSizeHint().height())

    def sizeHint(self) -> QSize:
        return QSize(self.fontMetrics().horizontalAdvance(self._whole) + 4, super().sizeHint().height())

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._cut()

    def _cut(self) -> None:
        shown = self.fontMetrics().elidedText(self._whole, self._mode, max(0, self.width()))
        if self.text() != shown:
            self.setText(shown)
        self.setToolTip(plain_tip(self._whole) if shown != self._whole else "")


def pill_colours(glyph: Glyph, look: Tokens) -> tuple[str, str]:
    """(text, background)."""
    return {
        Glyph.RUNNING: (look.success, look.success_soft),
        Glyph.BUSY: (look.accent, look.accent_soft),
        Glyph.PAUSED: (look.warning, look.warning_soft),
        Glyph.STOPPED: (look.muted, look.pressed),
        Glyph.FAILED: (look.danger, look.danger_soft),
        Glyph.DONE: (look.success, look.success_soft),
    }[glyph]


class Pill(QWidget):
    """A state as a word on a rounded ground with its glyph."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._glyph = Glyph.STOPPED
        self._text = ""
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)

    def show_state(self, glyph: Glyph, text: str) -> None:
        self._glyph, self._text = glyph, text
        self.setAccessibleName(text)
        self.updateGeometry()
        self.update()

    def text(self) -> str:
        return self._text

    def sizeHint(self) -> QSize:
        metrics = self.fontMetrics()
        return QSize(metrics.horizontalAdvance(self._text) + 38, metrics.height() + 10)

    def paintEvent(self, _event: QPaintEvent) -> None:
        look = tokens()
        foreground, background = pill_colours(self._glyph, look)
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(background))
        box = QRectF(self.rect())
        painter.drawRoundedRect(box, box.height() / 2, box.height() / 2)
        paint_glyph(painter, QRectF(6, 0, 18, box.height()), self._glyph, look)
        painter.setPen(QColor(foreground))
        painter.drawText(box.adjusted(27, 0, -8, 0), Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft, self._text)
        painter.end()
