"""One build as it happens: its steps with their times, its output, and where in the Dockerfile it went wrong."""

from __future__ import annotations

import time
from collections.abc import Callable

from PySide6.QtCore import QModelIndex, QPersistentModelIndex, QRectF, QSize, Qt, QTimer, SignalInstance
from PySide6.QtGui import QColor, QFont, QFontMetrics, QHideEvent, QPainter, QShowEvent
from PySide6.QtWidgets import QListView, QProgressBar, QSplitter, QStyle, QStyledItemDelegate, QStyleOptionViewItem, QWidget

from kitepy.gui.models.build import Build, BuildPhase, BuildStep, StepState
from kitepy.gui.models.image import readable_duration, readable_size
from kitepy.gui.models.items import VALUE_ROLE, ValuesModel
from kitepy.gui.models.log import LogStore
from kitepy.gui.models.sidebar import Glyph, build_row
from kitepy.gui.models.state import AppState
from kitepy.gui.theme import tokens
from kitepy.gui.views.dockerfile_excerpt import DockerfileExcerpt
from kitepy.gui.views.intents import Intents
from kitepy.gui.widgets.buttons import IconButton, TextButton
from kitepy.gui.widgets.glyph import paint_glyph
from kitepy.gui.widgets.labels import ElidedLabel, Pill, label
from kitepy.gui.widgets.layout import column, frame, row
from kitepy.gui.widgets.log_view import LogView

_TICK_MS = 100

_GLYPHS = {
    StepState.RUNNING: Glyph.BUSY,
    StepState.DONE: Glyph.DONE,
    StepState.CACHED: Glyph.DONE,
    StepState.FAILED: Glyph.FAILED,
    StepState.CANCELLED: Glyph.STOPPED,
}


class StepDelegate(QStyledItemDelegate):
    """`2/5  RUN make` with its time at the right."""

    def __init__(self, parent: QWidget, now: Callable[[], float]) -> None:
        super().__init__(parent)
        self._now = now
        self.turn_degrees = 0

    def sizeHint(self, option: QStyleOptionViewItem, _index: QModelIndex | QPersistentModelIndex) -> QSize:
        return QSize(100, 2 * QFontMetrics(option.font).height() + 16)

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex) -> None:
        step: BuildStep = index.data(VALUE_ROLE)
        look = tokens()
        box = QRectF(option.rect).adjusted(0, 1, 0, -1)
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        if option.state & (QStyle.StateFlag.State_Selected | QStyle.StateFlag.State_MouseOver):
            painter.setBrush(QColor(look.selected if option.state & QStyle.StateFlag.State_Selected else look.hover))
            painter.drawRoundedRect(box, 8, 8)
        paint_glyph(painter, QRectF(box.left() + 6, box.top(), 20, box.height()), _GLYPHS[step.state], look, self.turn_degrees)
        keyword, _, rest = step.text.partition(" ")
        left, width, half = box.left() + 34, box.width() - 44, box.height() / 2
        bold = QFont(option.font)
        bold.setWeight(QFont.Weight.DemiBold)
        painter.setFont(bold)
        painter.setPen(QColor(look.text))
        bottom, top = Qt.AlignmentFlag.AlignBottom, Qt.AlignmentFlag.AlignTop
        painter.drawText(QRectF(left, box.top(), width, half), bottom | Qt.AlignmentFlag.AlignLeft, keyword)
        small = QFont(option.font)
        small.setPointSizeF(small.pointSizeF() * 0.9)
        painter.setFont(small)
        painter.setPen(QColor(look.muted))
        timing = "cached" if step.state is StepState.CACHED else readable_duration(step.elapsed_s(self._now()))
        number = f"{step.index}/{step.total}"
        painter.drawText(QRectF(left, box.top(), width, half), bottom | Qt.AlignmentFlag.AlignRight, f"{number}   {timing}")
        shown = painter.fontMetrics().elidedText(rest, Qt.TextElideMode.ElideRight, int(width))
        painter.drawText(QRectF(left, box.top() + half + 2, width, half), top | Qt.AlignmentFlag.AlignLeft, shown)
        painter.restore()


class BuildPage(QWidget):
    def __init__(self, intents: Intents, output_of: Callable[[str], LogStore], now: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self.setObjectName("build-page")
        self._intents = intents
        self._output_of = output_of
        self._now = now
        self._build: Build | None = None

        self._title = ElidedLabel("", "title")
        self._title.setObjectName("build-title")
        self._pill = Pill()
        self._pill.setObjectName("build-state")
        self._elapsed = label("", "muted")
        self._elapsed.setObjectName("build-elapsed")
        self._where = ElidedLabel("", "muted", Qt.TextElideMode.ElideMiddle)
        self._cancel = TextButton("Cancel", "", "close")
        self._cancel.setObjectName("build-cancel")
        self._cancel.clicked.connect(lambda: self._emit(intents.cancel_build))
        self._again = TextButton("Build again", "primary", "refresh")
        self._again.setObjectName("build-again")
        self._again.clicked.connect(lambda: self._emit(intents.repeat_build))
        self._dismiss = TextButton("Dismiss")
        self._dismiss.setObjectName("build-dismiss")
        self._dismiss.clicked.connect(lambda: self._emit(intents.dismiss_build))
        self._progress = QProgressBar(textVisible=False)
        self._progress.setAccessibleName("Build progress")

        self._error_text = label("", wrap=True, selectable=True)
        self._error_text.setObjectName("build-error")
        self._error_place = label("", "muted")
        self._error_place.setObjectName("build-error-line")
        self._excerpt = DockerfileExcerpt()
        self._error_card = frame(
            "danger-card",
            column(
                label("The build failed", "heading"),
                self._error_text,
                self._error_place,
                self._excerpt,
                spacing=8,
                margins=(18, 14, 18, 16),
            ),
        )

        self.steps = QListView(uniformItemSizes=True)
        self.steps.setMouseTracking(True)
        self.steps.setObjectName("build-steps")
        self.steps.setAccessibleName("Build steps")
        self._steps_model: ValuesModel[BuildStep] = ValuesModel(lambda step: step.index, _spoken, self)
        self.steps.setModel(self._steps_model)
        self._delegate = StepDelegate(self.steps, now)
        self.steps.setItemDelegate(self._delegate)
        self.steps.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.steps.clicked.connect(self._go_to_step)
        self.steps.activated.connect(self._go_to_step)

        self.output = LogView()
        self.output.setObjectName("build-output")
        self.output.setAccessibleName("Build output")
        self.output.set_empty_text("The output of the steps comes here.")
        follow = IconButton("follow", "Follow the output", checkable=True)
        follow.setChecked(True)
        follow.clicked.connect(self.output.set_follow)
        self.output.follow_changed.connect(follow.setChecked)
        copy = IconButton("copy", "Copy the output")
        copy.clicked.connect(
            lambda: intents.copy_text.emit(self.output.store.text(0, self.output.store.end_number), "the build output")
        )

        steps_title = label("Steps", "section")
        steps_title.setFixedHeight(follow.sizeHint().height())
        left = QWidget()
        left.setLayout(column(steps_title, self.steps, spacing=4, margins=(0, 0, 8, 0)))
        right = QWidget()
        right.setLayout(
            column(
                row(label("Output", "section"), 0, follow, copy, spacing=2),
                frame("well", column(self.output, margins=(1, 1, 1, 1))),
                spacing=4,
            )
        )
        split = QSplitter(Qt.Orientation.Horizontal, childrenCollapsible=False)
        split.addWidget(left)
        split.addWidget(right)
        split.setSizes([290, 560])
        split.setStretchFactor(1, 1)

        self.setLayout(
            column(
                row(self._title, self._pill, 0, self._dismiss, self._again, self._cancel, spacing=12),
                row(self._where, 0, self._elapsed),
                2,
                self._progress,
                self._error_card,
                4,
                split,
                spacing=8,
                margins=(32, 24, 32, 24),
            )
        )
        self.layout().setStretchFactor(split, 1)  # type: ignore[union-attr]  # it was set on the line above
        self._ticker = QTimer(self, interval=_TICK_MS)
        self._ticker.timeout.connect(self._tick)

    def show_state(self, state: AppState) -> None:
        build = state.builds.get(state.route.key)
        if build is None or build is self._build:
            return
        if self._build is None or self._build.id != build.id:
            self.output.show_store(self._output_of(build.id))
        self._build = build
        self._title.set_text(build.name)
        shown = build_row(build)
        self._pill.show_state(shown.glyph, shown.detail)
        self._where.set_text(str(build.request.review.context))
        self._cancel.setVisible(build.phase.active)
        self._again.setVisible(not build.phase.active)
        self._dismiss.setVisible(not build.phase.active)
        self._show_progress(build)
        self._show_error(build)
        at_end = self.steps.verticalScrollBar().value() >= self.steps.verticalScrollBar().maximum()
        self._steps_model.show(build.steps)
        if at_end:
            self.steps.scrollToBottom()
        self._tick()
        self._run_ticker()

    def _show_progress(self, build: Build) -> None:
        self._progress.setVisible(build.phase.active)
        if build.phase is BuildPhase.SENDING and build.bytes_total:
            self._progress.setRange(0, 1000)
            self._progress.setValue(build.bytes_sent * 1000 // build.bytes_total)
            self._where.set_text(f"Sending {readable_size(build.bytes_sent)} of {readable_size(build.bytes_total)}")
        elif build.steps:
            self._progress.setRange(0, build.total_steps)
            done = build.total_steps if build.phase is BuildPhase.STARTING else build.steps[-1].index - 1
            self._progress.setValue(done)
        else:
            self._progress.setRange(0, 0)

    def _show_error(self, build: Build) -> None:
        self._error_card.setVisible(bool(build.error))
        if not build.error:
            return
        self._error_text.setText(build.error)
        review = build.request.review
        place = f"{review.dockerfile.name}, line {build.error_line}" if build.error_line else ""
        self._error_place.setText(place)
        self._error_place.setVisible(bool(place))
        self._excerpt.setVisible(bool(build.error_line))
        if build.error_line:
            self._excerpt.show_line(review.source, build.error_line)

    def _go_to_step(self, index: QModelIndex) -> None:
        step = self._steps_model.value(index)
        if step is not None:
            self.output.go_to_line(step.first_line)

    def _emit(self, signal: SignalInstance) -> None:
        if self._build is not None:
            signal.emit(self._build.id)

    def _run_ticker(self) -> None:
        if self._build is not None and self._build.phase.active and self.isVisible():
            self._ticker.start()
        else:
            self._ticker.stop()

    def _tick(self) -> None:
        if self._build is None:
            return
        self._elapsed.setText(readable_duration(self._build.elapsed_s(self._now())))
        self._delegate.turn_degrees = (self._delegate.turn_degrees + 36) % 360
        if self._build.steps:
            self.steps.update(self._steps_model.index(len(self._build.steps) - 1))

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._run_ticker()

    def hideEvent(self, event: QHideEvent) -> None:
        super().hideEvent(event)
        self._ticker.stop()


def _spoken(step: BuildStep) -> str:
    return f"Step {step.index} of {step.total}, {step.text}, {step.state.value}"
