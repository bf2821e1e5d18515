"""The Qt item model of an image's files: as a volume's, and with what the layer does to each."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import Qt

from kitepy.gui.models.file_tree import FileTreeModel, Index, cell_text
from kitepy.gui.models.image_detail import CHANGE_SIGNS
from kitepy.gui.models.table import TONE_ROLE
from kitepy.gui.models.volume import FileEntry

_TONES = {"added": "success", "changed": "warning", "removed": "danger"}


class ImageTreeModel(FileTreeModel):
    TITLES = ("Name", "Size", "Layer", "Owner", "Mode")

    def cell(self, entry: FileEntry, column: int) -> str:
        if entry.kind in ("note", "more"):
            return cell_text(entry, column)
        if column == 0:
            return f"{CHANGE_SIGNS.get(entry.change, chr(0x2007))} {cell_text(entry, 0)}"
        if column == 2:
            return str(entry.layer + 1)
        return cell_text(entry, column)

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        entry = self.entry(index)
        if role == TONE_ROLE:
            if entry is None:
                return "muted"
            # A folder without a change of its own is only the way to one.
            return _TONES.get(entry.change, "muted" if entry.is_folder or not entry.change else "")
        if role == Qt.ItemDataRole.AccessibleTextRole and entry is not None and index.column() == 0:
            return f"{cell_text(entry, 0)}{f', {entry.change}' if entry.change in _TONES else ''}"
        if role == Qt.ItemDataRole.TextAlignmentRole and index.column() == 2:
            return Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        return super().data(index, role)
