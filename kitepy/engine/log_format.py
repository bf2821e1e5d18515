"""The lines of the engine's log: whatever a client or a container put into a message can't look like a line of its own."""

from __future__ import annotations

import logging
import re

_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
# C0 and C1 controls, the line and paragraph separators, and what reverses the direction of text.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_TRACE_INDENT = "    "


def visible(text: str) -> str:
    """The text with control characters as escapes, so that it stays on one line and no terminal obeys it."""
    return _UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class LineFormatter(logging.Formatter):
    """One line a record; a traceback follows indented, so that none of its lines begins like a record."""

    def __init__(self) -> None:
        super().__init__(_FORMAT)

    def formatMessage(self, record: logging.LogRecord) -> str:  # logging's name
        return visible(super().formatMessage(record))

    def formatException(self, ei: object) -> str:  # logging's name
        text = super().formatException(ei)  # type: ignore[arg-type]  # logging's own alias is private
        return "\n".join(_TRACE_INDENT + visible(line) for line in text.split("\n"))
