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

    @property
    def unfinished_pulls(self) -> str:
        """As `models.pull.to_memory` wrote it."""
        return str(self._values.value("unfinished-pulls", ""))

    @unfinished_pulls.setter
    def unfinished_pulls(self, text: str) -> None:
        self._values.setValue("unfinished-pulls", text)
        # Now and not when Qt finds the time: an app that is killed must find it again.
        self._values.sync()

    @property
    def registries(self) -> tuple[str, ...]:
        """Hosts that the user has added, whether or not they are logged in there."""
        return tuple(host for host in str(self._values.value("registries", "")).split() if host)

    @registries.setter
    def registries(self, hosts: tuple[str, ...]) -> None:
        self._values.setValue("registries", " ".join(hosts))

    def first_time(self, what: str) -> bool:
        """True at the first question about `what`, then never again."""
        key = f"done/{what}"
        if self._values.value(key) is not None:
            return False
        self._values.setValue(key, 1)
        return True
