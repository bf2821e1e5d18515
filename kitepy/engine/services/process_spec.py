"""Writes the OCI runtime-spec 1.2 ``config.json`` of a container; pure: all that must be looked up comes in as arguments.

The defaults (mounts, devices, masked paths) are those that a container of Docker has, so that images behave alike.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kitepy.engine.model.container import ContainerRecord, MountKind, MountPoint
from kitepy.engine.model.container_config import HostConfig, Ulimit
from kitepy.engine.model.errors import InvalidParameter, Unsupported
from kitepy.engine.services.accounts import Account
from kitepy.engine.services.capability_sets import effective_capabilities
from kitepy.engine.services.remapping import Remapping
from kitepy.engine.services.security_options import NO_DEFAULTS, SecurityDefaults, parse_security_options

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CPU_PERIOD_US = 100_000

RLIMITS = {
    "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio", "rttime",
    "sigpending", "stack", "as",
}  # fmt: skip
NO_BLOCK_LIMITS: Mapping[str, Any] = {}
_UNLIMITED = 2**64 - 1
_TTY_GROUP = 5
_IPC_SYSCTLS = ("kernel.msg", "kernel.sem", "kernel.shm", "fs.mqueue.")


@dataclass(frozen=True)
class HostDevice:
    """A device node of the host that a container gets."""

    path: str
    """Where the container sees it."""
    source: str
    kind: str
    """``c`` or ``b``."""
    major: int
    minor: int
    mode: int
    uid: int
    gid: int
    access: str = "rwm"


@dataclass(frozen=True)
class Surroundings:
    """What the specification needs beside the container's record."""

    rootfs: Path
    """Where the root file system gets mounted; inside the bundle."""
    files: Path
    """Directory with ``hosts``, ``hostname`` and ``resolv.conf``."""
    account: Account
    hostname: str
    own_network: bool
    """False with the host's network: its /sys is then visible and its sysctls are out of reach."""
    devices: tuple[HostDevice, ...] = ()
    block_limits: Mapping[str, Any] = field(default_factory=dict)
    """Limits of single block devices, as the document has them."""
    security: SecurityDefaults = NO_DEFAULTS
    bind_devices: bool = False
    """Whether devices have to be mounted, because a user namespace can't make nodes."""
    namespace_paths: Mapping[str, str] = field(default_factory=dict)
    """Paths of namespaces to join, by OCI type (``pid``, ``ipc``, ``uts``)."""
    remapping: Remapping | None = None
    """The container's own user namespace, if it gets one."""
    user_namespace_path: str = ""
    """That of another container, whose namespaces are shared."""
    host_queues: bool = True
    """Whether the host shows its message queues in /dev/mqueue."""
    last_group: int = 65_535
    """The highest group id that can be used in mount options."""
    sources: Mapping[str, str] = field(default_factory=dict)
    """What of the host is behind each mount point, by destination; the point's own source unless it is told here."""
    linked: Sequence[str] = ()
    """Environment variables that tell of linked containers."""


def cgroup_path(parent: str, container_id: str) -> str:
    """The container's control group: below ``--cgroup-parent``, which can't leave the hierarchy, or the engine's own group."""
    if not parent:
        return f"/kitepy/{container_id}"
    return posixpath.join(posixpath.normpath("/" + parent.lstrip("/")), container_id)


def build_environment(variables: Iterable[str], *, hostname: str, home: str, terminal: bool) -> list[str]:
    """Defaults first, then the image's and the user's variables; a bare name takes a variable away."""
    values: dict[str, str] = {"PATH": DEFAULT_PATH, "HOSTNAME": hostname}
    if terminal:
        values["TERM"] = "xterm"
    for variable in variables:
        name, equals, value = variable.partition("=")
        if equals:
            values[name] = value
        else:
            values.pop(name, None)
    if not values.get("HOME"):
        values["HOME"] = home
    return [f"{name}={value}" for name, value in values.items()]


def build_spec(record: ContainerRecord, around: Surroundings) -> dict[str, Any]:
    """The whole document."""
    host = record.host_config
    privileged = host.privileged
    spec: dict[str, Any] = {
        "ociVersion": "1.2.0",
        "process": build_process(
            host,
            argv=record.argv,
            env=build_environment(
                (*around.linked, *(record.config.env or ())),
                hostname=around.hostname,
                home=around.account.home,
                terminal=record.config.tty,
            ),
            cwd=record.config.working_dir or "/",
            account=around.account,
            terminal=record.config.tty,
            console_size=host.console_size,
            defaults=around.security,
        ),
        "root": {"path": str(around.rootfs), "readonly": host.readonly_rootfs},
        "mounts": _mounts(record, around),
        "annotations": dict(host.annotations or {}),
        "linux": {
            "cgroupsPath": cgroup_path(host.cgroup_parent, record.id),
            "namespaces": _namespaces(host, around),
            "devices": [] if around.bind_devices else [_device_document(device) for device in around.devices],
            "resources": build_resources(host, around.devices, around.block_limits),
            "maskedPaths": [] if privileged else list(host.masked_paths or ()),
            "readonlyPaths": [] if privileged else list(host.readonly_paths or ()),
            "rootfsPropagation": _root_propagation(record.mounts),
            "sysctl": _sysctls(host, around),
        },
    }
    if around.remapping is not None:
        spec["linux"] |= around.remapping.linux_document()
    if host.uts_mode != "host" and "uts" not in around.namespace_paths:
        spec["hostname"] = around.hostname
        if record.config.domainname:
            spec["domainname"] = record.config.domainname
    return spec


def build_process(
    host: HostConfig,
    *,
    argv: Sequence[str],
    env: Sequence[str],
    cwd: str,
    account: Account,
    terminal: bool,
    console_size: tuple[int, int] | None,
    privileged: bool | None = None,
    defaults: SecurityDefaults = NO_DEFAULTS,
) -> dict[str, Any]:
    """The ``process`` object, for process 1 and for an exec alike; ``console_size`` is rows, columns."""
    security = parse_security_options(host.security_opt or ())
    no_new_privileges = security.no_new_privileges
    capabilities = list(effective_capabilities(host.cap_add or (), host.cap_drop or (), host.privileged or bool(privileged)))
    # A process that isn't root gets no effective capabilities at exec unless they are ambient: as with Docker, only the
    # bounding set stays.
    held = capabilities if account.uid == 0 else []
    process: dict[str, Any] = {
        "terminal": terminal,
        "user": {"uid": account.uid, "gid": account.gid, "additionalGids": [account.gid, *account.additional_gids]},
        "args": list(argv),
        "env": list(env),
        "cwd": cwd,
        "capabilities": {"bounding": capabilities, "effective": held, "permitted": held, "inheritable": [], "ambient": []},
        "noNewPrivileges": defaults.no_new_privileges if no_new_privileges is None else no_new_privileges,
        "rlimits": [_rlimit(limit) for limit in host.ulimits or ()],
        "oomScoreAdj": host.oom_score_adj,
    }
    if profile := defaults.apparmor_profile_for(security, privileged=host.privileged or bool(privileged)):
        process["apparmorProfile"] = profile
    if terminal and console_size and all(console_size):
        process["consoleSize"] = {"height": console_size[0], "width": console_size[1]}
    return process


def _rlimit(limit: Ulimit) -> dict[str, Any]:
    if limit.name not in RLIMITS:
        raise InvalidParameter(f"invalid ulimit type: {limit.name}")
    return {
        "type": f"RLIMIT_{limit.name.upper()}",
        "hard": _UNLIMITED if limit.hard == -1 else limit.hard,
        "soft": _UNLIMITED if limit.soft == -1 else limit.soft,
    }


def _namespaces(host: HostConfig, around: Surroundings) -> list[dict[str, str]]:
    wanted = [{"type": "mount"}]
    if around.own_network:
        wanted.append({"type": "network"})
    for kind, mode in (("uts", host.uts_mode), ("pid", host.pid_mode), ("ipc", host.ipc_mode)):
        if kind in around.namespace_paths:
            wanted.append({"type": kind, "path": around.namespace_paths[kind]})
        elif mode != "host":
            wanted.append({"type": kind})
    if host.cgroupns_mode != "host":
        wanted.append({"type": "cgroup"})
    if around.remapping is not None:
        path = around.user_namespace_path
        wanted.append({"type": "user", "path": path} if path else {"type": "user"})
    return wanted


def _mounts(record: ContainerRecord, around: Surroundings) -> list[dict[str, Any]]:
    host = record.host_config
    sys_access = "rw" if host.privileged else "ro"
    terminals = ["newinstance", "ptmxmode=0666", "mode=0620"]
    if around.last_group >= _TTY_GROUP:
        terminals.append(f"gid={_TTY_GROUP}")
    mapped = ("idmap",) if around.remapping is not None else ()
    proc = _mount("/proc", "proc", "proc", "nosuid", "noexec", "nodev")
    if host.pid_mode == "host" and around.bind_devices:
        # Root of a user namespace may mount /proc only for a PID namespace that belongs to it: the host's own is shown.
        proc = _mount("/proc", "bind", "/proc", "rbind", "rprivate", "nosuid", "noexec", "nodev")
    mounts = [
        proc,
        _mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        _mount("/dev/pts", "devpts", "devpts", "nosuid", "noexec", *terminals),
        _mount("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", sys_access),
        _mount("/sys/fs/cgroup", "cgroup", "cgroup", sys_access, "nosuid", "noexec", "nodev"),
    ]
    if host.ipc_mode == "host" and around.bind_devices:
        # The queues of the host's IPC namespace can't be mounted anew in a user namespace.
        if around.host_queues:
            mounts.append(_mount("/dev/mqueue", "bind", "/dev/mqueue", "rbind", "rprivate", "nosuid", "noexec", "nodev"))
    else:
        mounts.append(_mount("/dev/mqueue", "mqueue", "mqueue", "nosuid", "noexec", "nodev"))
    if around.bind_devices:
        mounts += [
            _mount(device.path, "bind", device.source, "bind", "rprivate", "nosuid", "noexec") for device in around.devices
        ]
    taken = {point.destination for point in record.mounts}
    if "ipc" in around.namespace_paths:
        # The memory that goes with the shared namespace: that of the container it belongs to.
        process = posixpath.dirname(around.namespace_paths["ipc"])
        mounts.append(_mount("/dev/shm", "bind", "/dev/shm", "bind", "rprivate", f"inside={process}/mnt"))
    elif host.ipc_mode == "host":
        mounts.append(_mount("/dev/shm", "bind", "/dev/shm", "rbind", "rprivate"))
    elif host.ipc_mode != "none":
        mounts.append(_mount("/dev/shm", "tmpfs", "shm", "nosuid", "noexec", "nodev", "mode=1777", f"size={host.shm_size}"))
    for name in ("resolv.conf", "hostname", "hosts"):
        destination = f"/etc/{name}"
        access = ("ro",) if host.readonly_rootfs else ()
        mounts.append(_mount(destination, "bind", str(around.files / name), "rbind", "rprivate", *access, *mapped))
    mounts = [mount for mount in mounts if mount["destination"] not in taken]
    mounts += [_user_mount(point, around) for point in record.mounts]
    return mounts


def _mount(destination: str, kind: str, source: str, *options: str) -> dict[str, Any]:
    return {"destination": destination, "type": kind, "source": source, "options": list(options)}


def _user_mount(point: MountPoint, around: Surroundings) -> dict[str, Any]:
    if point.kind is MountKind.TMPFS:
        return _mount(point.destination, "tmpfs", "tmpfs", "noexec", "nosuid", "nodev", *point.tmpfs_options)
    source = around.sources.get(point.destination, point.source)
    propagation = point.propagation or "rprivate"
    bind = "bind" if point.non_recursive else "rbind"
    options = [bind, propagation]
    if point.read_only:
        options.append("ro" if point.flat_read_only or point.non_recursive else "rro")
    if point.subpath:
        options.append(f"part={point.subpath}")
    if around.remapping is not None and (point.kind is MountKind.VOLUME or point.engine_owned):
        options.append("idmap")
    return _mount(point.destination, "bind", source, *options)


def _root_propagation(points: Iterable[MountPoint]) -> str:
    """A mount can only be shared with, or follow, the host when the root isn't private."""
    wanted = {point.propagation.removeprefix("r") for point in points}
    return "rshared" if "shared" in wanted else "rslave" if "slave" in wanted else "rprivate"


def _sysctls(host: HostConfig, around: Surroundings) -> dict[str, str]:
    namespaced = ("net.", "kernel.domainname", *_IPC_SYSCTLS)
    for name in host.sysctls or ():
        dotted = name.replace("/", ".")
        if not dotted.startswith(namespaced):
            raise InvalidParameter(f"sysctl '{name}' is not allowed: it is not in a separate namespace")
        if dotted.startswith("net.") and not around.own_network:
            raise InvalidParameter(f"sysctl '{name}' is not allowed when the network of the host is used")
        if dotted.startswith(_IPC_SYSCTLS) and host.ipc_mode == "host":
            raise InvalidParameter(f"sysctl '{name}' is not allowed when the IPC namespace of the host is used")
        if dotted == "kernel.domainname" and host.uts_mode == "host":
            raise InvalidParameter(f"sysctl '{name}' is not allowed when the UTS namespace of the host is used")
    return dict(host.sysctls or {})


def _device_document(device: HostDevice) -> dict[str, Any]:
    return {
        "path": device.path,
        "type": device.kind,
        "major": device.major,
        "minor": device.minor,
        "fileMode": device.mode,
        "uid": device.uid,
        "gid": device.gid,
    }


_DEFAULT_DEVICE_RULES = (
    ("c", None, None, "m"),
    ("b", None, None, "m"),
    ("c", 1, 3, "rwm"),  # null
    ("c", 1, 5, "rwm"),  # zero
    ("c", 1, 7, "rwm"),  # full
    ("c", 1, 8, "rwm"),  # random
    ("c", 1, 9, "rwm"),  # urandom
    ("c", 5, 0, "rwm"),  # tty
    ("c", 5, 1, "rwm"),  # console
    ("c", 5, 2, "rwm"),  # ptmx
    ("c", 10, 200, "rwm"),  # tun: of use only with CAP_NET_ADMIN
    ("c", 136, None, "rwm"),  # pseudo terminals
)


def build_resources(
    host: HostConfig, devices: Iterable[HostDevice] = (), block_limits: Mapping[str, Any] = NO_BLOCK_LIMITS
) -> dict[str, Any]:
    """The ``linux.resources`` object: limits that were asked for, and the device rules."""
    resources: dict[str, Any] = {"devices": _device_rules(host, devices)}
    memory: dict[str, Any] = {}
    if host.memory:
        memory["limit"] = host.memory
    if host.memory_swap:
        memory["swap"] = host.memory_swap
    if host.memory_reservation:
        memory["reservation"] = host.memory_reservation
    if host.memory_swappiness is not None and host.memory_swappiness >= 0:
        memory["swappiness"] = host.memory_swappiness
    if host.kernel_memory_tcp:
        memory["kernelTCP"] = host.kernel_memory_tcp
    if host.oom_kill_disable:
        memory["disableOOMKiller"] = True
    if memory:
        resources["memory"] = memory
    cpu: dict[str, Any] = {}
    if host.cpu_shares:
        cpu["shares"] = host.cpu_shares
    if host.nano_cpus:
        cpu["period"] = CPU_PERIOD_US
        cpu["quota"] = host.nano_cpus * CPU_PERIOD_US // 1_000_000_000
    if host.cpu_period:
        cpu["period"] = host.cpu_period
    if host.cpu_quota:
        cpu["quota"] = host.cpu_quota
    if host.cpu_realtime_period:
        cpu["realtimePeriod"] = host.cpu_realtime_period
    if host.cpu_realtime_runtime:
        cpu["realtimeRuntime"] = host.cpu_realtime_runtime
    if host.cpuset_cpus:
        cpu["cpus"] = host.cpuset_cpus
    if host.cpuset_mems:
        cpu["mems"] = host.cpuset_mems
    if cpu:
        resources["cpu"] = cpu
    if host.pids_limit is not None and host.pids_limit > 0:
        resources["pids"] = {"limit": host.pids_limit}
    block_io: dict[str, Any] = dict(block_limits)
    if host.blkio_weight:
        block_io["weight"] = host.blkio_weight
    if block_io:
        resources["blockIO"] = block_io
    return resources


def _device_rules(host: HostConfig, devices: Iterable[HostDevice]) -> list[dict[str, Any]]:
    if host.privileged:
        return [{"allow": True, "access": "rwm"}]
    rules: list[dict[str, Any]] = [{"allow": False, "access": "rwm"}]
    rules += [_device_rule(*rule) for rule in _DEFAULT_DEVICE_RULES]
    rules += [_device_rule(device.kind, device.major, device.minor, device.access) for device in devices]
    rules += [_parse_device_rule(text) for text in host.device_cgroup_rules or ()]
    return rules


def _device_rule(kind: str, major: int | None, minor: int | None, access: str) -> dict[str, Any]:
    rule: dict[str, Any] = {"allow": True, "type": kind, "access": access}
    if major is not None:
        rule["major"] = major
    if minor is not None:
        rule["minor"] = minor
    return rule


def _parse_device_rule(text: str) -> dict[str, Any]:
    """``c 89:* rwm``, as ``--device-cgroup-rule`` takes it."""
    words = text.split()
    numbers = words[1].split(":") if len(words) == 3 else []
    valid = (
        len(numbers) == 2
        and words[0] in ("a", "b", "c")
        and all(number == "*" or number.isdecimal() for number in numbers)
        and 0 < len(words[2]) <= 3
        and set(words[2]) <= set("rwm")
    )
    if not valid:
        raise InvalidParameter(f"invalid device cgroup rule format: '{text}'")
    if words[0] == "a":
        raise Unsupported(f"The device rule '{text}' would allow every device: use --privileged if that is meant")
    major, minor = (None if number == "*" else int(number) for number in numbers)
    return _device_rule(words[0], major, minor, words[2])
