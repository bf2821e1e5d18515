"""Signals: how they may be written, and what they mean for a pause and for the restart policy."""

from __future__ import annotations

import os
import signal
from typing import Any
from urllib.parse import quote

import docker
import pytest
from support.containers import ready, state_of

ALWAYS = {"Name": "always"}
TELLS = "trap 'echo got' USR1; trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done"


def test_a_signal_can_be_written_in_many_ways(api: Any, run: Any, until: Any) -> None:
    container = ready(run(TELLS), until)
    for count, text in enumerate(["USR1", "SIGUSR1", "usr1", "SigUsr1", "10", "+10", "010"], 1):
        assert api("POST", f"/containers/{container.id}/kill?signal={quote(text, safe='')}").status == 204, text
        until(lambda count=count: container.logs().count(b"got") == count)


@pytest.mark.parametrize(
    ("text", "number"), [("RTMIN", 34), ("SIGRTMIN+3", 37), ("rtmin+15", 49), ("RTMAX-14", 50), ("RTMAX", 64), ("64", 64)]
)
def test_real_time_signals(api: Any, run: Any, events: Any, text: str, number: int) -> None:
    container = run(["sleep", "60"])
    assert api("POST", f"/containers/{container.id}/kill?signal={quote(text)}").status == 204
    assert [told["signal"] for told in events.attributes(container.id, "kill")] == [str(number)]
    assert state_of(container)["Running"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        *((text, f"invalid signal: {text}") for text in ["LOUD", "0", " KILL", "RTMIN+16", "RTMAX-15", "SIGSIGKILL", "9.0"]),
        *((text, f"the linux daemon does not support signal {text}") for text in ["32", "33", "65", "-1"]),
    ],
)
def test_other_words_are_refused(api: Any, run: Any, text: str, words: str) -> None:
    container = run(["sleep", "60"], name="refuses")
    answer = api("POST", f"/containers/refuses/kill?signal={quote(text)}")
    assert (answer.status, answer.message) == (400, f"cannot kill container: refuses: {words}")
    assert state_of(container)["Running"]


def test_a_wrong_signal_is_told_before_a_missing_container(api: Any) -> None:
    answer = api("POST", "/containers/nobody/kill?signal=LOUD")
    assert (answer.status, answer.message) == (400, "cannot kill container: nobody: invalid signal: LOUD")
    answer = api("POST", "/containers/nobody/kill")
    assert (answer.status, answer.message) == (404, "cannot kill container: nobody: No such container: nobody")


@pytest.mark.parametrize(("signal", "code"), [("", 137), ("9", 137), ("TERM", 7)])
def test_kill_ends_it(api: Any, run: Any, until: Any, signal: str, code: int) -> None:
    container = ready(run(TELLS), until)
    assert api("POST", f"/containers/{container.id}/kill?signal={signal}").status == 204
    assert container.wait(timeout=10)["StatusCode"] == code


def test_a_kill_returns_when_the_container_has_ended(api: Any, run: Any) -> None:
    container = run(["sleep", "60"])
    api("POST", f"/containers/{container.id}/kill")
    state = state_of(container)
    assert (state["Status"], state["ExitCode"], state["Pid"]) == ("exited", 137, 0)


def test_what_does_not_run_is_not_killed(api: Any, client: docker.DockerClient, busybox: str) -> None:
    container = client.containers.create(busybox, ["true"], name="idle")
    answer = api("POST", "/containers/idle/kill")
    assert answer.status == 409
    assert answer.message == f"cannot kill container: idle: container {container.id} is not running"


# --- and a pause -----------------------------------------------------------------------------------------------------


@pytest.mark.needs("limits")
def test_a_signal_ends_a_pause(run: Any, until: Any, events: Any) -> None:
    container = ready(run(TELLS), until)
    container.pause()
    container.kill("USR1")
    until(lambda: b"got" in container.logs())
    assert state_of(container)["Status"] == "running"
    assert events.actions(container.id, ending="unpause")[-3:] == ["pause", "kill", "unpause"]


@pytest.mark.needs("limits")
def test_a_signal_other_than_its_own_leaves_it_paused(run: Any, until: Any) -> None:
    container = ready(run(TELLS, stop_signal="SIGTERM"), until)
    container.pause()
    container.kill("USR1")
    assert state_of(container)["Status"] == "paused"
    container.kill("TERM")
    assert container.wait(timeout=10)["StatusCode"] == 7


@pytest.mark.needs("limits")
def test_a_paused_container_is_killed_at_once(run: Any, events: Any) -> None:
    container = run(["sleep", "60"])
    container.pause()
    container.kill()
    assert state_of(container)["Status"] == "exited"
    assert events.actions(container.id, ending="die")[-3:] == ["pause", "kill", "die"]


# --- and the restart policy ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("signal", ["KILL", "TERM", "INT", "HUP"])
def test_an_end_by_a_signal_of_the_user_is_final(run: Any, until: Any, signal: str) -> None:
    container = ready(run("trap 'exit 1' TERM INT HUP; echo ready; while :; do sleep 0.05; done", restart_policy=ALWAYS), until)
    container.kill(signal)
    until(lambda: state_of(container)["Status"] == "exited")
    assert container.attrs["RestartCount"] == 0


def test_any_signal_of_the_user_ends_the_policy(run: Any, until: Any) -> None:
    container = ready(run(TELLS, restart_policy=ALWAYS), until)
    container.kill("USR1")
    until(lambda: b"got" in container.logs())
    os.kill(state_of(container)["Pid"], signal.SIGKILL)  # not through the engine
    until(lambda: state_of(container)["Status"] == "exited")
    container.start()
    pid = state_of(container)["Pid"]
    os.kill(pid, signal.SIGKILL)
    until(lambda: state_of(container)["Pid"] not in (0, pid))


def test_with_a_stop_signal_of_its_own_only_that_ends_the_policy(run: Any, until: Any) -> None:
    script = "trap 'exit 1' TERM HUP; echo ready; while :; do sleep 0.05; done"
    container = ready(run(script, restart_policy=ALWAYS, stop_signal="SIGTERM"), until)
    container.kill("HUP")
    until(lambda: container.logs().count(b"ready") == 2)
    container.kill("TERM")
    until(lambda: state_of(container)["Status"] == "exited")
    assert container.attrs["RestartCount"] == 1


def test_a_kill_ends_the_wait_for_a_restart(api: Any, restarting: Any, until: Any, events: Any) -> None:
    container = restarting()
    events.forget()
    assert api("POST", f"/containers/{container.id}/kill?signal=USR2").status == 204
    until(lambda: state_of(container)["Status"] == "exited")
    assert events.actions(container.id) == []
    assert container.attrs["RestartCount"] == 6
