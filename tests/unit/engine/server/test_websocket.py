"""Websocket frames: bytes in any cut in, content and answers out."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kitepy.engine.server.websocket import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    PROTOCOL_ERROR,
    TEXT,
    Received,
    WebSocketDecoder,
    accept_key,
    close_frame,
    encode_message,
    is_same_origin,
)


def frame(opcode: int, data: bytes = b"", *, final: bool = True, mask: bytes = b"\x01\x02\x03\xff") -> bytes:
    """A client's frame."""
    size = len(data)
    masked = 0x80 if mask else 0
    head = bytes([(0x80 if final else 0) | opcode])
    if size < 126:
        head += bytes([masked | size])
    elif size < 0x10000:
        head += struct.pack(">BH", masked | 126, size)
    else:
        head += struct.pack(">BQ", masked | 127, size)
    return head + mask + bytes(byte ^ mask[index % 4] for index, byte in enumerate(data)) if mask else head + data


def test_the_handshake_of_the_specification() -> None:
    assert accept_key("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455, 1.3


@pytest.mark.parametrize("key", ["", "short", "dGhlIHNhbXBsZQ==", "dGhlIHNhbXBsZSBub25jZQ", "no base64 at all !!!!!!!"])
def test_a_key_that_is_not_16_bytes_is_refused(key: str) -> None:
    assert accept_key(key) is None


@given(st.lists(st.tuples(st.sampled_from([TEXT, BINARY]), st.binary(max_size=300)), max_size=6), st.data())
def test_content_comes_through_in_any_cut(messages: list[tuple[int, bytes]], data: st.DataObject) -> None:
    decoder = WebSocketDecoder()
    rest = b"".join(frame(opcode, content) for opcode, content in messages)
    content = b""
    while rest:
        cut = data.draw(st.integers(1, len(rest)))
        received = decoder.feed(rest[:cut])
        assert not received.ended
        content += received.content
        rest = rest[cut:]
    assert content == b"".join(part for _, part in messages)


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536, 200_000])
def test_sizes_of_both_directions(size: int) -> None:
    content = bytes(range(256)) * (size // 256) + bytes(size % 256)
    assert WebSocketDecoder().feed(frame(BINARY, content)).content == content
    header = encode_message(BINARY, content)[:-size] if size else encode_message(BINARY, b"")
    assert encode_message(BINARY, content) == header + content


def test_a_frame_is_handed_on_before_it_is_whole() -> None:
    """A frame that claims to be huge takes no memory."""
    decoder = WebSocketDecoder()
    huge = bytes([0x80 | BINARY, 0x80 | 127]) + struct.pack(">Q", 2**62) + bytes(4)
    assert decoder.feed(huge + b"begin").content == b"begin"
    assert decoder.feed(b"more").content == b"more"


def test_fragments_and_a_ping_amid_them() -> None:
    data = frame(TEXT, b"a", final=False) + frame(PING, b"x") + frame(CONTINUATION, b"b", final=False) + frame(CONTINUATION, b"c")
    assert WebSocketDecoder().feed(data) == Received(b"abc", encode_message(PONG, b"x"))


def test_a_close_ends_what_is_read() -> None:
    decoder = WebSocketDecoder()
    received = decoder.feed(frame(TEXT, b"last") + frame(CLOSE, b"\x03\xe8") + frame(TEXT, b"late"))
    assert (received.content, received.ended) == (b"last", True)
    assert decoder.feed(frame(TEXT, b"later")) == Received(ended=True)
    assert close_frame(decoder.close_code) == b"\x88\x02\x03\xe8"


@pytest.mark.parametrize(
    "wrong",
    [
        frame(TEXT, b"x", mask=b""),  # 5.1: a client masks
        frame(CONTINUATION, b"x"),  # nothing to continue
        frame(TEXT, b"x", final=False) + frame(TEXT, b"y"),  # a message inside a message
        frame(PING, b"x" * 126),  # 5.5: control frames are short
        frame(PING, b"x", final=False),  # and whole
        frame(3, b"x"),  # reserved
        bytes([0xC1]) + frame(TEXT, b"x")[1:],  # an extension that nobody agreed on
    ],
)
def test_what_breaks_the_protocol_ends_it(wrong: bytes) -> None:
    decoder = WebSocketDecoder()
    assert decoder.feed(wrong).ended
    assert decoder.close_code == PROTOCOL_ERROR


@pytest.mark.parametrize(
    ("origin", "host", "same"),
    [
        (None, "localhost", True),
        ("http://localhost:2375", "localhost:2375", True),
        ("http://127.0.0.1:2375", "127.0.0.1:2375", True),
        ("http://[::1]:2375", "[::1]:2375", True),
        ("https://build.example:2376", "build.example:2376", True),
        ("http://evil.example", "localhost", False),
        ("http://evil.example:2375", "evil.example:2375", False),  # DNS rebinding
        ("http://localhost:8080", "localhost:2375", False),
        ("null", "localhost", False),
        ("http://[", "[", False),
        ("", "", False),
    ],
)
def test_only_the_engine_itself_is_an_origin(origin: str | None, host: str, same: bool) -> None:
    assert is_same_origin(origin, host) is same
