"""Copies that are under way or have just ended, each with its progress and a way to cancel or to put it away."""

from __future__ import annotations

import time
from collections.abc import Iterable

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QFrame, QProgressBar, QSizePolicy, QVBoxLayout, QWidget

from kitepy.gui.models.image import readable_size
from kitepy.gui.models.sidebar import Glyph
from kitepy.gui.models.transfer import Transfer, progress_words
from kitepy.gui.models.volume import Job, JobPhase
from kitepy.gui.views.intents import Intents
from kitepy.gui.widgets.buttons import IconButton, TextButton
from kitepy.gui.widgets.glyph import GlyphWidget
from kitepy.gui.widgets.labels import ElidedLabel, label
from kitepy.gui.widgets.layout import column, row
from kitepy.gui.widgets.transfer import LayerList

_MOST_LAYERS_SEEN = 5
_LONGEST_BESIDE = 60
_GLYPHS = {
    JobPhase.RUNNING: Glyph.BUSY,
    JobPhase.DONE: Glyph.DONE,
    JobPhase.FAILED: Glyph.FAILED,
    JobPhase.CANCELLED: Glyph.STOPPED,
}


class JobStrip(QWidget):
    def __init__(self, intents: Intents) -> None:
        super().__init__()
        self.setObjectName("jobs")
        self._intents = intents
        self._stack = QVBoxLayout(self)
        self._stack.setContentsMargins(0, 0, 0, 0)
        self._stack.setSpacing(6)
        self._lines: dict[str, _JobLine] = {}
        self.hide()

    def show_jobs(self, jobs: Iterable[Job]) -> None:
        wanted = {job.id: job for job in jobs}
        for key in [key for key in self._lines if key not in wanted]:
            gone = self._lines.pop(key)
            gone.hide()
            self._stack.removeWidget(gone)
            gone.deleteLater()
        for key, job in wanted.items():
            if key not in self._lines:
                self._lines[key] = _JobLine(job, self._intents)
                self._stack.addWidget(self._lines[key])
            self._lines[key].show_job(job)
        self.setVisible(bool(wanted))


class _JobLine(QFrame):
    def __init__(self, job: Job, intents: Intents) -> None:
        super().__init__()
        self.setProperty("role", "card")
        self._glyph = GlyphWidget()
        self._title = ElidedLabel(job.title, "strong", Qt.TextElideMode.ElideMiddle)
        self._title.setMaximumWidth(360)
        self._detail = ElidedLabel("", "muted")
        self._detail.setObjectName("job-detail")
        self._bar = QProgressBar(textVisible=False)
        self._bar.setObjectName("job-progress")
        self._bar.setAccessibleName(job.title)
        self._bar.setFixedWidth(160)
        self._number = label("", "muted")
        self._cancel = TextButton("Cancel")
        self._cancel.setObjectName("job-cancel")
        self._cancel.setAccessibleName(f"Cancel {job.title}")
        self._cancel.clicked.connect(lambda: intents.cancel_job.emit(job.id))
        self._registry = ""
        self._log_in = TextButton("Log in…", "", "key")
        self._log_in.setObjectName("job-log-in")
        self._log_in.clicked.connect(lambda: intents.log_in.emit(self._registry))
        self._close = IconButton("close", "Put this away")
        self._close.setObjectName("job-dismiss")
        self._close.clicked.connect(lambda: intents.dismiss_job.emit(job.id))
        self._more = IconButton("layers", "Show each layer", checkable=True)
        self._more.setObjectName("job-layers-shown")
        self._more.setChecked(True)
        self._more.toggled.connect(lambda _on: self._show_layers())
        self._layers: LayerList | None = None
        self._transfer: Transfer | None = None
        line = row(
            self._glyph, self._title, self._detail, self._bar, self._number, self._more, self._log_in, self._cancel, self._close,
            spacing=10, margins=(12, 8, 10, 8),
        )  # fmt: skip
        line.setStretch(2, 1)
        self._note = label("", "muted", wrap=True, selectable=True)
        self._note.setObjectName("job-note")
        self._note.setContentsMargins(36, 0, 12, 10)
        self._stack = column(line, self._note, spacing=0)
        self.setLayout(self._stack)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)

    def show_job(self, job: Job) -> None:
        running = job.phase is JobPhase.RUNNING
        self._glyph.show_glyph(_GLYPHS[job.phase])
        self._bar.setVisible(running)
        self._cancel.setVisible(running)
        self._close.setVisible(not running)
        self._number.setVisible(running)
        percent = job.percent
        # An empty range draws a bar that only says that something goes on.
        self._bar.setRange(0, 0 if percent is None else 100)
        if percent is not None:
            self._bar.setValue(percent)
        self._transfer = job.transfer
        moving = running and job.transfer is not None
        self._number.setText("" if moving else readable_size(job.done_bytes))
        words = progress_words(job.transfer, time.monotonic()) if moving and job.transfer is not None else ""
        # What went wrong is read whole, and how far layers are, too; what went well fits beside its title.
        below = words or (job.note if not running and len(job.note) > _LONGEST_BESIDE else "")
        self._note.setText(below)
        self._note.setVisible(bool(below))
        self._detail.set_text("" if running or below else job.note)
        self._registry = job.log_in
        self._log_in.setVisible(bool(job.log_in) and not running)
        self._more.setVisible(running and job.transfer is not None and bool(job.transfer.layers))
        self._show_layers()

    def _show_layers(self) -> None:
        transfer = self._transfer
        wanted = transfer is not None and bool(transfer.layers) and self._more.isChecked() and not self._more.isHidden()
        if not wanted or transfer is None:
            if self._layers is not None:
                self._layers.hide()
            return
        if self._layers is None:
            self._layers = LayerList("job-layers")
            self._layers.setProperty("role", "well")
            self._stack.addLayout(row(self._layers, margins=(12, 0, 12, 10)))
        self._layers.show_transfer(transfer)
        height = self._layers.sizeHintForRow(0) * min(len(transfer.layers), _MOST_LAYERS_SEEN)
        self._layers.setFixedHeight(height + 2 * self._layers.frameWidth() + 10)
        self._layers.show()
