"""One volume: its files as a tree with a preview, who uses it, and what is known about it."""

from __future__ import annotations

from PySide6.QtCore import QModelIndex, QPoint, Qt
from PySide6.QtWidgets import (
    QAbstractItemView,
    QHeaderView,
    QMenu,
    QPlainTextEdit,
    QSplitter,
    QStackedWidget,
    QTreeView,
    QVBoxLayout,
    QWidget,
)

from kitepy.gui.models.file_tree import FileTreeModel
from kitepy.gui.models.image import readable_size
from kitepy.gui.models.log import local_time
from kitepy.gui.models.sidebar import Glyph, state_word
from kitepy.gui.models.state import VOLUMES, AppState, Page, Route
from kitepy.gui.models.volume import Browsing, FilePreview, JobTopic, VolumeRow, VolumeUser
from kitepy.gui.theme import monospace_font
from kitepy.gui.views.intents import Intents
from kitepy.gui.widgets.buttons import IconButton, TextButton, back_button
from kitepy.gui.widgets.facts import Facts
from kitepy.gui.widgets.jobs import JobStrip
from kitepy.gui.widgets.labels import ElidedLabel, Pill, label
from kitepy.gui.widgets.layout import Placeholder, card, clear_layout, column, row, scrolling


class VolumeDetail(QWidget):
    def __init__(self, intents: Intents) -> None:
        super().__init__()
        self._intents = intents
        self._row: VolumeRow | None = None
        self._users_shown: object = None
        back = back_button(self, "All volumes", "volume-back", lambda: intents.navigate.emit(VOLUMES))
        self._name = ElidedLabel("", "title", Qt.TextElideMode.ElideMiddle)
        self._name.setObjectName("volume-name")
        self._pill = Pill()
        self._back_up = TextButton("Back up…", "primary", "download")
        self._back_up.setObjectName("volume-detail-back-up")
        self._restore = TextButton("Restore…", "", "upload")
        self._restore.setObjectName("volume-detail-restore")
        self._remove = TextButton("Remove…", "", "trash")
        self._remove.setObjectName("volume-detail-remove")
        for button, signal in (
            (self._back_up, intents.back_up_volume),
            (self._restore, intents.restore_volume),
            (self._remove, intents.remove_volume),
        ):
            button.clicked.connect(lambda _=False, signal=signal: self._row and signal.emit(self._row.volume.name))
        self.jobs = JobStrip(intents)
        self.files = VolumeFiles(intents)
        self._facts = Facts(intents.copy_text.emit)
        self._users = QVBoxLayout()
        self._users.setSpacing(2)
        facts = QWidget()
        facts.setLayout(column(card("Used by", self._users), card("About", self._facts), 0, spacing=14))
        side = scrolling(facts)
        side.setFixedWidth(300)
        body = row(card("Files", self.files), side, spacing=14)
        body.setStretch(0, 1)
        whole = column(
            row(back, self._name, self._pill, 0, self._remove, self._restore, self._back_up, spacing=10),
            6,
            self.jobs,
            body,
            spacing=8,
            margins=(24, 22, 32, 24),
        )
        whole.setStretchFactor(body, 1)
        self.setLayout(whole)

    def show_state(self, state: AppState, item: VolumeRow | None) -> None:
        """The row is None while it isn't listed yet."""
        self._row = item
        self.jobs.show_jobs(job for job in state.jobs.values() if job.subject == state.route.key and job.topic is JobTopic.VOLUME)
        self._pill.setVisible(item is not None)
        for button in (self._back_up, self._restore, self._remove):
            button.setEnabled(item is not None)
        if item is None:
            self._name.set_text("")
            return
        self._name.set_text(item.volume.title)
        glyph = Glyph.RUNNING if item.alive else Glyph.STOPPED
        self._pill.show_state(glyph, item.state)
        self._show_users(item.users)
        self._show_facts(item)
        if state.browsing.volume == item.volume.name:
            self.files.show_browsing(state.browsing)

    def _show_facts(self, item: VolumeRow) -> None:
        volume = item.volume
        created = local_time(volume.created_at)
        self._facts.show_facts(
            [
                ("Name", volume.name, True),
                ("Size", "" if item.size_bytes is None else readable_size(item.size_bytes), False),
                ("Driver", volume.driver, False),
                ("Created", f"{created:%Y-%m-%d %H:%M:%S}" if created else "", False),
                ("Place", volume.mountpoint, True),
                *(("", f"{key} = {value}", False) for key, value in {**volume.own_labels, **volume.options}.items()),
            ]
        )

    def _show_users(self, users: tuple[VolumeUser, ...]) -> None:
        if users == self._users_shown:
            return
        self._users_shown = users
        clear_layout(self._users)
        if not users:
            self._users.addWidget(label("No container uses it.", "muted", wrap=True))
        for user in users:
            container = user.container
            name = TextButton(container.name, "flat")
            name.setObjectName("volume-user")
            name.setAccessibleName(f"Show {container.name}")
            name.clicked.connect(lambda _=False, key=container.id: self._intents.navigate.emit(Route(Page.CONTAINER, key)))
            detail = f"{user.destination}{', read-only' if user.read_only else ''} · {state_word(container)}"
            self._users.addLayout(row(name, 0))
            self._users.addLayout(row(ElidedLabel(detail, "small", Qt.TextElideMode.ElideMiddle), margins=(15, 0, 0, 6)))


class VolumeFiles(QWidget):
    def __init__(self, intents: Intents) -> None:
        super().__init__()
        self._intents = intents
        self._volume = ""
        self.tree = QTreeView()
        self.tree.setObjectName("volume-files")
        self.tree.setAccessibleName("Files of the volume")
        self.tree.setProperty("role", "files")
        self.tree.setUniformRowHeights(True)
        self.tree.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.tree.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self.tree.customContextMenuRequested.connect(self._menu)
        self.model = FileTreeModel(self)
        self.model.folder_wanted.connect(lambda path: intents.open_folder.emit(self._volume, path))
        self.tree.setModel(self.model)
        header = self.tree.header()
        header.setStretchLastSection(False)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        for section, width in ((1, 74), (2, 124), (3, 60), (4, 54)):
            header.resizeSection(section, width)
        self.tree.selectionModel().currentChanged.connect(self._current_changed)
        self.preview = QPlainTextEdit(readOnly=True)
        self.preview.setObjectName("file-preview")
        self.preview.setAccessibleName("Preview")
        self.preview.setFont(monospace_font(0.92))
        self.preview.setLineWrapMode(QPlainTextEdit.LineWrapMode.NoWrap)
        self.preview.setPlaceholderText("Choose a file to see what is in it.")
        self._note = ElidedLabel("", "muted")
        self._note.setObjectName("file-note")
        self._save = TextButton("Save…", "", "download")
        self._save.setObjectName("file-save")
        self._save.clicked.connect(self._save_current)
        refresh = IconButton("refresh", "Read the files again (F5)")
        refresh.clicked.connect(intents.refresh)
        self._placeholder = Placeholder("folder")
        self._placeholder.acted.connect(intents.refresh)
        splitter = QSplitter(Qt.Orientation.Vertical)
        splitter.addWidget(self.tree)
        splitter.addWidget(self.preview)
        splitter.setSizes([300, 180])
        splitter.setChildrenCollapsible(False)
        self._body = QStackedWidget()
        self._body.addWidget(self._placeholder)
        self._body.addWidget(splitter)
        line = row(self._note, 0, refresh, self._save, spacing=8)
        whole = column(self._body, line, spacing=8)
        whole.setStretch(0, 1)
        self.setLayout(whole)
        self._show_preview(None)

    def show_browsing(self, browsing: Browsing) -> None:
        self._volume = browsing.volume
        self.model.show(browsing)
        self._show_preview(browsing.preview)
        root = browsing.folders.get("/")
        if root is not None and not root.error and root.entries:
            self._body.setCurrentIndex(1)
            return
        self._body.setCurrentIndex(0)
        if root is None:
            self._placeholder.say("Reading the files…")
        elif root.error:
            self._placeholder.say("The files can't be shown", root.error, "Try again")
        else:
            self._placeholder.say("Empty", "There are no files in this volume.")

    def _show_preview(self, preview: FilePreview | None) -> None:
        entry = self.model.entry(self.tree.currentIndex())
        path = self.model.path(self.tree.currentIndex()) if entry is not None else ""
        self._save.setEnabled(entry is not None and entry.kind in ("file", "directory"))
        mine = preview if preview is not None and preview.path == path else None
        text = mine.text or "" if mine is not None else ""
        if self.preview.toPlainText() != text:
            self.preview.setPlainText(text)
        notes = [path, mine.note if mine else "", "Only the beginning is shown." if mine and mine.truncated else ""]
        self._note.set_text("  ·  ".join(note for note in notes if note))

    def _current_changed(self, current: QModelIndex) -> None:
        entry = self.model.entry(current)
        self._show_preview(None)
        if entry is not None:
            self._intents.preview_file.emit(self._volume, self.model.path(current), entry)

    def _save_current(self) -> None:
        index = self.tree.currentIndex()
        entry = self.model.entry(index)
        if entry is not None:
            self._intents.save_file.emit(self._volume, self.model.path(index), entry.is_folder)

    def _menu(self, point: QPoint) -> None:
        index = self.tree.indexAt(point)
        if index.isValid():
            self.tree.setCurrentIndex(index)
        index = self.tree.currentIndex()
        entry = self.model.entry(index)
        if entry is None:
            return
        path = self.model.path(index)
        menu = QMenu(self)
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        save = menu.addAction("Save as tar…" if entry.is_folder else "Save…")
        save.setEnabled(entry.kind in ("file", "directory"))
        save.triggered.connect(self._save_current)
        menu.addAction("Copy path").triggered.connect(lambda: self._intents.copy_text.emit(path, "the path"))
        menu.popup(self.tree.viewport().mapToGlobal(point))
