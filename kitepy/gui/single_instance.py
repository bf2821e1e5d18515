"""Lets the app run once per user and display: a second start hands its paths over to the first one and ends."""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path

from PySide6.QtCore import QObject, Signal
from PySide6.QtNetwork import QLocalServer, QLocalSocket

_PATIENCE_MS = 1000
_MESSAGE_LIMIT_BYTES = 64 * 1024


def socket_path(environment: dict[str, str], uid: int) -> Path:
    """In the session's runtime folder, which only this user can enter; KITEPY_HOME keeps test instances apart.

    A start on another display gets its own window there, rather than raise one that its user can't see.
    """
    if home := environment.get("KITEPY_HOME"):
        return Path(home) / "app.sock"
    runtime = environment.get("XDG_RUNTIME_DIR", "")
    base = Path(runtime) / "kitepy" if runtime.startswith("/") and Path(runtime).is_dir() else Path(f"/tmp/kitepy-{uid}")
    display = environment.get("WAYLAND_DISPLAY") or environment.get("DISPLAY") or "none"
    return base / f"app-{re.sub('[^A-Za-z0-9.-]', '_', display)[:40]}.sock"


class SingleInstance(QObject):
    handed_over = Signal(list)
    """Absolute paths from a later start; may be empty, which means: show yourself."""

    def __init__(self, path: Path, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._path = path
        self._server = QLocalServer(self)
        self._server.setSocketOptions(QLocalServer.SocketOption.UserAccessOption)
        self._server.newConnection.connect(self._greet)
        self._guests: dict[int, QLocalSocket] = {}
        self._number = 0

    def hand_over(self, paths: list[str]) -> bool:
        """True when a running instance took the paths."""
        socket = QLocalSocket()
        socket.connectToServer(str(self._path))
        if not socket.waitForConnected(_PATIENCE_MS):
            return False
        socket.write(json.dumps(paths).encode() + b"\n")
        delivered = socket.waitForBytesWritten(_PATIENCE_MS) and socket.waitForReadyRead(_PATIENCE_MS)
        socket.disconnectFromServer()
        return bool(delivered)

    def listen(self) -> bool:
        """Becomes the instance that others hand over to. False when the place for the socket isn't safe or can't be made."""
        folder = self._path.parent
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = folder.lstat()
        except OSError:
            return False
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            return False
        # Nobody answered in `hand_over`, so a socket that is still there was left by a crash.
        QLocalServer.removeServer(str(self._path))
        return self._server.listen(str(self._path))

    def close(self) -> None:
        """Guests go before the server: they are its children, and a signal out of its end would reach freed objects."""
        while self._guests:
            _, guest = self._guests.popitem()
            guest.abort()
        self._server.close()

    def _greet(self) -> None:
        while (socket := self._server.nextPendingConnection()) is not None:
            # It lives as long as this object, which is small and rarely visited: neither the last Python reference may free it in
            # the middle of its own signal, nor does `deleteLater` go well with PySide6's idea of who owns it.
            socket.setParent(self)
            self._number += 1
            self._guests[self._number] = socket
            socket.readyRead.connect(lambda number=self._number: self._read(number))
            socket.disconnected.connect(lambda number=self._number: self._leave(number))
            self._read(self._number)

    def _leave(self, number: int) -> None:
        self._guests.pop(number, None)

    def _read(self, number: int) -> None:
        socket = self._guests.get(number)
        if socket is None:
            return
        if socket.bytesAvailable() > _MESSAGE_LIMIT_BYTES:
            socket.abort()
            return
        if not socket.canReadLine():
            return
        try:
            message = json.loads(bytes(socket.readLine().data()))
        except ValueError:
            socket.abort()
            return
        socket.write(b"ok\n")
        if isinstance(message, list):
            self.handed_over.emit([path for path in message if isinstance(path, str) and path.startswith("/")])
