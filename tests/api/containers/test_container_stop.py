"""Start, stop and restart: parameters, states, and what is told meanwhile."""

from __future__ import annotations

import time
from typing import Any

import docker
import pytest
from support.containers import ready, state_of

IGNORES_TERM = "trap '' TERM; echo ready; while :; do sleep 0.1; done"
ENDS = "trap 'exit 7' TERM; trap 'exit 9' HUP; echo ready; while :; do sleep 0.05; done"


# --- start -----------------------------------------------------------------------------------------------------------


def test_starting_and_stopping_twice_changes_nothing(api: Any, run: Any, until: Any) -> None:
    container = ready(run(ENDS), until)
    assert api("POST", f"/containers/{container.id}/start").status == 304
    assert api("POST", f"/containers/{container.id}/stop").status == 204
    assert api("POST", f"/containers/{container.id}/stop").status == 304
    state = state_of(container)
    assert (state["ExitCode"], state["Pid"]) == (7, 0)


def test_what_waits_for_its_restart_counts_as_started(api: Any, restarting: Any) -> None:
    container = restarting()
    assert api("POST", f"/containers/{container.id}/start").status == 304
    assert state_of(container)["Restarting"]


@pytest.mark.parametrize("body", [None, {}])
def test_a_start_takes_an_empty_body(api: Any, client: docker.DockerClient, busybox: str, body: Any) -> None:
    container = client.containers.create(busybox, ["sleep", "60"])
    assert api("POST", f"/containers/{container.id}/start", body).status == 204


@pytest.mark.parametrize("version", ["1.24", "1.51"])
def test_a_start_takes_no_configuration(api: Any, client: docker.DockerClient, busybox: str, version: str) -> None:
    container = client.containers.create(busybox, ["sleep", "60"])
    answer = api("POST", f"/containers/{container.id}/start", {"Binds": ["/tmp:/tmp"]}, version=version)
    assert answer.status == 400
    assert "starting container with non-empty request body was deprecated" in answer.message
    assert state_of(container)["Status"] == "created"


def test_a_start_from_a_checkpoint_is_refused(api: Any, client: docker.DockerClient, busybox: str) -> None:
    container = client.containers.create(busybox, ["sleep", "60"])
    answer = api("POST", f"/containers/{container.id}/start?checkpoint=x")
    assert (answer.status, answer.message) == (400, "checkpoint is only supported in experimental mode")


def test_a_start_that_fails_keeps_the_exit_code_and_tells_why(api: Any, client: docker.DockerClient, busybox: str) -> None:
    container = client.containers.create(busybox, ["not-there"])
    for _ in range(2):
        answer = api("POST", f"/containers/{container.id}/start")
        assert answer.status == 400
        state = state_of(container)
        assert (state["Status"], state["ExitCode"], state["Error"]) == ("created", 127, answer.message)
        assert answer.message.endswith('exec: "not-there": executable file not found in $PATH')
        assert state["StartedAt"] == state["FinishedAt"] == "0001-01-01T00:00:00Z"
    waited = api("POST", f"/containers/{container.id}/wait").json
    assert waited == {"StatusCode": 127, "Error": {"Message": answer.message}}


def test_starts_and_ends_are_told_with_network_and_volume(client: docker.DockerClient, busybox: str, events: Any) -> None:
    container = client.containers.create(busybox, ["true"], volumes=["/data"], labels={"colour": "red"}, name="told")
    container.start()
    container.wait()
    container.remove(v=True)
    events.actions(container.id, ending="destroy")
    told = [(kind, action) for kind, action, _ in events.all(container.id) if (kind, action) != ("volume", "create")]
    assert told == [
        ("container", "create"),
        ("volume", "mount"),
        ("network", "connect"),
        ("container", "start"),
        ("network", "disconnect"),
        ("volume", "unmount"),
        ("container", "die"),
        ("container", "destroy"),
    ]
    (died,) = events.attributes(container.id, "die")
    assert died == {"colour": "red", "image": busybox, "name": "told", "exitCode": "0", "execDuration": "0"}
    (mounted,) = events.attributes(container.id, "mount")
    assert (mounted["destination"], mounted["driver"], mounted["read/write"]) == ("/data", "local", "true")


@pytest.mark.parametrize(("mode", "driver"), [("none", "null"), ("host", "host"), ("bridge", "bridge")])
def test_every_network_is_told(client: docker.DockerClient, busybox: str, events: Any, mode: str, driver: str) -> None:
    container = client.containers.create(busybox, ["true"], network_mode=mode)
    container.start()
    container.wait()
    for action in ("connect", "disconnect"):
        (told,) = events.attributes(container.id, action)
        assert told == {"container": container.id, "name": mode, "type": driver}


# --- stop ------------------------------------------------------------------------------------------------------------


def test_stop_kills_after_the_grace_period(run: Any, until: Any) -> None:
    container = ready(run(IGNORES_TERM), until)
    began = time.monotonic()
    container.stop(timeout=1)
    assert 0.9 < time.monotonic() - began < 5
    assert container.wait()["StatusCode"] == 137


def test_stop_without_grace_sends_both_signals(run: Any, until: Any, events: Any) -> None:
    container = ready(run(IGNORES_TERM), until)
    container.stop(timeout=0)
    assert container.wait()["StatusCode"] == 137
    events.actions(container.id, ending="die")
    assert [told["signal"] for told in events.attributes(container.id, "kill")] == ["15", "9"]


@pytest.mark.parametrize("timeout", [-1, 5])
def test_stop_waits_for_an_end_of_its_own(api: Any, run: Any, until: Any, events: Any, timeout: int) -> None:
    container = ready(run(ENDS), until)
    assert api("POST", f"/containers/{container.id}/stop?t={timeout}").status == 204
    assert state_of(container)["ExitCode"] == 7
    assert [told["signal"] for told in events.attributes(container.id, "kill")] == ["15"]


def test_stop_uses_the_containers_own_signal_and_grace_period(run: Any, until: Any) -> None:
    container = ready(run("trap 'exit 5' INT; echo ready; while :; do sleep 0.05; done", stop_signal="SIGINT"), until)
    container.stop()
    assert container.wait()["StatusCode"] == 5


def test_stop_uses_the_containers_own_grace_period(api: Any, client: docker.DockerClient, busybox: str, until: Any) -> None:
    made = api("POST", "/containers/create", {"Image": busybox, "Cmd": ["sh", "-c", IGNORES_TERM], "StopTimeout": 0})
    container = client.containers.get(made.json["Id"])
    container.start()
    ready(container, until)
    assert api("POST", f"/containers/{container.id}/stop").status == 204
    assert state_of(container)["ExitCode"] == 137


@pytest.mark.parametrize("signal", ["HUP", "sighup", "1"])
def test_the_signal_of_a_stop_can_be_chosen(api: Any, run: Any, until: Any, signal: str) -> None:
    container = ready(run(ENDS), until)
    assert api("POST", f"/containers/{container.id}/stop?signal={signal}").status == 204
    assert state_of(container)["ExitCode"] == 9


def test_old_clients_can_not_choose_it(api: Any, run: Any, until: Any) -> None:
    container = ready(run(ENDS), until)
    assert api("POST", f"/containers/{container.id}/stop?signal=HUP", version="1.41").status == 204
    assert state_of(container)["ExitCode"] == 7


@pytest.mark.kitepy  # Docker answers 500.
@pytest.mark.parametrize("query", ["signal=LOUD", "t=abc", "t=1.5", "t=99999999999999999999"])
@pytest.mark.parametrize("action", ["stop", "restart"])
def test_a_wrong_parameter_is_refused(api: Any, run: Any, action: str, query: str) -> None:
    container = run(["sleep", "60"])
    assert api("POST", f"/containers/{container.id}/{action}?{query}").status == 400
    assert state_of(container)["Running"]


def test_what_does_not_run_is_stopped_whatever_the_signal(api: Any, client: docker.DockerClient, busybox: str) -> None:
    container = client.containers.create(busybox, ["true"])
    assert api("POST", f"/containers/{container.id}/stop?signal=LOUD").status == 304


@pytest.mark.needs("limits")
def test_stop_thaws_a_paused_container(run: Any, until: Any, events: Any) -> None:
    container = ready(run(ENDS), until)
    container.pause()
    container.stop(timeout=5)
    assert container.wait()["StatusCode"] == 7
    actions = events.actions(container.id, ending="die")
    assert actions[2:5] == ["pause", "kill", "unpause"]
    assert sorted(actions[5:]) in (["die"], ["die", "stop"])  # Docker sends them in either order.


def test_a_stop_ends_the_wait_for_a_restart(api: Any, restarting: Any, events: Any) -> None:
    container = restarting()
    events.forget()
    assert api("POST", f"/containers/{container.id}/stop").status == 204
    state = state_of(container)
    assert (state["Status"], state["Running"], state["Restarting"], state["ExitCode"]) == ("exited", False, False, 5)
    assert events.actions(container.id, ending="stop") == ["stop"]
    assert api("POST", f"/containers/{container.id}/stop").status == 304


# --- restart ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", ["created", "running", "exited", pytest.param("paused", marks=pytest.mark.needs("limits"))])
def test_restart_starts_it_whatever_it_was(
    api: Any, client: docker.DockerClient, busybox: str, until: Any, events: Any, before: str
) -> None:
    container = client.containers.create(busybox, ["sh", "-c", ENDS])
    if before != "created":
        container.start()
        ready(container, until)
    if before == "paused":
        container.pause()
    if before == "exited":
        container.stop(timeout=5)
    events.forget()
    old = state_of(container)
    assert api("POST", f"/containers/{container.id}/restart?t=5").status == 204
    new = state_of(container)
    assert (new["Status"], new["ExitCode"], new["Error"]) == ("running", 0, "")
    assert new["Pid"] != old["Pid"]
    assert new["StartedAt"] > old["StartedAt"]
    assert container.attrs["RestartCount"] == 0
    actions = [action for action in events.actions(container.id, ending="restart") if action not in ("kill", "unpause")]
    assert actions[-2:] == ["start", "restart"]
    assert sorted(actions[:-2]) == ([] if before in ("created", "exited") else ["die", "stop"])


def test_restart_of_what_waits_for_its_restart_begins_to_count_anew(api: Any, restarting: Any) -> None:
    container = restarting()
    assert api("POST", f"/containers/{container.id}/restart").status == 204
    container.reload()
    assert container.attrs["RestartCount"] < 6


def test_a_restart_that_fails_says_what_failed(api: Any, client: docker.DockerClient, busybox: str) -> None:
    client.containers.create(busybox, ["not-there"], name="never")
    answer = api("POST", "/containers/never/restart")
    assert answer.status in (400, 500)  # Docker's is the latter, though the same start by itself gives it a 400.
    assert answer.message.startswith("Cannot restart container never: ")
    assert answer.message.endswith("executable file not found in $PATH")
