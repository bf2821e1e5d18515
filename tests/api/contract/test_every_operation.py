"""Each operation of the API's description, asked once as it is meant and once wrongly; every answer is checked against it."""

from __future__ import annotations

import base64
import contextlib
import http.client
import io
import json
import socket
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import docker
import pytest
from support.contract import ApiContract, Operation, api_description
from support.engine import PEER, ROOTLESS, EngineUnderTest, docker_info

JSON = {"Content-Type": "application/json"}
TAR = {"Content-Type": "application/x-tar"}
UPGRADE = {"Connection": "Upgrade", "Upgrade": "tcp"}
WEBSOCKET = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": base64.b64encode(b"0123456789abcdef").decode(),
    "Origin": "http://localhost",
}
NO_SWARM = "this node is no Swarm manager"
NO_REGISTRY = "no registry can be reached here"
NO_PLUGINS = "this machine has no plugins"


@dataclass(frozen=True)
class Ask:
    """A request; ``{running}`` and the like in its target stand for what the tests made."""

    target: str
    status: int
    document: Any = None
    content: Callable[[], bytes] | None = None
    headers: dict[str, str] = field(default_factory=dict)
    refusal: str = ""
    """Why this operation can't succeed here."""
    docker_status: int | None = None
    """What Docker answers, where it is otherwise."""


def _archive(**files: str) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    return packed.getvalue()


def _root() -> bytes:
    return _archive(file="x")


def _context() -> bytes:
    return _archive(Dockerfile="FROM busybox:latest\nLABEL a=b\n")


_FILTERS = "filters=" + quote('{"label":["kitepy.contract"]}')
_BAD = "filters=x"
_UNKNOWN = "filters=" + quote('{"colour":["red"]}')

WELL: dict[str, Ask] = {
    "GET /containers/json": Ask("/containers/json?all=1&size=1&limit=5", 200),
    "POST /containers/create": Ask(
        "/containers/create", 201, {"Image": "busybox:latest", "Cmd": ["true"], "Labels": {"kitepy.contract": "1"}}
    ),
    "GET /containers/{id}/json": Ask("/containers/{running}/json?size=1", 200),
    "GET /containers/{id}/top": Ask("/containers/{running}/top", 200),
    "GET /containers/{id}/logs": Ask("/containers/{running}/logs?stdout=1&stderr=1&timestamps=1&tail=5", 200),
    "GET /containers/{id}/changes": Ask("/containers/{running}/changes", 200),
    "GET /containers/{id}/export": Ask("/containers/{running}/export", 200),
    "GET /containers/{id}/stats": Ask("/containers/{running}/stats?stream=0&one-shot=1", 200),
    "POST /containers/{id}/resize": Ask("/containers/{running}/resize?h=20&w=40", 200),
    "POST /containers/{id}/start": Ask("/containers/{running}/start", 304),
    "POST /containers/{id}/stop": Ask("/containers/{stopped}/stop", 304),
    "POST /containers/{id}/restart": Ask("/containers/{spare}/restart?t=0", 204),
    "POST /containers/{id}/kill": Ask("/containers/{running}/kill?signal=USR1", 204),
    "POST /containers/{id}/update": Ask("/containers/{running}/update", 200, {"RestartPolicy": {"Name": "no"}}),
    "POST /containers/{id}/rename": Ask("/containers/{stopped}/rename?name=kitepy-contract-renamed", 204),
    "POST /containers/{id}/pause": Ask("/containers/{spare}/pause", 204),
    "POST /containers/{id}/unpause": Ask("/containers/{paused}/unpause", 204),
    "POST /containers/{id}/attach": Ask("/containers/{stopped}/attach?stdout=1&logs=1", 200),
    "GET /containers/{id}/attach/ws": Ask("/containers/{stopped}/attach/ws?logs=1&stdout=1", 101, headers=WEBSOCKET),
    "POST /containers/{id}/wait": Ask("/containers/{stopped}/wait", 200),
    "DELETE /containers/{id}": Ask("/containers/{throwaway}?force=1&v=1", 204),
    "HEAD /containers/{id}/archive": Ask("/containers/{running}/archive?path=/etc", 200),
    "GET /containers/{id}/archive": Ask("/containers/{running}/archive?path=/etc/hostname", 200),
    "PUT /containers/{id}/archive": Ask("/containers/{running}/archive?path=/", 200, content=_root, headers=TAR),
    "POST /containers/prune": Ask(f"/containers/prune?{_FILTERS}", 200),
    "GET /images/json": Ask("/images/json?all=1&digests=1&shared-size=1", 200),
    "POST /build": Ask("/build?t=kitepy-contract:built&rm=1", 200, content=_context, headers=TAR),
    "POST /build/prune": Ask("/build/prune?filters=" + quote('{"unused-for":["9999h"]}'), 200),
    "POST /images/create": Ask("/images/create?fromSrc=-&repo=kitepy-contract&tag=imported", 200, content=_root, headers=TAR),
    "GET /images/{name}/json": Ask("/images/busybox:latest/json", 200),
    "GET /images/{name}/history": Ask("/images/busybox:latest/history", 200),
    "POST /images/{name}/push": Ask("/images/localhost:1/nothing/push?tag=x", 200),
    "POST /images/{name}/tag": Ask("/images/busybox:latest/tag?repo=kitepy-contract&tag=tagged", 201),
    "DELETE /images/{name}": Ask("/images/kitepy-contract:removable", 200),
    "GET /images/search": Ask("/images/search?term=localhost:1/x", 400, refusal=NO_REGISTRY),
    "POST /images/prune": Ask(f"/images/prune?{_FILTERS}", 200),
    "POST /auth": Ask("/auth", 500, {"serveraddress": "localhost:1"}, refusal=NO_REGISTRY),
    "GET /info": Ask("/info", 200),
    "GET /version": Ask("/version", 200),
    "GET /_ping": Ask("/_ping", 200),
    "HEAD /_ping": Ask("/_ping", 200),
    "POST /commit": Ask("/commit?container={running}&repo=kitepy-contract&tag=committed", 201, {}),
    "GET /events": Ask("/events?since=1&until=2", 200),
    "GET /system/df": Ask("/system/df", 200),
    "GET /images/{name}/get": Ask("/images/busybox:latest/get", 200),
    "GET /images/get": Ask("/images/get?names=busybox:latest", 200),
    "POST /images/load": Ask("/images/load?quiet=0", 200, content=lambda: b"{saved}", headers=TAR),
    "POST /containers/{id}/exec": Ask("/containers/{running}/exec", 201, {"Cmd": ["true"]}),
    "POST /exec/{id}/start": Ask("/exec/{exec}/start", 200, {"Detach": True}),
    "POST /exec/{id}/resize": Ask("/exec/{running exec}/resize?h=10&w=10", 200),
    "GET /exec/{id}/json": Ask("/exec/{exec}/json", 200),
    "GET /volumes": Ask("/volumes", 200),
    "POST /volumes/create": Ask("/volumes/create", 201, {"Name": "kitepy-contract-new", "Labels": {"a": "b"}}),
    "GET /volumes/{name}": Ask("/volumes/{volume}", 200),
    "PUT /volumes/{name}": Ask("/volumes/{volume}?version=1", 503, {}, refusal=NO_SWARM),
    "DELETE /volumes/{name}": Ask("/volumes/{removable volume}", 204),
    "POST /volumes/prune": Ask(f"/volumes/prune?{_FILTERS}", 200),
    "GET /networks": Ask("/networks", 200),
    "GET /networks/{id}": Ask("/networks/bridge?verbose=1", 200),
    "DELETE /networks/{id}": Ask("/networks/bridge", 403, refusal="the predefined networks stay"),
    "POST /networks/create": Ask("/networks/create", 403, {"Name": "bridge"}, refusal="the predefined networks stay"),
    "POST /networks/{id}/connect": Ask(
        "/networks/host/connect", 404, {"Container": "nope"}, refusal="networks are made elsewhere"
    ),
    "POST /networks/{id}/disconnect": Ask("/networks/host/disconnect", 404, {"Container": "nope"}, refusal="as connect"),
    "POST /networks/prune": Ask(f"/networks/prune?{_FILTERS}", 200),
    "GET /plugins": Ask("/plugins", 200),
    "GET /plugins/privileges": Ask("/plugins/privileges?remote=localhost:1/x", 501, refusal=NO_PLUGINS, docker_status=200),
    "POST /plugins/pull": Ask("/plugins/pull?remote=localhost:1/x", 501, [], refusal=NO_PLUGINS, docker_status=500),
    "GET /plugins/{name}/json": Ask("/plugins/nope/json", 404, refusal=NO_PLUGINS),
    "DELETE /plugins/{name}": Ask("/plugins/nope", 404, refusal=NO_PLUGINS),
    "POST /plugins/{name}/enable": Ask("/plugins/nope/enable?timeout=1", 404, refusal=NO_PLUGINS),
    "POST /plugins/{name}/disable": Ask("/plugins/nope/disable", 404, refusal=NO_PLUGINS),
    "POST /plugins/{name}/upgrade": Ask("/plugins/nope/upgrade?remote=localhost:1/x", 404, [], refusal=NO_PLUGINS),
    "POST /plugins/create": Ask("/plugins/create?name=x", 501, content=_root, headers=TAR, refusal=NO_PLUGINS, docker_status=500),
    "POST /plugins/{name}/push": Ask("/plugins/nope/push", 404, refusal=NO_PLUGINS),
    "POST /plugins/{name}/set": Ask("/plugins/nope/set", 404, ["A=b"], refusal=NO_PLUGINS),
    "GET /distribution/{name}/json": Ask("/distribution/localhost:1/x/json", 500, refusal=NO_REGISTRY),
    "POST /session": Ask(
        "/session", 501, headers={"Connection": "Upgrade", "Upgrade": "h2c"}, refusal="BuildKit", docker_status=101
    ),
}

ILL: dict[str, Ask] = {
    "GET /containers/json": Ask(f"/containers/json?{_UNKNOWN}", 400),
    "POST /containers/create": Ask("/containers/create", 400, {"Image": "busybox:latest", "HostConfig": {"Memory": "much"}}),
    "GET /containers/{id}/logs": Ask("/containers/{running}/logs", 400),
    "POST /containers/{id}/resize": Ask("/containers/{running}/resize?h=x&w=1", 400),
    "POST /containers/{id}/kill": Ask("/containers/{running}/kill?signal=NONSENSE", 400),
    "POST /containers/{id}/update": Ask("/containers/{running}/update", 400, {"Memory": "much"}),
    "POST /containers/{id}/rename": Ask("/containers/{running}/rename?name=-", 400),
    "POST /containers/{id}/attach": Ask("/containers/{running}/attach?detachKeys=nonsense", 400),
    "POST /containers/{id}/wait": Ask("/containers/{running}/wait?condition=sunny", 400),
    "HEAD /containers/{id}/archive": Ask("/containers/{running}/archive", 400),
    "GET /containers/{id}/archive": Ask("/containers/{running}/archive", 400),
    "PUT /containers/{id}/archive": Ask("/containers/{running}/archive", 400, content=_root),
    "POST /containers/prune": Ask(f"/containers/prune?{_BAD}", 400),
    "GET /images/json": Ask(f"/images/json?{_UNKNOWN}", 400),
    "POST /build": Ask("/build?buildargs=x", 400, content=_context, headers=TAR),
    "POST /build/prune": Ask(f"/build/prune?{_UNKNOWN}", 400),
    "POST /images/create": Ask("/images/create?fromImage=UPPER", 400),
    "GET /images/{name}/json": Ask("/images/UPPER/json", 400),
    "POST /images/{name}/push": Ask("/images/UPPER/push", 400),
    "POST /images/{name}/tag": Ask("/images/busybox:latest/tag?repo=UPPER", 400),
    "DELETE /images/{name}": Ask("/images/UPPER", 400),
    "GET /images/search": Ask("/images/search?term=x&limit=1000", 400),
    "POST /images/prune": Ask(f"/images/prune?{_UNKNOWN}", 400),
    "POST /commit": Ask("/commit?container=nope", 404, {}),
    "GET /events": Ask("/events?since=2&until=1", 400),
    "GET /system/df": Ask("/system/df?type=moon", 400),
    "POST /containers/{id}/exec": Ask("/containers/{running}/exec", 400, {}),
    "POST /exec/{id}/resize": Ask("/exec/{exec}/resize?h=x&w=1", 400),
    "GET /volumes": Ask(f"/volumes?{_UNKNOWN}", 400),
    "POST /volumes/create": Ask("/volumes/create", 400, {"Name": "a/b"}),
    "POST /volumes/prune": Ask(f"/volumes/prune?{_UNKNOWN}", 400),
    "GET /networks": Ask(f"/networks?{_UNKNOWN}", 400),
    "GET /networks/{id}": Ask("/networks/bridge?verbose=x", 400),
    "POST /networks/create": Ask("/networks/create", 400, {}),
    "POST /networks/{id}/connect": Ask("/networks/host/connect", 400, {}),
    "POST /networks/prune": Ask(f"/networks/prune?{_UNKNOWN}", 400),
    "GET /plugins": Ask(f"/plugins?{_UNKNOWN}", 400),
    "GET /distribution/{name}/json": Ask("/distribution/UPPER/json", 400),
    "POST /session": Ask("/session", 400),
}
"""A bad parameter, where an unknown name isn't the only thing that can be wrong."""

TAKES_ANYTHING = frozenset(
    {
        "GET /info": "it has no parameters",
        "GET /version": "it has no parameters",
        "GET /_ping": "it has no parameters",
        "HEAD /_ping": "it has no parameters",
        "POST /auth": "Docker answers a broken document with 500",
        "POST /images/load": "Docker tells of a broken archive within the stream",
        "GET /images/get": "Docker gives an empty archive when no names are given",
        "GET /plugins/privileges": NO_PLUGINS,
        "POST /plugins/pull": NO_PLUGINS,
        "POST /plugins/create": NO_PLUGINS,
    }
)
"""Operations that nothing can be wrong about here."""

_SWARM = ("/swarm", "/nodes", "/services", "/tasks", "/secrets", "/configs")
_VERSIONED = ("/update",)


def _is_for_a_swarm(operation: Operation) -> bool:
    return operation.path.startswith(_SWARM)


def _operations() -> list[Operation]:
    path = api_description()
    return [] if path is None else ApiContract(path).operations()


OPERATIONS = [pytest.param(operation, id=str(operation)) for operation in _operations()]


@dataclass
class Answer:
    status: int
    body: bytes


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=60)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Scene:
    """Containers and the like to ask about, made when a request names them."""

    def __init__(self, client: docker.DockerClient, socket_path: Path, image: str) -> None:
        self.client = client
        self._socket = socket_path
        self._image = image
        self._made: list[Any] = []

    def ask(self, method: str, asked: Ask) -> Answer:
        content = asked.content() if asked.content else None
        if content == b"{saved}":
            content = b"".join(self.client.images.get(self._image).save(named=self._image))
        headers = dict(asked.headers)
        if asked.document is not None:
            content, headers = json.dumps(asked.document).encode(), {**JSON, **headers}
        connection = _Connection(self._socket)
        try:
            connection.request(method, "/v1.51" + self._filled(asked.target), content, headers)
            response = connection.getresponse()
            body = b"" if response.status == 101 else response.read()
            return Answer(response.status, body)
        finally:
            connection.close()

    def _filled(self, target: str) -> str:
        for word in ("running exec", "removable volume", "running", "stopped", "spare", "paused", "throwaway", "exec", "volume"):
            if f"{{{word}}}" in target:
                target = target.replace(f"{{{word}}}", getattr(self, word.replace(" ", "_"))())
        if "kitepy-contract:removable" in target:
            self.client.images.get(self._image).tag("kitepy-contract", "removable")
        return target

    def running(self) -> str:
        script = "trap : USR1; echo out; echo err >&2; while :; do sleep 1; done"
        return self._run(["sh", "-c", script], tty=False).id

    def _run(self, command: list[str], **options: Any) -> Any:
        container = self.client.containers.run(self._image, command, detach=True, labels={"kitepy.contract": "1"}, **options)
        self._made.append(container)
        return container

    spare = throwaway = running

    def stopped(self) -> str:
        container = self._run(["echo", "out"])
        container.wait()
        return str(container.id)

    def paused(self) -> str:
        container = self._run(["sleep", "60"])
        container.pause()
        return str(container.id)

    def exec(self) -> str:
        return str(self.client.api.exec_create(self.running(), ["true"])["Id"])

    def running_exec(self) -> str:
        made = self.client.api.exec_create(self.running(), ["sleep", "60"], tty=True)
        self.client.api.exec_start(made["Id"], detach=True, tty=True)
        return str(made["Id"])

    def volume(self) -> str:
        volume = self.client.volumes.create(labels={"kitepy.contract": "1"})
        self._made.append(volume)
        return str(volume.name)

    def removable_volume(self) -> str:
        return str(self.client.volumes.create().name)

    def clean(self) -> None:
        for thing in self._made:
            with contextlib.suppress(docker.errors.APIError):
                thing.remove(force=True)
        for tag in ("built", "imported", "tagged", "committed", "removable"):
            with contextlib.suppress(docker.errors.APIError):
                self.client.images.remove(f"kitepy-contract:{tag}", force=True)
        with contextlib.suppress(docker.errors.APIError):
            self.client.volumes.get("kitepy-contract-new").remove()


@pytest.fixture(name="scene")
def _scene(client: docker.DockerClient, engine: EngineUnderTest, busybox: str) -> Iterator[Scene]:
    scene = Scene(client, engine.socket, busybox)
    yield scene
    scene.clean()


def test_every_operation_is_asked() -> None:
    operations = {str(operation) for operation in _operations() if not _is_for_a_swarm(operation)}
    if not operations:
        pytest.skip("the Engine API description is not beside the repository (shared/api/engine-v1.51.yaml)")
    assert operations == set(WELL)
    named = {operation for operation in operations if "{" in operation}
    assert operations - set(ILL) - set(TAKES_ANYTHING) - named == set()


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_operation_does_what_it_is_for(operation: Operation, scene: Scene, request: pytest.FixtureRequest) -> None:
    if _is_for_a_swarm(operation):
        target = operation.path.replace("{id}", "nope") + ("?version=1" if operation.path.endswith("/update") else "?stdout=1")
        bodies = operation.body is not None
        answer = scene.ask(operation.method, Ask(target, 503, {} if bodies else None))
        expected = 503
        if PEER and operation.path in ("/swarm/init", "/swarm/join"):
            expected = 400  # Docker could, if the address were one
    else:
        asked = WELL[str(operation)]
        if asked.document is None and "pause" in operation.path:
            _need_limits(request)
        answer = scene.ask(operation.method, asked)
        expected = asked.docker_status if PEER and asked.docker_status else asked.status
    assert answer.status == expected, answer.body


def _need_limits(request: pytest.FixtureRequest) -> None:
    if ROOTLESS and docker_info(request.getfixturevalue("session_engine"))["CgroupDriver"] == "none":
        pytest.skip("pausing needs control groups, and an ordinary user has none on this machine")


@pytest.mark.parametrize("operation", [one for one in OPERATIONS if str(one.values[0]) in ILL])
def test_a_bad_parameter_is_refused(operation: Operation, scene: Scene) -> None:
    asked = ILL[str(operation)]
    answer = scene.ask(operation.method, asked)
    assert answer.status == asked.status, answer.body


_NAMED = [one for one in OPERATIONS if "{" in one.values[0].path and not _is_for_a_swarm(one.values[0])]
_REGISTRY = ("/images/{name}/push", "/distribution/{name}/json")


@pytest.mark.parametrize("operation", [one for one in _NAMED if one.values[0].path not in _REGISTRY])
def test_an_unknown_name_is_not_found(operation: Operation, scene: Scene) -> None:
    target = operation.path.replace("{id}", "nope").replace("{name}", "nope")
    query = {"logs": "?stdout=1", "archive": "?path=/", "resize": "?h=1&w=1", "tag": "?repo=a&tag=b", "rename": "?name=some"}
    query |= {"enable": "?timeout=1", "upgrade": "?remote=localhost:1/x"}
    target += query.get(target.rpartition("/")[2], "")
    documents = {"exec": {"Cmd": ["true"]}, "connect": {"Container": "nope"}, "disconnect": {"Container": "nope"}, "set": ["a=b"]}
    document = documents.get(operation.path.rpartition("/")[2], [] if "upgrade" in target else {})
    has_body = operation.body is not None and operation.method != "PUT"
    headers = WEBSOCKET if target.endswith("/ws") else {}
    answer = scene.ask(operation.method, Ask(target, 404, document if has_body else None, headers=headers))
    expected = 503 if operation.path == "/volumes/{name}" and operation.method == "PUT" else 404
    assert answer.status == expected, answer.body
    if operation.method != "HEAD" and expected == 404:
        assert b"nope" in answer.body
