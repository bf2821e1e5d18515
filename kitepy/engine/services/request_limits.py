"""Rules for resource limits in a request: what is refused, and what is left out with a warning, for this machine lacks it; pure.

The wording is dockerd's, since front ends show it and scripts look for it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import msgspec

from kitepy.engine.model.container_config import HostConfig
from kitepy.engine.model.errors import InvalidParameter

MIN_MEMORY_BYTES = 6 * 1024 * 1024
MIN_CPU_SHARES = 2
_MAX_CPU = 8192
_RANGES = re.compile(r"[0-9]{1,9}(-[0-9]{1,9})?(,[0-9]{1,9}(-[0-9]{1,9})?)*")


@dataclass(frozen=True)
class LimitSupport:
    """What this machine's control groups can limit. The defaults leave the refusal of a missing one to its use."""

    cpus: tuple[int, ...] = ()
    """Numbers of the CPUs that containers can have; empty when unknown."""
    memory_nodes: tuple[int, ...] = ()
    memory: bool = True
    swap: bool = True
    reservation: bool = True
    swappiness: bool = True
    oom_kill_disable: bool = True
    kernel_tcp: bool = True
    pids: bool = True
    shares: bool = True
    quota: bool = True
    realtime: bool = True
    cpuset: bool = True
    io_weight: bool = True
    io_weight_device: bool = True
    io_read_bps: bool = True
    io_write_bps: bool = True
    io_read_iops: bool = True
    io_write_iops: bool = True


EVERYTHING = LimitSupport()


def checked_limits(host: HostConfig, support: LimitSupport) -> tuple[HostConfig, list[str]]:
    """The configuration without what this machine can't do, and a warning for each of those; raises InvalidParameter."""
    changes: dict[str, Any] = {}
    warnings: list[str] = []

    def discard(present: object, supported: bool, warning: str, **values: Any) -> None:
        if present and not supported:
            warnings.append(warning)
            changes.update(values)

    def current() -> HostConfig:
        changed: HostConfig = msgspec.structs.replace(host, **changes)
        return changed

    _discard_memory(host, support, discard)
    _check_memory(current())
    if host.oom_kill_disable is not None and not support.oom_kill_disable:
        discard(
            host.oom_kill_disable,
            False,
            "Your kernel does not support OomKillDisable. OomKillDisable discarded.",
            oom_kill_disable=None,
        )
        changes["oom_kill_disable"] = None
    elif host.oom_kill_disable and not current().memory:
        warnings.append(
            "OOM killer is disabled for the container, but no memory limit is set, "
            "this can result in the system running out of resources."
        )
    if host.pids_limit is not None and (host.pids_limit <= 0 or not support.pids):
        discard(
            host.pids_limit > 0,
            support.pids,
            "Your kernel does not support PIDs limit capabilities or the cgroup is not mounted. PIDs limit discarded.",
        )
        changes["pids_limit"] = None
    _check_cpu(host, support)
    discard(
        host.cpu_shares,
        support.shares,
        "Your kernel does not support CPU shares or the cgroup is not mounted. Shares discarded.",
        cpu_shares=0,
    )
    discard(
        host.cpu_period or host.cpu_quota,
        support.quota,
        "Your kernel does not support CPU CFS scheduler. CPU period/quota discarded.",
        cpu_period=0,
        cpu_quota=0,
    )
    discard(host.cpu_percent > 0, False, "linux does not support CPU percent. Percent discarded.", cpu_percent=0)
    discard(
        host.cpuset_cpus or host.cpuset_mems,
        support.cpuset,
        "Your kernel does not support cpuset or the cgroup is not mounted. Cpuset discarded.",
        cpuset_cpus="",
        cpuset_mems="",
    )
    _check_cpu_sets(current(), support)
    _discard_block_io(host, support, discard)
    _check_block_io(current())
    return current(), warnings


def _discard_memory(host: HostConfig, support: LimitSupport, discard: Any) -> None:
    discard(
        host.memory > 0,
        support.memory,
        "Your kernel does not support memory limit capabilities or the cgroup is not mounted. Limitation discarded.",
        memory=0,
        memory_swap=-1,
    )
    discard(
        host.memory > 0 and host.memory_swap != -1 and support.memory,
        support.swap,
        "Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap.",
        memory_swap=-1,
    )
    discard(
        host.memory_swappiness is not None,
        support.swappiness,
        "Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory swappiness discarded.",
        memory_swappiness=None,
    )
    discard(
        host.memory_reservation > 0,
        support.reservation,
        "Your kernel does not support memory soft limit capabilities or the cgroup is not mounted. Limitation discarded.",
        memory_reservation=0,
    )
    discard(
        host.kernel_memory_tcp > 0,
        support.kernel_tcp,
        "Your kernel does not support kernel memory TCP limit capabilities or the cgroup is not mounted. Limitation discarded.",
        kernel_memory_tcp=0,
    )


def _check_memory(host: HostConfig) -> None:
    memory, swap = host.memory, host.memory_swap
    if memory and memory < MIN_MEMORY_BYTES:
        raise InvalidParameter("Minimum memory limit allowed is 6MB")
    if 0 < swap < memory:
        raise InvalidParameter("Minimum memoryswap limit should be larger than memory limit, see usage")
    if memory == 0 and swap > 0:
        raise InvalidParameter("You should always set the Memory limit when using Memoryswap limit, see usage")
    if host.memory_swappiness is not None and not 0 <= host.memory_swappiness <= 100:
        raise InvalidParameter(f"Invalid value: {host.memory_swappiness}, valid memory swappiness range is 0-100")
    if 0 < host.memory_reservation < MIN_MEMORY_BYTES:
        raise InvalidParameter("Minimum memory reservation allowed is 6MB")
    if 0 < memory < host.memory_reservation:
        raise InvalidParameter("Minimum memory limit can not be less than memory reservation limit, see usage")


def _check_cpu(host: HostConfig, support: LimitSupport) -> None:
    if host.nano_cpus > 0 and host.cpu_period > 0:
        raise InvalidParameter("Conflicting options: Nano CPUs and CPU Period cannot both be set")
    if host.nano_cpus > 0 and host.cpu_quota > 0:
        raise InvalidParameter("Conflicting options: Nano CPUs and CPU Quota cannot both be set")
    if host.nano_cpus > 0 and not support.quota:
        raise InvalidParameter(
            "NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler or the cgroup is not mounted"
        )
    count = len(support.cpus)
    if host.nano_cpus < 0 or (count and host.nano_cpus > count * 1_000_000_000):
        raise InvalidParameter(f"range of CPUs is from 0.01 to {count}.00, as there are only {count} CPUs available")
    if host.cpu_shares < 0:
        raise InvalidParameter(f"invalid CPU shares ({host.cpu_shares}): value must be a positive integer")
    if host.cpu_period and not 1_000 <= host.cpu_period <= 1_000_000:
        raise InvalidParameter("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
    if 0 < host.cpu_quota < 1_000:
        raise InvalidParameter("CPU cfs quota can not be less than 1ms (i.e. 1000)")
    if (host.cpu_realtime_period or host.cpu_realtime_runtime) and not support.realtime:
        raise InvalidParameter("kernel does not support CPU real-time scheduler")
    if host.cpu_realtime_period and host.cpu_realtime_runtime > host.cpu_realtime_period:
        raise InvalidParameter("cpu real-time runtime cannot be higher than cpu real-time period")


def _check_cpu_sets(host: HostConfig, support: LimitSupport) -> None:
    for text, kind, title, available in (
        (host.cpuset_cpus, "cpus", "CPUs", support.cpus),
        (host.cpuset_mems, "mems", "memory nodes", support.memory_nodes),
    ):
        if not text:
            continue
        wanted = parse_number_set(text, kind)
        if available and not wanted <= set(available):
            raise InvalidParameter(
                f"Requested {title} are not available - requested {text}, available: {format_number_set(available)}"
            )


def parse_number_set(text: str, kind: str = "cpus") -> set[int]:
    """``0-2,5`` as numbers; raises InvalidParameter."""
    problem = f"Invalid value {text} for cpuset {kind}"
    if not _RANGES.fullmatch(text):
        raise InvalidParameter(f"{problem}: invalid format: {text}")
    numbers: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        low, high = int(first), int(last if dash else first)
        if high < low:
            raise InvalidParameter(f"{problem}: invalid format: {text}")
        if high > _MAX_CPU:
            raise InvalidParameter(f"{problem}: value of out range, maximum is {_MAX_CPU}")
        numbers.update(range(low, high + 1))
    return numbers


def format_number_set(numbers: tuple[int, ...]) -> str:
    """Numbers as the kernel writes them: ``0-2,5``."""
    parts: list[str] = []
    pending = sorted(numbers)
    while pending:
        first = last = pending.pop(0)
        while pending and pending[0] == last + 1:
            last = pending.pop(0)
        parts.append(str(first) if first == last else f"{first}-{last}")
    return ",".join(parts)


def _discard_block_io(host: HostConfig, support: LimitSupport, discard: Any) -> None:
    discard(
        host.blkio_weight,
        support.io_weight,
        "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.",
        blkio_weight=0,
    )
    discard(
        host.blkio_weight_device,
        support.io_weight_device,
        "Your kernel does not support Block I/O weight_device or the cgroup is not mounted. Weight-device discarded.",
        blkio_weight_device=[],
    )
    for name, supported, unit, verb in (
        ("blkio_device_read_bps", support.io_read_bps, "BPS", "read"),
        ("blkio_device_write_bps", support.io_write_bps, "BPS", "write"),
        ("blkio_device_read_iops", support.io_read_iops, "IOPS", "read"),
        ("blkio_device_write_iops", support.io_write_iops, "IOPS", "write"),
    ):
        kind = f"{unit} Block I/O" if unit == "BPS" else f"{unit} Block"
        discard(
            getattr(host, name),
            supported,
            f"Your kernel does not support {kind} {verb} limit or the cgroup is not mounted. "
            f"Block I/O {unit} {verb} limit discarded.",
            **{name: []},
        )


def _check_block_io(host: HostConfig) -> None:
    if host.blkio_weight and not 10 <= host.blkio_weight <= 1000:
        raise InvalidParameter("Range of blkio weight is from 10 to 1000")
    if host.io_maximum_bandwidth:
        raise InvalidParameter("invalid option: QoS maximum bandwidth configuration is not supported on linux")
    if host.io_maximum_iops:
        raise InvalidParameter("invalid option: QoS maximum IOPs configuration is not supported on linux")
