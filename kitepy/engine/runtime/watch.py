"""What epoll is asked about the container's output streams: nothing while they are held up. Reading them is left to ``output``.

A terminal's master is an output stream and takes the input too. So two sides have wishes about one registration: they meet here.
"""

from __future__ import annotations

import select

READ = select.EPOLLIN
WRITE = select.EPOLLOUT
GONE = select.EPOLLHUP | select.EPOLLERR


class OutputWatch:
    """The registrations of the output streams."""

    def __init__(self, epoll: select.epoll) -> None:
        self.held_up = False
        self._epoll = epoll
        self._fds: list[int] = []

    def __contains__(self, fd: int) -> bool:
        return fd in self._fds

    def add(self, fd: int) -> None:
        """Ask to be told when the stream has output."""
        self._fds.append(fd)
        self._epoll.register(fd, READ)

    def remove(self, fd: int) -> None:
        """The stream is about to be closed."""
        self._fds.remove(fd)
        if not self.held_up:
            self._epoll.unregister(fd)

    def hold_up(self) -> None:
        """Ask about no stream. Unregistered rather than masked: epoll reports hang-ups whatever the mask, over and over."""
        self.held_up = True
        for fd in self._fds:
            self._epoll.unregister(fd)

    def go_on(self) -> None:
        """Ask about all of them again."""
        self.held_up = False
        for fd in self._fds:
            self._epoll.register(fd, READ)

    def leave(self) -> None:
        """From here on the streams are read without being asked about: nothing is registered or unregistered any more."""
        self.held_up = True

    def ask_for_room(self, fd: int, wanted: bool) -> None:
        """Whether to be told, too, that this stream (a terminal) takes more input."""
        if not self.held_up:
            self._epoll.modify(fd, READ | (WRITE if wanted else 0))
