"""Layers made into gzip streams: the same each time, whatever they were before, and told in the end."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import os
import threading
from pathlib import Path
from typing import Any

import pytest
import zstandard
from isal import igzip

from kitepy.engine.model.errors import InvalidParameter
from kitepy.engine.storage import recompression

PLAIN = hashlib.shake_128(b"layer").digest(1_000) * 700


class Context:
    def __init__(self, *fds: int) -> None:
        self.fds = fds
        self.reports: list[int] = []

    def progress(self, report: dict[str, Any]) -> None:
        self.reports.append(report["consumed"])


def compress(blob: bytes, directory: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, Any], bytes, list[int]]:
    """Result, stream and reports; in this process, which stays as it is."""
    monkeypatch.setattr(recompression, "chroot_into", lambda *_, **__: None)
    (directory / "blob").write_bytes(blob)
    source = os.open(directory / "blob", os.O_RDONLY)
    reader, writer = os.pipe()
    context = Context(source, writer)
    pieces: list[bytes] = []

    def read() -> None:
        while piece := os.read(reader, 65536):
            pieces.append(piece)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        result = recompression.compress_layer(context, {"root": "/nowhere"})  # type: ignore[arg-type]
    finally:
        os.close(writer)
        thread.join()
        os.close(source)
        os.close(reader)
    return result, b"".join(pieces), context.reports


def test_a_plain_layer_becomes_one_gzip_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result, stream, reports = compress(PLAIN, tmp_path, monkeypatch)
    assert gzip.decompress(stream) == igzip.decompress(stream) == PLAIN
    assert result == {"digest": f"sha256:{hashlib.sha256(stream).hexdigest()}", "size": len(stream), "plain": len(PLAIN)}
    assert len(stream) < len(PLAIN) // 10
    assert reports == sorted(reports)
    assert reports[0] < len(PLAIN)
    assert stream[4:8] == bytes(4)  # no time, which would make each one different


@pytest.mark.parametrize("pack", [bz2.compress, lzma.compress, zstandard.compress, gzip.compress])
def test_what_it_was_before_makes_no_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pack: Any) -> None:
    assert compress(pack(PLAIN), tmp_path, monkeypatch)[1] == compress(PLAIN, tmp_path, monkeypatch)[1]


def test_an_empty_layer_becomes_an_empty_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result, stream, reports = compress(b"", tmp_path, monkeypatch)
    assert (gzip.decompress(stream), result["plain"], reports) == (b"", 0, [])


def test_a_damaged_blob_is_no_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidParameter, match="unexpected EOF"):
        compress(bz2.compress(PLAIN)[:-10], tmp_path, monkeypatch)
