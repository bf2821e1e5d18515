"""Stands between an engine and a registry, remembers what was asked, and goes wrong in the way a test says."""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any

_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "upgrade", "proxy-connection", "expect"}
_PIECE = 64 * 1024
_HOLD_TIMEOUT_S = 8.0


@dataclass
class Fault:
    """What goes wrong with requests of one kind; without any action it only counts them."""

    path: str = ""
    """A regular expression that is looked for in the path (with its query)."""
    method: str = "GET"
    """Several are separated by ``|``."""
    times: int = 1
    """How often; a negative number means always."""
    skip: int = 0
    """How many are left alone before."""
    status: int = 0
    """Answered instead of what the registry says."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """With ``status`` all of them, otherwise these are added to the registry's, or taken out by an empty value."""
    body: bytes = b""
    cut_after: int | None = None
    """The connection ends after so many bytes of the answer's body; a negative number: before the answer."""
    cut_request_after: int | None = None
    """The connection ends when so many bytes of the request's body have been passed on."""
    reset: bool = False
    """A connection is not ended but reset."""
    hold_after: int | None = None
    """The answer's body stops after so many bytes until ``FaultProxy.release``."""
    hold_request_after: int | None = None
    hold: threading.Event | None = None
    """What is held goes on when this is set, too. Without ``hold_after`` the whole answer is held."""
    change: Callable[[bytes], bytes] | None = None
    """Another body than the registry's. Its length is told rightly."""
    flip: int = -1
    """Change the byte at this place of the body."""
    body_size: int = -1
    """Give only the first bytes of the body, and say that these are all."""
    no_range: bool = False
    """The registry does not get to know that only a part was wanted."""
    per_second: int = 0
    """No more bytes of the body a second than this."""
    happened: int = 0

    def concerns(self, method: str, target: str) -> bool:
        return method in self.method.split("|") and re.search(self.path, target) is not None


@dataclass(frozen=True)
class Seen:
    """A request that came by."""

    method: str
    path: str
    """With its query."""
    headers: Mapping[str, str]
    """By lower-case names."""
    fault: Fault | None
    status: list[int]
    """What was answered, once it was."""
    sent: list[int]
    """How many bytes of the answer's body were sent."""


class _Cut(Exception):
    """End the connection here."""


class FaultProxy:
    """Use it as a context manager; ``seen`` has what was asked. ``faults`` may be given to while it runs."""

    def __init__(
        self,
        upstream: int,
        *faults: Fault,
        certificate: Path | None = None,
        upstream_tls: ssl.SSLContext | None = None,
        address: str = "127.0.0.1",
    ) -> None:
        """``upstream`` is the registry's port on the loopback, ``certificate`` a file with certificate and key for TLS."""
        self._upstream = upstream
        self._upstream_tls = upstream_tls
        self._released = threading.Event()
        self._held = threading.Semaphore(0)
        self._lock = threading.Lock()
        self.faults = list(faults)
        self.seen: list[Seen] = []
        self._server = ThreadingHTTPServer((address, 0), _handler(self))
        self._server.daemon_threads = True
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self) -> FaultProxy:
        self._thread.start()
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        for event in (self._released, *(fault.hold for fault in self.faults)):
            if event is not None:
                event.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def host(self) -> str:
        """As the first part of an image's name."""
        return f"{self._server.server_address[0]!s}:{self.port}"

    def add(self, path: str = "", **options: Any) -> Fault:
        """One more thing that goes wrong; see ``Fault``."""
        fault = Fault(path, **options)
        self.faults.append(fault)
        return fault

    def asked(self, method: str, path: str = "") -> list[Seen]:
        """The requests of one kind so far."""
        return [request for request in self.seen if request.method == method and re.search(path, request.path)]

    def wait_until_held(self, times: int = 1) -> None:
        """Until that many more answers or uploads stopped as a fault said."""
        for _ in range(times):
            assert self._held.acquire(timeout=_HOLD_TIMEOUT_S), "nothing came to where it is held"

    def wait_until_asked(self, method: str, path: str = "", times: int = 1) -> None:
        deadline = time.monotonic() + _HOLD_TIMEOUT_S
        while len(self.asked(method, path)) < times:
            assert time.monotonic() < deadline, f"nobody asked {method} {path}: {self.seen}"
            time.sleep(0.01)

    def release(self) -> None:
        """Let go on all that is held, and hold nothing any more."""
        self._released.set()

    # --- for the handler ---------------------------------------------------------------------------------------------

    def fault_of(self, method: str, target: str) -> Fault | None:
        with self._lock:
            for fault in self.faults:
                if not fault.concerns(method, target) or fault.times == 0:
                    continue
                if fault.skip:
                    fault.skip -= 1
                    continue
                fault.times -= 1
                fault.happened += 1
                return fault
        return None

    def connect(self) -> http.client.HTTPConnection:
        if self._upstream_tls is not None:
            return http.client.HTTPSConnection("127.0.0.1", self._upstream, timeout=60, context=self._upstream_tls)
        return http.client.HTTPConnection("127.0.0.1", self._upstream, timeout=60)

    def hold(self, own: threading.Event | None) -> None:
        self._held.release()
        if not (own or self._released).wait(_HOLD_TIMEOUT_S):
            raise _Cut


def _handler(proxy: FaultProxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *_: Any) -> None:
            """Be quiet."""

        def __getattr__(self, name: str) -> Any:
            if name.startswith("do_"):
                return self._pass
            raise AttributeError(name)

        def _pass(self) -> None:
            fault = proxy.fault_of(self.command, self.path) or Fault()
            headers = {name.lower(): ", ".join(self.headers.get_all(name, ())) for name in self.headers}
            seen = Seen(self.command, self.path, headers, fault, [], [0])
            proxy.seen.append(seen)
            try:
                if fault.hold is not None and fault.hold_after is None:
                    proxy.hold(fault.hold)
                self._answer(fault, seen)
            except (_Cut, OSError, http.client.HTTPException):
                self._end(reset=fault.reset)

        def _answer(self, fault: Fault, seen: Seen) -> None:
            body = _stopped(self._body(seen.headers), fault.cut_request_after, fault.hold_request_after, fault.hold)
            if fault.cut_after is not None and fault.cut_after < 0:
                raise _Cut
            if fault.status:
                for _ in body:
                    pass
                seen.status.append(fault.status)
                self._send(fault.status, {"Content-Length": str(len(fault.body)), **fault.headers}, [fault.body], fault, seen)
                return
            sent = {name: value for name, value in seen.headers.items() if name not in _HOP_BY_HOP}
            if fault.no_range:
                sent.pop("range", None)
            chunked = "transfer-encoding" in seen.headers
            has_body = chunked or "content-length" in seen.headers
            with contextlib.closing(proxy.connect()) as connection:
                connection.request(self.command, self.path, body if has_body else None, sent, encode_chunked=chunked)
                response = connection.getresponse()
                seen.status.append(response.status)
                answered = {name: value for name, value in response.getheaders() if name.lower() not in _HOP_BY_HOP}
                pieces: Iterable[bytes] = iter(lambda: response.read(_PIECE), b"")
                if fault.change is not None or fault.flip >= 0 or fault.body_size >= 0:
                    changed = _changed(response.read(), fault)
                    pieces = [changed]
                    answered["Content-Length"] = str(len(changed))
                for name, value in fault.headers.items():
                    answered = {known: kept for known, kept in answered.items() if known.lower() != name.lower()}
                    if value:
                        answered[name] = value
                self._send(response.status, answered, pieces, fault, seen)

        def _send(self, status: int, headers: Mapping[str, str], pieces: Iterable[bytes], fault: Fault, seen: Seen) -> None:
            known = {name.lower() for name in headers}
            chunked = "content-length" not in known and self.command != "HEAD" and status not in (204, 304)
            self.send_response_only(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if chunked:
                self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            if self.command == "HEAD":
                return
            for piece in _stopped(_paced(pieces, fault.per_second), fault.cut_after, fault.hold_after, fault.hold):
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
                seen.sent[0] += len(piece)
            if chunked:
                self.wfile.write(b"0\r\n\r\n")

        def _body(self, headers: Mapping[str, str]) -> Iterator[bytes]:
            return self._chunks() if "chunked" in headers.get("transfer-encoding", "") else self._plain(headers)

        def _plain(self, headers: Mapping[str, str]) -> Iterator[bytes]:
            left = int(headers.get("content-length", "0"))
            while left:
                piece = self.rfile.read1(min(left, _PIECE))  # type: ignore[attr-defined]
                if not piece:
                    raise _Cut
                left -= len(piece)
                yield piece

        def _chunks(self) -> Iterator[bytes]:
            while size := int(self.rfile.readline().split(b";")[0] or b"0", 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()

        def _end(self, *, reset: bool) -> None:
            self.close_connection = True
            with contextlib.suppress(OSError):
                if reset:
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    self.connection.close()
                else:
                    self.connection.shutdown(socket.SHUT_RDWR)

    def _stopped(pieces: Iterable[bytes], cut: int | None, hold: int | None, until: threading.Event | None) -> Iterator[bytes]:
        """The pieces, held at one place and cut at another."""
        passed = 0
        for piece in pieces:
            left = piece
            while left:
                if cut == passed:
                    raise _Cut
                if hold == passed:
                    hold = None
                    proxy.hold(until)
                size = min([len(left), *(stop - passed for stop in (cut, hold) if stop is not None and stop > passed)])
                yield left[:size]
                passed += size
                left = left[size:]

    return Handler


def _changed(body: bytes, fault: Fault) -> bytes:
    if fault.change is not None:
        body = fault.change(body)
    if fault.flip >= 0:
        body = body[: fault.flip] + bytes([body[fault.flip] ^ 1]) + body[fault.flip + 1 :]
    return body if fault.body_size < 0 else body[: fault.body_size]


def _paced(pieces: Iterable[bytes], per_second: int) -> Iterator[bytes]:
    if not per_second:
        yield from pieces
        return
    size = max(per_second // 10, 1)
    for piece in pieces:
        for at in range(0, len(piece), size):
            yield piece[at : at + size]
            time.sleep(0.1)
