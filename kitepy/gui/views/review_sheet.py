"""What will be built, shown for a moment before it is: Enter is enough to go on."""

from __future__ import annotations

import os
from pathlib import Path

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QGridLayout, QLineEdit, QWidget

from kitepy.gui.models.build import BuildRequest, BuildReview
from kitepy.gui.models.image import is_image_reference, readable_size
from kitepy.gui.widgets.buttons import TextButton
from kitepy.gui.widgets.labels import ElidedLabel, label
from kitepy.gui.widgets.layout import IconLabel, column, row
from kitepy.gui.widgets.sheet import Sheet


class ReviewSheet(Sheet):
    confirmed = Signal(object)
    """BuildRequest"""

    def __init__(self, parent: QWidget, review: BuildReview) -> None:
        super().__init__(parent, width=540)
        self.setObjectName("review-sheet")
        self.setAccessibleName(f"Build {review.suggested_name}")
        self._review = review

        self.name = QLineEdit(review.suggested_name)
        self.name.setObjectName("review-image-name")
        self.name.setAccessibleName("Image name")
        self.name.textChanged.connect(self._check)
        self._problem = label("", "error", wrap=True)

        self._go = TextButton("Build and run", "primary", "play")
        self._go.setObjectName("review-run")
        self._go.clicked.connect(self.accept)
        cancel = TextButton("Cancel")
        cancel.setObjectName("review-cancel")
        cancel.clicked.connect(self.reject)
        self.accepted.connect(lambda: self.confirmed.emit(BuildRequest(review, self.name.text().strip())))

        grid = QGridLayout()
        grid.setHorizontalSpacing(18)
        grid.setVerticalSpacing(10)
        grid.setColumnStretch(1, 1)
        facts = (
            ("Folder", ElidedLabel(_readable_path(review.context), "", Qt.TextElideMode.ElideMiddle), "review-context"),
            ("Dockerfile", ElidedLabel(os.path.relpath(review.dockerfile, review.context)), "review-dockerfile"),
            ("Files", ElidedLabel(_files(review)), "review-files"),
            ("Based on", ElidedLabel(", ".join(review.base_images) or "scratch"), "review-base"),
            ("Ports", ElidedLabel(_ports(review)), "review-ports"),
        )
        for number, (title, widget, name) in enumerate(facts):
            widget.setObjectName(name)
            grid.addWidget(label(title, "muted"), number, 0)
            grid.addWidget(widget, number, 1)
        caption = label("Image name", "muted")
        caption.setBuddy(self.name)
        grid.addWidget(caption, len(facts), 0)
        grid.addWidget(self.name, len(facts), 1)
        grid.addWidget(self._problem, len(facts) + 1, 1)
        self._problem.hide()

        self.fill(
            column(
                row(IconLabel("build", 26, "accent"), label(f"Build {review.suggested_name}", "heading"), 0, spacing=12),
                4,
                grid,
                8,
                row(0, cancel, self._go, spacing=10),
                spacing=12,
                margins=(26, 22, 26, 20),
            ),
            [self.name, cancel, self._go],
        )

    def ask(self) -> None:
        self.open(self.name)
        self.name.selectAll()

    def accept(self) -> None:
        if is_image_reference(self.name.text().strip()):
            super().accept()

    def _check(self, text: str) -> None:
        good = is_image_reference(text.strip())
        self._go.setEnabled(good)
        self._problem.setText("" if good else "Use lower-case letters, digits and . _ - /, with a :tag at the end if you like.")
        self._problem.setVisible(not good)
        self.name.setProperty("wrong", "false" if good else "true")
        self.name.style().polish(self.name)


def _readable_path(path: Path) -> str:
    home = Path.home()
    return f"~/{path.relative_to(home)}" if path != home and path.is_relative_to(home) else str(path)


def _files(review: BuildReview) -> str:
    files = f"{review.context_files} file{'' if review.context_files == 1 else 's'}, {readable_size(review.context_bytes)}"
    return f"{files} ({review.ignored_files} left out by .dockerignore)" if review.ignored_files else files


def _ports(review: BuildReview) -> str:
    if not review.exposed_ports:
        return "none exposed"
    return ", ".join(port.removesuffix("/tcp") for port in review.exposed_ports) + ", each published on a free port"
