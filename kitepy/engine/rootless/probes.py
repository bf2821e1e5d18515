"""Finds the facts of this machine that ``checks`` decides from: reads files, and tries things out in ``namespace_probe``."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from kitepy.engine.rootless.facts import CgroupFacts, Facts, IdFile, Node, RuntimeDirectory, Tool
from kitepy.engine.rootless.namespace_probe import probe_namespaces

_TOOL_PATH = "/usr/bin:/bin:/usr/sbin:/sbin:/usr/local/bin"
_VERSION_TIMEOUT_S = 5.0
_PACKAGE_TOOLS = {"apt": "apt-get", "dnf": "dnf", "pacman": "pacman", "zypper": "zypper"}
_CGROUPS = Path("/sys/fs/cgroup")


def read_facts(data_root: Path, environ: Mapping[str, str]) -> Facts:
    """Look around and try things out as the user of this process; leaves nothing behind. For a single-threaded process."""
    uid = os.getuid()
    user, in_passwd = _user(uid)
    complaint, place = _writable(data_root)
    with tempfile.TemporaryDirectory(prefix=".kitepy-check-", dir=place, ignore_cleanup_errors=True) as scratch:
        xattrs = _takes_user_xattrs(scratch)
        namespaces = probe_namespaces(user, uid, Path(scratch))
    kernel = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return Facts(
        user=user,
        uid=uid,
        gids=frozenset({os.getgid(), *os.getgroups()}),
        in_passwd=in_passwd,
        python=os.path.realpath(sys.executable),
        package_tool=next((name for name, program in _PACKAGE_TOOLS.items() if _which(program, environ)), ""),
        systemd=os.path.isdir("/run/systemd/system"),
        kernel=(int(kernel[1]), int(kernel[2])) if kernel else (0, 0),
        max_user_namespaces=_sysctl("user/max_user_namespaces"),
        userns_clone=_sysctl("kernel/unprivileged_userns_clone"),
        apparmor_restricts=_sysctl("kernel/apparmor_restrict_unprivileged_userns") == 1,
        namespaces=namespaces,
        newuidmap=_id_tool("newuidmap", environ),
        newgidmap=_id_tool("newgidmap", environ),
        subuid=_id_file("/etc/subuid"),
        subgid=_id_file("/etc/subgid"),
        pasta=_versioned("pasta", environ),
        slirp=_versioned("slirp4netns", environ),
        tun=_node("/dev/net/tun"),
        fuse_overlay=_versioned("fuse-overlayfs", environ),
        fuse=_node("/dev/fuse"),
        cgroups=_cgroups(uid),
        ping_groups=_ping_groups(),
        first_user_port=_sysctl("net/ipv4/ip_unprivileged_port_start") or 0,
        runtime_directory=_runtime_directory(user, uid, environ),
        data_root=str(data_root),
        file_system=_file_system(place),
        data_root_complaint=complaint,
        user_xattrs=xattrs,
        free_bytes=shutil.disk_usage(place).free,
    )


def _user(uid: int) -> tuple[str, bool]:
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid), False
    try:
        listed = any(line.startswith(f"{name}:") for line in Path("/etc/passwd").read_text(errors="replace").splitlines())
    except OSError:
        listed = False
    return name, listed


def _writable(data_root: Path) -> tuple[str, Path]:
    """What is wrong with the data root, and where to try things out: itself, else the next directory above that exists."""
    place = next((path for path in (data_root, *data_root.parents) if path.is_dir()), Path("/"))
    if os.access(place, os.W_OK | os.X_OK):
        return "", place
    return f"you may not write to {place}", Path(tempfile.gettempdir())


def _takes_user_xattrs(directory: str) -> bool:
    probe = Path(directory, "xattr")
    probe.touch()
    try:
        os.setxattr(probe, "user.kitepy", b"1")
    except OSError:
        return False
    return True


def _sysctl(name: str) -> int | None:
    try:
        return int(Path("/proc/sys", name).read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None


def _ping_groups() -> tuple[int, int]:
    try:
        first, last = Path("/proc/sys/net/ipv4/ping_group_range").read_text().split()
    except (OSError, ValueError):
        return (1, 0)
    return int(first), int(last)


def _which(program: str, environ: Mapping[str, str]) -> str | None:
    return shutil.which(program, path=f"{environ.get('PATH', '')}:{_TOOL_PATH}")


def _id_tool(name: str, environ: Mapping[str, str]) -> Tool | None:
    path = _which(name, environ)
    if path is None:
        return None
    status = os.stat(path)
    setuid = status.st_uid == 0 and bool(status.st_mode & stat.S_ISUID)
    try:
        capable = bool(os.getxattr(path, "security.capability"))
    except OSError:
        capable = False
    return Tool(path, privileged=setuid or capable)


def _versioned(name: str, environ: Mapping[str, str]) -> Tool | None:
    path = _which(name, environ)
    if path is None:
        return None
    try:
        done = subprocess.run(
            [path, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_VERSION_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return Tool(path)
    first = (done.stdout or done.stderr).strip().partition("\n")[0]
    version = re.sub(rf"^{name}\s+(version\s+)?", "", first)[:60]
    return Tool(path, version="" if version.startswith("unknown") else version)


def _id_file(path: str) -> IdFile:
    try:
        return IdFile(Path(path).read_text(errors="replace"))
    except FileNotFoundError:
        return IdFile(None)
    except OSError:
        return IdFile("")


def _node(path: str) -> Node:
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        return Node.MISSING
    except PermissionError:
        return Node.DENIED
    except OSError:
        return Node.MISSING  # ENODEV, ENXIO: a node without its driver
    return Node.USABLE


def _cgroups(uid: int) -> CgroupFacts:
    if (_CGROUPS / "cgroup.controllers").exists():
        return CgroupFacts(2, _delegated(uid))
    mounted = {path.name for path in _CGROUPS.iterdir()} if _CGROUPS.is_dir() else set()
    controllers = frozenset(part for name in mounted for part in name.split(","))
    return CgroupFacts(1 if controllers else 0, controllers)


def _delegated(uid: int) -> frozenset[str]:
    """What the user's manager may hand on, else what the group of this process may."""
    for directory in _candidates(uid):
        if os.access(directory / "cgroup.procs", os.W_OK) and os.access(directory, os.W_OK):
            with contextlib.suppress(OSError):
                return frozenset((directory / "cgroup.controllers").read_text().split())
    return frozenset()


def _candidates(uid: int) -> Iterator[Path]:
    if uid == 0:
        yield _CGROUPS
        return
    yield _CGROUPS / f"user.slice/user-{uid}.slice/user@{uid}.service"
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            if line.startswith("0::/"):
                yield _CGROUPS / line[4:]


def _runtime_directory(user: str, uid: int, environ: Mapping[str, str]) -> RuntimeDirectory:
    given = environ.get("XDG_RUNTIME_DIR", "")
    path = Path(given or f"/run/user/{uid}")
    logind = os.path.isdir("/run/systemd/system") and os.path.isdir("/run/systemd/users")
    persists = os.path.exists(f"/var/lib/systemd/linger/{user}") if logind else None
    try:
        status = path.stat()
    except OSError as error:
        return RuntimeDirectory(given, f"{given}: {error.strerror}" if given else "", persists)
    if status.st_uid != uid:
        owner = _name_of(status.st_uid)
        return RuntimeDirectory(given, f"{given} belongs to {owner}" if given else "", persists)
    return RuntimeDirectory(str(path), "", persists)


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def _file_system(place: Path) -> str:
    """Type of the file system at a path, from the longest mount point above it; proc_pid_mountinfo(5)."""
    best, kind = "", "unknown"
    resolved = str(place.resolve())
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        mount_point = before.split(" ")[4].replace("\\040", " ")
        inside = resolved == mount_point or resolved.startswith(mount_point.rstrip("/") + "/")
        if inside and len(mount_point) >= len(best):
            best, kind = mount_point, after.split(" ")[0]
    return kind
