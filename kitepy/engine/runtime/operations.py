"""The small steps that confine a new container's process 1; ``plan.py`` decides which and in what order.

Each operation can be printed (``describe``) and carried out (``execute``). They run in the forked child, inside its new
namespaces, so whatever they mount vanishes with it. Here: what all share, and the process, its namespaces and the kernel's
parameters; mounts are in ``mount_operations.py``, devices in ``device_operations.py``. What turns the confined child into the
user's process is in ``process.py``.
"""

from __future__ import annotations

import os
from _socket import socket

from kitepy.engine.kernel import mounts, namespaces, syscalls
from kitepy.engine.kernel.cgroups import CgroupDriver
from kitepy.engine.kernel.fuse_overlay import FuseServer
from kitepy.engine.kernel.packets import receive, send
from kitepy.engine.kernel.paths import open_in_root, open_or_create
from kitepy.engine.kernel.user_namespaces import become_root, enter_user_namespace
from kitepy.engine.runtime.process import open_apparmor_attribute, raise_hard_limits


class Context:
    """What operations share while they run in the child."""

    def __init__(
        self, driver: CgroupDriver, netns_fd: int | None, channel: socket | None = None, user_namespace_fd: int = -1
    ) -> None:
        self.driver = driver
        self.netns_fd = netns_fd
        self.channel = channel
        """To the monitor."""
        self.user_namespace_fd = user_namespace_fd
        self.fuse: FuseServer | None = None
        self.awaits_cgroup = False
        """Whether the monitor is still making the control group."""
        self.root_fd = -1
        self.trees: dict[int, int] = {}
        self.null_tree_source = -1
        self.terminal_master_fd = -1
        self.terminal_slave_fd = -1
        self.process: dict[str, object] = {}
        self.apparmor_fd: int | None = None

    def open_apparmor(self) -> None:
        """Open the process's own AppArmor attribute, while /proc is the host's; only the process that opens it may write it."""
        if self.apparmor_fd is not None:
            os.close(self.apparmor_fd)
        self.apparmor_fd = open_apparmor_attribute(self.process)


class Operation:
    """One step. Fields are the constructor's positional arguments, named by ``fields``."""

    fields: tuple[str, ...] = ()

    def __init__(self, *values: object) -> None:
        for name, value in zip(self.fields, values, strict=True):
            setattr(self, name, value)

    def values(self) -> tuple[object, ...]:
        """The fields, in the constructor's order."""
        return tuple(getattr(self, name) for name in self.fields)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and isinstance(other, Operation) and self.values() == other.values()

    def __hash__(self) -> int:
        return hash((type(self), repr(self.values())))

    def describe(self) -> str:
        """The step for people: its name and its fields."""
        fields = " ".join(f"{name}={getattr(self, name)!r}" for name in self.fields)
        return f"{type(self).__name__} {fields}".rstrip()

    __repr__ = describe

    def execute(self, context: Context) -> None:
        """Carry the step out; raises OSError."""
        raise NotImplementedError


class JoinCgroup(Operation):
    """Enter the container's control group, once the monitor has made it."""

    fields = ("path",)
    path: str

    def execute(self, context: Context) -> None:
        if context.awaits_cgroup:
            assert context.channel is not None
            if receive(context.channel) is None:
                os._exit(0)  # the monitor gave up, and told the engine why
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
            if not self._is_here(fd):  # the host's, which an engine without root may not join
                namespaces.setns(fd, self.flag)
        finally:
            os.close(fd)

    def _is_here(self, fd: int) -> bool:
        own = os.stat(f"/proc/self/ns/{os.path.basename(self.path or '')}")
        other = os.fstat(fd)
        return (own.st_dev, own.st_ino) == (other.st_dev, other.st_ino)


class RaiseLimits(Operation):
    """Raise hard limits as far as the process is to have them: beyond the user namespace's border nothing can."""

    fields = ("limits",)
    limits: list[object]

    def execute(self, context: Context) -> None:  # noqa: ARG002
        raise_hard_limits(self.limits)


class EnterUserNamespace(Operation):
    """Cross into the container's user namespace; all that follows is done with its rights only.

    A new PID namespace has to belong to it, and the first process born in that is process 1: with ``new_pid_namespace`` a new
    child of the monitor goes on in the caller's place. The caller tells the monitor of it and ends.
    """

    fields = ("new_pid_namespace",)
    new_pid_namespace: bool

    def execute(self, context: Context) -> None:
        enter_user_namespace(context.user_namespace_fd)
        if not self.new_pid_namespace:
            return
        assert context.channel is not None
        go_read, go_write = os.pipe2(os.O_CLOEXEC)
        pid, pidfd = namespaces.fork_sibling(namespaces.CLONE_NEWPID)
        if pid:
            send(context.channel, {"first": pid}, fds=(pidfd,))
            os.write(go_write, b"g")
            os._exit(0)
        os.close(go_write)
        if not os.read(go_read, 1):
            os._exit(255)  # the predecessor was killed, so that the monitor may not know of this process
        os.close(go_read)
        context.open_apparmor()


class BecomeNamespaceRoot(Operation):
    """Be root of the user namespace rather than the host's root, who is nobody there and owns what is made."""

    fields = ()

    def execute(self, context: Context) -> None:  # noqa: ARG002
        become_root()


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
            require_kernel_file(fd, path)
            os.write(fd, self.value.encode())
        except OSError as error:
            raise OSError(error.errno, f"sysctl {self.key}={self.value}: {error.strerror}") from error
        finally:
            os.close(fd)


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


class MakeWorkingDirectory(Operation):
    """Create the working directory when the image lacks it."""

    fields = ("path",)
    path: str

    def execute(self, context: Context) -> None:
        os.close(open_or_create(context.root_fd, self.path, directory=True))


def require_kernel_file(fd: int, path: str) -> None:
    """A path below /proc or /sys must really lie there, not on something that was mounted or linked in its place."""
    if path.startswith("/proc/"):
        wanted = mounts.PROC_MAGIC
    elif path.startswith("/sys/"):
        wanted = mounts.SYSFS_MAGIC
    else:
        return
    if mounts.filesystem_kind(fd) not in (wanted, mounts.CGROUP2_MAGIC):
        raise OSError(22, f"{path} is not on the kernel's file system, refusing to use it")
