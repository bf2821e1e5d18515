"""One image: its layers with their files, what is in it in vain, its names and configuration, and what can be done with it."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QStackedWidget, QTabBar, QWidget

from kitepy.gui.models.image import readable_size
from kitepy.gui.models.image_detail import Looking
from kitepy.gui.models.image_list import ImageRow
from kitepy.gui.models.sidebar import Glyph
from kitepy.gui.models.state import IMAGES, AppState
from kitepy.gui.models.volume import JobTopic
from kitepy.gui.views.image_about import ImageAbout
from kitepy.gui.views.image_layers import ImageLayersView
from kitepy.gui.views.image_waste import ImageWasteView
from kitepy.gui.views.intents import Intents
from kitepy.gui.widgets.buttons import TextButton, back_button
from kitepy.gui.widgets.jobs import JobStrip
from kitepy.gui.widgets.labels import ElidedLabel, Pill
from kitepy.gui.widgets.layout import column, row

LAYERS, WASTE, ABOUT = range(3)


class ImageDetail(QWidget):
    def __init__(self, intents: Intents) -> None:
        super().__init__()
        self._intents = intents
        self._row: ImageRow | None = None
        back = back_button(self, "All images", "image-back", lambda: intents.navigate.emit(IMAGES))
        self._name = ElidedLabel("", "title", Qt.TextElideMode.ElideMiddle)
        self._name.setObjectName("image-name")
        self._pill = Pill()
        self._detail = ElidedLabel("", "muted")
        self._run = TextButton("Run", "primary", "play")
        self._run.setObjectName("image-detail-run")
        self._run.clicked.connect(lambda: self._row and intents.run_image.emit(self._row.image.reference))
        self._buttons = [self._run]
        for text, icon, name, signal in (
            ("Save…", "download", "save", intents.save_image),
            ("Push…", "registry", "push", intents.push_image),
            ("Remove…", "trash", "remove", intents.remove_image),
        ):
            button = TextButton(text, "", icon)
            button.setObjectName(f"image-detail-{name}")
            button.clicked.connect(lambda _=False, signal=signal: self._row and signal.emit(self._row.image.id))
            self._buttons.insert(0, button)
        self.jobs = JobStrip(intents)
        self.tabs = QTabBar()
        self.tabs.setObjectName("image-tabs")
        self.tabs.setAccessibleName("Views of this image")
        self.tabs.setUsesScrollButtons(False)
        self.tabs.setExpanding(False)
        for title in ("Layers", "Wasted space", "About"):
            self.tabs.addTab(title)
        self.layers = ImageLayersView(intents)
        self.waste = ImageWasteView()
        self.waste.layer_wanted.connect(self._show_layer)
        self.about = ImageAbout(intents)
        self._body = QStackedWidget()
        for page in (self.layers, self.waste, self.about):
            self._body.addWidget(page)
        self.tabs.currentChanged.connect(self._body.setCurrentIndex)
        whole = column(
            row(back, self._name, self._pill, 0, *self._buttons, spacing=10),
            row(self._detail, margins=(40, 0, 0, 0)),
            row(self.tabs, 0),
            self.jobs,
            self._body,
            spacing=8,
            margins=(24, 22, 32, 24),
        )
        whole.setStretchFactor(self._body, 1)
        self.setLayout(whole)

    def show_state(self, state: AppState, item: ImageRow | None) -> None:
        """The row is None while it isn't listed yet."""
        self._row = item
        self.jobs.show_jobs(job for job in state.jobs.values() if job.topic is JobTopic.IMAGE and job.subject == state.route.key)
        self._pill.setVisible(item is not None)
        for button in self._buttons:
            button.setEnabled(item is not None)
        looking = state.looking if state.looking.image_id == state.route.key else Looking(state.route.key)
        self.layers.show_looking(looking)
        self.waste.show_looking(looking)
        wasted = looking.layers.wasted_bytes if looking.layers is not None else None
        self.tabs.setTabText(WASTE, f"Wasted space  {readable_size(wasted)}" if wasted else "Wasted space")
        if item is None:
            self._name.set_text("")
            self._detail.set_text("")
            return
        image = item.image
        self._name.set_text(image.title)
        self._pill.show_state(Glyph.RUNNING if item.alive else Glyph.STOPPED, item.state)
        platform = looking.config.platform if looking.config is not None else ""
        count = len(looking.layers.layers) if looking.layers is not None else 0
        layers = f"{count} {'layer' if count == 1 else 'layers'}" if looking.layers is not None else ""
        parts = [image.short_id, readable_size(image.size_bytes), layers, platform]
        self._detail.set_text("  ·  ".join(part for part in parts if part))
        self.about.show_image(item, looking.config)

    def _show_layer(self, layer: int) -> None:
        self._intents.look_at_layer.emit(layer, True)
        self.tabs.setCurrentIndex(LAYERS)
