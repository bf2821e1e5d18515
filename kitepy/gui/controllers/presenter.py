"""What controllers ask of the window: questions and messages. The window fulfils it; tests may too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from kitepy.gui.models.build import BuildRequest, BuildReview


class Presenter(Protocol):
    def tell(self, text: str) -> None: ...

    def warn(self, text: str) -> None: ...

    def review(self, review: BuildReview, go: Callable[[BuildRequest], None], done: Callable[[], None]) -> None:
        """Shows the sheet; `done` is called either way, after `go` when it was accepted."""
        ...

    def confirm(self, title: str, text: str, action: str, go: Callable[[], None]) -> None: ...

    def ask_name(self, name: str, taken: set[str], go: Callable[[str], None]) -> None: ...
