"""What a client and an engine said to each other, taken apart: bytes of both directions in, whole HTTP exchanges out; no I/O."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

KEPT_BYTES = 4 * 1024 * 1024
"""Of one body: what is longer is only counted."""
_LONGEST_HEAD = 4 * 1024 * 1024


@dataclass
class Message:
    """A request or a response."""

    first_line: str
    headers: dict[str, str]
    body: bytearray = field(default_factory=bytearray)
    whole: bool = True
    """Whether all of the body was kept, and came to its end."""
    cut: bool = False
    """Whether it broke off, after which nothing on the connection makes sense any more."""

    def add(self, data: bytes) -> None:
        room = KEPT_BYTES - len(self.body)
        self.body += data[:room]
        self.whole = self.whole and len(data) <= room


@dataclass
class Exchange:
    """A request and its answer."""

    request: Message
    response: Message
    raw: bool = False
    """Whether the connection became a raw stream; the answer's body is what the engine sent then."""

    @property
    def method(self) -> str:
        return self.request.first_line.split(" ")[0]

    @property
    def target(self) -> str:
        return self.request.first_line.split(" ")[1]

    @property
    def status(self) -> int:
        return int(self.response.first_line.split(" ")[1])

    @property
    def media_type(self) -> str:
        return self.response.headers.get("content-type", "").partition(";")[0].strip()

    def documents(self) -> list[Any]:
        """The JSON documents of the answer; raises ValueError."""
        text, decoder, found, at = self.response.body.decode(), json.JSONDecoder(), [], 0
        while at < len(text):
            if text[at] in " \r\n\t":
                at += 1
                continue
            document, at = decoder.raw_decode(text, at)
            found.append(document)
        return found

    def __str__(self) -> str:
        return f"{self.method} {self.target[:300]} -> {self.status}"


class Unfinished(Exception):
    """More bytes must come."""


class _Bytes:
    """What has come from one side and not been understood yet."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.ended = False

    def take(self, size: int) -> bytes:
        piece = bytes(self.data[:size])
        del self.data[:size]
        return piece

    def line(self) -> bytes:
        end = self.data.find(b"\r\n")
        if end < 0:
            raise Unfinished
        return self.take(end + 2)[:-2]

    def head(self) -> Message:
        end = self.data.find(b"\r\n\r\n")
        if end < 0:
            raise Unfinished
        first, *lines = self.take(end + 4)[:-4].decode("latin-1").split("\r\n")
        fields = (line.partition(":") for line in lines)
        return Message(first, {name.strip().lower(): value.strip() for name, _, value in fields})


class ConnectionLog:
    """One connection. Feed it with what each side sends; ``exchanges`` gives each exchange once, when it is over."""

    def __init__(self) -> None:
        self._from_client, self._from_engine = _Bytes(), _Bytes()
        self._steps = self._follow()
        self._done: list[Exchange] = []

    def feed(self, from_client: bool, data: bytes) -> None:
        """What a side sent; nothing means that it has ended."""
        side = self._from_client if from_client else self._from_engine
        side.data += data
        side.ended = side.ended or not data

    def exchanges(self) -> list[Exchange]:
        """What is over since the last call."""
        next(self._steps, None)
        done, self._done = self._done, []
        return done

    def _follow(self) -> Iterator[None]:
        while True:
            request = yield from self._wait(self._from_client.head)
            response = yield from self._answer_head()
            exchange = Exchange(request, response)
            if exchange.status == 101 or _is_conversation(exchange):
                exchange.raw = True
                yield from self._until_end(response)
            else:
                if request.headers.get("expect", "").lower() != "100-continue" or self._body_begins():
                    yield from self._body(self._from_client, request, {})
                yield from self._body(self._from_engine, response, {"head": exchange.method == "HEAD", "status": exchange.status})
            self._done.append(exchange)

    def _answer_head(self) -> Iterator[None]:
        while True:
            response: Message = yield from self._wait(self._from_engine.head)
            if response.first_line.split(" ")[1] != "100":
                return response

    def _body_begins(self) -> bool:
        return bool(self._from_client.data)

    def _wait(self, read: Any) -> Iterator[None]:
        while True:
            try:
                return read()
            except Unfinished:
                yield

    def _until_end(self, message: Message) -> Iterator[None]:
        while True:
            message.add(self._from_engine.take(len(self._from_engine.data)))
            if self._from_engine.ended:
                return
            yield

    def _body(self, side: _Bytes, message: Message, answer: dict[str, Any]) -> Iterator[None]:
        if answer and (answer["head"] or answer["status"] in (204, 304)):
            return
        if message.headers.get("transfer-encoding", "").lower() == "chunked":
            yield from self._chunks(side, message)
        elif "content-length" in message.headers:
            yield from self._sized(side, message, int(message.headers["content-length"]))
        elif answer:
            yield from self._until_end(message)

    def _sized(self, side: _Bytes, message: Message, size: int) -> Iterator[None]:
        while size:
            piece = side.take(size)
            message.add(piece)
            size -= len(piece)
            if size and not side.data:
                if side.ended or (side is self._from_client and self._from_engine.ended):
                    message.whole, message.cut = False, True
                    return
                yield

    def _chunks(self, side: _Bytes, message: Message) -> Iterator[None]:
        while True:
            while b"\r\n" not in side.data:
                if side.ended or (side is self._from_client and self._from_engine.ended):
                    message.whole, message.cut = False, True
                    return
                yield
            size = int(side.line().partition(b";")[0] or b"0", 16)
            yield from self._sized(side, message, size)
            if message.cut:
                return
            yield from self._wait(side.line)
            if size == 0:
                return


def _is_conversation(exchange: Exchange) -> bool:
    """An answer without upgrade after which raw bytes follow in both directions."""
    headers = exchange.response.headers
    return (
        exchange.status == 200
        and exchange.method == "POST"
        and "transfer-encoding" not in headers
        and "content-length" not in headers
        and exchange.media_type.startswith("application/vnd.docker.")
    )
