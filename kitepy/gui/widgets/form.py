"""A sheet with fields: what is wrong is said while it is typed, and Enter sends it once all is right."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QGridLayout, QLineEdit, QWidget

from kitepy.gui.widgets.buttons import TextButton
from kitepy.gui.widgets.labels import label
from kitepy.gui.widgets.layout import Item, column, row
from kitepy.gui.widgets.sheet import Sheet


class FormSheet(Sheet):
    """Subclasses make their fields, call `build`, and say in `trouble` why they can't be sent as they are."""

    def __init__(self, parent: QWidget, name: str, title: str, width: int = 500) -> None:
        super().__init__(parent, width=width)
        self.setObjectName(name)
        self.setAccessibleName(title)
        self._title = title
        self._grid = QGridLayout()
        self._grid.setHorizontalSpacing(18)
        self._grid.setVerticalSpacing(10)
        self._grid.setColumnStretch(1, 1)
        self._fields: list[QWidget] = []
        self._problem = label("", "error", wrap=True)
        self._problem.setObjectName(f"{name}-problem")
        self.go = TextButton("", "primary")
        self.go.setObjectName(f"{name}-yes")
        self.go.clicked.connect(self.accept)

    def add(self, caption: str, field: QWidget, name: str) -> None:
        """A field with its caption at the left; the first one has the focus."""
        field.setObjectName(name)
        if caption:
            field.setAccessibleName(caption)
            words = label(caption, "muted")
            words.setBuddy(field)
            self._grid.addWidget(words, self._grid.rowCount(), 0, Qt.AlignmentFlag.AlignTop)
            words.setContentsMargins(0, 7, 0, 0)
        self._grid.addWidget(field, self._grid.rowCount() - (1 if caption else 0), 1)
        self._fields.append(field)
        if isinstance(field, QLineEdit):
            field.textChanged.connect(lambda _text: self.check())

    def build(self, action: str, *above: Item, danger: bool = False) -> None:
        self.go.relabel(action)
        if danger:
            self.go.set_kind("danger")
        cancel = TextButton("Cancel")
        cancel.setObjectName(f"{self.objectName()}-no")
        cancel.clicked.connect(self.reject)
        self.fill(
            column(
                label(self._title, "heading", wrap=True),
                *above,
                self._grid,
                self._problem,
                6,
                row(0, cancel, self.go, spacing=10),
                spacing=12,
                margins=(26, 22, 26, 20),
            ),
            [*self._fields, cancel, self.go],
        )
        self.check()

    def ask(self, focus: QWidget | None = None) -> None:
        self.open(focus or (self._fields[0] if self._fields else self.go))

    def accept(self) -> None:
        if not self.trouble():
            super().accept()

    def trouble(self) -> str:
        return ""

    def unfinished(self) -> bool:
        """Nothing is wrong yet, but something is missing: that goes without saying."""
        return False

    def check(self) -> None:
        trouble = self.trouble()
        shown = "" if self.unfinished() else trouble
        self._problem.setText(shown)
        self._problem.setVisible(bool(shown))
        self.go.setEnabled(not trouble)

    def fields(self) -> Sequence[QWidget]:
        return self._fields
