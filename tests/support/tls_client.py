"""A TLS client that can do what Docker's can and Python's sockets can't: say its end by ``close_notify`` and go on reading."""

from __future__ import annotations

import contextlib
import socket
import ssl
from pathlib import Path


def client_context(directory: Path, *, with_certificate: bool = True) -> ssl.SSLContext:
    """A context by a folder laid out as DOCKER_CERT_PATH."""
    context = ssl.create_default_context(cafile=str(directory / "ca.pem"))
    if with_certificate:
        context.load_cert_chain(directory / "cert.pem", directory / "key.pem")
    return context


class TlsClient:
    """One connection; use it as a context manager."""

    def __init__(self, port: int, context: ssl.SSLContext, name: str = "localhost") -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        while True:
            try:
                self.tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._exchange()
        self._flush()

    def _flush(self) -> None:
        if self._outgoing.pending:
            self.socket.sendall(self._outgoing.read())

    def _exchange(self) -> None:
        self._flush()
        data = self.socket.recv(65536)
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def sendall(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self.tls.write(view) :]
            self._flush()

    def recv(self, size: int = 65536) -> bytes:
        """Decrypted bytes; none at the other side's ``close_notify``. Raises ssl.SSLError when it was cut or refused."""
        while True:
            try:
                return self.tls.read(size)
            except ssl.SSLZeroReturnError:
                return b""
            except ssl.SSLWantReadError:
                self._exchange()

    def read_all(self) -> bytes:
        return b"".join(iter(self.recv, b""))

    def say_end(self) -> None:
        """A half-close: ``close_notify``, while the connection stays open for reading."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        self._flush()

    def __enter__(self) -> TlsClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()
