"""Reading a file while somebody else still writes it: where it ends so far, the reader waits until a pipe tells of more.

The writer's bytes go to the file alone. The pipe carries at most one mark "there is more", since one suffices however often the
file grew meanwhile, and at last the mark "complete". A pipe that closes without it means that the writer has given up, or died.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import os
import termios
from collections.abc import Callable

from kitepy.engine.model.errors import Cancelled

_MORE = b"+"
_COMPLETE = b"."


class Growth:
    """The writer's end. ``unpack`` takes the reader's; whoever makes one ends it with ``complete`` or ``give_up``."""

    def __init__(self) -> None:
        self._reader_fd, self._writer_fd = os.pipe2(os.O_CLOEXEC)
        self.completed = False
        self.given_up = False

    def grown(self) -> None:
        """More bytes are in the file."""
        # Never blocks and never fills the pipe: an unread mark will be read after these bytes were written.
        if self._writer_fd >= 0 and not self._unread():
            self._mark(_MORE)

    def complete(self) -> None:
        """All bytes are in the file, and they are the right ones as far as the writer can tell."""
        if self._writer_fd >= 0:
            self.completed = True
            self._mark(_COMPLETE)
            self._close_writer()

    def give_up(self) -> None:
        """The file will never be complete: the reader fails with ``Cancelled``. Does nothing after ``complete``."""
        if self._writer_fd >= 0:
            self.given_up = True
            self._close_writer()
        self.close_reader()

    def take_reader(self) -> int:
        """The descriptor to read marks from, which belongs to the caller from now on."""
        fd, self._reader_fd = self._reader_fd, -1
        if fd < 0:
            raise Cancelled("the file that was being received has been given up")
        return fd

    def close_reader(self) -> None:
        """Nobody will follow (any more)."""
        if self._reader_fd >= 0:
            os.close(self._reader_fd)
            self._reader_fd = -1

    def _unread(self) -> int:
        count = array.array("i", [0])
        fcntl.ioctl(self._writer_fd, termios.FIONREAD, count)
        return count[0]

    def _mark(self, mark: bytes) -> None:
        # A reader that has ended says why by itself.
        with contextlib.suppress(BrokenPipeError):
            os.write(self._writer_fd, mark)

    def _close_writer(self) -> None:
        os.close(self._writer_fd)
        self._writer_fd = -1


class GrowingReader:
    """The reader's end: ``read`` waits for more bytes where the file ends, and sees its end only when it is complete."""

    def __init__(self, file_fd: int, marks_fd: int) -> None:
        self._file_fd = file_fd
        self._marks_fd = marks_fd
        self._position = 0
        self._complete = False

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes; empty at the end of the complete file. Raises ``Cancelled`` when the writer has given up."""
        while True:
            piece = os.pread(self._file_fd, size, self._position)
            self._position += len(piece)
            if piece or self._complete:
                return piece
            marks = os.read(self._marks_fd, 64)
            if not marks:
                raise Cancelled("the file that was being received has been given up")
            self._complete = _COMPLETE in marks


def counted(read: Callable[[int], bytes], report: Callable[[int], None], every: int) -> Callable[[int], bytes]:
    """The same reader, which reports how many bytes have been read in all: from time to time, and at the end."""
    total = reported = 0

    def read_and_count(size: int) -> bytes:
        nonlocal total, reported
        piece = read(size)
        total += len(piece)
        if total - reported >= every or (not piece and total != reported):
            reported = total
            report(total)
        return piece

    return read_and_count
