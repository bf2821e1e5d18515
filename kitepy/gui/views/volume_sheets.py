"""Questions about volumes: a new one, which unused ones to remove, and where a backup goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QLineEdit, QPlainTextEdit, QWidget

from kitepy.gui.models.container import free_name
from kitepy.gui.models.image import readable_size
from kitepy.gui.models.volume import (
    RestorePlan,
    VolumeRow,
    parse_pairs,
    trouble_with_name,
    unused,
    volume_name_from_file,
)
from kitepy.gui.widgets.buttons import Choice
from kitepy.gui.widgets.form import FormSheet
from kitepy.gui.widgets.labels import label
from kitepy.gui.widgets.pick_sheet import Line, PickSheet


class NewVolumeSheet(FormSheet):
    confirmed = Signal(str, object)
    """Name, labels."""

    def __init__(self, parent: QWidget, taken: set[str]) -> None:
        super().__init__(parent, "new-volume", "Create a volume")
        self._taken = taken
        self._name = QLineEdit(placeholderText="chosen by the engine")
        self._labels = QPlainTextEdit(placeholderText="key=value, one a line", tabChangesFocus=True)
        self._labels.setFixedHeight(84)
        self._labels.textChanged.connect(self.check)
        self.add("Name", self._name, "new-volume-name")
        self.add("Labels", self._labels, "new-volume-labels")
        self.build("Create")
        self.accepted.connect(lambda: self.confirmed.emit(self._name.text().strip(), self._pairs()))

    def _pairs(self) -> Mapping[str, str]:
        return parse_pairs(self._labels.toPlainText())

    def trouble(self) -> str:
        try:
            self._pairs()
        except ValueError as error:
            return f"“{error}” isn't a label: write key=value."
        return trouble_with_name(self._name.text().strip(), self._taken)


class PruneSheet(PickSheet):
    def __init__(self, parent: QWidget, rows: Sequence[VolumeRow]) -> None:
        super().__init__(
            parent,
            "prune-volumes",
            "prune",
            "Remove unused volumes",
            "No container uses these volumes. Their files are deleted and can't be brought back.",
            "Also those with a name",
        )
        self._rows = rows
        self.build_for(more=not unused(rows, named=False))

    def lines(self, *, more: bool) -> Sequence[Line]:
        return [self._line(item) for item in unused(self._rows, named=more)]

    def _line(self, item: VolumeRow) -> Line:
        size = "not measured yet" if item.size_bytes is None else readable_size(item.size_bytes)
        return item.volume.name, f"{item.volume.title}  ·  {size}", item.volume.name

    def sum_of(self, keys: Sequence[str]) -> str:
        chosen = [item for item in self._rows if item.volume.name in set(keys)]
        unknown = any(item.size_bytes is None for item in chosen)
        size = readable_size(sum(item.size_bytes or 0 for item in chosen))
        return f"{len(chosen)} {'volume' if len(chosen) == 1 else 'volumes'}, {'at least ' if unknown else ''}{size}"


class RestoreSheet(FormSheet):
    confirmed = Signal(object)
    """RestorePlan"""

    def __init__(self, parent: QWidget, source: Path, rows: Sequence[VolumeRow], volume: str) -> None:
        super().__init__(parent, "restore-volume", f"Restore {source.name}", width=540)
        self._rows = {item.volume.name: item for item in rows}
        self._where = Choice()
        self._where.addItem("A new volume", "")
        for item in rows:
            self._where.addItem(f"{item.volume.title} ({item.state.lower()})", item.volume.name)
        self._where.setCurrentIndex(max(0, self._where.findData(volume)) if volume else 0)
        self._where.currentIndexChanged.connect(self._follow)
        self._name = QLineEdit(free_name(volume_name_from_file(source.name), set(self._rows)))
        self._warning = label("", "muted", wrap=True)
        self.add("Into", self._where, "restore-where")
        self.add("Name", self._name, "restore-name")
        self.add("", self._warning, "restore-warning")
        self._fields.pop()
        self.build("Restore")
        self._follow()
        self.accepted.connect(lambda: self.confirmed.emit(self._plan()))

    def _plan(self) -> RestorePlan:
        existing = str(self._where.currentData())
        return RestorePlan(existing or self._name.text().strip(), create=not existing)

    def _follow(self) -> None:
        existing = self._rows.get(str(self._where.currentData()))
        self._name.setEnabled(existing is None)
        if existing is None:
            text = "It is made first, and removed again when the archive doesn't arrive whole."
        else:
            text = "Files of the same names are replaced, others stay. That can't be undone."
            if existing.alive:
                text += f" {existing.used_by} runs and may not expect its files to change: stop it first."
        self._warning.setText(text)
        self.check()

    def trouble(self) -> str:
        if self._where.currentData():
            return ""
        name = self._name.text().strip()
        return trouble_with_name(name, self._rows) if name else "Give the new volume a name."
