"""A socket in front of an engine's: passes every byte on as it is, half-closes included, and keeps what was said."""

from __future__ import annotations

import contextlib
import fcntl
import select
import socket
import termios
import threading
import time
from array import array
from collections import deque
from pathlib import Path

from support.exchanges import ConnectionLog, Exchange

_PIECE = 65536


class _Connection:
    def __init__(self, client: socket.socket, engine: socket.socket) -> None:
        self.client, self.engine = client, engine
        self.log = ConnectionLog()
        self.pieces: deque[tuple[bool, bytes]] = deque()
        self._ends = [
            threading.Thread(target=self._pump, args=(client, engine, True), daemon=True),
            threading.Thread(target=self._pump, args=(engine, client, False), daemon=True),
        ]
        self._running = len(self._ends)
        self._lock = threading.Lock()
        for thread in self._ends:
            thread.start()

    @property
    def over(self) -> bool:
        return self._running == 0

    def _pump(self, source: socket.socket, sink: socket.socket, from_client: bool) -> None:
        try:
            while piece := source.recv(_PIECE):
                self.pieces.append((from_client, piece))
                head, piece = (b"", piece) if from_client else _raw_head(piece)
                if head:
                    sink.sendall(head)
                    _wait_until_read(sink)
                sink.sendall(piece)
            self.pieces.append((from_client, b""))
            with contextlib.suppress(OSError):
                sink.shutdown(socket.SHUT_WR)
            # Closed for good, or only this direction? The other end learns of it as soon as we know.
            poll = select.poll()
            poll.register(source, 0)
            while not self.over and not poll.poll(1000):
                pass
            _shut(sink)
        except OSError:
            self.pieces.append((from_client, b""))
            _shut(source)
            _shut(sink)
        finally:
            with self._lock:
                self._running -= 1
                if self.over:
                    self.client.close()
                    self.engine.close()


def _raw_head(piece: bytes) -> tuple[bytes, bytes]:
    """The head of an answer that makes a connection raw, and what follows."""
    if not piece.startswith((b"HTTP/1.1 101 ", b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.")):
        return b"", piece
    head, end, rest = piece.partition(b"\r\n\r\n")
    return head + end, rest


def _wait_until_read(sink: socket.socket) -> None:
    """docker-py loses what it reads together with such a head, so they must not come together because of us."""
    deadline = time.monotonic() + 2
    unread = array("i", [1])
    while unread[0] and time.monotonic() < deadline:
        fcntl.ioctl(sink, termios.TIOCOUTQ, unread)
        time.sleep(0.0002)


def _shut(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)


class Tap:
    """Listens at ``path`` for the engine at ``engine``. Use it as a context manager."""

    def __init__(self, path: Path, engine: Path) -> None:
        self._engine = engine
        self._connections: list[_Connection] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(1024)
        path.chmod(0o666)  # whoever can reach the directory: the engine's own socket says who may talk to it
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def exchanges(self) -> list[Exchange]:
        """What was said and is over since the last call."""
        found = []
        for connection in list(self._connections):
            over = connection.over
            while connection.pieces:
                connection.log.feed(*connection.pieces.popleft())
            while more := connection.log.exchanges():
                found += more
            if over:
                self._connections.remove(connection)
        return found

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            engine = socket.socket(socket.AF_UNIX)
            try:
                engine.connect(str(self._engine))
            except OSError:  # it is down, as some tests want it
                client.close()
                engine.close()
            else:
                self._connections.append(_Connection(client, engine))

    def __enter__(self) -> Tap:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        _shut(self._listener)
        self._listener.close()
        self._thread.join(5)
