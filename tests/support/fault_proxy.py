"""Stands between an engine and a registry, passes on what is said, and spoils what a test wants spoilt.

Faults are tried in order; each has a number of times that it happens. What was asked is in ``seen``.
"""

from __future__ import annotations

import http.client
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

_PIECE = 1 << 16


@dataclass
class Fault:
    """What happens to an answer. Without any of the fields below ``times`` it passes as it is."""

    path: str
    """A regular expression that is searched for in the path and query."""
    method: str = "GET"
    times: int = 1
    """How often; -1 is always."""
    status: int = 0
    """Answer with this instead of asking the registry."""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut_after: int = -1
    """Break the connection after so many bytes of the body."""
    flip: int = -1
    """Change the byte at this place of the body."""
    body_size: int = -1
    """Give only the first bytes of the body, and say that these are all."""
    per_second: int = 0
    """No more bytes a second than this."""
    hold: threading.Event | None = None
    """Answer when this is set."""
    hold_after: int = -1
    """Go on after so many bytes of the body when ``hold`` is set, instead of holding the whole answer."""
    no_range: bool = False
    """Forget that a part was asked for."""
    cut_request_after: int = -1
    """Break the connection after so many bytes of the request's body."""


@dataclass(frozen=True)
class Seen:
    """A request as it came in, and how many bytes of its answer's body were sent."""

    method: str
    path: str
    headers: Mapping[str, str]
    sent: list[int]


class FaultProxy:
    """Use it as a context manager; ``host`` is the registry's name then."""

    def __init__(self, registry_port: int, *faults: Fault) -> None:
        self.registry_port = registry_port
        self.faults = list(faults)
        self.seen: list[Seen] = []
        self.lock = threading.Lock()

    def __enter__(self) -> FaultProxy:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        for fault in self.faults:
            if fault.hold is not None:
                fault.hold.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def asked(self, method: str, path: str) -> list[Seen]:
        """The requests whose path fits a regular expression."""
        with self.lock:
            return [request for request in self.seen if request.method == method and re.search(path, request.path)]

    def fault_for(self, method: str, path: str) -> Fault:
        """What is to happen to a request; counts it."""
        with self.lock:
            for fault in self.faults:
                if fault.times and fault.method == method and re.search(fault.path, path):
                    fault.times -= 1 if fault.times > 0 else 0
                    return fault
        return Fault("")


def _handler(proxy: FaultProxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            """Be quiet."""

        def _serve(self) -> None:
            seen = Seen(self.command, self.path, dict(self.headers.items()), [0])
            with proxy.lock:
                proxy.seen.append(seen)
            fault = proxy.fault_for(self.command, self.path)
            if fault.hold is not None and fault.hold_after < 0:
                fault.hold.wait(60)
            body = self._body(fault)
            if body is None:
                self.close_connection = True
                return
            if fault.status:
                self._begin(fault.status, {"Content-Length": str(len(fault.body)), **fault.headers})
                self.wfile.write(fault.body)
                return
            self._pass_on(fault, body, seen)

        do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _serve

        def _body(self, fault: Fault) -> bytes | None:
            size = int(self.headers.get("Content-Length") or 0)
            if fault.cut_request_after >= 0:
                self.rfile.read(min(size or 1 << 30, fault.cut_request_after))
                return None
            if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                return self.rfile.read(size)
            pieces = []
            while length := int(self.rfile.readline().split(b";")[0], 16):
                pieces.append(self.rfile.read(length))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(pieces)

        def _pass_on(self, fault: Fault, body: bytes, seen: Seen) -> None:
            left_out = {"connection", "transfer-encoding", "content-length"} | ({"range"} if fault.no_range else set())
            headers = {name: value for name, value in self.headers.items() if name.lower() not in left_out}
            upstream = http.client.HTTPConnection("127.0.0.1", proxy.registry_port, timeout=60)
            try:
                upstream.request(
                    self.command, self.path, body or (b"" if self.command in ("PUT", "POST", "PATCH") else None), headers
                )
                answer = upstream.getresponse()
                told = {
                    name: value for name, value in answer.getheaders() if name.lower() not in ("connection", "transfer-encoding")
                }
                size = int(told.get("Content-Length") or 0)
                if fault.body_size >= 0:
                    told["Content-Length"] = str(min(size, fault.body_size))
                self._begin(answer.status, {**told, **fault.headers})
                if self.command != "HEAD":
                    self._stream(fault, answer, seen)
            except OSError:
                self.close_connection = True
            finally:
                upstream.close()

        def _stream(self, fault: Fault, answer: http.client.HTTPResponse, seen: Seen) -> None:
            position = 0
            end = fault.body_size if fault.body_size >= 0 else fault.cut_after
            size = max(1, fault.per_second // 10) if fault.per_second else _PIECE
            while piece := answer.read(size if end < 0 else min(size, end - position)):
                if 0 <= fault.flip - position < len(piece):
                    place = fault.flip - position
                    piece = piece[:place] + bytes([piece[place] ^ 1]) + piece[place + 1 :]
                if fault.hold is not None and fault.hold_after >= 0 and position + len(piece) > fault.hold_after >= position:
                    before = fault.hold_after - position
                    self._write(piece[:before], seen)
                    fault.hold.wait(60)
                    self._write(piece[before:], seen)
                else:
                    self._write(piece, seen)
                position += len(piece)
                if fault.per_second:
                    time.sleep(0.1)
                if 0 <= end <= position:
                    break
            if fault.cut_after >= 0:
                self.close_connection = True
                self.connection.close()

        def _write(self, piece: bytes, seen: Seen) -> None:
            self.wfile.write(piece)
            self.wfile.flush()
            seen.sent[0] += len(piece)

        def _begin(self, status: int, headers: Mapping[str, str]) -> None:
            self.send_response_only(status)
            for name, value in headers.items():
                # Places of uploads have to lead here, too.
                self.send_header(name, value.replace(f"127.0.0.1:{proxy.registry_port}", proxy.host))
            self.end_headers()

    return Handler
