"""The documents of ``GET /containers/{id}/stats``: from the texts of accounting files to values as dockerd gives them; pure.

Shapes: Engine API v1.51 ContainerStatsResponse; kernel's cgroup-v1/memory.rst, blkio-controller.rst and cgroup-v2.rst. What a
version of control groups doesn't count is left out, as the description says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kitepy.engine.model.timestamps import NEVER, format_time

Texts = Mapping[str, Mapping[str, str]]
"""{controller: {file name: text}}, as a ``CgroupDriver`` reads them."""

_NS_PER_TICK = 10_000_000
"""/proc counts in hundredths of a second (USER_HZ) on every machine we run on."""
_UNLIMITED = 2**64 - 1

_BLOCK_LISTS = (
    "io_service_bytes_recursive",
    "io_serviced_recursive",
    "io_queue_recursive",
    "io_service_time_recursive",
    "io_wait_time_recursive",
    "io_merged_recursive",
    "io_time_recursive",
    "sectors_recursive",
)
_COUNTED_V1 = (
    *("cache", "rss", "rss_huge", "mapped_file", "dirty", "writeback", "pgpgin", "pgpgout", "pgfault", "pgmajfault"),
    *("inactive_anon", "active_anon", "inactive_file", "active_file", "unevictable"),
)
_MEMORY_V1 = tuple(
    sorted(("hierarchical_memory_limit", "hierarchical_memsw_limit", *_COUNTED_V1, *(f"total_{name}" for name in _COUNTED_V1)))
)
_MEMORY_V2 = tuple(
    sorted(
        (
            *("anon", "file", "kernel_stack", "slab", "sock", "shmem", "file_mapped", "file_dirty", "file_writeback", "anon_thp"),
            *("inactive_anon", "active_anon", "inactive_file", "active_file", "unevictable"),
            *("slab_reclaimable", "slab_unreclaimable", "pgfault", "pgmajfault"),
            *("workingset_refault", "workingset_activate", "workingset_nodereclaim"),
            *("pgrefill", "pgscan", "pgsteal", "pgactivate", "pgdeactivate", "pglazyfree", "pglazyfreed"),
            *("thp_fault_alloc", "thp_collapse_alloc"),
        )
    )
)


@dataclass(frozen=True)
class HostCpu:
    """What the whole machine computed until now."""

    total_ns: int
    online: int


@dataclass(frozen=True)
class ProcessTimes:
    """What /proc tells of the processes of a container without control groups."""

    user_ticks: int
    system_ticks: int
    memory_bytes: int
    count: int


def _no_cpu() -> dict[str, Any]:
    return {
        "cpu_usage": {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0},
        "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0},
    }


@dataclass(frozen=True)
class Sample:
    """What a container used at one moment; the parts are the documents of the same names. ``read_ns`` 0: it doesn't run."""

    read_ns: int = 0
    cpu: dict[str, Any] = field(default_factory=_no_cpu)
    memory: dict[str, Any] = field(default_factory=dict)
    block_io: dict[str, Any] = field(default_factory=lambda: dict.fromkeys(_BLOCK_LISTS))
    pids: dict[str, int] = field(default_factory=dict)
    networks: dict[str, dict[str, int]] = field(default_factory=dict)


NOTHING = Sample()
"""The sample of a container that doesn't run."""


def document(sample: Sample, before: Sample, *, identity: tuple[str, str] | None) -> dict[str, Any]:
    """ContainerStatsResponse; ``before`` is the sample that this reader got last, ``identity`` name and id of the container."""
    result: dict[str, Any] = {} if identity is None else {"name": f"/{identity[0]}", "id": identity[1]}
    result |= {
        "read": format_time(sample.read_ns) if sample.read_ns else NEVER,
        "preread": format_time(before.read_ns) if before.read_ns else NEVER,
        "pids_stats": sample.pids,
        "blkio_stats": sample.block_io,
        "num_procs": 0,
        "storage_stats": {},
        "cpu_stats": sample.cpu,
        "precpu_stats": before.cpu,
        "memory_stats": sample.memory,
    }
    if sample.networks:
        result["networks"] = sample.networks
    return result


def sample_v1(texts: Texts, host: HostCpu, *, read_ns: int, host_memory: int, networks: dict[str, dict[str, int]]) -> Sample:
    """From the files of version 1."""
    accounting = texts.get("cpuacct", {})
    ticks = _pairs(accounting.get("cpuacct.stat", ""))
    usage: dict[str, Any] = {"total_usage": _number(accounting.get("cpuacct.usage", ""))}
    if per_cpu := [int(word) for word in accounting.get("cpuacct.usage_percpu", "").split()]:
        usage["percpu_usage"] = per_cpu
    usage["usage_in_kernelmode"] = ticks.get("system", 0) * _NS_PER_TICK
    usage["usage_in_usermode"] = ticks.get("user", 0) * _NS_PER_TICK
    throttling = _pairs(texts.get("cpu", {}).get("cpu.stat", ""))
    files = texts.get("memory", {})
    memory: dict[str, Any] = {}
    if files:
        counted = _pairs(files.get("memory.stat", ""))
        memory = _memory(
            usage=_number(files.get("memory.usage_in_bytes", "")),
            maximum=_number(files.get("memory.max_usage_in_bytes", "")),
            counted={name: counted.get(name, 0) for name in _MEMORY_V1},
            failures=_number(files.get("memory.failcnt", "")),
            limit=_number(files.get("memory.limit_in_bytes", "")),
            host_memory=host_memory,
        )
    block: dict[str, Any] = {name: [] for name in _BLOCK_LISTS}
    for name in ("io_service_bytes_recursive", "io_serviced_recursive"):
        block[name] = list(_block_entries_v1(texts.get("blkio", {}).get(f"blkio.throttle.{name}", "")))
    return Sample(
        read_ns,
        _cpu(usage, host, throttling, throttling.get("throttled_time", 0)),
        memory,
        block,
        _pids(texts.get("pids", {}), unlimited=0),
        networks,
    )


def sample_v2(texts: Texts, host: HostCpu, *, read_ns: int, host_memory: int, networks: dict[str, dict[str, int]]) -> Sample:
    """From the files of version 2, which count no CPUs one by one and know no list but the bytes of block devices."""
    cpu = _pairs(texts.get("cpu", {}).get("cpu.stat", ""))
    usage = {
        "total_usage": cpu.get("usage_usec", 0) * 1000,
        "usage_in_kernelmode": cpu.get("system_usec", 0) * 1000,
        "usage_in_usermode": cpu.get("user_usec", 0) * 1000,
    }
    files = texts.get("memory", {})
    memory: dict[str, Any] = {}
    if files:
        counted = _pairs(files.get("memory.stat", ""))
        memory = _memory(
            usage=_number(files.get("memory.current", "")),
            maximum=0,
            counted={name: counted.get(name, 0) for name in _MEMORY_V2},
            failures=_pairs(files.get("memory.events", "")).get("oom", 0),
            limit=_number(files.get("memory.max", ""), unlimited=_UNLIMITED),
            host_memory=host_memory,
        )
    block: dict[str, Any] = dict.fromkeys(_BLOCK_LISTS)
    block["io_service_bytes_recursive"] = list(_block_entries_v2(texts.get("io", {}).get("io.stat", ""))) or None
    throttled_ns = cpu.get("throttled_usec", 0) * 1000
    return Sample(
        read_ns,
        _cpu(usage, host, cpu, throttled_ns),
        memory,
        block,
        _pids(texts.get("pids", {}), unlimited=_UNLIMITED),
        networks,
    )


def sample_of_processes(
    times: ProcessTimes, host: HostCpu, *, read_ns: int, host_memory: int, networks: dict[str, dict[str, int]]
) -> Sample:
    """Without control groups: what the processes themselves are known to use; nothing is known of their block devices."""
    usage = {
        "total_usage": (times.user_ticks + times.system_ticks) * _NS_PER_TICK,
        "usage_in_kernelmode": times.system_ticks * _NS_PER_TICK,
        "usage_in_usermode": times.user_ticks * _NS_PER_TICK,
    }
    memory = {"usage": times.memory_bytes, "limit": host_memory}
    return Sample(read_ns, _cpu(usage, host, {}, 0), memory, pids={"current": times.count}, networks=networks)


def read_host_cpu(proc_stat: str) -> HostCpu:
    """The machine's time from /proc/stat: user, nice, system, idle, iowait, irq and softirq, as dockerd adds them up."""
    total = online = 0
    for line in proc_stat.splitlines():
        if not line.startswith("cpu"):
            break
        words = line.split()
        if words[0] == "cpu":
            total = sum(int(word) for word in words[1:8]) * _NS_PER_TICK
        else:
            online += 1
    return HostCpu(total, online)


def read_networks(net_dev: str) -> dict[str, dict[str, int]]:
    """Counters by interface from /proc/<pid>/net/dev: those that the engine made, ``eth0`` and on; see proc_pid_net(5)."""
    found: dict[str, dict[str, int]] = {}
    for line in net_dev.splitlines():
        name, colon, rest = line.partition(":")
        name, words = name.strip(), rest.split()
        if not colon or not name.startswith("eth") or len(words) < 12:
            continue
        numbers = [int(word) for word in words]
        received, sent = numbers[:4], numbers[8:12]
        found[name] = {
            f"{direction}_{what}": value
            for direction, values in (("rx", received), ("tx", sent))
            for what, value in zip(("bytes", "packets", "errors", "dropped"), values, strict=True)
        }
    return found


def _cpu(usage: dict[str, Any], host: HostCpu, counts: Mapping[str, int], throttled_ns: int) -> dict[str, Any]:
    throttling = {"periods": counts.get("nr_periods", 0), "throttled_periods": counts.get("nr_throttled", 0)}
    return {
        "cpu_usage": usage,
        "system_cpu_usage": host.total_ns,
        "online_cpus": host.online,
        "throttling_data": {**throttling, "throttled_time": throttled_ns},
    }


def _memory(*, usage: int, maximum: int, counted: dict[str, int], failures: int, limit: int, host_memory: int) -> dict[str, Any]:
    """Zeros of what isn't counted are left out; without a limit there is still the machine's."""
    memory: dict[str, Any] = {"usage": usage, "max_usage": maximum, "stats": counted, "failcnt": failures}
    memory["limit"] = min(limit, host_memory) if host_memory else limit
    return {name: value for name, value in memory.items() if value}


def _pids(files: Mapping[str, str], *, unlimited: int) -> dict[str, int]:
    found = {
        "current": _number(files.get("pids.current", "")),
        "limit": _number(files.get("pids.max", ""), unlimited=unlimited),
    }
    return {name: value for name, value in found.items() if value}


def _block_entries_v1(text: str) -> Iterable[dict[str, Any]]:
    """``8:0 Read 4096`` a line, and a total without a device at the end."""
    for line in text.splitlines():
        words = line.replace(":", " ").split()
        if len(words) == 4:
            yield {"major": int(words[0]), "minor": int(words[1]), "op": words[2], "value": int(words[3])}


def _block_entries_v2(text: str) -> Iterable[dict[str, Any]]:
    """``8:0 rbytes=4096 wbytes=0 rios=1 …`` a line."""
    for line in text.splitlines():
        device, _, rest = line.partition(" ")
        major, _, minor = device.partition(":")
        values = dict(word.split("=", 1) for word in rest.split() if "=" in word)
        if not (major.isdecimal() and minor.isdecimal()):
            continue
        for op, key in (("read", "rbytes"), ("write", "wbytes")):
            yield {"major": int(major), "minor": int(minor), "op": op, "value": int(values.get(key, 0))}


def _pairs(text: str) -> dict[str, int]:
    """Lines of a name and a number."""
    found: dict[str, int] = {}
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if value.isdecimal():
            found[name] = int(value)
    return found


def _number(text: str, *, unlimited: int = 0) -> int:
    word = text.strip()
    if word == "max":
        return unlimited
    return int(word) if word.isdecimal() else 0
