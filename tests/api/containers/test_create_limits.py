"""Limits in create: what this machine has is applied, what it lacks is left out with a warning."""

from __future__ import annotations

import os
from typing import Any

import pytest
from support.creating import created, output_of, started

pytestmark = pytest.mark.needs("limits")

_V1 = "/sys/fs/cgroup/blkio"


def _weights_are_missing() -> bool:
    return os.path.isdir(_V1) and not any(os.path.exists(f"{_V1}/blkio.{name}") for name in ("weight", "bfq.weight"))


def test_more_cpus_than_there_are_are_refused(api: Any, busybox: str) -> None:
    count = api("GET", "/info").json["NCPU"]
    answer = api("POST", "/containers/create", {"Image": busybox, "HostConfig": {"NanoCpus": count * 10**9 + 1}})
    assert answer.status == 400
    assert answer.message == f"range of CPUs is from 0.01 to {count}.00, as there are only {count} CPUs available"


def test_cpus_that_are_not_there_are_refused(api: Any, busybox: str) -> None:
    count = api("GET", "/info").json["NCPU"]
    answer = api("POST", "/containers/create", {"Image": busybox, "HostConfig": {"CpusetCpus": str(count + 3)}})
    assert answer.status == 400
    assert f"Requested CPUs are not available - requested {count + 3}, available: 0" in answer.message


def test_memory_nodes_that_are_not_there_are_refused(api: Any, busybox: str) -> None:
    answer = api("POST", "/containers/create", {"Image": busybox, "HostConfig": {"CpusetMems": "40"}})
    assert answer.status == 400
    assert "Requested memory nodes are not available - requested 40" in answer.message


@pytest.mark.skipif(not _weights_are_missing(), reason="this kernel has weights of block I/O")
@pytest.mark.parametrize(
    ("options", "warning", "shown"),
    [
        (
            {"BlkioWeight": 500},
            "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.",
            {"BlkioWeight": 0},
        ),
        (
            {"BlkioWeightDevice": [{"Path": "/dev/null", "Weight": 500}]},
            "Your kernel does not support Block I/O weight_device or the cgroup is not mounted. Weight-device discarded.",
            {"BlkioWeightDevice": []},
        ),
    ],
)
def test_weights_that_the_kernel_lacks_are_left_out(
    api: Any, busybox: str, options: dict[str, Any], warning: str, shown: dict[str, Any]
) -> None:
    with created(api, {"Image": busybox, "HostConfig": options}) as made:
        assert made.warnings == [warning]
        assert {name: made.document["HostConfig"][name] for name in shown} == shown


def test_what_only_windows_knows_is_warned_of(api: Any, busybox: str) -> None:
    with created(api, {"Image": busybox, "HostConfig": {"CpuPercent": 10}}) as made:
        assert made.warnings == ["linux does not support CPU percent. Percent discarded."]
        assert made.document["HostConfig"]["CpuPercent"] == 0


@pytest.mark.skipif(not os.path.exists("/sys/fs/cgroup/blkio/blkio.throttle.read_bps_device"), reason="not control groups v1")
def test_limits_of_block_devices_reach_the_kernel(api: Any, busybox: str) -> None:
    device = next((f"/dev/{name}" for name in ("vda", "sda", "nvme0n1") if os.path.exists(f"/dev/{name}")), "")
    if not device:
        pytest.skip("this machine shows no disk")
    number = os.stat(device).st_rdev
    host = {
        "BlkioDeviceReadBps": [{"Path": device, "Rate": 1048576}],
        "BlkioDeviceWriteBps": [{"Path": device, "Rate": 2097152}],
        "BlkioDeviceReadIOps": [{"Path": device, "Rate": 100}],
        "BlkioDeviceWriteIOps": [{"Path": device, "Rate": 200}],
    }
    names = ("read_bps", "write_bps", "read_iops", "write_iops")
    command = ["cat", *(f"/sys/fs/cgroup/blkio/blkio.throttle.{name}_device" for name in names)]
    lines = output_of(api, {"Image": busybox, "Cmd": command, "HostConfig": host}).splitlines()
    where = f"{os.major(number)}:{os.minor(number)}"
    assert lines == [f"{where} {rate}" for rate in (1048576, 2097152, 100, 200)]


def test_a_limit_of_a_device_that_is_not_there_is_refused_at_the_start(api: Any, busybox: str) -> None:
    with created(api, {"Image": busybox, "HostConfig": {"BlkioDeviceReadBps": [{"Path": "/dev/nosuch", "Rate": 1}]}}) as made:
        answer = api("POST", f"/containers/{made.id}/start")
    assert answer.status in (400, 500)  # a peer says 500
    assert "stat /dev/nosuch: no such file or directory" in answer.message


@pytest.mark.parametrize(
    ("parent", "path"),
    [("/kitepy-test/a", "/kitepy-test/a"), ("kitepy-test", "/kitepy-test"), ("../kitepy-test", "/kitepy-test")],
)
def test_a_parent_of_the_control_group_can_be_chosen(api: Any, busybox: str, parent: str, path: str) -> None:
    with created(api, {"Image": busybox, "Cmd": ["sleep", "60"], "HostConfig": {"CgroupParent": parent}}) as made:
        pid = started(api, made)["State"]["Pid"]
        with open(f"/proc/{pid}/cgroup", encoding="ascii") as file:
            groups = {line.strip().split(":", 2)[2] for line in file}
        assert f"{path}/{made.id}" in groups
