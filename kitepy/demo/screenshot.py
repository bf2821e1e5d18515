"""``python -m kitepy.demo.screenshot FILE``: the whole X screen as a picture, without another program for it."""

from __future__ import annotations

import sys

from PySide6.QtGui import QGuiApplication


def main() -> int:
    """Entry point; the exit code tells whether the picture was written."""
    application = QGuiApplication(sys.argv[:1])
    picture = application.primaryScreen().grabWindow(0)
    return 0 if not picture.isNull() and picture.save(sys.argv[1]) else 1


if __name__ == "__main__":
    raise SystemExit(main())
