"""An ordinary user's engine where its control groups come from elsewhere, and as a service that the user turned on."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from support.engine import EngineUnderTest, docker_info
from support.images import load_busybox

UNIT = "kitepy-under-test-alone.service"


def systemctl(*words: str) -> str:
    return subprocess.run(
        ["systemctl", "--user", *words], capture_output=True, text=True, check=False, timeout=120
    ).stdout.strip()


def group_of(container: docker.models.containers.Container) -> Path:
    container.reload()
    text = Path(f"/proc/{container.attrs['State']['Pid']}/cgroup").read_text()
    return Path("/sys/fs/cgroup" + text.strip().removeprefix("0::"))


@pytest.fixture(name="alone")
def _alone() -> Iterator[EngineUnderTest]:
    """An engine that was given a group but can't reach a systemd that would make it a scope."""
    engine = EngineUnderTest(rootless=False)
    environment = {"PYTHONPATH": engine.environment()["PYTHONPATH"], "XDG_RUNTIME_DIR": str(engine.home)}
    properties = (
        "Type=notify",
        "Delegate=yes",
        f"StandardError=append:{engine.log}",
        "UnsetEnvironment=DBUS_SESSION_BUS_ADDRESS",
    )
    command = [
        *("systemd-run", "--user", "--quiet", f"--unit={UNIT}"),
        *(f"--setenv={name}={value}" for name, value in environment.items()),
        *(word for value in properties for word in ("-p", value)),
        *(*engine.PROGRAM, *engine.options),
    ]
    try:
        subprocess.run(command, check=True, timeout=120)
        yield engine
    finally:
        systemctl("stop", UNIT)
        systemctl("reset-failed", UNIT)
        engine.remove_files()


def test_without_a_manager_to_ask_the_group_it_was_given_is_used(alone: EngineUnderTest) -> None:
    assert docker_info(alone)["MemoryLimit"]
    client = alone.docker(timeout_s=120)
    load_busybox(client)
    container = client.containers.run("busybox", ["sleep", "600"], detach=True, mem_limit="64m")
    group = group_of(container)
    assert UNIT in group.parts
    assert (group / "memory.max").read_text() == f"{64 << 20}\n"
    container.remove(force=True)
    assert not group.exists()
    client.close()


@pytest.fixture(name="engine_", scope="module")
def _engine() -> Iterator[EngineUnderTest]:
    with EngineUnderTest(rootless=False) as engine:  # the test itself is an ordinary user's
        yield engine


def test_the_host_s_view_of_groups_can_be_given_to_a_container(engine_: EngineUnderTest) -> None:
    client = engine_.docker(timeout_s=120)
    load_busybox(client)
    container = client.containers.run("busybox", ["sleep", "600"], detach=True, cgroupns="host", mem_limit="64m")
    seen = container.exec_run(["cat", "/proc/self/cgroup"]).output.decode().strip().removeprefix("0::")
    assert Path("/sys/fs/cgroup" + seen) == group_of(container)
    assert container.exec_run(["cat", f"/sys/fs/cgroup{seen}/memory.max"]).output == f"{64 << 20}\n".encode()
    assert container.exec_run(["mkdir", "/sys/fs/cgroup/x"]).exit_code != 0
    container.remove(force=True)
    client.close()


@pytest.mark.parametrize("shared", ["ipc_mode", "uts_mode", "pid_mode", "network_mode"])
def test_an_exec_joins_a_container_that_shares_a_namespace_with_the_host(engine_: EngineUnderTest, shared: str) -> None:
    client = engine_.docker(timeout_s=120)
    load_busybox(client)
    show = "for name in cgroup ipc mnt net uts; do readlink /proc/$$/ns/$name; done"
    container = client.containers.run("busybox", ["sh", "-c", f"{show}; echo all; sleep 600"], detach=True, **{shared: "host"})
    lines = container.logs(stream=True, follow=True)
    first = b""
    while not first.endswith(b"all\n"):
        first += next(lines)
    assert container.exec_run(["sh", "-c", f"{show}; echo all"]).output == first
    assert first.count(b":[") == 5
    container.remove(force=True)
    client.close()


def test_the_user_turns_the_service_on_and_off_and_containers_stay() -> None:
    python_path = EngineUnderTest.environment()["PYTHONPATH"]
    systemctl("set-environment", f"PYTHONPATH={python_path}")

    def kitepy(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "kitepy", "engine", *words], capture_output=True, text=True, check=False, timeout=200
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    try:
        kitepy("enable")
        assert systemctl("is-enabled", "kitepy.service") == "enabled"
        assert systemctl("is-active", "kitepy.service") == "active"
        location = kitepy("status")
        url = next(word for word in location.split() if word.startswith("unix://"))
        client = docker.DockerClient(base_url=url, version="auto", timeout=120)
        load_busybox(client)
        container = client.containers.run("busybox", ["sleep", "600"], detach=True, mem_limit="64m")
        container.reload()
        pid = container.attrs["State"]["Pid"]
        systemctl("restart", "kitepy.service")
        container.reload()
        assert container.attrs["State"]["Pid"] == pid
        kitepy("disable")
        assert systemctl("is-active", "kitepy.service") != "active"
        assert Path(f"/proc/{pid}").exists()
        client.close()
        kitepy("start")
        client = docker.DockerClient(base_url=url, version="auto", timeout=120)
        again = client.containers.get(container.id)
        assert again.attrs["State"]["Pid"] == pid
        again.remove(force=True)
        client.close()
    finally:
        subprocess.run([sys.executable, "-m", "kitepy", "engine", "stop"], check=False, timeout=120, capture_output=True)
        systemctl("disable", "--now", "kitepy.service")
        systemctl("unset-environment", "PYTHONPATH")
