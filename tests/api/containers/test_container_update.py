"""Changing limits and the restart policy of containers that are there."""

from __future__ import annotations

from typing import Any

import docker
import pytest

MEGA = 1 << 20
LIMITED = {"mem_limit": "64m", "memswap_limit": "128m"}


def _host(container: Any) -> dict[str, Any]:
    container.reload()
    return dict(container.attrs["HostConfig"])


@pytest.fixture(name="container", params=["created", pytest.param("running", marks=pytest.mark.needs("limits"))])
def _container(request: pytest.FixtureRequest, client: docker.DockerClient, busybox: str) -> Any:
    def container(**options: Any) -> Any:
        made = client.containers.create(busybox, ["sleep", "60"], **options)
        if request.param == "running":
            made.start()
        return made

    return container


@pytest.mark.parametrize(
    ("body", "changes"),
    [
        ({}, {}),
        ({"Memory": 32 * MEGA}, {"Memory": 32 * MEGA}),
        ({"Memory": 256 * MEGA, "MemorySwap": 512 * MEGA}, {"Memory": 256 * MEGA, "MemorySwap": 512 * MEGA}),
        ({"MemorySwap": -1}, {"MemorySwap": -1}),
        ({"MemorySwap": 256 * MEGA}, {"MemorySwap": 256 * MEGA}),
        ({"MemoryReservation": 32 * MEGA}, {"MemoryReservation": 32 * MEGA}),
        ({"CpuShares": 512}, {"CpuShares": 512}),
        ({"CpuPeriod": 50000, "CpuQuota": 25000}, {"CpuPeriod": 50000, "CpuQuota": 25000}),
        ({"NanoCpus": 500_000_000}, {"NanoCpus": 500_000_000}),
        ({"CpusetCpus": "0"}, {"CpusetCpus": "0"}),
        ({"PidsLimit": 20}, {"PidsLimit": 20}),
        ({"PidsLimit": -1}, {"PidsLimit": 0}),
        ({"RestartPolicy": {"Name": "always"}}, {"RestartPolicy": {"Name": "always", "MaximumRetryCount": 0}}),
        ({"RestartPolicy": {"MaximumRetryCount": 2}}, {}),
        ({"Unknown": 1}, {}),
    ],
)
def test_what_is_named_is_changed(api: Any, container: Any, events: Any, body: Any, changes: dict[str, Any]) -> None:
    made = container(**LIMITED)
    before = _host(made)
    answer = api("POST", f"/containers/{made.id}/update", body)
    assert (answer.status, answer.json) == (200, {"Warnings": None})
    after = _host(made)
    assert {key: value for key, value in after.items() if value != before.get(key)} == changes
    assert events.actions(made.id, ending="update")[-1] == "update"


@pytest.mark.parametrize(
    ("options", "body", "words"),
    [
        ({}, {"Memory": 64 * MEGA}, "Memory limit should be smaller than already set memoryswap limit"),
        (LIMITED, {"Memory": 256 * MEGA}, "Memory limit should be smaller than already set memoryswap limit"),
        ({"nano_cpus": 10**9}, {"CpuPeriod": 50000}, "CPU Period cannot be updated as NanoCPUs has already been set"),
        ({"nano_cpus": 10**9}, {"CpuQuota": 50000}, "CPU Quota cannot be updated as NanoCPUs has already been set"),
        ({"cpu_quota": 50000}, {"NanoCpus": 10**9}, "Nano CPUs cannot be updated as CPU Quota has already been set"),
        ({"auto_remove": True}, {"RestartPolicy": {"Name": "always"}}, "because AutoRemove is enabled for the container"),
    ],
)
def test_what_contradicts_what_is_set_is_a_conflict(api: Any, container: Any, options: Any, body: Any, words: str) -> None:
    made = container(**options)
    before = _host(made)
    answer = api("POST", f"/containers/{made.id}/update", body)
    assert answer.status == 409
    assert answer.message.startswith(f"Cannot update container {made.id}: ")
    assert words in answer.message
    assert _host(made) == before


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"Memory": 5 * MEGA}, "Minimum memory limit allowed is 6MB"),
        ({"Memory": 64 * MEGA, "MemorySwap": 32 * MEGA}, "Minimum memoryswap limit should be larger than memory limit"),
        ({"CpuPeriod": 10}, "CPU cfs period can not be less than 1ms"),
        ({"CpuQuota": 10}, "CPU cfs quota can not be less than 1ms"),
        ({"CpusetCpus": "a"}, "Invalid value a for cpuset cpus"),
        ({"NanoCpus": -1}, "ange of CPUs is from 0.01"),
        ({"RestartPolicy": {"Name": "bogus"}}, "unknown policy 'bogus'"),
        ({"RestartPolicy": {"Name": "always", "MaximumRetryCount": 3}}, "maximum retry count can only be used with 'on-failure'"),
        ({"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": -1}}, "maximum retry count cannot be negative"),
        ({"Memory": "much"}, "invalid JSON"),
    ],
)
def test_what_makes_no_sense_is_refused(api: Any, container: Any, body: Any, words: str) -> None:
    made = container()
    before = _host(made)
    answer = api("POST", f"/containers/{made.id}/update", body)
    assert answer.status == 400
    assert words in answer.message
    assert _host(made) == before


@pytest.mark.kitepy  # Docker leaves it to the kernel, and answers 500.
@pytest.mark.parametrize("shares", [1, -1, 300_000])
def test_shares_that_no_kernel_takes_are_refused(api: Any, container: Any, shares: int) -> None:
    assert api("POST", f"/containers/{container().id}/update", {"CpuShares": shares}).status == 400


@pytest.mark.kitepy  # Docker says nothing.
def test_what_an_update_does_not_cover_is_said(api: Any, container: Any) -> None:
    made = container()
    answer = api("POST", f"/containers/{made.id}/update", {"Ulimits": [{"Name": "nofile", "Soft": 9, "Hard": 9}]})
    assert (answer.status, answer.json) == (200, {"Warnings": ["Ulimits can't be updated and was left as it is."]})


def test_what_is_not_there_is_not_updated(api: Any) -> None:
    answer = api("POST", "/containers/nobody/update", {"CpuShares": 512})
    assert (answer.status, answer.message) == (404, "No such container: nobody")


@pytest.mark.needs("limits")
@pytest.mark.kitepy  # Docker answers 500.
def test_less_memory_than_is_in_use_is_a_conflict(api: Any, run: Any, until: Any) -> None:
    container = run("head -c 40m /dev/zero | tail | sleep 60", mem_limit="256m", memswap_limit="256m")
    until(lambda: api("GET", f"/containers/{container.id}/stats?stream=0&one-shot=1").json["memory_stats"]["usage"] > 40 * MEGA)
    answer = api("POST", f"/containers/{container.id}/update", {"Memory": 8 * MEGA, "MemorySwap": 8 * MEGA})
    assert answer.status == 409
    assert answer.message.startswith(f"Cannot update container {container.id}: ")
    assert _host(container)["Memory"] == 256 * MEGA


@pytest.mark.needs("limits")
def test_a_limit_of_processes_can_be_taken_back(api: Any, run: Any) -> None:
    container = run(["sleep", "60"], pids_limit=3)

    def many() -> bytes:
        return bytes(container.exec_run(["sh", "-c", "for i in 1 2 3 4 5; do sleep 5 & done; echo made"]).output)

    assert b"made" not in many()
    api("POST", f"/containers/{container.id}/update", {"PidsLimit": 0})
    assert b"made" in many()


# --- the restart policy while it matters -----------------------------------------------------------------------------


def test_a_policy_can_be_given_to_what_runs(api: Any, run: Any, until: Any) -> None:
    container = run("sleep 0.5; exit 3")
    body = {"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 1}}
    assert api("POST", f"/containers/{container.id}/update", body).status == 200

    def ended() -> bool:
        container.reload()
        return bool(container.attrs["RestartCount"] == 1 and container.status == "exited")

    until(ended)


def test_without_its_policy_a_container_starts_once_more(api: Any, restarting: Any, until: Any) -> None:
    container = restarting()
    assert api("POST", f"/containers/{container.id}/update", {"RestartPolicy": {"Name": "no"}}).status == 200

    def ended() -> bool:
        container.reload()
        return bool(container.status == "exited")

    until(ended)
    assert container.attrs["RestartCount"] == 6
