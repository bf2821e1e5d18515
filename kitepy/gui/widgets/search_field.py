"""The field that narrows a list or finds in a text."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtWidgets import QLineEdit


class SearchField(QLineEdit):
    """``words`` stand in the empty field and are its spoken name; ``changed`` is a slot for ``textChanged``."""

    def __init__(self, words: str, name: str, changed: Callable[..., object], *, width: int = 0) -> None:
        super().__init__(placeholderText=words, clearButtonEnabled=True)
        self.setObjectName(name)
        self.setAccessibleName(words)
        if width:
            self.setFixedWidth(width)
        self.textChanged.connect(changed)
