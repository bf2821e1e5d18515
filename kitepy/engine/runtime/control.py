"""The monitor's control connections: accepting, reading, telling, dropping; what requests mean is left to ``requests``.

One connection is that of the engine that asked for the start. When it hangs up before it has said that it keeps the container,
the start was given up in the moment it succeeded, and the container ends.
"""

from __future__ import annotations

import os
import select
from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_SEQPACKET, socket

from kitepy.engine.kernel.packets import Message, receive, send
from kitepy.engine.runtime.container import Container
from kitepy.engine.runtime.watch import READ

_SOCKET = "monitor.sock"


class Controls:
    """The listening socket and its connections."""

    def __init__(self, epoll: select.epoll, container: Container) -> None:
        self._epoll = epoll
        self._container = container
        self._starter: socket | None = None
        self._kept = False
        """The engine has read that the container started."""
        self._connections: dict[int, socket] = {}
        self._listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK)

    def __contains__(self, fd: int) -> bool:
        return fd in self._connections

    @property
    def listener_fd(self) -> int:
        """Readable when someone connects: ``accept``."""
        return self._listener.fileno()

    def listen(self) -> None:
        """Appear in the state directory, which is the working directory."""
        mask = os.umask(0o177)
        self._listener.bind(_SOCKET)  # relative: the full path may exceed the 107 bytes an address holds
        os.umask(mask)
        self._listener.listen(128)
        self._epoll.register(self._listener.fileno(), READ)

    def accept(self) -> None:
        """Take in a new connection."""
        try:
            fd, _ = self._listener._accept()  # type: ignore[attr-defined]  # the C half of socket.accept
        except OSError:
            return
        os.set_inheritable(fd, False)
        self._add(socket(AF_UNIX, SOCK_SEQPACKET, 0, fd))

    def add_starter(self, starter: socket) -> None:
        """Take in the connection of the engine that asked for the start."""
        self._starter = starter
        self._add(starter)

    def keep(self) -> None:
        """The engine knows of the container: from here on it may come and go."""
        self._kept = True

    def receive(self, fd: int) -> tuple[socket, tuple[Message, bytes, list[int]]] | None:
        """Who asks and the request (message, payload, descriptors); None when there is none. Drops who has hung up."""
        control = self._connections[fd]
        try:
            received = receive(control)
        except BlockingIOError:
            return None
        except (OSError, ValueError):
            received = None
        if received is None:
            self._drop(control)
            return None
        return control, received

    def tell(self, control: socket, message: Message, fds: tuple[int, ...] = ()) -> None:
        """Send one message; nothing happens when the engine that asked is gone."""
        if control.fileno() not in self._connections:
            return
        try:
            send(control, message, fds=fds)
        except OSError:
            self._drop(control)

    def tell_all(self, message: Message) -> None:
        """Send one message to everybody."""
        for control in list(self._connections.values()):
            self.tell(control, message)

    def close_listener(self) -> None:
        """Disappear from the state directory. Connections stay."""
        self._listener.close()
        os.unlink(_SOCKET)

    def _add(self, control: socket) -> None:
        control.setblocking(False)
        self._connections[control.fileno()] = control
        self._epoll.register(control.fileno(), READ)

    def _drop(self, control: socket) -> None:
        self._epoll.unregister(control.fileno())
        del self._connections[control.fileno()]
        control.close()
        if control is self._starter and not self._kept:
            self._container.end_unknown()
