"""An ordinary user's engine with systemd and control groups version 2: limits are real, and containers outlive it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest
from docker.errors import APIError
from support.engine import EngineUnderTest, docker_info
from support.images import load_busybox
from support.ordinary_user import REPOSITORY

DEADLINE_S = 60.0


@pytest.fixture(name="engine_", scope="module")
def _engine() -> Iterator[EngineUnderTest]:
    with EngineUnderTest(rootless=False) as engine:  # the test itself is an ordinary user's
        yield engine


@pytest.fixture(name="api", scope="module")
def _api(engine_: EngineUnderTest) -> Iterator[docker.DockerClient]:
    client = engine_.docker(timeout_s=120)
    load_busybox(client)
    yield client
    client.close()


def eventually(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.1)


def state(container: docker.models.containers.Container) -> dict[str, object]:
    container.reload()
    return dict(container.attrs["State"])


def cgroup(container: docker.models.containers.Container) -> Path:
    container.reload()
    text = Path(f"/proc/{container.attrs['State']['Pid']}/cgroup").read_text()
    return Path("/sys/fs/cgroup" + text.strip().removeprefix("0::"))


def test_it_is_a_user_and_says_which_limits_it_has(engine_: EngineUnderTest) -> None:
    assert os.getuid() != 0
    info = docker_info(engine_)
    assert "name=rootless" in info["SecurityOptions"]
    assert (info["CgroupVersion"], info["CgroupDriver"]) == ("2", "cgroupfs")
    assert info["MemoryLimit"]
    assert info["PidsLimit"]
    assert "without limits" not in str(info["Warnings"])


def test_limits_reach_the_kernel_and_change_while_it_runs(api: docker.DockerClient) -> None:
    container = api.containers.run(
        "busybox", ["sleep", "600"], detach=True, mem_limit="64m", memswap_limit="64m", pids_limit=50, nano_cpus=500_000_000
    )
    group = cgroup(container)
    read = {name: (group / name).read_text().strip() for name in ("memory.max", "memory.swap.max", "pids.max", "cpu.max")}
    assert read == {"memory.max": "67108864", "memory.swap.max": "0", "pids.max": "50", "cpu.max": "50000 100000"}
    # The container sees its own group as the root of what there is.
    assert container.exec_run(["cat", "/sys/fs/cgroup/memory.max"]).output == b"67108864\n"
    assert container.exec_run(["cat", "/proc/self/cgroup"]).output == b"0::/\n"
    assert b"some avg10=" in container.exec_run(["cat", "/sys/fs/cgroup/memory.pressure"]).output
    container.update(mem_limit="96m", memswap_limit="96m")
    assert (group / "memory.max").read_text() == f"{96 << 20}\n"
    container.remove(force=True)
    assert not group.exists()


def test_a_process_that_eats_too_much_memory_is_killed_and_that_is_told(api: docker.DockerClient) -> None:
    container = api.containers.run(
        "busybox", ["sh", "-c", "head -c 200m /dev/zero | tail"], detach=True, mem_limit="32m", memswap_limit="32m"
    )
    container.wait(timeout=DEADLINE_S)
    assert state(container)["OOMKilled"] is True
    container.remove()


def test_a_fork_bomb_stays_within_its_limit(api: docker.DockerClient) -> None:
    script = "i=0; while [ $i -lt 40 ]; do sleep 60 & i=$((i+1)); done 2>&1; echo end"
    container = api.containers.run("busybox", ["sh", "-c", script], detach=True, pids_limit=10)
    container.wait(timeout=DEADLINE_S)
    assert b"fork" in container.logs()
    container.remove(force=True)


def test_pause_freezes_and_kill_ends_everything(api: docker.DockerClient) -> None:
    container = api.containers.run("busybox", ["sh", "-c", "sleep 600 & while :; do date; sleep 0.1; done"], detach=True)
    eventually(lambda: container.logs() != b"", "output")
    container.pause()
    assert "frozen 1" in (cgroup(container) / "cgroup.events").read_text()
    assert state(container)["Status"] == "paused"
    container.unpause()
    container.kill()
    container.wait(timeout=DEADLINE_S)
    container.remove()


def test_a_limit_whose_controller_is_not_delegated_is_refused_by_name(engine_: EngineUnderTest, api: docker.DockerClient) -> None:
    if docker_info(engine_)["CPUSet"]:
        container = api.containers.run("busybox", ["sleep", "60"], detach=True, cpuset_cpus="0")
        assert (cgroup(container) / "cpuset.cpus").read_text() == "0\n"
        return
    with pytest.raises(APIError, match="cpuset"):
        api.containers.run("busybox", ["true"], cpuset_cpus="0")


def test_after_a_crash_limits_and_containers_are_still_there(engine_: EngineUnderTest, api: docker.DockerClient) -> None:
    container = api.containers.run("busybox", ["sleep", "600"], detach=True, mem_limit="64m")
    pid = state(container)["Pid"]
    engine_.kill()
    engine_.start()
    assert state(container)["Pid"] == pid
    container.update(mem_limit="80m", memswap_limit="160m")
    assert (cgroup(container) / "memory.max").read_text() == f"{80 << 20}\n"
    container.pause()
    assert state(container)["Status"] == "paused"
    container.remove(force=True)


def test_containers_outlive_the_unit_of_their_engine() -> None:
    engine = EngineUnderTest(rootless=False)
    unit = "kitepy-under-test.service"

    def systemctl(*words: str) -> str:
        return subprocess.run(
            ["systemctl", "--user", *words], capture_output=True, text=True, check=False, timeout=60
        ).stdout.strip()

    properties = ("Type=notify", "Delegate=yes", "KillMode=process", f"StandardError=append:{engine.log}")
    start = [
        *("systemd-run", "--user", "--quiet", f"--unit={unit}", f"--setenv=PYTHONPATH={engine.environment()['PYTHONPATH']}"),
        *(word for value in properties for word in ("-p", value)),
        *engine.PROGRAM,
        *engine.options,
        "--live-restore",
    ]
    try:
        subprocess.run(start, check=True, timeout=120)  # returns when the engine says that it is ready
        assert engine.answers()
        client = engine.docker(timeout_s=120)
        load_busybox(client)
        container = client.containers.run("busybox", ["sleep", "600"], detach=True, mem_limit="64m")
        pid = state(container)["Pid"]
        os.kill(int(systemctl("show", "-P", "MainPID", unit)), signal.SIGKILL)
        eventually(lambda: systemctl("is-active", unit) == "failed", "the unit noticed")
        systemctl("reset-failed", unit)
        assert Path(f"/proc/{pid}").exists()
        subprocess.run(start, check=True, timeout=120)
        assert state(container)["Pid"] == pid
        systemctl("stop", unit)
        assert Path(f"/proc/{pid}").exists()
        subprocess.run(start, check=True, timeout=120)
        assert state(container)["Pid"] == pid
        container.remove(force=True)
        client.close()
    finally:
        systemctl("stop", unit)
        systemctl("reset-failed", unit)
        engine.remove_files()


def test_the_units_that_are_shipped_are_well_formed() -> None:
    for path in sorted((REPOSITORY / "packaging" / "systemd").rglob("*.service")):
        scope = ["--user"] if "user" in path.parts else []
        done = subprocess.run(
            ["systemd-analyze", *scope, "verify", str(path)], capture_output=True, text=True, check=False, timeout=60
        )
        complaints = [line for line in done.stderr.splitlines() if path.name in line and "is not executable" not in line]
        assert complaints == []
