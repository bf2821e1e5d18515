"""The server's side of one TLS connection: from handshake to a transport that the HTTP protocol can use like any other.

asyncio's own TLS transport closes a connection as soon as the other side says that it has nothing more to send. Docker's
clients say that at the end of a process's input and then wait for its output, so a ``close_notify`` means here what a
half-close means on a plain socket (RFC 8446, 6.1). A connection that ends without one was cut: that is never an end of input.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from kitepy.engine.server.gates import ConnectionGate

logger = logging.getLogger(__name__)

_RECORD = 16 * 1024
_READ_AT_ONCE = 256 * 1024


class TlsConnection(asyncio.Protocol):
    """Decrypts what the socket's transport brings for the protocol that ``make_protocol`` gives after the handshake."""

    def __init__(self, context: ssl.SSLContext, make_protocol: Callable[[], asyncio.Protocol], gate: ConnectionGate) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self.ssl_object = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._make_protocol = make_protocol
        self._gate = gate
        self._raw: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.protocol: asyncio.BaseProtocol | None = None
        self._transport: TlsTransport | None = None
        self._client_finished = False
        self._reading = True
        self._again: asyncio.Handle | None = None
        self.is_closing = False

    # asyncio.Protocol, towards the socket

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._raw = transport
        self._gate.knock(self, transport.abort)
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._gate.limits.handshake_timeout_s, transport.abort)

    def data_received(self, data: bytes) -> None:
        self._incoming.write(data)
        self._advance()

    def eof_received(self) -> bool:
        if self._client_finished and not self.is_closing:
            return True  # it may still want our answer
        self._abort()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._handshake_over()
        self.is_closing = True
        if self._again is not None:
            self._again.cancel()
        protocol, self.protocol = self.protocol, None
        if protocol is not None:
            protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        if isinstance(self.protocol, asyncio.Protocol):
            self.protocol.pause_writing()

    def resume_writing(self) -> None:
        if isinstance(self.protocol, asyncio.Protocol):
            self.protocol.resume_writing()

    # inner steps

    def _advance(self) -> None:
        self._again = None
        if self.is_closing:
            return
        try:
            if self._transport is None and not self._shake_hands():
                return
            self._decrypt()
        except ssl.SSLError as error:
            self._fail(error)
        else:
            self._flush()

    def _shake_hands(self) -> bool:
        try:
            self.ssl_object.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return False
        assert self._raw is not None
        self._flush()
        self._handshake_over()
        self._transport = TlsTransport(self, self._raw)
        protocol = self._make_protocol()
        self.protocol = protocol
        protocol.connection_made(self._transport)
        return True

    def _handshake_over(self) -> None:
        self._gate.answered(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _decrypt(self) -> None:
        """Hand on what can be decrypted, until there is no more or the protocol wants no more."""
        taken = 0
        while self._reading and not self.is_closing and not self._client_finished:
            try:
                data = self.ssl_object.read(_RECORD)
            except ssl.SSLWantReadError:
                return
            except ssl.SSLZeroReturnError:  # both sides have said their end
                data = b""
            if not data:
                self._client_finished = True
                if isinstance(self.protocol, asyncio.Protocol) and not self.protocol.eof_received():
                    self.close()
                return
            if isinstance(self.protocol, asyncio.Protocol):
                self.protocol.data_received(data)
            taken += len(data)
            if taken >= _READ_AT_ONCE:
                self._later()  # others want their turn
                return

    def _later(self) -> None:
        if self._again is None:
            self._again = asyncio.get_running_loop().call_soon(self._advance)

    def _flush(self) -> None:
        if self._outgoing.pending and self._raw is not None and not self._raw.is_closing():
            self._raw.write(self._outgoing.read())

    def _fail(self, error: ssl.SSLError) -> None:
        """Tell the other side by an alert, as far as OpenSSL made one, and close."""
        assert self._raw is not None
        peer = self._raw.get_extra_info("peername")
        if self._transport is None:
            logger.info("TLS handshake with %s failed: %s", _address(peer), error.reason or "protocol error")
        else:
            logger.info("TLS connection with %s failed: %s", _address(peer), error.reason or "protocol error")
        self._flush()
        self.is_closing = True
        self._raw.close()

    def _abort(self) -> None:
        self.is_closing = True
        if self._raw is not None:
            self._raw.abort()

    # for the transport

    def set_reading(self, wanted: bool) -> None:
        assert self._raw is not None
        self._reading = wanted
        if self.is_closing or self._raw.is_closing():
            return
        if wanted:
            self._raw.resume_reading()
            self._later()
        else:
            self._raw.pause_reading()

    @property
    def is_reading(self) -> bool:
        return self._reading and not self.is_closing

    def write(self, data: memoryview) -> None:
        if self.is_closing:
            return
        try:
            while data:
                data = data[self.ssl_object.write(data) :]
        except ssl.SSLError as error:
            self._fail(error)
        else:
            self._flush()

    def close(self) -> None:
        """Say the end to the other side, then close once everything has gone out."""
        if self.is_closing:
            return
        self.say_end()
        self.is_closing = True
        if self._raw is not None:
            self._raw.close()

    def say_end(self) -> None:
        """Send ``close_notify``: nothing more is written, but what comes is still read."""
        with suppress(ssl.SSLError):  # the other side's own is not waited for
            self.ssl_object.unwrap()
        self._flush()

    def abort(self) -> None:
        self._abort()


def _address(peer: object) -> str:
    return f"{peer[0]} port {peer[1]}" if isinstance(peer, tuple) and len(peer) >= 2 else "a client"


class TlsTransport(asyncio.Transport):
    """What the HTTP protocol and raw conversations write to and pause, like a socket's transport."""

    def __init__(self, connection: TlsConnection, raw: asyncio.Transport) -> None:
        super().__init__()
        self._connection = connection
        self._raw = raw

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "ssl_object":
            return self._connection.ssl_object
        if name == "sslcontext":
            return self._connection.ssl_object.context
        if name == "peercert":
            return self._connection.ssl_object.getpeercert()
        return self._raw.get_extra_info(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._connection.protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        assert self._connection.protocol is not None
        return self._connection.protocol

    def is_closing(self) -> bool:
        return self._connection.is_closing or self._raw.is_closing()

    def close(self) -> None:
        self._connection.close()

    def abort(self) -> None:
        self._connection.abort()

    def is_reading(self) -> bool:
        return self._connection.is_reading

    def pause_reading(self) -> None:
        self._connection.set_reading(False)

    def resume_reading(self) -> None:
        self._connection.set_reading(True)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if data:
            self._connection.write(memoryview(data).cast("B"))

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self._connection.say_end()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._raw.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        return self._raw.get_write_buffer_size()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._raw.get_write_buffer_limits()
