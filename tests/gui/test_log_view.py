"""The log view at its limit and under the pointer."""

from __future__ import annotations

import time

from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QGuiApplication, QImage
from PySide6.QtTest import QTest

from kitepy.gui.models.log import Line, LogStore
from kitepy.gui.widgets.log_view import LogView


def shown(qtbot, store: LogStore) -> LogView:
    view = LogView()
    qtbot.addWidget(view)
    view.resize(700, 400)
    view.show_store(store)
    view.show()
    qtbot.waitExposed(view)
    return view


def numbered(count: int) -> LogStore:
    store = LogStore()
    store.append(Line(f"\x1b[32mline\x1b[0m {number}", "stdout", "2026-01-02T03:04:05.5Z") for number in range(count))
    return store


def test_a_million_lines_are_shown_searched_and_followed(qtbot) -> None:
    began = time.monotonic()
    store = numbered(1_000_000)
    view = shown(qtbot, store)
    assert view.visible_text().endswith("line 999999")
    began_search = time.monotonic()
    found: list[tuple[int, int, bool]] = []
    view.search_changed.connect(lambda *answer: found.append(answer))
    view.search("line 777777")
    qtbot.waitUntil(lambda: bool(found) and found[-1][1] == 1 and found[-1][2], timeout=60_000)
    assert "line 777777" in view.visible_text()
    assert not view.following
    print(f"made and shown in {began_search - began:.1f} s, searched in {time.monotonic() - began_search:.1f} s")
    view.set_follow(True)
    store.append([Line("the newest")])
    qtbot.waitUntil(lambda: view.visible_text().endswith("the newest"))
    assert len(store) <= 1_000_000 + 1024


def test_a_search_leaves_time_for_the_user(qtbot) -> None:
    view = shown(qtbot, numbered(200_000))
    finished: list[bool] = []
    view.search_changed.connect(lambda _current, _total, ended: finished.append(ended))
    view.search("nothing like it")
    assert finished == [False]
    qtbot.waitUntil(lambda: finished[-1], timeout=30_000)
    assert len(finished) > 10


def test_scrolling_up_stops_following_and_the_end_takes_it_up_again(qtbot) -> None:
    store = numbered(500)
    view = shown(qtbot, store)
    QTest.keyClick(view, Qt.Key.Key_PageUp)
    assert not view.following
    seen = view.visible_text()
    store.append(Line(f"more {number}") for number in range(50))
    qtbot.wait(150)
    assert view.visible_text() == seen
    QTest.keyClick(view, Qt.Key.Key_End)
    assert view.following
    assert view.visible_text().endswith("more 49")


def test_what_is_marked_with_the_mouse_is_copied(qtbot) -> None:
    view = shown(qtbot, numbered(5))
    QTest.mousePress(view.viewport(), Qt.MouseButton.LeftButton, pos=QPoint(12, 12))
    QTest.mouseMove(view.viewport(), QPoint(690, 12))
    view._caret = (1, 4)
    view.copy()
    assert QGuiApplication.clipboard().text() == "line 0\nline"
    view.select_all()
    assert view.selected_text() == "line 0\nline 1\nline 2\nline 3\nline 4"


def test_dropped_lines_do_not_confuse_a_selection(qtbot) -> None:
    store = LogStore(limit=2000)
    view = shown(qtbot, store)
    store.append(Line(str(number)) for number in range(1000))
    view.select_all()
    store.append(Line(str(number)) for number in range(10_000))
    qtbot.wait(150)
    assert view.selected_text() == ""
    view.grab()


def test_colours_and_timestamps_are_drawn(qtbot) -> None:
    view = shown(qtbot, numbered(3))
    before = view.viewport().grab().toImage()
    view.set_timestamps(True)
    after = view.viewport().grab().toImage()
    assert before != after
    assert _has_colour(before, "green")


def test_long_lines_keep_their_columns(qtbot) -> None:
    """With a rounded advance the end of a line of 2,000 characters drifts by hundreds of pixels."""
    store = LogStore()
    store.append([Line("x" * 2000 + "\x1b[31m" + "END")])
    view = shown(qtbot, store)
    view.search("end")
    qtbot.waitUntil(lambda: view.horizontalScrollBar().value() > 0)
    assert _has_colour(view.viewport().grab().toImage(), "red")


def _has_colour(image: QImage, name: str) -> bool:
    for y in range(0, image.height()):
        for x in range(0, image.width(), 2):
            colour = image.pixelColor(x, y)
            red, green, blue = colour.red(), colour.green(), colour.blue()
            if name == "green" and green > red + 50 and green > blue + 30:
                return True
            if name == "red" and red > green + 80 and red > blue + 80:
                return True
    return False
