"""Health checks: the status words and when they change, the log of probes, what is told."""

from __future__ import annotations

from typing import Any

import docker
import pytest
from docker.models.containers import Container

MS = 1_000_000
SECOND = 1_000 * MS


def _check(test: list[str] | str, **more: int) -> dict[str, Any]:
    return {"test": test, "interval": 100 * MS, **more}


def _health(container: Container) -> dict[str, Any]:
    container.reload()
    return dict(container.attrs["State"]["Health"])


@pytest.fixture(name="reaches")
def _reaches(until: Any) -> Any:
    """Wait until a container has that health; gives the whole of it."""
    return lambda container, status: until(lambda: (health := _health(container))["Status"] == status and health)


def test_it_begins_as_starting(run: Any) -> None:
    container = run(["sleep", "60"], healthcheck={"test": ["CMD", "true"]})
    assert _health(container) == {"Status": "starting", "FailingStreak": 0, "Log": []}


def test_a_container_that_never_ran_has_none(client: docker.DockerClient, busybox: str) -> None:
    container = client.containers.create(busybox, ["true"], healthcheck={"test": ["CMD", "true"]})
    assert "Health" not in container.attrs["State"]


@pytest.mark.parametrize("test", [["NONE"], [], ["BOGUS", "x"]])
def test_no_check_no_health(run: Any, test: list[str]) -> None:
    container = run(["sleep", "60"], healthcheck=_check(test))
    container.reload()
    assert "Health" not in container.attrs["State"]


@pytest.mark.parametrize("test", [["CMD", "sh", "-c", "echo fine"], ["CMD-SHELL", "echo fine"], "echo fine"])
def test_a_probe_that_succeeds_makes_it_healthy(run: Any, reaches: Any, test: Any) -> None:
    health = reaches(run(["sleep", "60"], healthcheck=_check(test)), "healthy")
    assert health["FailingStreak"] == 0
    first = health["Log"][0]
    assert (first["ExitCode"], first["Output"]) == (0, "fine\n")
    assert first["Start"] < first["End"]


def test_so_many_failures_in_a_row_make_it_unhealthy(run: Any, until: Any, reaches: Any, events: Any) -> None:
    container = run(["sleep", "60"], healthcheck=_check(["CMD-SHELL", "echo bad >&2; exit 2"], retries=2))
    assert reaches(container, "unhealthy")["FailingStreak"] == 2
    until(lambda: _health(container)["FailingStreak"] > 6)
    log = _health(container)["Log"]
    assert len(log) == 5
    assert {(probe["ExitCode"], probe["Output"]) for probe in log} == {(2, "bad\n")}
    assert [probe["Start"] for probe in log] == sorted(probe["Start"] for probe in log)
    actions = events.actions(container.id)
    assert [action for action in actions if action.startswith("health_status")] == ["health_status: unhealthy"]
    assert actions[:5] == [
        "create",
        "start",
        "exec_create: /bin/sh -c echo bad >&2; exit 2",
        "exec_start: /bin/sh -c echo bad >&2; exit 2",
        "exec_die",
    ]
    assert events.attributes(container.id, "exec_die")[0]["exitCode"] == "2"


def test_health_goes_both_ways(run: Any, reaches: Any, events: Any) -> None:
    container = run(["sleep", "60"], healthcheck=_check(["CMD", "test", "!", "-e", "/sick"], retries=1))
    reaches(container, "healthy")
    container.exec_run(["touch", "/sick"])
    reaches(container, "unhealthy")
    container.exec_run(["rm", "/sick"])
    assert reaches(container, "healthy")["FailingStreak"] == 0
    words = [action for action in events.actions(container.id) if action.startswith("health_status")]
    assert words == ["health_status: healthy", "health_status: unhealthy", "health_status: healthy"]


def test_a_probe_that_takes_too_long_is_ended(run: Any, reaches: Any, until: Any) -> None:
    check = _check(["CMD", "sh", "-c", "echo slow; exec sleep 77"], timeout=300 * MS, retries=1)
    container = run(["sleep", "60"], healthcheck=check)
    probe = reaches(container, "unhealthy")["Log"][0]
    assert (probe["ExitCode"], probe["Output"]) == (-1, "Health check exceeded timeout (300ms): slow\n")
    until(lambda: b"sleep 77" not in container.exec_run(["ps"]).output)


def test_a_probe_that_can_not_run_is_a_failure(run: Any, reaches: Any) -> None:
    probe = reaches(run(["sleep", "60"], healthcheck=_check(["CMD", "not-there"], retries=1)), "unhealthy")["Log"][0]
    assert probe["ExitCode"] == -1
    assert probe["Output"].endswith('exec: "not-there": executable file not found in $PATH')


def test_only_the_beginning_of_the_output_is_kept(run: Any, reaches: Any) -> None:
    health = reaches(run(["sleep", "60"], healthcheck=_check("head -c 100000 /dev/zero | tr '\\0' x")), "healthy")
    assert health["Log"][0]["Output"] == "x" * 4096 + "..."


def test_a_probe_runs_as_the_container_does(run: Any, reaches: Any) -> None:
    container = run(
        ["sleep", "60"], healthcheck=_check("id -u; pwd; echo $A"), user="65534", working_dir="/tmp", environment={"A": "b"}
    )
    assert reaches(container, "healthy")["Log"][0]["Output"] == "65534\n/tmp\nb\n"


# --- while it starts -------------------------------------------------------------------------------------------------


def test_failures_in_the_start_period_do_not_count(api: Any, client: docker.DockerClient, busybox: str, until: Any) -> None:
    check = {
        "Test": ["CMD", "false"],
        "Interval": 60 * SECOND,
        "StartPeriod": 60 * SECOND,
        "StartInterval": 100 * MS,
        "Retries": 1,
    }
    made = api("POST", "/containers/create", {"Image": busybox, "Cmd": ["sleep", "60"], "Healthcheck": check})
    container = client.containers.get(made.json["Id"])
    container.start()
    until(lambda: len(_health(container)["Log"]) >= 3)
    health = _health(container)
    assert (health["Status"], health["FailingStreak"]) == ("starting", 0)


def test_after_the_first_success_failures_count_in_the_start_period_too(run: Any, reaches: Any) -> None:
    check = _check(["CMD", "test", "!", "-e", "/sick"], retries=1, start_period=60 * SECOND)
    # Docker probes every five seconds meanwhile, unless told otherwise.
    container = run(["sleep", "60"], healthcheck=check)
    container.exec_run(["true"])
    reaches(container, "healthy")
    container.exec_run(["touch", "/sick"])
    reaches(container, "unhealthy")


# --- when nobody probes ----------------------------------------------------------------------------------------------


def test_an_ended_container_counts_as_unhealthy_and_starts_anew(run: Any, reaches: Any, events: Any) -> None:
    container = run(["sleep", "60"], healthcheck=_check(["CMD", "true"]))
    log = reaches(container, "healthy")["Log"]
    container.kill()
    ended = _health(container)
    assert (ended["Status"], ended["FailingStreak"]) == ("unhealthy", 0)
    assert ended["Log"][0] == log[0] or len(ended["Log"]) == 5
    container.start()
    assert _health(container)["Log"]
    reaches(container, "healthy")
    words = [action for action in events.actions(container.id) if action.startswith("health_status")]
    assert words == ["health_status: healthy"] * 2


@pytest.mark.needs("limits")
def test_a_paused_container_is_not_probed(run: Any, reaches: Any) -> None:
    container = run(["sleep", "60"], healthcheck=_check(["CMD", "true"], retries=1))
    reaches(container, "healthy")
    container.pause()
    before = _health(container)
    assert (before["Status"], before["FailingStreak"]) == ("unhealthy", 0)
    container.unpause()
    assert reaches(container, "healthy")["FailingStreak"] == 0


def test_lists_can_ask_for_the_health(run: Any, client: docker.DockerClient, reaches: Any) -> None:
    container = run(["sleep", "60"], healthcheck=_check(["CMD", "true"]), labels={"list": "health"})
    reaches(container, "healthy")

    def listed(word: str) -> int:
        return len(client.containers.list(filters={"health": word, "label": "list=health"}))

    assert (listed("healthy"), listed("unhealthy"), listed("none")) == (1, 0, 0)
    (summary,) = client.api.containers(filters={"label": "list=health"})
    assert summary["Status"].endswith("(healthy)")
