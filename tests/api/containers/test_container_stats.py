"""What a container uses: one document, two for a difference, or one a second, with numbers that are right."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import docker
import pytest
import requests
from support.contract import ApiContract

NEVER = "0001-01-01T00:00:00Z"
BLOCK_LISTS = {
    *("io_service_bytes_recursive", "io_serviced_recursive", "io_queue_recursive", "io_service_time_recursive"),
    *("io_wait_time_recursive", "io_merged_recursive", "io_time_recursive", "sectors_recursive"),
}
NO_CPU = {
    "cpu_usage": {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0},
    "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0},
}


@contextmanager
def _streamed(client: docker.DockerClient, ref: str) -> Iterator[Iterator[dict[str, Any]]]:
    """The documents of a stream; the connection is closed at the end of the block."""
    response: requests.Response = client.api.get(client.api._url("/containers/{0}/stats", ref), stream=True, timeout=30)
    try:
        assert response.status_code == 200
        yield (json.loads(line) for line in response.iter_lines() if line)
    finally:
        response.close()


def _moment(text: str) -> datetime:
    """A time of the API, to the microsecond."""
    return datetime.fromisoformat(text.rstrip("Z")[:26])


def test_one_document_tells_the_difference_of_two_samples(run: Any, api: Any, contract: ApiContract) -> None:
    container = run("sleep 60", name="stats-one")
    answer = api("GET", "/containers/stats-one/stats?stream=false")
    document = answer.json
    assert answer.status == 200
    contract.check("GET", "/containers/{id}/stats", 200, document)
    assert (document["name"], document["id"]) == ("/stats-one", container.id)
    assert NEVER < document["preread"] < document["read"]
    assert document["cpu_stats"]["system_cpu_usage"] > document["precpu_stats"]["system_cpu_usage"] > 0
    assert document["cpu_stats"]["online_cpus"] >= 1
    assert document["memory_stats"]["usage"] > 0
    assert document["pids_stats"]["current"] >= 1
    assert set(document["blkio_stats"]) == BLOCK_LISTS
    assert document["num_procs"] == 0
    assert document["storage_stats"] == {}


def test_a_single_sample_comes_at_once_and_compares_with_nothing(run: Any, api: Any) -> None:
    container = run("sleep 60")
    document = api("GET", f"/containers/{container.id}/stats?stream=false&one-shot=true").json
    assert document["preread"] == NEVER
    assert document["precpu_stats"] == NO_CPU
    assert document["read"] > NEVER
    assert document["cpu_stats"]["system_cpu_usage"] > document["cpu_stats"]["cpu_usage"]["total_usage"]


def test_a_single_sample_can_not_be_streamed(run: Any, api: Any) -> None:
    answer = api("GET", f"/containers/{run('sleep 60').id}/stats?stream=true&one-shot=true")
    assert answer.status == 400
    assert answer.message == "cannot have stream=true and one-shot=true"


def test_an_unknown_container_is_not_found(api: Any) -> None:
    answer = api("GET", "/containers/nobody/stats")
    assert (answer.status, answer.message) == (404, "No such container: nobody")


@pytest.mark.parametrize("query", ["?stream=false", "?stream=false&one-shot=true"])
def test_a_container_that_does_not_run_uses_nothing(
    client: docker.DockerClient, busybox: str, api: Any, contract: ApiContract, query: str
) -> None:
    container = client.containers.create(busybox, ["true"], name="stats-created")
    document = api("GET", f"/containers/{container.id}/stats{query}").json
    contract.check("GET", "/containers/{id}/stats", 200, document)
    assert document == {
        "name": "/stats-created",
        "id": container.id,
        "read": NEVER,
        "preread": NEVER,
        "pids_stats": {},
        "blkio_stats": dict.fromkeys(BLOCK_LISTS),
        "num_procs": 0,
        "storage_stats": {},
        "cpu_stats": NO_CPU,
        "precpu_stats": NO_CPU,
        "memory_stats": {},
    }


def test_each_document_of_a_stream_begins_where_the_last_one_ended(client: docker.DockerClient, run: Any) -> None:
    container = run("sleep 60")
    with _streamed(client, container.id) as documents:
        first, second, third = (next(documents) for _ in range(3))
    assert first["preread"] == NEVER
    assert first["precpu_stats"] == NO_CPU
    assert (second["preread"], third["preread"]) == (first["read"], second["read"])
    assert third["precpu_stats"] == second["cpu_stats"]


def test_a_stream_survives_the_end_of_the_container_and_ends_with_its_removal(client: docker.DockerClient, run: Any) -> None:
    container = run("sleep 60", name="stats-ends")
    with _streamed(client, container.id) as documents:
        assert next(documents)["read"] > NEVER
        container.kill()
        stopped = next(document for document in documents if document["read"] == NEVER)
        assert stopped["cpu_stats"] == NO_CPU
        assert stopped["preread"] > NEVER
        container.start()
        assert next(document for document in documents if document["read"] > NEVER)["memory_stats"]
        container.rename("stats-renamed")
        assert next(document for document in documents if document["name"] == "/stats-renamed")
        removal = threading.Thread(target=container.remove, kwargs={"force": True})
        removal.start()
        assert len(list(documents)) < 20
        removal.join(20)


def test_a_busy_container_shows_the_processor_time_that_it_takes(run: Any, api: Any) -> None:
    container = run("while :; do :; done")
    document = api("GET", f"/containers/{container.id}/stats?stream=false").json
    now, before = document["cpu_stats"], document["precpu_stats"]
    took_s = (now["cpu_usage"]["total_usage"] - before["cpu_usage"]["total_usage"]) / 1e9
    passed_s = (_moment(document["read"]) - _moment(document["preread"])).total_seconds()
    # One loop can have one processor at most, and gets a part of it even on a busy machine.
    assert 0.02 < took_s / passed_s < 1.3
    assert now["system_cpu_usage"] > before["system_cpu_usage"]
    assert now["cpu_usage"]["usage_in_usermode"] > 0


def test_memory_that_is_held_is_counted(run: Any, api: Any, until: Any) -> None:
    container = run("x=$(head -c 8000000 /dev/zero | tr '\\0' x); echo held; while :; do sleep 1; done")
    until(lambda: b"held" in container.logs(), timeout_s=60)
    memory = api("GET", f"/containers/{container.id}/stats?stream=false&one-shot=true").json["memory_stats"]
    assert memory["usage"] > 7_500_000
    assert memory["limit"] > 200_000_000


@pytest.mark.needs("limits")
def test_limits_show_in_the_numbers(run: Any, api: Any, until: Any) -> None:
    container = run("while :; do :; done", mem_limit="64m", nano_cpus=200_000_000, pids_limit=33)

    def throttled() -> Any:
        document = api("GET", f"/containers/{container.id}/stats?stream=false&one-shot=true").json
        return document if document["cpu_stats"]["throttling_data"]["throttled_periods"] > 1 else None

    document = until(throttled)
    assert document["memory_stats"]["limit"] == 64 << 20
    assert document["pids_stats"] == {"current": 1, "limit": 33}
    throttling = document["cpu_stats"]["throttling_data"]
    assert throttling["periods"] >= throttling["throttled_periods"] > 1
    assert throttling["throttled_time"] > 0
    assert {"pgfault", "active_anon", "inactive_file"} <= set(document["memory_stats"]["stats"])


def test_bytes_that_are_sent_are_counted_at_both_ends(run: Any, api: Any, until: Any) -> None:
    receiver = run("sleep 60")
    receiver.reload()
    address = receiver.attrs["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
    sender = run(f"ping -c 5 -i 0.1 -s 1000 {address} && echo sent; sleep 60")
    until(lambda: b"\nsent" in sender.logs())
    for container in (sender, receiver):
        eth0 = api("GET", f"/containers/{container.id}/stats?stream=false&one-shot=true").json["networks"]["eth0"]
        for way in ("rx", "tx"):
            assert 5000 < eth0[f"{way}_bytes"] < 15000
            assert 5 <= eth0[f"{way}_packets"] < 60
            assert eth0[f"{way}_errors"] == eth0[f"{way}_dropped"] == 0


@pytest.mark.parametrize("mode", ["host", "none"])
def test_a_container_without_interfaces_of_its_own_has_no_network_numbers(run: Any, api: Any, mode: str) -> None:
    container = run("sleep 60", network_mode=mode)
    assert "networks" not in api("GET", f"/containers/{container.id}/stats?stream=false&one-shot=true").json


def test_a_shared_network_counts_for_both(run: Any, api: Any) -> None:
    first = run("sleep 60")
    second = run("sleep 60", network_mode=f"container:{first.id}")
    assert set(api("GET", f"/containers/{second.id}/stats?stream=false&one-shot=true").json["networks"]) == {"eth0"}


@pytest.mark.needs("limits")
def test_a_paused_container_is_still_counted(run: Any, api: Any) -> None:
    container = run("while :; do :; done")
    container.pause()
    document = api("GET", f"/containers/{container.id}/stats?stream=false").json
    assert document["cpu_stats"]["cpu_usage"] == document["precpu_stats"]["cpu_usage"]
    container.unpause()


@pytest.mark.kitepy
def test_many_readers_of_many_containers_leave_no_descriptor_open(client: docker.DockerClient, run: Any, until: Any) -> None:
    containers = [run("sleep 60") for _ in range(3)]
    before = client.info()["NFd"]
    for _ in range(3):
        for container in containers:
            with _streamed(client, container.id) as documents:
                next(documents)
    until(lambda: client.info()["NFd"] <= before + 2)
