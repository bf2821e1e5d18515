"""Kitepy's AppArmor profile in a kernel that enforces it; the other layers of confinement are taken away to see this one hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import docker
import pytest
from docker.errors import APIError
from support.engine import EngineUnderTest, docker_info

# Without the filter of system calls, masked paths and dropped capabilities, but not privileged: the profile stays.
BARE = {"security_opt": ["seccomp=unconfined", "systempaths=unconfined"], "cap_add": ["ALL"]}


@pytest.fixture(name="output")
def _output(client: docker.DockerClient, busybox: str) -> Callable[..., str]:
    def run(script: str, **options: object) -> str:
        return client.containers.run(busybox, ["sh", "-c", script], remove=True, stderr=True, **options).decode()

    return run


def test_the_host_enforces_and_the_engine_says_so(engine: EngineUnderTest) -> None:
    assert Path("/sys/module/apparmor/parameters/enabled").read_text() == "Y\n"
    assert "name=apparmor" in docker_info(engine)["SecurityOptions"]
    assert "kitepy-default (enforce)\n" in Path("/sys/kernel/security/apparmor/profiles").read_text()


def test_containers_and_execs_are_confined_by_it(client: docker.DockerClient, busybox: str) -> None:
    container = client.containers.run(busybox, ["sleep", "600"], detach=True)
    container.reload()
    pid = container.attrs["State"]["Pid"]
    assert Path(f"/proc/{pid}/attr/current").read_text() == "kitepy-default (enforce)\n"
    assert container.attrs["AppArmorProfile"] == "kitepy-default"
    assert container.exec_run(["cat", "/proc/self/attr/current"]).output == b"kitepy-default (enforce)\n"
    container.remove(force=True)


@pytest.mark.parametrize(
    "attempt",
    [
        "mount -t tmpfs x /m",
        "mount --bind /etc /m",
        "echo x >/proc/sys/kernel/core_pattern",
        "echo h >/proc/sysrq-trigger",
        "head -c 1 /proc/kcore | grep .",
        "echo x >/sys/kernel/uevent_helper",
    ],
)
def test_it_holds_where_the_other_layers_are_off(output: Callable[..., str], attempt: str) -> None:
    text = output(f"mkdir -p /m; if {attempt}; then echo BROKEN; fi", **BARE)
    assert "BROKEN" not in text
    assert "ermission denied" in text or "can't" in text, text


def test_without_it_the_same_is_possible(output: Callable[..., str]) -> None:
    unconfined = {**BARE, "security_opt": [*BARE["security_opt"], "apparmor=unconfined"]}
    assert "MOUNTED" in output("mkdir -p /m; mount -t tmpfs x /m && echo MOUNTED", **unconfined)
    assert "unconfined" in output("cat /proc/self/attr/current", **unconfined)


def test_signals_and_tracing_stop_at_the_containers_border(client: docker.DockerClient, busybox: str) -> None:
    other = client.containers.run(busybox, ["sleep", "600"], detach=True, security_opt=["apparmor=unconfined"])
    other.reload()
    pid = other.attrs["State"]["Pid"]
    text = client.containers.run(
        busybox, ["sh", "-c", f"kill -9 {pid}; true"], remove=True, stderr=True, pid_mode="host", cap_add=["ALL"]
    ).decode()
    assert "ermission denied" in text
    assert Path(f"/proc/{pid}").exists()
    other.remove(force=True)


def test_an_unknown_profile_fails_the_start_and_a_stop_still_works(client: docker.DockerClient, busybox: str) -> None:
    with pytest.raises(APIError, match="no-such-profile"):
        client.containers.run(busybox, ["true"], security_opt=["apparmor=no-such-profile"])
    container = client.containers.run(busybox, ["sh", "-c", "trap 'exit 7' TERM; while :; do sleep 0.1; done"], detach=True)
    container.stop(timeout=60)
    container.reload()
    assert container.attrs["State"]["ExitCode"] == 7
    for leftover in client.containers.list(all=True):
        leftover.remove(force=True)
