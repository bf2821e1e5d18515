"""Finds out what the control groups of this machine can limit, once, by looking for their files."""

from __future__ import annotations

import os
from pathlib import Path

from kitepy.engine.kernel.cgroups import CgroupDriver
from kitepy.engine.kernel.cgroups_v1 import CgroupV1
from kitepy.engine.model.errors import InvalidParameter
from kitepy.engine.services.request_limits import EVERYTHING, LimitSupport, parse_number_set


def find_limit_support(driver: CgroupDriver) -> LimitSupport:
    """What ``driver`` can limit; without control groups nothing is left out here, since each limit is refused by its name."""
    if isinstance(driver, CgroupV1):
        return _version_1(driver.hierarchies)
    if driver.version == 2:
        return _version_2(driver.controllers())
    return EVERYTHING


def _version_1(mounts: dict[str, str]) -> LimitSupport:
    def has(controller: str, name: str) -> bool:
        return controller in mounts and os.path.exists(f"{mounts[controller]}/{name}")

    return LimitSupport(
        cpus=_numbers(Path(mounts.get("cpuset", "/nonexistent"), "cpuset.cpus")),
        memory_nodes=_numbers(Path(mounts.get("cpuset", "/nonexistent"), "cpuset.mems")),
        memory=has("memory", "memory.limit_in_bytes"),
        swap=has("memory", "memory.memsw.limit_in_bytes"),
        reservation=has("memory", "memory.soft_limit_in_bytes"),
        swappiness=has("memory", "memory.swappiness"),
        oom_kill_disable=has("memory", "memory.oom_control"),
        kernel_tcp=has("memory", "memory.kmem.tcp.limit_in_bytes"),
        pids="pids" in mounts,
        shares=has("cpu", "cpu.shares"),
        quota=has("cpu", "cpu.cfs_quota_us"),
        realtime=has("cpu", "cpu.rt_period_us"),
        cpuset="cpuset" in mounts,
        io_weight=has("blkio", "blkio.weight") or has("blkio", "blkio.bfq.weight"),
        io_weight_device=has("blkio", "blkio.weight_device") or has("blkio", "blkio.bfq.weight_device"),
        io_read_bps=has("blkio", "blkio.throttle.read_bps_device"),
        io_write_bps=has("blkio", "blkio.throttle.write_bps_device"),
        io_read_iops=has("blkio", "blkio.throttle.read_iops_device"),
        io_write_iops=has("blkio", "blkio.throttle.write_iops_device"),
    )


def _version_2(controllers: frozenset[str]) -> LimitSupport:
    memory, cpu, block_io = "memory" in controllers, "cpu" in controllers, "io" in controllers
    return LimitSupport(
        cpus=tuple(sorted(os.sched_getaffinity(0))),
        memory_nodes=_numbers(Path("/sys/devices/system/node/online")),
        memory=memory,
        swap=memory,
        reservation=memory,
        swappiness=False,
        oom_kill_disable=False,
        kernel_tcp=False,
        pids="pids" in controllers,
        shares=cpu,
        quota=cpu,
        realtime=False,
        cpuset="cpuset" in controllers,
        io_weight=block_io,
        io_weight_device=block_io,
        io_read_bps=block_io,
        io_write_bps=block_io,
        io_read_iops=block_io,
        io_write_iops=block_io,
    )


def _numbers(path: Path) -> tuple[int, ...]:
    try:
        return tuple(sorted(parse_number_set(path.read_text(encoding="ascii").strip())))
    except (OSError, InvalidParameter):
        return ()
