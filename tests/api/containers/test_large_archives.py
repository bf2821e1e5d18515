"""Archives of many megabytes take a way of their own through the engine; the connection has to be as usable as before."""

from __future__ import annotations

import hashlib
import http.client
import io
import socket
import tarfile
from collections.abc import Iterator
from typing import Any

import pytest
from docker.models.containers import Container
from support.engine import EngineUnderTest
from support.tarballs import content, entry, members, tarball

LOOP = "while :; do sleep 0.1; done"
BIG = hashlib.sha256(b"x").digest() * (5 << 15) + b"odd"
ARCHIVE = tarball(entry("big", BIG, uid=5), entry("small", b"y"), entry("dir/big", BIG))


class Connection(http.client.HTTPConnection):
    """One that is kept, and tells when it was not."""

    def __init__(self, engine: EngineUnderTest) -> None:
        super().__init__("localhost", timeout=60)
        self.auto_open = 0
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(str(engine.socket))

    def ask(self, method: str, target: str, body: Any = None, **headers: str) -> tuple[int, bytes]:
        self.request(method, f"/v1.51{target}", body, {"Content-Type": "application/x-tar", **headers} if body else {})
        answer = self.getresponse()
        return answer.status, answer.read()


@pytest.fixture(name="connection")
def _connection(engine: EngineUnderTest) -> Iterator[Connection]:
    connection = Connection(engine)
    yield connection
    connection.close()


@pytest.fixture(name="container", params=["running", "exited"])
def _container(request: pytest.FixtureRequest, run: Any) -> Container:
    made: Container = run(LOOP if request.param == "running" else "true")
    if request.param == "exited":
        made.wait()
    return made


def test_in_and_out_again_on_one_connection(connection: Connection, container: Container) -> None:
    for _ in range(3):
        assert connection.ask("PUT", f"/containers/{container.id}/archive?path=/etc", ARCHIVE) == (200, b"")
        status, body = connection.ask("GET", f"/containers/{container.id}/archive?path=/etc")
        assert (status, content(body, "etc/big"), content(body, "etc/dir/big")) == (200, BIG, BIG)
        assert members(body)["etc/big"].uid == 5
        assert connection.ask("GET", "/_ping") == (200, b"OK")


def test_a_body_in_chunks_and_one_that_is_waited_for(connection: Connection, container: Container) -> None:
    pieces = [ARCHIVE[start : start + 100_000] for start in range(0, len(ARCHIVE), 100_000)]
    target = f"/containers/{container.id}/archive?path=/etc"
    assert connection.ask("PUT", target, iter(pieces)) == (200, b"")
    assert content(connection.ask("GET", target + "/big")[1], "big") == BIG
    assert connection.ask("GET", "/_ping") == (200, b"OK")


def test_what_is_refused_early_leaves_a_connection_that_can_be_used(connection: Connection, container: Container) -> None:
    for target, status in (
        (f"/containers/{container.id}/archive?path=/none", 404),
        ("/containers/nobody/archive?path=/", 404),
        (f"/containers/{container.id}/archive?path=", 400),
    ):
        assert connection.ask("PUT", target, ARCHIVE)[0] == status
        assert connection.ask("GET", "/_ping") == (200, b"OK")


@pytest.mark.kitepy
def test_damage_in_the_middle_is_told_and_what_follows_is_not_taken_for_a_request(
    connection: Connection, container: Container
) -> None:
    damaged = ARCHIVE[:700_000] + b"\xff" * 600 + ARCHIVE[700_000:]
    status, _ = connection.ask("PUT", f"/containers/{container.id}/archive?path=/etc", damaged)
    assert status == 400
    assert connection.ask("GET", "/_ping") == (200, b"OK")


def test_requests_that_are_sent_at_once_are_answered_in_turn(engine: EngineUnderTest, container: Container) -> None:
    head = (
        f"PUT /v1.51/containers/{container.id}/archive?path=/etc HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-tar\r\n"
        f"Content-Length: {len(ARCHIVE)}\r\n\r\n"
    )
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(60)
        client.connect(str(engine.socket))
        client.sendall(head.encode() + ARCHIVE + b"GET /_ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answers = b"".join(iter(lambda: client.recv(65536), b""))
    assert answers.count(b"HTTP/1.1 200 OK") == 2
    assert answers.endswith(b"OK")


def test_a_client_that_leaves_amid_its_upload_holds_nothing_up(
    engine: EngineUnderTest, connection: Connection, container: Container
) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(engine.socket))
        client.sendall(
            f"PUT /v1.51/containers/{container.id}/archive?path=/etc HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-tar\r\n"
            f"Content-Length: {len(ARCHIVE)}\r\n\r\n".encode()
            + ARCHIVE[:2_000_000]
        )
    assert connection.ask("PUT", f"/containers/{container.id}/archive?path=/etc", ARCHIVE) == (200, b"")
    container.remove(force=True)


def test_a_client_that_leaves_amid_its_download_holds_nothing_up(
    engine: EngineUnderTest, connection: Connection, container: Container
) -> None:
    assert connection.ask("PUT", f"/containers/{container.id}/archive?path=/etc", ARCHIVE) == (200, b"")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(engine.socket))
        client.sendall(f"GET /v1.51/containers/{container.id}/archive?path=/ HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert client.recv(1000)
    with tarfile.open(fileobj=io.BytesIO(connection.ask("GET", f"/containers/{container.id}/export")[1])) as archive:
        assert archive.getmember("etc/big").size == len(BIG)
    container.remove(force=True)


def test_images_come_in_by_the_same_way(connection: Connection) -> None:
    status, body = connection.ask("POST", "/images/create?fromSrc=-&repo=came-in&tag=1", ARCHIVE)
    assert status == 200
    assert b'"status":"sha256:' in body
    status, saved = connection.ask("GET", "/images/came-in:1/get")
    assert (status, len(saved) > len(ARCHIVE)) == (200, True)
    assert connection.ask("DELETE", "/images/came-in:1")[0] == 200
    damaged = saved[:700_000] + b"\xff" * 600 + saved[700_000:]
    assert b"Loaded image" not in connection.ask("POST", "/images/load", damaged)[1]
    assert connection.ask("GET", "/images/came-in:1/json")[0] == 404
    status, body = connection.ask("POST", "/images/load", saved)
    assert (status, b"Loaded image: came-in:1" in body) == (200, True)
    assert connection.ask("DELETE", "/images/came-in:1")[0] == 200
