"""Buttons with the app's icons; each has a name that assistive tools can say."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import QEvent, QSize, Qt
from PySide6.QtGui import QKeySequence, QPainter, QPaintEvent, QShortcut
from PySide6.QtWidgets import QComboBox, QPushButton, QToolButton, QWidget

from kitepy.gui import icons
from kitepy.gui.theme import tokens

_GAP_PX = 4


class IconButton(QToolButton):
    """A square button with an icon only: `label` is its tooltip and its spoken name."""

    def __init__(
        self, icon_name: str, label: str, parent: QWidget | None = None, *, checkable: bool = False, small: bool = False
    ) -> None:
        super().__init__(parent)
        self._icon_name = icon_name
        if small:
            self.setProperty("kind", "small")
        self.setIconSize(QSize(15, 15) if small else QSize(18, 18))
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setCheckable(checkable)
        self.setAutoRaise(True)
        self.relabel(icon_name, label)

    def relabel(self, icon_name: str, label: str) -> None:
        self._icon_name = icon_name
        self.setToolTip(label)
        self.setAccessibleName(label)
        self._draw()

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.PaletteChange:
            self._draw()

    def _draw(self) -> None:
        look = tokens()
        self.setIcon(icons.icon(self._icon_name, look.muted if not self.isChecked() else look.accent, look.strong_border))


class TextButton(QPushButton):
    """A button with words; `kind` is "", "primary", "danger", "flat" or "nav"."""

    def __init__(self, text: str, kind: str = "", icon_name: str = "", parent: QWidget | None = None) -> None:
        super().__init__(text, parent)
        self._icon_name = icon_name
        self.setProperty("kind", kind)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setIconSize(QSize(16 + _GAP_PX, 16))
        self._draw()

    def set_kind(self, kind: str) -> None:
        if self.property("kind") != kind:
            self.setProperty("kind", kind)
            self.style().unpolish(self)
            self.style().polish(self)
            self._draw()

    def relabel(self, text: str, icon_name: str = "") -> None:
        self._icon_name = icon_name
        self.setText(text)
        self._draw()

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.PaletteChange:
            self._draw()

    def _draw(self) -> None:
        if not self._icon_name:
            return
        look = tokens()
        colours = {"primary": look.on_accent, "danger": look.on_danger, "flat": look.accent, "nav": look.muted}
        colour = colours.get(str(self.property("kind")), look.text)
        self.setIcon(icons.icon(self._icon_name, colour, look.strong_border, 16, _GAP_PX))


class Choice(QComboBox):
    """One of several, with the app's own arrow, since a style sheet takes the style's away."""

    def paintEvent(self, event: QPaintEvent) -> None:
        super().paintEvent(event)
        look = tokens()
        drawn = icons.pixmap("down", look.muted if self.isEnabled() else look.strong_border, 16, self.devicePixelRatioF())
        painter = QPainter(self)
        painter.drawPixmap(self.width() - 24, (self.height() - 16) // 2, drawn)
        painter.end()


def back_button(parent: QWidget, words: str, name: str, go: Callable[[], object]) -> IconButton:
    """Leads from a page to the list that it belongs to; Alt+Left anywhere in ``parent`` does the same."""
    button = IconButton("back", f"{words} (Alt+Left)")
    button.setObjectName(name)
    button.clicked.connect(lambda: go())
    shortcut = QShortcut(QKeySequence(QKeySequence.StandardKey.Back), parent)
    shortcut.setContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
    shortcut.activated.connect(button.click)
    return button
