"""Decompression of a stream, recognised by its first bytes and never by its name; bounded in memory whatever the input claims."""

from __future__ import annotations

import bz2
import lzma
from collections.abc import Callable
from enum import Enum
from typing import Any, Protocol, cast

import zstandard
from isal import igzip_lib

from kitepy.engine.model.errors import InvalidParameter

CHUNK = 1 << 16
"""Small enough to stay in the processor's cache between two steps, and to come from the heap without new pages each time."""
_COMPRESSED_CHUNK = 1 << 18
_MAGIC_LENGTH = 6
# The library's stub calls its exception class an instance.
_IGZIP_ERROR: type[Exception] = cast("type[Exception]", igzip_lib.error)
_XZ_MEMORY_LIMIT = 128 << 20
_ZSTD_WINDOW_LIMIT = 128 << 20
"""As with the programs of the field, which write no more unless they are told to, and then read no more either."""

Read = Callable[[int], bytes]
"""Like ``os.read`` on one descriptor: up to n bytes, empty at the end."""


class Compression(Enum):
    """The formats that occur, with the suffix that OCI media types give them."""

    NONE = ""
    GZIP = "gzip"
    ZSTD = "zstd"
    BZIP2 = "bzip2"
    XZ = "xz"


def detect(head: bytes) -> Compression:
    """The compression of a stream that begins like this (six bytes suffice)."""
    if head.startswith(b"\x1f\x8b\x08"):
        return Compression.GZIP
    if head.startswith(b"\x28\xb5\x2f\xfd") or (head[1:4] == b"\x2a\x4d\x18" and head[0] & 0xF0 == 0x50):
        return Compression.ZSTD
    if head.startswith(b"BZh"):
        return Compression.BZIP2
    if head.startswith(b"\xfd7zXZ\x00"):
        return Compression.XZ
    return Compression.NONE


def open_stream(read: Read) -> tuple[Compression, Read]:
    """The compression found, and a function that reads the plain bytes.

    The reader raises ``InvalidParameter`` when the data is damaged or ends too early.
    """
    head = b""
    while len(head) < _MAGIC_LENGTH:
        piece = read(_COMPRESSED_CHUNK)
        if not piece:
            break
        head += piece
    kind = detect(head)
    raw = _Pushback(read, head)
    if kind is Compression.NONE:
        return kind, raw.read
    if kind is Compression.ZSTD:
        return kind, _zstd_reader(raw)
    factories: dict[Compression, Callable[[], _Decompressor]] = {
        Compression.GZIP: lambda: igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP),
        Compression.BZIP2: bz2.BZ2Decompressor,
        Compression.XZ: lambda: lzma.LZMADecompressor(memlimit=_XZ_MEMORY_LIMIT),
    }
    return kind, _MemberReader(kind, raw.read, factories[kind]).read


class _Decompressor(Protocol):
    """What bz2, lzma and isal have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class _Pushback:
    """A reader that gives back what was read to look at it."""

    def __init__(self, read: Read, head: bytes) -> None:
        self._read = read
        self._head = head

    def read(self, size: int = _COMPRESSED_CHUNK) -> bytes:
        if self._head:
            piece, self._head = self._head[:size], self._head[size:]
            return piece
        return self._read(size)


class _MemberReader:
    """Reads a stream of one or more compressed members (pigz, pbzip2 and concatenated files have many)."""

    def __init__(self, kind: Compression, read: Read, factory: Callable[[], _Decompressor]) -> None:
        self._kind = kind
        self._read = read
        self._factory = factory
        self._current: _Decompressor | None = factory()
        self._pending = b""

    def read(self, size: int) -> bytes:
        while self._current is not None:
            if self._current.eof:
                self._next_member()
                continue
            if self._current.needs_input and not self._pending:
                self._pending = self._read(_COMPRESSED_CHUNK)
                if not self._pending:
                    raise InvalidParameter(f"unexpected EOF in {self._kind.value} data")
            data, self._pending = self._pending, b""
            try:
                plain = self._current.decompress(data, size)
            except (OSError, EOFError, ValueError, lzma.LZMAError, _IGZIP_ERROR) as error:
                raise InvalidParameter(f"invalid {self._kind.value} data: {error}") from error
            if plain:
                return plain
        return b""

    def _next_member(self) -> None:
        assert self._current is not None
        rest = self._current.unused_data or self._read(_COMPRESSED_CHUNK)
        # Padding with zeros after the last member is common on tapes and block devices.
        while rest and not rest.strip(b"\0"):
            rest = self._read(_COMPRESSED_CHUNK)
        while rest and len(rest) < _MAGIC_LENGTH and (more := self._read(_COMPRESSED_CHUNK)):
            rest += more
        if detect(rest) is self._kind:
            self._current, self._pending = self._factory(), rest
        elif rest:
            raise InvalidParameter(f"garbage after {self._kind.value} data")
        else:
            self._current = None


def _zstd_reader(raw: Any) -> Read:
    decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_LIMIT)
    stream = decompressor.stream_reader(raw, read_size=_COMPRESSED_CHUNK, read_across_frames=True)

    def read(size: int) -> bytes:
        try:
            return stream.read(size)
        except zstandard.ZstdError as error:
            raise InvalidParameter(f"invalid zstd data: {error}") from error

    return read
