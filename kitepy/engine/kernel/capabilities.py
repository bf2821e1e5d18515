"""Capability names, and giving the calling process exactly the five sets that an OCI document lists."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator

from kitepy.engine.kernel.syscalls import NR_CAPGET, NR_CAPSET, invoke, prctl, set_filesystem_ids

NAMES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
)
"""Names by number (linux/capability.h)."""

NUMBERS = {name: number for number, name in enumerate(NAMES)}

DEFAULT = (
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
)
"""What a container has unless told otherwise; the same set as Docker's."""

_VERSION_3 = 0x20080522
_PR_CAPBSET_READ = 23
_PR_CAPBSET_DROP = 24
_PR_CAP_AMBIENT = 47
_AMBIENT_RAISE = 2
_AMBIENT_CLEAR_ALL = 4


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def mask(names: list[str]) -> int:
    """The bits of the named capabilities; a name unknown here raises KeyError."""
    bits = 0
    for name in names:
        bits |= 1 << NUMBERS[name]
    return bits


def last_capability() -> int:
    """The highest capability number the running kernel knows."""
    with open("/proc/sys/kernel/cap_last_cap", encoding="ascii") as file:
        return int(file.read())


def own_permitted() -> int:
    """The bits of the calling process's permitted set (capget(2))."""
    header = _Header(_VERSION_3, 0)
    sets = (_Sets * 2)()
    invoke(NR_CAPGET, "capget", None, ctypes.byref(header), ctypes.byref(sets))
    return int(sets[0].permitted | sets[1].permitted << 32)


def limit_bounding(keep: int, last: int) -> None:
    """Drop every capability outside ``keep`` from the bounding set; exec can never bring it back."""
    for number in range(last + 1):
        if not keep >> number & 1 and prctl(_PR_CAPBSET_READ, number, name=f"PR_CAPBSET_READ {number}"):
            prctl(_PR_CAPBSET_DROP, number, name=f"PR_CAPBSET_DROP {number}")


def set_sets(effective: int, permitted: int, inheritable: int) -> None:
    """capset(2) on the calling process."""
    header = _Header(_VERSION_3, 0)
    sets = (_Sets * 2)()
    for half in (0, 1):
        shift = 32 * half
        sets[half].effective = effective >> shift & 0xFFFFFFFF
        sets[half].permitted = permitted >> shift & 0xFFFFFFFF
        sets[half].inheritable = inheritable >> shift & 0xFFFFFFFF
    invoke(NR_CAPSET, "capset", None, ctypes.byref(header), ctypes.byref(sets))


@contextlib.contextmanager
def touching_files_as(uid: int, gid: int) -> Iterator[None]:
    """Touch files by these ids during the block, with root's capabilities; for single-threaded callers that are root."""
    permitted = own_permitted()
    set_filesystem_ids(uid, gid)
    try:
        set_sets(permitted, permitted, 0)
        yield
    finally:
        set_filesystem_ids(0, 0)


def set_ambient(bits: int) -> None:
    """Make the ambient set exactly ``bits`` (each must be permitted and inheritable)."""
    prctl(_PR_CAP_AMBIENT, _AMBIENT_CLEAR_ALL, name="PR_CAP_AMBIENT_CLEAR_ALL")
    for number in range(len(NAMES)):
        if bits >> number & 1:
            prctl(_PR_CAP_AMBIENT, _AMBIENT_RAISE, number, name=f"PR_CAP_AMBIENT_RAISE {number}")
