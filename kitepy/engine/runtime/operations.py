"""The small steps that confine a new container's process 1; ``plan.py`` decides which and in what order.

Each operation can be printed (``describe``) and carried out (``execute``). They run in the forked child, inside its new
namespaces, so whatever they mount vanishes with it. What turns the confined child into the user's process is in ``process.py``.
"""

from __future__ import annotations

import os
import stat

from kitepy.engine.kernel import mounts, namespaces, overlay, syscalls, tty
from kitepy.engine.kernel.cgroups import CgroupDriver
from kitepy.engine.kernel.fuse_overlay import FuseServer
from kitepy.engine.kernel.paths import open_in_root, open_or_create

_NULL_DEVICE = os.makedev(1, 3)

# Files of /proc that tools such as lxcfs may cover with a bind mount; covering anything else there would deceive the runtime.
_COVERABLE_PROC_FILES = frozenset(
    f"/proc/{name}" for name in ("cpuinfo", "diskstats", "meminfo", "stat", "swaps", "uptime", "loadavg", "slabinfo", "net/dev")
)


class Context:
    """What operations share while they run in the child."""

    def __init__(self, driver: CgroupDriver, netns_fd: int | None) -> None:
        self.driver = driver
        self.netns_fd = netns_fd
        self.fuse: FuseServer | None = None
        self.root_fd = -1
        self.trees: dict[int, int] = {}
        self.null_tree_source = -1
        self.terminal_master_fd = -1
        self.terminal_slave_fd = -1


class Operation:
    """One step. Fields are the constructor's positional arguments, named by ``fields``."""

    fields: tuple[str, ...] = ()

    def __init__(self, *values: object) -> None:
        for name, value in zip(self.fields, values, strict=True):
            setattr(self, name, value)

    def _values(self) -> tuple[object, ...]:
        return tuple(getattr(self, name) for name in self.fields)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and isinstance(other, Operation) and self._values() == other._values()

    def __hash__(self) -> int:
        return hash((type(self), repr(self._values())))

    def describe(self) -> str:
        """The step for people: its name and its fields."""
        fields = " ".join(f"{name}={getattr(self, name)!r}" for name in self.fields)
        return f"{type(self).__name__} {fields}".rstrip()

    __repr__ = describe

    def execute(self, context: Context) -> None:
        """Carry the step out; raises OSError."""
        raise NotImplementedError


class JoinCgroup(Operation):
    """Enter the container's control group, before anything is allocated on its behalf."""

    fields = ("path",)
    path: str

    def execute(self, context: Context) -> None:
        context.driver.join(self.path)


class Unshare(Operation):
    """Leave the host's namespaces for fresh ones."""

    fields = ("flags",)
    flags: int

    def execute(self, context: Context) -> None:  # noqa: ARG002
        namespaces.unshare(self.flags)

    def describe(self) -> str:
        names = [name for name, flag in namespaces.FLAG_BY_OCI_TYPE.items() if self.flags & flag]
        return f"Unshare {' '.join(names)}"

    __repr__ = describe


class JoinNamespace(Operation):
    """Enter an existing namespace; ``path`` None is the network namespace that came as a descriptor."""

    fields = ("flag", "path")
    flag: int
    path: str | None

    def execute(self, context: Context) -> None:
        if self.path is None:
            assert context.netns_fd is not None
            namespaces.setns(context.netns_fd, self.flag)
            return
        fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            namespaces.setns(fd, self.flag)
        finally:
            os.close(fd)


class SetHostName(Operation):
    """Name the machine, as the container sees it."""

    fields = ("name",)
    name: str

    def execute(self, context: Context) -> None:  # noqa: ARG002
        syscalls.set_host_name(self.name)


class SetDomainName(Operation):
    """Name the NIS domain, as the container sees it."""

    fields = ("name",)
    name: str

    def execute(self, context: Context) -> None:  # noqa: ARG002
        syscalls.set_domain_name(self.name)


class SetOomScore(Operation):
    """Make the process a likelier or less likely victim when memory runs out."""

    fields = ("value",)
    value: int

    def execute(self, context: Context) -> None:  # noqa: ARG002
        fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, str(self.value).encode())
        except PermissionError as error:
            raise PermissionError(
                error.errno, f"write oom_score_adj {self.value}: lowering it needs CAP_SYS_RESOURCE, which the engine lacks"
            ) from error
        finally:
            os.close(fd)


class NewKeyring(Operation):
    """Start with an empty session keyring."""

    fields = ("name",)
    name: str

    def execute(self, context: Context) -> None:  # noqa: ARG002
        syscalls.join_session_keyring(self.name)


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

    fields = ("target", "base", "options", "readonly", "volatile_work")
    target: str
    base: str
    options: str
    readonly: bool
    volatile_work: str | None

    def execute(self, context: Context) -> None:
        if self.volatile_work is not None:
            _remove_volatile_mark(f"{self.base}/{self.volatile_work}/work/incompat/volatile")
        overlay.mount(self.target, self.base, self.options, readonly=self.readonly)
        context.root_fd = os.open(self.target, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


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
        target_fd = open_or_create(context.root_fd, self.target, directory=True, follow=follow)
        try:
            _refuse_cover(target_fd, self.target, self.kind)
            tree_fd = mounts.new_filesystem(self.kind, self.source, self.options, self.attributes)
            try:
                mounts.attach_tree(tree_fd, target_fd, self.target)
            finally:
                os.close(tree_fd)
        finally:
            os.close(target_fd)


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
            directory = stat.S_ISDIR(os.fstat(tree_fd).st_mode)
            target_fd = open_or_create(context.root_fd, self.target, directory=directory)
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


def _refuse_cover(target_fd: int, target: str, kind: str) -> None:
    """Refuse to cover parts of /proc, or the root itself."""
    if target.strip("/") == "":
        raise PermissionError(1, f"mount {target}: a mount can't cover the container's root")
    if kind != "proc" and mounts.filesystem_kind(target_fd) == mounts.PROC_MAGIC and target not in _COVERABLE_PROC_FILES:
        raise PermissionError(1, f"mount {target}: it lies inside /proc, which mounts must not cover")


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


class MakeDevice(Operation):
    """Create a device node; one that is there already must be the same device.

    A user namespace has no right to make nodes: there the host's node of the same path is mounted instead.
    """

    fields = ("path", "mode", "device", "uid", "gid")
    path: str
    mode: int
    device: int
    uid: int
    gid: int

    def execute(self, context: Context) -> None:
        parent, name = os.path.split(self.path)
        parent_fd = open_or_create(context.root_fd, parent, directory=True)
        try:
            try:
                os.mknod(name, self.mode, self.device, dir_fd=parent_fd)
            except FileExistsError:
                found = os.stat(name, dir_fd=parent_fd, follow_symlinks=False)
                if stat.S_IFMT(found.st_mode) != stat.S_IFMT(self.mode) or found.st_rdev != self.device:
                    raise
                return
            except PermissionError:
                self._bind(context)
                return
            if self.uid or self.gid:
                os.chown(name, self.uid, self.gid, dir_fd=parent_fd, follow_symlinks=False)
        finally:
            os.close(parent_fd)

    def _bind(self, context: Context) -> None:
        source_fd = os.open(self.path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)  # the host's tree is still in place
        try:
            found = os.fstat(source_fd)
            if stat.S_IFMT(found.st_mode) != stat.S_IFMT(self.mode) or found.st_rdev != self.device:
                raise OSError(19, f"{self.path} of the host is another device than the container is to get")
            tree_fd = mounts.clone_tree(source_fd)
            target_fd = open_or_create(context.root_fd, self.path, directory=False, follow=False)
            mounts.set_attributes(tree_fd, add=mounts.ATTR_NOSUID | mounts.ATTR_NOEXEC, propagation=mounts.MS_PRIVATE)
            mounts.attach_tree(tree_fd, target_fd, self.path)
            os.close(target_fd)
            os.close(tree_fd)
        finally:
            os.close(source_fd)


class MakeLink(Operation):
    """Create a symbolic link unless something is there."""

    fields = ("target", "path")
    target: str
    path: str

    def execute(self, context: Context) -> None:
        parent, name = os.path.split(self.path)
        parent_fd = open_or_create(context.root_fd, parent, directory=True)
        try:
            os.symlink(self.target, name, dir_fd=parent_fd)
        except FileExistsError:
            return
        finally:
            os.close(parent_fd)


class OpenTerminal(Operation):
    """Allocate a pseudo-terminal in the container's own devpts and show it as /dev/console."""

    fields = ("rows", "columns", "uid", "console")
    rows: int
    columns: int
    uid: int
    console: bool

    def execute(self, context: Context) -> None:
        master_fd = open_in_root(context.root_fd, "/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY, follow=False)
        slave_fd, number = tty.open_pair(master_fd)
        if self.rows and self.columns:
            tty.set_size(master_fd, self.rows, self.columns)
        if self.uid:
            os.fchown(slave_fd, self.uid, -1)
        if self.console:
            self._bind_console(context, number)
        context.terminal_master_fd, context.terminal_slave_fd = master_fd, slave_fd

    def _bind_console(self, context: Context, number: int) -> None:
        pts_fd = open_in_root(context.root_fd, f"/dev/pts/{number}", follow=False)
        target_fd = open_or_create(context.root_fd, "/dev/console", directory=False, follow=False)
        tree_fd = mounts.clone_tree(pts_fd)
        mounts.attach_tree(tree_fd, target_fd, "/dev/console")
        for fd in (tree_fd, target_fd, pts_fd):
            os.close(fd)


class MakeWorkingDirectory(Operation):
    """Create the working directory when the image lacks it."""

    fields = ("path",)
    path: str

    def execute(self, context: Context) -> None:
        os.close(open_or_create(context.root_fd, self.path, directory=True))


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


class SetSysctl(Operation):
    """Set a kernel parameter of the container's namespaces."""

    fields = ("key", "value")
    key: str
    value: str

    def execute(self, context: Context) -> None:
        path = "/proc/sys/" + self.key.replace(".", "/")
        try:
            fd = open_in_root(context.root_fd, path, os.O_WRONLY, follow=False)
        except FileNotFoundError as error:
            raise FileNotFoundError(2, f"sysctl {self.key}: no such kernel parameter") from error
        try:
            _require_kernel_file(fd, path)
            os.write(fd, self.value.encode())
        except OSError as error:
            raise OSError(error.errno, f"sysctl {self.key}={self.value}: {error.strerror}") from error
        finally:
            os.close(fd)


class ProtectPath(Operation):
    """Make one path read-only, whatever is mounted on it; a missing path is fine."""

    fields = ("path",)
    path: str

    def execute(self, context: Context) -> None:
        try:
            target_fd = open_in_root(context.root_fd, self.path)
        except (FileNotFoundError, NotADirectoryError):
            return
        _require_kernel_file(target_fd, self.path)
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
        _require_kernel_file(target_fd, self.path)
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


def _require_kernel_file(fd: int, path: str) -> None:
    """A path below /proc or /sys must really lie there, not on something that was mounted or linked in its place."""
    if path.startswith("/proc/"):
        wanted = mounts.PROC_MAGIC
    elif path.startswith("/sys/"):
        wanted = mounts.SYSFS_MAGIC
    else:
        return
    if mounts.filesystem_kind(fd) not in (wanted, mounts.CGROUP2_MAGIC):
        raise OSError(22, f"{path} is not on the kernel's file system, refusing to use it")
