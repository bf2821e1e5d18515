"""Thin wrappers around system calls that Python 3.11 lacks: each raises OSError naming the call; policy lives elsewhere.

The launcher and every monitor import this module, so it is kept free of ``typing``, ``enum`` and ``dataclasses``: together
they would add two megabytes to each monitor. libc is bound with ``PyDLL``: the callers are single-threaded and their calls
short, so giving up the interpreter lock around each call would only cost time.
"""

from __future__ import annotations

import ctypes
import os

_libc = ctypes.PyDLL(None, use_errno=True)
_get_errno = ctypes.get_errno
_set_errno = ctypes.set_errno

_syscall = _libc.syscall
_syscall.restype = ctypes.c_long
_LONG = ctypes.c_long

# Calls added since Linux 5.1 have one number on every architecture (asm-generic/unistd.h).
NR_PIDFD_SEND_SIGNAL = 424
NR_OPEN_TREE = 428
NR_MOVE_MOUNT = 429
NR_FSOPEN = 430
NR_FSCONFIG = 431
NR_FSMOUNT = 432
NR_PIDFD_OPEN = 434
NR_CLONE3 = 435
NR_CLOSE_RANGE = 436
NR_OPENAT2 = 437
NR_MOUNT_SETATTR = 442

_MACHINE = os.uname().machine
_OLD_NUMBERS = {
    # machine: (pivot_root, keyctl, seccomp, bpf, capget, capset, rt_sigaction)
    "x86_64": (155, 250, 317, 321, 125, 126, 13),
    "aarch64": (41, 219, 277, 280, 90, 91, 134),
    "riscv64": (41, 219, 277, 280, 90, 91, 134),
    "ppc64le": (203, 271, 358, 361, 183, 184, 173),
    "s390x": (217, 280, 348, 351, 184, 185, 174),
}
NR_PIVOT_ROOT, NR_KEYCTL, NR_SECCOMP, NR_BPF, NR_CAPGET, NR_CAPSET, NR_RT_SIGACTION = _OLD_NUMBERS.get(_MACHINE, (0,) * 7)

AT_FDCWD = -100


def fail(call: str, subject: str | None = None) -> OSError:
    """The OSError for the last failed call; ``subject`` is the path or value it was about."""
    number = _get_errno()
    what = f"{call} {subject}" if subject else call
    return OSError(number, f"{what}: {os.strerror(number)}")


def invoke(number: int, call: str, subject: str | None, *arguments: object) -> int:
    """Make one raw system call; integers are passed as longs, ctypes values as they are."""
    if not number:
        raise OSError(38, f"{call}: not known for {_MACHINE}")
    converted = [_LONG(a) if isinstance(a, int) else a for a in arguments]
    result: int = _syscall(_LONG(number), *converted)
    if result < 0:
        raise fail(call, subject)
    return result


def libc_call(call: str, subject: str | None, *arguments: object) -> int:
    """Call a libc function that returns -1 on error."""
    result: int = getattr(_libc, call)(*arguments)
    if result < 0:
        raise fail(call, subject)
    return result


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10

_EAGAIN = 11
_RACE_RETRIES = 64


def openat2(dir_fd: int, path: str, flags: int, resolve: int, mode: int = 0) -> int:
    """openat2(2), close-on-exec. Retries when the kernel saw a rename race (EAGAIN), a bounded number of times."""
    how = _OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    encoded = os.fsencode(path)
    for _ in range(_RACE_RETRIES):
        result: int = _syscall(
            _LONG(NR_OPENAT2), _LONG(dir_fd), ctypes.c_char_p(encoded), ctypes.byref(how), _LONG(ctypes.sizeof(how))
        )
        if result >= 0:
            return result
        if _get_errno() != _EAGAIN:
            break
    raise fail("openat2", path)


def close_range(first: int, last: int = 0xFFFFFFFF, *, only_mark: bool = False) -> None:
    """close_range(2): close, or with ``only_mark`` set close-on-exec on, all descriptors from ``first`` to ``last``."""
    invoke(NR_CLOSE_RANGE, "close_range", None, first, last, 4 if only_mark else 0)


def prctl(option: int, argument: int = 0, third: int = 0, *, name: str) -> int:
    """prctl(2) with up to two integer arguments; ``name`` is for the message."""
    result: int = _libc.prctl(option, ctypes.c_ulong(argument), ctypes.c_ulong(third), ctypes.c_ulong(0), ctypes.c_ulong(0))
    if result < 0:
        raise fail("prctl", name)
    return result


def set_name(name: str) -> None:
    """Set what ``ps`` and ``/proc/<pid>/comm`` show for this process (15 bytes)."""
    if _libc.prctl(15, ctypes.c_char_p(name.encode()[:15]), 0, 0, 0) < 0:
        raise fail("prctl", "PR_SET_NAME")


def find_title_area() -> tuple[int, int]:
    """Where this process and its forks hold their command line: an address and a size (proc_pid_stat(5))."""
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    start, end = int(fields[45]), int(fields[46])
    return start, end - start


def write_title(area: tuple[int, int], words: list[str]) -> None:
    """Show other words as the command line; ``area`` is from ``find_title_area``, what doesn't fit is cut off."""
    start, size = area
    text = b"".join(word.encode("utf-8", "surrogateescape") + b"\0" for word in words)[: size - 1]
    ctypes.memset(start, 0, size)
    ctypes.memmove(start, text, len(text))


def set_not_dumpable() -> None:
    """Forbid other processes to look at this one through /proc or ptrace.

    A process that joins a container is visible there before it calls exec; without this, root of the container could open its
    memory, its descriptors or, through ``/proc/<pid>/exe``, the interpreter itself (CVE-2016-9962, CVE-2019-5736).
    """
    prctl(4, 0, name="PR_SET_DUMPABLE")


def set_child_subreaper() -> None:
    """PR_SET_CHILD_SUBREAPER: orphans among this process's descendants become its children rather than those of process 1."""
    prctl(36, 1, name="PR_SET_CHILD_SUBREAPER")


def set_no_new_privileges() -> None:
    """PR_SET_NO_NEW_PRIVS: exec never gains privileges again, for this process and its children."""
    prctl(38, 1, name="PR_SET_NO_NEW_PRIVS")


def set_keep_capabilities(keep: bool) -> None:
    """PR_SET_KEEPCAPS: whether permitted capabilities survive the change to another user."""
    prctl(8, int(keep), name="PR_SET_KEEPCAPS")


def join_session_keyring(name: str) -> None:
    """Give the process a new session keyring, so that it can't see its starter's keys. Kernels without keys are fine."""
    try:
        invoke(NR_KEYCTL, "keyctl", name, 1, ctypes.c_char_p(name.encode()))
    except OSError as error:
        if error.errno != 38:  # ENOSYS: a kernel without keys has nothing to hide
            raise


class _FilterProgram(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


SECCOMP_FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": 1,
    "SECCOMP_FILTER_FLAG_LOG": 2,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 4,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": 32,
}


def load_seccomp_filter(program: bytes, flags: int = 0) -> None:
    """seccomp(2) SECCOMP_SET_MODE_FILTER with a compiled program (an array of ``struct sock_filter``)."""
    buffer = ctypes.create_string_buffer(program, len(program))
    header = _FilterProgram(len(program) // 8, ctypes.cast(buffer, ctypes.c_void_p))
    invoke(NR_SECCOMP, "seccomp", None, 1, flags, ctypes.byref(header))


_SIGNAL_COUNT = 64
_LIBC_SIGNALS = (32, 33)
_SIG_DFL = ctypes.c_void_p(0)
_SIG_IGN = ctypes.c_void_p(1)
_libc.signal.restype = ctypes.c_void_p


def reset_signals() -> None:
    """Put every signal back to its default action and unblock all: Python ignores SIGPIPE and SIGXFSZ, children must not."""
    for number in range(1, _SIGNAL_COUNT + 1):
        _libc.signal(number, _SIG_DFL)  # SIGKILL and SIGSTOP refuse, which is right
    # libc keeps two signals to itself and refuses them, but what it started by posix_spawn(3) ignores them: ask the kernel.
    default = ctypes.create_string_buffer(32)  # struct sigaction of the kernel: SIG_DFL, no flags, no mask
    for number in _LIBC_SIGNALS:
        invoke(NR_RT_SIGACTION, "rt_sigaction", str(number), number, default, None, 8)
    empty = (ctypes.c_ulong * 16)()
    libc_call("sigprocmask", None, 2, ctypes.byref(empty), None)


def ignore_signal(number: int) -> None:
    """Ignore one signal."""
    _libc.signal(number, _SIG_IGN)


def default_signal(number: int) -> None:
    """Give one signal its default action."""
    _libc.signal(number, _SIG_DFL)


def set_host_name(name: str) -> None:
    """sethostname(2), in the calling process's UTS namespace."""
    encoded = name.encode()
    libc_call("sethostname", name, encoded, len(encoded))


def set_domain_name(name: str) -> None:
    """setdomainname(2), in the calling process's UTS namespace."""
    encoded = name.encode()
    libc_call("setdomainname", name, encoded, len(encoded))


def set_filesystem_ids(uid: int, gid: int) -> None:
    """setfsuid(2) and setfsgid(2): as whom the caller touches files. Leaving uid 0 takes capabilities for files away."""
    for call, number in (("setfsgid", gid), ("setfsuid", uid)):
        function = getattr(_libc, call)
        function(number)
        if function(-1) != number:  # they report nothing but the former id
            raise PermissionError(1, f"{call} {number}: not permitted")
