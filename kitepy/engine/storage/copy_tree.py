"""Copies a directory with all that it holds: owners, modes, times, attributes, links, devices, holes.

Content doesn't come through this process: it is shared where the file system can (``FICLONE``), else copied by the kernel.
Whoever writes into the destination meanwhile can't send the copy elsewhere: no directory is opened through a symbolic link.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from dataclasses import dataclass, field

from kitepy.engine.kernel.syscalls import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2
from kitepy.engine.storage.extract import OVERLAY_XATTRS

_FICLONE = 0x40049409
_PIECE_BYTES = 1 << 30
_SKIPPED_XATTRS = (*OVERLAY_XATTRS, b"security.selinux", b"security.ima", b"security.evm", b"system.nfs")
_UNSUPPORTED = frozenset({errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.ENOSYS, errno.EPERM, errno.EBADF})
"""How file systems and kernels say that they can't share or copy content between two files."""
_UNKEPT_XATTR = frozenset({errno.EOPNOTSUPP, errno.EPERM, errno.EINVAL})


@dataclass
class _Copy:
    source_fd: int
    target_fd: int
    linked: dict[tuple[int, int], str] = field(default_factory=dict)
    """Where a file with several names was copied to first."""
    directories: list[tuple[str, int]] = field(default_factory=list)
    """With the time that each gets in the end."""
    shares: bool = True
    """Whether files can share their content, as far as is known."""


def copy_tree(source_fd: int, target_fd: int) -> None:
    """Copy all that is in one directory, and its owner, mode and attributes, to another one that is empty.

    Sockets are left out: they mean nothing without their process. Raises OSError.
    """
    copy = _Copy(source_fd, target_fd)
    _copy_attributes(source_fd, target_fd, os.fstat(source_fd))
    pending = ["."]
    while pending:
        pending += _copy_directory(copy, pending.pop())
    for path, time_ns in reversed(copy.directories):
        fd = _open_directory(target_fd, path)
        os.utime(fd, ns=(time_ns, time_ns))
        os.close(fd)


def _copy_directory(copy: _Copy, path: str) -> list[str]:
    """Copy what isn't a directory; make those that are, and give their paths."""
    below = []
    from_fd, to_fd = _open_directory(copy.source_fd, path), _open_directory(copy.target_fd, path)
    try:
        with os.scandir(from_fd) as entries:
            for entry in entries:
                found = entry.stat(follow_symlinks=False)
                place = f"{path}/{entry.name}"
                if stat.S_ISDIR(found.st_mode):
                    _make_directory(from_fd, to_fd, entry.name, found)
                    copy.directories.append((place, found.st_mtime_ns))
                    below.append(place)
                elif not stat.S_ISSOCK(found.st_mode):
                    _copy_entry(copy, from_fd, to_fd, entry.name, place, found)
    finally:
        os.close(from_fd)
        os.close(to_fd)
    return below


def _make_directory(from_fd: int, to_fd: int, name: str, found: os.stat_result) -> None:
    os.mkdir(name, 0o700, dir_fd=to_fd)
    source_fd, target_fd = _open_directory(from_fd, name), _open_directory(to_fd, name)
    try:
        _copy_attributes(source_fd, target_fd, found)
    finally:
        os.close(source_fd)
        os.close(target_fd)


def _copy_entry(copy: _Copy, from_fd: int, to_fd: int, name: str, place: str, found: os.stat_result) -> None:
    identity = (found.st_dev, found.st_ino)
    if found.st_nlink > 1 and identity in copy.linked:
        os.link(copy.linked[identity], name, src_dir_fd=copy.target_fd, dst_dir_fd=to_fd, follow_symlinks=False)
        return
    copy.linked[identity] = place
    if stat.S_ISREG(found.st_mode):
        _copy_file(copy, from_fd, to_fd, name, found)
        return
    if stat.S_ISLNK(found.st_mode):
        os.symlink(os.readlink(name, dir_fd=from_fd), name, dir_fd=to_fd)
    else:
        os.mknod(name, found.st_mode, found.st_rdev, dir_fd=to_fd)
    os.chown(name, found.st_uid, found.st_gid, dir_fd=to_fd, follow_symlinks=False)
    if not stat.S_ISLNK(found.st_mode):
        os.chmod(name, stat.S_IMODE(found.st_mode), dir_fd=to_fd)
    os.utime(name, ns=(found.st_mtime_ns, found.st_mtime_ns), dir_fd=to_fd, follow_symlinks=False)


def _copy_file(copy: _Copy, from_fd: int, to_fd: int, name: str, found: os.stat_result) -> None:
    source_fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=from_fd)
    try:
        target_fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=to_fd)
        try:
            _copy_content(copy, source_fd, target_fd, found)
            _copy_attributes(source_fd, target_fd, found)
            os.utime(target_fd, ns=(found.st_mtime_ns, found.st_mtime_ns))
        finally:
            os.close(target_fd)
    finally:
        os.close(source_fd)


def _copy_content(copy: _Copy, source_fd: int, target_fd: int, found: os.stat_result) -> None:
    if not found.st_size:
        return
    if copy.shares:
        try:
            fcntl.ioctl(target_fd, _FICLONE, source_fd)
            return
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
            copy.shares = False
    if found.st_blocks * 512 >= found.st_size:
        _copy_range(source_fd, target_fd, 0, found.st_size)
        return
    os.ftruncate(target_fd, found.st_size)
    end = 0
    while end < found.st_size:
        try:
            start = os.lseek(source_fd, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return  # nothing but a hole
            raise
        end = os.lseek(source_fd, start, os.SEEK_HOLE)
        _copy_range(source_fd, target_fd, start, end)


def _copy_range(source_fd: int, target_fd: int, start: int, end: int) -> None:
    os.lseek(target_fd, start, os.SEEK_SET)
    copy_file_range = True
    while start < end:
        count = min(_PIECE_BYTES, end - start)
        try:
            if copy_file_range:
                copied = os.copy_file_range(source_fd, target_fd, count, offset_src=start)
            else:
                copied = os.sendfile(target_fd, source_fd, start, count)
        except OSError as error:
            if not copy_file_range or error.errno not in _UNSUPPORTED:
                raise
            copy_file_range = False
            continue
        if not copied:
            if not copy_file_range:
                return  # it became shorter
            copy_file_range = False
        start += copied


def _copy_attributes(source_fd: int, target_fd: int, found: os.stat_result) -> None:
    os.fchown(target_fd, found.st_uid, found.st_gid)
    os.fchmod(target_fd, stat.S_IMODE(found.st_mode))
    for name in os.listxattr(source_fd):
        if os.fsencode(name).startswith(_SKIPPED_XATTRS):
            continue
        try:
            os.setxattr(target_fd, name, os.getxattr(source_fd, name))
        except OSError as error:
            if error.errno not in _UNKEPT_XATTR:
                raise


def _open_directory(base_fd: int, path: str) -> int:
    return openat2(base_fd, path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)
