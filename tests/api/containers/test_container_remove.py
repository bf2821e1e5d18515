"""Removing containers: by whom, with what, in which state, and many at a time."""

from __future__ import annotations

import concurrent.futures
import random
from typing import Any

import docker
import pytest
from docker.errors import APIError
from docker.models.containers import Container

ENDS = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done"


def _with_volume(api: Any, client: docker.DockerClient, image: str, command: list[str], **host: Any) -> tuple[Container, str]:
    """A container with an anonymous volume, and the volume's name."""
    wanted = {"Image": image, "Cmd": command, "Volumes": {"/anonymous": {}}, "HostConfig": host}
    container = client.containers.get(api("POST", "/containers/create", wanted).json["Id"])
    (name,) = (mount["Name"] for mount in container.attrs["Mounts"] if mount["Destination"] == "/anonymous")
    return container, name


def _gone(api: Any, container_id: str) -> bool:
    return bool(api("GET", f"/containers/{container_id}/json").status == 404)


def test_a_running_container_is_removed_only_by_force(api: Any, run: Any) -> None:
    container = run(["sleep", "60"], name="busy")
    for ref in ("busy", container.id, container.id[:12]):
        answer = api("DELETE", f"/containers/{ref}")
        assert answer.status == 409
        assert answer.message == (
            f'cannot remove container "{ref}": container is running: stop the container before removing or force remove'
        )
    assert api("DELETE", f"/containers/{container.id}?force=1").status == 204
    answer = api("DELETE", f"/containers/{container.id}?force=1")
    assert (answer.status, answer.message) == (404, f"No such container: {container.id}")


@pytest.mark.needs("limits")
def test_a_paused_container_is_removed_by_force(api: Any, run: Any) -> None:
    container = run(["sleep", "60"])
    container.pause()
    answer = api("DELETE", f"/containers/{container.id}")
    assert answer.status == 409
    assert answer.message.endswith(": container is paused and must be unpaused first")
    assert api("DELETE", f"/containers/{container.id}?force=1").status == 204


def test_what_waits_for_its_restart_is_removed_by_force(api: Any, restarting: Any, events: Any) -> None:
    container = restarting()
    answer = api("DELETE", f"/containers/{container.id}")
    assert answer.status == 409
    assert "container is restarting: stop the container before removing or force remove" in answer.message
    events.forget()
    assert api("DELETE", f"/containers/{container.id}?force=1").status == 204
    assert events.actions(container.id, ending="destroy") == ["destroy"]
    assert _gone(api, container.id)


def test_a_forced_removal_is_told_as_a_kill(run: Any, events: Any) -> None:
    container = run(["sleep", "60"])
    container.remove(force=True)
    assert events.actions(container.id, ending="destroy") == ["create", "start", "kill", "die", "destroy"]


@pytest.mark.parametrize(("query", "kept"), [("", True), ("v=0", True), ("v=1", False), ("v=1&force=1", False)])
def test_anonymous_volumes_go_when_asked(api: Any, client: docker.DockerClient, busybox: str, query: str, kept: bool) -> None:
    container, anonymous = _with_volume(api, client, busybox, ["true"], Binds=["kept-by-remove:/named"])
    try:
        assert api("DELETE", f"/containers/{container.id}?{query}").status == 204
        assert api("GET", "/volumes/kept-by-remove").status == 200
        assert api("GET", f"/volumes/{anonymous}").status == (200 if kept else 404)
    finally:
        for name in ("kept-by-remove", anonymous):
            api("DELETE", f"/volumes/{name}")


def test_a_link_that_is_not_there_is_not_removed(api: Any, run: Any) -> None:
    assert api("DELETE", "/containers/nobody?link=1").status == 404
    container = run(["sleep", "60"])
    answer = api("DELETE", f"/containers/{container.id}?link=1&force=1")
    assert answer.status in (409, 500)  # Docker's is the latter.
    assert answer.message == "Conflict, cannot remove the default link name of the container"
    container.reload()
    assert container.status == "running"


def test_parallel_removals_of_one_container_all_end(api: Any, run: Any) -> None:
    container = run(["sleep", "60"])
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        statuses = list(pool.map(lambda _: api("DELETE", f"/containers/{container.id}?force=1").status, range(6)))
    assert 204 in statuses
    assert set(statuses) <= {204, 404, 409}
    assert _gone(api, container.id)


@pytest.mark.kitepy  # where the files are
def test_files_of_a_removed_container_are_gone(engine: Any, run: Any, until: Any) -> None:
    container = run("echo x >/x; sleep 60")
    directory = engine.data_root / "containers" / container.id
    assert directory.exists()
    container.remove(force=True)
    until(lambda: not directory.exists() and not (engine.exec_root / "containers" / container.id).exists())


@pytest.mark.kitepy  # where the files are
def test_a_removal_is_not_held_up_by_who_looks_at_the_files(engine: Any, run: Any, until: Any) -> None:
    container = run("echo x >/x; sleep 60")
    directory = engine.data_root / "containers" / container.id
    with open(directory / "hostname"):
        container.remove(force=True)
        until(lambda: not directory.exists())


# --- by itself -------------------------------------------------------------------------------------------------------


def test_an_automatic_removal_follows_the_exit(
    client: docker.DockerClient, busybox: str, until: Any, api: Any, events: Any
) -> None:
    container, volume = _with_volume(api, client, busybox, ["true"], AutoRemove=True)
    container.start()
    until(lambda: _gone(api, container.id))
    until(lambda: api("GET", f"/volumes/{volume}").status == 404)
    assert events.actions(container.id, ending="destroy") == ["create", "start", "die", "destroy"]


def test_an_automatic_removal_follows_a_stop(run: Any, until: Any, events: Any) -> None:
    container = run(ENDS, auto_remove=True)
    until(lambda: b"ready" in container.logs())
    container.stop(timeout=5)
    actions = events.actions(container.id, ending="destroy")
    assert actions[:3] == ["create", "start", "kill"]
    assert actions[-1] == "destroy"
    assert sorted(actions[3:-1]) == ["die", "stop"]


def test_an_automatic_removal_does_not_happen_in_a_restart(run: Any, until: Any, api: Any) -> None:
    container = run(ENDS, auto_remove=True)
    until(lambda: b"ready" in container.logs())
    container.restart(timeout=5)
    container.reload()
    assert container.status == "running"
    container.kill()
    until(lambda: _gone(api, container.id))


def test_a_failed_start_removes_a_container_that_was_to_be_removed(
    api: Any, client: docker.DockerClient, busybox: str, until: Any, events: Any
) -> None:
    container, volume = _with_volume(api, client, busybox, ["not-there"], AutoRemove=True)
    with pytest.raises(APIError):
        container.start()
    until(lambda: _gone(api, container.id))
    until(lambda: api("GET", f"/volumes/{volume}").status == 404)
    assert events.actions(container.id, ending="destroy") == ["create", "destroy"]


@pytest.mark.parametrize("policy", ["always", "unless-stopped", "on-failure"])
def test_an_automatic_removal_and_a_restart_policy_exclude_each_other(api: Any, busybox: str, policy: str) -> None:
    host = {"AutoRemove": True, "RestartPolicy": {"Name": policy}}
    answer = api("POST", "/containers/create", {"Image": busybox, "Cmd": ["true"], "HostConfig": host})
    assert (answer.status, answer.message) == (400, "can't create 'AutoRemove' container with restart policy")


# --- many at a time --------------------------------------------------------------------------------------------------


@pytest.mark.kitepy  # Docker answers 500 to some of it.
def test_everybody_at_once_leaves_a_consistent_state(api: Any, client: docker.DockerClient, busybox: str, until: Any) -> None:
    made = [client.containers.create(busybox, ["sleep", "600"]).id for _ in range(4)]
    verbs = [
        "start",
        "start",
        "stop?t=0",
        "kill",
        "restart?t=0",
        "pause",
        "unpause",
        "rename?name=n{}",
    ]
    dice = random.Random(7)  # noqa: S311  # nothing secret
    wishes = [(dice.choice(made), dice.choice(verbs).format(number)) for number in range(100)]
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda wish: (wish, api("POST", f"/containers/{wish[0]}/{wish[1]}")), wishes))
    # 501: without control groups nothing is paused. 500: what isn't paused is not unpaused, as the API's description has it.
    expected = (204, 304, 409, 501)
    assert not [
        (wish, answer)
        for wish, answer in answers
        if answer.status not in expected and not (wish[1] == "unpause" and answer.message.endswith("is not paused"))
    ]
    for container_id in made:
        state = api("GET", f"/containers/{container_id}/json").json["State"]
        assert state["Running"] == (state["Pid"] != 0), state
        api("POST", f"/containers/{container_id}/unpause")
        assert api("POST", f"/containers/{container_id}/restart?t=0").status == 204
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        statuses = set(pool.map(lambda ref: api("DELETE", f"/containers/{ref}?force=1").status, made * 4))
    assert statuses <= {204, 404, 409}
    until(lambda: all(_gone(api, container_id) for container_id in made))
