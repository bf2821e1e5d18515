"""What the control group drivers read from mount tables and write for limits."""

from __future__ import annotations

import pytest

from kitepy.engine.kernel.cgroups_v1 import find_hierarchies, format_device_rule
from kitepy.engine.kernel.cgroups_v2 import find_unified, plan_settings, shares_to_weight
from kitepy.engine.model.errors import Unsupported

HYBRID = """\
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
36 31 0:33 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
37 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
99 31 0:32 / /srv/chroot/sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
"""
UNIFIED = "31 23 0:28 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"


def test_version_1_hierarchies_are_found_where_they_are_mounted() -> None:
    assert find_hierarchies(HYBRID) == {
        "cpu": "/sys/fs/cgroup/cpu,cpuacct",
        "cpuacct": "/sys/fs/cgroup/cpu,cpuacct",
        "memory": "/sys/fs/cgroup/memory",
        "name=systemd": "/sys/fs/cgroup/systemd",
    }
    assert find_hierarchies(UNIFIED) == {}


def test_the_unified_hierarchy_is_found() -> None:
    assert find_unified(UNIFIED) == "/sys/fs/cgroup"
    assert find_unified(HYBRID) == "/sys/fs/cgroup/unified"


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ({"allow": False, "access": "rwm"}, "a"),
        ({"type": "c", "access": "m"}, "c *:* m"),
        ({"type": "c", "major": 136, "minor": -1, "access": "rwm"}, "c 136:* rwm"),
        ({"type": "b", "major": 8, "minor": 0, "access": "r"}, "b 8:0 r"),
    ],
)
def test_device_rules_are_written_in_the_kernel_s_form(rule: dict[str, object], text: str) -> None:
    assert format_device_rule(rule) == text


def test_version_2_files_for_docker_s_limits() -> None:
    resources = {
        "memory": {"limit": 64 << 20, "swap": 96 << 20, "reservation": 32 << 20},
        "cpu": {"shares": 1024, "quota": 50_000, "period": 100_000, "cpus": "0-1"},
        "pids": {"limit": -1},
        "blockIO": {"weight": 500},
    }
    assert [setting[1:3] for setting in plan_settings(resources)] == [
        ("memory.max", str(64 << 20)),
        ("memory.swap.max", str(32 << 20)),
        ("memory.low", str(32 << 20)),
        ("cpu.weight", "39"),
        ("cpu.max", "50000 100000"),
        ("cpuset.cpus", "0-1"),
        ("pids.max", "max"),
        ("io.weight", "4950"),
    ]


def test_shares_map_onto_the_whole_range_of_weights() -> None:
    assert (shares_to_weight(2), shares_to_weight(262144)) == (1, 10000)


def test_what_version_2_cannot_limit_is_refused_by_name() -> None:
    with pytest.raises(Unsupported, match="real-time"):
        plan_settings({"cpu": {"realtimeRuntime": 5}})
    with pytest.raises(Unsupported, match="OOM killer"):
        plan_settings({"memory": {"disableOOMKiller": True}})
