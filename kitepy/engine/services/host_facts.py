"""What the engine finds out about the machine it runs on, read from /proc, /sys and /etc; decides nothing."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_GO_ARCHITECTURES = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "armv7l": "arm",
    "armv6l": "arm",
    "i686": "386",
    "i386": "386",
    "ppc64le": "ppc64le",
    "s390x": "s390x",
    "riscv64": "riscv64",
    "loongarch64": "loong64",
}


@dataclass(frozen=True)
class HostFacts:
    """The machine, as ``/info`` and ``/version`` describe it."""

    name: str
    kernel_version: str
    machine: str
    operating_system: str
    os_version: str
    cpus: int
    memory_bytes: int
    cgroup_version: int
    controllers: frozenset[str]
    swap_accounting: bool
    limits_problem: str
    """Why no limit can be set at all; empty when control groups can be used."""
    ipv4_forwarding: bool
    file_system: str
    """Type of the file system that holds the data root, as ``docker info`` names it."""

    @property
    def architecture(self) -> str:
        """The architecture in Docker's (Go's) words, e.g. ``amd64``."""
        return _GO_ARCHITECTURES.get(self.machine, self.machine)


def read_host_facts(
    data_root: Path, root: Path = Path("/"), *, controllers: frozenset[str] | None = None, limits_problem: str = ""
) -> HostFacts:
    """Look around below ``root``; what can't be read is left empty or zero.

    ``controllers`` are those that the engine may use, where it may not use all.
    """
    release = _read_release(root)
    version, found, swap_accounting = _read_cgroups(root)
    if controllers is None:
        controllers = found
    swap_accounting = swap_accounting and "memory" in controllers
    return HostFacts(
        name=platform.node(),
        kernel_version=os.uname().release,
        machine=os.uname().machine,
        operating_system=release.get("PRETTY_NAME") or release.get("NAME") or "Linux",
        os_version=release.get("VERSION_ID", ""),
        cpus=len(os.sched_getaffinity(0)),
        memory_bytes=_read_memory(root),
        cgroup_version=version,
        controllers=controllers,
        swap_accounting=swap_accounting,
        limits_problem=limits_problem,
        ipv4_forwarding=_read_text(root / "proc/sys/net/ipv4/ip_forward").strip() == "1",
        file_system=_file_system_of(data_root, _read_text(root / "proc/self/mountinfo")),
    )


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _read_release(root: Path) -> Mapping[str, str]:
    """os-release(5): the file in /etc, else the one in /usr/lib."""
    text = _read_text(root / "etc/os-release") or _read_text(root / "usr/lib/os-release")
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return {name.strip(): value.strip().strip("\"'") for name, _, value in pairs}


def _read_memory(root: Path) -> int:
    for line in _read_text(root / "proc/meminfo").splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return 0


def _read_cgroups(root: Path) -> tuple[int, frozenset[str], bool]:
    """Version, controllers and whether swap is counted (cgroups(7))."""
    mount = root / "sys/fs/cgroup"
    unified = mount / "cgroup.controllers"
    if unified.exists():
        controllers = frozenset(_read_text(unified).split())
        return 2, controllers, "memory" in controllers
    enabled = (line.split() for line in _read_text(root / "proc/cgroups").splitlines() if not line.startswith("#"))
    controllers = frozenset(line[0] for line in enabled if len(line) == 4 and line[3] == "1" and (mount / line[0]).is_dir())
    return 1, controllers, (mount / "memory/memory.memsw.limit_in_bytes").exists()


_FILE_SYSTEMS = {"ext2": "extfs", "ext3": "extfs", "ext4": "extfs"}


def _file_system_of(path: Path, mountinfo: str) -> str:
    """The type of the mount that holds a path: the longest mount point above it, the last of those (proc_pid_mountinfo(5))."""
    best, kind = "", ""
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields, types = before.split(), after.split()
        if len(fields) < 5 or not types:
            continue
        mount_point = fields[4].replace("\\040", " ")
        if len(mount_point) >= len(best) and path.is_relative_to(mount_point):
            best, kind = mount_point, types[0]
    return _FILE_SYSTEMS.get(kind, kind)
