from __future__ import annotations

import bz2
import gzip
import io
import lzma
from collections.abc import Callable

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from kitepy.engine.model.errors import InvalidParameter
from kitepy.engine.storage.compression import Compression, open_stream

Compress = Callable[[bytes], bytes]
FORMATS: dict[Compression, Compress] = {
    Compression.GZIP: gzip.compress,
    Compression.BZIP2: bz2.compress,
    Compression.XZ: lzma.compress,
    Compression.ZSTD: zstandard.compress,
}
DATA = bytes(range(256)) * 20_000


def read_all(data: bytes, step: int = 1 << 20) -> tuple[Compression, bytes]:
    source = io.BytesIO(data)
    kind, read = open_stream(lambda size: source.read(min(size, step)))
    collected = b""
    while piece := read(1 << 16):
        assert len(piece) <= 1 << 16
        collected += piece
    return kind, collected


@pytest.mark.parametrize("kind", FORMATS)
def test_the_format_is_recognised_by_content(kind: Compression) -> None:
    assert read_all(FORMATS[kind](DATA)) == (kind, DATA)


@pytest.mark.parametrize("kind", FORMATS)
def test_several_members_are_one_stream(kind: Compression) -> None:
    assert read_all(FORMATS[kind](DATA) + FORMATS[kind](b"more"), step=777) == (kind, DATA + b"more")


@pytest.mark.parametrize("kind", FORMATS)
def test_a_stream_that_ends_too_early_is_refused(kind: Compression) -> None:
    compressed = FORMATS[kind](DATA)
    if kind is Compression.ZSTD:
        pytest.skip("the zstandard reader gives what it has; the tar on top of it notices")
    with pytest.raises(InvalidParameter):
        read_all(compressed[:-5])


def test_damage_is_noticed() -> None:
    damaged = bytearray(gzip.compress(DATA))
    damaged[len(damaged) // 2] ^= 0xFF
    with pytest.raises(InvalidParameter):
        read_all(bytes(damaged))


def test_zeros_after_the_last_member_are_padding_and_anything_else_is_garbage() -> None:
    assert read_all(gzip.compress(b"x") + bytes(5000))[1] == b"x"
    with pytest.raises(InvalidParameter, match="garbage"):
        read_all(gzip.compress(b"x") + b"garbage")


@given(st.binary(max_size=300))
def test_plain_data_passes_unchanged_or_is_refused(data: bytes) -> None:
    try:
        kind, plain = read_all(data, step=3)
    except InvalidParameter:
        return
    if kind is Compression.NONE:
        assert plain == data
