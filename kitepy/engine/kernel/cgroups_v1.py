"""Control groups version 1: each controller is a hierarchy of its own, often mounted separately."""

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
from kitepy.engine.kernel.namespaces import pidfd_open, pidfd_send_signal

_CONTROLLERS = (
    "cpu",
    "cpuacct",
    "cpuset",
    "memory",
    "devices",
    "freezer",
    "blkio",
    "pids",
    "hugetlb",
    "net_cls",
    "net_prio",
    "perf_event",
    "name=systemd",
)
_FREEZE_TIMEOUT_S = 2.0
_SIGKILL = 9

# (section, key, controller, file, what the user calls it)
_LIMITS = (
    ("memory", "limit", "memory", "memory.limit_in_bytes", "memory"),
    ("memory", "reservation", "memory", "memory.soft_limit_in_bytes", "memory reservation"),
    ("memory", "swap", "memory", "memory.memsw.limit_in_bytes", "memory and swap"),
    ("memory", "swappiness", "memory", "memory.swappiness", "swappiness"),
    ("memory", "kernelTCP", "memory", "memory.kmem.tcp.limit_in_bytes", "kernel TCP memory"),
    ("cpu", "shares", "cpu", "cpu.shares", "CPU shares"),
    ("cpu", "period", "cpu", "cpu.cfs_period_us", "the CPU period"),
    ("cpu", "quota", "cpu", "cpu.cfs_quota_us", "the CPU quota"),
    ("cpu", "realtimePeriod", "cpu", "cpu.rt_period_us", "the CPU real-time period"),
    ("cpu", "realtimeRuntime", "cpu", "cpu.rt_runtime_us", "the CPU real-time runtime"),
    ("cpu", "cpus", "cpuset", "cpuset.cpus", "the CPU set"),
    ("cpu", "mems", "cpuset", "cpuset.mems", "the memory nodes"),
    ("pids", "limit", "pids", "pids.max", "the number of processes"),
    ("blockIO", "weight", "blkio", "blkio.weight", "the block I/O weight"),
)
_THROTTLES = (
    ("throttleReadBpsDevice", "blkio.throttle.read_bps_device", "the device read rate"),
    ("throttleWriteBpsDevice", "blkio.throttle.write_bps_device", "the device write rate"),
    ("throttleReadIOPSDevice", "blkio.throttle.read_iops_device", "device reads per second"),
    ("throttleWriteIOPSDevice", "blkio.throttle.write_iops_device", "device writes per second"),
)
_STAT_FILES = {
    "cpuacct": ("cpuacct.usage", "cpuacct.usage_percpu", "cpuacct.stat"),
    "cpu": ("cpu.stat",),
    "memory": (
        "memory.usage_in_bytes",
        "memory.max_usage_in_bytes",
        "memory.limit_in_bytes",
        "memory.failcnt",
        "memory.stat",
    ),
    "pids": ("pids.current", "pids.max"),
    "blkio": ("blkio.throttle.io_service_bytes_recursive", "blkio.throttle.io_serviced_recursive"),
}


def find_hierarchies(mountinfo: str) -> dict[str, str]:
    """Mount point by controller, from the text of ``/proc/<pid>/mountinfo``; a later mount hides an earlier one."""
    found: dict[str, str] = {}
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        kind, _, rest = right.partition(" ")
        if kind != "cgroup":
            continue
        mount_point = left.split(" ")[4].encode().decode("unicode_escape")
        if not mount_point.startswith("/sys/fs/cgroup/"):
            continue  # someone else's view, e.g. in a chroot
        for option in rest.split(" ")[-1].split(","):
            if option in _CONTROLLERS:
                found[option] = mount_point
    return found


class CgroupV1(CgroupDriver):
    """Groups in every mounted hierarchy, the systemd one included so that ``loginctl`` sees no stray processes."""

    version = 1

    def __init__(self, hierarchies: dict[str, str]) -> None:
        self._hierarchies = hierarchies
        self._roots = sorted(set(hierarchies.values()))

    def controllers(self) -> frozenset[str]:
        return frozenset("io" if name == "blkio" else name for name in self._hierarchies if "=" not in name)

    @property
    def hierarchies(self) -> dict[str, str]:
        """Mount point by controller."""
        return dict(self._hierarchies)

    def create(self, path: str, resources: dict[str, object]) -> None:
        for root in self._roots:
            try:
                os.mkdir(root + path, 0o755)
            except FileExistsError:
                continue
            except FileNotFoundError:
                self._make_parents(root, path)
        cpuset = self._hierarchies.get("cpuset")
        if cpuset is not None:
            self._fill_cpuset(cpuset, path)
        self.update(path, resources)

    def _make_parents(self, root: str, path: str) -> None:
        grown = ""
        for part in path.strip("/").split("/"):
            grown += "/" + part
            try:
                os.mkdir(root + grown, 0o755)
            except FileExistsError:
                continue
            if root == self._hierarchies.get("cpuset"):
                self._fill_cpuset(root, grown)

    def _fill_cpuset(self, root: str, path: str) -> None:
        """A new cpuset is empty and admits no process before it has CPUs and memory nodes: take over the parent's."""
        parent = os.path.dirname(path).rstrip("/")
        for name in ("cpuset.cpus", "cpuset.mems"):
            if not read_value(f"{root}{path}/{name}").strip():
                write_value(f"{root}{path}/{name}", read_value(f"{root}{parent}/{name}").strip())

    def update(self, path: str, resources: dict[str, object]) -> None:
        for part, key, controller, file, title in _order_memory(self, path, resources):
            value = section(resources, part).get(key)
            if value is None or value == "" or (value == 0 and key not in ("swappiness", "quota")):
                continue
            if key == "limit" and part == "pids" and isinstance(value, int) and value < 0:
                value = "max"
            self._set(path, controller, file, str(value), title)
        memory = section(resources, "memory")
        if memory.get("disableOOMKiller"):
            self._set(path, "memory", "memory.oom_control", "1", "the OOM killer")
        block_io = section(resources, "blockIO")
        for key, file, title in _THROTTLES:
            entries = block_io.get(key)
            for entry in entries if isinstance(entries, list) else []:
                self._set(path, "blkio", file, f"{entry['major']}:{entry['minor']} {entry['rate']}", title)
        weights = block_io.get("weightDevice")
        for entry in weights if isinstance(weights, list) else []:
            value = f"{entry['major']}:{entry['minor']} {entry['weight']}"
            self._set(path, "blkio", "blkio.weight_device", value, "the block I/O weight of a device")
        for name in ("hugepageLimits", "rdma"):
            if resources.get(name):
                raise unsupported(name, "not implemented for control groups version 1")
        devices = resources.get("devices")
        if isinstance(devices, list) and devices:
            self._set_devices(path, devices)

    def _set(self, path: str, controller: str, file: str, value: str, title: str) -> None:
        root = self._hierarchies.get(controller)
        if root is None:
            raise unsupported(title, f"the control group {controller!r} is not mounted")
        target = f"{root}{path}/{file}"
        try:
            write_value(target, value)
        except (FileNotFoundError, PermissionError) as error:
            # Opening a missing control file for writing in cgroupfs gives EACCES on some kernels.
            if os.path.exists(target):
                raise
            bfq = f"{root}{path}/{file.replace('blkio.', 'blkio.bfq.', 1)}"
            if file in ("blkio.weight", "blkio.weight_device") and os.path.exists(bfq):
                write_value(bfq, value)
                return
            raise unsupported(title, f"it has no {file}") from error

    def _set_devices(self, path: str, rules: list[dict[str, object]]) -> None:
        root = self._hierarchies.get("devices")
        if root is None:
            raise unsupported("devices", "the control group 'devices' is not mounted")
        fds: dict[bool, int] = {}
        try:
            for rule in rules:
                allow = bool(rule.get("allow"))
                if allow not in fds:
                    name = "devices.allow" if allow else "devices.deny"
                    fds[allow] = os.open(f"{root}{path}/{name}", os.O_WRONLY | os.O_CLOEXEC)
                os.write(fds[allow], format_device_rule(rule).encode())
        finally:
            for fd in fds.values():
                os.close(fd)

    def join(self, path: str) -> None:
        for root in self._roots:
            # "0" in ``tasks`` means the calling thread: the kernel then skips the global lock whose RCU wait costs milliseconds.
            write_value(f"{root}{path}/tasks", "0")

    def spawn_fd(self, path: str) -> int | None:  # noqa: ARG002 - version 1 has no such thing
        return None

    def add(self, path: str, pid: int) -> None:
        for root in self._roots:
            write_value(f"{root}{path}/cgroup.procs", str(pid))

    def _freezer(self, path: str) -> str:
        root = self._hierarchies.get("freezer")
        if root is None:
            raise unsupported("running (pause)", "the control group 'freezer' is not mounted")
        return f"{root}{path}/freezer.state"

    def freeze(self, path: str) -> None:
        file = self._freezer(path)
        deadline = time.monotonic() + _FREEZE_TIMEOUT_S
        while True:
            write_value(file, "FROZEN")
            if read_value(file).strip() == "FROZEN":
                return
            if time.monotonic() > deadline:
                write_value(file, "THAWED")
                raise TimeoutError(f"{path}: the processes did not freeze within {_FREEZE_TIMEOUT_S:g} s")
            time.sleep(0.002)  # a process in an uninterruptible call freezes when it leaves it

    def thaw(self, path: str) -> None:
        write_value(self._freezer(path), "THAWED")

    def kill(self, path: str) -> None:
        for _ in range(10):  # a fork may slip in between reading and killing
            pids = self.pids(path)
            if not pids:
                return
            for pid in pids:
                try:
                    fd = pidfd_open(pid)
                except ProcessLookupError:
                    continue
                try:
                    pidfd_send_signal(fd, _SIGKILL)
                except ProcessLookupError:
                    continue
                finally:
                    os.close(fd)
            if "freezer" in self._hierarchies:
                self.thaw(path)

    def pids(self, path: str) -> list[int]:
        for controller in ("pids", "memory", "freezer", "devices"):
            if controller in self._hierarchies:
                return read_pids(self._hierarchies[controller] + path)
        return read_pids(self._roots[0] + path)

    def oom_kills(self, path: str) -> int:
        root = self._hierarchies.get("memory")
        if root is None:
            return 0
        return read_oom_kills(f"{root}{path}/memory.oom_control")

    def watch_oom(self, path: str) -> OomWatch | None:
        # cgroup-v1/memory.rst, section 9 and 10: an eventfd that is registered with the group's oom_control.
        directory = self._hierarchies.get("memory", "") + path
        try:
            control_fd = os.open(f"{directory}/memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        event_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            write_value(f"{directory}/cgroup.event_control", f"{event_fd} {control_fd}")
        except OSError:
            os.close(event_fd)
            return None
        finally:
            os.close(control_fd)
        return OomWatch(event_fd, select.EPOLLIN)

    def stats(self, path: str) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = {}
        for controller, names in _STAT_FILES.items():
            root = self._hierarchies.get(controller)
            if root is None:
                continue
            for name in names:
                try:
                    found.setdefault(controller, {})[name] = read_value(f"{root}{path}/{name}")
                except OSError:
                    continue  # not built into this kernel
        return found

    def remove(self, path: str) -> None:
        for root in self._roots:
            remove_tree(root + path)


def format_device_rule(rule: dict[str, object]) -> str:
    """``c 1:3 rwm`` from an entry of ``linux.resources.devices``; a missing number or -1 is a wildcard."""
    kind = rule.get("type") or "a"
    if kind == "a":
        return "a"

    def number(key: str) -> str:
        value = rule.get(key)
        return "*" if value is None or (isinstance(value, int) and value < 0) else str(value)

    return f"{kind} {number('major')}:{number('minor')} {rule.get('access') or 'rwm'}"


def _order_memory(driver: CgroupV1, path: str, resources: dict[str, object]) -> list[tuple[str, str, str, str, str]]:
    """The limits in an order the kernel accepts: memory may never exceed memory and swap, not even between two writes."""
    memory = section(resources, "memory")
    limits = list(_LIMITS)
    swap = memory.get("swap")
    root = driver.hierarchies.get("memory")
    if not isinstance(swap, int) or not isinstance(memory.get("limit"), int) or root is None:
        return limits
    try:
        current = int(read_value(f"{root}{path}/memory.memsw.limit_in_bytes"))
    except (OSError, ValueError):
        return limits
    if swap < 0 or swap > current:
        limits[0], limits[2] = limits[2], limits[0]
    return limits
