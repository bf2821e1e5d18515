"""The check that every answer goes through notices what is wrong, and takes conversations apart correctly."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.contract import ApiContract
from support.exchanges import ConnectionLog, Exchange

_HEADERS = "Api-Version: 1.51\r\nDocker-Experimental: false\r\nOstype: linux\r\nServer: x\r\n"
_VOLUME = {
    "CreatedAt": "2020-01-01T00:00:00.5Z",
    "Driver": "local",
    "Labels": None,
    "Mountpoint": "/x",
    "Name": "x",
    "Options": None,
    "Scope": "local",
}


def _exchange(target: str, status: str, document: Any, *, method: str = "GET", headers: str = _HEADERS) -> Exchange:
    body = document if isinstance(document, bytes) else json.dumps(document).encode() + b"\n"
    log = ConnectionLog()
    log.feed(True, f"{method} {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n{headers}Content-Length: {len(body)}\r\n\r\n"
    log.feed(False, head.encode() + body)
    (found,) = log.exchanges()
    return found


def test_what_keeps_the_contract_passes(contract: ApiContract) -> None:
    assert contract.problems(_exchange("/v1.51/volumes/x", "200 OK", _VOLUME)) == []
    assert contract.problems(_exchange("/volumes/x", "404 Not Found", {"message": "no such volume"})) == []
    assert contract.problems(_exchange("/v1.24/volumes/x", "200 OK", {**_VOLUME, "Former": "field"})) == []
    assert contract.problems(_exchange("/v1.51/nothing", "404 Not Found", {"message": "page not found"}, headers="")) == []


@pytest.mark.parametrize(
    ("status", "document", "problem"),
    [
        ("200 OK", {**_VOLUME, "Colour": "red"}, "'Colour' was unexpected"),
        ("200 OK", {**_VOLUME, "Name": None}, "None is not of type 'string'"),
        ("200 OK", {**_VOLUME, "Scope": "everywhere"}, "is not one of"),
        ("200 OK", {**_VOLUME, "CreatedAt": "2020-01-01T00:00:00.500Z"}, "is not a 'date-time'"),
        ("200 OK", {key: value for key, value in _VOLUME.items() if key != "Driver"}, "'Driver' is a required property"),
        ("200 OK", {**_VOLUME, "UsageData": {"Size": 1.0, "RefCount": 1}}, "1.0 is not of type 'integer'"),
        ("200 OK", b"nonsense", "no JSON"),
        ("200 OK", b"{}", "no line end"),
        ("418 Teapot", {"message": "x"}, "418 may not be answered"),
        ("404 Not Found", {"error": "x"}, "'error' was unexpected"),
        ("404 Not Found", b"no such volume", "an error's body"),
    ],
)
def test_what_breaks_the_contract_is_told(contract: ApiContract, status: str, document: Any, problem: str) -> None:
    assert problem in "\n".join(contract.problems(_exchange("/v1.51/volumes/x", status, document)))


def test_a_missing_header_and_an_unknown_operation_are_told(contract: ApiContract) -> None:
    assert "no header ostype" in "\n".join(contract.problems(_exchange("/v1.51/volumes/x", "200 OK", _VOLUME, headers="")))
    assert "no such operation" in "\n".join(contract.problems(_exchange("/v1.51/teapots", "200 OK", {})))


def test_a_conversation_is_taken_apart_however_it_comes_in_pieces() -> None:
    said = (
        b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
        b"HEAD /b HTTP/1.1\r\n\r\nPOST /exec/x/start HTTP/1.1\r\nUpgrade: tcp\r\nContent-Length: 2\r\n\r\n{}raw input"
    )
    answered = (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{}\n\r\n3\r\n{}\n\r\n0\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n"
        b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\nraw output"
    )
    for size in (1, 7, 10_000):
        log, found = ConnectionLog(), []
        for side, data in ((True, said), (False, answered)):
            for at in range(0, len(data), size):
                log.feed(side, data[at : at + size])
                found += log.exchanges()
        log.feed(True, b"")
        log.feed(False, b"")
        while more := log.exchanges():
            found += more
        assert [(one.method, one.target, one.status, one.raw) for one in found] == [
            ("POST", "/a", 200, False),
            ("HEAD", "/b", 200, False),
            ("POST", "/exec/x/start", 101, True),
        ]
        assert found[0].request.body == b"{}"
        assert found[0].documents() == [{}, {}]
        assert found[2].response.body == b"raw output"
