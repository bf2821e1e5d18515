"""The page a container serves, told in a card: address, status, title, first words, and how fast it came."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QFrame, QVBoxLayout

from kitepy.gui.models.preview import Preview
from kitepy.gui.models.sidebar import Glyph
from kitepy.gui.views.intents import Intents
from kitepy.gui.widgets.buttons import IconButton, TextButton
from kitepy.gui.widgets.labels import ElidedLabel, Pill, label
from kitepy.gui.widgets.layout import IconLabel, column, frame, line, row


class PreviewCard(QFrame):
    def __init__(self, intents: Intents) -> None:
        super().__init__()
        self.setObjectName("preview-card")
        self.setProperty("role", "card")
        self._url = ""
        self._address = ElidedLabel("", "", Qt.TextElideMode.ElideMiddle)
        self._address.setObjectName("preview-address")
        copy = IconButton("copy", "Copy address")
        copy.clicked.connect(lambda: intents.copy_text.emit(self._url, "the address"))
        again = IconButton("refresh", "Fetch the page again")
        again.clicked.connect(intents.refresh_preview)
        self._open = TextButton("Open in browser", "primary", "external")
        self._open.setObjectName("preview-open")
        self._open.clicked.connect(lambda: intents.open_url.emit(self._url))
        bar = row(
            frame("well", row(IconLabel("globe", 16), self._address, spacing=8, margins=(10, 5, 10, 5))),
            again,
            copy,
            self._open,
            spacing=4,
        )
        bar.setStretch(0, 1)
        self._title = label("", "heading", wrap=True)
        self._title.setObjectName("preview-title")
        self._excerpt = label("", "muted", wrap=True)
        self._pill = Pill()
        self._pill.setObjectName("preview-status")
        self._facts = ElidedLabel("", "small")
        body = QVBoxLayout()
        body.addLayout(column(self._title, self._excerpt, 4, row(self._pill, self._facts, 0, spacing=10), spacing=6))
        self.setLayout(column(bar, line(), body, spacing=12, margins=(18, 14, 18, 16)))
        self.show_preview(None)

    def show_address(self, url: str) -> None:
        self._url = url
        self._address.set_text(url)

    def show_preview(self, preview: Preview | None) -> None:
        if preview is None:
            self._title.setText("Asking for the page…")
            self._excerpt.setText("")
            self._pill.show_state(Glyph.BUSY, "Waiting")
            self._facts.set_text("")
        elif preview.answered:
            self._title.setText(
                preview.title or ("No title" if "html" in preview.content_type else preview.content_type or "Answered")
            )
            self._excerpt.setText(preview.excerpt)
            good = preview.status < 400
            self._pill.show_state(Glyph.RUNNING if good else Glyph.FAILED, f"{preview.status} {preview.reason}".strip())
            moved = f"moved to {preview.final_url}" if preview.final_url.rstrip("/") != preview.url.rstrip("/") else ""
            facts = (f"{preview.latency_ms:.0f} ms", preview.content_type, preview.server, moved)
            self._facts.set_text("  ·  ".join(fact for fact in facts if fact))
        else:
            self._title.setText("No answer yet")
            self._excerpt.setText(preview.error)
            self._pill.show_state(Glyph.STOPPED, "No answer")
            self._facts.set_text("")
        if preview is not None:
            self.show_address(preview.url)
        self._excerpt.setVisible(bool(self._excerpt.text()))
