"""Which paths a pattern means: Go's ``filepath.Match`` for COPY and ADD sources, and the ``.dockerignore`` language.

Pure. Paths are relative, with ``/`` between their parts and without ``.`` and ``..``. Bad patterns are ValueError.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

_MAGIC = re.compile(r"[*?\[\\]")


def is_wildcard(path: str) -> bool:
    """Whether a source of COPY or ADD has to be matched instead of named."""
    return _MAGIC.search(path) is not None


def literally(name: str) -> str:
    """A pattern that names just this."""
    return _MAGIC.sub(lambda match: f"\\{match[0]}", name)


@lru_cache(maxsize=1024)
def compile_pattern(pattern: str) -> re.Pattern[str]:
    """A regular expression that fully matches what the pattern names: ``*`` and ``?`` stay within one part, ``**`` doesn't."""
    out: list[str] = []
    position = 0
    while position < len(pattern):
        char = pattern[position]
        position += 1
        if char == "*":
            if pattern[position : position + 1] != "*":
                out.append("[^/]*")
                continue
            position += 1
            if pattern[position : position + 1] == "/":
                position += 1
            out.append(".*" if position == len(pattern) else "(?:.*/)?")
        elif char == "?":
            out.append("[^/]")
        elif char == "[":
            expression, position = _character_class(pattern, position)
            out.append(expression)
        elif char == "\\":
            if position == len(pattern):
                raise ValueError(f"syntax error in pattern {pattern!r}: nothing follows the backslash")
            out.append(re.escape(pattern[position]))
            position += 1
        else:
            out.append(re.escape(char))
    return re.compile("".join(out), re.DOTALL)


def _character_class(pattern: str, position: int) -> tuple[str, int]:
    """The class that begins after ``[``; returns where it ended."""
    negated = pattern[position : position + 1] == "^"
    position += negated
    ranges: list[str] = []
    while True:
        if pattern[position : position + 1] == "]" and ranges:
            members = "".join(ranges)
            if not members:
                return ("[^/]" if negated else "(?!)"), position + 1
            # A class never crosses a directory.
            return ("(?!/)" + ("[^" if negated else "[") + members + "]"), position + 1
        low, position = _class_character(pattern, position)
        high = low
        if pattern[position : position + 1] == "-":
            high, position = _class_character(pattern, position + 1)
        # An inverted range matches nothing, as in Go.
        ranges.append(f"{re.escape(low)}-{re.escape(high)}" if low <= high else "")


def _class_character(pattern: str, position: int) -> tuple[str, int]:
    char = pattern[position : position + 1]
    if char == "\\":
        position += 1
        char = pattern[position : position + 1]
    elif char in ("-", "]"):
        char = ""
    if not char:
        raise ValueError(f"syntax error in pattern {pattern!r}: a character class is not finished")
    return char, position + 1


@dataclass(frozen=True)
class IgnoreRule:
    """One line of ``.dockerignore``; ``keeps`` for exceptions (``!``)."""

    pattern: str
    keeps: bool

    def names(self, path: str) -> bool:
        """Whether the path itself, or a directory above it, is what the pattern means."""
        expression = compile_pattern(self.pattern)
        parts = path.split("/")
        return any(expression.fullmatch("/".join(parts[:depth])) for depth in range(len(parts), 0, -1))


class IgnoreRules:
    """A whole ``.dockerignore``: the last rule that names a path decides."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._rules = tuple(IgnoreRule(pattern.removeprefix("!"), pattern.startswith("!")) for pattern in patterns)
        for rule in self._rules:
            if not rule.pattern:
                raise ValueError('illegal exclusion pattern: "!"')
            compile_pattern(rule.pattern)

    def __bool__(self) -> bool:
        return bool(self._rules)

    @property
    def has_exceptions(self) -> bool:
        """Whether something below an ignored directory may be kept."""
        return any(rule.keeps for rule in self._rules)

    def ignores(self, path: str) -> bool:
        """Whether a path stays out of the build."""
        ignored = False
        for rule in self._rules:
            if rule.keeps == ignored and rule.names(path):
                ignored = not rule.keeps
        return ignored


def read_ignore_file(text: str) -> list[str]:
    """The patterns of a ``.dockerignore``, cleaned as Docker cleans them; exceptions keep their ``!``."""
    patterns: list[str] = []
    for number, line in enumerate(text.split("\n")):
        if number == 0:
            line = line.removeprefix("\ufeff")
        if line.startswith("#"):
            continue
        pattern = line.strip()
        if not pattern:
            continue
        mark = ""
        if pattern.startswith("!"):
            mark, pattern = "!", pattern[1:].strip()
        if pattern:
            pattern = clean(pattern)
            if len(pattern) > 1:
                pattern = pattern.removeprefix("/")
        patterns.append(mark + pattern)
    return patterns


def clean(path: str) -> str:
    """A path in its shortest form, as Go's ``filepath.Clean``; empty is ``.``."""
    cleaned = posixpath.normpath(path)
    return "/" + cleaned.lstrip("/") if cleaned.startswith("/") else cleaned


def matches(pattern: str, path: str) -> bool:
    """Whether a source pattern of COPY or ADD names the path."""
    return compile_pattern(pattern).fullmatch(path) is not None
