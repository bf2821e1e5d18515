"""The volumes of the engine: the list, and one volume with its files, its users and its backups."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import QPoint, Qt
from PySide6.QtWidgets import QMenu, QStackedWidget, QWidget

from kitepy.gui.models.image import readable_size
from kitepy.gui.models.log import local_time
from kitepy.gui.models.state import AppState, Page, Route
from kitepy.gui.models.table import Column, TableModel
from kitepy.gui.models.volume import JobTopic, VolumeRow, volume_rows
from kitepy.gui.views.intents import Intents
from kitepy.gui.views.volume_detail import VolumeDetail
from kitepy.gui.widgets.buttons import TextButton
from kitepy.gui.widgets.jobs import JobStrip
from kitepy.gui.widgets.labels import label
from kitepy.gui.widgets.layout import Placeholder, column, frame, row
from kitepy.gui.widgets.search_field import SearchField
from kitepy.gui.widgets.table import Table


def _size(item: VolumeRow) -> str:
    return "…" if item.size_bytes is None else readable_size(item.size_bytes)


def _created(item: VolumeRow) -> str:
    found = local_time(item.volume.created_at)
    return f"{found:%Y-%m-%d %H:%M}" if found else ""


def _state_tone(item: VolumeRow) -> str:
    return "success" if item.alive else "muted"


def _name_tip(item: VolumeRow) -> str:
    labels = "\n".join(f"{key}={value}" for key, value in item.volume.own_labels.items())
    return f"{item.volume.name}\n{labels}".strip()


_COLUMNS: tuple[Column[VolumeRow], ...] = (
    Column("Name", lambda item: item.volume.title, tip=_name_tip, tone=lambda item: "muted" if item.volume.is_anonymous else ""),
    Column("Size", _size, lambda item: -1 if item.size_bytes is None else item.size_bytes, right=True),
    Column("State", lambda item: item.state, tone=_state_tone),
    Column("Used by", lambda item: item.used_by, lambda item: (len(item.users), item.used_by)),
    Column("Driver", lambda item: item.volume.driver),
    Column("Created", _created),
)


class VolumesPage(QWidget):
    def __init__(self, intents: Intents) -> None:
        super().__init__()
        self.setObjectName("volumes-page")
        self._intents = intents
        self._state = AppState()
        self._summary = label("", "muted")
        self._summary.setObjectName("volumes-summary")
        self.filter = SearchField("Filter volumes", "volume-filter", self._show_list, width=200)
        create = self._button("Create…", "primary", "plus", "volume-create", intents.create_volume.emit)
        restore = self._button("Restore…", "", "upload", "volume-restore", lambda: intents.restore_volume.emit(""))
        restore.setToolTip("Unpack a backup into a new volume")
        self._prune = self._button("Prune…", "", "broom", "volume-prune", intents.prune_volumes.emit)
        self._prune.setToolTip("Remove volumes that no container uses")
        self._back_up = self._button("Back up…", "", "download", "volume-back-up", lambda: self._act(intents.back_up_volume.emit))
        self._remove = self._button("Remove…", "", "trash", "volume-remove", lambda: self._act(intents.remove_volume.emit))
        self._open = self._button("Open", "", "folder", "volume-open", lambda: self._act(self._open_name))
        model: TableModel[VolumeRow] = TableModel(_COLUMNS, lambda item: item.volume.name, self)
        self.list: Table[VolumeRow] = Table("volumes-list", "Volumes", model, 3, {0: 190, 1: 80, 2: 120, 4: 64, 5: 130})
        self.list.selection_moved.connect(self._selection_moved)
        self.list.opened.connect(lambda item: self._open_name(item.volume.name))
        self.list.menu_wanted.connect(self._menu)
        self._placeholder = Placeholder("volume")
        self._placeholder.acted.connect(self._act_on_placeholder)
        self._body = QStackedWidget()
        self._body.addWidget(self._placeholder)
        self._body.addWidget(frame("card", column(self.list, margins=(6, 6, 6, 6))))
        self.jobs = JobStrip(intents)
        overview = QWidget()
        overview.setLayout(
            column(
                row(label("Volumes", "title"), self._summary, 0, self.filter, spacing=12),
                row(self._prune, 0, self._remove, self._back_up, self._open, restore, create, spacing=8),
                self.jobs,
                self._body,
                spacing=10,
                margins=(32, 24, 32, 24),
            )
        )
        self.detail = VolumeDetail(intents)
        self._pages = QStackedWidget()
        self._pages.addWidget(overview)
        self._pages.addWidget(self.detail)
        self.setLayout(column(self._pages))
        self._selection_moved()

    def show_state(self, state: AppState) -> None:
        self._state = state
        if state.route.key:
            rows = volume_rows(state.volumes, state.containers.values(), state.volume_sizes)
            self.detail.show_state(state, next((item for item in rows if item.volume.name == state.route.key), None))
            self._pages.setCurrentIndex(1)
            return
        self._pages.setCurrentIndex(0)
        self.jobs.show_jobs(job for job in state.jobs.values() if job.topic is JobTopic.VOLUME)
        self._show_list()

    def _show_list(self) -> None:
        state = self._state
        query = self.filter.text()
        every = volume_rows(state.volumes, state.containers.values(), state.volume_sizes)
        shown = volume_rows(state.volumes, state.containers.values(), state.volume_sizes, query) if query else every
        measured = [item.size_bytes for item in every if item.size_bytes is not None]
        size = f", {readable_size(sum(measured))}" if measured else ""
        self._summary.setText(f"{len(every)}{size}" if every else "")
        self._prune.setEnabled(any(not item.users for item in every))
        self.list.show_values(shown)
        self._body.setCurrentIndex(1 if shown else 0)
        if shown:
            return
        if every:
            self._placeholder.say("No volume matches", f"None of {len(every)} volumes has “{query}” in its row.")
        elif state.volumes_list.error:
            self._placeholder.say("The volumes couldn't be read", state.volumes_list.error, "Try again")
        elif not state.volumes_list.loaded:
            self._placeholder.say("Waiting for the engine…", "The volumes are listed as soon as it answers.")
        else:
            self._placeholder.say("No volumes yet", "A volume keeps files when its container is removed.", "Create one")

    def _act_on_placeholder(self) -> None:
        if self._state.volumes_list.error:
            self._intents.refresh.emit()
        else:
            self._intents.create_volume.emit()

    def _button(self, text: str, kind: str, icon: str, name: str, deed: Callable[[], None]) -> TextButton:
        button = TextButton(text, kind, icon)
        button.setObjectName(name)
        button.clicked.connect(lambda: deed())
        return button

    def _selection_moved(self) -> None:
        for button in (self._open, self._remove, self._back_up):
            button.setEnabled(self.list.selected() is not None)

    def _act(self, deed: Callable[[str], None]) -> None:
        item = self.list.selected()
        if item is not None:
            deed(item.volume.name)

    def _open_name(self, name: str) -> None:
        self._intents.navigate.emit(Route(Page.VOLUMES, name))

    def _menu(self, item: VolumeRow, point: QPoint) -> None:
        name = item.volume.name
        menu = QMenu(self)
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        menu.addAction("Open").triggered.connect(lambda: self._open_name(name))
        menu.addAction("Copy name").triggered.connect(lambda: self._intents.copy_text.emit(name, "the name"))
        menu.addAction("Back up…").triggered.connect(lambda: self._intents.back_up_volume.emit(name))
        menu.addAction("Restore into it…").triggered.connect(lambda: self._intents.restore_volume.emit(name))
        menu.addAction("Remove…").triggered.connect(lambda: self._intents.remove_volume.emit(name))
        menu.popup(point)
