from __future__ import annotations

import contextlib
import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.storage import entry, make_tar

from kitepy.engine.model.errors import InvalidParameter
from kitepy.engine.storage import tar
from kitepy.engine.storage.extract import clean_name


def read(data: bytes, step: int = 1 << 20) -> list[tuple[tar.Entry, bytes]]:
    stream = io.BytesIO(data)
    source = tar.ByteSource(lambda size: stream.read(min(size, step)))
    reader = tar.TarReader(source)
    found = [(item, b"".join(bytes(piece) for piece in reader.data())) for item in reader]
    source.drain()
    assert not stream.read(1)
    return found


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("step", [1, 511, 1 << 20])
def test_all_header_formats_give_the_same_entries(form: int, step: int) -> None:
    data = make_tar(
        entry("d", tarfile.DIRTYPE, mode=0o1777),
        (entry("d/f", uid=1000, gid=2000, mode=0o4755, mtime=1_700_000_001), b"x" * 1000),
        entry("d/s", tarfile.SYMTYPE, "../f"),
        entry("d/h", tarfile.LNKTYPE, "d/f"),
        entry("d/c", tarfile.CHRTYPE, devmajor=1, devminor=3),
        entry("d/p", tarfile.FIFOTYPE),
        format=form,
    )
    entries = read(data, step)
    assert [(e.name, e.kind) for e, _ in entries] == [
        (b"d/", tar.DIRECTORY),
        (b"d/f", tar.FILE),
        (b"d/s", tar.SYMLINK),
        (b"d/h", tar.LINK),
        (b"d/c", tar.CHARACTER),
        (b"d/p", tar.FIFO),
    ] or entries[0][0].name == b"d"
    file, content = entries[1]
    assert (file.uid, file.gid, file.mode, file.mtime_ns) == (1000, 2000, 0o4755, 1_700_000_001_000_000_000)
    assert content == b"x" * 1000
    assert entries[2][0].target == b"../f"
    assert (entries[4][0].major, entries[4][0].minor) == (1, 3)


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_large_ids_and_odd_times_are_kept(form: int) -> None:
    name, target = "n" * 90 + "/" + "é" * 100, "t" * 300
    old_time = -5 if form == tarfile.GNU_FORMAT else 0
    link = entry(name, tarfile.SYMTYPE, target, uid=3_000_000, gid=4_000_000)
    data = make_tar(link, entry("old", mtime=old_time), format=form)
    (found, _), (old, _) = read(data)
    assert found.name == name.encode()
    assert found.target == target.encode()
    assert (found.uid, found.gid) == (3_000_000, 4_000_000)
    assert old.mtime_ns == old_time * 1_000_000_000


def test_pax_attributes_and_fractions_of_seconds_are_read() -> None:
    info = entry("f")
    info.pax_headers = {"SCHILY.xattr.user.a": "b=c", "mtime": "1700000000.25", "LIBARCHIVE.xattr.user.d": "ZQ"}
    (found, _), *_ = read(make_tar((info, b"")))
    assert found.xattrs == {b"user.a": b"b=c", b"user.d": b"e"}
    assert found.mtime_ns == 1_700_000_000_250_000_000


@pytest.mark.parametrize(
    "form", ["--format=oldgnu", "--format=gnu", "--sparse-version=0.0", "--sparse-version=0.1", "--sparse-version=1.0"]
)
def test_sparse_files_of_gnu_tar_are_understood(tmp_path: Path, form: str) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        for offset in range(0, 30 * 65536, 2 * 65536):
            file.seek(offset)
            file.write(b"data" + bytes([offset >> 16]))
        file.truncate(4 << 20)
    extra = ["--format=pax", form] if "version" in form else [form]
    data = subprocess.run(["tar", "-C", tmp_path, "-S", *extra, "-c", "sparse"], stdout=subprocess.PIPE, check=True).stdout
    assert len(data) < 1 << 20
    ((found, stored),) = read(data, 700)
    assert found.name == b"sparse"
    assert found.apparent_size == 4 << 20
    rebuilt = bytearray(found.apparent_size)
    for offset, length in found.extents or []:
        rebuilt[offset : offset + length], stored = stored[:length], stored[length:]
    assert bytes(rebuilt) == path.read_bytes()


def test_what_gnu_tar_writes_of_a_real_tree_is_read_like_python_reads_it(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120) / ("e" * 120)
    deep.mkdir(parents=True)
    (deep / "file").write_bytes(b"1")
    os.link(deep / "file", tmp_path / "linked")
    for form in ("v7", "ustar", "gnu", "pax"):
        result = subprocess.run(
            ["tar", "-C", tmp_path, f"--format={form}", "-c", "."], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False
        )
        with tarfile.open(fileobj=io.BytesIO(result.stdout)) as archive:
            expected = [(member.name.rstrip("/"), member.size) for member in archive]
        assert [(item.name.decode().rstrip("/"), item.apparent_size) for item, _ in read(result.stdout)] == expected


def test_an_archive_without_end_marker_is_complete_and_one_cut_in_an_entry_is_not() -> None:
    data = make_tar((entry("a"), b"x" * 600))
    assert len(read(data[: 512 + 1024])) == 1
    with pytest.raises(InvalidParameter, match="unexpected EOF"):
        read(data[: 512 + 600])
    with pytest.raises(InvalidParameter, match="unexpected EOF"):
        read(data[:300])


@pytest.mark.parametrize("start", [make_tar(entry("a"))[:100] + b"9", b"\xff" * 512, b"this is no tar archive" + bytes(490)])
def test_a_damaged_header_is_refused(start: bytes) -> None:
    with pytest.raises(InvalidParameter, match="invalid tar header"):
        read(start + make_tar(entry("a"))[len(start) :])


def test_an_extension_header_of_gigabytes_is_refused_before_it_is_read() -> None:
    info = entry("x", b"x")
    info.size = 3 << 30
    with pytest.raises(InvalidParameter, match="too long: 3221225472"):
        read(info.tobuf(tarfile.USTAR_FORMAT))


@pytest.mark.parametrize("body", [b"5 a=b\n", b"999 path=x\n", b"x path=y\n", b"11 path=abc", b"0 a=\n", b"-1 a=b\n"])
def test_a_malformed_pax_record_is_refused(body: bytes) -> None:
    info = entry("x", b"x")
    info.size = len(body)
    data = info.tobuf(tarfile.USTAR_FORMAT) + body + bytes(-len(body) % 512) + make_tar(entry("a"))
    with pytest.raises(InvalidParameter):
        read(data)


@given(st.binary(max_size=2048))
@example(b"\0" * 511)
def test_any_bytes_are_an_archive_or_refused(data: bytes) -> None:
    with contextlib.suppress(InvalidParameter):
        read(data, 100)


@given(st.data())
def test_a_flipped_byte_never_crashes_the_reader(data: st.DataObject) -> None:
    archive = bytearray(make_tar((entry("a" * 150), b"x" * 700), entry("b", tarfile.SYMTYPE, "c" * 150)))
    for _ in range(data.draw(st.integers(1, 4))):
        archive[data.draw(st.integers(0, len(archive) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(InvalidParameter):
        read(bytes(archive))


NAME = st.lists(st.sampled_from([b"a", b"b", b"..", b".", b"", b"...", b".wh.a", b"c" * 300]), max_size=12).map(b"/".join)


@given(NAME | st.binary(max_size=60))
def test_a_cleaned_name_never_climbs(name: bytes) -> None:
    try:
        cleaned = clean_name(name)
    except InvalidParameter:
        assert b".." in name
        return
    parts = cleaned.split(b"/") if cleaned else []
    assert not {b"", b".", b".."} & set(parts)
    assert clean_name(cleaned) == cleaned
    if not name.startswith(b"/"):
        assert (cleaned or b".") == os.path.normpath(name or b".")
