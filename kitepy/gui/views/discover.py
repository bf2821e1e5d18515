"""The Discover page: search at the top, pulls in hand, then what is here, what was found, or one repository."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QStackedWidget, QWidget

from kitepy.gui.models.state import REGISTRIES, AppState
from kitepy.gui.views.discover_results import SearchResults
from kitepy.gui.views.discover_start import DiscoverStart
from kitepy.gui.views.intents import Intents
from kitepy.gui.views.pull_strip import PullStrip
from kitepy.gui.views.repository_page import RepositoryPage
from kitepy.gui.widgets.buttons import TextButton
from kitepy.gui.widgets.labels import label
from kitepy.gui.widgets.layout import column, row
from kitepy.gui.widgets.search_field import SearchField


class DiscoverPage(QWidget):
    def __init__(self, intents: Intents) -> None:
        super().__init__()
        self.setObjectName("discover-page")
        self.filter = SearchField("Search images: nginx, ghcr.io/team/app:1.2", "discover-search", intents.search.emit)
        self.filter.setProperty("role", "big")
        registries = TextButton("Registries", "flat", "registry")
        registries.setObjectName("discover-registries")
        registries.setAccessibleName("Registries that are searched")
        registries.clicked.connect(lambda: intents.navigate.emit(REGISTRIES))
        self.pulls = PullStrip(intents)
        self.start = DiscoverStart(intents)
        self.results = SearchResults(intents)
        self.filter.returnPressed.connect(self.results.open_first)
        self._body = QStackedWidget()
        self._body.addWidget(self.start)
        self._body.addWidget(self.results)
        head = column(
            row(label("Run something", "title"), 0, registries),
            label("From a registry, from a project of yours, or from an image that is already here.", "muted"),
            6,
            self.filter,
            self.pulls,
            spacing=6,
            margins=(32, 24, 32, 0),
        )
        overview = QWidget()
        whole = column(head, self._body, spacing=14)
        whole.setStretch(1, 1)
        overview.setLayout(whole)
        self.repository = RepositoryPage(intents)
        self._pages = QStackedWidget()
        self._pages.addWidget(overview)
        self._pages.addWidget(self.repository)
        self.setLayout(column(self._pages))

    def show_state(self, state: AppState) -> None:
        if state.route.key:
            self.repository.show_state(state)
            self._pages.setCurrentIndex(1)
            return
        self._pages.setCurrentIndex(0)
        self.pulls.show_pulls(state.pulls.values())
        if state.discover.search.query:
            self.results.show_state(state)
            self._body.setCurrentIndex(1)
        else:
            self.start.show_state(state)
            self._body.setCurrentIndex(0)

    def start_search(self) -> None:
        """In what is in sight: registries, or the tags of one repository."""
        field = self.repository.filter if self._pages.currentIndex() else self.filter
        field.setFocus(Qt.FocusReason.ShortcutFocusReason)
