"""Which capabilities a container gets, from ``--cap-add``, ``--cap-drop`` and ``--privileged``; pure."""

from __future__ import annotations

from collections.abc import Iterable, Set

from kitepy.engine.model.errors import InvalidParameter

ALL_CAPABILITIES = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID", "CAP_SETUID",
    "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN", "CAP_NET_RAW",
    "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD",
    "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL", "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG",
    "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
)  # fmt: skip
"""By number, as in capabilities(7)."""

DEFAULT_CAPABILITIES = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID", "CAP_SETUID", "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SYS_CHROOT", "CAP_MKNOD", "CAP_AUDIT_WRITE", "CAP_SETFCAP",
)  # fmt: skip
"""The set that Docker gives to a container by default."""


def _normalised(names: Iterable[str], field: str = "CapAdd") -> list[str]:
    found = []
    for name in names:
        upper = name.upper()
        if upper != "ALL" and not upper.startswith("CAP_"):
            upper = f"CAP_{upper}"
        if upper != "ALL" and upper not in ALL_CAPABILITIES:
            raise InvalidParameter(f'invalid {field}: unknown capability: "{upper}"')
        found.append(upper)
    return found


def lacking_capabilities(permitted: int, last: int) -> frozenset[str]:
    """The names that a process with this permitted set can't hand on, or that the kernel (up to number ``last``) doesn't know."""
    return frozenset(name for number, name in enumerate(ALL_CAPABILITIES) if number > last or not permitted >> number & 1)


def check_available(added: Iterable[str], lacking: Set[str]) -> None:
    """Refuse a capability that is asked for by name and can't be given; raises InvalidParameter, worded as dockerd does.

    ``ALL`` and ``--privileged`` stand for all that there are, as with Docker.
    """
    for name in _normalised(added):
        if name in lacking:
            raise InvalidParameter(
                f'invalid CapAdd: capability not supported by kernel or not available in the current environment: "{name}"'
            )


def effective_capabilities(added: Iterable[str], dropped: Iterable[str], privileged: bool) -> tuple[str, ...]:
    """The capability names in kernel order; raises InvalidParameter for names that don't exist."""
    add, drop = _normalised(added), _normalised(dropped, "CapDrop")
    if privileged:
        return ALL_CAPABILITIES
    if "ALL" in add:
        chosen = set(ALL_CAPABILITIES) - set(drop)
    elif "ALL" in drop:
        chosen = set(add)
    else:
        chosen = (set(DEFAULT_CAPABILITIES) - set(drop)) | set(add)
    return tuple(name for name in ALL_CAPABILITIES if name in chosen)
