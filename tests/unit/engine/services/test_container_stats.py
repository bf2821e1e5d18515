"""From accounting files, recorded on both versions of control groups, to the documents of stats."""

from __future__ import annotations

from kitepy.engine.services.container_stats import (
    NOTHING,
    HostCpu,
    ProcessTimes,
    document,
    read_host_cpu,
    read_networks,
    sample_of_processes,
    sample_v1,
    sample_v2,
)

HOST = HostCpu(8_000_000_000, 2)
MEMORY_V2 = """anon 811008
file 3108864
kernel 1228800
kernel_stack 16384
sock 0
shmem 0
file_mapped 1892352
file_dirty 4096
file_writeback 0
anon_thp 0
inactive_anon 811008
active_anon 0
inactive_file 1253376
active_file 1855488
unevictable 0
slab_reclaimable 184
slab_unreclaimable 262256
slab 262440
workingset_refault_anon 0
workingset_refault_file 7
workingset_nodereclaim 0
pgfault 10626
pgmajfault 3
pgrefill 0
pgscan 421
thp_fault_alloc 0
"""
TEXTS_V2 = {
    "cpu": {
        "cpu.stat": "usage_usec 512345\nuser_usec 500000\nsystem_usec 12345\n"
        "nr_periods 11\nnr_throttled 10\nthrottled_usec 491392\nnr_bursts 0\nburst_usec 0\n"
    },
    "memory": {
        "memory.current": "4194304\n",
        "memory.max": "67108864\n",
        "memory.stat": MEMORY_V2,
        "memory.events": "low 0\nhigh 0\nmax 31\noom 2\noom_kill 1\noom_group_kill 0\n",
    },
    "pids": {"pids.current": "3\n", "pids.max": "33\n"},
    "io": {"io.stat": "254:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n8:16 \n"},
}


def test_version_2_has_no_single_cpus_no_maximum_and_one_list_of_blocks() -> None:
    sample = sample_v2(TEXTS_V2, HOST, read_ns=5, host_memory=1 << 34, networks={})
    assert sample.cpu == {
        "cpu_usage": {"total_usage": 512_345_000, "usage_in_kernelmode": 12_345_000, "usage_in_usermode": 500_000_000},
        "system_cpu_usage": 8_000_000_000,
        "online_cpus": 2,
        "throttling_data": {"periods": 11, "throttled_periods": 10, "throttled_time": 491_392_000},
    }
    assert sample.pids == {"current": 3, "limit": 33}
    assert sample.block_io["io_service_bytes_recursive"] == [
        {"major": 254, "minor": 0, "op": "read", "value": 4096},
        {"major": 254, "minor": 0, "op": "write", "value": 8192},
        {"major": 8, "minor": 16, "op": "read", "value": 0},
        {"major": 8, "minor": 16, "op": "write", "value": 0},
    ]
    assert all(value is None for name, value in sample.block_io.items() if name != "io_service_bytes_recursive")
    assert {name: value for name, value in sample.memory.items() if name != "stats"} == {
        "usage": 4194304,
        "failcnt": 2,
        "limit": 67108864,
    }
    counted = sample.memory["stats"]
    assert (counted["anon"], counted["inactive_file"], counted["pgfault"]) == (811008, 1253376, 10626)
    assert "kernel" not in counted
    assert list(counted) == sorted(counted)


def test_without_limits_version_2_gives_the_machines_memory_and_the_largest_number_of_processes() -> None:
    texts = {
        "cpu": TEXTS_V2["cpu"],
        "memory": {**TEXTS_V2["memory"], "memory.max": "max\n", "memory.events": ""},
        "pids": {"pids.current": "1\n", "pids.max": "max\n"},
    }
    sample = sample_v2(texts, HOST, read_ns=5, host_memory=1 << 34, networks={})
    assert sample.memory["limit"] == 1 << 34
    assert "failcnt" not in sample.memory
    assert sample.pids == {"current": 1, "limit": 2**64 - 1}
    assert sample.block_io["io_service_bytes_recursive"] is None


def test_a_delegated_group_without_controllers_still_has_its_processor_time() -> None:
    sample = sample_v2({"cpu": TEXTS_V2["cpu"]}, HOST, read_ns=5, host_memory=1 << 34, networks={})
    assert sample.cpu["cpu_usage"]["total_usage"] == 512_345_000
    assert sample.memory == {}
    assert sample.pids == {}


def test_version_1_counts_every_cpu_and_the_maximum() -> None:
    texts = {
        "cpuacct": {
            "cpuacct.usage": "1050744891\n",
            "cpuacct.usage_percpu": "1029074960 21669931 \n",
            "cpuacct.stat": "user 104\nsystem 3\n",
        },
        "cpu": {"cpu.stat": "nr_periods 21\nnr_throttled 20\nthrottled_time 990790490\n"},
        "memory": {
            "memory.usage_in_bytes": "532480\n",
            "memory.max_usage_in_bytes": "4083712\n",
            "memory.limit_in_bytes": "9223372036854771712\n",
            "memory.failcnt": "7\n",
            "memory.stat": "cache 0\nrss 65536\nhierarchical_memory_limit 67108864\ntotal_rss 65536\nswap 0\n",
        },
        "pids": {"pids.current": "1\n", "pids.max": "max\n"},
        "blkio": {
            "blkio.throttle.io_service_bytes_recursive": "8:0 Read 4096\n8:0 Write 0\n8:0 Total 4096\nTotal 4096\n",
            "blkio.throttle.io_serviced_recursive": "Total 0\n",
        },
    }
    sample = sample_v1(texts, HOST, read_ns=5, host_memory=1 << 34, networks={})
    assert sample.cpu["cpu_usage"] == {
        "total_usage": 1050744891,
        "percpu_usage": [1029074960, 21669931],
        "usage_in_kernelmode": 30_000_000,
        "usage_in_usermode": 1_040_000_000,
    }
    assert sample.cpu["throttling_data"] == {"periods": 21, "throttled_periods": 20, "throttled_time": 990790490}
    memory = sample.memory
    assert (memory["usage"], memory["max_usage"], memory["failcnt"], memory["limit"]) == (532480, 4083712, 7, 1 << 34)
    assert (memory["stats"]["rss"], memory["stats"]["total_pgfault"]) == (65536, 0)
    assert "swap" not in memory["stats"]
    assert sample.pids == {"current": 1}
    assert sample.block_io["io_service_bytes_recursive"][0] == {"major": 8, "minor": 0, "op": "Read", "value": 4096}
    assert len(sample.block_io["io_service_bytes_recursive"]) == 3
    assert sample.block_io["io_serviced_recursive"] == []


def test_without_control_groups_only_what_proc_knows_is_told() -> None:
    sample = sample_of_processes(ProcessTimes(50, 25, 4096, 2), HOST, read_ns=5, host_memory=1 << 34, networks={})
    assert sample.cpu["cpu_usage"]["total_usage"] == 750_000_000
    assert sample.memory == {"usage": 4096, "limit": 1 << 34}
    assert sample.pids == {"current": 2}
    assert set(sample.block_io.values()) == {None}


def test_a_document_compares_with_the_sample_before_and_has_networks_only_if_there_are() -> None:
    sample = sample_v2(TEXTS_V2, HOST, read_ns=2_000_000_000, host_memory=0, networks={})
    found = document(sample, NOTHING, identity=("web", "abc"))
    assert (found["name"], found["id"]) == ("/web", "abc")
    assert (found["read"], found["preread"]) == ("1970-01-01T00:00:02Z", "0001-01-01T00:00:00Z")
    assert "networks" not in found
    after = document(NOTHING, sample, identity=None)
    assert "name" not in after
    assert (after["preread"], after["precpu_stats"]) == ("1970-01-01T00:00:02Z", sample.cpu)


def test_the_machines_time_is_the_sum_of_seven_and_its_cpus_are_counted() -> None:
    text = "cpu  1 2 3 4 5 6 7 100 100 100\ncpu0 1 2 3 4 5 6 7 0 0 0\ncpu1 0 0 0 0 0 0 0 0 0 0\nintr 5\ncpux 1\n"
    assert read_host_cpu(text) == HostCpu(280_000_000, 2)


def test_only_interfaces_that_the_engine_made_are_counted() -> None:
    text = """Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:  500       5    0    0    0     0          0         0      500       5    0    0    0     0       0          0
 tunl0:       0       0    0    0    0     0          0         0        0       0    0    0    0     0       0          0
  eth0:     736       8    1    2    0     0          0         0       84       3    4    5    0     0       0          0
"""
    assert read_networks(text) == {
        "eth0": {
            **{"rx_bytes": 736, "rx_packets": 8, "rx_errors": 1, "rx_dropped": 2},
            **{"tx_bytes": 84, "tx_packets": 3, "tx_errors": 4, "tx_dropped": 5},
        }
    }
