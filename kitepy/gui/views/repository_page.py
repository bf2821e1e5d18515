"""One repository of a registry: its tags, and what a pull of the chosen one would bring."""

from __future__ import annotations

import time

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QStackedWidget, QWidget

from kitepy.gui.models.discover import RepositoryView, Tag
from kitepy.gui.models.image import readable_age, readable_size
from kitepy.gui.models.log import local_time
from kitepy.gui.models.pull import Pull
from kitepy.gui.models.reference import DOCKER_HUB, Reference, parse_reference
from kitepy.gui.models.state import DISCOVER, REGISTRIES, AppState, Page, Route
from kitepy.gui.models.table import Column, TableModel
from kitepy.gui.models.trouble import Remedy
from kitepy.gui.views.intents import Intents
from kitepy.gui.views.pull_preview import PullPreviewCard
from kitepy.gui.views.pull_strip import PullStrip
from kitepy.gui.widgets.buttons import TextButton, back_button
from kitepy.gui.widgets.labels import ElidedLabel, label
from kitepy.gui.widgets.layout import IconLabel, Placeholder, card, column, row
from kitepy.gui.widgets.search_field import SearchField
from kitepy.gui.widgets.table import Table
from kitepy.gui.widgets.trouble import TroubleCard

_SIDE_WIDTH = 340


def _age(tag: Tag) -> str:
    found = local_time(tag.created_at)
    if found is None or found.year < 1990:
        return ""  # reproducible builds set the clock to nothing
    return readable_age(time.time() - found.timestamp())


def _size(tag: Tag) -> str:
    if tag.note:
        return "?"
    return readable_size(tag.size_bytes) if tag.size_bytes else "…"


def _platforms(tag: Tag) -> str:
    """Short: Linux goes without saying, and so does the usual variant."""
    return ", ".join(platform.removeprefix("linux/").replace("arm64/v8", "arm64") for platform in tag.platforms)


def _created_order(tag: Tag) -> float:
    found = local_time(tag.created_at)
    return -found.timestamp() if found else 0.0


_COLUMNS: tuple[Column[Tag], ...] = (
    Column("Tag", lambda tag: tag.name, tip=lambda tag: tag.note or tag.digest or tag.name),
    Column("Size", _size, lambda tag: tag.size_bytes, right=True, tip=lambda tag: tag.note or "Compressed, as it is fetched"),
    Column("Made", _age, _created_order, tip=lambda tag: tag.created_at),
    Column(
        "Platforms",
        _platforms,
        lambda tag: (len(tag.platforms), _platforms(tag)),
        tip=lambda tag: "\n".join(tag.platforms),
        tone=lambda _tag: "muted",
    ),
)


def _is_of(pull: Pull, reference: Reference) -> bool:
    parsed = parse_reference(pull.reference)
    return parsed is not None and (parsed.registry, parsed.repository) == (reference.registry, reference.repository)


class RepositoryPage(QWidget):
    def __init__(self, intents: Intents) -> None:
        super().__init__()
        self.setObjectName("repository-page")
        self._intents = intents
        self._view = RepositoryView()
        back = back_button(self, "Discover", "repository-back", lambda: intents.navigate.emit(DISCOVER))
        self._badge = IconLabel("badge", 22, "accent")
        self._badge.setToolTip("Official image")
        self._title = ElidedLabel("", "title", Qt.TextElideMode.ElideMiddle)
        self._title.setObjectName("repository-name")
        self._origin = label("", "muted")
        self._description = label("", "muted", wrap=True)
        self.pulls = PullStrip(intents)
        self.filter = SearchField("Filter tags", "tag-filter", intents.filter_tags.emit, width=200)
        model: TableModel[Tag] = TableModel(_COLUMNS, lambda tag: tag.name, self)
        self.list: Table[Tag] = Table("tags-list", "Tags", model, 3, {0: 126, 1: 72, 2: 118})
        self.list.selection_moved.connect(self._tag_chosen)
        self.preview = PullPreviewCard(intents)
        self.preview.setFixedWidth(_SIDE_WIDTH)
        self.list.opened.connect(lambda _tag: self.preview.run())
        self._more = TextButton("More tags", "flat")
        self._more.setObjectName("tags-more")
        self._more.clicked.connect(intents.more_tags.emit)
        self._count = label("", "small")
        self._placeholder = Placeholder("layers")
        self._placeholder.acted.connect(lambda: intents.filter_tags.emit(""))
        self._trouble = TroubleCard("tags-trouble", self._remedy, intents.copy_text.emit)
        table = QWidget()
        table.setLayout(column(self.list, row(self._count, 0, self._more), spacing=4))
        self._body = QStackedWidget()
        self._body.addWidget(self._placeholder)
        self._body.addWidget(table)
        self._room = QWidget()
        tags = card("Tags", self._trouble, self._body, self._room, corner=self.filter)
        body = row(tags, self.preview, spacing=14)
        body.setStretch(0, 1)
        whole = column(
            row(back, self._badge, self._title, self._origin, 0, spacing=10),
            self._description,
            self.pulls,
            4,
            body,
            spacing=6,
            margins=(24, 22, 32, 24),
        )
        whole.setStretchFactor(body, 1)
        self.setLayout(whole)

    def show_state(self, state: AppState) -> None:
        view = state.discover.repository
        changed = view.key != self._view.key
        self._view = view
        if view.reference is None:
            return
        if changed and self.filter.text():
            self.filter.blockSignals(True)
            self.filter.clear()
            self.filter.blockSignals(False)
        reference, hit = view.reference, view.hit
        hub = reference.registry == DOCKER_HUB
        self._title.set_text(reference.familiar_repository if hub else reference.repository)
        self._origin.setText("at Docker Hub" if hub else f"at {reference.registry}")
        self._badge.setVisible(bool(hit and hit.official))
        self._description.setText(hit.description if hit else "")
        self._description.setVisible(bool(hit and hit.description))
        self.pulls.show_pulls(pull for pull in state.pulls.values() if _is_of(pull, reference))
        self._show_tags(view)
        self.preview.show_state(state)

    def _show_tags(self, view: RepositoryView) -> None:
        self._trouble.show_trouble(view.trouble, (Remedy.SHOW_TAGS,))
        self.list.blockSignals(True)
        self.list.rows.show(view.tags)
        current = self.list.rows.row_of(view.chosen)
        if current >= 0 and self.list.currentIndex().row() != current:
            self.list.setCurrentIndex(self.list.rows.index(current, 0))
        elif current < 0:
            self.list.selectionModel().clear()
        self.list.blockSignals(False)
        self._more.setVisible(bool(view.next))
        self._more.setEnabled(not view.loading)
        self._count.setText(f"{len(view.tags)}{' and more' if view.next else ''}{', reading…' if view.loading else ''}")
        self._body.setVisible(bool(view.tags) or view.trouble is None)
        self._room.setVisible(not (view.tags or view.trouble is None))
        self._body.setCurrentIndex(1 if view.tags else 0)
        if view.tags:
            return
        if view.loading or not view.loaded:
            self._placeholder.say("Asking for the tags…")
        elif view.filter:
            self._placeholder.say("No tag matches", f"None has “{view.filter}” in its name.")
        else:
            self._placeholder.say("No tags", "The repository is there, but nothing has been pushed to it.")

    def _tag_chosen(self) -> None:
        tag = self.list.selected()
        if tag is not None and tag.name != self._view.chosen:
            self._intents.choose_tag.emit(tag.name)

    def _remedy(self, remedy: Remedy) -> None:
        reference = self._view.reference
        match remedy:
            case Remedy.RETRY:
                self._intents.list_tags_again.emit()
            case Remedy.LOG_IN if reference is not None:
                self._intents.log_in.emit(reference.registry)
            case Remedy.SEARCH:
                self._intents.navigate.emit(DISCOVER)
            case Remedy.SHOW_IMAGES:
                self._intents.navigate.emit(Route(Page.IMAGES))
            case _:
                self._intents.navigate.emit(REGISTRIES)
