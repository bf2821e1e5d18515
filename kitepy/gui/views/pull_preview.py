"""What a pull would bring: bytes to fetch, platform, how the image runs, and how it differs from the one of that name here."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QFrame, QVBoxLayout, QWidget

from kitepy.gui.models.discover import ImageConfig, PullPreview, RepositoryView, changes
from kitepy.gui.models.image import readable_size
from kitepy.gui.models.log import local_time
from kitepy.gui.models.state import DISCOVER, AppState
from kitepy.gui.models.trouble import Remedy
from kitepy.gui.views.intents import Intents
from kitepy.gui.widgets.buttons import Choice, TextButton
from kitepy.gui.widgets.facts import Facts
from kitepy.gui.widgets.labels import ElidedLabel, label
from kitepy.gui.widgets.layout import IconLabel, clear_layout, column, line, row, scrolling
from kitepy.gui.widgets.transfer import ShareBar
from kitepy.gui.widgets.trouble import TroubleCard

_MOST_VARIABLES = 8
_MOST_CHANGES = 12


class PullPreviewCard(QFrame):
    def __init__(self, intents: Intents) -> None:
        super().__init__()
        self.setObjectName("pull-preview")
        self.setProperty("role", "card")
        self._intents = intents
        self._view = RepositoryView()
        self._preview: PullPreview | None = None
        self._name = ElidedLabel("", "strong", Qt.TextElideMode.ElideMiddle)
        self._name.setObjectName("preview-name")
        self._fetch = label("", wrap=True)
        self._fetch.setObjectName("preview-fetch")
        self._bar = ShareBar("preview-here", "How much of it is here already")
        self._platform = Choice()
        self._platform.setObjectName("preview-platform")
        self._platform.setAccessibleName("Platform")
        self._platform.activated.connect(lambda _index: intents.choose_platform.emit(str(self._platform.currentData() or "")))
        self._root = row(
            IconLabel("info", 16, "warning"), label("It runs as root, as far as its configuration says.", "small"), 0
        )
        self._root_line = QWidget()
        self._root_line.setLayout(self._root)
        self._facts = Facts(intents.copy_text.emit)
        self._changes_title = label("Compared to the one here", "section")
        self._changes = QVBoxLayout()
        self._changes.setSpacing(4)
        self._waiting = label("", "muted", wrap=True)
        self._waiting.setObjectName("preview-waiting")
        self._trouble = TroubleCard("preview-trouble", self._remedy, intents.copy_text.emit)
        self._pull = TextButton("Pull only", "", "download")
        self._pull.setObjectName("preview-pull")
        self._pull.clicked.connect(lambda: self._begin(run=False))
        self._go = TextButton("Pull and run", "primary", "play")
        self._go.setObjectName("preview-run")
        self._go.clicked.connect(self.run)
        self._content = QWidget()
        self._content.setLayout(
            column(
                self._fetch,
                self._bar,
                self._platform,
                self._root_line,
                self._changes_title,
                self._changes,
                line(),
                self._facts,
                0,
                spacing=10,
                margins=(0, 0, 6, 0),
            )
        )
        area = scrolling(self._content)
        self._area = area
        self._room = QWidget()
        layout = column(
            label("What a pull brings", "section"),
            self._name,
            self._waiting,
            self._trouble,
            area,
            self._room,
            row(self._pull, self._go, spacing=8),
            spacing=8,
            margins=(18, 14, 16, 14),
        )
        layout.setStretchFactor(area, 1)
        layout.setStretchFactor(self._room, 1)
        self.setLayout(layout)

    def show_state(self, state: AppState) -> None:
        view = state.discover.repository
        self._view = view
        chosen = view.chosen_reference
        self._name.set_text(chosen.familiar if chosen else "")
        # What the list of tags says already isn't said twice.
        told = view.trouble is not None and view.preview_trouble is not None and view.trouble.cause is view.preview_trouble.cause
        self._trouble.show_trouble(None if told else view.preview_trouble, (Remedy.SHOW_TAGS,))
        preview = view.preview
        self._waiting.setVisible(preview is None and (told or view.preview_trouble is None))
        asking = "Asking the registry…" if chosen else "Choose a tag to see what it brings."
        self._waiting.setText("It can't be told before the registry answers." if told else asking)
        self._area.setVisible(preview is not None)
        self._room.setVisible(preview is None)
        for button in (self._pull, self._go):
            button.setEnabled(chosen is not None)
        if preview is None:
            self._preview = None
            self._go.relabel("Pull and run", "play")
            return
        if preview != self._preview:
            self._preview = preview
            self._show_preview(preview)
        # What is here needs no network to run.
        here = preview.is_here and not view.platform
        self._go.relabel("Run" if here else "Pull and run", "play")
        self._pull.setEnabled(not preview.is_here)

    def run(self) -> None:
        preview, chosen = self._view.preview, self._view.chosen_reference
        if preview is not None and chosen is not None and preview.is_here and not self._view.platform:
            self._intents.run_image.emit(chosen.pulled)
        else:
            self._begin(run=True)

    def _begin(self, *, run: bool) -> None:
        chosen = self._view.chosen_reference
        if chosen is not None:
            self._intents.pull.emit(chosen.pulled, self._view.platform, run)

    def _show_preview(self, preview: PullPreview) -> None:
        words = fetch_words(preview)
        self._fetch.setText(words)
        share = 1.0 if preview.is_here else 1 - preview.fetch_bytes / preview.size_bytes if preview.size_bytes else 0.0
        self._bar.show_share(max(0.0, min(1.0, share)), words, "success")
        self._show_platforms(preview)
        self._root_line.setVisible(preview.runs_as_root)
        self._facts.show_facts(_facts(preview))
        self._show_changes(preview)

    def _show_platforms(self, preview: PullPreview) -> None:
        wanted = preview.platforms or ((preview.platform,) if preview.platform else ())
        self._platform.setVisible(bool(wanted))
        self._platform.setEnabled(len(wanted) > 1)
        self._platform.clear()
        for platform in wanted:
            native = " (this machine)" if not self._view.platform and platform == preview.platform else ""
            self._platform.addItem(f"{platform}{native}", "" if native else platform)
        index = next((number for number, platform in enumerate(wanted) if platform == preview.platform), 0)
        self._platform.setCurrentIndex(index)

    def _show_changes(self, preview: PullPreview) -> None:
        clear_layout(self._changes)
        local = preview.local
        self._changes_title.setVisible(local is not None and not preview.is_here)
        if local is None or preview.is_here:
            return
        found = changes(local.config, preview.config)
        made = local_time(local.created_at)
        if made:
            self._changes.addWidget(label(f"The one here was made on {made:%Y-%m-%d}.", "muted", wrap=True))
        if not found:
            self._changes.addWidget(label("It runs the same way; only its files differ.", "muted", wrap=True))
        for change in found[:_MOST_CHANGES]:
            before, after = change.before or "nothing", change.after or "nothing"
            text = ElidedLabel(f"{change.what}: {before} → {after}", "", Qt.TextElideMode.ElideRight)
            text.setObjectName("preview-change")
            self._changes.addWidget(text)
        if len(found) > _MOST_CHANGES:
            self._changes.addWidget(label(f"and {len(found) - _MOST_CHANGES} more", "muted"))

    def _remedy(self, remedy: Remedy) -> None:
        reference = self._view.reference
        match remedy:
            case Remedy.LOG_IN if reference is not None:
                self._intents.log_in.emit(reference.registry)
            case Remedy.SEARCH:
                self._intents.navigate.emit(DISCOVER)
            case _:
                self._intents.preview_again.emit()


def fetch_words(preview: PullPreview) -> str:
    """`54.3 MB to fetch of 143 MB; 2 of 5 layers are here`."""
    if preview.is_here:
        return f"This very image is here already: nothing to fetch of {readable_size(preview.size_bytes)}."
    here = sum(layer.here for layer in preview.layers)
    some = "all layers are here" if here == len(preview.layers) else f"{here} of {len(preview.layers)} layers are here"
    shared = f"; {some}" if here else ""
    of = f" of {readable_size(preview.size_bytes)}" if preview.fetch_bytes < preview.size_bytes else ""
    return f"{readable_size(preview.fetch_bytes)} to fetch{of}{shared}."


def _facts(preview: PullPreview) -> list[tuple[str, str, bool]]:
    config: ImageConfig = preview.config
    made = local_time(preview.created_at)
    variables = config.environment[:_MOST_VARIABLES]
    more = len(config.environment) - len(variables)
    return [
        ("User", breakable(config.user or "root"), False),
        ("Ports", breakable(", ".join(config.exposed)), False),
        ("Entry point", breakable(" ".join(config.entrypoint)), False),
        ("Command", breakable(" ".join(config.command)), False),
        ("Folder", breakable(config.working_directory), False),
        ("Volumes", breakable(", ".join(config.volumes)), False),
        ("Made", f"{made:%Y-%m-%d %H:%M}" if made and made.year >= 1990 else "", False),
        ("Layers", str(len(preview.layers)), False),
        *(("", variable, False) for variable in variables),
        ("", f"and {more} more variables" if more > 0 else "", False),
        ("", preview.digest, False),
    ]


def breakable(text: str) -> str:
    """Long words may be broken: a path or an address without spaces would make the page wider than the window."""
    return " ".join("\u200b".join(word[start : start + 16] for start in range(0, len(word), 16)) for word in text.split(" "))
