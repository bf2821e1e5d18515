"""The file-descriptor based mount interface (fsopen(2), open_tree(2), move_mount(2), mount_setattr(2)) and pivot_root.

Mounts are made detached and then moved onto a descriptor, so no path is looked up twice and a symlink swapped in between has
no effect. What to mount where is decided by ``runtime/plan.py``.
"""

from __future__ import annotations

import ctypes
import errno
import os

from kitepy.engine.kernel.syscalls import (
    AT_FDCWD,
    NR_FSCONFIG,
    NR_FSMOUNT,
    NR_FSOPEN,
    NR_MOUNT_SETATTR,
    NR_MOVE_MOUNT,
    NR_OPEN_TREE,
    NR_PIVOT_ROOT,
    fail,
    invoke,
    libc_call,
)

MS_RDONLY = 0x1
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MS_SLAVE = 0x80000
MS_SHARED = 0x100000
MS_UNBINDABLE = 0x20000
MNT_DETACH = 2

ATTR_RDONLY = 0x01
ATTR_NOSUID = 0x02
ATTR_NODEV = 0x04
ATTR_NOEXEC = 0x08
ATTR_ATIME_MASK = 0x70
ATTR_NOATIME = 0x10
ATTR_STRICTATIME = 0x20
ATTR_NODIRATIME = 0x80

_ATTR_IDMAP = 0x100000

_AT_EMPTY_PATH = 0x1000
_AT_RECURSIVE = 0x8000
_OPEN_TREE_CLONE = 0x1
_FSCONFIG_SET_FLAG = 0
_FSCONFIG_SET_STRING = 1
_FSCONFIG_CMD_CREATE = 6
_FROM_AND_TO_EMPTY_PATH = 0x4 | 0x40


class _MountAttributes(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def _explain(context_fd: int, error: OSError, kind: str) -> OSError:
    """Add what the kernel wrote into the file system context's log, e.g. which option it did not know."""
    try:
        detail = os.read(context_fd, 4096).decode(errors="replace").strip()
    except OSError:
        return error
    return OSError(error.errno, f"{error.strerror} ({kind}: {detail})")


def new_filesystem(kind: str, source: str, options: list[tuple[str, str | None]], attributes: int) -> int:
    """A detached mount of a new file system; returns its descriptor. An option with value None is a flag."""
    context_fd = invoke(NR_FSOPEN, "fsopen", kind, ctypes.c_char_p(kind.encode()), 1)
    try:
        _configure(context_fd, _FSCONFIG_SET_STRING, "source", source)
        for key, value in options:
            _configure(context_fd, _FSCONFIG_SET_FLAG if value is None else _FSCONFIG_SET_STRING, key, value)
        _configure(context_fd, _FSCONFIG_CMD_CREATE, None, None)
        return invoke(NR_FSMOUNT, "fsmount", kind, context_fd, 1, attributes)
    except OSError as error:
        raise _explain(context_fd, error, kind) from error
    finally:
        os.close(context_fd)


def _configure(context_fd: int, command: int, key: str | None, value: str | None) -> None:
    invoke(
        NR_FSCONFIG,
        "fsconfig",
        key,
        context_fd,
        command,
        ctypes.c_char_p(None if key is None else key.encode()),
        ctypes.c_char_p(None if value is None else os.fsencode(value)),
        0,
    )


def clone_tree(fd: int, path: str = "", *, recursive: bool = False) -> int:
    """A detached copy of the mount at ``path`` (or of what ``fd`` refers to): the first half of a bind mount."""
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC
    if not path:
        flags |= _AT_EMPTY_PATH
    if recursive:
        flags |= _AT_RECURSIVE
    return invoke(NR_OPEN_TREE, "open_tree", path or None, fd, ctypes.c_char_p(os.fsencode(path)), flags)


def attach_tree(tree_fd: int, target_fd: int, target: str) -> None:
    """Mount a detached tree onto the file or directory that ``target_fd`` refers to; ``target`` is for the message."""
    empty = ctypes.c_char_p(b"")
    invoke(NR_MOVE_MOUNT, "move_mount", target, tree_fd, empty, target_fd, empty, _FROM_AND_TO_EMPTY_PATH)


def set_attributes(tree_fd: int, *, add: int = 0, clear: int = 0, propagation: int = 0, recursive: bool = False) -> None:
    """mount_setattr(2) on the mount that ``tree_fd`` refers to."""
    if add & ATTR_ATIME_MASK:
        clear |= ATTR_ATIME_MASK
    attributes = _MountAttributes(add, clear, propagation, 0)
    flags = _AT_EMPTY_PATH | (_AT_RECURSIVE if recursive else 0)
    empty = ctypes.c_char_p(b"")
    invoke(NR_MOUNT_SETATTR, "mount_setattr", None, tree_fd, empty, flags, ctypes.byref(attributes), ctypes.sizeof(attributes))


def map_ids(tree_fd: int, user_namespace_fd: int, path: str) -> None:
    """Show a detached mount's files with their ids mapped as by a user namespace (``MOUNT_ATTR_IDMAP`` of mount_setattr(2)).

    On the disk the ids stay as they are: what is owned by 0 there appears as owned by the namespace's root, and the other way
    round for what is written. Raises OSError with a message for people where the file system can't; ``path`` is for it.
    """
    attributes = _MountAttributes(_ATTR_IDMAP, 0, 0, user_namespace_fd)
    empty = ctypes.c_char_p(b"")
    try:
        invoke(
            NR_MOUNT_SETATTR,
            "mount_setattr",
            path,
            tree_fd,
            empty,
            _AT_EMPTY_PATH,
            ctypes.byref(attributes),
            ctypes.sizeof(attributes),
        )
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise OSError(
            error.errno, f"the file system of {path} can't show mapped ids (an id-mapped mount), which remapped containers need"
        ) from error


def cover_mapped(path: str, user_namespace_fd: int) -> None:
    """Cover a directory with itself, its files' ids mapped as by a user namespace."""
    tree_fd = clone_tree(AT_FDCWD, path)
    try:
        map_ids(tree_fd, user_namespace_fd, path)
        target_fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            attach_tree(tree_fd, target_fd, path)
        finally:
            os.close(target_fd)
    finally:
        os.close(tree_fd)


def set_propagation(path: str, flags: int) -> None:
    """Change how mount events spread to and from ``path``, e.g. ``MS_REC | MS_SLAVE``."""
    libc_call("mount", path, None, os.fsencode(path), None, ctypes.c_ulong(flags), None)


def mount_overlay(target: str, options: str, flags: int = 0) -> None:
    """Mount an overlay with the old call: its relative layer names resolve against the working directory."""
    if len(options) > 4095:
        raise OSError(7, f"mount overlay {target}: the layer list takes {len(options)} bytes, the kernel accepts 4095")
    libc_call("mount", f"overlay {target}", b"overlay", os.fsencode(target), b"overlay", ctypes.c_ulong(flags), options.encode())


def unmount_detached(path: str) -> None:
    """umount2(2) with MNT_DETACH: gone from view at once, released when unused."""
    libc_call("umount2", path, os.fsencode(path), MNT_DETACH)


def pivot_root(root_fd: int) -> None:
    """Make ``root_fd`` the root of this mount namespace and drop the old one (pivot_root(2), the ``.``, ``.`` form)."""
    old_root_fd = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    os.fchdir(root_fd)
    dot = ctypes.c_char_p(b".")
    invoke(NR_PIVOT_ROOT, "pivot_root", None, dot, dot)
    os.fchdir(old_root_fd)
    os.close(old_root_fd)
    # The old root lies on top of the new one now; its mounts must not tell their peers on the host that they go away.
    set_propagation(".", MS_SLAVE | MS_REC)
    unmount_detached(".")
    os.chdir("/")


def read_only_clone(path: str) -> int:
    """A descriptor of ``path`` on a detached, read-only mount of its own: nobody can write through ``/proc/<pid>/exe`` then."""
    tree_fd = clone_tree(AT_FDCWD, path)
    try:
        set_attributes(tree_fd, add=ATTR_RDONLY)
    except OSError:
        os.close(tree_fd)
        raise
    return tree_fd


class _StatFs(ctypes.Structure):
    _fields_ = (("kind", ctypes.c_long), ("rest", ctypes.c_char * 256))


PROC_MAGIC = 0x9FA0
TMPFS_MAGIC = 0x01021994
SYSFS_MAGIC = 0x62656572
CGROUP2_MAGIC = 0x63677270

_libc = ctypes.PyDLL(None, use_errno=True)


def filesystem_kind(fd: int) -> int:
    """The magic number of the file system that ``fd`` lives on (fstatfs(2))."""
    buffer = _StatFs()
    if _libc.fstatfs(fd, ctypes.byref(buffer)) < 0:
        raise fail("fstatfs", str(fd))
    return int(buffer.kind)
