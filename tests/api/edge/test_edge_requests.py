"""What clients see of the edge itself: headers, versions, errors, bodies."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import docker
import pytest
from support.contract import ApiContract

from kitepy.engine.model.errors import SystemFailure
from kitepy.engine.server.app import build_app
from kitepy.engine.server.listeners import TcpHost, UnixHost

_CREATE = b"POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


def test_ping_tells_what_the_engine_is(edge: Any) -> None:
    answer = edge.request("GET", "/_ping")
    assert (answer.status, answer.body) == (200, b"OK")
    assert answer.headers["api-version"] == "1.51"
    assert answer.headers["builder-version"] == "1"
    assert answer.headers["docker-experimental"] == "false"
    assert answer.headers["ostype"] == "linux"
    assert answer.headers["swarm"] == "inactive"
    assert answer.headers["server"].startswith("Kitepy/")
    head = edge.request("HEAD", "/_ping")
    assert (head.status, head.body, head.headers["api-version"]) == (200, b"", "1.51")


def test_docker_py_negotiates_the_version(client: docker.APIClient) -> None:
    assert client.ping()
    assert client.version()["ApiVersion"] == "1.51"
    assert client.info()["OSType"] == "linux"


def test_version_and_info_keep_the_contract(edge: Any, contract: ApiContract) -> None:
    contract.check("GET", "/version", 200, edge.request("GET", "/v1.51/version").json)
    contract.check("GET", "/info", 200, edge.request("GET", "/v1.51/info").json)


@pytest.mark.parametrize(
    ("method", "target", "status", "message"),
    [
        ("GET", "/nothing", 404, "page not found"),
        ("GET", "/v1.51/nothing", 404, "page not found"),
        ("GET", "/v1.60/_ping", 400, "client version 1.60 is too new. Maximum supported API version is 1.51"),
        ("GET", "/v1.20/_ping", 400, "client version 1.20 is too old. Minimum supported API version is 1.24"),
        ("PUT", "/containers/web/start", 404, "page not found"),
        ("GET", "/containers/nope/json", 404, "No such container: nope"),
        ("POST", "/containers/create", 400, "invalid JSON: got EOF while reading request body"),
        ("GET", "/containers/json?filters={%22colour%22:[%22red%22]}", 400, "invalid filter 'colour'"),
        ("GET", "/containers/json?filters=x", 400, "invalid filter"),
        ("GET", "/containers/json?limit=x", 400, "limit"),
        ("GET", "/containers/web/logs", 400, "at least one stream"),
        ("POST", "/containers/web/wait?condition=sunny", 400, 'invalid condition: "sunny"'),
        ("POST", "/containers/web/resize?h=1", 400, "invalid resize width"),
        ("POST", "/containers/web/resize?h=1&w=4294967296", 400, "invalid resize width"),
        ("GET", "/images/json", 501, "without images"),
        ("GET", "/swarm", 503, "not a swarm manager"),
        ("POST", "/auth", 501, "registries"),
        ("GET", "/containers/web/attach/ws", 400, "not websocket protocol"),
        ("POST", "/commit", 400, "invalid name or ID supplied"),
        ("GET", "/events?since=2&until=1", 400, "cannot be after"),
        ("GET", "/events?filters=x", 400, "invalid filter"),
        ("GET", "/system/df?type=moon", 400, "unknown object type: moon"),
    ],
)
def test_errors_are_one_sentence_in_a_message(edge: Any, method: str, target: str, status: int, message: str) -> None:
    answer = edge.request(method, target)
    assert answer.status == status
    assert set(answer.json) == {"message"}
    assert message in answer.json["message"]


def test_a_taken_name_is_a_conflict(edge: Any) -> None:
    answer = edge.request("POST", "/containers/create?name=taken", b"{}")
    assert answer.status == 409
    assert "in use" in answer.json["message"]


def test_a_state_that_is_reached_already_is_not_modified(edge: Any) -> None:
    answer = edge.request("POST", "/containers/web/stop?t=5&signal=INT")
    assert (answer.status, answer.body) == (304, b"")
    assert edge.containers.calls == [("stop", "web", 5, "INT")]


def test_a_fault_of_ours_is_logged_and_not_shown(edge: Any, caplog: pytest.LogCaptureFixture) -> None:
    edge.containers.failure = ZeroDivisionError("secret detail")
    answer = edge.request("GET", "/containers/web/json")
    assert answer.status == 500
    assert "secret" not in answer.json["message"]
    assert "secret detail" in caplog.text


def test_a_failure_of_the_machine_is_told(edge: Any) -> None:
    edge.containers.failure = SystemFailure("port is already allocated")
    answer = edge.request("POST", "/containers/web/start")
    assert (answer.status, answer.json) == (500, {"message": "port is already allocated"})


def test_what_is_no_http_is_answered_in_json(edge: Any) -> None:
    with edge.connect() as connection:
        connection.sendall(b"hello\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.0 400") or answer.startswith(b"HTTP/1.1 400")
    assert b'{"message":' in answer


def test_create_reads_keys_in_any_case_and_keeps_the_contract(edge: Any, contract: ApiContract) -> None:
    body = {"image": "x", "CMD": "true", "HostConfig": {"memory": 5}, "Unknown": 1}
    answer = edge.request("POST", "/v1.44/containers/create?name=web", json.dumps(body).encode())
    assert answer.status == 201
    contract.check("POST", "/containers/create", 201, answer.json)
    assert edge.containers.last_body.cmd == ["true"]
    assert edge.containers.last_body.host_config.memory == 5


def test_a_wrong_type_is_refused_with_its_path(edge: Any) -> None:
    answer = edge.request("POST", "/containers/create", b'{"HostConfig":{"Memory":"much"}}', {"Content-Type": "application/json"})
    assert answer.status == 400
    assert "cannot unmarshal string into field HostConfig.Memory" in answer.json["message"]


def test_a_chunked_body_is_read(edge: Any) -> None:
    body = b'5\r\n{"Ima\r\n9\r\nge": "x"}\r\n0\r\n\r\n'
    assert edge.request("POST", "/containers/create", body, {"Transfer-Encoding": "chunked"}).status == 201
    assert edge.containers.last_body.image == "x"


def test_a_client_that_waits_for_the_go_ahead_gets_it(edge: Any) -> None:
    with edge.connect() as connection:
        connection.sendall(_CREATE + b"Expect: 100-continue\r\nContent-Length: 13\r\n\r\n")
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b'{"Image":"x"}')
        assert connection.recv(65536).startswith(b"HTTP/1.1 201")


def test_a_huge_body_is_refused_before_it_is_sent(edge: Any) -> None:
    with edge.connect() as connection:
        connection.sendall(_CREATE + b"Content-Length: 99999999999\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 413")


def test_a_body_that_ends_early_is_refused_or_dropped(edge: Any) -> None:
    with edge.connect() as connection:
        connection.sendall(_CREATE + b'Content-Length: 50\r\n\r\n{"Image"')
    assert edge.request("GET", "/_ping").status == 200
    assert edge.containers.last_body is None


def test_a_client_that_half_closes_still_gets_its_answer(edge: Any) -> None:
    with edge.connect() as connection:
        connection.sendall(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n")
        connection.shutdown(1)
        assert b'"ApiVersion":"1.51"' in b"".join(iter(lambda: connection.recv(65536), b""))


def test_requests_may_be_sent_ahead(edge: Any) -> None:
    with edge.connect() as connection:
        connection.sendall(b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n" * 3)
        data = b""
        while data.count(b"\r\n\r\nOK") < 3:
            data += connection.recv(65536)


def test_an_absolute_target_and_an_escaped_name_are_understood(edge: Any) -> None:
    assert edge.request("GET", "http://docker/v1.41/_ping").status == 200
    assert edge.request("GET", "/containers/%77eb/json").status == 200


def test_long_queries_and_headers_are_taken(edge: Any) -> None:
    arguments = quote(json.dumps({"A": "x" * 100_000}))
    answer = edge.request("POST", f"/build?buildargs={arguments}", b"", {"X-Registry-Config": "e30" * 50_000})
    assert (answer.status, answer.json["message"]) == (501, "this engine was started without builds")


def test_a_name_with_the_slash_that_lists_show_is_redirected(edge: Any, client: docker.APIClient) -> None:
    for target in ("/v1.51/containers//web/json?size=1", "/v1.51/containers/%2Fweb/json?size=1"):
        answer = edge.request("GET", target)
        assert (answer.status, answer.headers["location"], answer.body) == (301, "/v1.51/containers/web/json?size=1", b"")
    assert client.inspect_container("/web")["Name"] == "/web"


def test_a_second_host_that_fails_takes_the_first_with_it(edge: Any, tmp_path: Path) -> None:
    async def start() -> None:
        server = build_app(edge.services, insecure_tcp=True)
        await server.start([UnixHost(tmp_path / "t"), TcpHost("127.0.0.1", 0), UnixHost(edge.path)])

    with pytest.raises(SystemFailure, match="another program listens"):
        edge.run(start())
    assert not (tmp_path / "t").exists()
    assert edge.request("GET", "/_ping").status == 200


def test_a_change_is_finished_though_its_client_has_left(edge: Any) -> None:
    import asyncio

    async def hold() -> asyncio.Event:
        return asyncio.Event()

    edge.containers.hold = edge.run(hold())
    with edge.connect() as connection:
        connection.sendall(b"POST /containers/web/start HTTP/1.1\r\nHost: x\r\n\r\n")
        edge.until(lambda: edge.containers.calls)

    async def release() -> None:
        edge.containers.hold.set()

    edge.run(release())
    edge.run(edge.containers.finished.wait())


def test_every_operation_of_the_api_has_a_route(edge: Any, contract: ApiContract) -> None:
    missing, faulty = [], []
    for operation in contract.operations():
        method, path = operation.method, operation.path
        target = path.replace("{id}", "web").replace("{name}", "web")
        with edge.connect() as connection:
            connection.sendall(f"{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
            answer = connection.recv(65536)
        status = int(answer.split()[1])
        if b"page not found" in answer:
            missing.append(f"{method} {path}")
        if status == 500:
            faulty.append(f"{method} {path}")
    assert missing == []
    assert faulty == []


def test_routing_does_not_cost_more_than_a_fraction_of_a_request(edge: Any) -> None:
    with edge.connect() as connection:
        began = time.perf_counter()
        for _ in range(200):
            connection.sendall(b"GET /v1.51/_ping HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = b""
            while not answer.endswith(b"\r\n\r\nOK"):
                answer += connection.recv(65536)
        assert (time.perf_counter() - began) / 200 < 0.02


@pytest.mark.parametrize(
    ("content_type", "message"),
    [
        ("", "malformed Content-Type header (): mime: no media type"),
        ("application/x-www-form-urlencoded", "unsupported Content-Type header (application/x-www-form-urlencoded)"),
    ],
)
def test_a_json_body_says_that_it_is_json(edge: Any, content_type: str, message: str) -> None:
    answer = edge.request("POST", "/containers/create", b"{}", {"Content-Type": content_type})
    assert answer.status == 400
    assert message in answer.json["message"]


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /_ping HTTP/1.1\r\nHost: x\r\nExpect: miracles\r\n\r\n", b"417"),
        (b"GET /_ping HTTP/1.1\r\nHost: x\r\n" + b"".join(b"A%d: b\r\n" % n for n in range(2000)) + b"\r\n", b"431"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"505"),
        (
            b"GET /_ping HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
            b"200",
        ),
        (b"GET /_ping HTTP/1.1\r\n\r\n", b"400"),
        (b"GET /containers/%zz/json HTTP/1.1\r\nHost: x\r\n\r\n", b"400"),
        (b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", b"200"),
        (b"OPTIONS /v1.51/nothing HTTP/1.1\r\nHost: x\r\n\r\n", b"200"),
        ("GET /containers/wéb/json HTTP/1.1\r\nHost: x\r\n\r\n".encode(), b"404"),
    ],
)
def test_unusual_requests_have_their_statuses(edge: Any, data: bytes, status: bytes) -> None:
    with edge.connect() as connection:
        connection.sendall(data)
        answer = connection.recv(65536)
    assert answer.split()[1] == status
    assert edge.request("GET", "/_ping").status == 200


def test_a_target_with_unescaped_letters_reaches_its_handler(edge: Any) -> None:
    with edge.connect() as connection:
        connection.sendall('GET /containers/web/json?x="é" HTTP/1.1\r\nHost: x\r\n\r\n'.encode())
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        connection.sendall("GET /containers/wéb/json HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert "No such container: wéb".encode() in connection.recv(65536)
