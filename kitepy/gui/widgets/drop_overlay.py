"""What covers the window while something is dragged over it: where to let go and what will happen then."""

from __future__ import annotations

from PySide6.QtCore import QRectF, Qt
from PySide6.QtGui import QColor, QFont, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QWidget

from kitepy.gui import icons
from kitepy.gui.theme import tokens


class DropOverlay(QWidget):
    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setObjectName("drop-overlay")
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self._title = ""
        self._names = ""
        self.hide()

    def cover(self, names: str, title: str = "Drop to build and run") -> None:
        """Shows itself over the whole parent; `names` are what is being dragged, `title` what will become of it."""
        self._title, self._names = title, names
        self.setAccessibleName(title)
        parent = self.parentWidget()
        if parent is not None:
            self.setGeometry(parent.rect())
        self.raise_()
        self.show()

    def paintEvent(self, _event: QPaintEvent) -> None:
        look = tokens()
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        veil = QColor(look.window)
        veil.setAlpha(235)
        painter.fillRect(self.rect(), veil)
        box = QRectF(self.rect()).adjusted(22, 22, -22, -22)
        ground = QColor(look.accent_soft)
        ground.setAlpha(150)
        painter.setBrush(ground)
        painter.setPen(QPen(QColor(look.accent), 2.5, Qt.PenStyle.DashLine, Qt.PenCapStyle.RoundCap))
        painter.drawRoundedRect(box, 18, 18)
        centre = box.center()
        painter.drawPixmap(
            int(centre.x() - 32), int(centre.y() - 86), icons.pixmap("drop", look.accent, 64, self.devicePixelRatioF())
        )
        font = QFont(self.font())
        font.setPointSizeF(font.pointSizeF() * 1.75)
        font.setBold(True)
        painter.setFont(font)
        painter.setPen(QColor(look.text))
        centred = Qt.AlignmentFlag.AlignHCenter | Qt.AlignmentFlag.AlignTop
        painter.drawText(QRectF(box.left(), centre.y(), box.width(), 40), centred, self._title)
        painter.setFont(self.font())
        painter.setPen(QColor(look.muted))
        painter.drawText(QRectF(box.left(), centre.y() + 44, box.width(), 30), centred, self._names)
        painter.end()
