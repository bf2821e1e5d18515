"""Reads the logs that monitors write: the last lines, a span of time, and what comes (follow).

The files are left to ``log_files``. Reading never disturbs the writer: a follower waits on inotify for the directory, so a
stalled reader blocks nobody.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import msgspec

from kitepy.engine.kernel import inotify
from kitepy.engine.services.log_files import LogFile, open_log, younger_files
from kitepy.engine.services.ports import LogOptions

STREAM_NUMBERS = {"stdout": 1, "stderr": 2}
_BLOCK_BYTES = 256 * 1024
_REMEMBERED_BYTES = 128
_FOLLOW_EVENTS = inotify.IN_MODIFY | inotify.IN_CREATE | inotify.IN_MOVED_TO | inotify.IN_MOVED_FROM
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?Z")


class LogLine(msgspec.Struct, gc=False):
    """One line of the file: text, stream's name, time of writing (RFC 3339, UTC)."""

    log: str = ""
    stream: str = "stdout"
    time: str = ""
    attrs: dict[str, str] | None = None


_decoder = msgspec.json.Decoder(LogLine)


def time_ns(text: str) -> int:
    """Nanoseconds since the epoch of a log line's time."""
    match = _TIME.fullmatch(text)
    if match is None:
        return 0
    seconds = int(datetime.fromisoformat(match[1]).replace(tzinfo=UTC).timestamp())
    return seconds * 1_000_000_000 + int((match[2] or "0").ljust(9, "0"))


def _fixed_width(text: str) -> str:
    """A log line's time with all nine digits, as readers of logs get it."""
    match = _TIME.fullmatch(text)
    return f"{match[1]}.{(match[2] or '').ljust(9, '0')}Z" if match else text


def _details(attributes: dict[str, str]) -> str:
    """What ``details`` shows before a line, in the form of a URL's query but for the separator."""
    return ",".join(f"{quote_plus(name)}={quote_plus(attributes[name])}" for name in sorted(attributes))


class _Selection:
    """Decodes whole lines and picks those that were asked for."""

    def __init__(self, options: LogOptions) -> None:
        self._options = options
        self._streams = {
            name: number for name, number in STREAM_NUMBERS.items() if (options.stdout if number == 1 else options.stderr)
        }
        self._rest = b""
        self._last = b""
        self.past_end = False
        """A line later than ``until`` was seen: lines are in order, so nothing more will match."""

    @property
    def last(self) -> bytes:
        """The end of what was read of the present file."""
        return self._last

    def start_over(self) -> None:
        """What was read of the file is gone, half a line included."""
        self._rest = self._last = b""

    def feed(self, block: bytes) -> list[tuple[int, bytes]]:
        """The chosen lines that are complete by now, as (stream number, text)."""
        self._last = block[-_REMEMBERED_BYTES:]
        block = self._rest + block
        cut = block.rfind(b"\n") + 1
        self._rest = block[cut:]
        return self._frames(block[:cut]) if cut else []

    def finish(self) -> list[tuple[int, bytes]]:
        """The last line when its end was never written (full disk, power cut)."""
        rest, self._rest = self._rest, b""
        return self._frames(rest + b"\n") if rest else []

    def _frames(self, lines: bytes) -> list[tuple[int, bytes]]:
        chosen: list[tuple[int, bytes]] = []
        options, streams = self._options, self._streams
        timed = options.since_ns or options.until_ns
        for line in _decode(lines):
            number = streams.get(line.stream)
            if number is None:
                continue
            if timed:
                written_ns = time_ns(line.time)
                if written_ns < options.since_ns:
                    continue
                if options.until_ns and written_ns > options.until_ns:
                    self.past_end = True
                    break
            text = line.log
            if options.details:
                text = f"{_details(line.attrs or {})} {text}"
            if options.timestamps:
                text = f"{_fixed_width(line.time)} {text}"
            chosen.append((number, text.encode("utf-8", "replace")))
        return chosen


def _decode(lines: bytes) -> list[LogLine]:
    """All lines; one that a crash or a full disk has cut is shown as it is instead of hiding the rest."""
    try:
        return _decoder.decode_lines(lines)
    except msgspec.DecodeError:
        decoded = []
        for raw in lines.splitlines():
            try:
                decoded.append(_decoder.decode(raw))
            except msgspec.DecodeError:
                decoded.append(LogLine(log=raw.decode("utf-8", "replace").replace("\0", "") + "\n"))
        return decoded


def _open_at(path: Path, tail: int | None) -> list[LogFile]:
    """The files to read, oldest first, each standing where reading is to begin."""
    opened = open_log(path)
    if tail is None:
        return opened
    wanted = tail
    chosen: list[LogFile] = []
    for file in reversed(opened):
        if chosen and wanted <= 0:
            file.close()
            continue
        if wanted:
            wanted -= file.skip_to_tail(wanted)
        else:
            file.skip_to_end()
        chosen.append(file)
    return chosen[::-1]


async def read_log(
    path: Path, options: LogOptions, *, ended: asyncio.Future[Any] | None = None, log_end: tuple[int, int] | None = None
) -> AsyncIterator[list[tuple[int, bytes]]]:
    """Batches of (stream number, line), none of them empty, in the order of writing.

    ``ended`` resolves when nothing more will be written (the monitor has drained the output by then); None means that it
    is so already. With ``follow``, the iterator ends then, or at ``until``. A follower that is slower than the writer reads
    the rotated files, too, and misses only those that the log's own bounds have deleted.

    ``log_end``: where the log ended at some moment (inode and size of the live file), and where to stop.
    """
    selection = _Selection(options)
    with ExitStack() as resources:
        wake = asyncio.Event()
        if options.follow and ended is not None:
            _watch_directory(resources, path.parent, wake)

            def wake_up(_: asyncio.Future[Any]) -> None:
                wake.set()

            ended.add_done_callback(wake_up)
            resources.callback(ended.remove_done_callback, wake_up)
        files = await asyncio.to_thread(_open_at, path, options.tail)
        for file in files:
            resources.callback(file.close)
        for file in files:
            stops_here = log_end is not None and not file.compressed and file.inode == log_end[0]
            async for frames in _read_on(file, selection, log_end[1] if log_end is not None and stops_here else None):
                yield frames
            if selection.past_end or stops_here:
                return
        if not options.follow or ended is None:
            if frames := selection.finish():
                yield frames
            return
        async for frames in _follow(path, files[-1] if files else None, selection, ended, wake, options.until_ns):
            yield frames


async def _read_on(file: LogFile, selection: _Selection, end: int | None = None) -> AsyncIterator[list[tuple[int, bytes]]]:
    """Everything up to ``end`` or the present end of a file; other clients get their turn between the blocks."""
    while not selection.past_end:
        if not file.continues(selection.last):
            selection.start_over()
            file.start_over()
        block = file.read(_BLOCK_BYTES if end is None else max(0, min(_BLOCK_BYTES, end - file.tell())))
        if not block:
            return
        if frames := selection.feed(block):
            yield frames
        await asyncio.sleep(0)


async def _follow(
    path: Path,
    live: LogFile | None,
    selection: _Selection,
    ended: asyncio.Future[Any],
    wake: asyncio.Event,
    until_ns: int,
) -> AsyncIterator[list[tuple[int, bytes]]]:
    loop = asyncio.get_running_loop()
    with ExitStack() as resources:
        while True:
            last_round = ended.done()
            wake.clear()
            if live is not None:
                async for frames in _read_on(live, selection):
                    yield frames
            if younger := younger_files(path, live):
                for stream in younger:
                    resources.callback(stream.close)
                # What was written between the read above and the rotation; nobody writes to these files any more.
                for stream in (*([live] if live is not None else []), *younger[:-1]):
                    async for frames in _read_on(stream, selection):
                        yield frames
                    stream.close()
                live = younger[-1]
                continue
            if last_round or selection.past_end:
                if frames := selection.finish():
                    yield frames
                return
            timeout = None
            if until_ns:
                timeout = until_ns / 1e9 - datetime.now(UTC).timestamp()
                if timeout <= 0:
                    return
            handle = loop.call_later(timeout, wake.set) if timeout is not None else None
            try:
                await wake.wait()
            finally:
                if handle is not None:
                    handle.cancel()


def _watch_directory(resources: ExitStack, directory: Path, wake: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    descriptor = inotify.open_inotify()
    resources.callback(os.close, descriptor)
    inotify.watch(descriptor, directory, _FOLLOW_EVENTS)

    def readable() -> None:
        inotify.drain(descriptor)
        wake.set()

    loop.add_reader(descriptor, readable)
    resources.callback(loop.remove_reader, descriptor)
