"""Pulls that are under way, paused or failed, each in a line with its bar; the page of one shows its layers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from PySide6.QtCore import Qt, QTimer
from PySide6.QtGui import QHideEvent, QShowEvent
from PySide6.QtWidgets import QFrame, QVBoxLayout, QWidget

from kitepy.gui.models.image import readable_size
from kitepy.gui.models.pull import Pull, PullPhase
from kitepy.gui.models.sidebar import pull_row
from kitepy.gui.models.state import Page, Route
from kitepy.gui.models.transfer import progress_words
from kitepy.gui.views.intents import Intents
from kitepy.gui.widgets.buttons import IconButton, TextButton
from kitepy.gui.widgets.glyph import GlyphWidget
from kitepy.gui.widgets.labels import ElidedLabel, label
from kitepy.gui.widgets.layout import column, row
from kitepy.gui.widgets.transfer import ShareBar

_TICK_MS = 1000


def pull_words(pull: Pull, now_s: float) -> str:
    """What goes on with it, for a line."""
    transfer = pull.transfer
    match pull.phase:
        case PullPhase.PULLING:
            return progress_words(transfer, now_s)
        case PullPhase.STARTING:
            return "Pulled, starting a container"
        case PullPhase.PAUSED:
            why = "Interrupted" if pull.interrupted else "Paused"
            kept, total = readable_size(transfer.done_bytes), readable_size(transfer.total_bytes)
            return f"{why}: {kept} of {total} is kept" if transfer.total_bytes else why
        case PullPhase.FAILED:
            return pull.trouble.title if pull.trouble else "Failed"
        case PullPhase.DONE:
            return "Pulled"


def bar_tone(pull: Pull) -> str:
    if pull.phase is PullPhase.FAILED:
        return "danger"
    if pull.phase is PullPhase.PAUSED or pull.transfer.wait_until_s is not None:
        return "warning"
    return "success" if pull.phase is PullPhase.DONE else "accent"


class PullStrip(QWidget):
    def __init__(self, intents: Intents, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self.setObjectName("pulls")
        self._intents = intents
        self._now = now
        self._pulls: tuple[Pull, ...] = ()
        self._lines: dict[str, _PullLine] = {}
        self._stack = QVBoxLayout(self)
        self._stack.setContentsMargins(0, 0, 0, 0)
        self._stack.setSpacing(6)
        self._ticker = QTimer(self, interval=_TICK_MS)
        self._ticker.timeout.connect(self._tick)
        self.hide()

    def show_pulls(self, pulls: Iterable[Pull]) -> None:
        shown = tuple(pull for pull in pulls if pull.phase is not PullPhase.DONE)
        if shown == self._pulls:
            return
        self._pulls = shown
        wanted = {pull.id: pull for pull in shown}
        for key in [key for key in self._lines if key not in wanted]:
            gone = self._lines.pop(key)
            gone.hide()
            self._stack.removeWidget(gone)
            gone.deleteLater()
        for key, pull in wanted.items():
            if key not in self._lines:
                self._lines[key] = _PullLine(pull, self._intents)
                self._stack.addWidget(self._lines[key])
        self.setVisible(bool(wanted))
        self._tick()
        self._run_ticker()

    def _tick(self) -> None:
        for pull in self._pulls:
            self._lines[pull.id].show_pull(pull, self._now())

    def _run_ticker(self) -> None:
        """Rates fall and waits run down even when nothing comes."""
        if self.isVisible() and any(pull.phase is PullPhase.PULLING for pull in self._pulls):
            self._ticker.start()
        else:
            self._ticker.stop()

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._run_ticker()

    def hideEvent(self, event: QHideEvent) -> None:
        super().hideEvent(event)
        self._ticker.stop()


class _PullLine(QFrame):
    def __init__(self, pull: Pull, intents: Intents) -> None:
        super().__init__()
        self.setProperty("role", "card")
        self._glyph = GlyphWidget()
        self._title = ElidedLabel(pull.title, "strong", Qt.TextElideMode.ElideMiddle)
        self._detail = ElidedLabel("", "muted")
        self._detail.setObjectName("pull-detail")
        self._percent = label("", "muted")
        self._bar = ShareBar("pull-bar", f"Pull of {pull.title}")
        self._show = TextButton("Layers", "flat")
        self._show.setObjectName("pull-show")
        self._show.setAccessibleName(f"Show the layers of {pull.title}")
        self._show.clicked.connect(lambda: intents.navigate.emit(Route(Page.PULL, pull.id)))
        self._pause = IconButton("pause", f"Pause {pull.title}")
        self._pause.setObjectName("pull-pause")
        self._pause.clicked.connect(lambda: intents.pause_pull.emit(pull.id))
        self._resume = TextButton("Resume", "primary", "play")
        self._resume.setObjectName("pull-resume")
        self._resume.clicked.connect(lambda: intents.resume_pull.emit(pull.id))
        self._cancel = IconButton("close", f"Give up the pull of {pull.title}")
        self._cancel.setObjectName("pull-cancel")
        self._cancel.clicked.connect(lambda: intents.cancel_pull.emit(pull.id))
        words = row(self._title, self._detail, self._percent, spacing=10)
        words.setStretch(1, 1)
        layout = row(
            self._glyph,
            column(words, self._bar, spacing=6),
            self._show,
            self._resume,
            self._pause,
            self._cancel,
            spacing=10,
            margins=(12, 8, 8, 10),
        )
        layout.setStretch(1, 1)
        self.setLayout(layout)

    def show_pull(self, pull: Pull, now_s: float) -> None:
        self._glyph.show_glyph(pull_row(pull).glyph)
        words = pull_words(pull, now_s)
        self._detail.set_text(words)
        share, percent = pull.transfer.share, pull.transfer.percent
        self._percent.setText("" if percent is None else f"{percent} %")
        self._bar.show_share(share, words, bar_tone(pull))
        self._pause.setVisible(pull.phase is PullPhase.PULLING)
        self._resume.setVisible(pull.resumable)
        self._resume.relabel("Try again" if pull.phase is PullPhase.FAILED else "Resume", "play")
        self._resume.setAccessibleName(f"{self._resume.text()}: {pull.title}")
