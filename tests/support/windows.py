"""What tests of the app's pages ask of tables and sheets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from PySide6.QtWidgets import QAbstractButton

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
