"""What any HTTP client can notice of the edge, asked of a real engine, so that it can be tried on Docker too."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any
from urllib.parse import quote

import docker
import pytest
from support.engine import EngineUnderTest
from support.exchanges import ConnectionLog, Exchange

JSON = "Content-Type: application/json\r\n"


def _send(path: Path, data: bytes) -> Exchange:
    log = ConnectionLog()
    log.feed(True, data)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(20)
        connection.connect(str(path))
        connection.sendall(data)
        while not (found := log.exchanges()):
            log.feed(False, connection.recv(65536))
    return found[0]


def _ask(engine: EngineUnderTest, line: str, body: bytes = b"", headers: str = "") -> Exchange:
    length = f"Content-Length: {len(body)}\r\n" if body and "Transfer-Encoding" not in headers else ""
    return _send(engine.socket, f"{line} HTTP/1.1\r\nHost: x\r\n{headers}{length}\r\n".encode() + body)


def _message(exchange: Exchange) -> str:
    return str(json.loads(exchange.response.body)["message"])


@pytest.mark.parametrize(
    "line",
    [
        *("GET /nothing", "GET /v1.51/nothing", "GET /", "GET /v1.51", "GET /v1.51/", "GET /vabc/version", "GET /V1.51/version"),
        *(
            "POST /containers/json",
            "DELETE /version",
            "PUT /containers/x/start",
            "TRACE /version",
            "PATCH /info",
            "GET /containers/",
        ),
        *("GET /version/", "GET /containers/json/", "GET /containers/x/json/", "POST /containers/start", "GET /services/a/b"),
        *("GET /v1.23/nothing", "GET /v9.9/nothing", "GET /_ping#x"),
    ],
)
def test_a_path_or_a_method_that_is_not_there_is_no_page(engine: EngineUnderTest, line: str) -> None:
    exchange = _ask(engine, line)
    assert (exchange.status, _message(exchange)) == (404, "page not found")
    assert exchange.media_type == "application/json"


@pytest.mark.parametrize("path", ["/version", "/containers/json", "/containers/x/json", "/nothing"])
def test_head_is_known_where_it_is_described_only(engine: EngineUnderTest, path: str) -> None:
    exchange = _ask(engine, f"HEAD {path}")
    assert (exchange.status, exchange.response.body) == (404, b"")


@pytest.mark.parametrize("path", ["/_ping", "/v1.51/containers/json", "/nothing"])
def test_options_are_answered_everywhere(engine: EngineUnderTest, path: str) -> None:
    exchange = _ask(engine, f"OPTIONS {path}")
    assert (exchange.status, exchange.response.body) == (200, b"")


@pytest.mark.parametrize(
    ("version", "status", "message"),
    [
        ("", 200, ""),
        ("/v1.24", 200, ""),
        ("/v1.51", 200, ""),
        ("/v1.51.0", 200, ""),
        ("/v1.024", 200, ""),
        ("/v1.52", 400, "client version 1.52 is too new. Maximum supported API version is 1.51"),
        ("/v2.0", 400, "client version 2.0 is too new. Maximum supported API version is 1.51"),
        (
            "/v99999999999999999999.1",
            400,
            "client version 99999999999999999999.1 is too new. Maximum supported API version is 1.51",
        ),
    ],
)
def test_versions(engine: EngineUnderTest, version: str, status: int, message: str) -> None:
    exchange = _ask(engine, f"GET {version}/version")
    assert exchange.status == status
    assert exchange.response.headers["api-version"] == "1.51"
    assert status == 200 or _message(exchange) == message


@pytest.mark.kitepy  # Docker says it in plain text
@pytest.mark.parametrize("version", ["1.23", "1", "0.1", "1..2", "."])
def test_versions_that_are_too_old(engine: EngineUnderTest, version: str) -> None:
    exchange = _ask(engine, f"GET /v{version}/version")
    assert exchange.status == 400
    assert _message(exchange).startswith(f"client version {version} is too old. Minimum supported API version is 1.24, please")


@pytest.mark.parametrize(
    ("target", "clean"),
    [
        ("//version", "/version"),
        ("/v1.51//containers///json?all=1&x=%20", "/v1.51/containers/json?all=1&x=%20"),
        ("/containers/%2Fweb/json", "/containers/web/json"),
        ("/containers/../version", "/version"),
        ("/./version", "/version"),
        ("/containers/%20a//json", "/containers/%20a/json"),
        ("/version/..?x=1", "/?x=1"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_path_that_is_not_clean_is_redirected(engine: EngineUnderTest, method: str, target: str, clean: str) -> None:
    exchange = _ask(engine, f"{method} {target}")
    assert (exchange.status, exchange.response.headers["location"], exchange.response.body) == (301, clean, b"")


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("/containers/a%2Fb/json", "a/b"),
        ("/containers/a/b/json", "a/b"),
        ("/containers/%6eope/json", "nope"),
        ("/containers/a%20b/json", "a b"),
        ("/containers/a+b/json", "a+b"),
        ("/containers/a%3Fb/json", "a?b"),
        ("/containers/é/json", "é"),
        ("/containers/%00/json", "\0"),
        ("/containers/%ff/json", "\ufffd"),
        ("/containers/json/json", "json"),
    ],
)
def test_names_in_paths(engine: EngineUnderTest, target: str, name: str) -> None:
    exchange = _ask(engine, f"GET {target}")
    assert (exchange.status, _message(exchange)) == (404, f"No such container: {name}")


_CREATE = "POST /containers/create"
_VOLUME = "POST /volumes/create"


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ("", "malformed Content-Type header (): mime: no media type"),
        ("Content-Type: text/plain\r\n", "unsupported Content-Type header (text/plain): must be 'application/json'"),
        ("Content-Type: ;;\r\n", "malformed Content-Type header (;;): mime: no media type"),
        (
            "Content-Type: application/json; charset\r\n",
            "malformed Content-Type header (application/json; charset): mime: invalid media parameter",
        ),
    ],
)
@pytest.mark.parametrize(
    "line", [_CREATE, _VOLUME, "POST /containers/nope/exec", "POST /exec/nope/start", "POST /containers/nope/update"]
)
def test_the_content_type_of_a_body(engine: EngineUnderTest, line: str, headers: str, message: str) -> None:
    exchange = _ask(engine, line, b"{}", headers)
    assert (exchange.status, _message(exchange)) == (400, message)


@pytest.mark.parametrize("kind", ["Application/JSON", "application/json; charset=utf-8", "application/json;"])
def test_content_types_that_are_json(engine: EngineUnderTest, kind: str) -> None:
    exchange = _ask(engine, "POST /containers/nope/update", b"{}", f"Content-Type: {kind}\r\n")
    assert (exchange.status, _message(exchange)) == (404, "No such container: nope")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "invalid JSON: unexpected EOF"),
        (b"  ", "invalid JSON: got EOF while reading request body"),
        (b"{}{}", "unexpected content after JSON"),
        (b"{} x", "unexpected content after JSON"),
        (b"nope", "invalid JSON: "),
        (b"\xef\xbb\xbf{}", "invalid JSON: "),
        (b"[]", "cannot unmarshal array into"),
        (b'"x"', "cannot unmarshal string into"),
        (b"1", "cannot unmarshal number into"),
    ],
)
@pytest.mark.parametrize(
    "line", [_CREATE, _VOLUME, "POST /containers/nope/exec", "POST /exec/nope/start", "POST /containers/nope/update"]
)
def test_bodies_that_are_no_document(engine: EngineUnderTest, line: str, body: bytes, message: str) -> None:
    exchange = _ask(engine, line, body, JSON)
    assert exchange.status == 400
    assert message in _message(exchange)


@pytest.mark.parametrize("headers", ["", "Content-Length: 0\r\n", f"Content-Length: 0\r\n{JSON}"])
def test_no_body_at_all(engine: EngineUnderTest, headers: str) -> None:
    exchange = _ask(engine, _CREATE, b"", headers)
    assert (exchange.status, _message(exchange)) == (400, "invalid JSON: got EOF while reading request body")
    exchange = _ask(engine, "POST /containers/nope/update", b"", headers)
    assert exchange.status == 404


def test_null_and_chunks_are_bodies(engine: EngineUnderTest) -> None:
    assert _ask(engine, "POST /containers/nope/update", b"null", JSON).status == 404
    chunks = b'5\r\n{"a":\r\n3\r\n 1}\r\n0\r\n\r\n'
    assert _ask(engine, "POST /containers/nope/update", chunks, JSON + "Transfer-Encoding: chunked\r\n").status == 404


@pytest.mark.parametrize(
    ("document", "found", "place"),
    [
        ({"Image": 5}, "number", "Image"),
        ({"HostConfig": {"Memory": "x"}}, "string", "HostConfig.Memory"),
        ({"HostConfig": []}, "array", "HostConfig"),
        ({"Tty": "true"}, "string", "Tty"),
        ({"Labels": []}, "array", "Labels"),
        ({"Env": "x"}, "string", "Env"),
        ({"Healthcheck": {"Interval": "5s"}}, "string", "Healthcheck.Interval"),
    ],
)
def test_a_value_of_another_type_names_its_place(engine: EngineUnderTest, document: Any, found: str, place: str) -> None:
    exchange = _ask(engine, _CREATE, json.dumps(document).encode(), JSON)
    assert exchange.status == 400
    message = _message(exchange)
    assert message.startswith("invalid JSON: ")
    assert f"cannot unmarshal {found}" in message
    assert place in message


@pytest.mark.parametrize(
    ("query", "message"), [("%zz", 'invalid URL escape "%zz"'), ("a=x;b=1", "invalid semicolon separator in query")]
)
@pytest.mark.parametrize("path", ["/containers/json", "/images/json", "/events", "/volumes", "/networks"])
def test_a_query_that_is_none(engine: EngineUnderTest, path: str, query: str, message: str) -> None:
    exchange = _ask(engine, f"GET {path}?{query}")
    assert (exchange.status, _message(exchange)) == (400, message)


@pytest.mark.kitepy  # Docker answers 500
@pytest.mark.parametrize("number", ["x", "1.5", "+1", "%201", "1e3", "0x10", "1_0", "9" * 20])
def test_a_number_that_is_none(engine: EngineUnderTest, number: str) -> None:
    for line in (f"GET /containers/json?limit={number}", f"POST /containers/nope/stop?t={number}"):
        assert _ask(engine, line).status == 400


@pytest.mark.parametrize(
    ("word", "truth"), [("", False), ("0", False), ("No", False), ("FALSE", False), ("none", False), ("x", True)]
)
def test_a_truth_has_many_words(
    engine: EngineUnderTest, client: docker.DockerClient, busybox: str, word: str, truth: bool
) -> None:
    made = client.containers.create(busybox)  # it doesn't run, so that lists leave it out
    listed = json.loads(_ask(engine, f"GET /containers/json?all={word}").response.body)
    assert (made.id in [container["Id"] for container in listed]) == truth


_LISTS = ["/containers/json", "/images/json", "/volumes", "/networks", "/events"]


@pytest.mark.parametrize("path", _LISTS)
@pytest.mark.parametrize(
    "filters",
    [
        "x",
        "1",
        "[]",
        '{"label":"a"}',
        '{"label":5}',
        '{"label":[1]}',
        '{"label":{"a":"b"}}',
        '{"label":["a"],"name":{"x":true}}',
        "{} x",
    ],
)
def test_filters_that_are_none(engine: EngineUnderTest, path: str, filters: str) -> None:
    exchange = _ask(engine, f"GET {path}?filters={quote(filters)}")
    assert exchange.status == 400
    assert "invalid filter" in _message(exchange)


@pytest.mark.parametrize("path", _LISTS[:4])
@pytest.mark.parametrize("filters", ['{"colour":["red"]}', '{"colour":[]}', '{"colour":{"red":true}}'])
def test_filters_that_nobody_knows(engine: EngineUnderTest, path: str, filters: str) -> None:
    exchange = _ask(engine, f"GET {path}?filters={quote(filters)}")
    assert (exchange.status, _message(exchange)) == (400, "invalid filter 'colour'")


@pytest.mark.parametrize(
    "filters",
    [
        "",
        "{}",
        "null",
        '{"label":null}',
        '{"label":[]}',
        '{"label":["kitepy.x"]}',
        '{"label":{"kitepy.x":true}}',
        '{"label":{"kitepy.x":false}}',
    ],
)
def test_filters_in_all_their_forms(engine: EngineUnderTest, client: docker.DockerClient, busybox: str, filters: str) -> None:
    with_label = client.containers.create(busybox, labels={"kitepy.x": ""})
    without = client.containers.create(busybox)
    exchange = _ask(engine, f"GET /containers/json?all=1&filters={quote(filters)}")
    listed = {container["Id"] for container in json.loads(exchange.response.body)}
    assert with_label.id in listed
    assert (without.id in listed) == ("kitepy.x" not in filters)


def test_answers_are_bytes_as_go_writes_them(engine: EngineUnderTest, client: docker.DockerClient, busybox: str) -> None:
    made = client.containers.create(busybox, ["echo", "<&>é"], labels={"a": "<&>é"})
    body = _ask(engine, f"GET /containers/{made.id}/json").response.body
    assert body.endswith(b"}\n")
    assert '"a":"<&>é"'.encode() in body
    assert b'"StartedAt":"0001-01-01T00:00:00Z"' in body
