"""What is shown when the engine can't start: the reason, what to do, the end of its log, and a way to try again."""

from __future__ import annotations

from PySide6.QtWidgets import QPlainTextEdit, QWidget

from kitepy.gui.models.state import AppState
from kitepy.gui.theme import monospace_font
from kitepy.gui.views.intents import Intents
from kitepy.gui.widgets.buttons import IconButton, TextButton
from kitepy.gui.widgets.labels import label
from kitepy.gui.widgets.layout import IconLabel, column, frame, row


class FailurePage(QWidget):
    def __init__(self, intents: Intents) -> None:
        super().__init__()
        self.setObjectName("failure-page")
        self._reason = label("", wrap=True, selectable=True)
        self._reason.setObjectName("failure-reason")
        self._hint = label("", wrap=True, selectable=True)
        self._hint.setObjectName("failure-hint")
        copy_hint = IconButton("copy", "Copy what to do")
        copy_hint.setObjectName("failure-copy-hint")
        copy_hint.clicked.connect(lambda: intents.copy_text.emit(self._hint.text(), "it"))
        self._hint_card = frame(
            "card", column(label("What to do", "section"), row(self._hint, copy_hint), margins=(18, 14, 12, 14))
        )
        self._hint.setFont(monospace_font())
        self._log_title = label("End of the engine's log", "section")
        self._log = QPlainTextEdit(readOnly=True)
        self._log.setObjectName("failure-log")
        self._log.setAccessibleName("End of the engine's log")
        self._log.setFont(monospace_font(0.92))
        self._log.setLineWrapMode(QPlainTextEdit.LineWrapMode.NoWrap)
        self.retry = TextButton("Try again", "primary", "refresh")
        self.retry.setObjectName("failure-retry")
        self.retry.clicked.connect(intents.retry_engine)
        copy_all = TextButton("Copy everything", "", "copy")
        copy_all.clicked.connect(
            lambda: intents.copy_text.emit(
                "\n\n".join((self._reason.text(), self._hint.text(), self._log.toPlainText())), "reason, hint and log"
            )
        )
        self.setLayout(
            column(
                row(IconLabel("alert", 34, "danger"), label("The engine couldn't start", "title"), 0, spacing=14),
                self._reason,
                6,
                self._hint_card,
                6,
                self._log_title,
                self._log,
                row(label("Containers that were running go on running.", "muted"), 0, copy_all, self.retry, spacing=10),
                spacing=10,
                margins=(40, 36, 40, 28),
            )
        )

    def show_state(self, state: AppState) -> None:
        self._reason.setText(state.engine.reason)
        self._hint.setText(state.engine.hint)
        self._hint_card.setVisible(bool(state.engine.hint))
        if self._log.toPlainText() != state.engine.log_tail:
            self._log.setPlainText(state.engine.log_tail)
            self._log.verticalScrollBar().setValue(self._log.verticalScrollBar().maximum())
        self._log_title.setVisible(bool(state.engine.log_tail))
        self._log.setVisible(bool(state.engine.log_tail))
