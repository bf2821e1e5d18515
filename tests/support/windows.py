"""What tests of the app's pages ask of tables and sheets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QAbstractButton, QApplication

if TYPE_CHECKING:
    from kitepy.gui.widgets.table import Table


def column(table: Table, number: int) -> list[str]:
    """What a column shows, from the top."""
    model = table.model()
    return [model.index(row, number).data() for row in range(model.rowCount())]


async def answer(stage: Any, name: str) -> None:
    """Press a button of the sheet that is open, and wait until the sheet is gone."""
    (await stage.shown(QAbstractButton, name)).click()
    await stage.until(lambda: not stage.window.sheet_is_open())


def reached_by_tab(stage: Any, steps: int) -> set[str]:
    """The names of what so many presses of Tab lead to, from the sidebar's filter on; each has a name for assistive tools."""
    stage.window.sidebar.filter.setFocus()
    seen: set[str] = set()
    for _ in range(steps):
        focused = QApplication.focusWidget()
        assert focused is not None
        seen.add(focused.objectName())
        text = focused.text() if isinstance(focused, QAbstractButton) else ""
        assert focused.accessibleName() or text, f"{focused.objectName()} has no name"
        QTest.keyClick(focused, Qt.Key.Key_Tab)
    return seen
