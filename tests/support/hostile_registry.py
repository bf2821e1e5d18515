"""A registry that answers whatever a test wants, also what no registry would: lies, bombs, streams without end."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from support.oci import OCI_MANIFEST, Blob, Made


@dataclass(frozen=True)
class Reply:
    """An answer. A body of pieces goes out without a length unless a header tells one."""

    body: bytes | Iterable[bytes] = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Request:
    """What was asked, and how much of the answer was sent."""

    method: str
    path: str
    headers: Mapping[str, str]
    sent: int = 0
    hung_up: threading.Event = field(default_factory=threading.Event)
    """Set when the client closed the connection amid the answer."""


class HostileRegistry:
    """Use it as a context manager; ``replies`` by path, or by method and path: a Reply, or a function that makes one."""

    def __init__(self) -> None:
        self.replies: dict[str, Reply | Callable[[Request], Reply]] = {"/v2/": Reply(b"{}")}
        self.seen: list[Request] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.over = threading.Event()
        """Set at the end, for answers that wait for something."""

    def __enter__(self) -> HostileRegistry:
        self._thread.start()
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._server.server_address[1]}"

    def manifest(self, repository: str, reference: str, document: bytes | Mapping[str, Any], kind: str = OCI_MANIFEST) -> None:
        """Answer with this as a manifest."""
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.replies[f"/v2/{repository}/manifests/{reference}"] = Reply(body, headers={"Content-Type": kind})

    def blob(self, repository: str, digest: str, reply: bytes | Reply | Callable[[Request], Reply]) -> None:
        """Answer with this as a blob."""
        self.replies[f"/v2/{repository}/blobs/{digest}"] = Reply(reply) if isinstance(reply, bytes) else reply

    def serve(self, repository: str, tag: str, image: Made) -> None:
        """Have a whole image, to be spoilt afterwards."""
        for blob in (image.document, *image.blobs):
            self.blob(repository, blob.digest, blob.content)
        self.manifest(repository, tag, image.manifest.content, image.manifest.media_type)
        self.manifest(repository, image.manifest.digest, image.manifest.content, image.manifest.media_type)

    def asked(self, path: str) -> list[Request]:
        return [request for request in self.seen if request.path.partition("?")[0] == path]


def manifest_of(config: Blob, layers: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """A manifest with layers as one likes."""
    return {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config.descriptor, "layers": list(layers)}


def _handler(registry: HostileRegistry) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *_: Any) -> None:
            """Be quiet."""

        def do_GET(self) -> None:
            self._answer()

        def do_HEAD(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._body()
            self._answer()

        do_PUT = do_PATCH = do_POST

        def _body(self) -> None:
            left = int(self.headers.get("Content-Length") or 0)
            while left:
                left -= len(self.rfile.read(min(left, 1 << 16))) or left
            if self.headers.get("Transfer-Encoding") == "chunked":
                while size := int(self.rfile.readline() or b"0", 16):
                    self.rfile.read(size + 2)
                self.rfile.readline()

        def _answer(self) -> None:
            request = Request(self.command, self.path, {name.lower(): value for name, value in self.headers.items()})
            registry.seen.append(request)
            path = self.path.partition("?")[0]
            names = (f"{self.command} {path}", self.path, path)
            found = next((registry.replies[name] for name in names if name in registry.replies), Reply(b"", 404))
            reply = found if isinstance(found, Reply) else found(request)
            whole = isinstance(reply.body, bytes)
            length = {"Content-Length": str(len(reply.body))} if isinstance(reply.body, bytes) else {}
            headers = {**length, **reply.headers}
            self.send_response_only(reply.status)
            for name, value in headers.items():
                self.send_header(name, value)
            if not whole:
                self.send_header("Connection", "close")
                self.close_connection = True
            self.end_headers()
            if self.command == "HEAD":
                return
            try:
                for piece in [reply.body] if isinstance(reply.body, bytes) else reply.body:
                    self.wfile.write(piece)
                    request.sent += len(piece)
            except OSError:
                request.hung_up.set()
                self.close_connection = True
                with contextlib.suppress(OSError):
                    self.connection.shutdown(socket.SHUT_RDWR)

    return Handler
