"""Questions about images: a further name, where to push, what to call an import, which unused ones to remove."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QCheckBox, QLineEdit, QWidget

from kitepy.gui.models.image import Image, name_from_archive, readable_age, readable_size
from kitepy.gui.models.image_list import PruneCandidate, freed_bytes, holder_of, trouble_with_tag, unused
from kitepy.gui.models.reference import DOCKER_HUB, parse_reference
from kitepy.gui.widgets.form import FormSheet
from kitepy.gui.widgets.labels import label
from kitepy.gui.widgets.pick_sheet import Line, PickSheet


class TagSheet(FormSheet):
    confirmed = Signal(str)

    def __init__(self, parent: QWidget, image: Image, images: Sequence[Image]) -> None:
        super().__init__(parent, "tag-image", f"Another name for {image.title}")
        self._image, self._images = image, images
        self._name = QLineEdit(placeholderText="team/app:1.0")
        self._warning = label("", "muted", wrap=True)
        self.add("Name", self._name, "tag-name")
        self.add("", self._warning, "tag-warning")
        self._fields.pop()
        self.build("Add the name")
        self.accepted.connect(lambda: self.confirmed.emit(self._name.text().strip()))

    def trouble(self) -> str:
        text = self._name.text().strip()
        self._warning.setText(_loser(self._images, text, self._image.id))
        return trouble_with_tag(text, self._image)

    def unfinished(self) -> bool:
        return not self._name.text().strip()


def _loser(images: Sequence[Image], text: str, own_id: str = "") -> str:
    """What is said when another image has the name now."""
    holder = holder_of(images, text)
    if holder is None or holder.id == own_id:
        return ""
    return f"{text} is the name of another image ({holder.short_id}), which loses it."


class PushSheet(FormSheet):
    confirmed = Signal(str, bool)
    """Name, whether all tags of its repository go."""

    def __init__(self, parent: QWidget, image: Image, user_of: Callable[[str], str]) -> None:
        super().__init__(parent, "push-image", f"Push {image.title}", width=540)
        self._image, self._user_of = image, user_of
        self._name = QLineEdit(image.tags[0] if image.tags else "", placeholderText="registry.example.com/team/app:1.0")
        self._all = QCheckBox("All tags of this repository")
        self._all.toggled.connect(lambda _on: self.check())
        self._where = label("", "muted", wrap=True)
        self._where.setObjectName("push-where")
        self.add("Name", self._name, "push-name")
        self.add("", self._all, "push-all")
        self.add("", self._where, "push-where")
        self._fields.pop()
        self.build("Push")
        self.accepted.connect(lambda: self.confirmed.emit(self._name.text().strip(), self._all.isChecked()))

    def trouble(self) -> str:
        reference = parse_reference(self._name.text().strip())
        if reference is None or reference.digest:
            self._where.setText("")
            return "Write a name with the registry in front: registry.example.com/team/app:1.0."
        place = "Docker Hub" if reference.registry == DOCKER_HUB else reference.registry
        new = "" if reference.pulled in self._image.tags else " The image gets this name first."
        what = "Every tag of it goes" if self._all.isChecked() else "It goes"
        user = self._user_of(reference.registry)
        text = f"{what} to {place}{f' as {user}' if user else ''}, where whoever may read it finds it.{new}"
        if reference.registry == DOCKER_HUB and reference.repository.startswith("library/"):
            text = f"At Docker Hub, names without an account in front belong to Docker: write account/{reference.title}."
        self._where.setText(text)
        return ""

    def unfinished(self) -> bool:
        return not self._name.text().strip()


class ImportSheet(FormSheet):
    confirmed = Signal(str)

    def __init__(self, parent: QWidget, source: Path, images: Sequence[Image]) -> None:
        super().__init__(parent, "import-image", f"Make an image of {source.name}?", width=540)
        self._images = images
        self._name = QLineEdit(name_from_archive(source.name))
        self._warning = label("", "muted", wrap=True)
        self.add("Name", self._name, "import-name")
        self.add("", self._warning, "import-warning")
        self._fields.pop()
        text = "This archive isn't a saved image. If it is the root file system of one, it becomes an image with one layer."
        self.build("Import", label(text, "muted", wrap=True))
        self.accepted.connect(lambda: self.confirmed.emit(self._name.text().strip()))

    def trouble(self) -> str:
        text = self._name.text().strip()
        self._warning.setText(_loser(self._images, text))
        reference = parse_reference(text)
        return "" if reference is not None and not reference.digest else "Write a name like team/app:1.0."

    def unfinished(self) -> bool:
        return not self._name.text().strip()


class ImagePruneSheet(PickSheet):
    def __init__(self, parent: QWidget, candidates: Sequence[PruneCandidate], now_s: float) -> None:
        super().__init__(
            parent,
            "prune-images",
            "image-prune",
            "Remove unused images",
            "No container is made of these. What isn't known to a registry comes back only by building it again.",
            "Also those with a name",
        )
        self._candidates = {each.row.image.id: each for each in candidates}
        self._now_s = now_s
        self.build_for(more=not unused((each.row for each in candidates), tagged=False))

    def lines(self, *, more: bool) -> Sequence[Line]:
        return [self._line(row.image) for row in unused((each.row for each in self._candidates.values()), tagged=more)]

    def _line(self, image: Image) -> Line:
        age = f"  ·  {readable_age(self._now_s - image.created_s)}" if image.created_s > 0 else ""
        return image.id, f"{image.title}  ·  {readable_size(image.size_bytes)}{age}", "\n".join(image.tags) or image.id

    def sum_of(self, keys: Sequence[str]) -> str:
        word = "image" if len(keys) == 1 else "images"
        freed = freed_bytes([self._candidates[key] for key in keys])
        return f"{len(keys)} {word}, {readable_size(freed)} freed: layers that other images have stay."
