"""The container's log on disk: output bytes become json-file lines as dockerd writes them, with rotation.

A whole chunk is escaped with a handful of C-level replacements rather than line by line: a monitor must keep up with a process
that prints as fast as it can. What was passed to ``write`` is in the file when it returns, except the unfinished last line of
each stream, which goes out with its end or when the stream closes.
"""

from __future__ import annotations

import codecs
import os
import time

STDOUT = "stdout"
STDERR = "stderr"

MAX_LINE = 16 * 1024
"""A longer line is split into entries of this many bytes; only the last one ends in a newline."""

_DELETE_PLAIN = bytes(range(0x20, 0x80)).replace(b'"', b"").replace(b"\\", b"").replace(b"\x7f", b"") + b"\n"
_CONTROL_ESCAPES = {
    bytes([code]): {9: b"\\t", 13: b"\\r"}.get(code, b"\\u%04x" % code) for code in (*range(0x20), 0x7F) if code != 10
}


def _replace_each_byte(error: UnicodeError) -> tuple[str, int]:
    """One U+FFFD for each undecodable byte, as Go's range loop has it."""
    assert isinstance(error, UnicodeDecodeError)
    return "\ufffd" * (error.end - error.start), error.end


codecs.register_error("kitepy-each-byte", _replace_each_byte)


def escape(text: bytes) -> bytes:
    """The bytes as the inside of a JSON string, newlines left alone; valid for any input."""
    special = text.translate(None, _DELETE_PLAIN)
    if not special:
        return text
    if not special.isascii():
        text = text.decode("utf-8", "kitepy-each-byte").encode()
    if b"\\" in special:
        text = text.replace(b"\\", b"\\\\")
    if b'"' in special:
        text = text.replace(b'"', b'\\"')
    for code in set(special):
        if code < 0x20 or code == 0x7F:
            raw = bytes((code,))
            text = text.replace(raw, _CONTROL_ESCAPES[raw])
    return text


class _Stamp:
    """RFC 3339 times with nanoseconds; the part down to the second is formatted once a second."""

    def __init__(self) -> None:
        self._second = -1
        self._prefix = b""

    def text(self, now_ns: int) -> bytes:
        second, nanoseconds = divmod(now_ns, 1_000_000_000)
        if second != self._second:
            self._second = second
            self._prefix = b"%04d-%02d-%02dT%02d:%02d:%02d" % time.gmtime(second)[:6]
        if not nanoseconds:
            return self._prefix + b"Z"
        return self._prefix + (b".%09d" % nanoseconds).rstrip(b"0") + b"Z"


def split_lines(pending: bytes, chunk: bytes) -> tuple[list[tuple[bytes, bool]], bytes]:
    """Cut output into runs that can be logged at once and the unfinished rest. Pure.

    Each run is (bytes, partial): complete lines, or with ``partial`` one piece of an overlong line.
    """
    data = pending + chunk if pending else chunk
    runs: list[tuple[bytes, bool]] = []
    position = start = 0
    end = len(data)
    while end - position >= MAX_LINE:
        cut = data.rfind(b"\n", position, position + MAX_LINE)
        if cut >= 0:
            position = cut + 1
            continue
        if position > start:
            runs.append((data[start:position], False))
        runs.append((data[position : position + MAX_LINE], True))
        position += MAX_LINE
        start = position
    cut = data.rfind(b"\n", position)
    if cut >= 0:
        position = cut + 1
    if position > start:
        runs.append((data[start:position], False))
    return runs, data[position:]


class JsonFileLog:
    """The live log file of one container; ``path`` with ``.1``, ``.2`` … for rotated ones."""

    def __init__(self, path: str, max_size_bytes: int = 0, max_files: int = 1) -> None:
        self._path = path
        self.directory: str | None = os.path.dirname(path)
        """Where a stalled client's output may overflow to."""
        self._max_size = max_size_bytes
        self._max_files = max(1, max_files)
        self._fd = -1
        self._size = 0
        self._pending: dict[str, bytes] = {STDOUT: b"", STDERR: b""}
        self._stamp = _Stamp()
        self.lost_bytes = 0
        """Log bytes that the file system refused (disk full): output must go on, so they are dropped."""
        self._open()

    def _open(self) -> None:
        self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        self._size = os.fstat(self._fd).st_size

    def write(self, stream: str, chunk: bytes, now_ns: int | None = None) -> None:
        """Log what a stream produced."""
        runs, self._pending[stream] = split_lines(self._pending[stream], chunk)
        if runs:
            self._write_runs(stream, runs, time.time_ns() if now_ns is None else now_ns)

    def finish(self, stream: str) -> None:
        """Log the unfinished line of a stream that has ended."""
        rest, self._pending[stream] = self._pending[stream], b""
        if rest:
            self._write_runs(stream, [(rest, True)], time.time_ns())

    def close(self) -> None:
        """Finish both streams and close the file."""
        self.finish(STDOUT)
        self.finish(STDERR)
        os.close(self._fd)

    def _write_runs(self, stream: str, runs: list[tuple[bytes, bool]], now_ns: int) -> None:
        tail = b'","stream":"%s","time":"%s"}\n' % (stream.encode(), self._stamp.text(now_ns))
        line_end = b"\\n" + tail
        parts: list[bytes] = []
        for text, partial in runs:
            if partial:
                parts += (b'{"log":"', escape(text), tail)
            else:
                # Each newline becomes the end of one entry and the start of the next; the last start is one too many.
                parts += (b'{"log":"', escape(text)[:-1].replace(b"\n", line_end + b'{"log":"'), line_end)
        self._append(b"".join(parts))

    def _append(self, entries: bytes) -> None:
        while entries:
            batch = entries
            if self._max_size:
                room = self._max_size - self._size
                if len(entries) > room:
                    cut = entries.rfind(b"\n", 0, max(room, 0)) + 1
                    if not cut and self._size:
                        self._rotate()
                        continue
                    batch = entries[: cut or entries.index(b"\n") + 1]
            self._write_all(batch)
            entries = entries[len(batch) :]

    def _write_all(self, batch: bytes) -> None:
        view = memoryview(batch)
        while view:
            try:
                count = os.write(self._fd, view)
            except OSError:
                self.lost_bytes += len(view)
                return
            self._size += count
            view = view[count:]

    def _rotate(self) -> None:
        """Shift the files by one. Readers that follow by inode see the file end and the new one appear."""
        try:
            for number in range(self._max_files - 1, 0, -1):
                source = f"{self._path}.{number - 1}" if number > 1 else self._path
                try:
                    os.rename(source, f"{self._path}.{number}")
                except FileNotFoundError:
                    continue
            if self._max_files == 1:
                os.ftruncate(self._fd, 0)
                self._size = 0
                return
            os.close(self._fd)
            self._open()
        except OSError:
            self._size = 0  # the directory is full or gone: go on in the same file


class NoLog:
    """The log driver ``none``."""

    lost_bytes = 0
    directory: str | None = None

    def write(self, stream: str, chunk: bytes, now_ns: int | None = None) -> None:
        """Forget it."""

    def finish(self, stream: str) -> None:
        """Nothing is pending."""

    def close(self) -> None:
        """Nothing is open."""
