"""What a search has found: the name that was typed, images of this machine, cards of registries, and who couldn't be asked."""

from __future__ import annotations

import time
from functools import partial

from PySide6.QtCore import Qt
from PySide6.QtGui import QMouseEvent
from PySide6.QtWidgets import QFrame, QSizePolicy, QWidget

from kitepy.gui.models.discover import Hit, Search, SourcePhase, local_hits
from kitepy.gui.models.image import Image, readable_age, readable_size
from kitepy.gui.models.items import plain_tip
from kitepy.gui.models.reference import DOCKER_HUB, Reference
from kitepy.gui.models.sidebar import Glyph
from kitepy.gui.models.state import REGISTRIES, AppState, Page, Route
from kitepy.gui.models.trouble import Remedy
from kitepy.gui.views.intents import Intents
from kitepy.gui.widgets.buttons import TextButton
from kitepy.gui.widgets.card_grid import CardGrid
from kitepy.gui.widgets.glyph import GlyphWidget
from kitepy.gui.widgets.labels import ElidedLabel, label
from kitepy.gui.widgets.layout import IconLabel, column, frame, row, scrolling
from kitepy.gui.widgets.trouble import TroubleCard

_CARD_WIDTH = 300
_LOCAL_WIDTH = 236
_MOST_LOCAL = 6
_MOST_CARDS = 48
_DESCRIPTION_LINES = 2
# A search has no tags to show, and is no name to search for again.
_SENSELESS = (Remedy.SEARCH, Remedy.SHOW_TAGS)


def registry_title(host: str) -> str:
    return "Docker Hub" if host == DOCKER_HUB else host


def readable_count(count: int) -> str:
    """`950`, `20.3k`, `1.2M`."""
    if count < 1000:
        return str(count)
    return f"{count / 1000:.1f}k" if count < 1_000_000 else f"{count / 1_000_000:.1f}M"


class HitCard(QFrame):
    """A click anywhere opens the tags; the buttons are for the keyboard and for running it at once."""

    def __init__(self, hit: Hit, intents: Intents) -> None:
        super().__init__()
        self._hit = hit
        self._intents = intents
        self.setObjectName("hit-card")
        self.setProperty("role", "card")
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        title = ElidedLabel(hit.title, "strong", Qt.TextElideMode.ElideMiddle)
        head = row(IconLabel("badge" if hit.official else "images", 20, "accent"), title, spacing=10)
        head.setStretch(1, 1)
        if hit.stars:
            stars = label(readable_count(hit.stars), "small")
            stars.setAccessibleName(f"{hit.stars} stars")
            head.addWidget(IconLabel("star", 15, "warning"))
            head.addWidget(stars)
        description = label(hit.description or "No description.", "muted", wrap=True)
        description.setFixedHeight(description.fontMetrics().lineSpacing() * _DESCRIPTION_LINES + 2)
        description.setAlignment(Qt.AlignmentFlag.AlignTop | Qt.AlignmentFlag.AlignLeft)
        description.setToolTip(plain_tip(hit.description))
        origin = ElidedLabel(f"{'Official · ' if hit.official else ''}{registry_title(hit.registry)}", "small")
        tags = TextButton("Tags", "flat")
        tags.setObjectName("hit-tags")
        tags.setAccessibleName(f"Tags of {hit.title}")
        tags.clicked.connect(self._open)
        run = TextButton("Run", "", "play")
        run.setObjectName("hit-run")
        run.setAccessibleName(f"Pull and run {hit.title}")
        run.setToolTip(f"Pull {hit.reference.pulled} and run it")
        run.clicked.connect(lambda: intents.pull.emit(hit.reference.pulled, "", True))
        foot = row(origin, tags, run, spacing=6)
        foot.setStretch(0, 1)
        self.setLayout(column(head, description, foot, spacing=8, margins=(14, 12, 12, 12)))

    def _open(self) -> None:
        self._intents.navigate.emit(Route(Page.DISCOVER, self._hit.reference.familiar_repository))

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        super().mouseReleaseEvent(event)
        if event.button() is Qt.MouseButton.LeftButton and self.rect().contains(event.position().toPoint()):
            self._open()


class SearchResults(QWidget):
    def __init__(self, intents: Intents) -> None:
        super().__init__()
        self.setObjectName("search-results")
        self._intents = intents
        self._shown_hits: tuple[Hit, ...] | None = None
        self._shown_local: tuple[tuple[Image, str], ...] | None = None
        self._exact_reference: Reference | None = None
        self._troubles: dict[str, TroubleCard] = {}

        self._offline_text = label("", wrap=True)
        self._offline_text.setObjectName("offline-line")
        again = TextButton("Try again", "", "refresh")
        again.setObjectName("search-again")
        again.clicked.connect(intents.search_again.emit)
        offline = row(IconLabel("unlink", 20, "warning"), self._offline_text, again, spacing=12, margins=(14, 10, 12, 10))
        offline.setStretch(1, 1)
        self._offline = frame("card", offline)

        self._exact_title = ElidedLabel("", "strong", Qt.TextElideMode.ElideMiddle)
        self._exact_detail = label("", "muted")
        exact_show = TextButton("Look at it", "")
        exact_show.setObjectName("exact-show")
        exact_show.clicked.connect(self._show_exact)
        exact_run = TextButton("Pull and run", "primary", "play")
        exact_run.setObjectName("exact-run")
        exact_run.clicked.connect(self._run_exact)
        exact = row(
            IconLabel("download", 22, "accent"),
            column(self._exact_title, self._exact_detail, spacing=2),
            exact_show,
            exact_run,
            spacing=12,
            margins=(14, 12, 12, 12),
        )
        exact.setStretch(1, 1)
        self._exact = frame("card", exact)

        self._local_heading = label("On this machine", "heading")
        self._local = CardGrid(_LOCAL_WIDTH)
        self._glyph = GlyphWidget()
        self._heading = label("In registries", "heading")
        self._status = ElidedLabel("", "muted")
        self._status.setObjectName("search-status")
        self._grid = CardGrid(_CARD_WIDTH)
        self._trouble_stack = column(spacing=8)
        heading = row(self._heading, self._glyph, self._status, spacing=10, margins=(0, 6, 0, 0))
        heading.setStretch(2, 1)
        content = QWidget()
        content.setLayout(
            column(
                self._offline,
                self._exact,
                self._local_heading,
                self._local,
                heading,
                self._grid,
                self._trouble_stack,
                0,
                spacing=10,
                margins=(32, 0, 32, 28),
            )
        )
        self.setLayout(column(scrolling(content)))

    def show_state(self, state: AppState) -> None:
        search = state.discover.search
        local = local_hits(state.images, search.query)[:_MOST_LOCAL]
        if local != self._shown_local:
            self._shown_local = local
            self._local.show_cards([((image, tag), partial(self._local_card, image, tag)) for image, tag in local])
        for widget in (self._local_heading, self._local):
            widget.setVisible(bool(local))
        self._show_exact_name(search)
        hits = search.hits[:_MOST_CARDS]
        if hits != self._shown_hits:
            self._shown_hits = hits
            self._grid.show_cards([(hit, partial(HitCard, hit, self._intents)) for hit in hits])
        self._show_status(search, bool(local))
        self._show_troubles(search)

    def open_first(self) -> None:
        """Enter in the search field: the name that was typed, or the likeliest result."""
        if self._exact_reference is not None:
            self._show_exact()
        elif self._shown_hits:
            self._intents.navigate.emit(Route(Page.DISCOVER, self._shown_hits[0].reference.familiar_repository))

    def _show_exact_name(self, search: Search) -> None:
        self._exact_reference = search.exact
        self._exact.setVisible(search.exact is not None)
        if search.exact is not None:
            self._exact_title.set_text(search.exact.pulled)
            self._exact_detail.setText(f"Exactly this name, from {registry_title(search.exact.registry)}")

    def _show_status(self, search: Search, has_local: bool) -> None:
        offline = search.offline
        self._offline.setVisible(offline)
        if offline:
            here = "What is on this machine can be run all the same." if has_local else "Nothing on this machine has that name."
            self._offline_text.setText(f"There is no network, so registries can't be searched. {here}")
        for widget in (self._heading, self._status):
            widget.setVisible(not offline)
        self._glyph.setVisible(search.searching)
        self._glyph.show_glyph(Glyph.BUSY)
        self._status.set_text(_status(search))

    def _show_troubles(self, search: Search) -> None:
        failed = {} if search.offline else {source.registry: source for source in search.sources if source.trouble}
        for host in [host for host in self._troubles if host not in failed]:
            gone = self._troubles.pop(host)
            gone.hide()
            self._trouble_stack.removeWidget(gone)
            gone.deleteLater()
        for host, source in failed.items():
            if host not in self._troubles:
                act = lambda remedy, host=host: self._remedy(remedy, host)  # noqa: E731 - a slot with its host
                self._troubles[host] = TroubleCard("search-trouble", act, self._intents.copy_text.emit)
                self._trouble_stack.addWidget(self._troubles[host])
            self._troubles[host].show_trouble(source.trouble, _SENSELESS)

    def _remedy(self, remedy: Remedy, host: str) -> None:
        match remedy:
            case Remedy.LOG_IN:
                self._intents.log_in.emit(host)
            case Remedy.RETRY:
                self._intents.search_again.emit()
            case _:
                self._intents.navigate.emit(REGISTRIES)

    def _show_exact(self) -> None:
        if self._exact_reference is not None:
            self._intents.navigate.emit(Route(Page.DISCOVER, self._exact_reference.familiar))

    def _run_exact(self) -> None:
        if self._exact_reference is not None:
            self._intents.pull.emit(self._exact_reference.pulled, "", True)

    def _local_card(self, image: Image, tag: str) -> QFrame:
        run = TextButton("Run", "", "play")
        run.setObjectName("local-run")
        run.setAccessibleName(f"Run {tag}")
        run.clicked.connect(lambda: self._intents.run_image.emit(tag))
        age = readable_age(time.time() - image.created_s) if image.created_s > 0 else ""
        facts = " · ".join(part for part in (readable_size(image.size_bytes), age) if part)
        title = ElidedLabel(tag.removesuffix(":latest"), "strong", Qt.TextElideMode.ElideMiddle)
        head = row(IconLabel("images", 20, "accent"), title, spacing=10)
        head.setStretch(1, 1)
        return frame("card", column(head, row(label(facts, "small"), 0, run), spacing=8, margins=(14, 12, 12, 12)))


def _status(search: Search) -> str:
    if not search.sources:
        return "Two letters or more are searched for."
    busy = [registry_title(source.registry) for source in search.sources if source.phase is SourcePhase.SEARCHING]
    if busy:
        return f"Asking {', '.join(busy)}…"
    count = sum(len(source.hits) for source in search.sources)
    asked = [registry_title(source.registry) for source in search.sources if source.phase is SourcePhase.DONE]
    if not asked:
        return ""
    found = f"{count} found" if count else "Nothing found"
    return f"{found} at {', '.join(asked)}"
