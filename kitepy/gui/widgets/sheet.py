"""A sheet over the window: a question that wants an answer before going on. Escape and a click beside it mean no."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import QEvent, QObject, Qt, Signal
from PySide6.QtGui import QColor, QKeyEvent, QMouseEvent, QPainter, QPaintEvent
from PySide6.QtWidgets import QApplication, QFrame, QLayout, QVBoxLayout, QWidget

from kitepy.gui.theme import tokens
from kitepy.gui.widgets.buttons import TextButton
from kitepy.gui.widgets.labels import label
from kitepy.gui.widgets.layout import Item, column, row


class Sheet(QWidget):
    """Covers its parent; keyboard focus stays inside until it is answered. `accepted`/`rejected` come once, then it is gone."""

    accepted = Signal()
    rejected = Signal()

    def __init__(self, parent: QWidget, *, width: int = 520) -> None:
        super().__init__(parent)
        self._focus_before = QApplication.focusWidget()
        self._answered = False
        self._stops: list[QWidget] = []
        self.card = QFrame(self)
        self.card.setProperty("role", "sheet")
        self.card.setFixedWidth(width)
        outer = QVBoxLayout(self)
        outer.addWidget(self.card, 0, Qt.AlignmentFlag.AlignCenter)
        parent.installEventFilter(self)
        self.setGeometry(parent.rect())

    def fill(self, layout: QLayout, stops: Sequence[QWidget]) -> None:
        """`stops` are what Tab goes through, in this order.

        They are named instead of asked of Qt: PySide6 makes what `nextInFocusChain` returns a child of the asking wrapper,
        so that with the sheet's end the Python side of unrelated widgets of the window becomes invalid.
        """
        self.card.setLayout(layout)
        self._stops = list(stops)

    def open(self, focus: QWidget) -> None:
        self.show()
        self.raise_()
        focus.setFocus(Qt.FocusReason.PopupFocusReason)

    def accept(self) -> None:
        if self._close():
            self.accepted.emit()

    def reject(self) -> None:
        if self._close():
            self.rejected.emit()

    def _close(self) -> bool:
        """False when it was answered before."""
        if self._answered:
            return False
        self._answered = True
        self.hide()
        if self._focus_before is not None and self._focus_before.isVisible():
            self._focus_before.setFocus()
        self.deleteLater()
        return True

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        parent = self.parentWidget()
        if watched is parent and event.type() == QEvent.Type.Resize and parent is not None:
            self.setGeometry(parent.rect())
        return super().eventFilter(watched, event)

    def focusNextPrevChild(self, forward: bool) -> bool:
        stops = [widget for widget in self._stops if widget.isEnabled() and widget.isVisible()]
        if not stops:
            return False
        current = QApplication.focusWidget()
        index = stops.index(current) if current in stops else -1
        stops[(index + (1 if forward else -1)) % len(stops)].setFocus(Qt.FocusReason.TabFocusReason)
        return True

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() == Qt.Key.Key_Escape:
            self.reject()
        elif event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            focused = QApplication.focusWidget()
            if isinstance(focused, TextButton):
                focused.click()
            else:
                self.accept()
        event.accept()

    def mousePressEvent(self, event: QMouseEvent) -> None:
        if not self.card.geometry().contains(event.position().toPoint()):
            self.reject()
        event.accept()

    def paintEvent(self, _event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.fillRect(self.rect(), QColor(0, 0, 0, 150 if tokens().dark else 90))
        painter.end()


class ConfirmSheet(Sheet):
    """Asks before something is lost; the safe answer has the focus."""

    def __init__(self, parent: QWidget, title: str, text: str, action: str, *extra: Item, danger: bool = True) -> None:
        super().__init__(parent, width=460)
        self.setObjectName("confirm-sheet")
        heading = label(title, "heading", wrap=True)
        self.setAccessibleName(title)
        go = TextButton(action, "danger" if danger else "primary")
        go.setObjectName("confirm-yes")
        go.clicked.connect(self.accept)
        self.cancel_button = TextButton("Cancel")
        self.cancel_button.setObjectName("confirm-no")
        self.cancel_button.clicked.connect(self.reject)
        self.fill(
            column(
                heading,
                label(text, "muted", wrap=True),
                *extra,
                8,
                row(0, self.cancel_button, go),
                spacing=10,
                margins=(24, 22, 24, 20),
            ),
            [self.cancel_button, go],
        )

    def ask(self) -> None:
        self.open(self.cancel_button)


class ChoiceSheet(Sheet):
    """A question with several answers; `chosen` tells the number of the one that was taken."""

    chosen = Signal(int)

    def __init__(self, parent: QWidget, title: str, text: str, answers: Sequence[str]) -> None:
        super().__init__(parent, width=520)
        self.setObjectName("choice-sheet")
        self.setAccessibleName(title)
        self.cancel_button = TextButton("Cancel" if answers else "Close")
        self.cancel_button.setObjectName("choice-no")
        self.cancel_button.clicked.connect(self.reject)
        buttons: list[TextButton] = []
        self._answer = -1
        for number, answer in enumerate(answers):
            button = TextButton(answer, "primary" if number == len(answers) - 1 else "")
            button.setObjectName(f"choice-{number}")
            button.clicked.connect(lambda _=False, number=number: self._take(number))
            buttons.append(button)
        self.accepted.connect(lambda: self.chosen.emit(self._answer))
        self.fill(
            column(
                label(title, "heading", wrap=True),
                label(text, "muted", wrap=True, selectable=True),
                8,
                row(0, self.cancel_button, *buttons),
                spacing=10,
                margins=(24, 22, 24, 20),
            ),
            [self.cancel_button, *buttons],
        )

    def ask(self) -> None:
        self.open(self.cancel_button)

    def accept(self) -> None:
        """Enter on no button at all is no answer."""
        if self._answer >= 0:
            super().accept()

    def _take(self, number: int) -> None:
        self._answer = number
        self.accept()
