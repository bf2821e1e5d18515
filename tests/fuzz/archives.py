"""Archives as an attacker writes them, in their thousands, and what must hold whatever they are.

Names climb, links point anywhere, numbers are beyond all bounds, headers contradict each other, streams are damaged or end early.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import os
import random
import shutil
import stat
import tarfile
from collections.abc import Callable

import zstandard

from kitepy.engine.model.errors import InvalidParameter
from kitepy.engine.storage import tar
from kitepy.engine.storage.compression import open_stream
from kitepy.engine.storage.extract import ExtractOptions, Limits, extract

Compress = Callable[[bytes], bytes]
MAX_BYTES = 1 << 20
LIMITS = Limits(max_bytes=MAX_BYTES, max_entries=200, max_depth=40)

MARKS = [b".wh.a", b".wh..", b".wh.", b".wh..wh..opq", b".wh..wh.x"]
PARTS = [b"a", b"b", b"c", b"a", b"b", b"..", b".", b"", b"...", b"\xff\n", b"x" * 300, *MARKS]
KINDS = [bytes([kind]) for kind in b"00000555551122223467SDVxgLKZ\0"]
NUMBERS = [0, 0, 0, 0, 0, 0, 1, 5, 0o777, 0o7777, 513, 65535, (1 << 31) - 1, 1 << 33, (1 << 63) - 1, -1]
KEYS = [
    *(b"path", b"linkpath", b"size", b"uid", b"gid", b"mtime", b"comment", b"GNU.sparse.major", b"GNU.sparse.minor"),
    *(b"GNU.sparse.map", b"GNU.sparse.size", b"GNU.sparse.realsize", b"GNU.sparse.name", b"GNU.sparse.offset"),
    *(b"GNU.sparse.numbytes", b"SCHILY.xattr.user.a", b"SCHILY.xattr.trusted.overlay.opaque", b"SCHILY.xattr.bogus"),
    *(b"LIBARCHIVE.xattr.user.%00", b"SCHILY.xattr.user.overlay.redirect", b"SCHILY.xattr.system.posix_acl_default"),
    b"SCHILY.xattr.security.capability",
]
VALUES = [b"1", b"1", b"0", b"y", b"-5.5", b"99999999999999999999", b"0,512", b"/a", b"512,9,1", b"a\0b"]
DATA = [b"", b"data", b"0\n" + bytes(510), bytes(1500), b"3\n0\n1\n2\n"]


def a_name(rng: random.Random) -> bytes:
    """One that is honest now and then."""
    if rng.random() < 0.05:
        return rng.randbytes(rng.randrange(20))
    return b"/".join(rng.choices(PARTS, k=rng.choice((1, 1, 1, 2, 2, 3, 6))))


def a_member(rng: random.Random) -> bytes:
    """An entry with all that may come before it."""
    pax = []
    if rng.random() < 0.3:
        pax = [(rng.choice(KEYS), rng.choice(VALUES) if rng.random() < 0.7 else a_name(rng)) for _ in range(rng.randrange(1, 4))]
    return member(a_name(rng), rng.choice(KINDS), a_name(rng), rng.choice(DATA), rng.choices(NUMBERS, k=6), pax)


def an_archive(rng: random.Random) -> bytes:
    """A few entries, compressed or not, perhaps damaged before or after that, or cut."""
    data = (
        bytearray(rng.choice(SEEDS))
        if rng.random() < 0.1
        else bytearray(b"".join(a_member(rng) for _ in range(rng.randrange(8))))
    )
    data += bytes(1024)
    compress = rng.choice(COMPRESSIONS)
    if rng.random() < 0.3:
        _spoil(data, rng)
    data = bytearray(compress(bytes(data)))
    if rng.random() < 0.3:
        _spoil(data, rng)
    return bytes(data)


def _spoil(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.randrange(4) if data else 0):
        data[rng.randrange(len(data))] = rng.randrange(256)
    if rng.random() < 0.3 and data:
        del data[rng.randrange(len(data)) :]


def member(name: bytes, kind: bytes, target: bytes, data: bytes, numbers: list[int], pax: list[tuple[bytes, bytes]]) -> bytes:
    """One entry, perhaps with pax records before it; its numbers are written as they are, in base 256 where octal has no room."""
    written = b""
    if pax:
        body = b"".join(_record(key, value) for key, value in pax)
        written += _block(b"pax", b"x", b"", len(body), [0o644, 0, 0, 0, 0, 0]) + _padded(body)
    return written + _block(name, kind, target, len(data) if kind in b"07SxgLK\0D" else 0, numbers) + _padded(data)


def _record(key: bytes, value: bytes) -> bytes:
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest) + 1
    while length != len(rest) + len(b"%d" % length):
        length = len(rest) + len(b"%d" % length)
    return b"%d" % length + rest


def _block(name: bytes, kind: bytes, target: bytes, size: int, numbers: list[int]) -> bytes:
    mode, uid, gid, mtime, major, minor = numbers
    fields = [
        name[:100].ljust(100, b"\0"),
        *(_number(value, 8) for value in (mode, uid, gid)),
        _number(size, 12),
        _number(mtime, 12),
        b" " * 8,
        kind,
        target[:100].ljust(100, b"\0"),
        b"ustar\00000".ljust(72, b"\0"),
        _number(major, 8),
        _number(minor, 8),
        name[100:255].ljust(155, b"\0"),
        bytes(12),
    ]
    header = b"".join(fields)
    return header[:148] + b"%06o\0 " % sum(header) + header[156:]


def _number(value: int, width: int) -> bytes:
    if 0 <= value < 8 ** (width - 1):
        return b"%0*o\0" % (width - 1, value)
    return bytes([0x80]) + (value & ((1 << (8 * (width - 1))) - 1)).to_bytes(width - 1, "big")


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def _xz(data: bytes) -> bytes:
    return lzma.compress(data, preset=0)  # the usual one takes a hundred megabytes


COMPRESSIONS: list[Compress] = [bytes, bytes, gzip.compress, bz2.compress, _xz, zstandard.compress]


def reader(data: bytes, step: int = 700) -> Callable[[int], bytes]:
    stream = io.BytesIO(data)
    return lambda size: stream.read(min(size, step))


def check_streams(data: bytes) -> None:
    """Any bytes are decompressed or refused, with what they are in pieces of any size."""
    whole: list[bytes] = []
    for step in (50, 1 << 20):
        pieces = b""
        with contextlib.suppress(InvalidParameter):
            _, read = open_stream(reader(data, step))
            while (piece := read(1 << 16)) and len(pieces) < MAX_BYTES:
                pieces += piece
        whole.append(pieces)
    shorter, longer = sorted(whole, key=len)
    assert longer.startswith(shorter)


def check_reading(data: bytes) -> None:
    """Any bytes are an archive or refused; what is read of it doesn't depend on how it comes."""
    results = []
    for step in (100, 1 << 20):
        found: list[tuple[bytes, int, int, bytes]] = []
        try:
            for entry in (archive := tar.TarReader(tar.ByteSource(reader(data, step)))):
                found.append((entry.name, entry.kind, entry.size, b"".join(bytes(piece) for piece in archive.data())))
        except InvalidParameter as error:
            found.append((str(error).encode(), 0, 0, b""))
        results.append(found)
    assert results[0] == results[1]


def check_extraction(data: bytes) -> None:
    """What is unpacked below the root of this process, which is its own and empty, is bounded, unmarked, and can be removed."""
    with contextlib.suppress(InvalidParameter):
        extract(reader(data), ExtractOptions(limits=LIMITS, ids=None))
    total = 0
    for directory, names, files in os.walk(b"/"):
        for name in (*names, *files):
            path = os.path.join(directory, name)
            found = os.lstat(path)
            assert not stat.S_ISSOCK(found.st_mode)
            total += found.st_size if stat.S_ISREG(found.st_mode) and found.st_nlink == 1 else 0
            for key in os.listxattr(path, follow_symlinks=False):
                forged = key.startswith(("trusted.overlay.", "user.overlay."))
                # Only what a whiteout of the archive stands for.
                assert not forged or (key == "trusted.overlay.opaque" and os.getxattr(path, key, follow_symlinks=False) == b"y")
    assert total <= MAX_BYTES
    for entry in os.scandir(b"/"):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            os.unlink(entry.path)


CHECKS: dict[str, Callable[[bytes], None]] = {"streams": check_streams, "reading": check_reading, "extraction": check_extraction}


def seeds() -> list[bytes]:
    """Honest archives, to begin from."""
    found = []
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
            for number, kind in enumerate((tarfile.DIRTYPE, tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE)):
                info = tarfile.TarInfo(f"{'long/' * 30 * (number % 2)}{number}")
                info.type, info.linkname, info.size = kind, "target" * 15, 4 if kind == tarfile.REGTYPE else 0
                archive.addfile(info, io.BytesIO(b"data"))
        found += [compress(buffer.getvalue()) for compress in COMPRESSIONS[1:]]
    return found


SEEDS = seeds()
