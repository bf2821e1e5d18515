"""The steps that give a container its root file system and its mounts, and take the host's tree away."""

from __future__ import annotations

import errno
import os
import stat

from kitepy.engine.kernel import capabilities, mounts, namespaces, overlay, syscalls
from kitepy.engine.kernel.paths import open_in_root, open_or_create
from kitepy.engine.kernel.user_namespaces import in_user_namespace
from kitepy.engine.runtime.operations import Context, Operation, require_kernel_file

_NULL_DEVICE = os.makedev(1, 3)

# Files of /proc that tools such as lxcfs may cover with a bind mount; covering anything else there would deceive the runtime.
_COVERABLE_PROC_FILES = frozenset(
    f"/proc/{name}" for name in ("cpuinfo", "diskstats", "meminfo", "stat", "swaps", "uptime", "loadavg", "slabinfo", "net/dev")
)


_INSIDE_PROC = "it cannot be mounted because it is inside /proc"
_REFUSALS = {
    "proc": "the engine's own /proc is covered in part, as in a container, or the PID namespace belongs to others",
    "sysfs": "the engine's own /sys is covered in part, as in a container, or the network namespace belongs to others",
    "mqueue": "the IPC namespace belongs to others",
    "cgroup": "the control groups can't be shown in this user namespace",
    "cgroup2": "the control groups can't be shown in this user namespace",
}
"""What may stand in the way in a user namespace."""


class OpenBind(Operation):
    """Take hold of a bind mount's source while the host's tree is still visible (and its peer groups are intact)."""

    fields = ("slot", "source", "recursive")
    slot: int
    source: str
    recursive: bool

    def execute(self, context: Context) -> None:
        try:
            context.trees[self.slot] = mounts.clone_tree(syscalls.AT_FDCWD, self.source, recursive=self.recursive)
        except OSError as error:
            # An engine without root has its user's rights over paths, and no others.
            raise OSError(error.errno, f"error mounting {self.source!r}: {(error.strerror or '').lower()}") from error


class OpenBindInside(Operation):
    """Take hold of a tmpfs that another container has, such as its /dev/shm: the source is a path in its mount namespace."""

    fields = ("slot", "source", "namespace")
    slot: int
    source: str
    namespace: str

    def execute(self, context: Context) -> None:
        root_fd = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        own_fd = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        other_fd = os.open(self.namespace, os.O_RDONLY | os.O_CLOEXEC)
        namespaces.setns(other_fd, namespaces.CLONE_NEWNS)
        try:
            # Whoever is root there could have put a link or another file system in its place.
            source_fd = syscalls.openat2(
                syscalls.AT_FDCWD, self.source, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, syscalls.RESOLVE_NO_SYMLINKS
            )
            if mounts.filesystem_kind(source_fd) != mounts.TMPFS_MAGIC:
                raise OSError(22, f"{self.source} of the other container is not what the engine mounted there")
            context.trees[self.slot] = mounts.clone_tree(source_fd)
            os.close(source_fd)
        finally:
            namespaces.setns(own_fd, namespaces.CLONE_NEWNS)
            os.fchdir(root_fd)
            os.chroot(".")
            for fd in (root_fd, own_fd, other_fd):
                os.close(fd)


class OpenMappedBind(OpenBind):
    """The same for a source of the engine's own, whose files keep the ids of an unmapped container on the disk."""

    def execute(self, context: Context) -> None:
        super().execute(context)
        mounts.map_ids(context.trees[self.slot], context.user_namespace_fd, self.source)


class OpenPart(Operation):
    """Take hold of a file or directory in a volume; links in there, which containers can write, can't lead out of it."""

    fields = ("slot", "source", "part", "mapped")
    slot: int
    source: str
    part: str
    mapped: bool

    def execute(self, context: Context) -> None:
        base_fd = os.open(self.source, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            part_fd = syscalls.openat2(base_fd, self.part, os.O_PATH | os.O_CLOEXEC, syscalls.RESOLVE_BENEATH)
        except OSError as error:
            if error.errno == errno.EXDEV:
                raise OSError(
                    errno.EXDEV, f"path concatenation escapes the base directory, base: {self.source}, subpath: {self.part}"
                ) from error
            path = os.path.join(self.source, self.part)
            raise OSError(error.errno, f"cannot access path {path}: {(error.strerror or '').lower()}") from error
        finally:
            os.close(base_fd)
        context.trees[self.slot] = mounts.clone_tree(part_fd, recursive=True)
        os.close(part_fd)
        if self.mapped:
            mounts.map_ids(context.trees[self.slot], context.user_namespace_fd, self.source)


class MapIds(Operation):
    """Cover a directory with itself, its files' ids mapped as by the container's user namespace."""

    fields = ("path",)
    path: str

    def execute(self, context: Context) -> None:
        mounts.cover_mapped(self.path, context.user_namespace_fd)


class IsolateMounts(Operation):
    """Let no mount made from here on reach the host; unmounts on the host still reach us, so nothing is kept busy."""

    fields = ()

    def execute(self, context: Context) -> None:  # noqa: ARG002
        mounts.set_propagation("/", mounts.MS_REC | mounts.MS_SLAVE)


class MountOverlay(Operation):
    """Mount the layers, with ``base`` as working directory since their names are relative to it.

    ``volatile_work`` is the work directory of a mount that skips syncing. The kernel leaves a mark there that refuses a second
    mount, because a crash of the machine may have lost data; that such content is not precious is what volatile means.
    """

    fields: tuple[str, ...] = ("target", "base", "options", "readonly", "volatile_work")
    target: str
    base: str
    options: str
    readonly: bool
    volatile_work: str | None

    def execute(self, context: Context) -> None:
        if self.volatile_work is not None:
            _remove_volatile_mark(f"{self.base}/{self.volatile_work}/work/incompat/volatile")
        self._mount()
        context.root_fd = os.open(self.target, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def _mount(self) -> None:
        overlay.mount(self.target, self.base, self.options, readonly=self.readonly)


class MountMappedOverlay(MountOverlay):
    """The same for layers that lie on a mount with mapped ids.

    Overlay does its own work (whiteouts, its work directory) as the one who mounts it, and the host's root is nobody on such a
    mount: files are touched as ``uid`` and ``gid``, which appear as 0 on the disk. Root's capabilities stay.
    """

    fields: tuple[str, ...] = (*MountOverlay.fields, "uid", "gid")
    uid: int
    gid: int

    def _mount(self) -> None:
        with capabilities.touching_files_as(self.uid, self.gid):
            super()._mount()


class RaiseRoot(Operation):
    """Mount the root file system once more: a mount that came along into a namespace with fewer rights can't become the root."""

    fields = ("target",)
    target: str

    def execute(self, context: Context) -> None:
        tree_fd = mounts.clone_tree(syscalls.AT_FDCWD, self.target, recursive=True)
        target_fd = os.open(self.target, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        mounts.attach_tree(tree_fd, target_fd, self.target)
        os.close(target_fd)
        os.close(context.root_fd)
        context.root_fd = tree_fd


def _remove_volatile_mark(directory: str) -> None:
    try:
        os.unlink(f"{directory}/dirty")
        os.rmdir(directory)
    except FileNotFoundError:
        return


class MountFuseOverlay(Operation):
    """Mount the layers with the process that the monitor prepared to serve them."""

    fields = ("target", "readonly")
    target: str
    readonly: bool

    def execute(self, context: Context) -> None:
        assert context.fuse is not None
        context.fuse.mount(self.target, readonly=self.readonly)
        context.root_fd = os.open(self.target, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


class BindRoot(Operation):
    """Use a directory as it is: bound onto ``target`` so that it is a mount, which pivot_root wants."""

    fields = ("source", "target", "readonly")
    source: str
    target: str
    readonly: bool

    def execute(self, context: Context) -> None:
        tree_fd = mounts.clone_tree(syscalls.AT_FDCWD, self.source, recursive=True)
        target_fd = os.open(self.target, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        if self.readonly:
            mounts.set_attributes(tree_fd, add=mounts.ATTR_RDONLY)
        mounts.set_attributes(tree_fd, propagation=mounts.MS_PRIVATE, recursive=True)
        mounts.attach_tree(tree_fd, target_fd, self.target)
        os.close(target_fd)
        context.root_fd = tree_fd


class MountFilesystem(Operation):
    """Mount a new file system of some kind (proc, tmpfs, devpts …) beneath the root."""

    fields = ("kind", "source", "target", "options", "attributes")
    kind: str
    source: str
    target: str
    options: list[tuple[str, str | None]]
    attributes: int

    def execute(self, context: Context) -> None:
        # A symlink at /proc or /sys would move everything that is masked below them out of sight (CVE-2019-19921).
        follow = self.kind not in ("proc", "sysfs")
        options = self.options
        if self.kind == "tmpfs" and all(name != "mode" for name, _ in options):
            options = [*options, *_mode_of(context.root_fd, self.target)]
        target_fd = open_or_create(context.root_fd, self.target, directory=True, follow=follow)
        try:
            _refuse_cover(target_fd, self.target, self.kind)
            tree_fd = self._make(options)
            try:
                mounts.attach_tree(tree_fd, target_fd, self.target)
            finally:
                os.close(tree_fd)
        finally:
            os.close(target_fd)

    def _make(self, options: list[tuple[str, str | None]]) -> int:
        try:
            return mounts.new_filesystem(self.kind, self.source, options, self.attributes)
        except PermissionError as error:
            reason = _REFUSALS.get(self.kind)
            if reason is None or not in_user_namespace():
                raise
            raise PermissionError(error.errno, f"the kernel refuses to mount {self.kind} here: {reason}") from error


def _mode_of(root_fd: int, path: str) -> list[tuple[str, str | None]]:
    """The option that gives a tmpfs the mode of the directory it covers; none where there is no directory yet."""
    try:
        fd = open_in_root(root_fd, path, os.O_PATH | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        return []
    mode = stat.S_IMODE(os.fstat(fd).st_mode)
    os.close(fd)
    return [("mode", f"{mode:o}")]


class AttachBind(Operation):
    """Mount what ``OpenBind`` took hold of; the target is created as a directory or an empty file, as the source is."""

    fields = ("slot", "target", "add", "clear", "attributes_recursive", "propagation", "propagation_recursive")
    slot: int
    target: str
    add: int
    clear: int
    attributes_recursive: bool
    propagation: int
    propagation_recursive: bool

    def execute(self, context: Context) -> None:
        tree_fd = context.trees.pop(self.slot)
        try:
            if self.add or self.clear:
                mounts.set_attributes(tree_fd, add=self.add, clear=self.clear, recursive=self.attributes_recursive)
            if self.propagation:
                mounts.set_attributes(tree_fd, propagation=self.propagation, recursive=self.propagation_recursive)
            if self.target == "/proc" and mounts.filesystem_kind(tree_fd) != mounts.PROC_MAGIC:
                raise PermissionError(1, "mount /proc: what is not of type proc can't stand in for it")
            directory = stat.S_ISDIR(os.fstat(tree_fd).st_mode)
            target_fd = self._make_place(context.root_fd, directory=directory)
            try:
                _refuse_cover(target_fd, self.target, "bind")
                if stat.S_ISDIR(os.fstat(target_fd).st_mode) != directory:
                    raise NotADirectoryError(
                        20,
                        f"error mounting to rootfs at {self.target!r}: not a directory: Are you trying to mount a directory onto "
                        "a file (or vice-versa)? Check if the specified host path exists and is the expected type",
                    )
                mounts.attach_tree(tree_fd, target_fd, self.target)
            finally:
                os.close(target_fd)
        finally:
            os.close(tree_fd)

    def _make_place(self, root_fd: int, *, directory: bool) -> int:
        try:
            return open_or_create(root_fd, self.target, directory=directory)
        except OSError as error:
            if self.target.startswith("/proc/"):
                raise PermissionError(1, f"error mounting to rootfs at {self.target!r}: {_INSIDE_PROC}") from error
            reason = os.strerror(error.errno or errno.EIO).lower()
            raise OSError(error.errno, f"error mounting to rootfs at {self.target!r}: {reason}") from error


def _refuse_cover(target_fd: int, target: str, kind: str) -> None:
    """Refuse to cover parts of /proc, or the root itself."""
    if target.strip("/") == "":
        raise PermissionError(1, f"mount {target}: a mount can't cover the container's root")
    if kind != "proc" and mounts.filesystem_kind(target_fd) == mounts.PROC_MAGIC and target not in _COVERABLE_PROC_FILES:
        raise PermissionError(1, f"error mounting to rootfs at {target!r}: {_INSIDE_PROC}")


class SetReadonly(Operation):
    """Make the mount at a path read-only, once what belongs on it is there."""

    fields = ("path",)
    path: str

    def execute(self, context: Context) -> None:
        fd = open_in_root(context.root_fd, self.path)
        try:
            mounts.set_attributes(fd, add=mounts.ATTR_RDONLY)
        finally:
            os.close(fd)


class PivotRoot(Operation):
    """Make the root file system the root and forget the host's tree."""

    fields = ()

    def execute(self, context: Context) -> None:
        mounts.pivot_root(context.root_fd)
        os.close(context.root_fd)
        context.root_fd = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


class SetRootPropagation(Operation):
    """How mounts below the container's root spread."""

    fields = ("flags",)
    flags: int

    def execute(self, context: Context) -> None:  # noqa: ARG002
        mounts.set_propagation("/", self.flags)


class ProtectPath(Operation):
    """Make one path read-only, whatever is mounted on it; a missing path is fine."""

    fields = ("path",)
    path: str

    def execute(self, context: Context) -> None:
        try:
            target_fd = open_in_root(context.root_fd, self.path)
        except (FileNotFoundError, NotADirectoryError):
            return
        require_kernel_file(target_fd, self.path)
        tree_fd = mounts.clone_tree(target_fd, recursive=True)
        mounts.set_attributes(tree_fd, add=mounts.ATTR_RDONLY, recursive=True)
        mounts.attach_tree(tree_fd, target_fd, self.path)
        os.close(tree_fd)
        os.close(target_fd)


class MaskPath(Operation):
    """Hide one path: an empty read-only directory over a directory, the null device over a file; a missing path is fine."""

    fields = ("path",)
    path: str

    def execute(self, context: Context) -> None:
        try:
            target_fd = open_in_root(context.root_fd, self.path)
        except (FileNotFoundError, NotADirectoryError):
            return
        require_kernel_file(target_fd, self.path)
        if stat.S_ISDIR(os.fstat(target_fd).st_mode):
            cover_fd = mounts.new_filesystem(
                "tmpfs", "tmpfs", [("size", "0"), ("mode", "755")], mounts.ATTR_RDONLY | mounts.ATTR_NOSUID | mounts.ATTR_NODEV
            )
        else:
            cover_fd = mounts.clone_tree(_null_device(context))
        mounts.attach_tree(cover_fd, target_fd, self.path)
        os.close(cover_fd)
        os.close(target_fd)


def _null_device(context: Context) -> int:
    if context.null_tree_source < 0:
        fd = open_in_root(context.root_fd, "/dev/null", follow=False)
        found = os.fstat(fd)
        if not stat.S_ISCHR(found.st_mode) or found.st_rdev != _NULL_DEVICE:
            raise OSError(22, "/dev/null of the container is not the null device, so nothing can be masked with it")
        context.null_tree_source = fd
    return context.null_tree_source
