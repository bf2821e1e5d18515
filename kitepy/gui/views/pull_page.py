"""One pull as it happens: the whole with its rate and remaining time, a bar per layer, and what went wrong."""

from __future__ import annotations

import time
from collections.abc import Callable

from PySide6.QtCore import Qt, QTimer
from PySide6.QtGui import QHideEvent, QShowEvent
from PySide6.QtWidgets import QWidget

from kitepy.gui.models.image import readable_size
from kitepy.gui.models.pull import Pull, PullPhase
from kitepy.gui.models.reference import parse_reference
from kitepy.gui.models.sidebar import pull_row
from kitepy.gui.models.state import DISCOVER, IMAGES, AppState, Page, Route
from kitepy.gui.models.transfer import LayerPhase
from kitepy.gui.models.trouble import Remedy
from kitepy.gui.views.intents import Intents
from kitepy.gui.views.pull_strip import bar_tone, pull_words
from kitepy.gui.widgets.buttons import TextButton, back_button
from kitepy.gui.widgets.labels import ElidedLabel, Pill, label
from kitepy.gui.widgets.layout import card, column, row
from kitepy.gui.widgets.transfer import LayerList, ShareBar
from kitepy.gui.widgets.trouble import TroubleCard

_TICK_MS = 1000


class PullPage(QWidget):
    def __init__(self, intents: Intents, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self.setObjectName("pull-page")
        self._intents = intents
        self._now = now
        self._pull: Pull | None = None
        back = back_button(self, "Discover", "pull-back", lambda: intents.navigate.emit(DISCOVER))
        self._title = ElidedLabel("", "title", Qt.TextElideMode.ElideMiddle)
        self._title.setObjectName("pull-title")
        self._pill = Pill()
        self._pill.setObjectName("pull-state")
        self._pause = self._button("Pause", "", "pause", "pull-page-pause", lambda pull: intents.pause_pull.emit(pull.id))
        self._resume = self._button(
            "Resume", "primary", "play", "pull-page-resume", lambda pull: intents.resume_pull.emit(pull.id)
        )
        self._run = self._button("Run", "primary", "play", "pull-page-run", lambda pull: intents.run_image.emit(pull.reference))
        self._cancel = self._button("Cancel", "", "close", "pull-page-cancel", lambda pull: intents.cancel_pull.emit(pull.id))
        self._words = label("", "muted")
        self._words.setObjectName("pull-words")
        self._percent = label("", "heading")
        self._percent.setObjectName("pull-percent")
        self._bar = ShareBar("pull-total", "All layers")
        self._trouble = TroubleCard("pull-trouble", self._remedy, intents.copy_text.emit)
        self.layers = LayerList("pull-layers")
        self._sum = label("", "small")
        self._layers_card = card("Layers", self.layers, corner=self._sum)
        self._room = QWidget()
        total = row(self._percent, self._words, 0, spacing=12)
        whole = column(
            row(back, self._title, self._pill, 0, self._cancel, self._pause, self._resume, self._run, spacing=10),
            4,
            total,
            self._bar,
            4,
            self._trouble,
            self._layers_card,
            self._room,
            spacing=10,
            margins=(24, 22, 32, 24),
        )
        whole.setStretchFactor(self._layers_card, 1)
        whole.setStretchFactor(self._room, 1)
        self.setLayout(whole)
        self._ticker = QTimer(self, interval=_TICK_MS)
        self._ticker.timeout.connect(self._tick)

    def show_state(self, state: AppState) -> None:
        pull = self._pull = state.pulls.get(state.route.key)
        if pull is None:
            return
        self._title.set_text(f"{pull.title}{f' for {pull.platform}' if pull.platform else ''}")
        line = pull_row(pull)
        self._pill.show_state(line.glyph, line.detail)
        self._pause.setVisible(pull.phase is PullPhase.PULLING)
        self._resume.setVisible(pull.resumable)
        self._resume.relabel("Try again" if pull.phase is PullPhase.FAILED else "Resume", "play")
        self._run.setVisible(pull.phase is PullPhase.DONE)
        self._cancel.relabel("Close" if pull.phase is PullPhase.DONE else "Cancel", "close")
        # "Try again" is above already.
        self._trouble.show_trouble(pull.trouble, (Remedy.RETRY,))
        self.layers.show_transfer(pull.transfer)
        layers = pull.transfer.layers
        self._layers_card.setVisible(bool(layers) or pull.phase.active)
        self._room.setVisible(not layers and not pull.phase.active)
        here = sum(layer.phase is LayerPhase.EXISTS for layer in layers)
        self._sum.setText(f"{len(layers)}, {here} of them were here already" if here else f"{len(layers)}" if layers else "")
        self._tick()
        self._run_ticker()

    def _tick(self) -> None:
        pull = self._pull
        if pull is None:
            return
        words = pull_words(pull, self._now())
        if pull.phase is PullPhase.DONE and pull.transfer.total_bytes:
            words = f"Fetched {readable_size(pull.transfer.total_bytes)}"
        self._words.setText(words)
        percent = pull.transfer.percent
        self._percent.setText("" if percent is None else f"{percent} %")
        self._percent.setVisible(percent is not None)
        self._bar.show_share(pull.transfer.share, words, bar_tone(pull))

    def _remedy(self, remedy: Remedy) -> None:
        pull = self._pull
        parsed = parse_reference(pull.reference) if pull else None
        if pull is None or parsed is None:
            return
        match remedy:
            case Remedy.RETRY:
                self._intents.resume_pull.emit(pull.id)
            case Remedy.LOG_IN:
                self._intents.log_in.emit(parsed.registry)
            case Remedy.SHOW_TAGS:
                self._intents.navigate.emit(Route(Page.DISCOVER, parsed.familiar_repository))
            case Remedy.SEARCH:
                self._intents.navigate.emit(DISCOVER)
            case Remedy.SHOW_IMAGES:
                self._intents.navigate.emit(IMAGES)
            case Remedy.REGISTRIES:
                self._intents.navigate.emit(Route(Page.REGISTRIES))

    def _button(self, text: str, kind: str, icon: str, name: str, deed: Callable[[Pull], object]) -> TextButton:
        button = TextButton(text, kind, icon)
        button.setObjectName(name)
        button.clicked.connect(lambda: self._pull and deed(self._pull))
        return button

    def _run_ticker(self) -> None:
        if self.isVisible() and self._pull is not None and self._pull.phase is PullPhase.PULLING:
            self._ticker.start()
        else:
            self._ticker.stop()

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._run_ticker()

    def hideEvent(self, event: QHideEvent) -> None:
        super().hideEvent(event)
        self._ticker.stop()
