"""What the engine tells about itself: version and info; the numbers of containers and images come from those who know."""

from __future__ import annotations

import os
import platform
import re
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kitepy
from kitepy.engine.model.launch import OverlayFlavour
from kitepy.engine.model.timestamps import format_time
from kitepy.engine.services.host_facts import HostFacts
from kitepy.engine.services.log_options import DRIVERS as LOG_DRIVERS

API_VERSION = "1.51"
MIN_API_VERSION = "1.24"
_RUNTIME_ALIASES = ("runc", "io.containerd.runc.v2")

_CREDENTIALS = re.compile(r"(?<=://)[^/\s]*@")


@dataclass(frozen=True)
class ContainerCounts:
    """How many containers there are, by what they do."""

    running: int = 0
    paused: int = 0
    stopped: int = 0


@dataclass(frozen=True)
class SystemSettings:
    """Choices of this engine that ``/info`` shows."""

    engine_id: str
    data_root: Path
    debug: bool = False
    labels: tuple[str, ...] = ()
    registry_mirrors: tuple[str, ...] = ()
    insecure_registries: tuple[str, ...] = ()
    live_restore: bool = False
    uses_rules: bool = True
    """Whether packet filter rules are set (``--iptables``)."""
    rootless: bool = False
    overlay: OverlayFlavour = OverlayFlavour.TRUSTED
    remapped: bool = False
    runtime_name: str = "kitepy"
    seccomp_profile: str = "builtin"
    no_new_privileges: bool = False
    apparmor: bool = False
    address_pools: tuple[tuple[str, int], ...] = ()
    """Base and size of each ``--default-address-pool``."""


@dataclass(frozen=True)
class SystemSources:
    """Where the changing numbers come from; called for each answer."""

    containers: Callable[[], ContainerCounts] = ContainerCounts
    images: Callable[[], int] = int
    event_listeners: Callable[[], int] = int
    warnings: Callable[[], Sequence[str]] = tuple


class SystemInfo:
    """Gives the documents of ``GET /version`` and ``GET /info``."""

    def __init__(
        self,
        facts: HostFacts,
        settings: SystemSettings,
        sources: SystemSources,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._facts = facts
        self._settings = settings
        self._sources = sources
        self._environ = os.environ if environ is None else environ
        self._version = _version_document(facts)

    def version(self) -> dict[str, Any]:
        """The document of ``GET /version``; the same each time."""
        return self._version

    def info(self) -> dict[str, Any]:
        """The document of ``GET /info`` with the numbers of now."""
        facts, settings, sources = self._facts, self._settings, self._sources
        counts = sources.containers()
        forwards = _reads_one(Path("/proc/sys/net/ipv4/ip_forward"), facts.ipv4_forwarding)
        forwarding_warnings = [] if forwards else ["WARNING: IPv4 forwarding is disabled"]
        return {
            "ID": settings.engine_id,
            "Containers": counts.running + counts.paused + counts.stopped,
            "ContainersRunning": counts.running,
            "ContainersPaused": counts.paused,
            "ContainersStopped": counts.stopped,
            "Images": sources.images(),
            "Driver": "fuse-overlayfs" if settings.overlay is OverlayFlavour.FUSE else "overlay2",
            "DriverStatus": _driver_status(settings.overlay, facts.file_system),
            "Plugins": {
                "Volume": ["local"],
                "Network": ["bridge", "host", "ipvlan", "macvlan", "null"],
                "Authorization": None,
                "Log": [driver for driver in LOG_DRIVERS if driver != "none"],
            },
            **_limits(facts),
            "IPv4Forwarding": forwards,
            "Debug": settings.debug,
            "NFd": _open_files(),
            "NGoroutines": threading.active_count(),
            "SystemTime": format_time(time.time_ns()),
            "LoggingDriver": "json-file",
            "CgroupDriver": "none" if facts.limits_problem else "cgroupfs",
            "CgroupVersion": str(facts.cgroup_version),
            "NEventsListener": sources.event_listeners(),
            "KernelVersion": facts.kernel_version,
            "OperatingSystem": facts.operating_system,
            "OSVersion": facts.os_version,
            "OSType": "linux",
            "Architecture": facts.machine,
            "IndexServerAddress": "https://index.docker.io/v1/",
            "RegistryConfig": _registry_config(settings),
            "NCPU": facts.cpus,
            "MemTotal": facts.memory_bytes,
            "GenericResources": None,
            "DockerRootDir": str(settings.data_root),
            "HttpProxy": self._proxy("http_proxy"),
            "HttpsProxy": self._proxy("https_proxy"),
            "NoProxy": self._proxy("no_proxy"),
            "Name": facts.name,
            "Labels": list(settings.labels),
            "ExperimentalBuild": False,
            "ServerVersion": kitepy.__version__,
            # Whichever of its names a client gives, there is one runtime.
            "Runtimes": {name: {"path": "kitepy-engine"} for name in (settings.runtime_name, *_RUNTIME_ALIASES)},
            "DefaultRuntime": settings.runtime_name,
            "Swarm": _NO_SWARM,
            "LiveRestoreEnabled": settings.live_restore,
            "Isolation": "",
            "InitBinary": "docker-init",
            "ContainerdCommit": {"ID": ""},
            "RuncCommit": {"ID": ""},
            "InitCommit": {"ID": ""},
            "SecurityOptions": self._security_options(),
            **_address_pools(settings),
            "CDISpecDirs": [],
            "FirewallBackend": {"Driver": "nftables" if settings.uses_rules else "none"},
            "Warnings": [*sources.warnings(), *_limit_warnings(facts), *forwarding_warnings] or None,
        }

    def _proxy(self, name: str) -> str:
        value = self._environ.get(name.upper()) or self._environ.get(name) or ""
        return _CREDENTIALS.sub("xxxxx:xxxxx@", value)

    def _security_options(self) -> list[str]:
        options = ["name=apparmor"] if self._settings.apparmor else []
        options.append(f"name=seccomp,profile={self._settings.seccomp_profile}")
        if self._settings.remapped:
            options.append("name=userns")
        if self._settings.rootless:
            options.append("name=rootless")
        options.append("name=cgroupns")
        if self._settings.no_new_privileges:
            options.append("name=no-new-privileges")
        return options


_NO_SWARM: Mapping[str, Any] = {
    "NodeID": "",
    "NodeAddr": "",
    "LocalNodeState": "inactive",
    "ControlAvailable": False,
    "Error": "",
    "RemoteManagers": None,
}


def read_or_create_engine_id(data_root: Path) -> str:
    """The engine's identity, a UUID that is made once for a data root."""
    path = data_root / "engine-id"
    try:
        return str(uuid.UUID(path.read_text(encoding="ascii").strip()))
    except (FileNotFoundError, ValueError):
        pass
    engine_id = str(uuid.uuid4())
    data_root.mkdir(mode=0o710, parents=True, exist_ok=True)
    unfinished = path.with_name(f"engine-id.{os.getpid()}")
    unfinished.write_text(f"{engine_id}\n", encoding="ascii")
    unfinished.replace(path)
    return engine_id


def _version_document(facts: HostFacts) -> dict[str, Any]:
    built = time.strftime("%Y-%m-%dT%H:%M:%S.000000000+00:00", time.gmtime(Path(kitepy.__file__).stat().st_mtime))
    common = {"GitCommit": "", "GoVersion": "", "Os": "linux", "Arch": facts.architecture, "KernelVersion": facts.kernel_version}
    details = {**common, "ApiVersion": API_VERSION, "MinAPIVersion": MIN_API_VERSION, "BuildTime": built, "Experimental": "false"}
    return {
        "Platform": {"Name": "Kitepy Engine"},
        "Components": [
            {"Name": "Engine", "Version": kitepy.__version__, "Details": details},
            {"Name": "Python", "Version": platform.python_version(), "Details": {}},
        ],
        "Version": kitepy.__version__,
        "ApiVersion": API_VERSION,
        "MinAPIVersion": MIN_API_VERSION,
        **common,
        "BuildTime": built,
    }


def _driver_status(flavour: OverlayFlavour, file_system: str) -> list[list[str]]:
    backing = ["Backing Filesystem", file_system or "unknown"]
    if flavour is OverlayFlavour.FUSE:
        return [backing]
    return [
        backing,
        ["Supports d_type", "true"],
        ["Using metacopy", "false"],
        ["Native Overlay Diff", "true"],
        ["userxattr", "true" if flavour.user_xattrs else "false"],
    ]


def _limits(facts: HostFacts) -> dict[str, bool]:
    """Which limits can be honoured here."""
    controllers = facts.controllers
    cpu = "cpu" in controllers
    return {
        "MemoryLimit": "memory" in controllers,
        "SwapLimit": facts.swap_accounting,
        "KernelMemoryTCP": facts.cgroup_version == 1 and "memory" in controllers,
        "CpuCfsPeriod": cpu,
        "CpuCfsQuota": cpu,
        "CPUShares": cpu,
        "CPUSet": "cpuset" in controllers,
        "PidsLimit": "pids" in controllers,
        "OomKillDisable": facts.cgroup_version == 1 and "memory" in controllers,
    }


_MISSING = {
    "MemoryLimit": "memory limit",
    "SwapLimit": "swap limit",
    "CpuCfsQuota": "cpu cfs quota",
    "CPUShares": "cpu shares",
    "CPUSet": "cpuset",
    "PidsLimit": "pids limit",
}


def _limit_warnings(facts: HostFacts) -> list[str]:
    if facts.limits_problem:
        return [f"WARNING: containers run without limits, and can't be paused: {facts.limits_problem}"]
    limits = _limits(facts)
    return [f"WARNING: No {words} support" for name, words in _MISSING.items() if not limits[name]]


def _address_pools(settings: SystemSettings) -> dict[str, Any]:
    """Only what was configured: as with dockerd the default pools are not told."""
    if not settings.address_pools:
        return {}
    return {"DefaultAddressPools": [{"Base": base, "Size": size} for base, size in settings.address_pools]}


def _registry_config(settings: SystemSettings) -> dict[str, Any]:
    hub = {"Name": "docker.io", "Mirrors": list(settings.registry_mirrors), "Secure": True, "Official": True}
    others = {
        name: {"Name": name, "Mirrors": [], "Secure": False, "Official": False}
        for name in settings.insecure_registries
        if "/" not in name
    }
    networks = [*(name for name in settings.insecure_registries if "/" in name), "::1/128", "127.0.0.0/8"]
    return {
        "InsecureRegistryCIDRs": networks,
        "IndexConfigs": {"docker.io": hub, **others},
        "Mirrors": list(settings.registry_mirrors) or None,
    }


def _open_files() -> int:
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:
        return 0


def _reads_one(path: Path, otherwise: bool) -> bool:
    try:
        return path.read_text(encoding="ascii").strip() == "1"
    except OSError:
        return otherwise
