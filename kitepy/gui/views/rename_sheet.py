"""Asks for a container's new name and says at once when it can't be taken."""

from __future__ import annotations

import re

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QLineEdit, QWidget

from kitepy.gui.widgets.buttons import TextButton
from kitepy.gui.widgets.labels import label
from kitepy.gui.widgets.layout import column, row
from kitepy.gui.widgets.sheet import Sheet

# What the engine accepts (RestrictedNamePattern of the Engine API).
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+$")


class RenameSheet(Sheet):
    renamed = Signal(str)

    def __init__(self, parent: QWidget, name: str, taken: set[str]) -> None:
        super().__init__(parent, width=440)
        self.setObjectName("rename-sheet")
        self.setAccessibleName(f"Rename {name}")
        self._old, self._taken = name, taken - {name}
        self._edit = QLineEdit(name)
        self._edit.setObjectName("rename-name")
        self._edit.setAccessibleName("New name")
        self._edit.textChanged.connect(self._check)
        self._problem = label("", "error", wrap=True)
        self._save = TextButton("Rename", "primary")
        self._save.setObjectName("rename-save")
        self._save.clicked.connect(self.accept)
        cancel = TextButton("Cancel")
        cancel.clicked.connect(self.reject)
        self.accepted.connect(lambda: self.renamed.emit(self._edit.text().strip()))
        self.fill(
            column(
                label(f"Rename {name}", "heading"),
                self._edit,
                self._problem,
                6,
                row(0, cancel, self._save),
                spacing=10,
                margins=(24, 22, 24, 20),
            ),
            [self._edit, cancel, self._save],
        )
        self._problem.hide()

    def ask(self) -> None:
        self.open(self._edit)
        self._edit.selectAll()

    def accept(self) -> None:
        if not self._trouble():
            super().accept()

    def _trouble(self) -> str:
        name = self._edit.text().strip()
        if not _NAME.match(name):
            return "At least two letters, digits, or . _ - after the first."
        return f"Another container is called {name}." if name in self._taken else ""

    def _check(self) -> None:
        trouble = self._trouble()
        self._problem.setText(trouble)
        self._problem.setVisible(bool(trouble))
        self._save.setEnabled(not trouble)
