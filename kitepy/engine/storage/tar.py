"""Reading tar archives as they come: headers, extensions and data, in one pass and without a file system.

Understands ustar, pax and GNU headers, long names, extended attributes (SCHILY and libarchive keys) and the four ways to
write sparse files. Names are bytes and stay as they are; what they may do to a file system is decided in ``extract.py``.
Sources: pax(1p), "ustar Interchange Format"; GNU tar manual, "Tar Internals"; tar(5).
"""

from __future__ import annotations

import base64
import errno
import functools
import hashlib
import os
import struct
import urllib.parse
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from kitepy.engine.model.errors import InvalidParameter
from kitepy.engine.storage.compression import CHUNK, Read

BLOCK = 512
_ZERO_BLOCK = bytes(BLOCK)
_MAX_PAX_BYTES = 4 << 20
_MAX_NAME_BYTES = 1 << 16
_MAX_SPARSE_EXTENTS = 1 << 20
_WITH_DATA = frozenset(b"07S")
_NO_XATTRS: Mapping[bytes, bytes] = MappingProxyType({})
# name; mode, owner and group; size; time; checksum; type; link target; magic; (names, unused); device; prefix
_HEADER = struct.Struct("100s24s12s12s8sB100s8s64x8s8s155s12x")

FILE, LINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO = (ord(character) for character in "0123456")


class ByteSource:
    """Buffered forward reading, with every byte hashed on the way (the diff id covers padding too)."""

    def __init__(self, read: Read, digest: bool = True, limit: int | None = None) -> None:
        self._read = read
        self._left = limit
        self._hash = hashlib.sha256() if digest else None
        self._chunk: bytes = b""
        self._view = memoryview(self._chunk)
        self._at = self._end = 0
        self.pipe_fd: int | None = None
        """Set by whoever knows that ``read`` reads this pipe and nothing else has to see the bytes."""

    def hexdigest(self) -> str:
        """SHA-256 of all that was read from below; complete only after ``drain``."""
        return self._hash.hexdigest() if self._hash is not None else ""

    def _refill(self) -> bool:
        data = self._read(CHUNK)
        if self._left is not None:
            # Headers and padding compress well, too: a bomb need not contain a file.
            self._left -= len(data)
            if self._left < 0:
                raise InvalidParameter("archive is too large once uncompressed")
        if self._hash is not None:
            self._hash.update(data)
        self._chunk, self._view = data, memoryview(data)
        self._at, self._end = 0, len(data)
        return bool(data)

    def take(self, count: int, *, or_end: bool = False) -> bytes:
        """Exactly ``count`` bytes; with ``or_end`` nothing at all when the stream ends right here."""
        at = self._at
        if at + count <= self._end:
            self._at = at + count
            return self._chunk[at : at + count]
        collected = bytearray()
        while len(collected) < count:
            if self._at == self._end and not self._refill():
                if or_end and not collected:
                    return b""
                raise InvalidParameter("unexpected EOF")
            at = self._at
            self._at = min(self._end, at + count - len(collected))
            collected += self._view[at : self._at]
        return bytes(collected)

    def pieces(self, count: int) -> Iterator[memoryview]:
        """The next ``count`` bytes, in pieces that are valid until the next call."""
        while count > 0:
            if self._at == self._end and not self._refill():
                raise InvalidParameter("unexpected EOF")
            at = self._at
            self._at = min(self._end, at + count)
            count -= self._at - at
            yield self._view[at : self._at]

    def move(self, count: int, fd: int) -> None:
        """Write the next ``count`` bytes to a file; from a pipe the kernel does it."""
        while count > 0:
            at = self._at
            if at == self._end:
                if self.pipe_fd is not None:
                    count = self._splice(count, fd)
                elif not self._refill():
                    raise InvalidParameter("unexpected EOF")
                continue
            written = os.write(fd, self._view[at : at + count])
            self._at = at + written
            count -= written

    def _splice(self, count: int, fd: int) -> int:
        """Let the kernel move bytes from the pipe; gives how many it left to others because the file system can't."""
        assert self.pipe_fd is not None
        while count > 0:
            try:
                moved = os.splice(self.pipe_fd, fd, count)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                self.pipe_fd = None  # this file system has no such thing
                return count
            if not moved:
                raise InvalidParameter("unexpected EOF")
            count -= moved
            if self._left is not None:
                self._left -= moved
                if self._left < 0:
                    raise InvalidParameter("archive is too large once uncompressed")
        return 0

    def skip(self, count: int) -> None:
        """Pass over the next ``count`` bytes."""
        at = self._at + count
        if at <= self._end:
            self._at = at
            return
        for _ in self.pieces(count):
            pass

    def drain(self) -> None:
        """Read to the end of the stream: producers pad, and the digest must cover it."""
        while self._refill():
            pass


@dataclass(slots=True)
class Entry:
    """One member of an archive."""

    name: bytes
    kind: int
    """Type flag as a byte value: ``FILE``, ``LINK``, …"""
    mode: int
    uid: int
    gid: int
    size: int
    """Bytes stored in the archive."""
    mtime_ns: int
    target: bytes
    """Where a link points."""
    xattrs: Mapping[bytes, bytes]
    major: int = 0
    minor: int = 0
    extents: list[tuple[int, int]] | None = None
    """(offset, length) of the stored parts of a sparse file; None when all of it is stored."""
    apparent_size: int = 0
    """The size of the file once unpacked."""


class TarReader:
    """Iterates over the entries; ``data()`` of the current one is optional, what was not read is skipped."""

    def __init__(self, source: ByteSource) -> None:
        self._source = source
        self._left = 0
        self._padding = 0

    def data(self) -> Iterator[memoryview]:
        """The stored bytes of the current entry, in pieces that are valid until the next call."""
        for piece in self._source.pieces(self._left):
            self._left -= len(piece)
            yield piece

    def move_data(self, fd: int) -> None:
        """Write the stored bytes of the current entry to a file."""
        left, self._left = self._left, 0
        self._source.move(left, fd)

    def __iter__(self) -> Iterator[Entry]:
        pax: list[tuple[bytes, bytes]] = []
        long_name: bytes | None = None
        long_target: bytes | None = None
        while True:
            self._source.skip(self._left + self._padding)
            self._left = self._padding = 0
            header = self._source.take(BLOCK, or_end=True)
            if not header or header == _ZERO_BLOCK:
                # POSIX wants two zero blocks; one, or none, is common and accepted by every reader.
                return
            entry = _parse_header(header)
            flag = entry.kind
            if flag == FILE and not pax and long_name is None and entry.name[-1:] != b"/":
                # Nearly all entries of nearly all archives: nothing to add to what the header says.
                entry.apparent_size = self._left = entry.size
                self._padding = -entry.size % BLOCK
                long_target = None
                yield entry
            elif flag == 0x78:  # x: pax records of the next entry
                pax = _parse_pax(self._extension(entry.size, _MAX_PAX_BYTES))
            elif flag == 0x67:  # g: global pax records; they carry comments in practice
                self._extension(entry.size, _MAX_PAX_BYTES)
            elif flag == 0x4C:  # L: GNU long name
                long_name = _until_nul(self._extension(entry.size, _MAX_NAME_BYTES))
            elif flag == 0x4B:  # K: GNU long link target
                long_target = _until_nul(self._extension(entry.size, _MAX_NAME_BYTES))
            else:
                if long_name is not None:
                    entry.name = long_name
                if long_target is not None:
                    entry.target = long_target
                self._complete(entry, header, pax)
                pax, long_name, long_target = [], None, None
                if flag != 0x56:  # V: the volume's label is no file
                    yield entry

    def _extension(self, size: int, limit: int) -> bytes:
        if size > limit:
            raise InvalidParameter(f"archive/tar: header field too long: {size} bytes")
        data = self._source.take(size)
        self._source.skip(-size % BLOCK)
        return data

    def _complete(self, entry: Entry, header: bytes, pax: list[tuple[bytes, bytes]]) -> None:
        stored_size = entry.size
        if pax:
            _apply_pax(entry, pax)
            stored_size = entry.size
        if entry.kind == FILE and entry.name.endswith(b"/"):
            entry.kind = DIRECTORY
            self._left, self._padding = stored_size, -stored_size % BLOCK
            return
        if entry.kind not in _WITH_DATA:
            entry.size = 0
            return
        self._left, self._padding = stored_size, -stored_size % BLOCK
        entry.apparent_size = stored_size
        if entry.kind == 0x53:  # S: GNU sparse file
            entry.apparent_size, entry.extents = self._old_sparse_map(header)
        elif pax:
            self._pax_sparse_map(entry, pax)
        entry.kind = FILE
        if entry.extents is not None:
            entry.size = self._left
            _check_extents(entry)

    def _old_sparse_map(self, header: bytes) -> tuple[int, list[tuple[int, int]]]:
        numbers = header[386:482]
        more = header[482]
        apparent = _number(header[483:495])
        extents: list[tuple[int, int]] = []
        while True:
            for start in range(0, len(numbers), 24):
                field_bytes = numbers[start : start + 24]
                if not field_bytes.strip(b"\0"):
                    break
                extents.append((_number(field_bytes[:12]), _number(field_bytes[12:])))
            if not more or len(extents) > _MAX_SPARSE_EXTENTS:
                return apparent, extents
            extension = self._source.take(BLOCK)
            numbers, more = extension[:504], extension[504]

    def _pax_sparse_map(self, entry: Entry, pax: list[tuple[bytes, bytes]]) -> None:
        found = {key: value for key, value in pax if key.startswith(b"GNU.sparse.")}
        if not found:
            return
        if b"GNU.sparse.name" in found:
            entry.name = _without_nul(found[b"GNU.sparse.name"])
        size = found.get(b"GNU.sparse.realsize", found.get(b"GNU.sparse.size"))
        if size is None:
            return
        entry.apparent_size = _decimal(size)
        if found.get(b"GNU.sparse.major") == b"1":
            entry.extents = self._sparse_map_in_data()
        elif b"GNU.sparse.map" in found:
            entry.extents = _pairs([_decimal(text) for text in found[b"GNU.sparse.map"].split(b",") if text])
        else:
            numbers = [_decimal(value) for key, value in pax if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes")]
            entry.extents = _pairs(numbers)

    def _sparse_map_in_data(self) -> list[tuple[int, int]]:
        text = b""

        def next_number() -> int:
            nonlocal text
            while b"\n" not in text:
                if self._left < BLOCK:
                    raise InvalidParameter("sparse map in tar archive is damaged")
                text += self._source.take(BLOCK)
                self._left -= BLOCK
            line, _, text = text.partition(b"\n")
            return _decimal(line)

        count = next_number()
        if count > _MAX_SPARSE_EXTENTS:
            raise InvalidParameter("sparse map in tar archive is too large")
        return _pairs([next_number() for _ in range(2 * count)])


def _parse_header(header: bytes) -> Entry:
    name, attributes, size_field, time_field, stored, kind, target, magic, major, minor, prefix = _HEADER.unpack(header)
    expected = _number(stored)
    # The low half of Adler-32 is one more than the sum of the bytes, and that of half a header can't overflow it.
    total = (zlib.adler32(header[:256]) & 0xFFFF) + (zlib.adler32(header[256:]) & 0xFFFF) - 2
    unsigned = total - sum(stored) + 8 * 0x20
    if expected != unsigned:
        # Some ancient writers summed signed characters.
        signed = unsigned - 256 * sum(1 for byte in header[:148] + header[156:] if byte > 127)
        if expected != signed:
            raise InvalidParameter("archive/tar: invalid tar header")
    name = name.partition(b"\0")[0]
    if prefix[0] and magic[:6] == b"ustar\0":
        name = prefix.partition(b"\0")[0] + b"/" + name
    size = _number(size_field)
    if size < 0:
        raise InvalidParameter("archive/tar: invalid tar header: negative size")
    mode, uid, gid = _attributes(attributes)
    device = kind in (CHARACTER, BLOCK_DEVICE)
    return Entry(
        name,
        FILE if kind in (0, 0x37) else kind,  # NUL and 7 (contiguous) are plain files
        mode,
        uid,
        gid,
        size,
        _seconds(time_field) * 1_000_000_000,
        target.partition(b"\0")[0] if kind in (LINK, SYMLINK) else b"",
        _NO_XATTRS,
        _number(major) if device else 0,
        _number(minor) if device else 0,
    )


@functools.lru_cache(1024)
def _attributes(fields: bytes) -> tuple[int, int, int]:
    """Mode, owner and group; most files of an archive have the same."""
    return _number(fields[:8]) & 0o7777, _number(fields[8:16]), _number(fields[16:])


def _number(text: bytes) -> int:
    if text[0] & 0x80:  # GNU base-256, two's complement
        value = int.from_bytes(text, "big")
        return (value & ((1 << (8 * len(text) - 1)) - 1)) if not text[0] & 0x40 else value - (1 << (8 * len(text)))
    try:
        return int(text.rstrip(b"\0 "), 8)
    except ValueError:
        pass
    digits = text.replace(b"\0", b" ").strip()
    if not digits:
        return 0
    try:
        return int(digits.split(b" ", 1)[0], 8)
    except ValueError:
        raise InvalidParameter("archive/tar: invalid tar header: malformed number") from None


_seconds = functools.lru_cache(1024)(_number)


def _decimal(text: bytes) -> int:
    if not text.isdigit() or len(text) > 20:
        raise InvalidParameter("archive/tar: invalid tar header: malformed number in a pax record")
    return int(text)


def _until_nul(text: bytes) -> bytes:
    return text.partition(b"\0")[0]


def _without_nul(name: bytes) -> bytes:
    """A name that other readers may see differently is none."""
    if b"\0" in name:
        raise InvalidParameter("archive/tar: invalid tar header: a name contains NUL")
    return name


def _parse_pax(data: bytes) -> list[tuple[bytes, bytes]]:
    records: list[tuple[bytes, bytes]] = []
    position = 0
    while position < len(data):
        if data[position] == 0:
            break
        space = data.find(b" ", position, position + 20)
        length = _decimal(data[position:space]) if space > 0 else 0
        record = data[space + 1 : position + length]
        key, equals, value = record.partition(b"=")
        if length < 5 or position + length > len(data) or not equals or not value.endswith(b"\n") or b"\0" in key:
            raise InvalidParameter("archive/tar: invalid tar header: malformed pax record")
        records.append((key, value[:-1]))
        position += length
    return records


def _apply_pax(entry: Entry, pax: list[tuple[bytes, bytes]]) -> None:
    xattrs: dict[bytes, bytes] = {}
    for key, value in pax:
        if key == b"path":
            entry.name = _without_nul(value)
        elif key == b"linkpath":
            entry.target = _without_nul(value)
        elif key == b"size":
            entry.size = _decimal(value)
        elif key == b"uid":
            entry.uid = _decimal(value)
        elif key == b"gid":
            entry.gid = _decimal(value)
        elif key == b"mtime":
            entry.mtime_ns = _pax_time(value)
        elif key.startswith(b"SCHILY.xattr."):
            xattrs[key[13:]] = value
        elif key.startswith(b"LIBARCHIVE.xattr."):
            name = _without_nul(urllib.parse.unquote_to_bytes(key[17:]))
            # The SCHILY form of the same attribute needs no decoding, so it wins.
            xattrs.setdefault(name, _base64(value))
    if xattrs:
        entry.xattrs = xattrs


def _pax_time(text: bytes) -> int:
    negative = text.startswith(b"-")
    seconds, _, fraction = text.lstrip(b"-").partition(b".")
    value = _decimal(seconds or b"0") * 1_000_000_000 + _decimal(fraction[:9].ljust(9, b"0"))
    return -value if negative else value


def _base64(text: bytes) -> bytes:
    try:
        return base64.b64decode(text + b"=" * (-len(text) % 4))
    except ValueError:
        raise InvalidParameter("archive/tar: invalid tar header: malformed base64 in a pax record") from None


def _pairs(numbers: list[int]) -> list[tuple[int, int]]:
    return list(zip(numbers[::2], numbers[1::2], strict=False))


def _check_extents(entry: Entry) -> None:
    assert entry.extents is not None
    end = stored = 0
    for offset, length in entry.extents:
        if offset < end or length < 0 or offset + length > entry.apparent_size:
            raise InvalidParameter("sparse map in tar archive is damaged")
        end = offset + length
        stored += length
    if stored > entry.size:
        raise InvalidParameter("sparse map in tar archive is damaged")
