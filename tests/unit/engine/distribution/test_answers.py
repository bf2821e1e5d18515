"""What registries' refusals become: kinds and words, as users of Docker know them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kitepy.engine.distribution.answers import json_problem, registry_error, retry_after_s
from kitepy.engine.distribution.failures import CutOff, Unreachable, connection_failure, pull_error
from kitepy.engine.model import errors
from kitepy.engine.model.reference import parse_reference
from kitepy.engine.server.errors import status_of

JSON = {"Content-Type": "application/json; charset=utf-8"}
REFERENCE = parse_reference("r:5000/a:t")


def _errors(*entries: dict[str, Any]) -> bytes:
    return json.dumps({"errors": list(entries)}).encode()


def _one(code: str, message: str = "", **more: Any) -> bytes:
    return _errors({"code": code, **({"message": message} if message else {}), **more})


@pytest.mark.parametrize(
    ("status", "body", "said", "told"),
    [
        (404, _one("MANIFEST_UNKNOWN", "gone", detail="x"), "manifest unknown: gone", 404),
        (404, _one("MANIFEST_UNKNOWN"), "manifest unknown", 404),
        (404, _one("MANIFEST_UNKNOWN", "manifest unknown"), "manifest unknown", 404),
        (404, _one("MANIFEST_UNKNOWN", "manifest unknown", detail=""), "manifest unknown: manifest unknown", 404),
        (403, _one("DENIED", "no"), "denied: no", 403),
        (401, _one("UNAUTHORIZED", "who are you"), "unauthorized: who are you", 401),
        (404, _one("WEIRD", "strange"), "unknown: strange", 500),
        (400, _one("DIGEST_INVALID", "bad"), "digest invalid: bad", 400),
        (404, _errors({"code": "NAME_UNKNOWN", "message": "a"}, {"code": "DENIED", "message": "b"}),
         "errors:\nname unknown: a\ndenied: b\n", 404),
        (429, b'{"details":"slow down"}', "toomanyrequests: slow down", 429),
        (403, b'{"details":"some"}', "denied: some", 403),
        (404, b"{}", 'error parsing HTTP 404 response body: no error details found in HTTP response body: "{}"', 500),
        (404, b"", 'error parsing HTTP 404 response body: unexpected end of JSON input: ""', 500),
        (500, b"oops", "received unexpected HTTP status: 500 Internal Server Error", 500),
        (599, b"", "received unexpected HTTP status: 599 ", 500),
        (401, b"{}", "unauthorized: authentication required", 401),
    ],
)  # fmt: skip
def test_refusals(status: int, body: bytes, said: str, told: int) -> None:
    error = registry_error(status, JSON, body)
    assert (str(error), status_of(error)) == (said, told)


def test_what_is_no_json_is_repeated() -> None:
    assert str(registry_error(404, {"Content-Type": "text/html"}, b"<p>no</p>")) == "unknown: <p>no</p>"
    assert str(registry_error(429, {}, b"slow")) == "toomanyrequests: slow"


def test_a_challenge_that_tells_an_error_comes_first() -> None:
    challenge = 'Bearer realm="https://t",error="insufficient_scope"'
    error = registry_error(401, JSON, _one("UNAUTHORIZED", "authentication required"), [challenge])
    assert str(error) == "errors:\ndenied: requested access to the resource is denied\nunauthorized\n"
    assert str(pull_error(error, REFERENCE)).endswith("'docker login': denied: requested access to the resource is denied")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("DENIED", "pull access denied for r:5000/a, repository does not exist or may require 'docker login': denied: x"),
        ("MANIFEST_UNKNOWN", "manifest for r:5000/a:t not found: manifest unknown: x"),
        ("NAME_UNKNOWN", "repository r:5000/a not found: name unknown: x"),
    ],
)
def test_a_pull_is_told_what_it_did_not_find(code: str, words: str) -> None:
    error = pull_error(registry_error(404, JSON, _one(code, "x")), REFERENCE)
    assert isinstance(error, errors.NotFound)
    assert str(error) == words
    assert str(pull_error(registry_error(404, JSON, _one(code)), REFERENCE)) == code.lower().replace("_", " ")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2", 2.0),
        ("", None),
        ("soon", None),
        ("Wed, 01 Jan 2020 00:00:10 GMT", 10.0),
        ("Tue, 31 Dec 2019 00:00:00 GMT", 0.0),
        ("1577836830", 30.0),
        ("99999999999999", None),
    ],
)
def test_how_long_to_leave_a_registry_alone(text: str, seconds: float | None) -> None:
    assert retry_after_s(text, datetime(2020, 1, 1, tzinfo=UTC)) == seconds


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"<html>", "invalid character '<' looking for beginning of value"),
        (b"teapot", "invalid character 'e' in literal true (expecting 'r')"),
        (b"", "unexpected end of JSON input"),
        (b'{"a":', "unexpected end of JSON input"),
        (b"{}x", "invalid character 'x' after top-level value"),
    ],
)
def test_what_is_wrong_with_a_document(text: bytes, words: str) -> None:
    assert json_problem(text) == words


@given(
    st.integers(400, 599), st.binary(max_size=60) | st.sampled_from([b'{"errors":[1,null,{}]}', b'{"errors":{}}', b"[" * 5000])
)
def test_any_answer_is_some_error(status: int, body: bytes) -> None:
    assert str(registry_error(status, JSON, body, ["Bearer error=invalid_token"]))


def test_a_broken_connection_can_be_gone_on_with_and_one_that_never_was_not() -> None:
    assert isinstance(connection_failure("GET", "http://r/x", aiohttp.ServerDisconnectedError()), CutOff)
    assert isinstance(connection_failure("GET", "http://r/x", ConnectionResetError(104, "reset")), CutOff)
    refused = connection_failure("GET", "http://127.0.0.1:1/x", OSError(111, "Connect call failed ('127.0.0.1', 1)"))
    assert isinstance(refused, Unreachable)
    assert str(refused).startswith('Get "http://127.0.0.1:1/x": ')
