"""How a conversation's bytes look on a client's connection: raw, in Docker's frames, or in a websocket's. Pure."""

from __future__ import annotations

from typing import Protocol

from kitepy.engine.server.frames import encode_frame
from kitepy.engine.server.websocket import BINARY, Received, WebSocketDecoder, close_frame, encode_message


class Wire(Protocol):
    """One connection's way of writing; a decoder may keep state, so it serves one conversation."""

    def receive(self, data: bytes) -> Received:
        """What arrived: input for the process, an answer that is due at once, whether the client has said its last word."""
        ...

    def encode(self, stream: int, data: bytes) -> bytes:
        """One piece of output."""
        ...

    def farewell(self) -> bytes:
        """What is sent last."""
        ...


class RawWire:
    """Bytes as they are, or with frames that tell stdout from stderr."""

    def __init__(self, *, framed: bool) -> None:
        self._framed = framed

    def receive(self, data: bytes) -> Received:
        return Received(data)

    def encode(self, stream: int, data: bytes) -> bytes:
        return encode_frame(stream, data) if self._framed else data

    def farewell(self) -> bytes:
        return b""


class WebSocketWire:
    """A binary message for each piece of output, stdout and stderr alike; input in messages of either kind."""

    def __init__(self) -> None:
        self._decoder = WebSocketDecoder()

    def receive(self, data: bytes) -> Received:
        return self._decoder.feed(data)

    def encode(self, stream: int, data: bytes) -> bytes:  # noqa: ARG002  # a websocket has one stream
        return encode_message(BINARY, data)

    def farewell(self) -> bytes:
        return close_frame(self._decoder.close_code)
