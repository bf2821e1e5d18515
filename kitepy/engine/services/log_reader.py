"""Reads the ``json-file`` logs that monitors write: the last lines, a span of time, and what comes (follow).

A log is the live file and its rotated predecessors (``.1`` is the youngest). Reading never disturbs the writer: a follower
waits on inotify for the directory, so a stalled reader blocks nobody.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from kitepy.engine.kernel import inotify
from kitepy.engine.services.ports import LogOptions

STREAM_NUMBERS = {"stdout": 1, "stderr": 2}
_BLOCK_BYTES = 256 * 1024
_TAIL_BLOCK_BYTES = 64 * 1024
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


def log_files(path: Path) -> list[Path]:
    """The log's files, oldest first; the live one comes last."""
    rotated = []
    number = 1
    while (older := path.with_name(f"{path.name}.{number}")).exists():
        rotated.append(older)
        number += 1
    return [*reversed(rotated), path]


class _Selection:
    """Decodes whole lines and picks those that were asked for."""

    def __init__(self, options: LogOptions) -> None:
        self._options = options
        self._streams = {
            name: number for name, number in STREAM_NUMBERS.items() if (options.stdout if number == 1 else options.stderr)
        }
        self._rest = b""
        self.past_end = False
        """A line later than ``until`` was seen: lines are in order, so nothing more will match."""

    def feed(self, block: bytes) -> list[tuple[int, bytes]]:
        """The chosen lines that are complete by now, as (stream number, text)."""
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
                text = f"{','.join(f'{key}={value}' for key, value in (line.attrs or {}).items())} {text}"
            if options.timestamps:
                text = f"{line.time} {text}"
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


def tail_offset(stream: BinaryIO, count: int) -> tuple[int, int]:
    """Where the last ``count`` lines of a file begin, and how many there are."""
    stream.seek(0, os.SEEK_END)
    position = end = stream.tell()
    found = 0
    while position > 0:
        start = max(0, position - _TAIL_BLOCK_BYTES)
        stream.seek(start)
        block = stream.read(position - start)
        search_end = len(block)
        if position == end and block.endswith(b"\n"):
            search_end -= 1
        while (newline := block.rfind(b"\n", 0, search_end)) >= 0:
            found += 1
            if found == count:
                return start + newline + 1, count
            search_end = newline
        position = start
    return 0, found + (1 if end else 0)


def _start_points(files: list[Path], tail: int | None) -> list[tuple[Path, int]]:
    """From which offset each file is to be read, oldest first."""
    if tail is None:
        return [(path, 0) for path in files]
    points: list[tuple[Path, int]] = []
    wanted = tail
    for path in reversed(files):
        try:
            with path.open("rb") as stream:
                offset, found = tail_offset(stream, wanted) if wanted else (stream.seek(0, os.SEEK_END), 0)
        except FileNotFoundError:
            offset, found = 0, 0
        points.append((path, offset))
        wanted -= found
        if wanted <= 0:
            break
    return list(reversed(points))


async def read_log(
    path: Path, options: LogOptions, *, ended: asyncio.Future[Any] | None = None
) -> AsyncIterator[list[tuple[int, bytes]]]:
    """Batches of (stream number, line), none of them empty, in the order of writing.

    ``ended`` resolves when nothing more will be written (the monitor has drained the output by then); None means that it
    is so already. With ``follow``, the iterator ends then, or at ``until``.
    """
    selection = _Selection(options)
    points = await asyncio.to_thread(_start_points, log_files(path), options.tail)
    with ExitStack() as resources:
        wake = asyncio.Event()
        if options.follow and ended is not None:
            _watch_directory(resources, path.parent, wake)
            ended.add_done_callback(lambda _: wake.set())
        live: BinaryIO | None = None
        for file, offset in points:
            try:
                live = resources.enter_context(file.open("rb", buffering=0))
            except FileNotFoundError:  # rotated away in the meantime, or never written
                continue
            live.seek(offset)
            async for frames in _read_on(live, selection):
                yield frames
                if selection.past_end:
                    return
        if not options.follow or ended is None:
            if frames := selection.finish():
                yield frames
            return
        async for frames in _follow(path, live, selection, ended, wake, options.until_ns, resources):
            yield frames


async def _read_on(stream: BinaryIO, selection: _Selection) -> AsyncIterator[list[tuple[int, bytes]]]:
    """Everything up to the present end of a file; other clients get their turn between the blocks."""
    while block := stream.read(_BLOCK_BYTES):
        if frames := selection.feed(block):
            yield frames
        await asyncio.sleep(0)


async def _follow(
    path: Path,
    live: BinaryIO | None,
    selection: _Selection,
    ended: asyncio.Future[Any],
    wake: asyncio.Event,
    until_ns: int,
    resources: ExitStack,
) -> AsyncIterator[list[tuple[int, bytes]]]:
    loop = asyncio.get_running_loop()
    while True:
        last_round = ended.done()
        wake.clear()
        if live is not None:
            async for frames in _read_on(live, selection):
                yield frames
        replaced = _successor(path, live)
        if replaced is not None:
            live = resources.enter_context(replaced)
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


def _successor(path: Path, live: BinaryIO | None) -> BinaryIO | None:
    """The live file, opened, when it is another one than the reader holds (rotation, or the first line was just written)."""
    try:
        candidate = path.open("rb", buffering=0)
    except FileNotFoundError:
        return None
    if live is not None:
        ours, theirs = os.fstat(live.fileno()), os.fstat(candidate.fileno())
        if (ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino):
            candidate.close()
            return None
    return candidate


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
