"""What went wrong with a registry, with something to copy where that helps, and buttons for the next step."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtWidgets import QFrame, QSizePolicy, QWidget

from kitepy.gui.models.items import plain_tip
from kitepy.gui.models.trouble import Remedy, Trouble
from kitepy.gui.theme import monospace_font
from kitepy.gui.widgets.buttons import IconButton, TextButton
from kitepy.gui.widgets.labels import label
from kitepy.gui.widgets.layout import IconLabel, clear_layout, column, frame, row


class TroubleCard(QFrame):
    """`act` is told which remedy was taken; `copy` a text and what to call it."""

    def __init__(self, name: str, act: Callable[[Remedy], None], copy: Callable[[str, str], None]) -> None:
        super().__init__()
        self.setObjectName(name)
        self.setProperty("role", "danger-card")
        self._name = name
        self._act = act
        self._copy = copy
        self._shown: tuple[Trouble, tuple[Remedy, ...]] | None = None
        self._title = label("", "strong", wrap=True)
        self._text = label("", wrap=True, selectable=True)
        self._command = label("", selectable=True, wrap=True)
        self._command.setFont(monospace_font(0.95))
        copy_button = IconButton("copy", "Copy this", small=True)
        copy_button.setObjectName(f"{name}-copy")
        copy_button.clicked.connect(lambda: self._shown and self._copy(self._shown[0].command, "the text"))
        command = row(self._command, copy_button, spacing=8, margins=(10, 6, 8, 6))
        command.setStretch(0, 1)
        self._command_frame = frame("command", command)
        self._buttons = row(spacing=8)
        words = column(self._title, self._text, self._command_frame, self._buttons, spacing=6)
        self._mark = IconLabel("alert", 20, "danger")
        layout = row(column(self._mark, 0), words, spacing=12, margins=(14, 12, 14, 12))
        layout.setStretch(1, 1)
        self.setLayout(layout)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)
        self.hide()

    def show_trouble(self, trouble: Trouble | None, without: tuple[Remedy, ...] = ()) -> None:
        """`without` are remedies that make no sense here."""
        self.setVisible(trouble is not None)
        if trouble is None:
            self._shown = None
            return
        remedies = tuple(remedy for remedy in trouble.remedies if remedy not in without)
        if self._shown == (trouble, remedies):
            return
        self._shown = (trouble, remedies)
        self._title.setText(trouble.title)
        self._text.setText(trouble.text)
        self._text.setToolTip(plain_tip(trouble.original))
        self._mark.retone("warning" if trouble.calm else "danger")
        role = "card" if trouble.calm else "danger-card"
        if self.property("role") != role:
            self.setProperty("role", role)
            self.style().unpolish(self)
            self.style().polish(self)
        self._command.setText(trouble.command)
        self._command_frame.setVisible(bool(trouble.command))
        self.setAccessibleName(trouble.sentence)
        clear_layout(self._buttons)
        for remedy in remedies:
            self._buttons.addWidget(self._button(remedy))
        self._buttons.addStretch(1)

    def _button(self, remedy: Remedy) -> QWidget:
        button = TextButton(remedy.value)
        button.setObjectName(f"{self._name}-{remedy.name.lower().replace('_', '-')}")
        button.clicked.connect(lambda: self._act(remedy))
        return button
