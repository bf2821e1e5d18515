"""Reads what the container writes and passes it to the log and the attached clients; what these do with it is left to them.

When a client can't keep up, all streams are left unread for a while, so that the process blocks as it would on a full pipe.
"""

from __future__ import annotations

import os
import select
import time

from kitepy.engine.runtime import attach as streams
from kitepy.engine.runtime.attachments import Attachments
from kitepy.engine.runtime.logfile import STDOUT, JsonFileLog, NoLog
from kitepy.engine.runtime.watch import GONE, READ, WRITE, OutputWatch

_CHUNK = 64 * 1024
_DRAIN_LIMIT_S = 0.5


class _Stream:
    """One stream that the container writes to: ``name`` for the log, ``kind`` for the clients."""

    def __init__(self, fd: int, name: str, kind: bytes) -> None:
        self.fd = fd
        self.name = name
        self.kind = kind


class Outputs:
    """The container's output streams."""

    def __init__(self, watch: OutputWatch, log: JsonFileLog | NoLog, attachments: Attachments) -> None:
        self._watch = watch
        self._log = log
        self._attachments = attachments
        self._streams: dict[int, _Stream] = {}
        self.terminal_fd = -1
        """The terminal's master; -1 when there is none, or it was closed."""

    def __contains__(self, fd: int) -> bool:
        return fd in self._streams

    @property
    def held_up(self) -> bool:
        """Whether the streams are left unread: ``try_to_go_on`` is to be called now and then."""
        return self._watch.held_up

    def add(self, fd: int, name: str, kind: bytes) -> None:
        """Read this stream from now on; takes over the descriptor."""
        os.set_blocking(fd, False)
        self._streams[fd] = _Stream(fd, name, kind)
        self._watch.add(fd)

    def add_terminal(self, master_fd: int) -> None:
        """Read the terminal from now on: it carries stdout and stderr as one."""
        self.terminal_fd = master_fd
        self.add(master_fd, STDOUT, streams.STDOUT)

    def serve(self, fd: int, mask: int) -> None:
        """A stream has output, or a terminal has room for input."""
        if fd == self.terminal_fd and mask & WRITE:
            self._attachments.flush_stdin()
        if not mask & (READ | GONE) or self._watch.held_up:
            return  # held up since this round's events were collected; epoll reports the stream again when it goes on
        if self._read_chunk(self._streams[fd]) and self._must_wait():
            self._watch.hold_up()

    def try_to_go_on(self) -> None:
        """Read on when no client needs to be waited for any more."""
        if not self._must_wait():
            self._watch.go_on()

    def drain(self) -> None:
        """Read what is left. Streams that someone outside the container still holds open are given up after a moment."""
        self._watch.leave()
        deadline = time.monotonic() + _DRAIN_LIMIT_S
        while self._streams:
            for stream in list(self._streams.values()):
                while self._read_chunk(stream):
                    if time.monotonic() > deadline:
                        break
            remaining = deadline - time.monotonic()
            if not self._streams or remaining <= 0:
                break
            poller = select.poll()
            for fd in self._streams:
                poller.register(fd, select.POLLIN)
            poller.poll(remaining * 1000)

    def _must_wait(self) -> bool:
        return self._attachments.hold_up(logged=not isinstance(self._log, NoLog))

    def _read_chunk(self, stream: _Stream) -> bool:
        """Pass one chunk on; False when there was none. Closes the stream at its end."""
        try:
            chunk = os.read(stream.fd, _CHUNK)
        except BlockingIOError:
            return False
        except OSError:
            chunk = b""  # EIO: the last user of the terminal has closed it
        if not chunk:
            self._close(stream)
            return False
        self._log.write(stream.name, chunk)
        self._attachments.put(stream.kind, chunk)
        return True

    def _close(self, stream: _Stream) -> None:
        self._log.finish(stream.name)
        del self._streams[stream.fd]
        self._watch.remove(stream.fd)
        if stream.fd == self.terminal_fd:
            self._attachments.terminal_closed()
            self.terminal_fd = -1
        os.close(stream.fd)
