"""Foreign archives against the one extraction function, in a real worker: what they may do, and what they must not."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import os
import stat
import struct
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from support.storage import Storage, entry, make_tar, with_storage

from kitepy.engine.model.errors import InvalidParameter
from kitepy.engine.model.oci import digest_of
from kitepy.engine.storage.layers import Unplaced

DIR, SYM, HARD, CHR, BLK, FIFO = (
    tarfile.DIRTYPE,
    tarfile.SYMTYPE,
    tarfile.LNKTYPE,
    tarfile.CHRTYPE,
    tarfile.BLKTYPE,
    tarfile.FIFOTYPE,
)


def unpack(tmp_path: Path, data: bytes) -> tuple[Path, Unplaced]:
    """Unpack an archive as a layer; gives its directory."""
    archive = tmp_path / "layer.tar"
    archive.write_bytes(data)

    async def story(storage: Storage) -> Unplaced:
        return await storage.layers.unpack(archive)

    (tmp_path / "root").mkdir()
    unplaced = with_storage(tmp_path / "root", story)
    return tmp_path / "root" / "layers" / str(unplaced.number) / "diff", unplaced


def refused(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(InvalidParameter, match=message):
        unpack(tmp_path, data)


def test_files_keep_owner_mode_times_links_and_content(tmp_path: Path) -> None:
    data = make_tar(
        entry("./", DIR, mode=0o711, uid=5),
        entry("d", DIR, mode=0o1777, mtime=1_600_000_000),
        (entry("d/f", uid=1000, gid=1001, mode=0o4755, mtime=1_500_000_000), b"hello"),
        entry("d/hard", HARD, "d/f"),
        entry("d/soft", SYM, "/etc/passwd", uid=7, mtime=1_400_000_000),
        entry("null", CHR, devmajor=1, devminor=3, mode=0o666),
        entry("disk", BLK, devmajor=7, devminor=0, mode=0o660, gid=6),
        entry("pipe", FIFO, mode=0o600),
    )
    diff, unplaced = unpack(tmp_path, data)
    file = (diff / "d/f").stat()
    assert (file.st_uid, file.st_gid, stat.S_IMODE(file.st_mode), file.st_mtime, file.st_nlink) == (1000, 1001, 0o4755, 1.5e9, 2)
    assert (diff / "d/hard").read_bytes() == b"hello"
    link = (diff / "d/soft").lstat()
    assert (os.readlink(diff / "d/soft"), link.st_uid, link.st_mtime) == ("/etc/passwd", 7, 1.4e9)
    directory = (diff / "d").stat()
    assert (stat.S_IMODE(directory.st_mode), directory.st_mtime) == (0o1777, 1.6e9)
    assert (stat.S_IMODE(diff.stat().st_mode), diff.stat().st_uid) == (0o711, 5)
    assert (diff / "null").stat().st_rdev == os.makedev(1, 3)
    assert stat.S_ISBLK((diff / "disk").stat().st_mode)
    assert stat.S_ISFIFO((diff / "pipe").stat().st_mode)
    assert unplaced.diff_id == digest_of(data)
    assert unplaced.size_bytes == 5
    assert unplaced.has_root


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress, zstandard.compress])
def test_the_diff_id_is_that_of_the_uncompressed_bytes_padding_included(tmp_path: Path, compress: object) -> None:
    plain = make_tar((entry("f"), b"x")) + bytes(70_000)
    diff, unplaced = unpack(tmp_path, compress(plain))  # type: ignore[operator]  # a table of functions
    assert unplaced.diff_id == digest_of(plain)
    assert (diff / "f").read_bytes() == b"x"


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_a_stored_digest_is_the_diff_id_of_an_uncompressed_archive_only(
    tmp_path: Path, compress: Callable[[bytes], bytes]
) -> None:
    plain = make_tar((entry("f"), b"x"))
    archive = tmp_path / "layer"
    archive.write_bytes(compress(plain))
    (tmp_path / "root").mkdir()

    async def story(storage: Storage) -> Unplaced:
        return await storage.layers.unpack(archive, digest=digest_of(archive.read_bytes()))

    assert with_storage(tmp_path / "root", story).diff_id == digest_of(plain)


def test_missing_parents_are_made_with_usual_modes(tmp_path: Path) -> None:
    diff, unplaced = unpack(tmp_path, make_tar((entry("a/b/c/f"), b"x")))
    assert stat.S_IMODE((diff / "a/b").stat().st_mode) == 0o755
    assert not unplaced.has_root


def test_whiteouts_become_overlay_marks(tmp_path: Path) -> None:
    diff, _ = unpack(
        tmp_path,
        make_tar(entry("d", DIR), (entry("d/.wh.gone"), b""), (entry("e/.wh..wh..opq"), b""), (entry(".wh..wh.plnk/1"), b"")),
    )
    gone = (diff / "d/gone").lstat()
    assert stat.S_ISCHR(gone.st_mode)
    assert gone.st_rdev == 0
    assert os.getxattr(diff / "e", "trusted.overlay.opaque") == b"y"
    assert not (diff / "d/.wh.gone").exists()
    assert sorted(os.listdir(diff)) == ["d", "e"]


@pytest.mark.parametrize("whiteout_first", [True, False])
def test_a_whiteout_hides_what_lies_below_and_not_its_own_layers_files(tmp_path: Path, whiteout_first: bool) -> None:
    members = [entry("d", DIR), (entry("d/f"), b"new")]
    whiteout = [(entry(".wh.d"), b"")]
    diff, _ = unpack(tmp_path, make_tar(*(whiteout + members if whiteout_first else members + whiteout)))
    assert (diff / "d/f").read_bytes() == b"new"
    assert os.getxattr(diff / "d", "trusted.overlay.opaque") == b"y"


def test_attributes_are_kept_except_overlays_own(tmp_path: Path) -> None:
    capability = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)
    info = entry("ping", mode=0o755, uid=3)
    info.pax_headers = {
        "SCHILY.xattr.user.note": "x",
        "SCHILY.xattr.security.capability": capability.decode("latin-1"),
        "SCHILY.xattr.trusted.overlay.redirect": "/etc",
        "SCHILY.xattr.trusted.overlay.metacopy": "",
        "SCHILY.xattr.user.overlay.opaque": "y",
    }
    # tarfile encodes pax values as UTF-8; the capability's bytes are all below 0x80, so they pass.
    diff, _ = unpack(tmp_path, make_tar((info, b"#!")))
    assert sorted(os.listxattr(diff / "ping")) == ["security.capability", "user.note"]
    assert os.getxattr(diff / "ping", "security.capability") == capability


def test_sparse_files_stay_sparse(tmp_path: Path) -> None:
    path = tmp_path / "big"
    with path.open("wb") as file:
        file.truncate(64 << 20)
        file.seek(32 << 20)
        file.write(b"middle")
    data = subprocess.run(["tar", "-C", tmp_path, "-cS", "big"], stdout=subprocess.PIPE, check=True).stdout
    diff, unplaced = unpack(tmp_path, data)
    found = (diff / "big").stat()
    assert found.st_size == unplaced.size_bytes == 64 << 20
    assert found.st_blocks * 512 < 1 << 20
    with (diff / "big").open("rb") as file:
        file.seek(32 << 20)
        assert file.read(6) == b"middle"


def test_names_that_are_no_utf8_and_unnormalised_ones_stay_as_they_are(tmp_path: Path) -> None:
    names = [b"caf\xe9", "e\u0301".encode(), "é".encode()]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT, encoding="utf-8", errors="surrogateescape") as archive:
        for name in names:
            archive.addfile(entry(os.fsdecode(name)))
    diff, _ = unpack(tmp_path, buffer.getvalue())
    assert sorted(os.listdir(bytes(diff))) == sorted(names)


def test_a_later_entry_replaces_an_earlier_one_whatever_both_are(tmp_path: Path) -> None:
    diff, _ = unpack(
        tmp_path,
        make_tar(
            entry("a", DIR),
            (entry("a/x"), b"1"),
            (entry("a"), b"file"),
            (entry("b"), b"file"),
            entry("b", DIR),
            entry("c", SYM, "a"),
            (entry("c"), b"own"),
            entry("e", SYM, "b"),
            entry("e", DIR),
            entry("p", FIFO),
            (entry("p"), b"no reader needed"),
        ),
    )
    assert (diff / "a").read_bytes() == b"file"
    assert (diff / "b").is_dir()
    assert (diff / "c").read_bytes() == b"own"
    assert not (diff / "e").is_symlink()
    assert (diff / "p").read_bytes() == b"no reader needed"


def test_what_is_in_a_set_gid_directory_keeps_the_archives_group(tmp_path: Path) -> None:
    data = make_tar(
        entry("d", DIR, mode=0o2775, gid=50),
        (entry("d/f"), b""),
        entry("d/sub", DIR),
        entry("d/link", SYM, "f"),
        entry("d/p", FIFO),
    )
    diff, _ = unpack(tmp_path, data)
    assert {path.name: path.lstat().st_gid for path in (diff / "d").iterdir()} == {"f": 0, "sub": 0, "link": 0, "p": 0}
    assert (diff / "d/sub").stat().st_mode & 0o7777 == 0o755


def test_a_directorys_default_acl_does_not_change_the_modes_of_what_is_in_it(tmp_path: Path) -> None:
    # user::rwx, group::---, other::---: whatever is made in the directory would lose its group's and others' bits.
    acl = struct.pack("<I" + "HHI" * 3, 2, 1, 7, 0xFFFFFFFF, 4, 0, 0xFFFFFFFF, 0x20, 0, 0xFFFFFFFF)
    directory = entry("d", DIR)
    # tarfile writes values as UTF-8, so the bytes that are none are smuggled in.
    directory.pax_headers = {"SCHILY.xattr.system.posix_acl_default": acl.decode("utf-8", "surrogateescape")}
    data = make_tar(directory, (entry("d/f", mode=0o666), b""), entry("d/sub", DIR, mode=0o755), entry("d/p", FIFO, mode=0o622))
    diff, _ = unpack(tmp_path, data)
    assert "system.posix_acl_default" in os.listxattr(diff / "d")
    modes = {path.name: stat.S_IMODE(path.lstat().st_mode) for path in (diff / "d").iterdir()}
    assert modes == {"f": 0o666, "sub": 0o755, "p": 0o622}


# --- attacks ---


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A file outside of the layer that must stay as it is."""
    path = tmp_path / "victim"
    path.write_text("untouched")
    return path


@pytest.mark.parametrize("name", ["../victim", "a/../../victim", "/../victim", "a/b/../../../victim"])
def test_a_name_that_climbs_out_is_refused(tmp_path: Path, name: str) -> None:
    refused(tmp_path, make_tar((entry(name), b"evil")), "leads outside of the root")


def test_an_absolute_name_lands_inside(tmp_path: Path, victim: Path) -> None:
    diff, _ = unpack(tmp_path, make_tar((entry(str(victim)), b"evil")))
    assert victim.read_text() == "untouched"
    assert (diff / str(victim).lstrip("/")).read_bytes() == b"evil"


@pytest.mark.parametrize("relative", [True, False])
def test_a_symlinked_parent_stays_inside(tmp_path: Path, victim: Path, relative: bool) -> None:
    target = "../" * 20 + str(tmp_path).lstrip("/") if relative else str(tmp_path)
    data = make_tar(entry("link", SYM, target), (entry("link/victim"), b"evil"))
    with contextlib.suppress(InvalidParameter):  # the target does not exist inside, and a refusal is as good
        unpack(tmp_path, data)
    assert victim.read_text() == "untouched"


def test_a_symlinked_file_is_replaced_and_not_written_through(tmp_path: Path, victim: Path) -> None:
    diff, _ = unpack(tmp_path, make_tar(entry("f", SYM, str(victim)), (entry("f"), b"evil")))
    assert victim.read_text() == "untouched"
    assert not (diff / "f").is_symlink()


@pytest.mark.parametrize("target", ["../victim", "a/../../victim"])
def test_a_hard_link_that_climbs_out_is_refused(tmp_path: Path, victim: Path, target: str) -> None:
    refused(tmp_path, make_tar(entry("h", HARD, target)), "leads outside of the root")
    assert victim.stat().st_nlink == 1


def test_a_hard_link_to_an_absolute_name_finds_nothing_outside(tmp_path: Path, victim: Path) -> None:
    refused(tmp_path, make_tar(entry("h", HARD, str(victim)), (entry("h"), b"evil")), "no such file")
    assert victim.read_text() == "untouched"
    assert victim.stat().st_nlink == 1


def test_a_hard_link_through_a_symlinked_directory_finds_nothing_outside(tmp_path: Path, victim: Path) -> None:
    refused(tmp_path, make_tar(entry("d", SYM, str(tmp_path)), entry("h", HARD, "d/victim")), "no such file")
    assert victim.stat().st_nlink == 1


def test_a_hard_link_to_a_symlink_links_the_symlink(tmp_path: Path, victim: Path) -> None:
    diff, _ = unpack(tmp_path, make_tar(entry("s", SYM, str(victim)), entry("h", HARD, "s"), (entry("h"), b"evil")))
    assert victim.read_text() == "untouched"
    assert (diff / "h").read_bytes() == b"evil"
    assert (diff / "s").is_symlink()


def test_a_device_is_replaced_and_not_opened(tmp_path: Path) -> None:
    diff, _ = unpack(tmp_path, make_tar(entry("tty", CHR, devmajor=5, devminor=0), (entry("tty"), b"evil")))
    assert (diff / "tty").read_bytes() == b"evil"


@pytest.mark.parametrize("name", [".wh..", ".wh...", "d/.wh.."])
def test_a_whiteout_of_a_directory_itself_is_refused(tmp_path: Path, name: str) -> None:
    refused(tmp_path, make_tar((entry(name), b"")), "invalid whiteout entry")


def test_a_whiteout_through_a_symlink_stays_inside(tmp_path: Path, victim: Path) -> None:
    data = make_tar(entry("l", SYM, str(tmp_path)), (entry("l/.wh.victim"), b""), (entry("l/.wh..wh..opq"), b""))
    with contextlib.suppress(InvalidParameter):
        unpack(tmp_path, data)
    assert victim.read_text() == "untouched"
    assert "trusted.overlay.opaque" not in os.listxattr(tmp_path)


def test_a_root_entry_that_is_no_directory_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, make_tar(entry("./", SYM, "/tmp")), "root entry")


def test_directory_attributes_do_not_follow_a_symlink_that_took_its_place(tmp_path: Path, victim: Path) -> None:
    before = victim.parent.stat().st_mtime
    unpack(tmp_path, make_tar(entry("d", DIR, mtime=1), entry("d", SYM, str(victim.parent))))
    assert victim.parent.stat().st_mtime >= before


def test_an_unknown_type_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, make_tar(entry("x", b"Z")), "unhandled tar header type 90")


def test_an_overlong_component_is_refused_as_the_archives_fault(tmp_path: Path) -> None:
    refused(tmp_path, make_tar((entry("x" * 300), b"")), "file name too long")


def test_nesting_without_end_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, make_tar((entry("d/" * 700 + "f"), b"")), "nested too deeply")


def test_a_bomb_ends_at_the_limit(tmp_path: Path) -> None:
    archive = tmp_path / "bomb.tar.gz"
    with tarfile.open(archive, "w:gz") as bomb:
        for number in range(4):
            info = entry(f"f{number}")
            info.size = 1 << 20
            bomb.addfile(info, io.BytesIO(bytes(1 << 20)))

    async def story(storage: Storage) -> None:
        for limits, message in (({"max_bytes": 3 << 20}, "more than 3145728 bytes"), ({"max_entries": 2}, "more than 2 entries")):
            target = tmp_path / message.replace(" ", "")
            target.mkdir()
            job = "kitepy.engine.storage.jobs:unpack_layer"
            with pytest.raises(InvalidParameter, match=message):
                await storage.workers.run(
                    job, {"root": str(target), "flavour": "trusted", "limits": limits}, [os.open(archive, os.O_RDONLY)]
                )
            assert sum(file.stat().st_size for file in target.iterdir()) <= 3 << 20

    (tmp_path / "root").mkdir()
    with_storage(tmp_path / "root", story)


def test_a_bomb_without_files_ends_at_the_limit(tmp_path: Path) -> None:
    archive = tmp_path / "bomb.tar.gz"
    archive.write_bytes(gzip.compress(make_tar((entry("f"), b"x")) + bytes(8 << 20)))

    async def story(storage: Storage) -> None:
        (tmp_path / "target").mkdir()
        params = {"root": str(tmp_path / "target"), "flavour": "trusted", "limits": {"max_bytes": 1 << 20}}
        with pytest.raises(InvalidParameter, match="too large once uncompressed"):
            await storage.workers.run("kitepy.engine.storage.jobs:unpack_layer", params, [os.open(archive, os.O_RDONLY)])

    (tmp_path / "root").mkdir()
    with_storage(tmp_path / "root", story)


def test_a_sparse_entry_can_not_claim_more_than_the_limit(tmp_path: Path) -> None:
    info = entry("huge")
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(1 << 60)}
    refused(tmp_path, make_tar((info, b"0\n" + bytes(510))), "unpacks to more than")


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, b"hello world" * 100, "invalid tar header")


def test_a_refused_archive_leaves_no_layer_behind(tmp_path: Path) -> None:
    refused(tmp_path, make_tar((entry("a/b/c"), b"x"), (entry("../x"), b"")), "outside")
    assert list((tmp_path / "root" / "layers").iterdir()) == []
