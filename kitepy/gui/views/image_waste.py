"""What is in an image in vain: how much of it nobody ever sees, and which files cost most."""

from __future__ import annotations

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QStackedWidget, QWidget

from kitepy.gui.models.image import readable_size
from kitepy.gui.models.image_detail import ImageLayers, Looking, Wasted
from kitepy.gui.models.table import Column, TableModel
from kitepy.gui.widgets.labels import label
from kitepy.gui.widgets.layout import Placeholder, column, frame
from kitepy.gui.widgets.table import Table
from kitepy.gui.widgets.transfer import ShareBar

Row = tuple[int, Wasted, str]
"""Its place, what is wasted, and the step that hides it."""


def _path(item: Row) -> str:
    path = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in item[1].path)
    return f"{path.rstrip('/')}/" if item[1].is_folder else path


def _why(item: Row) -> str:
    wasted = item[1]
    deed = "removed" if wasted.removed else "replaced"
    return f"{deed} by layer {wasted.by + 1}: {item[2]}" if item[2] else f"{deed} by layer {wasted.by + 1}"


_COLUMNS: tuple[Column[Row], ...] = (
    Column("Wasted", lambda item: readable_size(item[1].size_bytes), lambda item: item[1].size_bytes, right=True),
    Column("Path", _path),
    Column("Files", lambda item: f"{item[1].files:,}", lambda item: item[1].files, right=True),
    Column("In layer", lambda item: str(item[1].layer + 1), lambda item: item[1].layer, right=True),
    Column("What became of it", _why),
)


class ImageWasteView(QWidget):
    layer_wanted = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self._sum = label("", "heading", wrap=True)
        self._sum.setObjectName("image-waste-sum")
        self._bar = ShareBar("image-efficiency", "How much of the image is seen")
        self._text = label("", "muted", wrap=True)
        model: TableModel[Row] = TableModel(_COLUMNS, lambda item: item[0], self)
        self.list: Table[Row] = Table("image-waste", "What is in the image in vain", model, 4, {0: 82, 1: 280, 2: 64, 3: 76})
        self.list.opened.connect(lambda item: self.layer_wanted.emit(item[1].layer))
        self._placeholder = Placeholder("layers")
        self._body = QStackedWidget()
        self._body.addWidget(self._placeholder)
        stack = column(self._sum, self._bar, self._text, 4, self.list, spacing=10, margins=(18, 16, 18, 16))
        self._body.addWidget(frame("card", stack))
        self.setLayout(column(self._body))

    def show_looking(self, looking: Looking) -> None:
        layers = looking.layers
        self._body.setCurrentIndex(0)
        if layers is None:
            self._placeholder.say("Reading the layers…" if not looking.error else "The image can't be shown", looking.error)
        elif not layers.browsable:
            self._placeholder.say("Nobody can tell", "This engine can't show what is in layers; Kitepy's own can.")
        elif looking.usage_error:
            self._placeholder.say("It couldn't be counted", looking.usage_error)
        elif layers.wasted_bytes is None:
            self._placeholder.say("Counting…", "Every file of every layer is looked at once.")
        elif not layers.wasted_bytes:
            self._placeholder.say("Nothing is in vain", "No layer replaces or removes files of an earlier one.")
        else:
            self._show(layers)

    def _show(self, layers: ImageLayers) -> None:
        wasted, share = layers.wasted_bytes or 0, layers.efficiency or 0.0
        words = f"{readable_size(wasted)} of {readable_size(layers.size_bytes)} are stored and sent in vain"
        self._sum.setText(words)
        self._bar.show_share(share, words, "accent" if share > 0.9 else "warning")
        more = " Not everything was counted: the image is too large for that." if layers.incomplete else ""
        self._text.setText(
            "Later layers replace or remove these files, but the earlier layer keeps them. What one step makes and removes "
            f"itself costs nothing.{more}"
        )
        steps = {step.layer: step.words for step in layers.steps if step.layer is not None}
        self.list.show_values(tuple((number, each, steps.get(each.by, "")) for number, each in enumerate(layers.worst)))
        self._body.setCurrentIndex(1)
