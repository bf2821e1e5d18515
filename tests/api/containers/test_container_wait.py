"""Waiting for the end of a container: what each condition means in each state."""

from __future__ import annotations

import concurrent.futures
import json
import socket
from collections.abc import Callable, Iterator
from typing import Any

import docker
import pytest
from docker.errors import NotFound

Waiting = concurrent.futures.Future[Any]
CONDITIONS = ["not-running", "next-exit", "removed"]


@pytest.fixture(name="wait")
def _wait(api: Any) -> Iterator[Callable[..., Waiting]]:
    """Begin to wait; returns once the engine has the request, which it shows by the head of its answer."""
    with concurrent.futures.ThreadPoolExecutor(8) as pool:

        def wait(container_id: str, condition: str) -> Waiting:
            connection = socket.socket(socket.AF_UNIX)
            connection.settimeout(20)
            connection.connect(str(api.path))
            target = f"/v1.51/containers/{container_id}/wait?condition={condition}"
            connection.sendall(f"POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
            response = connection.makefile("rb")
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                line = response.readline()
                assert line, head
                head += line
            assert b" 200 " in head

            def body() -> Any:
                with connection, response:
                    return json.loads(response.read(int(response.readline(), 16)))

            return pool.submit(body)

        yield wait


def _still(waiting: Waiting) -> bool:
    """Whether there is no answer yet."""
    try:
        waiting.result(0.2)
    except concurrent.futures.TimeoutError:
        return True
    return False


def test_wait_on_a_created_container_returns_at_once(api: Any, client: docker.DockerClient, busybox: str) -> None:
    container = client.containers.create(busybox, ["true"])
    answer = api("POST", f"/containers/{container.id}/wait")
    assert (answer.status, answer.json) == (200, {"StatusCode": 0})


def test_wait_on_an_ended_container_gives_its_exit_code(api: Any, run: Any) -> None:
    container = run("exit 3")
    for condition in ("", "not-running", "not-running"):
        assert api("POST", f"/containers/{container.id}/wait?condition={condition}").json == {"StatusCode": 3}


@pytest.mark.parametrize("condition", ["not-running", "next-exit"])
def test_wait_gives_the_exit_code(run: Any, condition: str) -> None:
    container = run("sleep 0.3; exit 4")
    assert container.wait(condition=condition)["StatusCode"] == 4


@pytest.mark.parametrize("condition", CONDITIONS)
def test_everybody_who_waits_is_told(run: Any, wait: Any, condition: str) -> None:
    container = run(["sleep", "60"], auto_remove=True)
    waiting = [wait(container.id, condition) for _ in range(4)]
    container.kill()
    assert [each.result(10) for each in waiting] == [{"StatusCode": 137}] * 4


def test_next_exit_waits_for_a_start_first(client: docker.DockerClient, busybox: str, wait: Any) -> None:
    container = client.containers.create(busybox, ["sh", "-c", "exit 9"])
    for _ in range(2):
        waiting = wait(container.id, "next-exit")
        assert _still(waiting)
        container.start()
        assert waiting.result(10)["StatusCode"] == 9


def test_waiting_for_the_removal(client: docker.DockerClient, busybox: str, wait: Any) -> None:
    container = client.containers.create(busybox, ["sh", "-c", "exit 3"])
    waiting = wait(container.id, "removed")
    container.start()
    container.wait()
    assert _still(waiting)
    container.remove()
    assert waiting.result(10)["StatusCode"] == 3


def test_waiting_for_the_automatic_removal(client: docker.DockerClient, busybox: str, wait: Any) -> None:
    container = client.containers.create(busybox, ["sh", "-c", "exit 3"], auto_remove=True)
    waiting = wait(container.id, "removed")
    container.start()
    assert waiting.result(10)["StatusCode"] == 3
    with pytest.raises(NotFound):
        client.containers.get(container.id)


@pytest.mark.parametrize("condition", ["next-exit", "removed"])
def test_a_removal_ends_every_wait(client: docker.DockerClient, busybox: str, wait: Any, condition: str) -> None:
    container = client.containers.create(busybox, ["true"])
    waiting = wait(container.id, condition)
    container.remove()
    assert waiting.result(10) == {"StatusCode": 0}


@pytest.mark.parametrize("condition", ["next-exit", "removed"])
def test_a_start_that_fails_is_no_exit(api: Any, client: docker.DockerClient, busybox: str, wait: Any, condition: str) -> None:
    container = client.containers.create(busybox, ["not-there"])
    waiting = wait(container.id, condition)
    assert api("POST", f"/containers/{container.id}/start").status == 400
    assert _still(waiting)
    container.remove()
    assert waiting.result(10)["StatusCode"] == 127


def test_a_restart_by_the_policy_is_an_exit(client: docker.DockerClient, busybox: str, wait: Any) -> None:
    policy = {"Name": "on-failure", "MaximumRetryCount": 3}
    container = client.containers.create(busybox, ["sh", "-c", "exit 5"], restart_policy=policy)
    waiting, removed = wait(container.id, "next-exit"), wait(container.id, "removed")
    container.start()
    assert waiting.result(10) == {"StatusCode": 5}
    assert _still(removed)
    container.remove(force=True)
    assert removed.result(10)["StatusCode"] in (5, 137)  # It may just run when it is killed.


def test_a_restart_by_the_user_is_an_exit(run: Any, until: Any, wait: Any) -> None:
    container = run("trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done")
    until(lambda: b"ready" in container.logs())
    waiting = wait(container.id, "not-running")
    container.restart(timeout=5)
    assert waiting.result(10) == {"StatusCode": 7}


@pytest.mark.parametrize("condition", ["healthy", "NOT-RUNNING", "removed%20"])
def test_another_condition_is_refused(api: Any, run: Any, condition: str) -> None:
    container = run(["sleep", "60"])
    for ref in (container.id, "nobody"):
        answer = api("POST", f"/containers/{ref}/wait?condition={condition}")
        assert answer.status == 400
        assert answer.message.startswith("invalid condition: ")


def test_old_clients_know_no_conditions(api: Any, run: Any) -> None:
    container = run("exit 3")
    container.wait()
    answer = api("POST", f"/containers/{container.id}/wait?condition=removed", version="1.29")
    assert (answer.status, answer.json) == (200, {"StatusCode": 3})


def test_who_leaves_does_not_disturb_the_others(api: Any, run: Any, wait: Any) -> None:
    container = run(["sleep", "60"])
    stays = wait(container.id, "next-exit")
    for _ in range(3):
        with socket.socket(socket.AF_UNIX) as leaves:
            leaves.settimeout(20)
            leaves.connect(str(api.path))
            leaves.sendall(
                f"POST /v1.51/containers/{container.id}/wait HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode()
            )
            assert leaves.recv(12) == b"HTTP/1.1 200"
    container.kill()
    assert stays.result(10) == {"StatusCode": 137}
