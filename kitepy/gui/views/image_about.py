"""What is known about an image: its names, who uses it, and what containers get of it."""

from __future__ import annotations

import shlex

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QVBoxLayout, QWidget

from kitepy.gui.models.image import Image, readable_size
from kitepy.gui.models.image_detail import ImageDetails
from kitepy.gui.models.image_list import ImageRow
from kitepy.gui.models.log import local_time
from kitepy.gui.models.sidebar import state_word
from kitepy.gui.models.state import Page, Route
from kitepy.gui.views.intents import Intents
from kitepy.gui.widgets.buttons import IconButton, TextButton
from kitepy.gui.widgets.facts import Fact, Facts
from kitepy.gui.widgets.labels import ElidedLabel, label
from kitepy.gui.widgets.layout import card, clear_layout, column, row, scrolling

_MOST = 200


class ImageAbout(QWidget):
    def __init__(self, intents: Intents) -> None:
        super().__init__()
        self._intents = intents
        self._shown: object = None
        self._image_id = ""
        self._names, self._users = QVBoxLayout(), QVBoxLayout()
        for stack in (self._names, self._users):
            stack.setSpacing(2)
        add = TextButton("Add a name…", "flat", "plus")
        add.setObjectName("image-add-name")
        add.clicked.connect(lambda: intents.tag_image.emit(self._image_id))
        copy = intents.copy_text.emit
        self._facts, self._process, self._environment, self._labels = Facts(copy), Facts(copy), Facts(copy), Facts(copy)
        self._environment_card = card("Environment", self._environment)
        self._labels_card = card("Labels", self._labels)
        left, right = QWidget(), QWidget()
        left.setLayout(
            column(
                card("Names", self._names, corner=add), card("Used by", self._users), card("About", self._facts), 0, spacing=14
            )
        )
        right.setLayout(
            column(card("What containers get", self._process), self._environment_card, self._labels_card, 0, spacing=14)
        )
        both = row(left, right, spacing=14)
        both.setStretch(0, 1)
        both.setStretch(1, 1)
        inner = QWidget()
        inner.setLayout(both)
        self.setLayout(column(scrolling(inner)))

    def show_image(self, item: ImageRow, config: ImageDetails | None) -> None:
        self._image_id = item.image.id
        shown = (item, config)
        if shown == self._shown:
            return
        self._shown = shown
        self._show_names(item.image)
        self._show_users(item)
        self._show_facts(item.image, config)

    def _show_names(self, image: Image) -> None:
        clear_layout(self._names)
        if not image.tags:
            self._names.addWidget(label("It has no name: another image took it, or it never had one.", "muted", wrap=True))
        for tag in image.tags:
            remove = IconButton("close", f"Remove the name {tag}", small=True)
            remove.setObjectName("image-untag")
            remove.clicked.connect(lambda _=False, tag=tag: self._intents.untag_image.emit(image.id, tag))
            copy = IconButton("copy", f"Copy the name {tag}", small=True)
            copy.clicked.connect(lambda _=False, tag=tag: self._intents.copy_text.emit(tag, "the name"))
            words = ElidedLabel(tag, "", Qt.TextElideMode.ElideMiddle)
            line = row(words, copy, remove, spacing=4)
            line.setStretch(0, 1)
            self._names.addLayout(line)

    def _show_users(self, item: ImageRow) -> None:
        clear_layout(self._users)
        if not item.users:
            self._users.addWidget(label("No container is made of it.", "muted", wrap=True))
        for container in item.users[:_MOST]:
            name = TextButton(container.name, "flat")
            name.setObjectName("image-user")
            name.setAccessibleName(f"Show {container.name}")
            name.clicked.connect(lambda _=False, key=container.id: self._intents.navigate.emit(Route(Page.CONTAINER, key)))
            self._users.addLayout(row(name, label(state_word(container), "small"), 0))

    def _show_facts(self, image: Image, config: ImageDetails | None) -> None:
        config = config or ImageDetails()
        created = local_time(config.created_at)
        self._facts.show_facts(
            [
                ("Id", image.id, True),
                ("Size", _size(image), False),
                ("Platform", config.platform, False),
                ("Made", f"{created:%Y-%m-%d %H:%M}" if created and created.year > 1 else "", False),
                ("Author", config.author, False),
                *((("From" if not number else "and"), digest, True) for number, digest in enumerate(image.digests[:_MOST])),
            ]
        )
        self._process.show_facts(
            [
                ("Entrypoint", shlex.join(config.entrypoint), True),
                ("Command", shlex.join(config.command), True),
                ("User", config.user or "root", False),
                ("Directory", config.directory or "/", False),
                ("Ports", ", ".join(config.ports), False),
                ("Volumes", ", ".join(config.volumes), False),
                ("Health check", config.health_check, False),
                ("Stop signal", config.stop_signal, False),
            ]
        )
        for holder, facts, lines in (
            (self._environment_card, self._environment, [text.partition("=")[::2] for text in config.environment]),
            (self._labels_card, self._labels, list(config.labels.items())),
        ):
            holder.setVisible(bool(lines))
            facts.show_facts(_facts(lines))


def _facts(lines: list[tuple[str, str]]) -> list[Fact]:
    return [("", f"{key} = {value}", False) for key, value in lines[:_MOST]]


def _size(image: Image) -> str:
    if image.own_bytes is None or not image.shared_bytes:
        return readable_size(image.size_bytes)
    return f"{readable_size(image.size_bytes)}: {readable_size(image.own_bytes)} only here, the rest other images have too"
