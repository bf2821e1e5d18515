"""Unpacking archives onto a file system: the one place where load, import, pull and ADD let foreign entries become files.

The caller has made the target's root the process's root (chroot, private mounts), so no name, symbolic link or hard link
in an archive can reach anything outside; what a name may do inside is decided here. Nothing existing is ever opened:
files are created with ``O_EXCL`` after whatever was there has been unlinked, so links and devices are not followed.

Whiteouts (OCI image-spec 1.1, layer.md): ``.wh.x`` becomes overlay's 0/0 character device, ``.wh..wh..opq`` its opaque
attribute. Attributes of overlay itself never come from an archive: they could redirect lookups into other directories.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import stat
from collections.abc import Callable
from dataclasses import dataclass, field

from kitepy.engine.kernel.id_limits import IdLimits
from kitepy.engine.model.errors import InvalidParameter, SystemFailure
from kitepy.engine.model.launch import OverlayFlavour
from kitepy.engine.storage import tar
from kitepy.engine.storage.compression import Compression, Read, open_stream

WHITEOUT_PREFIX = b".wh."
OPAQUE_MARKER = b".wh..wh..opq"
_AUFS_PREFIX = b".wh..wh."
OVERLAY_XATTRS = (b"trusted.overlay.", b"user.overlay.")
OPAQUE_XATTR = OverlayFlavour.TRUSTED.opaque_xattr

_MACHINE_TROUBLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.ENOMEM, errno.EMFILE})
_UNSUPPORTED_XATTR = frozenset({errno.ENOTSUP, errno.EPERM})
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_WARNINGS = 20
_SLASH = ord("/")
_LATEST_NS = (1 << 63) - 1
_DEFAULT_ACL = b"system.posix_acl_default"

_Maker = Callable[[], int | None]
"""Makes a file and returns a descriptor, or makes another node and returns nothing."""


@dataclass(frozen=True)
class Limits:
    """What one archive may become; far above any honest image, so that a bomb ends before the machine does."""

    max_bytes: int = 256 << 30
    max_entries: int = 4_000_000
    max_depth: int = 512


@dataclass(frozen=True)
class ExtractOptions:
    """How to unpack."""

    destination: bytes = b"/"
    """Absolute directory below the current root; must exist."""
    whiteouts: bool = True
    """Translate whiteouts (layers); False leaves ``.wh.`` files as they are (ADD)."""
    opaque_xattr: str = OPAQUE_XATTR
    whiteout_files: bool = False
    """Where devices for whiteouts can't be made, keep the archive's files, which fuse-overlayfs understands."""
    owner: tuple[int, int] | None = None
    """Give everything to this user and group instead of the archive's."""
    limits: Limits = field(default_factory=Limits)
    existing: bool = False
    """The destination has content and attributes of its own: an entry for the destination itself changes nothing."""
    keep_kinds: bool = False
    """Refuse to put a directory in the place of something else, or something else in the place of a directory."""
    shown: str = "/"
    """What messages call the destination."""
    pipe_fd: int | None = None
    """The pipe that is read, if it is one: then content that need not be seen goes straight to its file."""
    digest: bool = True
    """Hash the stream on the way; without, ``diff_id`` is empty."""
    stored_digest: str = ""
    """The digest of the stream as it is stored, where whoever wrote it has hashed it: uncompressed, it needs no second time."""
    ids: IdLimits | None = None
    """Set in a user namespace: not every owner can be, and device nodes can't be made at all."""


@dataclass(frozen=True)
class Extracted:
    """What came out."""

    diff_id: str
    """``sha256:…`` of the uncompressed stream."""
    compression: Compression
    size_bytes: int
    """Sum of the sizes of the files."""
    entries: int
    has_root: bool
    """Whether the archive said what the root directory's owner and mode are."""
    warnings: tuple[str, ...]


def extract(read: Read, options: ExtractOptions | None = None) -> Extracted:
    """Unpack a stream, compressed or not, below the current root.

    Raises ``InvalidParameter`` when the archive is at fault and ``SystemFailure`` when the machine is (disk full); what has been
    unpacked by then stays, and removing it is up to the caller.
    """
    options = options or ExtractOptions()
    compression, plain = open_stream(read)
    diff_id = options.stored_digest if compression is Compression.NONE else ""
    source = tar.ByteSource(plain, digest=options.digest and not diff_id, limit=2 * options.limits.max_bytes)
    if options.pipe_fd is not None and compression is Compression.NONE and not options.digest:
        source.pipe_fd = options.pipe_fd
    extractor = _Extractor(tar.TarReader(source), options)
    extractor.run()
    source.drain()
    return Extracted(
        diff_id=diff_id or (f"sha256:{source.hexdigest()}" if options.digest else ""),
        compression=compression,
        size_bytes=extractor.size_bytes,
        entries=extractor.entries,
        has_root=extractor.has_root,
        warnings=tuple(extractor.warnings),
    )


def clean_name(name: bytes, what: str = "entry name") -> bytes:
    """The name without leading slash, empty and ``.`` components, and with ``..`` resolved by the text alone.

    Raises ``InvalidParameter`` when it leads above the root, in Docker's words; ``what`` is what it calls the name.
    """
    parts: list[bytes] = []
    for part in name.split(b"/"):
        if part == b"..":
            if not parts:
                raise InvalidParameter(f"invalid {what} {_quoted(name)}: it leads outside of the root")
            parts.pop()
        elif part and part != b".":
            parts.append(part)
    return b"/".join(parts)


class _Extractor:
    def __init__(self, reader: tar.TarReader, options: ExtractOptions) -> None:
        self._reader = reader
        self._options = options
        self._limits = options.limits
        self._base = options.destination.rstrip(b"/") + b"/"
        self._directory_times: dict[bytes, int] = {}
        self._owner = options.owner
        self._set_all = options.existing
        """New files may inherit what the archive doesn't say, so that even what is usual has to be set."""
        self._hidden_by_file: set[bytes] = set()
        self.size_bytes = 0
        self.entries = 0
        self.has_root = False
        self.warnings: list[str] = []

    def run(self) -> None:
        for entry in self._reader:
            self.entries += 1
            if self.entries > self._limits.max_entries:
                raise InvalidParameter(f"archive has more than {self._limits.max_entries} entries")
            try:
                self._apply(entry)
            except OSError as error:
                raise self._explained(error, entry) from error
            except (OverflowError, ValueError):
                raise InvalidParameter(
                    f"cannot unpack '{_shown(entry.name)}': its header has a number beyond all bounds"
                ) from None
        self._set_directory_times()

    def _explained(self, error: OSError, entry: tar.Entry) -> InvalidParameter | SystemFailure:
        if error.errno == errno.EINVAL and self._options.ids is not None:
            problem = self._options.ids.problem(*(self._options.owner or (entry.uid, entry.gid)))
            if problem is not None:
                return InvalidParameter(f"cannot unpack '{_shown(entry.name)}': {problem}")
        return _translate(error, entry.name)

    def _warn(self, warning: str) -> None:
        if len(self.warnings) < _MAX_WARNINGS:
            self.warnings.append(warning)
        elif len(self.warnings) == _MAX_WARNINGS:
            self.warnings.append("and more of the kind")

    def _apply(self, entry: tar.Entry) -> None:
        name = entry.name
        if name[:2] == b"./":
            name = name[2:]
        # Most names have nothing in them that could need care: no component that is empty or begins with a dot.
        if name[:1] in b"./" or b"/." in name or b"//" in name or name[-1] == _SLASH:
            name = clean_name(name)
            if not name:
                self._root(entry)
                return
            if self._options.whiteouts and self._is_mark(name):
                return
        if len(name) > self._limits.max_depth and name.count(b"/") >= self._limits.max_depth:
            raise InvalidParameter(f"entry '{_shown(name)}' in archive is nested too deeply (limit {self._limits.max_depth})")
        path = self._base + name
        if self._options.keep_kinds:
            self._check_kind(path, name, entry)
        kind = entry.kind
        if kind == tar.FILE:
            self._file(path, entry)
        elif kind == tar.DIRECTORY or kind == 0x44:  # D: GNU's directory with a list of names
            self._directory(path, entry)
        elif kind == tar.SYMLINK:
            self._create(path, lambda: os.symlink(entry.target, path))
            self._node_attributes(path, entry)
        elif kind == tar.LINK:
            target = self._base + clean_name(entry.target, "hardlink target")
            if target != path:
                self._create(path, lambda: os.link(target, path, follow_symlinks=False))
        elif kind in (tar.CHARACTER, tar.BLOCK_DEVICE, tar.FIFO):
            self._node(path, entry)
        else:
            raise InvalidParameter(f"unhandled tar header type {kind} of {_quoted(name)}")
        if self._hidden_by_file and os.path.lexists(path):
            self._show_again(name)

    def _root(self, entry: tar.Entry) -> None:
        if entry.kind != tar.DIRECTORY:
            raise InvalidParameter("the root entry of the archive is not a directory")
        self.has_root = True
        if not self._options.existing:
            self._directory_attributes(self._base, entry)

    def _is_mark(self, name: bytes) -> bool:
        """Carry out a whiteout, or pass over bookkeeping of the long gone aufs driver; False when it is neither."""
        if name.startswith(_AUFS_PREFIX) and name != OPAQUE_MARKER:
            return True
        parent, _, last = name.rpartition(b"/")
        if not last.startswith(WHITEOUT_PREFIX):
            return False
        if last[len(WHITEOUT_PREFIX) :] in (b"", b".", b".."):
            raise InvalidParameter(f"invalid whiteout entry {_quoted(name)}")
        self._whiteout(self._base + parent, last)
        return True

    def _check_kind(self, path: bytes, name: bytes, entry: tar.Entry) -> None:
        try:
            is_directory = stat.S_ISDIR(os.lstat(path).st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return
        if is_directory and entry.kind != tar.DIRECTORY:
            raise InvalidParameter(f'cannot overwrite directory "{_shown(name)}" with non-directory "{self._options.shown}"')
        if not is_directory and entry.kind == tar.DIRECTORY:
            raise InvalidParameter(f'cannot overwrite non-directory "{_shown(name)}" with directory "{self._options.shown}"')

    def _file(self, path: bytes, entry: tar.Entry) -> None:
        self.size_bytes += entry.apparent_size
        if self.size_bytes > self._limits.max_bytes:
            raise InvalidParameter(f"archive unpacks to more than {self._limits.max_bytes} bytes")
        permissions = entry.mode & 0o777
        try:
            fd = os.open(path, _CREATE, permissions)
        except (FileNotFoundError, FileExistsError):
            fd = self._create(path, lambda: os.open(path, _CREATE, permissions))
        try:
            if entry.extents is not None:
                self._sparse_data(fd, entry)
            elif entry.size:
                self._reader.move_data(fd)
            uid, gid = self._owner or (entry.uid, entry.gid)
            if uid or gid or self._set_all:
                os.fchown(fd, uid, gid)
            if entry.mode & 0o7000 or self._set_all:
                # After chown, which clears these bits.
                os.fchmod(fd, entry.mode)
            if entry.xattrs:
                self._set_xattrs(fd, entry)
            mtime_ns = _bounded(entry.mtime_ns)
            os.utime(fd, ns=(mtime_ns, mtime_ns))
        finally:
            os.close(fd)

    def _sparse_data(self, fd: int, entry: tar.Entry) -> None:
        os.ftruncate(fd, entry.apparent_size)
        extents = iter(entry.extents or ())
        offset = left = 0
        for piece in self._reader.data():
            view = piece
            while view:
                while not left:
                    extent = next(extents, None)
                    if extent is None:
                        return  # padding behind the last stored part
                    offset, left = extent
                written = os.pwrite(fd, view[:left], offset)
                offset += written
                left -= written
                view = view[written:]

    def _directory(self, path: bytes, entry: tar.Entry) -> None:
        was_whiteout = False
        permissions = entry.mode & 0o777
        try:
            os.mkdir(path, permissions)
        except FileNotFoundError:
            self._make_parents(path)
            os.mkdir(path, permissions)
        except FileExistsError:
            existing = os.lstat(path)
            if not stat.S_ISDIR(existing.st_mode):
                was_whiteout = _is_whiteout(existing)
                os.unlink(path)
                os.mkdir(path, permissions)
            self._directory_attributes(path, entry)
        else:
            if entry.uid or entry.gid or entry.mode & 0o7000 or entry.xattrs or self._owner or self._set_all:
                self._directory_attributes(path, entry)
            else:
                self._directory_times[path] = _bounded(entry.mtime_ns)
        if was_whiteout and self._options.whiteouts:
            # The layer hides what was there before and puts a new directory in its place.
            self._set_opaque(path)

    def _directory_attributes(self, path: bytes, entry: tar.Entry) -> None:
        uid, gid = self._owner or (entry.uid, entry.gid)
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.fchown(fd, uid, gid)
            os.fchmod(fd, entry.mode)
            if entry.mode & stat.S_ISGID:
                self._set_all = True
            if entry.xattrs:
                self._set_xattrs(fd, entry)
        finally:
            os.close(fd)
        self._directory_times[path] = _bounded(entry.mtime_ns)

    def _node(self, path: bytes, entry: tar.Entry) -> None:
        node_type = {tar.CHARACTER: stat.S_IFCHR, tar.BLOCK_DEVICE: stat.S_IFBLK, tar.FIFO: stat.S_IFIFO}[entry.kind]
        device = os.makedev(entry.major, entry.minor) if entry.kind != tar.FIFO else 0
        if self._options.ids is not None and entry.kind != tar.FIFO:
            self._warn(f"device {_shown(entry.name)} is left out: an engine without root can't make devices")
            return
        self._create(path, lambda: os.mknod(path, node_type | (entry.mode & 0o777), device))
        self._node_attributes(path, entry)
        if entry.mode & 0o7000 or self._set_all:
            os.chmod(path, entry.mode)

    def _node_attributes(self, path: bytes, entry: tar.Entry) -> None:
        uid, gid = self._owner or (entry.uid, entry.gid)
        if uid or gid or self._set_all:
            os.lchown(path, uid, gid)
        for name, value in entry.xattrs.items():
            self._set_xattr(path, name, value)
        mtime_ns = _bounded(entry.mtime_ns)
        os.utime(path, ns=(mtime_ns, mtime_ns), follow_symlinks=False)

    def _whiteout(self, parent: bytes, marker: bytes) -> None:
        directory = parent.rstrip(b"/") + b"/"
        if marker == OPAQUE_MARKER:
            self._make_parents(directory + b"x")
            self._set_opaque(directory)
            return
        hidden = marker[len(WHITEOUT_PREFIX) :]
        if marker.startswith(_AUFS_PREFIX):
            return
        path = directory + hidden
        try:
            existing = os.lstat(path)
        except FileNotFoundError:
            self._make_parents(path)
            try:
                os.mknod(path, stat.S_IFCHR, 0)
            except PermissionError:
                if not self._options.whiteout_files:
                    raise
                os.close(os.open(directory + marker, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
                self._hidden_by_file.add(path)
            return
        # What the same layer brings is not hidden by its own whiteout, only what lies below.
        if stat.S_ISDIR(existing.st_mode):
            self._set_opaque(path)

    def _show_again(self, name: bytes) -> None:
        """Take back whiteouts that were written as files where the same layer brings something in their place."""
        path = self._base + name
        for hidden in [hidden for hidden in self._hidden_by_file if path == hidden or path.startswith(hidden + b"/")]:
            self._hidden_by_file.discard(hidden)
            parent, _, last = hidden.rpartition(b"/")
            os.unlink(parent + b"/" + WHITEOUT_PREFIX + last)
            if stat.S_ISDIR(os.lstat(hidden).st_mode):
                self._set_opaque(hidden)

    def _set_opaque(self, path: bytes) -> None:
        os.setxattr(path, self._options.opaque_xattr, b"y", follow_symlinks=False)

    def _set_xattrs(self, fd: int, entry: tar.Entry) -> None:
        for name, value in entry.xattrs.items():
            self._set_xattr(fd, name, value)

    def _set_xattr(self, target: int | bytes, name: bytes, value: bytes) -> None:
        if name.startswith(OVERLAY_XATTRS):
            return
        if name == _DEFAULT_ACL:
            self._set_all = True
        try:
            os.setxattr(target, name, value, follow_symlinks=isinstance(target, int))
        except OSError as error:
            if error.errno not in _UNSUPPORTED_XATTR:
                raise
            self._warn(f"attribute {_shown(name)} can't be kept: {error.strerror}")

    def _create(self, path: bytes, make: _Maker) -> int:
        """Call ``make`` with the parents in place and nothing at the path."""
        for _ in range(2):
            try:
                return make() or 0
            except FileNotFoundError:
                self._make_parents(path)
            except FileExistsError:
                _remove(path)
        return make() or 0

    def _make_parents(self, path: bytes) -> None:
        position = len(self._base)
        while (position := path.find(b"/", position)) >= 0:
            try:
                os.mkdir(path[:position], 0o755)
            except FileExistsError:
                existing = os.lstat(path[:position])
                if _is_whiteout(existing):
                    os.unlink(path[:position])
                    os.mkdir(path[:position], 0o755)
                    self._set_opaque(path[:position])
                elif stat.S_ISLNK(existing.st_mode) and not os.path.exists(path[:position]):
                    # A link into nothing, seen from here; as with Docker what it names comes into being.
                    self._make_linked(path[:position])
            position += 1

    def _make_linked(self, path: bytes) -> None:
        """Make the directories that a link leads to, as far as they aren't there."""
        made = b""
        for part in os.path.realpath(path).split(b"/")[1:]:
            made += b"/" + part
            with contextlib.suppress(FileExistsError):
                os.mkdir(made, 0o755)

    def _set_directory_times(self) -> None:
        for path, mtime_ns in self._directory_times.items():
            try:
                fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            except (FileNotFoundError, NotADirectoryError):
                continue  # a later entry replaced it
            except OSError as error:
                if error.errno == errno.ELOOP:
                    continue
                raise
            try:
                os.utime(fd, ns=(mtime_ns, mtime_ns))
            finally:
                os.close(fd)


def _bounded(time_ns: int) -> int:
    """What files can't have been changed at becomes the epoch, as with Docker."""
    return time_ns if 0 <= time_ns <= _LATEST_NS else 0


def _is_whiteout(found: os.stat_result) -> bool:
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0


def _remove(path: bytes) -> None:
    if stat.S_ISDIR(os.lstat(path).st_mode):
        shutil.rmtree(path)
    else:
        os.unlink(path)


def _translate(error: OSError, name: bytes) -> InvalidParameter | SystemFailure:
    # The system's words as Docker has them, without a capital: programs look for "no space left on device".
    reason = (error.strerror or str(error)).lower()
    if error.errno in _MACHINE_TROUBLE:
        return SystemFailure(f"write /{_shown(name).lstrip('/')}: {reason}")
    return InvalidParameter(f"cannot unpack '{_shown(name)}': {reason}")


def _shown(name: bytes) -> str:
    return name[:200].decode("utf-8", "backslashreplace")


def _quoted(name: bytes) -> str:
    return json.dumps(_shown(name), ensure_ascii=False)
