"""Facts about a thing as two columns: what it is called at the left, what it is at the right, with a button to copy some."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QGridLayout, QWidget

from kitepy.gui.widgets.buttons import IconButton
from kitepy.gui.widgets.labels import ElidedLabel, label
from kitepy.gui.widgets.layout import clear_layout

_LONGEST_WORD = 40
Fact = tuple[str, str, bool]
"""Title, text, and whether it is worth a button that copies it. One without a text isn't shown; one without a title gets the
whole width for one line, cut if need be."""


class Facts(QWidget):
    def __init__(self, copy: Callable[[str, str], None]) -> None:
        super().__init__()
        self._copy = copy
        self._shown: tuple[Fact, ...] = ()
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(14)
        self._grid.setVerticalSpacing(2)
        self._grid.setColumnStretch(1, 1)

    def show_facts(self, facts: Sequence[Fact]) -> None:
        wanted = tuple(fact for fact in facts if fact[1])
        if wanted == self._shown:
            return
        self._shown = wanted
        clear_layout(self._grid)
        for number, (title, text, copyable) in enumerate(wanted):
            if not title:
                self._grid.addWidget(ElidedLabel(text, "", Qt.TextElideMode.ElideMiddle), number, 0, 1, 3)
                continue
            name = label(title, "muted")
            # A digest can't be broken into lines, and would make the whole page as wide as it is.
            unbroken = max(map(len, text.split()), default=0) > _LONGEST_WORD
            value = ElidedLabel(text, "", Qt.TextElideMode.ElideMiddle) if unbroken else label(text, wrap=True, selectable=True)
            for words in (name, value):
                # As high as the button beside some of them, so that all rows stand on one line.
                words.setContentsMargins(0, 4, 0, 4)
            self._grid.addWidget(name, number, 0, Qt.AlignmentFlag.AlignTop)
            self._grid.addWidget(value, number, 1, Qt.AlignmentFlag.AlignTop)
            if copyable:
                button = IconButton("copy", f"Copy {title.lower()}", small=True)
                button.clicked.connect(lambda _checked=False, text=text, title=title: self._copy(text, f"the {title.lower()}"))
                self._grid.addWidget(button, number, 2, Qt.AlignmentFlag.AlignTop)
