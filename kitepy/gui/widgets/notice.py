"""Short messages at the lower edge of the window; errors stay until they are closed."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import QEvent, QObject, Qt, QTimer
from PySide6.QtGui import QAccessible, QAccessibleAnnouncementEvent
from PySide6.QtWidgets import QFrame, QVBoxLayout, QWidget

from kitepy.gui.widgets.buttons import IconButton, TextButton
from kitepy.gui.widgets.labels import label
from kitepy.gui.widgets.layout import IconLabel, row

_SHOWN_MS = 5000
_OFFERED_MS = 15000
_MOST = 3


class Notices(QWidget):
    """Stacks of notices over the parent's lower right corner."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setObjectName("notices")
        self._stack = QVBoxLayout(self)
        self._stack.setContentsMargins(0, 0, 0, 0)
        self._stack.setSpacing(8)
        parent.installEventFilter(self)
        self.hide()

    def tell(self, text: str) -> None:
        notice = self._add(text, "info", "accent")
        QTimer.singleShot(_SHOWN_MS, notice, lambda: self._drop(notice))

    def offer(self, text: str, action: str, go: Callable[[], None]) -> None:
        """With a button for one thing that can be done about it."""
        button = TextButton(action, "flat")
        button.setObjectName("notice-action")
        button.setAccessibleName(f"{action}: {text}")
        notice = self._add(text, "info", "accent", button)

        def take() -> None:
            self._drop(notice)
            go()

        button.clicked.connect(take)
        QTimer.singleShot(_OFFERED_MS, notice, lambda: self._drop(notice))

    def warn(self, text: str) -> None:
        self._add(text, "alert", "danger")

    def texts(self) -> list[str]:
        return [notice.accessibleName() for notice in self._notices()]

    def _notices(self) -> list[QFrame]:
        return [
            widget
            for widget in self.findChildren(QFrame, options=Qt.FindChildOption.FindDirectChildrenOnly)
            if not widget.isHidden()
        ]

    def _add(self, text: str, icon_name: str, tone: str, *more: QWidget) -> QFrame:
        for old in self._notices()[: -(_MOST - 1) or None]:
            self._drop(old)
        words = label(text, wrap=True, selectable=True)
        words.setFixedWidth(320 - sum(widget.sizeHint().width() for widget in more))
        close = IconButton("close", "Close this message")
        notice = QFrame(self)
        notice.setProperty("role", "toast")
        notice.setAccessibleName(text)
        notice.setLayout(row(IconLabel(icon_name, 20, tone), words, *more, close, spacing=12, margins=(14, 10, 8, 10)))
        close.clicked.connect(lambda: self._drop(notice))
        self._stack.addWidget(notice)
        self.show()
        notice.show()
        notice.setFixedHeight(notice.sizeHint().height())
        self._place()
        QAccessible.updateAccessibility(QAccessibleAnnouncementEvent(self, text))
        return notice

    def _drop(self, notice: QFrame) -> None:
        notice.hide()
        self._stack.removeWidget(notice)
        notice.deleteLater()
        if not self._notices():
            self.hide()
        self._place()

    def _place(self) -> None:
        parent = self.parentWidget()
        if parent is None:
            return
        self._stack.activate()
        size = self.sizeHint()
        self.setGeometry(parent.width() - size.width() - 20, parent.height() - size.height() - 20, size.width(), size.height())
        self.raise_()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if watched is self.parentWidget() and event.type() == QEvent.Type.Resize:
            self._place()
        return super().eventFilter(watched, event)
