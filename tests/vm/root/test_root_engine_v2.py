"""Root's engine on control groups version 2; the tests of limits and pausing from ``tests/api`` run beside these."""

from __future__ import annotations

from pathlib import Path

import docker
from support.engine import EngineUnderTest, docker_info


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
