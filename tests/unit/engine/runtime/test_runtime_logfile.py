"""Output to log lines: valid JSON for any bytes, dockerd's splitting of long lines, rotation."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from kitepy.engine.runtime.logfile import MAX_LINE, STDERR, STDOUT, JsonFileLog, escape, split_lines


@given(st.binary(max_size=300))
def test_escaped_bytes_are_the_inside_of_a_json_string(data: bytes) -> None:
    text = escape(data.replace(b"\n", b""))
    value = json.loads(b'"' + text + b'"')
    decodable = data.replace(b"\n", b"")
    try:
        assert value == decodable.decode()
    except UnicodeDecodeError:
        assert "\ufffd" in value


def test_each_undecodable_byte_becomes_one_replacement_character() -> None:
    assert escape(b"a\xe2\x82z").decode() == "a\ufffd\ufffdz"


@given(st.lists(st.binary(max_size=60), max_size=20))
def test_no_byte_is_lost_between_chunks(chunks: list[bytes]) -> None:
    pending = b""
    logged = b""
    for chunk in chunks:
        runs, pending = split_lines(pending, chunk)
        for text, partial in runs:
            assert partial or text.endswith(b"\n")
            logged += text
    assert logged + pending == b"".join(chunks)
    assert b"\n" not in pending


@given(st.lists(st.integers(0, 3 * MAX_LINE), max_size=6), st.integers(1000, 70000))
def test_long_lines_are_split_at_sixteen_kibibytes(lengths: list[int], chunk_size: int) -> None:
    data = b"".join(b"x" * length + b"\n" for length in lengths)
    pending = b""
    pieces: list[bytes] = []
    for start in range(0, len(data), chunk_size):
        runs, pending = split_lines(pending, data[start : start + chunk_size])
        for text, partial in runs:
            pieces += [text] if partial else text.splitlines(keepends=True)
    assert pending == b""
    expected: list[bytes] = []
    for length in lengths:
        full, rest = divmod(length, MAX_LINE)
        expected += [b"x" * MAX_LINE] * full + [b"x" * rest + b"\n"]
    assert pieces == expected


def test_entries_look_like_dockerd_s(tmp_path: Path) -> None:
    log = JsonFileLog(str(tmp_path / "log"))
    log.write(STDOUT, b'say "hi"\nun', now_ns=1_700_000_000_120_000_000)
    log.write(STDERR, b"oops\n", now_ns=1_700_000_001_000_000_000)
    log.close()
    assert (tmp_path / "log").read_bytes().splitlines()[:2] == [
        b'{"log":"say \\"hi\\"\\n","stream":"stdout","time":"2023-11-14T22:13:20.12Z"}',
        b'{"log":"oops\\n","stream":"stderr","time":"2023-11-14T22:13:21Z"}',
    ]
    assert json.loads((tmp_path / "log").read_bytes().splitlines()[2])["log"] == "un"


def test_one_file_is_emptied_when_it_is_full(tmp_path: Path) -> None:
    log = JsonFileLog(str(tmp_path / "log"), max_size_bytes=300, max_files=1)
    for number in range(50):
        log.write(STDOUT, b"line %d\n" % number)
    log.close()
    lines = (tmp_path / "log").read_text().splitlines()
    assert len(lines) <= 4
    assert json.loads(lines[-1])["log"] == "line 49\n"


def test_a_line_longer_than_the_limit_is_still_written(tmp_path: Path) -> None:
    log = JsonFileLog(str(tmp_path / "log"), max_size_bytes=100, max_files=2)
    log.write(STDOUT, b"x" * 500 + b"\n" + b"y\n")
    log.close()
    assert json.loads((tmp_path / "log.1").read_text())["log"] == "x" * 500 + "\n"
    assert json.loads((tmp_path / "log").read_text())["log"] == "y\n"
