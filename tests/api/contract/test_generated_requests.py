"""Requests that hypothesis makes of the API's description, fitting and spoilt: no fault of the engine's, no hang, no leak.

Each answer is checked against the description, and may not be 500 whatever was sent, but where Docker's clients expect it.
``KITEPY_FUZZ=500`` asks 500 times for each operation, with other requests each time; without it the requests are few and always
the same.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import docker
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from support.contract import ApiContract, Operation, api_description
from support.engine import EngineUnderTest
from support.exchanges import ConnectionLog, Exchange
from support.generated import ANYTHING, Schemas, bodies, contained, queries, spoilt
from support.images import load_busybox, tar_of

pytestmark = [
    pytest.mark.root,
    pytest.mark.kitepy,  # Docker answers 500 to much of this
]

EXAMPLES = int(os.environ.get("KITEPY_FUZZ", "0"))
_GENERATED = settings(
    max_examples=EXAMPLES or 8,
    derandomize=not EXAMPLES,
    database=None,
    deadline=None,
    phases=[Phase.generate, Phase.shrink] if EXAMPLES else [Phase.generate],
    suppress_health_check=list(HealthCheck),
)
_DEADLINE_S = 30.0
_FOLLOWED = {
    *(("GET", "/events"), ("GET", "/containers/{id}/logs"), ("GET", "/containers/{id}/stats"), ("POST", "/containers/{id}/wait")),
    *(("POST", "/containers/{id}/attach"), ("GET", "/containers/{id}/attach/ws"), ("POST", "/exec/{id}/start")),
}
"""Operations whose answer may have no end."""

_MEANT_FAILURES = {
    ("POST", "/auth"): b"localhost:1",
    ("POST", "/images/create"): rb"lookup |Get |tar header|unexpected EOF|gzip|zstd",
    ("GET", "/images/search"): b"lookup ",
    ("GET", "/distribution/{name}/json"): b"lookup ",
    ("POST", "/networks/{id}/connect"): b"for links",
    ("POST", "/networks/{id}/disconnect"): b"is not connected to ",
    ("POST", "/containers/{id}/unpause"): b"is not paused",
    ("GET", "/images/get"): rb"invalid re(ference|pository)|repository name|suitable export target|digest|must not be more",
    (
        "GET",
        "/images/{name}/get",
    ): rb"invalid re(ference|pository)|repository name|suitable export target|digest|must not be more",
    ("GET", "/images/json"): b"syntax error in pattern|parse value as time",
    ("POST", "/images/prune"): b"parse value as time|more than one until",
}
"""What is answered with 500 since Docker does so and its description has no other status for it."""

_LIVING = ["kf-running", "kf-paused", "kf-exited", "kf-created"]
_AT_REST = ["kf-exited", "kf-created"]
_NOBODY = ["nope", "a/b", "%00", "..", "-", "é", "x" * 300, "sha256:" + "0" * 64, "%ff", "%2e%2e%2fetc", "kf_", "*", "^", "{}"]


def _operations() -> list[Operation]:
    path = api_description()
    return [] if path is None else ApiContract(path).operations()


OPERATIONS = [pytest.param(operation, id=str(operation)) for operation in _operations()]
WITH_BODY = [one for one in OPERATIONS if one.values[0].body is not None and "properties" in str(one.values[0].body) + "$ref"]


@dataclass
class Target:
    """The engine that is asked, and what there is to ask about."""

    engine: EngineUnderTest
    client: docker.DockerClient
    directory: Path
    contract: ApiContract

    def make_scene(self) -> None:
        """What requests may have removed, renamed, stopped or paused is made again; what they made goes."""
        known = {container.name: container for container in self.client.containers.list(all=True, ignore_removed=True)}
        for name, container in known.items():
            if name not in _LIVING:
                container.remove(force=True, v=True)
        self._running("kf-running", known, paused=False)
        if self.pauses:
            self._running("kf-paused", known, paused=True)
        for name, start in (("kf-exited", True), ("kf-created", False)):
            if name not in known or (known[name].status == "created") == start:
                if name in known:
                    known[name].remove(force=True, v=True)
                made = self.client.containers.create("busybox:latest", ["true"], name=name)
                if start:
                    made.start()
                    made.wait()
        for volume in self.client.volumes.list():
            with contextlib.suppress(docker.errors.APIError):
                volume.remove()
        self.client.volumes.create("kf-volume")
        networks = {network.name: network for network in self.client.networks.list(filters={"type": "custom"})}
        for name, network in networks.items():
            if name != "kf-network":
                network.remove()
        if "kf-network" not in networks:
            pool = docker.types.IPAMPool(subnet="10.213.0.0/24")
            self.client.networks.create("kf-network", ipam=docker.types.IPAMConfig(pool_configs=[pool]))

    @property
    def pauses(self) -> bool:
        return bool(self.client.info()["CgroupDriver"] != "none")

    def _running(self, name: str, known: dict[str, Any], *, paused: bool) -> None:
        container = known.get(name)
        wanted = "paused" if paused else "running"
        if container is not None and container.status == wanted:
            return
        if container is not None:
            container.remove(force=True, v=True)
        made = self.client.containers.run("busybox:latest", ["sleep", "100000"], name=name, detach=True)
        if paused:
            made.pause()

    def new_exec(self) -> str:
        return str(self.client.api.exec_create("kf-running", ["true"])["Id"])

    def ask(self, operation: Operation, request: bytes) -> Exchange:
        """Send a request, and read the answer to its end, or its beginning where it may have no end."""
        log = ConnectionLog()
        deadline = time.monotonic() + _DEADLINE_S
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_DEADLINE_S)
            connection.connect(str(self.engine.socket))
            log.feed(True, request)
            with contextlib.suppress(ConnectionError):  # it may refuse before all was sent
                connection.sendall(request)
            answer = b""
            while time.monotonic() < deadline:
                with contextlib.suppress(ConnectionError):
                    piece = connection.recv(65536)
                answer += piece
                log.feed(False, piece)
                if found := log.exchanges():
                    return found[0]
                if not piece:
                    break
                if b"\r\n\r\n" in answer and (operation.method, operation.path) in _FOLLOWED:
                    return _beginning(request, answer)
        raise AssertionError(f"no whole answer came to {request[:500]!r}: {answer[:500]!r}")

    def judge(self, operation: Operation, request: bytes, exchange: Exchange) -> None:
        shown = f"{request[:3000]!r}\n{bytes(exchange.response.body[:1000])!r}\n{self.engine.log_tail(3000)}"
        meant = _MEANT_FAILURES.get((operation.method, operation.path))
        assert exchange.status != 500 or (meant and re.search(meant, exchange.response.body)), shown
        problems = self.contract.problems(exchange)
        assert not problems, "\n".join([*problems, shown])
        if operation.path == "/containers/create" and exchange.status == 201:
            self._look_at(exchange.documents()[0]["Id"])

    def _look_at(self, made: str) -> None:
        """What create takes can be shown. It is not to be started, and names that are taken hide what comes after their check."""
        for target in (f"/containers/{made}/json?size=1", "/containers/json?all=1&limit=1"):
            operation = self.contract.find("GET", target)
            assert operation is not None
            request = f"GET /v1.51{target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
            self.judge(operation, request, self.ask(operation, request))
        self.client.api.remove_container(made, force=True, v=True)


def _beginning(request: bytes, answer: bytes) -> Exchange:
    """An exchange of which the answer's body is left out."""
    log = ConnectionLog()
    log.feed(True, request.partition(b"\r\n\r\n")[0].split(b"\r\n")[0] + b"\r\n\r\n")
    head = answer.partition(b"\r\n\r\n")[0].split(b"\r\n")
    kept = [line for line in head if not line.lower().startswith((b"transfer-encoding", b"content-length"))]
    log.feed(False, b"\r\n".join([*kept, b"Content-Length: 0", b"", b""]))
    log.feed(False, b"")
    found = log.exchanges()[0]
    found.response.whole = False
    return found


@pytest.fixture(name="target", scope="module")
def _target(contract: ApiContract) -> Iterator[Target]:
    """An engine of its own, since nothing on it is spared; searched for leaks at the end."""
    with EngineUnderTest() as engine:
        client = engine.docker()
        load_busybox(client)
        directory = engine.home / "sources"
        directory.mkdir()
        directory.chmod(0o777)
        yield Target(engine, client, directory, contract)
        assert engine.answers()
        client.close()


def _names(operation: Operation) -> st.SearchStrategy[str]:
    """What the path's placeholder stands for: mostly something that is there and may be had."""
    if operation.path.startswith("/containers"):
        there = _AT_REST if operation.path.endswith(("/stop", "/restart")) else _LIVING
    elif operation.path.startswith("/images"):
        there = ["busybox:latest", "busybox", "kf-image:x"]
    elif operation.path.startswith("/volumes"):
        there = ["kf-volume"]
    elif operation.path.startswith("/networks"):
        there = ["bridge", "host", "none", "kf-network", "kf-network"]
    else:
        there = ["nope"]
    return st.sampled_from(there * 4 + _NOBODY)


_CONTEXT = tar_of({"Dockerfile": b"FROM busybox:latest\nLABEL a=b\n"})
_CONTENTS = st.sampled_from(
    [_CONTEXT, tar_of({"f": b"x"}), b"", b"x" * 700, _CONTEXT[:700], b"\x1f\x8b\x08\0", b"BZh9", b"\0" * 1024]
)


def _bodies(operation: Operation, target: Target) -> st.SearchStrategy[bytes]:
    schema = operation.body
    if schema is None:
        return st.sampled_from([b"", b"", b"{}", b"x"])
    if schema.get("format") == "binary" or schema.get("type") == "string":
        return _CONTENTS | st.binary(max_size=50)
    schemas = Schemas(
        target.contract.document["definitions"],
        {
            "Container": st.sampled_from([*_LIVING, "nope", ""]),
            "Image": st.sampled_from(["busybox:latest"] * 6 + ["nope", "", "UPPER", "\0"]),
            "serveraddress": st.just("localhost:1"),
            "Cmd": st.just(["true"]) | st.lists(st.text(max_size=3), max_size=3),
        },
    )
    values = schemas.values(schema)
    if operation.path == "/containers/create":
        values = _mostly_complete(values, schemas)
    if operation.path == "/auth":
        values = st.builds(lambda document: {**document, "serveraddress": "localhost:1"}, values)
    documents = st.one_of(values, values, values, spoilt(values), spoilt(values), spoilt(spoilt(values)), ANYTHING)
    made = bodies(documents.map(lambda document: contained(document, str(target.directory))))
    # No registry but one that isn't there: it can't be reached, and that is the one fault that may be told as 500.
    return made.filter(lambda data: b"localhost:1" in data) if operation.path == "/auth" else made


@st.composite
def _mostly_complete(draw: st.DrawFn, values: st.SearchStrategy[Any], schemas: Schemas) -> Any:
    """What create needs in order to look at the rest, and often something of the largest of its objects."""
    document = draw(values)
    if draw(st.integers(0, 9)) < 9:
        document = {**document, "Image": "busybox:latest", "Cmd": ["true"]}
    if draw(st.booleans()):
        document["HostConfig"] = draw(schemas.values({"$ref": "#/definitions/HostConfig"}))
    return document


_TYPES = st.sampled_from(
    [None] * 60 + ["", "text/plain", "application/json; charset=utf-8", ";;", "application/x-tar", "a" * 300, "é"]
)
_VERSIONS = st.sampled_from(["/v1.51"] * 6 + ["", "/v1.24", "/v1.41"])


@st.composite
def _requests(draw: st.DrawFn, operation: Operation, target: Target) -> bytes:
    path = operation.path.replace("{id}", "{}").replace("{name}", "{}")
    if "{}" in path:
        is_exec = operation.path.startswith("/exec") and draw(st.integers(0, 4)) < 4
        path = path.replace("{}", target.new_exec() if is_exec else quote(draw(_names(operation)), safe="/%:"))
    query = draw(queries(operation.parameters("query")))
    content = draw(_bodies(operation, target))
    is_json = operation.body is not None and operation.body.get("format") != "binary" and operation.body.get("type") != "string"
    kind = draw(_TYPES)
    if kind is None:
        kind = "application/json" if is_json else "application/x-tar"
    head = [f"{operation.method} {draw(_VERSIONS)}{path}{'?' + query if query else ''} HTTP/1.1", "Host: x", "Connection: close"]
    if content:
        head.append(f"Content-Type: {kind}")
    for parameter in operation.parameters("header"):
        if parameter["name"].lower() != "content-type" and draw(st.booleans()):
            head.append(f"{parameter['name']}: {draw(st.sampled_from(['e30', 'x', '', '!', 'bnVsbA==', 'eyJhIjo1fQ==']))}")
    framing = draw(st.sampled_from(["sized"] * 16 + ["chunked", "chunked", "waiting", "missing"]))
    if operation.path == "/session" or operation.path.endswith("/ws") or draw(st.integers(0, 9)) == 9:
        head[2] = "Connection: Upgrade"
        head.append(f"Upgrade: {draw(st.sampled_from(['tcp', 'websocket', 'h2c', 'x']))}")
    if framing == "chunked":
        head.append("Transfer-Encoding: chunked")
        middle = len(content) // 2
        pieces = [piece for piece in (content[:middle], content[middle:]) if piece]
        content = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    elif framing == "missing" and operation.method in ("GET", "HEAD", "DELETE", "POST"):
        content = b""
    else:
        head.append(f"Content-Length: {len(content)}")
        if framing == "waiting":
            head.append("Expect: 100-continue")
    return "\r\n".join(head).encode() + b"\r\n\r\n" + content


@pytest.mark.parametrize("operation", OPERATIONS)
def test_whatever_is_asked_is_answered_as_documented(operation: Operation, target: Target) -> None:
    target.make_scene()

    @_GENERATED
    @given(_requests(operation, target))
    def ask(request: bytes) -> None:
        target.judge(operation, request, target.ask(operation, request))

    ask()
    assert target.engine.answers()


@pytest.mark.parametrize("operation", WITH_BODY)
def test_monstrous_bodies_are_taken_or_refused(operation: Operation, target: Target) -> None:
    schema = target.contract.document["definitions"]
    name = next(iter(_properties(operation.body or {}, schema)), "Name")
    if operation.path == "/auth":
        name = "serveraddress"
    monsters = [
        json.dumps({name: "x" * 10_000_000}).encode(),
        json.dumps({name: ["x"] * 200_000}).encode(),
        json.dumps({name: {str(number): number for number in range(100_000)}}).encode(),
        b'{"' + name.encode() + b'":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
        b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
        b'{"' + name.encode() + b'":' + b"9" * 200_000 + b"}",
        b"{" + b",".join([b'"' + name.encode() + b'":"x"'] * 100_000) + b"}",
        random.Random(0).randbytes(100_000),  # noqa: S311  # nothing secret
    ]
    path = operation.path.replace("{id}", "nope").replace("{name}", "nope")
    kind = "application/json" if operation.body and "format" not in operation.body else "application/x-tar"
    for content in monsters:
        head = f"{operation.method} /v1.51{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: {kind}\r\n"
        request = f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content
        target.judge(operation, request, target.ask(operation, request))


def _properties(schema: dict[str, Any], definitions: dict[str, Any]) -> Iterator[str]:
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    for part in schema.get("allOf", []):
        yield from _properties(part, definitions)
    yield from schema.get("properties", {})
