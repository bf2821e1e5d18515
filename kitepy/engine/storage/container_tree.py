"""A container's files as a worker sees them: its root file system with the volumes on it, in the worker's own mount namespace.

That of a running container is taken from its mount namespace, since an overlay must not be mounted twice; that of another one
is mounted here. Volumes and the engine's own files in /etc are mounted on top in both cases, so that it makes no difference
whether a container runs; what exists in its memory only (/proc, /dev, tmpfs) is not part of it. As with Docker.

No path of the container is followed here by the kernel's ordinary rules: mount points are looked up inside the root
(``RESOLVE_IN_ROOT``), everything else after ``confine``, when that root is the process's own and nothing leads out of it.
"""

from __future__ import annotations

import contextlib
import os
import stat
from dataclasses import dataclass
from typing import Any

from kitepy.engine.kernel import capabilities, mounts, namespaces, overlay, user_namespaces
from kitepy.engine.kernel.id_limits import IdLimits, own_id_limits
from kitepy.engine.kernel.paths import open_in_root, open_or_create
from kitepy.engine.kernel.syscalls import AT_FDCWD
from kitepy.engine.kernel.user_namespaces import IdMap
from kitepy.engine.model.errors import InvalidParameter
from kitepy.engine.storage import confinement


@dataclass(frozen=True)
class TreeMount:
    """Something mounted on the root file system."""

    source: str
    destination: str
    part: str
    """What of the source is mounted, if not all: a path in it, which may be the container's work."""
    read_only: bool
    flat: bool
    """What is mounted below a read-only source stays writable."""
    recursive: bool
    mapped: bool
    """The engine's own files, which keep on the disk the ids that they have in the container."""
    optional: bool


class ContainerTree:
    """Assembled by ``assemble``; ``confine`` makes (a directory of) it the process's root."""

    def __init__(self, params: dict[str, Any], namespace_fd: int | None) -> None:
        """``namespace_fd`` is a running container's mount namespace.

        params: ``base``, ``lower`` (topmost first, relative to base), ``upper``, ``work``, ``flavour``; ``mounts``; ``uids`` and
        ``gids``, the maps of a remapped container.
        """
        self._base = str(params["base"])
        self._lower = [str(name) for name in params["lower"]]
        self._upper, self._work = str(params["upper"]), str(params["work"])
        self._flavour = str(params["flavour"])
        self._mounts = sorted((TreeMount(**entry) for entry in params["mounts"]), key=_depth)
        self._namespace_fd = namespace_fd
        self._maps = _maps(params)
        self._user_namespace_fd = self._find_user_namespace()
        self._root = os.path.join(self._base, "tmp", "root")
        self._root_fd = -1
        self.ids = self._id_limits()
        """Which owners its files can have; None where all can be."""

    def assemble(self, *, writable: bool) -> None:
        """Mount everything. What isn't to be written is mounted so that nothing has to be synced afterwards."""
        trees = [(mount, tree_fd) for mount in self._mounts if (tree_fd := self._take(mount)) >= 0]
        root_tree = self._take_running_root() if self._namespace_fd is not None else -1
        if root_tree < 0 and self._user_namespace_fd is not None:
            mounts.cover_mapped(self._base, self._user_namespace_fd)
        confinement.mount_tmpfs(os.path.dirname(self._root))
        os.mkdir(self._root, 0o755)
        with self._as_owner():
            if root_tree >= 0:
                self._root_fd = root_tree
                self._attach(root_tree, self._root)
            else:
                self._mount_layers(writable=writable)
                if not writable and not all(self._has(mount.destination) for mount, _ in trees):
                    # A container that never ran has mount points to be made.
                    os.close(self._root_fd)
                    overlay.unmount(self._root)
                    self._mount_layers(writable=True)
            for mount, tree_fd in trees:
                self._mount(mount, tree_fd)

    def open(self, path: str) -> int:
        """An ``O_PATH`` descriptor of a path, links followed inside the tree; ValueError where a path can't be."""
        if "\0" in path:
            raise ValueError("embedded null byte")
        return open_in_root(self._root_fd, path)

    def path_of(self, fd: int) -> str:
        """Where a descriptor from ``open`` is, as the container calls it."""
        return os.readlink(f"/proc/self/fd/{fd}").removeprefix(self._root) or "/"

    def confine(self, directory_fd: int | None = None, *, trusted_xattrs: bool = True) -> None:
        """Make the tree, or a directory of it, the root of this process, which gives up everything that leads out again."""
        confinement.chroot_into(
            self._root_fd if directory_fd is None else directory_fd,
            own_mounts=True,
            trusted_xattrs=trusted_xattrs,
            user_namespace_fd=self._user_namespace_fd,
        )

    # --- inside ---

    def _find_user_namespace(self) -> int | None:
        if self._namespace_fd is not None:
            owner_fd = namespaces.owner_of(self._namespace_fd)
            if not namespaces.is_own(owner_fd, "user"):
                return owner_fd
            os.close(owner_fd)
            return None
        return user_namespaces.create_user_namespace(*self._maps) if self._maps is not None else None

    def _id_limits(self) -> IdLimits | None:
        return own_id_limits() if self._maps is None else IdLimits(*self._maps, more="")

    def _as_owner(self) -> contextlib.AbstractContextManager[None]:
        """Make mount points, and let overlay do its own work, as the container's root: the host's has no id on mapped mounts."""
        if self._maps is None or self._user_namespace_fd is None:
            return contextlib.nullcontext()
        uids, gids = self._maps
        return capabilities.touching_files_as(uids.outside(0) or 0, gids.outside(0) or 0)

    def _take(self, mount: TreeMount) -> int:
        """A detached mount of a source; -1 when an optional one isn't there."""
        try:
            tree_fd = self._clone(mount)
        except FileNotFoundError:
            if mount.optional:
                return -1
            raise InvalidParameter(
                f"can't show {mount.destination}: what is mounted there does not exist on the host: {mount.source}"
            ) from None
        mounts.set_attributes(tree_fd, propagation=mounts.MS_PRIVATE, recursive=True)
        if mount.read_only:
            mounts.set_attributes(tree_fd, add=mounts.ATTR_RDONLY, recursive=not mount.flat)
        if mount.mapped and self._user_namespace_fd is not None:
            mounts.map_ids(tree_fd, self._user_namespace_fd, mount.source)
        return tree_fd

    @staticmethod
    def _clone(mount: TreeMount) -> int:
        if not mount.part:
            return mounts.clone_tree(AT_FDCWD, mount.source, recursive=mount.recursive)
        source_fd = os.open(mount.source, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            part_fd = open_in_root(source_fd, mount.part)
        finally:
            os.close(source_fd)
        try:
            return mounts.clone_tree(part_fd, recursive=mount.recursive)
        finally:
            os.close(part_fd)

    def _take_running_root(self) -> int:
        """The root's mount without those on it."""
        assert self._namespace_fd is not None
        own_fd = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        namespaces.setns(self._namespace_fd, namespaces.CLONE_NEWNS)
        try:
            tree_fd = mounts.clone_tree(AT_FDCWD, "/")
        finally:
            namespaces.setns(own_fd, namespaces.CLONE_NEWNS)
            os.close(own_fd)
        # What is mounted on a peer of the container's root would appear in the container.
        mounts.set_attributes(tree_fd, propagation=mounts.MS_PRIVATE)
        return tree_fd

    def _mount_layers(self, *, writable: bool) -> None:
        if writable:
            layers: tuple[list[str], str | None, str | None] = (self._lower, self._upper, self._work)
        else:
            # Without an upper directory the overlay's end doesn't sync the disk.
            layers = ([self._upper, *self._lower], None, None)
        overlay.mount_layers(self._root, self._base, *layers, flavour=self._flavour, volatile=False)
        self._root_fd = os.open(self._root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def _has(self, path: str) -> bool:
        try:
            os.close(open_in_root(self._root_fd, path))
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def _mount(self, mount: TreeMount, tree_fd: int) -> None:
        directory = stat.S_ISDIR(os.fstat(tree_fd).st_mode)
        try:
            target_fd = open_or_create(self._root_fd, mount.destination, directory=directory)
        except OSError:
            if not mount.optional:
                raise
            os.close(tree_fd)
            return
        try:
            if stat.S_ISDIR(os.fstat(target_fd).st_mode) == directory:
                mounts.attach_tree(tree_fd, target_fd, mount.destination)
            elif not mount.optional:
                raise InvalidParameter(
                    f"can't show {mount.destination}: a directory is mounted onto a file there, or a file onto a directory"
                )
        finally:
            os.close(target_fd)
            os.close(tree_fd)

    @staticmethod
    def _attach(tree_fd: int, target: str) -> None:
        target_fd = os.open(target, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            mounts.attach_tree(tree_fd, target_fd, target)
        finally:
            os.close(target_fd)


def mount_for_comparison(params: dict[str, Any]) -> str:
    """Mount a directory that holds ``upper``, a container's changes, and ``lower``, what they were made on; gives its path."""
    base = str(params["base"])
    stage = os.path.join(base, "tmp")
    confinement.mount_tmpfs(stage)
    for name in ("upper", "lower"):
        os.mkdir(os.path.join(stage, name))
    overlay.mount_layers(os.path.join(stage, "lower"), base, list(params["lower"]), flavour=str(params["flavour"]))
    confinement.bind_mount(os.path.join(base, params["upper"]), os.path.join(stage, "upper"))
    return stage


def _depth(mount: TreeMount) -> tuple[int, str]:
    return mount.destination.count("/"), mount.destination


def _maps(params: dict[str, Any]) -> tuple[IdMap, IdMap] | None:
    if not params.get("uids"):
        return None
    uids, gids = (IdMap(tuple((int(a), int(b), int(c)) for a, b, c in params[key])) for key in ("uids", "gids"))
    return uids, gids
