"""The window as the controllers see it: questions become sheets, messages become notices."""

from __future__ import annotations

from collections.abc import Callable

from kitepy.gui.models.build import BuildRequest, BuildReview
from kitepy.gui.views.main_window import MainWindow


class WindowPresenter:
    def __init__(self, window: MainWindow) -> None:
        self._window = window

    def tell(self, text: str) -> None:
        self._window.notices.tell(text)

    def warn(self, text: str) -> None:
        self._window.notices.warn(text)

    def review(self, review: BuildReview, go: Callable[[BuildRequest], None], done: Callable[[], None]) -> None:
        self._window.bring_to_front()
        sheet = self._window.ask_review(review)
        sheet.confirmed.connect(go)
        sheet.accepted.connect(done)
        sheet.rejected.connect(done)

    def confirm(self, title: str, text: str, action: str, go: Callable[[], None]) -> None:
        self._window.bring_to_front()
        self._window.ask_to_confirm(title, text, action).accepted.connect(go)

    def ask_name(self, name: str, taken: set[str], go: Callable[[str], None]) -> None:
        self._window.bring_to_front()
        self._window.ask_name(name, taken).renamed.connect(go)
