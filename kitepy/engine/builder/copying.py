"""Worker jobs that perform COPY and ADD: ``survey`` sums up what would be copied, ``apply`` writes it into a layer.

Parameters are plain JSON, made by ``solver``::

    groups   [{"tree": see trees.open_tree, "sources": [...], "origin": text for messages, "unpack": bool}]
    excludes [patterns]      parents  bool      owners  bool: owners count (copying from another image)
    apply only:
    target   see trees.enter_target      destination  absolute or relative to workdir
    workdir  directory                   chown, chmod  text as written, empty when absent
    scratch  absolute directory of the step's own, for mount points

What a destination means follows BuildKit: a trailing slash makes it a directory, a source directory gives its content,
links in the image are followed but never out of it, set-id bits and extended attributes are kept, owners become 0:0.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
from typing import Any

from kitepy.engine.builder.ownership import ModeChange, owner_in_root, parse_mode
from kitepy.engine.builder.patterns import IgnoreRules
from kitepy.engine.builder.selection import Chosen, ContentDigest, choose, copied_xattrs, open_chosen, walk
from kitepy.engine.builder.trees import enter_target, open_tree
from kitepy.engine.kernel.id_limits import IdLimits, own_id_limits
from kitepy.engine.model.errors import InvalidParameter, SystemFailure
from kitepy.engine.storage import extract
from kitepy.engine.storage.compression import open_stream
from kitepy.engine.storage.tar import ByteSource, TarReader
from kitepy.engine.storage.zygote import JobContext

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK = 1 << 24
_MACHINE_TROUBLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.ENOMEM})


def survey(_: JobContext, params: dict[str, Any]) -> dict[str, Any]:
    """Digest and number of the files that would be copied, without copying."""
    excludes = IgnoreRules(params["excludes"])
    digest = ContentDigest(owners=bool(params["owners"]))
    for index, group in enumerate(params["groups"]):
        root_fd = open_tree(group["tree"], os.path.join(params["scratch"], f"source{index}"))
        try:
            chosen = choose(root_fd, group["sources"], excludes, parents=params["parents"], origin=group["origin"])
            for one in chosen:
                digest.add(root_fd, one, excludes)
        finally:
            os.close(root_fd)
    return {"digest": digest.hexdigest(), "files": digest.files, "size": digest.size_bytes}


def apply(_: JobContext, params: dict[str, Any]) -> dict[str, Any]:
    """Copy into the upper directory of the target; what was written so far stays when it fails."""
    excludes = IgnoreRules(params["excludes"])
    root_fds = [
        open_tree(group["tree"], os.path.join(params["scratch"], f"source{index}"))
        for index, group in enumerate(params["groups"])
    ]
    ids = own_id_limits()
    enter_target(params["target"], os.path.join(params["scratch"], "target"))
    owner = _owner(params["chown"], ids)
    copier = _Copier(
        owner=owner,
        archive_owner=owner if params["chown"] else None,
        ids=ids,
        keep_owner=bool(params["owners"]) and not params["chown"],
        mode=parse_mode(params["chmod"]) if params["chmod"] else None,
        excludes=excludes,
    )
    work: list[tuple[int, Chosen, bool]] = []
    for root_fd, group in zip(root_fds, params["groups"], strict=True):
        chosen = choose(root_fd, group["sources"], excludes, parents=params["parents"], origin=group["origin"])
        work += [(root_fd, one, bool(group["unpack"])) for one in chosen]
    if not work:
        raise InvalidParameter("COPY failed: no source files were specified: nothing matches")
    destination = posixpath.join("/", params["workdir"], params["destination"])
    is_directory = destination.endswith(("/", "/.")) or params["destination"] in (".", "")
    if len(work) > 1 and not is_directory and not params["parents"]:
        raise InvalidParameter(
            "When using COPY with more than one source file, the destination must be a directory and end with a /"
        )
    try:
        for root_fd, one, unpack in work:
            copier.copy(root_fd, one, destination, is_directory, unpack)
        copier.finish()
    except OSError as error:
        kind = SystemFailure if error.errno in _MACHINE_TROUBLE else InvalidParameter
        where = f" ({error.filename})" if error.filename else ""
        raise kind(f"COPY failed: {error.strerror}{where}") from error
    return {"warnings": copier.warnings}


def is_archive(fd: int) -> bool:
    """Whether a file is a tar archive, compressed or not, judged by its content alone."""
    os.lseek(fd, 0, os.SEEK_SET)
    try:
        _, read = open_stream(lambda size: os.read(fd, min(size, 1 << 16)))
        return next(iter(TarReader(ByteSource(read, digest=False))), None) is not None
    except InvalidParameter:
        return False
    finally:
        os.lseek(fd, 0, os.SEEK_SET)


class _Copier:
    """Writes below the process's root directory, which is the image's."""

    def __init__(
        self,
        *,
        owner: tuple[int, int],
        archive_owner: tuple[int, int] | None,
        ids: IdLimits | None,
        keep_owner: bool,
        mode: ModeChange | None,
        excludes: IgnoreRules,
    ) -> None:
        self._owner = owner
        self._archive_owner = archive_owner
        self._ids = ids
        self.warnings: list[str] = []
        self._keep_owner = keep_owner
        self._mode = mode
        self._excludes = excludes
        self._links: dict[tuple[int, int], str] = {}
        self._directory_times: list[tuple[str, os.stat_result]] = []

    def copy(self, root_fd: int, chosen: Chosen, destination: str, into: bool, unpack: bool) -> None:
        """Copy one chosen thing; ``into`` says that the destination is a directory."""
        source_fd = open_chosen(root_fd, chosen)
        try:
            if chosen.parents:
                destination, into = posixpath.join(destination, chosen.parents), True
            if unpack and not chosen.is_directory and is_archive(source_fd):
                self._unpack(source_fd, destination)
            elif chosen.is_directory:
                self._directory(source_fd, self._resolved(destination), make=into)
            else:
                target = self._resolved(destination)
                if into or os.path.isdir(target):
                    self._make_directories(target)
                    target = posixpath.join(target, chosen.name)
                else:
                    self._make_directories(posixpath.dirname(target))
                self._file(source_fd, target, os.fstat(source_fd))
        finally:
            os.close(source_fd)

    def finish(self) -> None:
        """Give directories their times, now that nothing is written into them any more."""
        for path, status in reversed(self._directory_times):
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    def _resolved(self, path: str) -> str:
        # The process's root is the image's root, so links lead nowhere else.
        return os.path.realpath(path)

    def _make_directories(self, path: str) -> None:
        missing: list[str] = []
        while path != "/" and not os.path.isdir(path):
            if os.path.lexists(path):
                raise NotADirectoryError(errno.ENOTDIR, "the destination's parent is not a directory", path)
            missing.append(path)
            path = posixpath.dirname(path)
        for directory in reversed(missing):
            os.mkdir(directory, 0o755)
            os.chown(directory, *self._owner)

    def _directory(self, source_fd: int, target: str, *, make: bool) -> None:
        self._make_directories(posixpath.dirname(target))
        if make:
            self._make_directories(target)
        if not os.path.lexists(target):
            os.mkdir(target, 0o700)
            self._directory_attributes(source_fd, target, os.fstat(source_fd))
        elif not os.path.isdir(target):
            raise NotADirectoryError(errno.ENOTDIR, "cannot copy a directory over something that is none", target)
        for item in walk(source_fd, self._excludes):
            path = posixpath.join(target, item.path)
            if stat.S_ISDIR(item.status.st_mode):
                fd = os.open(item.name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=item.directory_fd)
                try:
                    self._nested_directory(fd, path, item.status)
                finally:
                    os.close(fd)
            else:
                self._make_directories(posixpath.dirname(path))  # an exception below an excluded directory
                self._node(item.directory_fd, item.name, path, item.status)

    def _nested_directory(self, source_fd: int, target: str, status: os.stat_result) -> None:
        try:
            os.mkdir(target, 0o700)
        except FileNotFoundError:
            self._make_directories(posixpath.dirname(target))
            os.mkdir(target, 0o700)
        except FileExistsError:
            if not stat.S_ISDIR(os.lstat(target).st_mode):
                raise NotADirectoryError(errno.ENOTDIR, "cannot copy a directory over something that is none", target) from None
        self._directory_attributes(source_fd, target, status)

    def _directory_attributes(self, source_fd: int, target: str, status: os.stat_result) -> None:
        os.chown(target, *self._owner_of(status))
        os.chmod(target, self._mode_of(status))
        self._copy_xattrs(source_fd, target)
        self._directory_times.append((target, status))

    def _node(self, directory_fd: int, name: str, target: str, status: os.stat_result) -> None:
        if stat.S_ISREG(status.st_mode):
            if status.st_nlink > 1 and (first := self._links.get((status.st_dev, status.st_ino))):
                self._clear(target)
                os.link(first, target, follow_symlinks=False)
                return
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory_fd)
            try:
                # Looked at again: what was a file when the directory was read may be something else by now.
                self._file(fd, target, os.fstat(fd))
            finally:
                os.close(fd)
            if status.st_nlink > 1:
                self._links[(status.st_dev, status.st_ino)] = target
            return
        if stat.S_ISSOCK(status.st_mode):
            return  # means nothing without the process that listens
        self._clear(target)
        if stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink(name, dir_fd=directory_fd), target)
        else:
            os.mknod(target, stat.S_IFMT(status.st_mode) | 0o600, status.st_rdev)
        os.chown(target, *self._owner_of(status), follow_symlinks=False)
        if not stat.S_ISLNK(status.st_mode):
            os.chmod(target, self._mode_of(status))
        os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)

    def _file(self, source_fd: int, target: str, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            raise InvalidParameter(f"COPY failed: {target} would be made from something that is no file")
        try:
            fd = os.open(target, _CREATE, 0o600)
        except FileExistsError:
            self._clear(target)
            fd = os.open(target, _CREATE, 0o600)
        try:
            _copy_data(source_fd, fd)
            made = os.fstat(fd)  # a set-group-id directory gives new files its group
            if (owner := self._owner_of(status)) != (made.st_uid, made.st_gid):
                os.fchown(fd, *owner)
            os.fchmod(fd, self._mode_of(status))  # after chown, which clears set-id bits
            self._copy_xattrs(source_fd, fd)
            os.utime(fd, ns=(status.st_atime_ns, status.st_mtime_ns))
        finally:
            os.close(fd)

    def _clear(self, target: str) -> None:
        try:
            os.unlink(target)
        except FileNotFoundError:
            pass
        except IsADirectoryError:
            raise IsADirectoryError(errno.EISDIR, "cannot copy a file over a directory", target) from None

    def _unpack(self, source_fd: int, destination: str) -> None:
        target = self._resolved(destination)
        self._make_directories(target)
        options = extract.ExtractOptions(
            destination=os.fsencode(target), whiteouts=False, owner=self._archive_owner, ids=self._ids
        )
        try:
            result = extract.extract(lambda size: os.read(source_fd, size), options)
        except InvalidParameter as error:
            raise InvalidParameter(f"ADD failed: {error}") from None
        self.warnings += result.warnings

    def _owner_of(self, status: os.stat_result) -> tuple[int, int]:
        return (status.st_uid, status.st_gid) if self._keep_owner else self._owner

    def _mode_of(self, status: os.stat_result) -> int:
        return self._mode.apply(status.st_mode) if self._mode is not None else stat.S_IMODE(status.st_mode)

    def _copy_xattrs(self, source_fd: int, target: int | str) -> None:
        for name in copied_xattrs(source_fd):
            os.setxattr(target, name, os.getxattr(source_fd, name))


def _copy_data(source_fd: int, target_fd: int) -> None:
    """Copy in the kernel, sharing blocks where the file system can."""
    try:
        while os.copy_file_range(source_fd, target_fd, _CHUNK):
            pass
        return
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
    while os.sendfile(target_fd, source_fd, None, _CHUNK):
        pass


def _owner(chown: str, ids: IdLimits | None) -> tuple[int, int]:
    try:
        owner = owner_in_root(chown) if chown else (0, 0)
    except ValueError as problem:
        raise InvalidParameter(f"--chown={chown}: {problem}") from None
    if ids is not None and (unmapped := ids.problem(*owner)):
        raise InvalidParameter(f"--chown={chown}: {unmapped}")
    return owner
