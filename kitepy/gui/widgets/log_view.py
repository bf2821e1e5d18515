"""A virtual view of a LogStore: only the visible lines are painted, so a million lines cost no more than a screenful.

Offers follow, selection by mouse and keyboard, copy, timestamps and a search that runs in slices between other events.
"""

from __future__ import annotations

from collections.abc import Iterator

from PySide6.QtCore import QEvent, QPoint, Qt, QTimer, Signal
from PySide6.QtGui import (
    QAccessible,
    QAction,
    QColor,
    QContextMenuEvent,
    QGuiApplication,
    QKeyEvent,
    QKeySequence,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QResizeEvent,
)
from PySide6.QtWidgets import QAbstractScrollArea, QFrame, QMenu, QWidget

from kitepy.gui.models.ansi import overwrite, plain
from kitepy.gui.models.log import LogStore
from kitepy.gui.theme import monospace_font, tokens
from kitepy.gui.widgets.log_painter import TIMESTAMP_COLUMNS, LinePainter, Mark

_MARGIN = 12
# New lines are shown at most this often; a chatty container must not repaint a thousand times a second.
_REFRESH_MS = 50
# One slice of a search: short enough that a key press between two slices feels immediate.
_SEARCH_SLICE_BLOCKS = 8
_MOST_MATCHES = 10_000

Position = tuple[int, int]
"""(line number, column)"""


class LogView(QAbstractScrollArea):
    """`follow_changed(bool)`; `search_changed(current, total, finished)` counts from 1, 0 for none."""

    follow_changed = Signal(bool)
    search_changed = Signal(int, int, bool)

    def __init__(self, parent: QWidget | None = None, *, scale: float = 0.95) -> None:
        super().__init__(parent)
        self._scale = scale
        self._store = LogStore(limit=1)
        self._unsubscribe = self._store.subscribe(self._store_changed)
        self._painter = LinePainter(monospace_font(scale), tokens())
        self._follow = True
        self._timestamps = False
        self._empty_text = "No output yet."
        self._anchor: Position | None = None
        self._caret: Position | None = None
        self._needle = ""
        self._matches: list[Position] = []
        self._current_match = -1
        self._search: Iterator[Position | None] | None = None
        self._adjusting = False
        self._refresh = QTimer(self, interval=_REFRESH_MS, singleShot=True)
        self._refresh.timeout.connect(self._show_changes)
        self._search_timer = QTimer(self, interval=0)
        self._search_timer.timeout.connect(self._search_slice)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setAccessibleName("Log output")
        self.viewport().setCursor(Qt.CursorShape.IBeamCursor)
        self.verticalScrollBar().valueChanged.connect(self._scrolled)
        copy = QAction("Copy", self, shortcut=QKeySequence(QKeySequence.StandardKey.Copy))
        copy.setShortcutContext(Qt.ShortcutContext.WidgetShortcut)
        copy.triggered.connect(self.copy)
        everything = QAction("Select all", self, shortcut=QKeySequence(QKeySequence.StandardKey.SelectAll))
        everything.setShortcutContext(Qt.ShortcutContext.WidgetShortcut)
        everything.triggered.connect(self.select_all)
        self.addActions([copy, everything])

    # What it shows

    def show_store(self, store: LogStore) -> None:
        self._unsubscribe()
        self._store = store
        self._unsubscribe = store.subscribe(self._store_changed)
        self._anchor = self._caret = None
        self.search(self._needle)
        self._follow = True
        self.follow_changed.emit(True)
        self._show_changes()

    @property
    def store(self) -> LogStore:
        return self._store

    def set_empty_text(self, text: str) -> None:
        self._empty_text = text
        self.viewport().update()

    def set_timestamps(self, shown: bool) -> None:
        self._timestamps = shown
        self._show_changes()

    @property
    def following(self) -> bool:
        return self._follow

    def set_follow(self, follow: bool) -> None:
        if follow != self._follow:
            self._follow = follow
            self.follow_changed.emit(follow)
        if follow:
            self._to_end()

    def go_to_line(self, number: int) -> None:
        """Puts the line at the top and stops following, unless the end is in sight."""
        self.set_follow(False)
        self.verticalScrollBar().setValue(number - self._store.first_number)

    def visible_text(self) -> str:
        """The lines in sight as plain text; also what assistive tools are given."""
        first = self._first_visible()
        return self._store.text(first, first + self._rows())

    # Search

    def search(self, needle: str) -> None:
        """Begins anew; matches are counted while the user goes on working."""
        self._needle = needle
        self._matches = []
        self._current_match = -1
        self._search = self._store.find(needle, self._store.first_number) if needle else None
        if self._search is None:
            self._search_timer.stop()
        else:
            self._search_timer.start()
        self.search_changed.emit(0, 0, self._search is None)
        self.viewport().update()

    def next_match(self, step: int = 1) -> None:
        if not self._matches:
            return
        self._current_match = (self._current_match + step) % len(self._matches)
        self._reveal(self._matches[self._current_match])
        self.search_changed.emit(self._current_match + 1, len(self._matches), self._search is None)

    def _search_slice(self) -> None:
        if self._search is None:
            self._search_timer.stop()
            return
        had_none = not self._matches
        blocks = 0
        for match in self._search:
            if match is None:
                blocks += 1
                if blocks >= _SEARCH_SLICE_BLOCKS:
                    break
            else:
                self._matches.append(match)
                if len(self._matches) >= _MOST_MATCHES:
                    self._search = None
                    break
        else:
            self._search = None
        if had_none and self._matches:
            first_visible = self._first_visible()
            later = (index for index, match in enumerate(self._matches) if match[0] >= first_visible)
            self._current_match = next(later, 0)
            self._reveal(self._matches[self._current_match])
        self.search_changed.emit(self._current_match + 1, len(self._matches), self._search is None)
        self.viewport().update()

    def _reveal(self, match: Position) -> None:
        self.set_follow(False)
        row = match[0] - self._store.first_number
        top = self.verticalScrollBar().value()
        if not top <= row < top + self._rows() - 1:
            self.verticalScrollBar().setValue(max(0, row - self._rows() // 2))
        column = match[1] + len(self._needle) + (TIMESTAMP_COLUMNS if self._timestamps else 0)
        right = column * self._painter.advance
        bar = self.horizontalScrollBar()
        if not bar.value() <= right <= bar.value() + self.viewport().width() - 2 * _MARGIN:
            bar.setValue(int(max(0, right - self.viewport().width() / 2)))
        self.viewport().update()

    # Selection and copy

    def select_all(self) -> None:
        self._anchor = (self._store.first_number, 0)
        self._caret = (self._store.end_number, 0)
        self.viewport().update()

    def selected_text(self) -> str:
        if self._anchor is None or self._caret is None or self._anchor == self._caret:
            return ""
        (first, start), (last, end) = sorted((self._anchor, self._caret))
        rows = self._store.text(first, last + 1).split("\n")
        if last < self._store.end_number:
            rows[-1] = rows[-1][:end]
        rows[0] = rows[0][start:]
        return "\n".join(rows)

    def copy(self) -> None:
        """The selection, or everything when nothing is selected."""
        text = self.selected_text() or self._store.text(self._store.first_number, self._store.end_number)
        QGuiApplication.clipboard().setText(text)

    # Events

    def paintEvent(self, _event: QPaintEvent) -> None:
        painter = QPainter(self.viewport())
        look = self._painter.look
        painter.fillRect(self.viewport().rect(), QColor(look.log))
        width = float(self.viewport().width())
        if not len(self._store):
            painter.setPen(QColor(look.muted))
            painter.drawText(self.viewport().rect(), Qt.AlignmentFlag.AlignCenter, self._empty_text)
            painter.end()
            return
        first = self._first_visible()
        x = _MARGIN - self.horizontalScrollBar().value()
        y = float(_MARGIN // 2)
        matches = self._matches_between(first, first + self._rows() + 2)
        for number in range(first, min(first + self._rows() + 2, self._store.end_number)):
            line = self._store.line(number)
            marks = self._marks(number, len(line.text), matches.get(number, []))
            self._painter.paint(painter, x, y, line, marks, timestamps=self._timestamps, width=width)
            y += self._painter.height
        painter.end()

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._show_changes()

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() in (QEvent.Type.PaletteChange, QEvent.Type.FontChange, QEvent.Type.StyleChange):
            self._painter = LinePainter(monospace_font(self._scale), tokens())
            self.viewport().update()

    def mousePressEvent(self, event: QMouseEvent) -> None:
        if event.button() == Qt.MouseButton.LeftButton:
            place = self._position(event.position().toPoint())
            extend = bool(event.modifiers() & Qt.KeyboardModifier.ShiftModifier)
            self._anchor = self._anchor if extend and self._anchor else place
            self._caret = place
            self.viewport().update()

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        if event.buttons() & Qt.MouseButton.LeftButton:
            self.set_follow(False)
            y = event.position().y()
            if y < 0 or y > self.viewport().height():
                bar = self.verticalScrollBar()
                bar.setValue(bar.value() + (-1 if y < 0 else 1))
            self._caret = self._position(event.position().toPoint())
            self.viewport().update()

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        number, column = self._position(event.position().toPoint())
        if number >= self._store.end_number:
            return
        text = plain(overwrite(self._store.line(number).text))
        start = end = min(column, len(text))
        while start > 0 and not text[start - 1].isspace():
            start -= 1
        while end < len(text) and not text[end].isspace():
            end += 1
        self._anchor, self._caret = (number, start), (number, end)
        self.viewport().update()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        bar = self.verticalScrollBar()
        steps = {
            Qt.Key.Key_Up: -1,
            Qt.Key.Key_Down: 1,
            Qt.Key.Key_PageUp: -self._rows(),
            Qt.Key.Key_PageDown: self._rows(),
        }
        if event.key() == Qt.Key.Key_Home:
            bar.setValue(0)
        elif event.key() == Qt.Key.Key_End:
            self.set_follow(True)
        elif Qt.Key(event.key()) in steps:
            bar.setValue(bar.value() + steps[Qt.Key(event.key())])
        else:
            super().keyPressEvent(event)

    def contextMenuEvent(self, event: QContextMenuEvent) -> None:
        menu = QMenu(self)
        menu.addActions(self.actions())
        menu.exec(event.globalPos())
        menu.deleteLater()

    # Geometry

    def _rows(self) -> int:
        return max(1, int((self.viewport().height() - _MARGIN) / self._painter.height))

    def _first_visible(self) -> int:
        return self._store.first_number + self.verticalScrollBar().value()

    def _position(self, point: QPoint) -> Position:
        row = int((point.y() - _MARGIN // 2) // self._painter.height)
        number = max(self._store.first_number, min(self._first_visible() + row, self._store.end_number))
        x = point.x() - _MARGIN + self.horizontalScrollBar().value()
        column = round(x / self._painter.advance) - (TIMESTAMP_COLUMNS if self._timestamps else 0)
        if number < self._store.end_number:
            column = min(column, len(plain(overwrite(self._store.line(number).text))))
        return number, max(0, column)

    def _matches_between(self, first: int, last: int) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        from bisect import bisect_left

        for number, column in self._matches[bisect_left(self._matches, (first, 0)) : bisect_left(self._matches, (last, 0))]:
            found.setdefault(number, []).append(column)
        return found

    def _marks(self, number: int, length: int, columns: list[int]) -> list[Mark]:
        look = self._painter.look
        marks = [Mark(column, column + len(self._needle), look.match) for column in columns]
        if 0 <= self._current_match < len(self._matches) and self._matches[self._current_match][0] == number:
            column = self._matches[self._current_match][1]
            marks.append(Mark(column, column + len(self._needle), "#ffb454" if not look.dark else "#b36b00"))
        if self._anchor is not None and self._caret is not None and self._anchor != self._caret:
            (first, start), (last, end) = sorted((self._anchor, self._caret))
            if first <= number <= last:
                left = start if number == first else 0
                right = end if number == last else max(length, 1)
                marks.append(Mark(left, right, look.selected))
        return marks

    # Following

    def _store_changed(self) -> None:
        if not self._refresh.isActive():
            self._refresh.start()

    def _show_changes(self) -> None:
        if self._anchor is not None and self._anchor[0] < self._store.first_number:
            self._anchor = self._caret = None
        bar = self.verticalScrollBar()
        self._adjusting = True
        bar.setRange(0, max(0, len(self._store) - self._rows()))
        bar.setPageStep(self._rows())
        bar.setSingleStep(1)
        columns = self._store.longest + (TIMESTAMP_COLUMNS if self._timestamps else 0)
        wide = int(columns * self._painter.advance) + 2 * _MARGIN - self.viewport().width()
        self.horizontalScrollBar().setRange(0, max(0, wide))
        self.horizontalScrollBar().setPageStep(self.viewport().width())
        self.horizontalScrollBar().setSingleStep(int(self._painter.advance * 4))
        self._adjusting = False
        if self._follow:
            self._to_end()
        count = f"{len(self._store)} lines"
        # Painted text is invisible to assistive tools, so they are told what is in sight; nobody pays for it otherwise.
        self.setAccessibleDescription(f"{count}\n{self.visible_text()}" if QAccessible.isActive() else count)
        self.viewport().update()

    def _to_end(self) -> None:
        self._adjusting = True
        self.verticalScrollBar().setValue(self.verticalScrollBar().maximum())
        self._adjusting = False
        self.viewport().update()

    def _scrolled(self, value: int) -> None:
        """Scrolling up stops the following, scrolling to the end takes it up again."""
        if self._adjusting:
            return
        at_end = value >= self.verticalScrollBar().maximum()
        if at_end != self._follow:
            self._follow = at_end
            self.follow_changed.emit(at_end)
        self.viewport().update()
