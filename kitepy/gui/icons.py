"""The app's own icons: single-colour SVGs beside this module, drawn in any colour and size."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from PySide6.QtCore import QByteArray, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QIcon, QPainter, QPixmap
from PySide6.QtSvg import QSvgRenderer

_RESOURCES = Path(__file__).parent / "resources"
# Scale factors that desktops offer; Qt takes the nearest pixmap and scales it down.
_SCALES = (1.0, 1.5, 2.0, 3.0)


@lru_cache(maxsize=128)
def _source(name: str) -> bytes:
    return (_RESOURCES / "icons" / f"{name}.svg").read_bytes()


@lru_cache(maxsize=512)
def pixmap(name: str, colour: str, size_px: int, scale: float = 1.0) -> QPixmap:
    """The icon `size_px` wide in device-independent pixels, sharp at `scale`."""
    return _render(_source(name).replace(b"currentColor", colour.encode()), size_px, scale)


def icon(name: str, colour: str, disabled: str | None = None, size_px: int = 18, gap_px: int = 0) -> QIcon:
    """`gap_px` is empty room at the right, which a style sheet can't put between a button's icon and its text."""
    result = QIcon()
    for scale in _SCALES:
        result.addPixmap(_with_gap(pixmap(name, colour, size_px, scale), gap_px))
        if disabled:
            result.addPixmap(_with_gap(pixmap(name, disabled, size_px, scale), gap_px), QIcon.Mode.Disabled)
    return result


def _with_gap(drawn: QPixmap, gap_px: int) -> QPixmap:
    if not gap_px:
        return drawn
    scale = drawn.devicePixelRatio()
    wide = QPixmap(QSize(drawn.width() + round(gap_px * scale), drawn.height()))
    wide.setDevicePixelRatio(scale)
    wide.fill(QColor(Qt.GlobalColor.transparent))
    painter = QPainter(wide)
    painter.drawPixmap(0, 0, drawn)
    painter.end()
    return wide


def app_icon() -> QIcon:
    source = (_RESOURCES / "kitepy.svg").read_bytes()
    result = QIcon()
    for size_px in (16, 22, 24, 32, 48, 64, 128, 256):
        result.addPixmap(_render(source, size_px, 1.0))
    return result


def app_pixmap(size_px: int, scale: float) -> QPixmap:
    return _render((_RESOURCES / "kitepy.svg").read_bytes(), size_px, scale)


def _render(source: bytes, size_px: int, scale: float) -> QPixmap:
    image = QPixmap(QSize(round(size_px * scale), round(size_px * scale)))
    image.fill(QColor(Qt.GlobalColor.transparent))
    painter = QPainter(image)
    QSvgRenderer(QByteArray(source)).render(painter, QRectF(0, 0, image.width(), image.height()))
    painter.end()
    image.setDevicePixelRatio(scale)
    return image
