"""Whatever a client sends, it gets an answer that isn't our fault, and the next client is served."""

from __future__ import annotations

import json
import socket
from typing import Any
from urllib.parse import quote

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kitepy.engine.server.app import ROUTES

_PARAMETERS = [
    *("all", "limit", "size", "filters", "name", "platform", "t", "signal", "condition", "stdout", "stderr", "since", "until"),
    *("tail", "follow", "h", "w", "path", "force", "v", "link", "stream", "logs", "stdin", "detachKeys", "fromImage", "fromSrc"),
    *("repo", "tag", "names", "type", "dockerfile", "buildargs", "labels", "cachefrom", "ulimits", "version", "one-shot"),
]
_VALUES = st.sampled_from(
    ["", "0", "1", "-1", "true", "x", "1e9", "{}", "[]", '{"label":["a"]}', '{"a":1}', "\ud7ff", "9" * 40, "../..", "-"]
)
_TEXT = st.text(max_size=12)
_KEYS = st.sampled_from(["Cmd", "HostConfig", "Env", "Name", "tty"])
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner),
    max_leaves=8,
)
_ARGUMENTS = st.sampled_from(["web", "a/b:c", "..", "%", "é", " ", "x" * 300]) | st.text(min_size=1, max_size=8)
_SOME = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def _answer(edge: Any, data: bytes) -> bytes:
    with edge.connect() as connection:
        connection.sendall(data)
        answer = connection.recv(65536)
        connection.shutdown(socket.SHUT_RDWR)
    return bytes(answer)


@_SOME
@given(
    st.sampled_from(ROUTES),
    _ARGUMENTS,
    st.dictionaries(st.sampled_from(_PARAMETERS), _VALUES, max_size=4),
    _JSON.map(lambda document: json.dumps(document).encode()) | st.binary(max_size=20),
)
def test_no_request_is_answered_with_500(edge: Any, route: Any, argument: str, query: dict[str, str], body: bytes) -> None:
    path = route.template.replace("{id}", quote(argument, safe="")).replace("{name}", quote(argument, safe=""))
    target = path + ("?" + "&".join(f"{name}={quote(value)}" for name, value in query.items()) if query else "")
    head = f"{route.method} {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    answer = _answer(edge, head.encode() + body)
    assert answer.startswith(b"HTTP/1.1 "), answer
    assert int(answer.split()[1]) != 500, answer


@_SOME
@given(st.binary(min_size=1, max_size=60) | st.binary(max_size=30).map(lambda some: b"POST /containers/web/attach" + some))
def test_bytes_that_are_no_request_disturb_nobody(edge: Any, data: bytes) -> None:
    with edge.connect() as connection:
        connection.sendall(data)
    assert edge.request("GET", "/_ping").status == 200
