"""The frames of a websocket (RFC 6455, section 5) and the handshake's answer (section 4.2.2); pure.

The content of messages is handed on as it arrives, so that a frame of any size takes no memory; only control frames, at most
125 bytes long, are kept until they are whole.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import ipaddress
import struct
from dataclasses import dataclass
from urllib.parse import urlsplit

CONTINUATION = 0
TEXT = 1
BINARY = 2
CLOSE = 8
PING = 9
PONG = 10

NORMAL_CLOSURE = 1000
PROTOCOL_ERROR = 1002

_LONGEST_CONTROL = 125
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def accept_key(key: str) -> str | None:
    """The ``Sec-WebSocket-Accept`` for a client's ``Sec-WebSocket-Key``; None when that is not 16 bytes in base64."""
    try:
        nonce = base64.b64decode(key, validate=True)
    except (binascii.Error, ValueError):
        return None
    if len(nonce) != 16:
        return None
    return base64.b64encode(hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest()).decode()


def is_same_origin(origin: str | None, host: str) -> bool:
    """Whether a handshake doesn't come from a foreign web page (section 10.2): browsers always tell the page's origin.

    A page's host name may lead to any address (DNS rebinding), so without TLS only addresses are believed.
    """
    if origin is None:
        return True
    try:
        parts = urlsplit(origin)
        name = parts.hostname or ""
    except ValueError:
        return False
    if parts.netloc.lower() != host.lower():
        return False
    return parts.scheme in ("https", "wss") or name == "localhost" or _is_address(name)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def encode_message(opcode: int, data: bytes) -> bytes:
    """A whole message in one frame, unmasked as a server's are."""
    size = len(data)
    if size < 126:
        return bytes((0x80 | opcode, size)) + data
    if size < 0x10000:
        return struct.pack(">BBH", 0x80 | opcode, 126, size) + data
    return struct.pack(">BBQ", 0x80 | opcode, 127, size) + data


def close_frame(code: int) -> bytes:
    """The frame that ends a websocket."""
    return encode_message(CLOSE, struct.pack(">H", code))


@dataclass(frozen=True)
class Received:
    """What became of some bytes of a client."""

    content: bytes = b""
    reply: bytes = b""
    """To be sent at once: answers to pings."""
    ended: bool = False
    """The client has closed its side, or broke the protocol: nothing that follows is read."""
    broken: bool = False
    """It broke the protocol: there is nothing more to say to each other."""


class WebSocketDecoder:
    """Takes a client's bytes in any cut and gives the content of its messages."""

    def __init__(self) -> None:
        self.close_code = NORMAL_CLOSURE
        """With what the websocket is to be closed."""
        self._buffer = b""
        self._opcode = CONTINUATION
        self._remaining = 0
        """Of the data frame whose content is arriving."""
        self._mask = b""
        self._position = 0
        """In that frame's content: which byte of the mask is next."""
        self._in_message = False
        self._ended = False

    def feed(self, data: bytes) -> Received:
        """The content that has arrived by now, and what is to be answered."""
        if self._ended:
            return Received(ended=True)
        self._buffer += data
        content: list[bytes] = []
        reply: list[bytes] = []
        while not self._ended and self._step(content, reply):
            pass
        return Received(b"".join(content), b"".join(reply), self._ended, self.close_code == PROTOCOL_ERROR)

    def _step(self, content: list[bytes], reply: list[bytes]) -> bool:
        """Take one piece off the buffer; False when more has to arrive first."""
        if self._remaining:
            if not self._buffer:
                return False
            piece, self._buffer = self._buffer[: self._remaining], self._buffer[self._remaining :]
            content.append(_unmask(piece, self._mask, self._position))
            self._position += len(piece)
            self._remaining -= len(piece)
            return True
        header = _parse_header(self._buffer)
        if header is None:
            return False
        if (opcode := self._check(header)) is None:
            self.close_code = PROTOCOL_ERROR
            self._ended = True
            return False
        if opcode >= CLOSE:
            return self._take_control(header, reply)
        self._buffer = self._buffer[header.size :]
        self._in_message = not header.final
        self._mask, self._position, self._remaining = header.mask, 0, header.length
        return True

    def _check(self, header: _Header) -> int | None:
        """The frame's kind, or None when a client must not send such a frame here."""
        opcode = header.opcode
        if header.reserved or len(header.mask) != 4 or opcode not in (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG):
            return None
        if opcode >= CLOSE:
            return opcode if header.final and header.length <= _LONGEST_CONTROL else None
        return opcode if (opcode == CONTINUATION) == self._in_message else None

    def _take_control(self, header: _Header, reply: list[bytes]) -> bool:
        end = header.size + header.length
        if len(self._buffer) < end:
            return False
        content = _unmask(self._buffer[header.size : end], header.mask, 0)
        self._buffer = self._buffer[end:]
        if header.opcode == PING:
            reply.append(encode_message(PONG, content))
        elif header.opcode == CLOSE:
            self._ended = True
        return True


@dataclass(frozen=True)
class _Header:
    final: bool
    reserved: int
    opcode: int
    length: int
    mask: bytes
    size: int
    """Of the header itself."""


def _parse_header(data: bytes) -> _Header | None:
    """The frame header that begins ``data``; None when it is not whole yet."""
    if len(data) < 2:
        return None
    length = data[1] & 0x7F
    size = 2
    if length >= 126:
        width = 2 if length == 126 else 8
        size += width
        if len(data) < size:
            return None
        length = int.from_bytes(data[2:size], "big")
    mask_size = 4 if data[1] & 0x80 else 0
    if len(data) < size + mask_size:
        return None
    return _Header(bool(data[0] & 0x80), data[0] & 0x70, data[0] & 0x0F, length, data[size : size + mask_size], size + mask_size)


def _unmask(data: bytes, mask: bytes, position: int) -> bytes:
    """Undo a client's masking (section 5.3), as one operation on large numbers instead of byte by byte."""
    size = len(data)
    shifted = mask[position % 4 :] + mask[: position % 4]
    pattern = (shifted * (size // 4 + 1))[:size]
    return (int.from_bytes(data, "little") ^ int.from_bytes(pattern, "little")).to_bytes(size, "little")
