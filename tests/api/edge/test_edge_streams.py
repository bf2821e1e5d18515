"""Answers that flow: logs, events, waiting."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import docker
import pytest

from kitepy.engine.model.errors import SystemFailure
from kitepy.engine.services.ports import LogOptions, WaitResult


def test_logs_come_in_frames(client: docker.APIClient, edge: Any) -> None:
    assert list(client.logs("web", stream=True, follow=False)) == [b"out\n", b"err\n"]
    assert ("logs", "web", LogOptions(stdout=True, stderr=True)) in edge.containers.calls


def test_log_options_are_read(edge: Any) -> None:
    answer = edge.request("GET", "/containers/web/logs?stdout=1&tail=5&since=1.5&until=2&timestamps=1&details=true")
    assert answer.body == b"\x01\0\0\0\0\0\0\x04out\n\x02\0\0\0\0\0\0\x04err\n"
    assert answer.headers["content-type"] == "application/vnd.docker.multiplexed-stream"
    expected = LogOptions(True, False, 1_500_000_000, 2_000_000_000, timestamps=True, tail=5, details=True)
    assert edge.containers.calls[-1] == ("logs", "web", expected)


def test_old_clients_are_not_told_about_frames(edge: Any) -> None:
    answer = edge.request("GET", "/v1.41/containers/web/logs?stdout=1")
    assert answer.headers["content-type"] == "application/vnd.docker.raw-stream"


def test_followed_logs_arrive_at_once_and_end_with_the_client(edge: Any) -> None:
    with edge.connect() as connection:
        connection.sendall(b"GET /containers/web/logs?stdout=1&follow=1 HTTP/1.1\r\nHost: x\r\n\r\n")
        data = b""
        while b"err\n" not in data:
            data += connection.recv(65536)
    edge.run(edge.containers.log_closed.wait())


def test_an_error_amid_a_stream_cuts_it(edge: Any, caplog: pytest.LogCaptureFixture) -> None:
    edge.containers.log_failure = SystemFailure("the disk is gone")
    with edge.connect() as connection:
        connection.sendall(b"GET /containers/web/logs?stdout=1 HTTP/1.1\r\nHost: x\r\n\r\n")
        data = b"".join(iter(lambda: connection.recv(65536), b""))
    assert b"out\n" in data
    assert not data.endswith(b"0\r\n\r\n")
    assert "the disk is gone" in caplog.text


def test_events_flow_and_stop_with_the_client(edge: Any, client: docker.APIClient) -> None:
    events = client.events(decode=True, filters={"type": "container"})

    async def emit() -> None:
        while not edge.events.listeners:
            await asyncio.sleep(0.005)
        edge.events.emit("network", "connect", "n", {})
        edge.events.emit("container", "start", "c", {"name": "web"})

    found: list[Any] = []
    reader = threading.Thread(target=lambda: found.append(next(events)))
    reader.start()
    edge.run(emit())
    reader.join(10)
    assert [(event["Action"], event["id"]) for event in found] == [("start", "c")]
    events.close()
    edge.until(lambda: not edge.events.listeners)


def test_past_events_are_replayed_one_a_line(edge: Any) -> None:
    async def emit() -> None:
        edge.events.emit("container", "create", "c", {})
        edge.events.emit("container", "start", "c", {})

    edge.run(emit())
    answer = edge.request("GET", "/events?since=0&until=0s")
    lines = answer.body.splitlines()
    assert [json.loads(line)["Action"] for line in lines] == ["create", "start"]
    assert b": " not in lines[0]


def test_wait_answers_its_head_before_the_end_is_known(edge: Any) -> None:
    with edge.connect() as connection:
        connection.sendall(b"POST /containers/web/wait?condition=next-exit HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        head = connection.recv(65536)
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert head.endswith(b"\r\n\r\n")
        assert edge.containers.calls == [("wait", "web", "next-exit")]

        async def end() -> None:
            edge.containers.ending.set_result(WaitResult(3))

        edge.run(end())
        body = b"".join(iter(lambda: connection.recv(65536), b""))
    assert b'{"StatusCode":3}' in body


def test_a_waiter_that_leaves_is_forgotten(edge: Any) -> None:
    with edge.connect() as connection:
        connection.sendall(b"POST /containers/web/wait HTTP/1.1\r\nHost: x\r\n\r\n")
        connection.recv(65536)
    edge.until(lambda: edge.containers.ending.cancelled())


def test_export_and_archives_are_passed_through(edge: Any, client: docker.APIClient) -> None:
    assert b"".join(client.export("web")) == b"tarball"
    pieces, stat = client.get_archive("web", "/x")
    assert b"".join(pieces) == b"tarball"
    assert stat["mode"] == 420
    assert client.put_archive("web", "/x", b"data")
    assert edge.containers.calls[-1] == ("put", "web", "/x", b"data", False, False)
    assert edge.request("HEAD", "/containers/web/archive?path=/x").headers["x-docker-container-path-stat"]


def test_stats_are_a_line_each(client: docker.APIClient) -> None:
    assert client.stats("web", stream=False) == {"name": "/web"}


def test_stopping_ends_streams_and_lets_changes_finish(edge: Any) -> None:
    async def hold() -> asyncio.Event:
        return asyncio.Event()

    edge.containers.hold = edge.run(hold())
    follower, changer = edge.connect(), edge.connect()
    with follower, changer:
        follower.sendall(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
        changer.sendall(b"POST /containers/web/start HTTP/1.1\r\nHost: x\r\n\r\n")
        edge.until(lambda: edge.containers.calls and edge.events.listeners)

        async def stop() -> None:
            stopping = asyncio.ensure_future(edge.server.stop())
            while edge.events.listeners:
                await asyncio.sleep(0.005)
            edge.containers.hold.set()
            await stopping

        edge.run(stop())
        assert changer.recv(65536).startswith(b"HTTP/1.1 204")
    assert not edge.path.exists()
