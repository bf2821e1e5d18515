"""A sheet that shows what would go as a list to choose from, with a sum that follows the choice."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QCheckBox, QListWidget, QListWidgetItem, QWidget

from kitepy.gui.widgets.form import FormSheet
from kitepy.gui.widgets.labels import label

Line = tuple[str, str, str]
"""Key, text, tooltip."""


class PickSheet(FormSheet):
    """`prefix` begins the names of its parts; subclasses say which lines there are and what the chosen ones come to."""

    confirmed = Signal(object)
    """Keys of what goes."""

    def __init__(self, parent: QWidget, name: str, prefix: str, title: str, text: str, more: str) -> None:
        super().__init__(parent, name, title, width=520)
        self._text = text
        self._more = QCheckBox(more)
        self._more.toggled.connect(self._show)
        self._list = QListWidget()
        self._list.setAccessibleName("What would be removed")
        self._list.setProperty("role", "well")
        self._list.setFixedHeight(190)
        self._list.itemChanged.connect(lambda _item: self._sum_up())
        self._sum = label("", "strong", wrap=True)
        self.add("", self._more, f"{prefix}-more")
        self.add("", self._list, f"{prefix}-list")
        self.add("", self._sum, f"{prefix}-sum")
        self._fields.pop()

    def build_for(self, *, more: bool) -> None:
        self.build("Remove", label(self._text, "muted", wrap=True), danger=True)
        self._more.setChecked(more)
        self._show()
        self.accepted.connect(lambda: self.confirmed.emit(self._chosen()))

    def lines(self, *, more: bool) -> Sequence[Line]:
        raise NotImplementedError

    def sum_of(self, keys: Sequence[str]) -> str:
        raise NotImplementedError

    def _show(self) -> None:
        self._list.blockSignals(True)
        self._list.clear()
        for key, text, tip in self.lines(more=self._more.isChecked()):
            line = QListWidgetItem(text, self._list)
            line.setData(Qt.ItemDataRole.UserRole, key)
            line.setToolTip(tip)
            line.setFlags(Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsSelectable | Qt.ItemFlag.ItemIsUserCheckable)
            line.setCheckState(Qt.CheckState.Checked)
        self._list.blockSignals(False)
        self._sum_up()

    def _chosen(self) -> list[str]:
        lines = [self._list.item(number) for number in range(self._list.count())]
        return [line.data(Qt.ItemDataRole.UserRole) for line in lines if line.checkState() is Qt.CheckState.Checked]

    def _sum_up(self) -> None:
        self._sum.setText(self.sum_of(self._chosen()))
        self.check()

    def trouble(self) -> str:
        return "" if self._chosen() else "Nothing is chosen."

    def unfinished(self) -> bool:
        return not self._chosen()
