"""Finding and making paths beneath a root directory that hostile content controls: every symlink resolves inside that root."""

from __future__ import annotations

import os

from kitepy.engine.kernel.syscalls import RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, openat2

_MAX_LINKS = 40


def open_in_root(root_fd: int, path: str, flags: int = os.O_PATH, *, follow: bool = True) -> int:
    """Open ``path`` as if ``root_fd`` were ``/``. With ``follow`` false any symlink on the way is an error (ELOOP)."""
    resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS
    return openat2(root_fd, path, flags, resolve if follow else resolve | RESOLVE_NO_SYMLINKS)


def open_or_create(root_fd: int, path: str, *, directory: bool, mode: int = 0o755, follow: bool = True) -> int:
    """An O_PATH descriptor of ``path`` beneath the root; missing parents and the last part itself are created.

    The last part becomes a directory or an empty file. A dangling symlink's target is created inside the root.
    """
    try:
        return open_in_root(root_fd, path, follow=follow)
    except FileNotFoundError:
        return _create(root_fd, path, directory=directory, mode=mode, follow=follow, links=0)


def _create(root_fd: int, path: str, *, directory: bool, mode: int, follow: bool, links: int) -> int:
    if links > _MAX_LINKS:
        raise OSError(40, f"{path}: too many levels of symbolic links")
    parent, name = os.path.split(path.rstrip("/"))
    if name in ("", ".", ".."):
        raise FileNotFoundError(2, f"{path}: no such directory")
    try:
        parent_fd = open_in_root(root_fd, parent or "/", os.O_PATH | os.O_DIRECTORY, follow=follow)
    except FileNotFoundError:
        parent_fd = _create(root_fd, parent, directory=True, mode=0o755, follow=follow, links=links + 1)
    try:
        try:
            if directory:
                os.mkdir(name, mode, dir_fd=parent_fd)
            else:
                os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, mode & 0o666, dir_fd=parent_fd))
        except FileExistsError:
            link = _read_link(parent_fd, name)
            if link is not None:
                if not follow:
                    raise OSError(40, f"{path}: is a symbolic link") from None
                target = os.path.normpath(os.path.join("/", parent, link))
                return _create(root_fd, target, directory=directory, mode=mode, follow=follow, links=links + 1)
        return open_in_root(parent_fd, name, follow=False)
    finally:
        os.close(parent_fd)


def _read_link(parent_fd: int, name: str) -> str | None:
    try:
        return os.readlink(name, dir_fd=parent_fd)
    except OSError:
        return None
