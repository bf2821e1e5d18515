"""The monitor's side of attaching: a bounded queue towards each attached client, and the queue into the process's stdin.

Packets on an attach socket: one kind byte, then data; ``END`` comes last. A stalled client holds up the others and the log for
at most ``STALL_LIMIT_S`` without any progress. Then a terminal's client misses output until it has caught up (nobody wants to be
thrown out for pressing Ctrl-S); any other client is cut off (a pipeline must not lose bytes silently). When there is neither a
log nor another client, the process waits for its only reader, as with a pipe.
"""

from __future__ import annotations

import os
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


class Attachment:
    """One attached client."""

    def __init__(self, channel: socket, *, stdin: bool, stdout: bool, stderr: bool, drops_when_stalled: bool) -> None:
        self.channel = channel
        self.fd = channel.fileno()
        self.stdin = stdin
        self.wants = {STDOUT: stdout, STDERR: stderr}
        self.dead = False
        """Set when the client has gone or was given up: it is to be dropped."""
        self._drops = drops_when_stalled
        self._dropping = False
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
        if self._queued < QUEUE_LIMIT or self._dropping or self.dead:
            return False
        if patient or now - self._progress_at < STALL_LIMIT_S:
            return True
        if self._drops:
            self._dropping = True
        else:
            self.dead = True
        return False

    def put(self, kind: bytes, data: bytes, now: float) -> None:
        """Queue output and send what the socket takes."""
        if not self.wants.get(kind, True) or self.dead:
            return
        if self._dropping:
            if self._queue:
                return
            self._dropping = False
        if not self._queue:
            self._progress_at = now
        self._queue.append(kind + data)
        self._queued += len(data)
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
        return not self.dead

    def finish(self) -> None:
        """Queue the mark that all output has been sent; a client that sees its connection end without it has missed something."""
        self._queue.append(END)

    def stalled(self, now: float) -> bool:
        """Whether the client has taken nothing for so long that the end must not wait for it."""
        return bool(self._queue) and now - self._progress_at >= STALL_LIMIT_S


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
