"""What the app remembers between starts: look, window size, and what it has told the user once."""

from __future__ import annotations

import os
from pathlib import Path

from PySide6.QtCore import QByteArray, QSettings

from kitepy.gui.theme import ThemeChoice


class Settings:
    """`~/.config/kitepy/kitepy.conf`, or `app.conf` below KITEPY_HOME."""

    def __init__(self, home: str = "") -> None:
        if home:
            self._values = QSettings(str(Path(home) / "app.conf"), QSettings.Format.IniFormat)
        else:
            self._values = QSettings("kitepy", "kitepy")

    @classmethod
    def of_environment(cls) -> Settings:
        return cls(os.environ.get("KITEPY_HOME", ""))

    @property
    def theme(self) -> ThemeChoice:
        word = str(self._values.value("theme", ThemeChoice.SYSTEM.value))
        return ThemeChoice(word) if word in {choice.value for choice in ThemeChoice} else ThemeChoice.SYSTEM

    @theme.setter
    def theme(self, choice: ThemeChoice) -> None:
        self._values.setValue("theme", choice.value)

    @property
    def geometry(self) -> QByteArray:
        value = self._values.value("geometry", QByteArray())
        return value if isinstance(value, QByteArray) else QByteArray()

    @geometry.setter
    def geometry(self, value: QByteArray) -> None:
        self._values.setValue("geometry", value)

    def first_time(self, what: str) -> bool:
        """True at the first question about `what`, then never again."""
        key = f"done/{what}"
        if self._values.value(key) is not None:
            return False
        self._values.setValue(key, 1)
        return True
