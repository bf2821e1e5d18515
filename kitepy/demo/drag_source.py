"""``python -m kitepy.demo.drag_source PATH``: a small window from which PATH can be dragged, as from a file manager."""

from __future__ import annotations

import sys

from PySide6.QtCore import QMimeData, QPoint, Qt, QUrl
from PySide6.QtGui import QDrag, QMouseEvent
from PySide6.QtWidgets import QApplication, QLabel

TITLE = "Kitepy drag source"


class DragSource(QLabel):
    """Offers one path; prints the drop action when it was taken."""

    def __init__(self, path: str) -> None:
        super().__init__(f"📁  {path.rstrip('/').rpartition('/')[2]}")
        self._path = path
        self._pressed_at = QPoint()
        self.setWindowTitle(TITLE)
        self.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.setWindowFlag(Qt.WindowType.WindowStaysOnTopHint)
        self.setFixedSize(190, 64)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Remember where a drag would begin."""
        self._pressed_at = event.position().toPoint()

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Begin the drag once the pointer has moved far enough to mean it."""
        distance = (event.position().toPoint() - self._pressed_at).manhattanLength()
        if distance < QApplication.startDragDistance():
            return
        data = QMimeData()
        data.setUrls([QUrl.fromLocalFile(self._path)])
        drag = QDrag(self)
        drag.setMimeData(data)
        print(drag.exec(Qt.DropAction.CopyAction).name, flush=True)


def main() -> int:
    """Entry point."""
    application = QApplication(sys.argv[:1])
    source = DragSource(sys.argv[1])
    screen = application.primaryScreen().availableGeometry()
    source.move(screen.right() - source.width() - 16, screen.bottom() - source.height() - 40)
    source.show()
    return application.exec()


if __name__ == "__main__":
    raise SystemExit(main())
