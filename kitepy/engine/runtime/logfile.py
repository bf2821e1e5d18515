"""The container's log on disk: output bytes become json-file lines as dockerd writes them, with rotation.

A whole chunk is escaped with a handful of C-level replacements rather than line by line: a monitor must keep up with a process
that prints as fast as it can. What was passed to ``write`` is in the file when it returns, except the unfinished last line of
each stream, which goes out with its end or when the stream closes.
"""

from __future__ import annotations

import codecs
import os
import time

from kitepy.engine.runtime.log_rotation import RotatedFiles

STDOUT = "stdout"
STDERR = "stderr"

MAX_LINE = 16 * 1024
"""A longer line is split into entries of this many bytes; only the last one ends in a newline."""

_DELETE_PLAIN = bytes(code for code in range(0x20, 0x80) if code not in b'"\\<>&') + b"\n"
_ESCAPES = {bytes([code]): b"\\u%04x" % code for code in (*range(0x20), *b"<>&") if code != 10} | {
    b"\r": b"\\r",
    b'"': b'\\"',
}
"""As Docker writes them: what HTML minds, too. A backslash goes first, by itself."""


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
    for code in set(special):
        raw = bytes((code,))
        if raw in _ESCAPES:
            text = text.replace(raw, _ESCAPES[raw])
    if b"\xe2" in special:
        text = text.replace(b"\xe2\x80\xa8", b"\\u2028").replace(b"\xe2\x80\xa9", b"\\u2029")
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

    def __init__(
        self,
        path: str,
        max_size_bytes: int = 0,
        max_files: int = 1,
        *,
        compress: bool = False,
        attributes: dict[str, str] | None = None,
    ) -> None:
        self.directory: str | None = os.path.dirname(path)
        """Where a stalled client's output may overflow to."""
        self._path = path
        self._max_size = max_size_bytes
        self._files = RotatedFiles(path, max(1, max_files), compress=compress)
        self._one_file = max_files <= 1
        self._attributes = _attributes_field(attributes or {})
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

    @property
    def busy(self) -> bool:
        """Whether there is work for ``work_on`` when nothing else is to be done."""
        return self._files.compressing

    def work_on(self) -> None:
        """Do a piece of what can wait: compress a rotated file."""
        self._files.compress_some()

    def write(self, stream: str, chunk: bytes, now_ns: int | None = None) -> None:
        """Log what a stream produced."""
        runs, self._pending[stream] = split_lines(self._pending[stream], chunk)
        if runs:
            self._write_runs(stream, runs, time.time_ns() if now_ns is None else now_ns)

    def end(self) -> tuple[int, int]:
        """Where the log ends now: inode and size of the live file. What ``pending`` holds follows later."""
        return os.fstat(self._fd).st_ino, self._size

    def pending(self, stream: str) -> bytes:
        """The unfinished line of a stream, which is not in the file yet."""
        return self._pending[stream]

    def finish(self, stream: str) -> None:
        """Log the unfinished line of a stream that has ended."""
        rest, self._pending[stream] = self._pending[stream], b""
        if rest:
            self._write_runs(stream, [(rest, True)], time.time_ns())

    def close(self) -> None:
        """Finish both streams and close the file."""
        self.finish(STDOUT)
        self.finish(STDERR)
        self._files.leave_off()
        os.close(self._fd)

    def _write_runs(self, stream: str, runs: list[tuple[bytes, bool]], now_ns: int) -> None:
        tail = b'","stream":"%s",%b"time":"%s"}\n' % (stream.encode(), self._attributes, self._stamp.text(now_ns))
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
        """Write whole entries; as Docker does it, the one that reaches the bound is the file's last."""
        while entries:
            batch = entries
            if self._max_size:
                if self._size >= self._max_size:
                    self._rotate()
                cut = entries.find(b"\n", max(self._max_size - self._size - 1, 0)) + 1
                batch = entries[:cut] if cut else entries
            self._write_all(batch)
            entries = entries[len(batch) :]

    def _write_all(self, batch: bytes) -> None:
        written = 0
        while written < len(batch):
            try:
                count = os.write(self._fd, batch[written:] if written else batch)
            except OSError:
                self._lose(batch, written)
                return
            written += count
            self._size += count

    def _lose(self, batch: bytes, written: int) -> None:
        """The file system is full: take back half an entry, so that what is written when there is room again stands by itself."""
        whole = batch.rfind(b"\n", 0, written) + 1
        try:
            os.ftruncate(self._fd, self._size - (written - whole))
            self._size -= written - whole
        except OSError:
            whole = written
        self.lost_bytes += len(batch) - whole

    def _rotate(self) -> None:
        """Shift the files by one. Readers that follow by inode see the file end and the new one appear."""
        try:
            if self._one_file:
                os.ftruncate(self._fd, 0)
                self._size = 0
                return
            self._files.shift(self._fd)
            os.close(self._fd)
            self._open()
        except OSError:
            self._size = 0  # the directory is full or gone: go on in the same file


def _attributes_field(attributes: dict[str, str]) -> bytes:
    """What is written with each line, as a JSON field with its comma."""
    if not attributes:
        return b""
    pairs = (
        b'"%b":"%b"' % tuple(escape(text.encode("utf-8", "replace")).replace(b"\n", b"\\n") for text in pair)
        for pair in attributes.items()
    )
    return b'"attrs":{%b},' % b",".join(pairs)


class NoLog:
    """The log driver ``none``."""

    lost_bytes = 0
    busy = False
    directory: str | None = None

    def work_on(self) -> None:
        """Nothing is ever to be done."""

    def end(self) -> None:
        """There is no file."""

    def pending(self, stream: str) -> bytes:  # noqa: ARG002
        """Nothing is kept."""
        return b""

    def write(self, stream: str, chunk: bytes, now_ns: int | None = None) -> None:
        """Forget it."""

    def finish(self, stream: str) -> None:
        """Nothing is pending."""

    def close(self) -> None:
        """Nothing is open."""
