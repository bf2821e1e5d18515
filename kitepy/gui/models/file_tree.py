"""The Qt item model of a volume's files: folders are asked for when they are opened, and shown when they come."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import QAbstractItemModel, QModelIndex, QObject, QPersistentModelIndex, Qt, Signal

from kitepy.gui.models.image import readable_size
from kitepy.gui.models.volume import Browsing, FileEntry, Folder

Index = QModelIndex | QPersistentModelIndex
# The view asks for every row of an open folder at once: more would be felt.
_MOST_ROWS = 2_000
_MORE = "more"
_REMARK = Qt.ItemFlag.ItemIsEnabled
_FILE = Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsSelectable


class _Node:
    __slots__ = ("children", "entry", "folder", "number", "parent", "path", "row")

    def __init__(self, number: int, entry: FileEntry, path: str, parent: _Node | None, row: int) -> None:
        self.number, self.entry, self.path, self.parent, self.row = number, entry, path, parent, row
        self.children: list[_Node] = []
        self.folder: Folder | None = None


class FileTreeModel(QAbstractItemModel):
    TITLES: tuple[str, ...] = ("Name", "Size", "Modified", "Owner", "Mode")
    folder_wanted = Signal(str)
    """The path of a folder that was opened and isn't known yet."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._volume = ""
        # An index carries a number instead of a reference: Qt may keep one longer than its node lives.
        self._by_number: dict[int, _Node] = {}
        self._last_number = 0
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._root = _Node(0, FileEntry("", "directory"), "/", None, 0)
        self._nodes: dict[str, _Node] = {"/": self._root}
        self._by_number.clear()

    def show(self, browsing: Browsing) -> None:
        if browsing.volume != self._volume:
            self.beginResetModel()
            self._volume = browsing.volume
            self._begin_anew()
            self.endResetModel()
        for path, folder in browsing.folders.items():
            node = self._nodes.get(path)
            if node is not None and node.folder is not folder:
                self._fill(node, folder)

    def _fill(self, node: _Node, folder: Folder) -> None:
        entries = folder.entries
        if folder.error and node is not self._root:
            entries = (FileEntry(folder.error, "note"),)
        elif folder.following:
            entries = (*entries, FileEntry("Show more…", _MORE))
        elif folder.truncated or len(entries) > _MOST_ROWS:
            entries = (*entries[:_MOST_ROWS], FileEntry(f"Only the first {min(len(entries), _MOST_ROWS):,} are shown.", "note"))
        if node.folder is not None and node.children and [child.entry for child in node.children] == list(entries):
            node.folder = folder
            return
        index = self._index_of(node)
        if node.children:
            self.beginRemoveRows(index, 0, len(node.children) - 1)
            self._forget(node)
            self.endRemoveRows()
        node.folder = folder
        if entries:
            self.beginInsertRows(index, 0, len(entries) - 1)
            base = node.path.rstrip("/")
            first = self._last_number + 1
            self._last_number += len(entries)
            node.children = [_Node(first + row, entry, f"{base}/{entry.name}", node, row) for row, entry in enumerate(entries)]
            self._by_number.update((child.number, child) for child in node.children)
            self._nodes.update((child.path, child) for child in node.children if child.entry.can_open)
            self.endInsertRows()

    def _forget(self, node: _Node) -> None:
        for child in node.children:
            self._forget(child)
            self._nodes.pop(child.path, None)
            self._by_number.pop(child.number, None)
        node.children = []

    def _node(self, index: Index) -> _Node:
        return self._by_number.get(index.internalId(), self._root) if index.isValid() else self._root

    def _index_of(self, node: _Node) -> QModelIndex:
        return QModelIndex() if node is self._root else self.createIndex(node.row, 0, node.number)

    def path(self, index: Index) -> str:
        return self._node(index).path

    def entry(self, index: Index) -> FileEntry | None:
        """None for the root and for what isn't a file but a remark."""
        node = self._node(index)
        return None if node is self._root or node.entry.kind in ("note", _MORE) else node.entry

    def folder_with_more(self, index: Index) -> str:
        """The folder's path when the row stands for what else is in it, else an empty text."""
        node = self._node(index)
        return node.parent.path if node.entry.kind == _MORE and node.parent is not None else ""

    # Qt

    def index(self, row: int, column: int, parent: Index = QModelIndex()) -> QModelIndex:  # noqa: B008 - Qt's signature
        node = self._node(parent)
        if 0 <= row < len(node.children) and 0 <= column < len(self.TITLES):
            return self.createIndex(row, column, node.children[row].number)
        return QModelIndex()

    def parent(self, index: Index = QModelIndex()) -> Any:  # noqa: B008 - Qt overloads it
        above = self._node(index).parent
        return QModelIndex() if above is None else self._index_of(above)

    def rowCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008 - Qt's signature
        return len(self._node(parent).children) if parent.column() <= 0 else 0

    def columnCount(self, _parent: Index = QModelIndex()) -> int:  # noqa: B008 - Qt's signature
        return len(self.TITLES)

    def hasChildren(self, parent: Index = QModelIndex()) -> bool:  # noqa: B008 - Qt's signature
        node = self._node(parent)
        return node.entry.can_open and (node.folder is None or bool(node.children))

    def canFetchMore(self, parent: Index) -> bool:
        node = self._node(parent)
        return node is not self._root and node.entry.can_open and node.folder is None

    def fetchMore(self, parent: Index) -> None:
        self.folder_wanted.emit(self._node(parent).path)

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        if orientation is Qt.Orientation.Horizontal and role == Qt.ItemDataRole.DisplayRole:
            return self.TITLES[section]
        return None

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        node = self._node(index)
        if role in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.AccessibleTextRole, Qt.ItemDataRole.ToolTipRole):
            return self.cell(node.entry, index.column())
        if role == Qt.ItemDataRole.TextAlignmentRole and index.column() == 1:
            return Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        return None

    def cell(self, entry: FileEntry, column: int) -> str:
        """For subclasses with other columns."""
        return cell_text(entry, column)

    def flags(self, index: Index) -> Qt.ItemFlag:
        return _REMARK if self.entry(index) is None and not self.folder_with_more(index) else _FILE


def cell_text(entry: FileEntry, column: int) -> str:
    if entry.kind in ("note", _MORE):
        return entry.name if column == 0 else ""
    match column:
        case 0:
            # A name may hold anything but a slash and NUL: what would break the line is shown as a mark.
            name = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in entry.name)
            return f"{name} → {entry.link_target}" if entry.kind == "symlink" else name
        case 1:
            return readable_size(entry.size_bytes) if entry.kind == "file" else ""
        case 2:
            return entry.modified_at[:16].replace("T", " ")
        case 3:
            return f"{entry.uid}:{entry.gid}"
        case _:
            return f"{entry.mode & 0o7777:04o}"
