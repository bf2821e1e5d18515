"""What a worker does to itself before it touches foreign content: private mounts, a root directory it can't leave, a short life.

The system calls are ``kernel``'s; only syncfs(2), which may take seconds, is bound here so that other threads go on meanwhile.
"""

from __future__ import annotations

import ctypes
import functools
import os
import signal
import sys

from kitepy.engine.kernel import capabilities, landlock, mounts, namespaces, seccomp, user_namespaces
from kitepy.engine.kernel.mounts import mount_overlay as mount_overlay
from kitepy.engine.kernel.syscalls import libc_call, load_seccomp_filter, prctl

_MS_NOSUID = 2
_MS_NODEV = 4
_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38

# Unlike the kernel package's binding this one releases the interpreter lock.
_libc = ctypes.CDLL(None, use_errno=True)


def enter_private_mounts() -> None:
    """Get a mount namespace of one's own.

    It stays a slave of the host's, so that what is unmounted outside is not kept busy from in here.
    """
    namespaces.unshare(namespaces.CLONE_NEWNS)
    mounts.set_propagation("/", mounts.MS_REC | mounts.MS_SLAVE)


def mount_tmpfs(target: str) -> None:
    """A small file system in memory, for mount points."""
    flags = ctypes.c_ulong(_MS_NOSUID | _MS_NODEV)
    libc_call("mount", f"tmpfs {target}", b"tmpfs", os.fsencode(target), b"tmpfs", flags, b"size=1m,mode=700")


def bind_mount(source: str, target: str) -> None:
    """Show a directory at another place."""
    flags = ctypes.c_ulong(mounts.MS_BIND)
    libc_call("mount", f"{source} {target}", os.fsencode(source), os.fsencode(target), None, flags, None)


def chroot_into(
    directory: str | bytes | int,
    *,
    trusted_xattrs: bool = True,
    outside: bool = False,
    own_mounts: bool = False,
    user_namespace_fd: int | None = None,
) -> None:
    """Make a directory (path or descriptor) the root and the working directory, and give up everything that leads out again.

    After that no device below can be opened (a node may still be made), no program executed, nothing mounted, no socket made
    and no other process signalled; of the capabilities those stay that restoring files takes. ``trusted_xattrs`` keeps
    CAP_SYS_ADMIN, without which ``trusted.*`` and most ``security.*`` attributes can neither be read nor written. ``outside``
    says that descriptors of directories outside are needed further on. A directory that comes as a descriptor may belong to
    another mount namespace, so it can't be mounted anew: no nodes can be made there, unless ``own_mounts`` says that it is in
    this one's. With ``user_namespace_fd`` files are touched as the root of that user namespace, by its ids.
    """
    os.chdir(directory)
    nodes = own_mounts or not isinstance(directory, int)
    if nodes:
        _stand_on_mount_without_devices(str(directory) if isinstance(directory, int) else os.fsdecode(directory))
    os.chroot(".")
    os.chdir("/")
    # What is found here by the names that Python's modules have on the host is somebody else's (CVE-2019-14271).
    sys.path.clear()
    sys.meta_path.clear()
    if user_namespace_fd is not None:
        parent_pid = os.getppid()
        user_namespaces.enter_user_namespace(user_namespace_fd)
        os.close(user_namespace_fd)
        user_namespaces.become_root()
        die_with_parent(parent_pid)  # forgotten with the change of ids
    _seal(nodes=nodes, trusted_xattrs=trusted_xattrs, outside=outside)


def _stand_on_mount_without_devices(name: str) -> None:
    """Make the working directory a mount of its own (and the mounts below part of it) where no device can be opened."""
    here_fd = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        tree_fd = mounts.clone_tree(here_fd, recursive=True)
        try:
            mounts.set_attributes(tree_fd, add=mounts.ATTR_NODEV | mounts.ATTR_NOSUID | mounts.ATTR_NOEXEC, recursive=True)
            mounts.attach_tree(tree_fd, here_fd, name)
            os.fchdir(tree_fd)
        finally:
            os.close(tree_fd)
    finally:
        os.close(here_fd)


_KEPT = ("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_SETFCAP")


def _seal(*, nodes: bool, trusted_xattrs: bool, outside: bool) -> None:
    names = [*_KEPT, *(("CAP_MKNOD",) if nodes else ()), *(("CAP_SYS_ADMIN",) if trusted_xattrs else ())]
    forbid_new_privileges()
    if not outside:
        landlock.confine_to_root()
    kept = capabilities.mask(names) & capabilities.own_permitted()
    capabilities.set_sets(kept, kept, 0)
    load_seccomp_filter(_given_filter[0] if _given_filter else worker_filter())


# What a process that only reads and writes files below its root never calls, and code that took it over would.
_REFUSED = (
    *("execve", "execveat", "fork", "vfork", "chroot", "pivot_root", "mount", "umount", "umount2", "mount_setattr", "move_mount"),
    *(
        "open_tree",
        "fsopen",
        "fsconfig",
        "fsmount",
        "fspick",
        "unshare",
        "setns",
        "socket",
        "socketpair",
        "socketcall",
        "connect",
    ),
    *("bind", "listen", "accept", "accept4", "ptrace", "process_vm_readv", "process_vm_writev", "pidfd_open", "pidfd_getfd"),
    *("process_madvise", "kcmp", "kill", "tkill", "tgkill", "pidfd_send_signal", "rt_sigqueueinfo", "rt_tgsigqueueinfo"),
    *("bpf", "perf_event_open", "userfaultfd", "io_uring_setup", "io_uring_enter", "io_uring_register", "keyctl", "add_key"),
    *("request_key", "init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load", "reboot", "swapon"),
    *("swapoff", "quotactl", "quotactl_fd", "acct", "syslog", "sethostname", "setdomainname", "settimeofday", "clock_settime"),
    *("clock_adjtime", "adjtimex", "stime", "ioperm", "iopl", "modify_ldt", "open_by_handle_at", "fanotify_init", "vhangup"),
    *("nfsservctl", "lookup_dcookie", "personality", "setpriority", "ioprio_set", "sched_setaffinity", "sched_setscheduler"),
    *("sched_setattr", "sched_setparam", "migrate_pages", "move_pages", "memfd_secret", "setuid", "setgid", "setgroups"),
    *("setresuid", "setresgid", "setreuid", "setregid", "capset", "msgget", "semget", "shmget", "mq_open"),
)


_given_filter: list[bytes] = []


def use_filter(program: bytes) -> None:
    """Take a compiled ``worker_filter`` over, so that this process need not load the compiler."""
    _given_filter[:] = [program]


@functools.cache
def worker_filter() -> bytes:
    """The system call filter of a job; compiled once a process."""
    refused: list[dict[str, object]] = [{"names": list(_REFUSED), "action": "SCMP_ACT_ERRNO"}]
    # A thread is wanted, a process or a namespace isn't; libc falls back from clone3, whose arguments can't be seen here.
    refused.append({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38})
    thread = {"index": 0, "value": 0x10000, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}
    refused.append({"names": ["clone"], "action": "SCMP_ACT_ERRNO", "args": [thread]})
    other = {"index": 0, "value": 0, "op": "SCMP_CMP_NE"}
    refused.append({"names": ["prlimit64"], "action": "SCMP_ACT_ERRNO", "args": [other]})
    return seccomp.compile_filter({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": refused})


def die_with_parent(parent_pid: int) -> None:
    """Be killed when the parent ends, also when it ended just before."""
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, name="PR_SET_PDEATHSIG")
    if os.getppid() != parent_pid:
        os._exit(1)


def forbid_new_privileges() -> None:
    """No exec of ours may gain anything."""
    prctl(_PR_SET_NO_NEW_PRIVS, 1, name="PR_SET_NO_NEW_PRIVS")


def sync_file_system(path: str | os.PathLike[str]) -> None:
    """Wait until everything written to the path's file system is on disk (syncfs(2))."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.syncfs(fd) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), os.fspath(path))
    finally:
        os.close(fd)
