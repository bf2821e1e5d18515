"""Control groups version 2: one hierarchy, controllers switched on from the root downwards, devices ruled by a BPF program."""

from __future__ import annotations

import os
import select
import time

from kitepy.engine.kernel.cgroups import (
    CgroupDriver,
    OomWatch,
    read_oom_kills,
    read_pids,
    read_value,
    remove_tree,
    section,
    unsupported,
    write_value,
)
from kitepy.engine.kernel.device_filter import attach_device_filter

_WANTED = ("cpuset", "cpu", "io", "memory", "hugetlb", "pids")
_FREEZE_TIMEOUT_S = 2.0
_STAT_FILES = {
    "cpu": ("cpu.stat",),
    "memory": ("memory.current", "memory.max", "memory.stat", "memory.events"),
    "pids": ("pids.current", "pids.max"),
    "io": ("io.stat",),
}
_THROTTLES = (
    ("throttleReadBpsDevice", "rbps"),
    ("throttleWriteBpsDevice", "wbps"),
    ("throttleReadIOPSDevice", "riops"),
    ("throttleWriteIOPSDevice", "wiops"),
)


def find_unified(mountinfo: str) -> str | None:
    """The mount point of the unified hierarchy at or below ``/sys/fs/cgroup``, from the text of ``mountinfo``."""
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        if right.startswith("cgroup2 "):
            mount_point = left.split(" ")[4]
            if mount_point == "/sys/fs/cgroup" or mount_point.startswith("/sys/fs/cgroup/"):
                return mount_point
    return None


def shares_to_weight(shares: int) -> int:
    """cpu.shares (2-262144) on the scale of cpu.weight (1-10000), as the OCI runtimes map it."""
    return max(1, min(10000, 1 + (shares - 2) * 9999 // 262142))


def plan_settings(resources: dict[str, object]) -> list[tuple[str, str, str, str]]:
    """(controller, file, value, name for people) for each limit in ``linux.resources``; devices are not files here."""
    settings: list[tuple[str, str, str, str]] = []
    memory = section(resources, "memory")
    limit, swap = memory.get("limit"), memory.get("swap")
    if isinstance(limit, int) and limit:
        settings.append(("memory", "memory.max", _maximum(limit), "memory"))
    if isinstance(swap, int) and swap:
        if swap > 0 and not isinstance(limit, int):
            raise unsupported("memory and swap", "a limit for both needs one for memory")
        only_swap = -1 if swap < 0 else swap - (limit if isinstance(limit, int) else 0)
        settings.append(("memory", "memory.swap.max", _maximum(only_swap), "memory and swap"))
    reservation = memory.get("reservation")
    if isinstance(reservation, int) and reservation:
        settings.append(("memory", "memory.low", str(reservation), "memory reservation"))
    if memory.get("disableOOMKiller"):
        raise unsupported("the OOM killer", "control groups version 2 can't switch it off")
    cpu = section(resources, "cpu")
    shares = cpu.get("shares")
    if isinstance(shares, int) and shares:
        settings.append(("cpu", "cpu.weight", str(shares_to_weight(shares)), "CPU shares"))
    quota, period = cpu.get("quota"), cpu.get("period")
    if quota or period:
        maximum = "max" if not isinstance(quota, int) or quota <= 0 else str(quota)
        settings.append(("cpu", "cpu.max", f"{maximum} {period or 100000}", "the CPU quota"))
    for key in ("realtimeRuntime", "realtimePeriod"):
        if cpu.get(key):
            raise unsupported("real-time CPU time", "control groups version 2 have no such limit")
    for key in ("cpus", "mems"):
        if cpu.get(key):
            settings.append(("cpuset", f"cpuset.{key}", str(cpu[key]), "the CPU set" if key == "cpus" else "the memory nodes"))
    pids = section(resources, "pids").get("limit")
    if isinstance(pids, int) and pids:
        settings.append(("pids", "pids.max", _maximum(pids), "the number of processes"))
    block_io = section(resources, "blockIO")
    weight = block_io.get("weight")
    if isinstance(weight, int) and weight:
        settings.append(("io", "io.weight", str(1 + (weight - 10) * 9999 // 990), "the block I/O weight"))
    weights = block_io.get("weightDevice")
    for entry in weights if isinstance(weights, list) else []:
        value = f"{entry['major']}:{entry['minor']} {1 + (entry['weight'] - 10) * 9999 // 990}"
        settings.append(("io", "io.weight", value, "the block I/O weight of a device"))
    for key, name in _THROTTLES:
        entries = block_io.get(key)
        for entry in entries if isinstance(entries, list) else []:
            settings.append(("io", "io.max", f"{entry['major']}:{entry['minor']} {name}={entry['rate']}", "device I/O"))
    return settings


def _bfq_weight(value: str) -> str:
    """A weight, or that of a device, back on the scale of version 1."""
    device, space, weight = value.rpartition(" ")
    return f"{device}{space}{10 + (int(weight) - 1) * 990 // 9999}"


def _maximum(value: int) -> str:
    return "max" if value < 0 else str(value)


class CgroupV2(CgroupDriver):
    """Groups below ``root``: where the unified hierarchy is mounted, or a directory in it that was delegated."""

    version = 2

    def __init__(self, root: str, *, rule_devices: bool = True) -> None:
        """``rule_devices`` False leaves devices to the user namespace, which may load no program and open no device anyway."""
        self._root = root
        self._rule_devices = rule_devices

    def controllers(self) -> frozenset[str]:
        return frozenset(read_value(f"{self._root}/cgroup.controllers").split()) | {"devices", "freezer"}

    def create(self, path: str, resources: dict[str, object]) -> None:
        directory = self._root
        parts = path.strip("/").split("/")
        for index, part in enumerate(parts):
            self._enable_controllers(directory)
            directory += "/" + part
            try:
                os.mkdir(directory, 0o755)
            except FileExistsError:
                continue
            except OSError as error:
                raise OSError(error.errno, f"mkdir {directory} (part {index + 1} of {path}): {error.strerror}") from error
        self.update(path, resources)

    def _enable_controllers(self, directory: str) -> None:
        available = set(read_value(f"{directory}/cgroup.controllers").split())
        enabled = set(read_value(f"{directory}/cgroup.subtree_control").split())
        for name in _WANTED:
            if name in available and name not in enabled:
                try:
                    write_value(f"{directory}/cgroup.subtree_control", f"+{name}")
                except OSError:
                    continue  # a limit that needs it is refused by name when it is set

    def update(self, path: str, resources: dict[str, object]) -> None:
        for controller, file, value, title in plan_settings(resources):
            target = f"{self._root}{path}/{file}"
            bfq = f"{self._root}{path}/io.bfq.weight"
            if file == "io.weight" and os.path.exists(bfq):
                # The BFQ scheduler has the weights of version 1, from 1 to 1000; only the cost model has the wider scale.
                target, value = bfq, _bfq_weight(value)
            if not os.path.exists(target):
                raise unsupported(title, f"the controller {controller!r} is not available (no {file})")
            write_value(target, value)
        for name in ("hugepageLimits", "rdma"):
            if resources.get(name):
                raise unsupported(name, "not implemented for control groups version 2")
        devices = resources.get("devices")
        if isinstance(devices, list) and devices and self._rule_devices:
            fd = os.open(self._root + path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                attach_device_filter(fd, devices)
            finally:
                os.close(fd)

    def join(self, path: str) -> None:
        write_value(f"{self._root}{path}/cgroup.procs", "0")

    def spawn_fd(self, path: str) -> int | None:
        return os.open(self._root + path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def add(self, path: str, pid: int) -> None:
        write_value(f"{self._root}{path}/cgroup.procs", str(pid))

    def freeze(self, path: str) -> None:
        write_value(f"{self._root}{path}/cgroup.freeze", "1")
        deadline = time.monotonic() + _FREEZE_TIMEOUT_S
        while "frozen 1" not in read_value(f"{self._root}{path}/cgroup.events"):
            if time.monotonic() > deadline:
                self.thaw(path)
                raise TimeoutError(f"{path}: the processes did not freeze within {_FREEZE_TIMEOUT_S:g} s")
            time.sleep(0.002)  # a process in an uninterruptible call freezes when it leaves it

    def thaw(self, path: str) -> None:
        write_value(f"{self._root}{path}/cgroup.freeze", "0")

    def kill(self, path: str) -> None:
        try:
            write_value(f"{self._root}{path}/cgroup.kill", "1")
        except FileNotFoundError:
            if os.path.isdir(self._root + path):  # cgroup.kill is Linux 5.14
                self._kill_each(path)

    def _kill_each(self, path: str) -> None:
        for _ in range(10):  # a fork may slip in between reading and killing
            pids = self.pids(path)
            if not pids:
                return
            for pid in pids:
                try:
                    os.kill(pid, 9)
                except ProcessLookupError:
                    continue

    def pids(self, path: str) -> list[int]:
        return read_pids(self._root + path)

    def oom_kills(self, path: str) -> int:
        return read_oom_kills(f"{self._root}{path}/memory.events")

    def watch_oom(self, path: str) -> OomWatch | None:
        events = f"{self._root}{path}/memory.events"
        try:
            fd = os.open(events, os.O_RDONLY | os.O_CLOEXEC)
            os.pread(fd, 4096, 0)
        except OSError:
            return None
        return OomWatch(fd, select.EPOLLPRI, events)

    def stats(self, path: str) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = {}
        for controller, names in _STAT_FILES.items():
            for name in names:
                try:
                    found.setdefault(controller, {})[name] = read_value(f"{self._root}{path}/{name}")
                except OSError:
                    continue  # the controller is off or the kernel older
        return found

    def remove(self, path: str) -> None:
        remove_tree(self._root + path)
