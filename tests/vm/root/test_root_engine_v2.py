"""Root's engine on control groups version 2; the tests of limits and pausing from ``tests/api`` run beside these."""

from __future__ import annotations

import os
import time
from pathlib import Path

import docker
from support.engine import EngineUnderTest, docker_info

from kitepy.engine.kernel.cgroups import detect
from kitepy.engine.kernel.cgroups_v2 import CgroupV2
from kitepy.engine.model.ids import new_id


def test_the_hierarchy_is_unified_and_every_limit_is_offered(engine: EngineUnderTest) -> None:
    assert Path("/sys/fs/cgroup/cgroup.controllers").exists()
    info = docker_info(engine)
    assert (info["CgroupVersion"], info["CgroupDriver"]) == ("2", "cgroupfs")
    assert all(info[name] for name in ("MemoryLimit", "SwapLimit", "CpuCfsQuota", "CPUShares", "CPUSet", "PidsLimit"))


def test_devices_are_ruled_by_a_program_of_the_group(client: docker.DockerClient, busybox: str) -> None:
    text = client.containers.run(
        busybox,
        ["sh", "-c", "mknod /disk b 254 0 && echo made; head -c 1 /disk >/dev/null && echo BROKEN; head -c 1 /dev/zero | wc -c"],
        remove=True,
        stderr=True,
    ).decode()
    assert "made" in text
    assert "BROKEN" not in text
    assert text.endswith("1\n")


def test_shares_weights_and_sets_are_translated(client: docker.DockerClient, busybox: str) -> None:
    container = client.containers.run(
        busybox, ["sleep", "600"], detach=True, cpu_shares=512, cpuset_cpus="0", mem_reservation="16m"
    )
    read = {
        name: container.exec_run(["cat", f"/sys/fs/cgroup/{name}"]).output.decode().strip()
        for name in ("cpu.weight", "cpuset.cpus", "memory.low")
    }
    assert read == {"cpu.weight": "20", "cpuset.cpus": "0", "memory.low": str(16 << 20)}
    assert container.exec_run(["cat", "/proc/self/cgroup"]).output == b"0::/\n"
    container.remove(force=True)


def test_the_block_weight_is_given_to_the_scheduler_that_is_there(client: docker.DockerClient, busybox: str) -> None:
    container = client.containers.run(busybox, ["sleep", "600"], detach=True, blkio_weight=300)
    script = "cat /sys/fs/cgroup/io.bfq.weight 2>/dev/null || cat /sys/fs/cgroup/io.weight"
    assert container.exec_run(["sh", "-c", script]).output in (b"default 300\n", b"default 2929\n")
    container.remove(force=True)


def test_all_are_killed_where_the_kernel_has_no_file_for_that() -> None:
    """Kernels before 5.14 lack cgroup.kill; the driver then kills one by one, until nobody is left."""
    driver = detect()
    assert isinstance(driver, CgroupV2)
    path = f"/kitepy-test-{new_id()[:12]}"
    driver.create(path, {})
    child = os.fork()
    if not child:
        driver.join(path)
        os.execv("/bin/sh", ["sh", "-c", "while :; do sleep 5 & sleep 0.01; done"])  # noqa: S606 - a program that forks on
    try:
        while child not in driver.pids(path):
            os.sched_yield()
        driver._kill_each(path)
        assert os.waitpid(child, 0)[1] == 9
    finally:
        driver.kill(path)
        for _ in range(100):
            try:
                driver.remove(path)
                break
            except OSError:
                time.sleep(0.01)  # the last ones are just leaving
    assert driver.pids(path) == []
