"""The ``--name=value`` words of one instruction, taken one by one so that what nobody asked for is an error."""

from __future__ import annotations

import difflib


class Flags:
    """Flags of one instruction; ``finish`` complains about the ones that were not taken."""

    def __init__(self, words: tuple[str, ...]) -> None:
        self._given: list[tuple[str, str | None]] = []
        self._known: list[str] = []
        for word in words:
            name, equals, value = word.removeprefix("--").partition("=")
            self._given.append((name, value if equals else None))

    def text(self, name: str) -> str:
        """The value of a flag that may be given once; empty when absent."""
        values = self.texts(name)
        if len(values) > 1:
            raise ValueError(f"duplicate flag specified: {name}")
        return values[0] if values else ""

    def texts(self, name: str) -> list[str]:
        """The values of a flag that may be given often."""
        self._known.append(name)
        values: list[str] = []
        for given, value in self._given:
            if given == name:
                if value is None:
                    raise ValueError(f"missing a value on flag: --{name}")
                values.append(value)
        return values

    def switch(self, name: str) -> bool | None:
        """Whether a boolean flag is on; None when absent."""
        self._known.append(name)
        values = [value for given, value in self._given if given == name]
        if not values:
            return None
        if len(values) > 1:
            raise ValueError(f"duplicate flag specified: {name}")
        match (values[0] or "true").lower():
            case "true":
                return True
            case "false":
                return False
        raise ValueError(f"expecting boolean value for flag {name}, not: {values[0]}")

    def finish(self, keyword: str) -> None:
        """Refuse flags that the instruction doesn't know."""
        for name, _ in self._given:
            if name not in self._known:
                similar = difflib.get_close_matches(name, self._known, n=1)
                hint = f" (did you mean {similar[0]}?)" if similar else f"; {keyword} knows {self._listing()}"
                raise ValueError(f"unknown flag: --{name}{hint}")

    def _listing(self) -> str:
        return ", ".join(f"--{name}" for name in self._known) or "no flags"
