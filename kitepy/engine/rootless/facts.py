"""What the checks of this machine decide from, as one value; ``probes`` fills it in, ``checks`` reads it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum


class Node(Enum):
    """A device's node under /dev."""

    USABLE = "usable"
    DENIED = "denied"
    """It is there, but this user may not open it for reading and writing, or the driver behind it is missing."""
    MISSING = "missing"


@dataclass(frozen=True)
class Tool:
    """A program that is installed."""

    path: str
    privileged: bool = True
    """Setuid root, or with file capabilities; asked of newuidmap and newgidmap alone."""
    version: str = ""


@dataclass(frozen=True)
class NamespaceProbe:
    """How far a process got that made the namespaces of an engine.

    Each text is the kernel's or a tool's complaint, empty when it worked. A step that was not reached, because an earlier one
    failed, is None.
    """

    user: str | None = ""
    ids: str | None = ""
    """newuidmap and newgidmap; when they fail the steps below still run, with the user's own id alone."""
    others: str | None = ""
    """Mount, network, PID, IPC and UTS namespaces."""
    proc: str | None = ""
    """A fresh /proc."""
    overlay: str | None = ""
    bridge: str | None = ""
    rules: str | None = ""
    rules_library: bool = True
    """Whether libnftables could be loaded."""


@dataclass(frozen=True)
class CgroupFacts:
    """The control groups of this machine."""

    version: int = 2
    """0 when none are mounted."""
    controllers: frozenset[str] = frozenset()
    """With version 2: what this user may hand on. With version 1: what is mounted."""


@dataclass(frozen=True)
class RuntimeDirectory:
    """XDG_RUNTIME_DIR and what is the matter with it."""

    path: str = ""
    """Empty when the variable is not set and the usual place does not exist."""
    complaint: str = ""
    persists: bool | None = None
    """Whether systemd-logind keeps the user's processes after the last log-out (lingering); None without logind."""


@dataclass(frozen=True)
class IdFile:
    """/etc/subuid or /etc/subgid."""

    text: str | None = ""
    """None when there is no such file."""


@dataclass(frozen=True)
class Facts:
    """This machine, as far as an engine of this user cares. The defaults are those of a machine without any problem."""

    user: str
    uid: int
    gids: frozenset[int] = frozenset()
    in_passwd: bool = True
    """Whether /etc/passwd has the user: usermod(8) knows no others."""
    python: str = "/usr/bin/python3"
    """The program that the kernel sees as the engine's, links resolved."""
    package_tool: str = "apt"
    """``apt``, ``dnf``, ``pacman``, ``zypper`` or empty."""
    systemd: bool = True
    kernel: tuple[int, int] = (6, 1)
    max_user_namespaces: int | None = None
    userns_clone: int | None = None
    """Debian's kernel.unprivileged_userns_clone."""
    apparmor_restricts: bool = False
    """Ubuntu's kernel.apparmor_restrict_unprivileged_userns."""
    namespaces: NamespaceProbe = NamespaceProbe()
    newuidmap: Tool | None = None
    newgidmap: Tool | None = None
    subuid: IdFile = IdFile()
    subgid: IdFile = IdFile()
    pasta: Tool | None = None
    slirp: Tool | None = None
    tun: Node = Node.USABLE
    fuse_overlay: Tool | None = None
    fuse: Node = Node.USABLE
    cgroups: CgroupFacts = CgroupFacts()
    ping_groups: tuple[int, int] = (0, 2147483647)
    first_user_port: int = 1024
    runtime_directory: RuntimeDirectory = field(default_factory=RuntimeDirectory)
    data_root: str = ""
    file_system: str = "ext4"
    """Type of the file system that holds the data root."""
    data_root_complaint: str = ""
    """Why nothing can be written there; empty when it can."""
    user_xattrs: bool = True
    free_bytes: int = 100 << 30
