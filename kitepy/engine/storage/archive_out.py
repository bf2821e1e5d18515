"""Packing a directory as a tar: layers for commit and build; written and hashed in one pass, the same bytes for the same tree.

Names are sorted, user and group names left out, times cut to seconds, and pax records written only where ustar has no room,
so that equal trees give equal digests. Overlay's marks become whiteouts (OCI image-spec 1.1, layer.md) and stay out of the
attributes; sockets are left out, since they mean nothing without their process.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from kitepy.engine.kernel.fuse_overlay import MARKERS
from kitepy.engine.model.errors import SystemFailure
from kitepy.engine.model.launch import OverlayFlavour
from kitepy.engine.storage.extract import OPAQUE_MARKER, OVERLAY_XATTRS, WHITEOUT_PREFIX
from kitepy.engine.storage.tar import BLOCK

_FLUSH_BYTES = 1 << 18
_READ_BYTES = 1 << 20
_MAX_OCTAL_ID = 0o7777777
_MAX_OCTAL_SIZE = 0o77777777777
_MAGIC = b"ustar\x0000"
_FUSE_XATTRS = (b"user.fuseoverlayfs.", b"user.containers.")
_FUSE_MARKERS = frozenset(map(os.fsencode, MARKERS))
_SKIPPED_XATTRS = (b"security.selinux", b"security.ima", b"security.evm", b"system.nfs")

_Flags = {stat.S_IFDIR: b"5", stat.S_IFLNK: b"2", stat.S_IFCHR: b"3", stat.S_IFBLK: b"4", stat.S_IFIFO: b"6"}


@dataclass(frozen=True)
class Packed:
    """What was written."""

    digest: str
    """``sha256:…`` of the tar, i.e. the diff id."""
    tar_bytes: int
    size_bytes: int
    """Sum of the sizes of the files in it."""
    entries: int


class TarWriter:
    """Writes entries through ``write`` (like ``os.write`` on one descriptor), hashing as it goes if a digest is wanted."""

    def __init__(self, write: Callable[[bytes | memoryview], int], *, digest: bool = True, pipe_fd: int | None = None) -> None:
        """``pipe_fd`` is the pipe that ``write`` writes to, if it is one; without a digest content goes straight into it."""
        self._write = write
        self._pipe_fd = None if digest else pipe_fd
        self._buffer = bytearray()
        self._hash = hashlib.sha256() if digest else None
        self.tar_bytes = 0

    def header(
        self,
        name: bytes,
        flag: bytes,
        *,
        mode: int = 0o644,
        uid: int = 0,
        gid: int = 0,
        size: int = 0,
        mtime_s: int = 0,
        target: bytes = b"",
        device: tuple[int, int] = (0, 0),
        xattrs: dict[bytes, bytes] | None = None,
    ) -> None:
        """One entry's header, with pax records before it where needed."""
        records: list[tuple[bytes, bytes]] = []
        prefix, short = _split_name(name)
        if short is None:
            records.append((b"path", name))
            prefix, short = b"", name[:100]
        if len(target) > 100:
            records.append((b"linkpath", target))
        for key, number, limit in ((b"uid", uid, _MAX_OCTAL_ID), (b"gid", gid, _MAX_OCTAL_ID), (b"size", size, _MAX_OCTAL_SIZE)):
            if number > limit:
                records.append((key, b"%d" % number))
        if not 0 <= mtime_s <= _MAX_OCTAL_SIZE:
            records.append((b"mtime", b"%d" % mtime_s))
        records += [(b"SCHILY.xattr." + key, value) for key, value in sorted((xattrs or {}).items())]
        if records:
            body = b"".join(_pax_record(key, value) for key, value in records)
            label = b"PaxHeaders.0/" + name.rstrip(b"/").rpartition(b"/")[2][:80]
            self._put(_ustar(label, b"", b"x", 0o644, 0, 0, len(body), 0, b"", (0, 0)))
            self._put(body + bytes(-len(body) % BLOCK))
        self._put(
            _ustar(
                short,
                prefix,
                flag,
                mode,
                uid if uid <= _MAX_OCTAL_ID else 0,
                gid if gid <= _MAX_OCTAL_ID else 0,
                size if size <= _MAX_OCTAL_SIZE else 0,
                min(max(mtime_s, 0), _MAX_OCTAL_SIZE),
                target[:100],
                device,
            )
        )

    def file(self, name: bytes, data: bytes, *, mode: int = 0o644, mtime_s: int = 0) -> None:
        """A small file whose content is at hand."""
        self.header(name, b"0", mode=mode, size=len(data), mtime_s=mtime_s)
        self._put(data + bytes(-len(data) % BLOCK))

    def content(self, fd: int, size: int) -> None:
        """``size`` bytes of a file, after its header. A file that shrank meanwhile is filled up with zeros."""
        left = size
        if self._pipe_fd is not None and size >= _FLUSH_BYTES:
            self._flush()
            left = self._splice(fd, left)
            self.tar_bytes += size - left
        while left:
            piece = os.read(fd, min(left, _READ_BYTES))
            if not piece:
                self._put(bytes(min(left, _READ_BYTES)))
                left -= min(left, _READ_BYTES)
                continue
            left -= len(piece)
            if len(piece) >= _FLUSH_BYTES:
                self._flush()
                self._emit(piece)
            else:
                self._put(piece)
        self._put(bytes(-size % BLOCK))

    def _splice(self, fd: int, left: int) -> int:
        """Let the kernel move bytes into the pipe; gives how many it left."""
        assert self._pipe_fd is not None
        try:
            while left and (moved := os.splice(fd, self._pipe_fd, left)):
                left -= moved
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            self._pipe_fd = None  # this file system has no such thing
        return left

    def close(self) -> str:
        """End the archive; returns its digest, if one was wanted."""
        self._put(bytes(2 * BLOCK))
        self._flush()
        return f"sha256:{self._hash.hexdigest()}" if self._hash is not None else ""

    def _put(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) >= _FLUSH_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._buffer:
            data, self._buffer = bytes(self._buffer), bytearray()
            self._emit(data)

    def _emit(self, data: bytes) -> None:
        if self._hash is not None:
            self._hash.update(data)
        self.tar_bytes += len(data)
        view = memoryview(data)
        while view:
            view = view[self._write(view) :]


def pack_directory(
    write: Callable[[bytes | memoryview], int],
    directory: bytes = b"/",
    *,
    prefix: bytes = b"",
    include_root: bool = False,
    overlay: bool = True,
    flavour: OverlayFlavour = OverlayFlavour.TRUSTED,
    digest: bool = True,
    pipe_fd: int | None = None,
    live: bool = False,
) -> Packed:
    """Pack what is below a directory of the current root (the caller has chrooted).

    ``prefix`` is put before every name, e.g. ``b"app/"``. ``include_root`` adds an entry for the directory itself.
    ``overlay`` translates overlay's marks of an upper directory; ``flavour`` is the overlay's. ``digest`` and ``pipe_fd`` are
    ``TarWriter``'s. ``live`` says that the files
    belong to somebody who goes on working with them: what goes away meanwhile is left out.
    """
    writer = TarWriter(write, digest=digest, pipe_fd=pipe_fd)
    packer = _Packer(writer, directory.rstrip(b"/") + b"/", prefix, flavour if overlay else None, live=live)
    if include_root:
        packer.add(b"")
    packer.walk(b"")
    return Packed(writer.close(), writer.tar_bytes, packer.size_bytes, packer.entries)


def pack_file(write: Callable[[bytes | memoryview], int], directory: bytes, name: bytes, *, pipe_fd: int | None = None) -> None:
    """Pack one entry of a directory that is no directory itself, under its own name."""
    writer = TarWriter(write, digest=False, pipe_fd=pipe_fd)
    _Packer(writer, directory.rstrip(b"/") + b"/", b"", None, live=False).add(name)
    writer.close()


_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE, errno.ENXIO})
"""How the system tells that something else, or nothing, is there by now."""


class _Packer:
    def __init__(
        self, writer: TarWriter, base: bytes, prefix: bytes, flavour: OverlayFlavour | None, *, live: bool = False
    ) -> None:
        self._live = live
        self._writer = writer
        self._base = base
        self._prefix = prefix
        self._overlay = flavour is not None
        self._fuse = flavour is OverlayFlavour.FUSE
        self._opaque_xattr = opaque_xattr = os.fsencode(flavour.opaque_xattr) if flavour and not self._fuse else b""
        # Never by the name's end alone: what a container calls user.overlay.x, overlay stores as user.overlay.overlay.x.
        marks = opaque_xattr.removesuffix(b"opaque")
        self._unfinished_copies = (marks + b"redirect", marks + b"metacopy") if opaque_xattr else ()
        self._links: dict[tuple[int, int], bytes] = {}
        self.size_bytes = 0
        self.entries = 0

    def walk(self, relative: bytes) -> None:
        # A stack of iterators instead of recursion: images may nest deeper than Python does.
        stack: list[Iterator[bytes]] = [self._children(relative)]
        while stack:
            name = next(stack[-1], None)
            if name is None:
                stack.pop()
            elif self._add_present(name):
                stack.append(self._children(name + b"/"))

    def _add_present(self, name: bytes) -> bool:
        try:
            return self.add(name)
        except OSError as error:
            if not self._live or error.errno not in _GONE:
                raise
            return False

    def _children(self, relative: bytes) -> Iterator[bytes]:
        try:
            names = sorted(os.listdir(self._base + relative))
        except OSError as error:
            if not self._live or error.errno not in _GONE:
                raise
            names = []
        if self._fuse:
            names = [name for name in names if name not in _FUSE_MARKERS]
        return iter([relative + name for name in names])

    def add(self, name: bytes) -> bool:
        """Write one entry; True when it is a directory to go into."""
        path = self._base + name
        found = os.lstat(path)
        kind = stat.S_IFMT(found.st_mode)
        if kind == stat.S_IFSOCK:
            return False
        self.entries += 1
        stored_name = self._prefix + name
        mtime_s = found.st_mtime_ns // 1_000_000_000
        if self._overlay and kind == stat.S_IFCHR and found.st_rdev == 0:
            parent, slash, last = stored_name.rpartition(b"/")
            self._writer.header(parent + slash + WHITEOUT_PREFIX + last, b"0", mode=0, mtime_s=mtime_s)
            return False
        if self._fuse and kind == stat.S_IFREG and stored_name.rpartition(b"/")[2].startswith(WHITEOUT_PREFIX):
            # Where fuse-overlayfs can't make the device it makes the file that the archive needs; containers can't.
            self._writer.header(stored_name, b"0", mode=0, mtime_s=mtime_s)
            return False
        xattrs, opaque = self._xattrs(path)
        if self._fuse and kind == stat.S_IFDIR:
            opaque = any(os.path.lexists(path + b"/" + name) for name in _FUSE_MARKERS)
        if kind == stat.S_IFREG:
            self._add_file(path, stored_name, found, xattrs)
            return False
        if kind == stat.S_IFDIR:
            stored_name = (stored_name or b".").rstrip(b"/") + b"/"
        self._writer.header(
            stored_name,
            _Flags[kind],
            mode=stat.S_IMODE(found.st_mode),
            uid=found.st_uid,
            gid=found.st_gid,
            mtime_s=mtime_s,
            target=os.readlink(path) if kind == stat.S_IFLNK else b"",
            device=(os.major(found.st_rdev), os.minor(found.st_rdev)) if kind in (stat.S_IFCHR, stat.S_IFBLK) else (0, 0),
            xattrs=xattrs,
        )
        if opaque:
            self._writer.header((stored_name if name else b"") + OPAQUE_MARKER, b"0", mode=0, mtime_s=mtime_s)
        return kind == stat.S_IFDIR

    def _add_file(self, path: bytes, name: bytes, found: os.stat_result, xattrs: dict[bytes, bytes]) -> None:
        mode, mtime_s = stat.S_IMODE(found.st_mode), found.st_mtime_ns // 1_000_000_000
        if found.st_nlink > 1:
            first = self._links.setdefault((found.st_dev, found.st_ino), name)
            if first != name:
                self._writer.header(name, b"1", mode=mode, uid=found.st_uid, gid=found.st_gid, mtime_s=mtime_s, target=first)
                return
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise FileNotFoundError(errno.ENOENT, "another file took its place", path)
            size = found.st_size
            self._writer.header(
                name, b"0", mode=mode, uid=found.st_uid, gid=found.st_gid, size=size, mtime_s=mtime_s, xattrs=xattrs
            )
            self._writer.content(fd, size)
        finally:
            os.close(fd)
        self.size_bytes += found.st_size

    def _xattrs(self, path: bytes) -> tuple[dict[bytes, bytes], bool]:
        try:
            names = os.listxattr(path, follow_symlinks=False)
        except OSError as error:
            if error.errno == errno.ENOTSUP:
                return {}, False
            raise
        kept: dict[bytes, bytes] = {}
        opaque = False
        for text in names:
            name = os.fsencode(text)
            if self._overlay and name.startswith(OVERLAY_XATTRS):
                if name == self._opaque_xattr:
                    opaque = os.getxattr(path, name, follow_symlinks=False) == b"y"
                elif name in self._unfinished_copies:
                    # Its content is in another layer under another name: packing it would lose data silently.
                    raise SystemFailure(f"can't pack {os.fsdecode(path)!r}, written with overlay's redirect_dir or metacopy")
            elif self._fuse and name.startswith(_FUSE_XATTRS):
                continue
            elif not name.startswith(_SKIPPED_XATTRS) and not name.startswith(OVERLAY_XATTRS):
                kept[name] = os.getxattr(path, name, follow_symlinks=False)
        return kept, opaque


def _split_name(name: bytes) -> tuple[bytes, bytes | None]:
    if len(name) <= 100:
        return b"", name
    if len(name) <= 256:
        # The part before some slash goes into the prefix field.
        slash = name.find(b"/", len(name) - 101, 156)
        if 0 < slash <= 155 and len(name) - slash - 1 <= 100 and slash + 1 < len(name):
            return name[:slash], name[slash + 1 :]
    return b"", None


def _pax_record(key: bytes, value: bytes) -> bytes:
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest)
    while length != len(rest) + len(b"%d" % length):
        length = len(rest) + len(b"%d" % length)
    return b"%d" % length + rest


def _ustar(
    name: bytes,
    prefix: bytes,
    flag: bytes,
    mode: int,
    uid: int,
    gid: int,
    size: int,
    mtime_s: int,
    target: bytes,
    device: tuple[int, int],
) -> bytes:
    before = name.ljust(100, b"\0") + b"%07o\0%07o\0%07o\0%011o\0%011o\0" % (mode, uid, gid, size, mtime_s)
    after = flag + target.ljust(100, b"\0") + _MAGIC + bytes(64) + b"%07o\0%07o\0" % device + prefix.ljust(155, b"\0") + bytes(12)
    checksum = sum(before) + sum(after) + 8 * 0x20
    return before + b"%06o\0 " % checksum + after
