"""Bounds on what one client may send or hold, on the plain socket."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kitepy.engine.server.app import build_app
from kitepy.engine.server.bodies import JSON_LIMIT_BYTES
from kitepy.engine.server.gates import Limits
from kitepy.engine.server.listeners import UnixHost
from kitepy.engine.services.ports import WaitResult

_PING = b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n"
Connect = Callable[[], socket.socket]


@pytest.fixture(name="bounded")
def _bounded(edge: Any, tmp_path: Path) -> Iterator[Callable[[Limits], Connect]]:
    """A second socket with other limits."""
    with contextlib.ExitStack() as stack:

        def serve(limits: Limits) -> Connect:
            server = build_app(edge.services, limits=lambda _: limits)
            edge.run(server.start([UnixHost(tmp_path / "b")]))
            stack.callback(lambda: edge.run(server.stop()))

            def connect() -> socket.socket:
                connection = stack.enter_context(socket.socket(socket.AF_UNIX))
                connection.settimeout(10)
                connection.connect(str(tmp_path / "b"))
                return connection

            return connect

        yield serve


def _rest(connection: socket.socket) -> bytes:
    data = b""
    with contextlib.suppress(ConnectionError):
        while piece := connection.recv(65536):
            data += piece
    return data


@pytest.mark.parametrize(
    "part", [b"G", b"GET /_ping HTTP/1.1\r\nHost: x\r\n", b"POST /containers/web/attach?stream=1 HTTP/1.1\r\n"]
)
def test_a_head_that_never_ends_is_given_up(bounded: Any, part: bytes) -> None:
    connection = bounded(Limits(connections=4, head_timeout_s=0.05))()
    connection.sendall(part)
    assert _rest(connection).startswith(b"HTTP/1.1 408")


def test_so_is_the_second_one_on_a_connection(bounded: Any) -> None:
    connection = bounded(Limits(connections=4, head_timeout_s=0.05))()
    connection.sendall(_PING)
    assert connection.recv(65536).startswith(b"HTTP/1.1 200")
    connection.sendall(b"GET /_ping HT")
    assert b"HTTP/1.1 408" in _rest(connection)


def test_a_connection_without_requests_is_closed_after_a_while(bounded: Any) -> None:
    connect = bounded(Limits(connections=4, idle_timeout_s=0.05))
    assert _rest(connect()) == b""
    used = connect()
    used.sendall(_PING)
    assert _rest(used).startswith(b"HTTP/1.1 200")


_CREATE = b"POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize(
    ("head", "piece"),
    [(b"Content-Length: 100000\r\n\r\n", b" "), (b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n")],
    ids=["length", "chunks"],
)
def test_json_that_trickles_in_is_given_up(bounded: Any, edge: Any, head: bytes, piece: bytes) -> None:
    connection = bounded(Limits(connections=4, body_timeout_s=0.3))()
    connection.sendall(_CREATE + head)
    connection.settimeout(0.02)
    answer = b""
    for _ in range(1000):  # each byte comes soon after the one before
        try:
            connection.sendall(piece)
            answer = connection.recv(65536)
        except TimeoutError:
            continue
        break
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"did not arrive within 0.3 seconds" in answer
    assert edge.containers.last_body is None


def test_an_archive_may_take_longer_than_json_but_not_stand_still(bounded: Any, edge: Any) -> None:
    connect = bounded(Limits(connections=4, body_timeout_s=0.05, pause_timeout_s=2.0))
    head = b"PUT /containers/web/archive?path=/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    slow, trickling = connect(), connect()
    slow.sendall(head + b"3\r\ntar\r\n")
    trickling.sendall(_CREATE + b"Content-Length: 9\r\n\r\n{")
    assert trickling.recv(65536).startswith(b"HTTP/1.1 408")  # so the other has had more time than JSON gets
    slow.sendall(b"4\r\nball\r\n0\r\n\r\n")
    assert slow.recv(65536).startswith(b"HTTP/1.1 200")
    assert edge.containers.calls[-1][3] == b"tarball"
    stuck = connect()
    stuck.sendall(head + b"3\r\ntar\r\n")
    assert b"sent nothing for 2 seconds" in stuck.recv(65536)
    assert edge.containers.calls[-1][3] == b"tarball"


def test_a_request_that_takes_long_is_not_cut_off_by_these_limits(bounded: Any, edge: Any) -> None:
    connect = bounded(Limits(connections=4, head_timeout_s=0.05, idle_timeout_s=0.05))
    waiting = connect()
    waiting.sendall(b"POST /containers/web/wait HTTP/1.1\r\nHost: x\r\n\r\n")
    assert waiting.recv(65536).startswith(b"HTTP/1.1 200")
    for _ in range(3):  # each of these ends after the time that the first one would have had
        late = connect()
        late.sendall(b"G")
        _rest(late)

    async def end() -> None:
        edge.containers.ending.set_result(WaitResult(7))

    edge.run(end())
    assert b'"StatusCode":7' in waiting.recv(65536)


def test_one_connection_too_many_gets_503_and_room_comes_back(bounded: Any) -> None:
    connect = bounded(Limits(connections=2))
    first, second = connect(), connect()
    for connection in (first, second):
        connection.sendall(_PING)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
    assert _rest(connect()).startswith(b"HTTP/1.1 503")
    first.sendall(b"GET /_ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert _rest(first).startswith(b"HTTP/1.1 200")
    third = connect()
    third.sendall(_PING)
    assert third.recv(65536).startswith(b"HTTP/1.1 200")


def test_many_lines_that_are_each_short_enough_are_too_long_together(edge: Any) -> None:
    with edge.connect() as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(b"GET /_ping HTTP/1.1\r\nHost: x\r\n")
            for number in range(6):
                connection.sendall(b"X-%d: " % number + b"x" * 500_000 + b"\r\n")
        assert b"431" in _rest(connection)[:20]


@pytest.mark.parametrize(
    ("headers", "body"),
    [({"Content-Length": str(JSON_LIMIT_BYTES + 1)}, b""), ({}, b" " * (JSON_LIMIT_BYTES + 1))],
    ids=["announced", "sent"],
)
def test_a_body_too_large_is_413(edge: Any, headers: dict[str, str], body: bytes) -> None:
    with edge.connect() as connection:
        fields = headers or {"Content-Length": str(len(body))}
        with contextlib.suppress(ConnectionError):
            connection.sendall(_CREATE + "".join(f"{k}: {v}\r\n" for k, v in fields.items()).encode() + b"\r\n" + body)
        assert connection.recv(65536).startswith(b"HTTP/1.1 413")
    assert edge.request("GET", "/_ping").status == 200


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 500_000,
        b'{"Cmd":' * 100_000,
        b'{"HostConfig":{"Memory":' + b"9" * 500_000 + b"}}",
        b'{"HostConfig":{"Memory":1e999999}}',
    ],
)
def test_deep_and_huge_json_is_refused(edge: Any, body: bytes) -> None:
    assert edge.request("POST", "/containers/create", body).status == 400
    assert edge.request("GET", "/_ping").status == 200


def test_a_query_with_countless_parameters_or_deep_filters_is_refused(edge: Any) -> None:
    assert edge.request("GET", "/containers/json?" + "&".join("a=1" for _ in range(5000))).status == 400
    assert edge.request("GET", "/containers/json?filters=" + "[" * 200_000).status == 400


def test_a_request_for_a_conversation_in_single_bytes_costs_no_quadratic_time(edge: Any) -> None:
    """It is looked through anew with each piece; so what is held back for that is short."""
    from kitepy.engine.server.raw_request import NOT_RAW, UNFINISHED, end_of_raw_request

    head = b"POST /containers/web/attach?" + b"a" * 70_000
    assert end_of_raw_request(head[:60_000]) == UNFINISHED
    assert end_of_raw_request(head) == NOT_RAW
    assert end_of_raw_request(b"POST /build?" + b"a" * 100) == NOT_RAW
    assert edge.request("GET", "/_ping").status == 200
