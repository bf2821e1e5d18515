"""Output to log lines: valid JSON for any bytes, dockerd's splitting of long lines, rotation."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest
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


def test_text_is_escaped_as_docker_does_it() -> None:
    text = 'a<b>&"c\\\t\r\x01\x7f\u2028\u2029\u00e4'.encode()
    assert escape(text) == b'a\\u003cb\\u003e\\u0026\\"c\\\\\\u0009\\r\\u0001\x7f\\u2028\\u2029\xc3\xa4'
    assert json.loads(b'"%b"' % escape(text)) == text.decode()


def test_attributes_are_written_with_each_line(tmp_path: Path) -> None:
    log = JsonFileLog(str(tmp_path / "log"), attributes={"a": "1<\n", 'q"': "2"})
    log.write(STDOUT, b"x\ny\n", now_ns=1_700_000_000_000_000_000)
    log.close()
    line = b'{"log":"%b\\n","stream":"stdout","attrs":{"a":"1\\u003c\\n","q\\"":"2"},"time":"2023-11-14T22:13:20Z"}\n'
    assert (tmp_path / "log").read_bytes() == line % b"x" + line % b"y"


def test_a_file_ends_with_the_entry_that_reaches_its_bound(tmp_path: Path) -> None:
    log = JsonFileLog(str(tmp_path / "log"), max_size_bytes=1000, max_files=9)
    log.write(STDOUT, b"".join(b"line %03d\n" % number for number in range(40)), now_ns=1_700_000_000_000_000_000)
    log.close()
    entry_size = len(b'{"log":"line 000\\n","stream":"stdout","time":"2023-11-14T22:13:20Z"}\n')
    whole = -(-1000 // entry_size)
    sizes = [(tmp_path / f"log.{number}").stat().st_size for number in (1, 2)]
    assert sizes == [whole * entry_size] * 2
    assert (tmp_path / "log").stat().st_size == (40 - 2 * whole) * entry_size


def _contents(path: Path) -> list[str]:
    """The texts of all files, oldest first."""
    found = []
    for number in range(30, -1, -1):
        plain = path if number == 0 else path.with_name(f"{path.name}.{number}")
        packed = plain.with_name(plain.name + ".gz")
        assert number == 0 or not (plain.exists() and packed.exists())
        data = plain.read_bytes() if plain.exists() else gzip.decompress(packed.read_bytes()) if packed.exists() else b""
        found += [json.loads(line)["log"] for line in data.splitlines()]
    return found


def test_rotated_files_are_compressed_when_there_is_time_and_at_the_latest_at_the_next_rotation(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = JsonFileLog(str(path), max_size_bytes=400, max_files=30, compress=True)
    texts = [f"line {number}\n" for number in range(100)]
    for text in texts:
        log.write(STDOUT, text.encode())
    assert _contents(path) == texts
    assert log.busy
    while log.busy:
        log.work_on()
    log.close()
    assert _contents(path) == texts
    rotated = sorted(entry.name for entry in tmp_path.iterdir() if entry.name != "log")
    assert rotated
    assert all(name.endswith(".gz") for name in rotated)


def test_a_compression_that_was_cut_short_is_made_up_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kitepy.engine.runtime.log_rotation._QUICK", -1)  # as if the file were large
    path = tmp_path / "log"
    log = JsonFileLog(str(path), max_size_bytes=400, max_files=5, compress=True)
    while not log.busy:
        log.write(STDOUT, b"line\n")
    log.close()  # or the monitor is killed
    assert (tmp_path / "log.1").exists()
    again = JsonFileLog(str(path), max_size_bytes=400, max_files=5, compress=True)
    while again.busy:
        again.work_on()
    again.close()
    assert not (tmp_path / "log.1").exists()
    assert (tmp_path / "log.1.gz").exists()


def test_a_full_disk_costs_lines_but_never_halves_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room = 130
    real = os.write

    def write(fd: int, data: bytes) -> int:
        nonlocal room
        if room <= 0:
            raise OSError(28, "No space left on device")
        count = real(fd, bytes(data)[:room])
        room -= count
        return count

    log = JsonFileLog(str(tmp_path / "log"))
    monkeypatch.setattr("kitepy.engine.runtime.logfile.os.write", write)
    log.write(STDOUT, b"one\ntwo\nthree\n")
    assert log.lost_bytes > 0
    room = 10_000
    log.write(STDOUT, b"after\n")
    log.close()
    texts = [json.loads(line)["log"] for line in (tmp_path / "log").read_bytes().splitlines()]
    assert texts == ["one\n", "after\n"]
