"""The monitor's side of attaching: a bounded queue towards each attached client, and the queue into the process's stdin.

Packets on an attach socket: one kind byte, then data; ``END`` comes last. A client that stalls holds up the others and the
log for at most ``STALL_LIMIT_S`` without any progress. Then its output goes into an unnamed file beside the log and is sent from
there when the client reads again; beyond ``OVERFLOW_LIMIT`` it is cut off. A terminal's client misses the older output instead:
what scrolled by while Ctrl-S was pressed is not wanted later. Without a log there is nothing to hold up and no place for a file:
the process waits for a single reader, as with a pipe, and of several a stalled one is cut off.
"""

from __future__ import annotations

import os
import struct
from _socket import socket
from collections import deque

STDIN = b"\x00"
STDOUT = b"\x01"
STDERR = b"\x02"
STDIN_END = b"\x03"
STDIN_BROKEN = b"\x04"
END = b"\x05"

MAX_DATA = 64 * 1024
QUEUE_LIMIT = 1024 * 1024
STDIN_LIMIT = 256 * 1024
STALL_LIMIT_S = 2.0
OVERFLOW_LIMIT = 1024 * 1024 * 1024


class Attachment:
    """One attached client."""

    def __init__(
        self,
        channel: socket,
        *,
        stdin: bool,
        stdout: bool,
        stderr: bool,
        drops_when_stalled: bool,
        overflow_directory: str | None,
    ) -> None:
        self.channel = channel
        self.fd = channel.fileno()
        self.stdin = stdin
        self.wants = {STDOUT: stdout, STDERR: stderr}
        self.dead = False
        """Set when the client has gone or was given up: it is to be dropped."""
        self._drops = drops_when_stalled
        self._dropping = False
        self._overflow_directory = overflow_directory
        self._overflow: Overflow | None = None
        self._queue: deque[bytes] = deque()
        self._queued = 0
        self._progress_at = 0.0
        channel.setblocking(False)

    @property
    def pending(self) -> bool:
        """Whether something waits to be sent."""
        return bool(self._queue)

    def holds_up(self, now: float, *, patient: bool) -> bool:
        """Whether the process's output must wait for this client; ``patient``: as long as it takes, nobody else is waiting."""
        if self._queued < QUEUE_LIMIT or self._dropping or self._overflow is not None or self.dead:
            return False
        if patient or now - self._progress_at < STALL_LIMIT_S:
            return True
        if self._drops:
            self._dropping = True
        elif self._overflow_directory is not None:
            self._overflow = Overflow(self._overflow_directory)
        else:
            self.dead = True
        return False

    def put(self, kind: bytes, data: bytes, now: float) -> None:
        """Queue output and send what the socket takes."""
        if not self.wants.get(kind, True) or self.dead:
            return
        if self._overflow is not None:
            self.dead = not self._overflow.append(kind + data)
            return
        if not self._queue:
            self._progress_at = now
        self._queue.append(kind + data)
        self._queued += len(data)
        while self._dropping and self._queued > QUEUE_LIMIT:
            self._queued -= len(self._queue.popleft()) - 1
        self.flush(now)

    def flush(self, now: float) -> bool:
        """Send what the socket takes; False when the client is gone or can't be served any more."""
        while self._queue:
            packet = self._queue[0]
            try:
                self.channel.send(packet)
            except BlockingIOError:
                return True
            except OSError:
                self.dead = True
                return False
            self._queue.popleft()
            self._queued -= len(packet) - 1
            self._progress_at = now
            if not self._queue:
                self._dropping = False
                if self._overflow is not None:
                    self._refill(self._overflow)
        return not self.dead

    def _refill(self, overflow: Overflow) -> None:
        packet = overflow.take()
        if packet:
            self._queue.append(packet)
            self._queued += len(packet) - 1
        else:
            overflow.close()
            self._overflow = None

    def close(self) -> None:
        """Let go of the client."""
        self.channel.close()
        if self._overflow is not None:
            self._overflow.close()
            self._overflow = None

    def finish(self) -> None:
        """Queue the mark that all output has been sent; a client that sees its connection end without it has missed something."""
        if self._overflow is not None:
            self._overflow.append(END)
        else:
            self._queue.append(END)


class Overflow:
    """Packets in an unnamed file, first in, first out: what a stalled client has not taken yet."""

    def __init__(self, directory: str) -> None:
        self._fd = os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        self._written = 0
        self._taken = 0

    def append(self, packet: bytes) -> bool:
        """Keep one packet; False when that is too much, or the disk is full."""
        if self._written - self._taken > OVERFLOW_LIMIT:
            return False
        record = struct.pack("<I", len(packet)) + packet
        try:
            count = os.pwrite(self._fd, record, self._written)
        except OSError:
            return False
        self._written += count
        return count == len(record)

    def take(self) -> bytes:
        """The oldest packet; empty when there is none left."""
        if self._taken == self._written:
            return b""
        length = struct.unpack("<I", os.pread(self._fd, 4, self._taken))[0]
        packet = os.pread(self._fd, length, self._taken + 4)
        self._taken += 4 + length
        if self._taken == self._written:
            os.ftruncate(self._fd, 0)
            self._written = self._taken = 0
        return packet

    def close(self) -> None:
        """Forget everything."""
        os.close(self._fd)


class StdinQueue:
    """What clients have sent and the process has not read yet."""

    def __init__(self, fd: int, *, is_terminal: bool) -> None:
        self.fd = fd
        self.broken = False
        self._is_terminal = is_terminal
        self._queue: deque[bytes] = deque()
        self._queued = 0
        self._end_wanted = False

    @property
    def is_open(self) -> bool:
        """Whether the process can still be sent something."""
        return self.fd >= 0

    @property
    def pending(self) -> bool:
        """Whether something waits for the process to read."""
        return bool(self._queue)

    @property
    def full(self) -> bool:
        """Whether clients must wait."""
        return self._queued >= STDIN_LIMIT

    def put(self, data: bytes) -> None:
        """Queue input and pass on what the process takes."""
        if self.fd < 0 or self._end_wanted:
            return
        self._queue.append(data)
        self._queued += len(data)
        self.flush()

    def end(self) -> None:
        """End of input, once the queue is empty. A terminal has no end; its clients type Ctrl-D."""
        if self._is_terminal:
            return
        self._end_wanted = True
        self.flush()

    def flush(self) -> None:
        """Pass on what the process takes; when it has closed its stdin, everything queued is dropped."""
        while self._queue and self.fd >= 0:
            try:
                count = os.write(self.fd, self._queue[0])
            except BlockingIOError:
                return
            except OSError:
                self.broken = True
                self._close()
                return
            self._queued -= count
            if count < len(self._queue[0]):
                self._queue[0] = self._queue[0][count:]
                return
            self._queue.popleft()
        if self._end_wanted:
            self._close()

    def _close(self) -> None:
        self._queue.clear()
        self._queued = 0
        if self.fd >= 0 and not self._is_terminal:
            os.close(self.fd)
        self.fd = -1
