"""Cards in as many columns as there is room for. A card costs some milliseconds: they are made a few at a time, so that
the window never stands still for a long list, and those that stay are kept."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from itertools import pairwise

from PySide6.QtCore import QTimer
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QAbstractButton, QGridLayout, QWidget

_GAP_PX = 12
_AT_ONCE = 2

Maker = Callable[[], QWidget]


class CardGrid(QWidget):
    def __init__(self, width_px: int) -> None:
        super().__init__()
        self._width_px = width_px
        self._makers: dict[Hashable, Maker] = {}
        self._cards: dict[Hashable, QWidget] = {}
        self._places: dict[QWidget, tuple[int, int]] = {}
        self._columns = 1
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setSpacing(_GAP_PX)
        self._builder = QTimer(self, interval=0)
        self._builder.timeout.connect(self._build_some)

    def show_cards(self, cards: Sequence[tuple[Hashable, Maker]]) -> None:
        """Each by a key, by which a card is known that is there already, and by what makes it."""
        self._makers = dict(cards)
        for key in [key for key in self._cards if key not in self._makers]:
            gone = self._cards.pop(key)
            gone.hide()
            self._grid.removeWidget(gone)
            self._places.pop(gone, None)
            gone.deleteLater()
        self._build_some()

    def _build_some(self) -> None:
        missing = [key for key in self._makers if key not in self._cards]
        for key in missing[:_AT_ONCE]:
            self._cards[key] = self._makers[key]()
        self._place()
        if len(missing) > _AT_ONCE:
            self._builder.start()
        else:
            self._builder.stop()
            self._order_tabs()

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        columns = max(1, (self.width() + _GAP_PX) // (self._width_px + _GAP_PX))
        if columns != self._columns:
            self._columns = columns
            self._place()

    def _order_tabs(self) -> None:
        """Tab goes through the cards as they stand, whenever each was made."""
        stops = [button for key in self._makers for button in self._cards[key].findChildren(QAbstractButton)]
        for first, second in pairwise(stops):
            QWidget.setTabOrder(first, second)

    def _place(self) -> None:
        shown = [self._cards[key] for key in self._makers if key in self._cards]
        for number, card in enumerate(shown):
            place = (number // self._columns, number % self._columns)
            if self._places.get(card) != place:
                self._places[card] = place
                self._grid.addWidget(card, *place)
        for number in range(max(self._columns, self._grid.columnCount())):
            self._grid.setColumnStretch(number, 1 if number < self._columns else 0)
