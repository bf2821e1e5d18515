"""The connections of one stream, to be cut from another thread; making them is left to ``transport.py``."""

from __future__ import annotations

import socket
import threading

from kitepy.client.errors import Cancelled


class Lifeline:
    """Remembers the sockets of one stream, to cut them from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self.cut_off = False

    def add(self, connected: socket.socket) -> None:
        """Take note of a connection; refuses it when the stream was cut before."""
        with self._lock:
            if not self.cut_off:
                self._sockets.append(connected)
                return
        connected.close()
        raise Cancelled("the stream was closed")

    def cut(self) -> None:
        """End every connection; reads blocked on them return. May be called twice."""
        with self._lock:
            self.cut_off = True
            sockets, self._sockets = self._sockets, []
        for connected in sockets:
            try:
                connected.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # It was closed already, by the other side or by urllib3.
