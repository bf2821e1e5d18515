"""A log of up to a million lines, kept small in memory, with the assembly of lines from chunks and the search. No Qt, no I/O.

Lines are numbered from the first one ever appended; dropped lines keep their numbers, so that a view's position stays true:

    first_number ─ blocks of 1,024 lines, each two byte strings (texts and marks) ─ open block (a list) ─ end_number
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from kitepy.gui.models.ansi import overwrite, plain

BLOCK_LINES = 1024
DEFAULT_LIMIT = 1_000_000

STDOUT = "stdout"
STDERR = "stderr"


@dataclass(frozen=True)
class Line:
    """`text` still holds its ANSI escapes; `timestamp` is empty when unknown."""

    text: str
    stream: str = STDOUT
    timestamp: str = ""


class _Block:
    """A sealed run of BLOCK_LINES lines: three objects instead of thousands."""

    __slots__ = ("marks", "texts")

    def __init__(self, lines: list[Line]) -> None:
        self.texts = "\n".join(line.text for line in lines).encode("utf-8", "surrogatepass")
        self.marks = "\n".join(("!" if line.stream == STDERR else " ") + line.timestamp for line in lines).encode()

    def lines(self) -> list[Line]:
        texts = self.texts.decode("utf-8", "surrogatepass").split("\n")
        marks = self.marks.decode().split("\n")
        return [Line(text, STDERR if mark[0] == "!" else STDOUT, mark[1:]) for text, mark in zip(texts, marks, strict=True)]


class LogStore:
    """Append-only lines with a limit; the oldest block goes when there are too many."""

    def __init__(self, limit: int = DEFAULT_LIMIT) -> None:
        self._limit = limit
        self._blocks: deque[_Block] = deque()
        self._open: list[Line] = []
        self._first = 0
        self._dropped_blocks = 0
        self._unpacked: dict[int, list[Line]] = {}
        self._listeners: list[Callable[[], None]] = []
        self.longest = 0
        """Length of the longest line so far, for the horizontal scroll bar."""

    @property
    def first_number(self) -> int:
        return self._first

    @property
    def end_number(self) -> int:
        return (self._dropped_blocks + len(self._blocks)) * BLOCK_LINES + len(self._open)

    def __len__(self) -> int:
        return self.end_number - self._first

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """`listener` is called after each change, on the thread of the change."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def append(self, lines: Iterable[Line]) -> None:
        appended = False
        for line in lines:
            appended = True
            self._open.append(line)
            length = len(line.text)
            if length > self.longest and "\x1b" in line.text:
                length = len(plain(line.text))
            self.longest = max(self.longest, length)
            if len(self._open) >= BLOCK_LINES:
                self._blocks.append(_Block(self._open))
                self._open = []
        while len(self) - BLOCK_LINES >= self._limit and self._blocks:
            self._blocks.popleft()
            self._dropped_blocks += 1
            self._first = max(self._first, self._dropped_blocks * BLOCK_LINES)
        if appended:
            self._changed()

    def hide_all(self) -> None:
        """The view is emptied; what comes later is shown again. Numbers go on."""
        self._first = self.end_number
        self._changed()

    def clear(self) -> None:
        """Forgets everything and numbers from 0 again."""
        self._blocks.clear()
        self._open = []
        self._first = self._dropped_blocks = self.longest = 0
        self._unpacked.clear()
        self._changed()

    def line(self, number: int) -> Line:
        if not self._first <= number < self.end_number:
            raise IndexError(number)
        block, offset = divmod(number, BLOCK_LINES)
        index = block - self._dropped_blocks
        if index >= len(self._blocks):
            return self._open[offset]
        return self._unpack(block)[offset]

    def lines(self, start: int, end: int) -> Iterator[Line]:
        for number in range(max(start, self._first), min(end, self.end_number)):
            yield self.line(number)

    def text(self, start: int, end: int) -> str:
        """Plain text of the lines, one per row, for copying and for assistive tools."""
        return "\n".join(plain(overwrite(line.text)) for line in self.lines(start, end))

    def find(self, needle: str, start: int, end: int | None = None) -> Iterator[tuple[int, int] | None]:
        """Yields (line number, column) of each match from line `start` on, and None after each block so that a caller can pause.

        Case counts only when the needle has capitals in it.
        """
        if not needle:
            return
        pattern = re.compile(re.escape(needle), 0 if needle != needle.lower() else re.IGNORECASE)
        number = max(start, self._first)
        stop = self.end_number if end is None else min(end, self.end_number)
        while number < stop:
            block = number // BLOCK_LINES
            block_end = min((block + 1) * BLOCK_LINES, stop)
            if self._may_hold(block, needle):
                for row in range(max(number, self._first), block_end):
                    for match in pattern.finditer(plain(overwrite(self.line(row).text))):
                        yield row, match.start()
            number = block_end
            yield None

    def _may_hold(self, block: int, needle: str) -> bool:
        """A cheap look at the whole block; escapes inside of a word only cost a second look at each line."""
        index = block - self._dropped_blocks
        if index < 0 or index >= len(self._blocks):
            return True
        texts = self._blocks[index].texts
        if b"\x1b" in texts or not needle.isascii():
            return True
        return needle.lower().encode() in texts.lower()

    def _unpack(self, block: int) -> list[Line]:
        lines = self._unpacked.get(block)
        if lines is None:
            if len(self._unpacked) >= 4:
                del self._unpacked[next(iter(self._unpacked))]
            lines = self._unpacked[block] = self._blocks[block - self._dropped_blocks].lines()
        return lines

    def _changed(self) -> None:
        for listener in list(self._listeners):
            listener()


# RFC 3339 with any fraction, as the engine puts it before each line when asked for timestamps.
_TIMESTAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)) ?")


class LineAssembler:
    """Bytes of a log stream in, whole lines out; keeps the two streams apart and UTF-8 sequences whole."""

    def __init__(self, *, timestamps: bool) -> None:
        self._timestamps = timestamps
        self._rest: dict[str, bytes] = {}

    def feed(self, stream: str, data: bytes) -> list[Line]:
        *whole, rest = (self._rest.get(stream, b"") + data).split(b"\n")
        self._rest[stream] = rest
        return [self._line(stream, raw) for raw in whole]

    def flush(self) -> list[Line]:
        """What was written without a newline at the end."""
        lines = [self._line(stream, raw) for stream, raw in self._rest.items() if raw]
        self._rest.clear()
        return lines

    def _line(self, stream: str, raw: bytes) -> Line:
        text = raw.decode("utf-8", "replace").removesuffix("\r")
        timestamp = ""
        if self._timestamps:
            match = _TIMESTAMP.match(text)
            if match:
                timestamp, text = match.group(1), text[match.end() :]
        return Line(text, stream, timestamp)


def moment(timestamp: str) -> str:
    """The timestamp in a form whose order as text is the order in time: the engine leaves out trailing zeros."""
    seconds, _, fraction = timestamp.rstrip("Z").partition(".")
    return f"{seconds}.{fraction:0<9}"


def local_time(timestamp: str) -> datetime | None:
    """The moment in this machine's time zone; None when the text isn't one. Fractions are cut to microseconds."""
    try:
        return datetime.fromisoformat(timestamp).astimezone()
    except (ValueError, OverflowError):
        return None


def clock_time(timestamp: str) -> str:
    """`12:04:31.250` in this machine's time zone; empty for none."""
    found = local_time(timestamp)
    return f"{found:%H:%M:%S}.{found.microsecond // 1000:03d}" if found else ""
