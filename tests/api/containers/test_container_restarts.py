"""Restart policies, and what an engine's end and start mean for containers."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from support.engine import EngineUnderTest, docker_info
from support.images import load_busybox

ALWAYS = {"Name": "always"}
UNLESS_STOPPED = {"Name": "unless-stopped"}


def _attrs(container: Any) -> dict[str, Any]:
    container.reload()
    return dict(container.attrs)


# --- policies while the engine runs ----------------------------------------------------------------------------------


def test_on_failure_restarts_as_often_as_allowed(run: Any, until: Any) -> None:
    container = run("echo go; exit 3", restart_policy={"Name": "on-failure", "MaximumRetryCount": 2})
    until(lambda: _attrs(container)["State"]["Status"] == "exited")
    assert container.attrs["RestartCount"] == 2
    assert container.attrs["State"]["ExitCode"] == 3
    assert container.logs() == b"go\n" * 3


def test_on_failure_leaves_a_success_alone(run: Any, until: Any) -> None:
    container = run("exit 0", restart_policy={"Name": "on-failure"})
    until(lambda: _attrs(container)["State"]["Status"] == "exited")
    assert container.attrs["RestartCount"] == 0


@pytest.mark.parametrize("policy", [ALWAYS, UNLESS_STOPPED])
def test_a_container_comes_back_even_after_success(run: Any, until: Any, policy: dict[str, Any]) -> None:
    container = run("exit 0", restart_policy=policy)
    until(lambda: _attrs(container)["RestartCount"] >= 2)


@pytest.mark.parametrize("signal", ["KILL", "TERM", "INT"])
def test_kill_counts_as_a_manual_stop(run: Any, until: Any, signal: str) -> None:
    container = run("trap 'exit 1' TERM INT; while :; do sleep 0.05; done", restart_policy=ALWAYS)
    until(lambda: _attrs(container)["State"]["Running"])
    container.exec_run(["true"])
    container.kill(signal)
    until(lambda: _attrs(container)["State"]["Status"] == "exited")
    assert container.attrs["RestartCount"] == 0


def test_a_process_that_dies_by_itself_comes_back(run: Any, until: Any) -> None:
    container = run(["sleep", "600"], restart_policy=ALWAYS)
    first = _attrs(container)["State"]["Pid"]
    # Not through the engine, as the kernel's OOM killer would.
    os.kill(first, signal.SIGKILL)
    until(lambda: _attrs(container)["State"]["Pid"] not in (0, first))
    assert container.attrs["RestartCount"] == 1


def test_stop_ends_a_container_that_waits_for_its_restart(run: Any, until: Any, api: Any) -> None:
    container = run("exit 1", restart_policy=ALWAYS)
    until(lambda: _attrs(container)["RestartCount"] >= 3)
    assert api("POST", f"/containers/{container.id}/stop?t=0").status == 204
    assert _attrs(container)["State"]["Status"] == "exited"
    count = container.attrs["RestartCount"]
    assert api("POST", f"/containers/{container.id}/stop?t=0").status == 304
    assert _attrs(container)["RestartCount"] == count


def test_a_restarting_container_is_removed_by_force(run: Any, until: Any, api: Any) -> None:
    container = run("exit 1", restart_policy=ALWAYS)
    until(lambda: _attrs(container)["RestartCount"] >= 2)
    until(lambda: _attrs(container)["State"]["Restarting"])
    assert api("DELETE", f"/containers/{container.id}?force=1").status == 204
    assert api("GET", f"/containers/{container.id}/json").status == 404


def test_a_start_by_hand_forgets_the_counted_restarts(run: Any, until: Any) -> None:
    container = run("exit 3", restart_policy={"Name": "on-failure", "MaximumRetryCount": 1})
    until(lambda: _attrs(container)["State"]["Status"] == "exited")
    assert container.attrs["RestartCount"] == 1
    started = container.attrs["State"]["StartedAt"]
    container.start()
    until(lambda: _attrs(container)["State"]["Status"] == "exited" and container.attrs["State"]["StartedAt"] > started)
    assert container.attrs["RestartCount"] == 1


# --- over an engine's end --------------------------------------------------------------------------------------------


@pytest.fixture(name="own_engine")
def _own_engine() -> Iterator[EngineUnderTest]:
    with EngineUnderTest() as engine:
        yield engine


@pytest.fixture(name="own_client")
def _own_client(own_engine: EngineUnderTest) -> Iterator[docker.DockerClient]:
    client = own_engine.docker()
    load_busybox(client)
    yield client
    client.close()


@pytest.mark.usefixtures("engine")  # marks it as one for root
def test_policies_over_an_engines_stop_and_start(
    own_engine: EngineUnderTest, own_client: docker.DockerClient, until: Any
) -> None:
    def run(name: str, **policy: Any) -> Any:
        script = "trap 'exit 0' TERM; while :; do sleep 0.05; done"
        return own_client.containers.run(
            "busybox", ["sh", "-c", script], detach=True, name=name, restart_policy=policy or None, network_mode="none"
        )

    run("plain")
    run("always", Name="always")
    run("unless", Name="unless-stopped")
    for name, policy in (("always-stopped", "always"), ("unless-stopped", "unless-stopped"), ("unless-killed", "unless-stopped")):
        container = run(name, Name=policy)
        container.kill() if name.endswith("killed") else container.stop(timeout=1)
    own_client.containers.get("unless-killed").wait()
    own_engine.stop()
    own_engine.start()
    expected = {
        "plain": "exited",
        "always": "running",
        "unless": "running",
        "always-stopped": "running",
        "unless-stopped": "exited",
        "unless-killed": "exited",
    }

    def statuses() -> dict[str, str]:
        return {container.name: container.status for container in own_client.containers.list(all=True)}

    until(lambda: statuses() == expected)


@pytest.mark.usefixtures("engine")  # marks it as one for root
def test_an_engines_start_remembers_tries_and_health(
    own_engine: EngineUnderTest, own_client: docker.DockerClient, until: Any
) -> None:
    policy = {"Name": "on-failure", "MaximumRetryCount": 1}
    tried = own_client.containers.run("busybox", ["sh", "-c", "exit 3"], detach=True, restart_policy=policy, network_mode="none")
    check = {"test": ["CMD", "echo", "fine"], "interval": 100_000_000}
    checked = own_client.containers.run("busybox", ["sleep", "60"], detach=True, healthcheck=check, network_mode="none")
    until(lambda: _attrs(tried)["State"]["Status"] == "exited" and tried.attrs["RestartCount"] == 1)
    until(lambda: _attrs(checked)["State"]["Health"]["Status"] == "healthy")
    checked.kill()
    before = tried.attrs["State"], _attrs(checked)["State"]
    own_engine.stop()
    own_engine.start()
    assert (_attrs(tried)["State"], _attrs(checked)["State"]) == before
    assert before[1]["Health"]["Log"][0]["Output"] == "fine\n"


@pytest.mark.usefixtures("engine")  # marks it as one for root
def test_what_ends_without_an_engine_is_removed_by_the_next(
    own_engine: EngineUnderTest, own_client: docker.DockerClient, until: Any
) -> None:
    script = "sleep 0.4; exit 0"
    container = own_client.containers.run("busybox", ["sh", "-c", script], detach=True, auto_remove=True, network_mode="none")
    own_engine.kill()
    until(lambda: not _runs(script))
    own_engine.start()
    until(lambda: not own_client.api.containers(all=True, filters={"id": container.id}))


@pytest.mark.usefixtures("engine")  # marks it as one for root
def test_after_a_crash_of_the_engine_nothing_is_lost(
    own_engine: EngineUnderTest, own_client: docker.DockerClient, until: Any
) -> None:
    def run(script: str, **options: Any) -> Any:
        return own_client.containers.run("busybox", ["sh", "-c", script], detach=True, **options)

    lives = run("i=0; while :; do echo $i; i=$((i+1)); sleep 0.01; done", name="lives", ports={"80/tcp": None})
    ends = run("sleep 0.4; echo bye; exit 9", name="ends")
    paused = run("sleep 600", name="paused")
    can_pause = docker_info(own_engine)["CgroupDriver"] != "none"
    if can_pause:
        paused.pause()
    address = _attrs(lives)["NetworkSettings"]["IPAddress"]
    pid = lives.attrs["State"]["Pid"]
    own_engine.kill()
    until(lambda: not _runs("sleep 0.4; echo bye"))
    own_engine.start()
    after = _attrs(lives)
    assert after["State"]["Status"] == "running"
    assert after["State"]["Pid"] == pid
    assert after["NetworkSettings"]["IPAddress"] == address
    ended = _attrs(ends)
    assert (ended["State"]["Status"], ended["State"]["ExitCode"]) == ("exited", 9)
    assert ended["NetworkSettings"]["IPAddress"] == ""
    assert ends.logs() == b"bye\n"
    assert _attrs(paused)["State"]["Status"] == ("paused" if can_pause else "running")
    if can_pause:
        paused.unpause()
    lives.kill()
    assert lives.wait()["StatusCode"] == 137
    numbers = lives.logs().split()
    assert numbers == [b"%d" % number for number in range(len(numbers))]
    assert paused.exec_run(["true"]).exit_code == 0


def _runs(text: str) -> bool:
    """Whether a process has this text in its command line."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                if text.encode() in (entry / "cmdline").read_bytes():
                    return True
            except OSError:
                continue  # It ended meanwhile.
    return False
