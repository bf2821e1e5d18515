"""One client connection: aiohttp's request protocol, taught what Docker's clients do that plain HTTP doesn't foresee.

Three things: a connection may be taken over for a raw conversation (attach, exec), together with the bytes that came too
early; a client that closes only its sending side still gets its answer; errors of the HTTP parser are answered in JSON.
This module alone touches aiohttp's inner attributes (tried with 3.10 to 3.14; 3.9 mistakes the body of an upgrade).
"""

from __future__ import annotations

import asyncio
import re
from typing import Any

import msgspec
from aiohttp import StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage
from aiohttp.web_protocol import RequestHandler

from kitepy.engine.server.common_headers import COMMON_HEADERS
from kitepy.engine.server.gates import ConnectionGate, Limits
from kitepy.engine.server.raw_request import LONGEST_HEAD, NOT_RAW, UNFINISHED, end_of_raw_request, large_upload
from kitepy.engine.server.splicing import Upload, plain_socket

_NOT_ASCII = re.compile(rb"[\x80-\xff]")
_EARLY_LIMIT_BYTES = 256 * 1024
_TOO_MANY = "the engine serves as many connections as it can; try again later"
_TOO_SLOW = "the request's head did not arrive in time"
_TOO_LONG = f"the request's head exceeds {LONGEST_HEAD} bytes"


class EdgeProtocol(RequestHandler):
    """Serves the requests of one connection until it is closed or taken over."""

    # aiohttp's own attributes, as this module uses them
    _message_tail: bytes
    _request_count: int
    _waiter: asyncio.Future[None] | None
    _keepalive_handle: asyncio.Handle | None
    _task_handler: asyncio.Task[None] | None

    def __init__(self, *args: Any, gate: ConnectionGate, **options: Any) -> None:
        super().__init__(*args, **options)
        self._gate = gate
        self._head = bytearray()
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._early: bytearray | None = None
        self._half_closed = False
        self.streaming = False
        """Set while an answer is streamed that nobody wants once the client has left."""
        self.upload: Upload | None = None
        """The body of the present request, where the parser was told that it has none."""
        self.payload: StreamReader | None = None
        """The body of the latest request."""

    @property
    def limits(self) -> Limits:
        """The bounds of the listener that this connection came in by."""
        return self._gate.limits

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if not self._gate.enter(self):
            self._refuse(503, "Service Unavailable", _TOO_MANY)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._gate.leave(self)
        self._stop_head_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.upload is not None:
            self.upload.more(data)  # it was on its way when reading was paused
        elif self._early is not None:
            self._keep_early(data)
        elif self._head or self._is_idle():
            self._watch_head(len(data))
            self._begin_request(data)
            if not self._is_idle():
                self._head_bytes = 0
                self._stop_head_timer()
            elif self._head_bytes > LONGEST_HEAD:
                self._refuse(431, "Request Header Fields Too Large", _TOO_LONG)
        else:
            super().data_received(data)

    def _watch_head(self, size_bytes: int) -> None:
        """The parser bounds each line of a head; the time and the size of the whole are bounded here."""
        self._head_bytes += size_bytes
        if self._head_timer is None:
            self._head_timer = asyncio.get_running_loop().call_later(
                self._gate.limits.head_timeout_s, self._refuse, 408, "Request Timeout", _TOO_SLOW
            )

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _refuse(self, status: int, reason: str, text: str) -> None:
        """Answer a connection on which no request was read, and close it."""
        self._stop_head_timer()
        if self.transport is None or self.transport.is_closing():
            return
        body = msgspec.json.encode({"message": text})
        head = f"HTTP/1.1 {status} {reason}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        assert isinstance(self.transport, asyncio.Transport)
        self.transport.write(head.encode() + b"Connection: close\r\n\r\n" + body)
        self.force_close()

    def _is_idle(self) -> bool:
        """Whether no request is being read or answered, so that what comes next begins one."""
        return self._request_count == 0 or (self._waiter is not None and not self._waiter.done())

    def _begin_request(self, data: bytes) -> None:
        """Keep what follows a request for a conversation away from the HTTP parser, which would lose it."""
        data = _with_ascii_target(bytes(self._head + data) if self._head else data)
        if not self._head and (parts := large_upload(data)) is not None:
            fd = plain_socket(self.transport)
            if fd is not None:
                assert isinstance(self.transport, asyncio.Transport)
                self.transport.pause_reading()
                self.upload = Upload(fd, parts[1], parts[2], self._gate.limits.pause_timeout_s)
                self.upload.ended = self.finish_upload
                data = parts[0]
        end = end_of_raw_request(data)
        if end == UNFINISHED:
            self._head = bytearray(data)
            return
        if self._head:
            self._head = bytearray()
        if end != NOT_RAW:
            self._early = bytearray(data[end:])
            data = data[:end]
        super().data_received(data)

    def _keep_early(self, data: bytes) -> None:
        assert self._early is not None
        self._early += data
        if len(self._early) >= _EARLY_LIMIT_BYTES and self.transport is not None:
            self.transport.pause_reading()

    def eof_received(self) -> bool | None:  # type: ignore[override]  # aiohttp never keeps a half-closed connection
        if self._is_idle() or self.streaming or not self._has_whole_request():
            return None
        self._half_closed = True
        self.close()  # no further request is read, the present one is answered
        return True

    def _has_whole_request(self) -> bool:
        payload = self._messages[-1][1] if self._messages else self.payload
        return payload is None or payload.is_eof()

    async def finish_upload(self) -> None:
        """Go on with HTTP after an upload that was kept away from the parser, whatever became of it."""
        upload, self.upload = self.upload, None
        if upload is None:
            return
        usable = await upload.discard()
        upload.close()
        if not usable:
            self.close()  # what comes next is no request
        elif self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()
            if upload.rest:
                self.data_received(upload.rest)

    async def flushed(self) -> None:
        """Wait until all that was written so far is the kernel's to send."""
        assert isinstance(self.transport, asyncio.Transport)
        self.transport.set_write_buffer_limits(high=0)
        try:
            await self._drain_helper()
        finally:
            self.transport.set_write_buffer_limits()

    def take_over(self, successor: asyncio.Protocol) -> tuple[asyncio.Transport, bytes, bool]:
        """Give the connection to another protocol: its transport, the bytes that came early, whether the client half-closed.

        Raises ConnectionResetError when the client is gone. The successor calls ``taken_over_closed`` in the end.
        """
        transport = self.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client closed the connection")
        early = bytes(self._early or b"") + bytes(self._message_tail)
        self._early = None
        self._message_tail = b""
        if self._keepalive_handle is not None:
            self._keepalive_handle.cancel()
            self._keepalive_handle = None
        transport.pause_reading()
        transport.set_protocol(successor)
        return transport, early, self._half_closed

    def decline_raw(self) -> None:
        """Go on with HTTP after a request that could have taken the connection over, but didn't."""
        if self._early is None:
            return
        early, self._early = bytes(self._early), None
        if self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()
            if early:
                super().data_received(early)

    def taken_over_closed(self, error: Exception | None) -> None:
        """Tell aiohttp that the transport it once had is closed."""
        self._task_handler = None  # or it would cancel the very task that reports this
        self.connection_lost(error)

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        answer = super().handle_error(request, status, exc, message)
        status, text = _reading_trouble(answer.status, message or "")
        body = msgspec.json.encode({"message": text}) + b"\n"
        headers = {**COMMON_HEADERS, "Content-Type": "application/json"}
        response = web.Response(status=status, body=body, headers=headers)
        response.force_close()
        return response


def _with_ascii_target(data: bytes) -> bytes:
    """A request whose target is escaped: curl sends other characters as they are, Docker takes them, the parser doesn't."""
    end = data.find(b"\r\n")
    if data[: end if end >= 0 else len(data)].isascii():
        return data
    return _NOT_ASCII.sub(lambda byte: b"%%%02X" % byte[0][0], data[:end]) + data[end:] if end >= 0 else data


def _reading_trouble(status: int, message: str) -> tuple[int, str]:
    """The status and one sentence for what the parser says in several lines."""
    trouble = message.partition("\n")[0].rstrip(": ")
    if trouble.startswith("Too many headers") or (trouble.startswith("Got more than") and "when reading" in trouble):
        return 431, f"the request's head is too long: {trouble.partition(':')[0]}"
    if "PRI" in trouble or "Invalid HTTP version" in message:
        return 505, "this version of HTTP is not spoken here: use HTTP/1.1"
    return status, f"the request can't be read: {trouble}" if trouble else "the request can't be read"


class EdgeServer(web.Server):
    """aiohttp's low-level server with our connections; cancels a handler when its client goes away."""

    def _make_request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: RequestHandler,
        writer: AbstractStreamWriter,
        task: asyncio.Task[None],
    ) -> web.BaseRequest:
        if isinstance(protocol, EdgeProtocol):
            protocol.payload = payload
        return super()._make_request(message, payload, protocol, writer, task)

    def protocol_for(self, gate: ConnectionGate) -> EdgeProtocol:
        """A protocol for one more connection of the listener that ``gate`` belongs to."""
        return EdgeProtocol(self, loop=self._loop, gate=gate, keepalive_timeout=gate.limits.idle_timeout_s, **self._kwargs)


class TakenOver(web.StreamResponse):
    """What a handler returns after it took the connection over: aiohttp must not write anything any more."""

    async def prepare(self, request: web.BaseRequest) -> None:  # noqa: ARG002  # aiohttp's signature
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        pass

    @property
    def keep_alive(self) -> bool | None:
        return False
