"""Bars for what comes from a registry or goes to one: a bar for the whole, and a list with a bar a layer."""

from __future__ import annotations

from PySide6.QtCore import QModelIndex, QPersistentModelIndex, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QFont, QFontMetrics, QPainter, QPaintEvent
from PySide6.QtWidgets import QListView, QSizePolicy, QStyle, QStyledItemDelegate, QStyleOptionViewItem, QWidget

from kitepy.gui.models.items import VALUE_ROLE, ValuesModel
from kitepy.gui.models.sidebar import Glyph
from kitepy.gui.models.transfer import Layer, LayerPhase, Transfer
from kitepy.gui.theme import Tokens, monospace_font, tokens
from kitepy.gui.widgets.glyph import paint_glyph

BAR_HEIGHT = 6

_LAYER_GLYPHS = {
    LayerPhase.WAITING: Glyph.STOPPED,
    LayerPhase.MOVING: Glyph.BUSY,
    LayerPhase.PUSHING: Glyph.BUSY,
    LayerPhase.RETRYING: Glyph.PAUSED,
    LayerPhase.STOPPED: Glyph.PAUSED,
    LayerPhase.VERIFYING: Glyph.BUSY,
    LayerPhase.MOVED: Glyph.BUSY,
    LayerPhase.UNPACKING: Glyph.BUSY,
    LayerPhase.DONE: Glyph.DONE,
    LayerPhase.EXISTS: Glyph.DONE,
}


def paint_bar(painter: QPainter, box: QRectF, share: float, look: Tokens, tone: str = "accent", above: float = 0.0) -> None:
    """`above` is a second share drawn over the first one in the full colour; what is below it is paler then."""
    radius = box.height() / 2
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(QColor(look.pressed))
    painter.drawRoundedRect(box, radius, radius)
    full = QColor(str(getattr(look, tone)))
    pale = QColor(full)
    pale.setAlphaF(0.45)
    for part, colour in ((share, pale if above > 0 else full), (above, full)):
        if part > 0:
            painter.setBrush(colour)
            painter.drawRoundedRect(QRectF(box.x(), box.y(), max(box.height(), box.width() * part), box.height()), radius, radius)


class ShareBar(QWidget):
    """How much of something is done, between 0 and 1; None says only that it goes on."""

    def __init__(self, name: str, title: str) -> None:
        super().__init__()
        self._share: float | None = None
        self._tone = "accent"
        self.setObjectName(name)
        self.setAccessibleName(title)
        self.setFixedHeight(BAR_HEIGHT)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def show_share(self, share: float | None, words: str, tone: str = "accent") -> None:
        """`words` are what assistive tools say."""
        self.setAccessibleDescription(words)
        if (share, tone) != (self._share, self._tone):
            self._share, self._tone = share, tone
            self.update()

    def share(self) -> float | None:
        return self._share

    def paintEvent(self, _event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        paint_bar(painter, QRectF(self.rect()), self._share or 0.0, tokens(), self._tone)
        painter.end()


class _LayerDelegate(QStyledItemDelegate):
    """A glyph, the short digest, what goes on, and the bar: pale what has arrived, full what is unpacked."""

    def sizeHint(self, option: QStyleOptionViewItem, _index: QModelIndex | QPersistentModelIndex) -> QSize:
        return QSize(100, QFontMetrics(option.font).height() + 26)

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex) -> None:
        layer: Layer = index.data(VALUE_ROLE)
        look = tokens()
        box = QRectF(option.rect).adjusted(2, 1, -2, -1)
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        if option.state & QStyle.StateFlag.State_Selected:
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(QColor(look.selected))
            painter.drawRoundedRect(box, 8, 8)
        paint_glyph(painter, QRectF(box.left() + 6, box.top(), 20, box.height()), _LAYER_GLYPHS[layer.phase], look)
        left, width = box.left() + 36, box.width() - 48
        line = QRectF(left, box.top() + 5, width, QFontMetrics(option.font).height() + 2)
        mono = monospace_font(0.95)
        painter.setFont(mono)
        painter.setPen(QColor(look.text))
        painter.drawText(line, Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft, layer.id)
        used = QFontMetrics(mono).horizontalAdvance(layer.id) + 24
        small = QFont(option.font)
        small.setPointSizeF(small.pointSizeF() * 0.92)
        painter.setFont(small)
        painter.setPen(QColor(look.warning if layer.phase is LayerPhase.RETRYING else look.muted))
        words = painter.fontMetrics().elidedText(layer.words, Qt.TextElideMode.ElideRight, int(max(0, width - used)))
        painter.drawText(line, Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignRight, words)
        bar = QRectF(left, line.bottom() + 4, width, BAR_HEIGHT)
        tone = "success" if layer.phase.ended else "warning" if layer.phase is LayerPhase.RETRYING else "accent"
        # What has arrived is pale while it is unpacked, even before the first figure of that.
        unpacked = max(layer.unpacked, 0.001) if layer.phase is LayerPhase.UNPACKING else 0.0
        paint_bar(painter, bar, layer.share, look, tone, unpacked)
        painter.restore()


class LayerList(QListView):
    """The layers of a transfer, each with its bar."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.setUniformItemSizes(True)
        self.setObjectName(name)
        self.setAccessibleName("Layers")
        self.setVerticalScrollMode(QListView.ScrollMode.ScrollPerPixel)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.layers: ValuesModel[Layer] = ValuesModel(lambda layer: layer.id, _spoken, self)
        self.setModel(self.layers)
        self.setItemDelegate(_LayerDelegate(self))

    def show_transfer(self, transfer: Transfer) -> None:
        self.layers.show(transfer.layers)


def _spoken(layer: Layer) -> str:
    return f"{layer.id}: {layer.words}"
