"""Copies that are under way or have just ended, each with its progress and a way to cancel or to put it away."""

from __future__ import annotations

from collections.abc import Iterable

from PySide6.QtWidgets import QFrame, QProgressBar, QVBoxLayout, QWidget

from kitepy.gui.models.image import readable_size
from kitepy.gui.models.sidebar import Glyph
from kitepy.gui.models.volume import Job, JobPhase
from kitepy.gui.views.intents import Intents
from kitepy.gui.widgets.buttons import IconButton, TextButton
from kitepy.gui.widgets.glyph import GlyphWidget
from kitepy.gui.widgets.labels import ElidedLabel, label
from kitepy.gui.widgets.layout import row

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
        self._title = ElidedLabel(job.title, "strong")
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
        self._close = IconButton("close", "Put this away")
        self._close.setObjectName("job-dismiss")
        self._close.clicked.connect(lambda: intents.dismiss_job.emit(job.id))
        layout = row(
            self._glyph, self._title, self._detail, self._bar, self._number, self._cancel, self._close, spacing=10,
            margins=(12, 8, 10, 8),
        )  # fmt: skip
        layout.setStretch(2, 1)
        self.setLayout(layout)

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
        self._number.setText(readable_size(job.done_bytes))
        self._detail.set_text("" if running else job.note)
