"""The images on this machine: the list with what each takes and who uses it, and one image looked into."""

from __future__ import annotations

import time
from collections.abc import Callable

from PySide6.QtCore import QPoint, Qt
from PySide6.QtWidgets import QMenu, QStackedWidget, QWidget

from kitepy.gui.models.image import readable_age, readable_size
from kitepy.gui.models.image_list import ImageFilter, ImageRow, image_rows, total_bytes
from kitepy.gui.models.state import DISCOVER, AppState, Page, Route
from kitepy.gui.models.table import Column, TableModel
from kitepy.gui.models.volume import JobTopic
from kitepy.gui.views.image_detail import ImageDetail
from kitepy.gui.views.intents import Intents
from kitepy.gui.widgets.buttons import Choice, TextButton
from kitepy.gui.widgets.jobs import JobStrip
from kitepy.gui.widgets.labels import label
from kitepy.gui.widgets.layout import Placeholder, column, frame, row
from kitepy.gui.widgets.search_field import SearchField
from kitepy.gui.widgets.table import Table


def _own(item: ImageRow) -> str:
    own = item.image.own_bytes
    return "" if own is None else readable_size(own)


def _age(item: ImageRow) -> str:
    created_s = item.image.created_s
    return readable_age(time.time() - created_s) if created_s > 0 else ""


def _name_tip(item: ImageRow) -> str:
    labels = "\n".join(f"{key}={value}" for key, value in item.image.labels.items())
    return "\n".join([*item.image.tags, item.image.id, labels]).strip()


_COLUMNS: tuple[Column[ImageRow], ...] = (
    Column("Image", lambda item: item.title, tip=_name_tip, tone=lambda item: "" if item.image.tags else "muted"),
    Column("Size", lambda item: readable_size(item.image.size_bytes), lambda item: item.image.size_bytes, right=True),
    Column(
        "Only here",
        _own,
        lambda item: -1 if item.image.own_bytes is None else item.image.own_bytes,
        right=True,
        tip=lambda _item: "What no other image has: as much as its removal frees",
    ),
    Column("Made", _age, lambda item: -item.image.created_s),
    Column("Used by", lambda item: item.used_by, lambda item: (len(item.users), item.used_by)),
    Column("Id", lambda item: item.image.short_id, tone=lambda _item: "muted"),
)


class ImagesPage(QWidget):
    def __init__(self, intents: Intents) -> None:
        super().__init__()
        self.setObjectName("images-page")
        self._intents = intents
        self._state = AppState()
        self._summary = label("", "muted")
        self._summary.setObjectName("images-summary")
        self.filter = SearchField("Filter images", "image-filter", self._show_list, width=200)
        self._kind = Choice()
        self._kind.setObjectName("image-kind")
        self._kind.setAccessibleName("Which images")
        for kind in ImageFilter:
            self._kind.addItem(kind.value, kind)
        self._kind.currentIndexChanged.connect(self._show_list)
        self._prune = self._button("Prune…", "broom", "image-prune", lambda: intents.prune_images.emit())
        self._prune.setToolTip("Remove images that no container uses")
        load = self._button("Load…", "upload", "image-load", lambda: intents.load_images.emit())
        load.setToolTip("Load an image from a file")
        self._remove = self._button("Remove…", "trash", "image-remove", lambda: self._act(intents.remove_image.emit))
        self._push = self._button("Push…", "registry", "image-push", lambda: self._act(intents.push_image.emit))
        self._save = self._button("Save…", "download", "image-save", lambda: self._act(intents.save_image.emit))
        self._open = self._button("Open", "layers", "image-open", lambda: self._act(self._open_image))
        self._run = self._button("Run", "play", "image-run", self._run_selected, "primary")
        model: TableModel[ImageRow] = TableModel(_COLUMNS, lambda item: item.image.id, self)
        self.list: Table[ImageRow] = Table("images-list", "Images", model, 0, {1: 84, 2: 84, 3: 116, 4: 150, 5: 110})
        self.list.selection_moved.connect(self._selection_moved)
        self.list.opened.connect(lambda item: self._open_image(item.image.id))
        self.list.menu_wanted.connect(self._menu)
        self._placeholder = Placeholder("images")
        self._placeholder.acted.connect(self._act_on_placeholder)
        self._body = QStackedWidget()
        self._body.addWidget(self._placeholder)
        self._body.addWidget(frame("card", column(self.list, margins=(6, 6, 6, 6))))
        self.jobs = JobStrip(intents)
        overview = QWidget()
        overview.setLayout(
            column(
                row(label("Images", "title"), self._summary, 0, self._kind, self.filter, spacing=12),
                row(self._prune, load, 0, self._remove, self._push, self._save, self._open, self._run, spacing=8),
                self.jobs,
                self._body,
                spacing=10,
                margins=(32, 24, 32, 24),
            )
        )
        self.detail = ImageDetail(intents)
        self._pages = QStackedWidget()
        self._pages.addWidget(overview)
        self._pages.addWidget(self.detail)
        self.setLayout(column(self._pages))
        self._selection_moved()

    def show_state(self, state: AppState) -> None:
        self._state = state
        if state.route.key:
            rows = image_rows(state.images, state.containers.values())
            self.detail.show_state(state, next((item for item in rows if item.image.id == state.route.key), None))
            self._pages.setCurrentIndex(1)
            return
        self._pages.setCurrentIndex(0)
        self.jobs.show_jobs(job for job in state.jobs.values() if job.topic is JobTopic.IMAGE)
        self._show_list()

    def _show_list(self) -> None:
        state, query, kind = self._state, self.filter.text(), self._kind.currentData()
        every = image_rows(state.images, state.containers.values())
        narrowed = bool(query.strip()) or kind is not ImageFilter.ALL
        shown = image_rows(state.images, state.containers.values(), query, kind) if narrowed else every
        self._summary.setText(f"{len(every)}, {readable_size(total_bytes(every))}" if every else "")
        self._prune.setEnabled(any(not item.users for item in every))
        self.list.show_values(shown)
        self._body.setCurrentIndex(1 if shown else 0)
        if shown:
            return
        if every:
            what = f" with “{query}” in its row" if query.strip() else ""
            self._placeholder.say("No image matches", f"None of {len(every)} images is {kind.value.lower()}{what}.")
        elif state.images_list.error:
            self._placeholder.say("The images couldn't be read", state.images_list.error, "Try again")
        elif not state.images_list.loaded:
            self._placeholder.say("Waiting for the engine…", "The images are listed as soon as it answers.")
        else:
            text = "An image is what a container starts from. Pull one, build one, or drop a saved one on this window."
            self._placeholder.say("No images yet", text, "Find one")

    def _act_on_placeholder(self) -> None:
        if self._state.images_list.error:
            self._intents.refresh.emit()
        else:
            self._intents.navigate.emit(DISCOVER)

    def _button(self, text: str, icon: str, name: str, deed: Callable[[], None], kind: str = "") -> TextButton:
        button = TextButton(text, kind, icon)
        button.setObjectName(name)
        button.clicked.connect(lambda: deed())
        return button

    def _selection_moved(self) -> None:
        for button in (self._run, self._open, self._save, self._push, self._remove):
            button.setEnabled(self.list.selected() is not None)

    def _act(self, deed: Callable[[str], None]) -> None:
        item = self.list.selected()
        if item is not None:
            deed(item.image.id)

    def _run_selected(self) -> None:
        item = self.list.selected()
        if item is not None:
            self._intents.run_image.emit(item.image.reference)

    def _open_image(self, image_id: str) -> None:
        self._intents.navigate.emit(Route(Page.IMAGES, image_id))

    def _menu(self, item: ImageRow, point: QPoint) -> None:
        image, intents = item.image, self._intents
        menu = QMenu(self)
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        menu.addAction("Open").triggered.connect(lambda: self._open_image(image.id))
        menu.addAction("Run").triggered.connect(lambda: intents.run_image.emit(image.reference))
        menu.addSeparator()
        for text, signal in (("Add a name…", intents.tag_image), ("Push…", intents.push_image), ("Save…", intents.save_image)):
            menu.addAction(text).triggered.connect(lambda _=False, signal=signal: signal.emit(image.id))
        menu.addAction("Copy name").triggered.connect(lambda: intents.copy_text.emit(image.reference, "the name"))
        menu.addAction("Copy id").triggered.connect(lambda: intents.copy_text.emit(image.id, "the id"))
        menu.addSeparator()
        if len(image.tags) > 1:
            names = menu.addMenu("Remove a name")
            for tag in image.tags:
                names.addAction(tag).triggered.connect(lambda _=False, tag=tag: intents.untag_image.emit(image.id, tag))
        menu.addAction("Remove…").triggered.connect(lambda: intents.remove_image.emit(image.id))
        menu.popup(point)
