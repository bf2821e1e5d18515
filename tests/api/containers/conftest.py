"""What the tests of containers share: raw requests, waiting with a deadline, and a look at the answers' shape."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import docker
import pytest
from docker.models.containers import Container
from support.engine import EngineUnderTest

Found = TypeVar("Found")


@dataclass(frozen=True)
class Answer:
    """A response, read to its end."""

    status: int
    body: bytes
    headers: dict[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def message(self) -> str:
        return str(self.json["message"])

    @property
    def lines(self) -> list[Any]:
        """A stream of progress messages."""
        return [json.loads(line) for line in self.body.splitlines()]


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=20)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class RawApi:
    """Requests without a client library in between."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(
        self,
        method: str,
        target: str,
        document: Any = None,
        *,
        version: str = "1.51",
        archive: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Sends a JSON document or an archive."""
        connection = _UnixConnection(self.path)
        try:
            body = json.dumps(document).encode() if document is not None else archive
            kind = {"Content-Type": "application/x-tar" if archive is not None else "application/json"}
            connection.request(method, f"/v{version}{target}", body, {**(kind if body else {}), **(headers or {})})
            response = connection.getresponse()
            return Answer(response.status, response.read(), {name.lower(): value for name, value in response.getheaders()})
        finally:
            connection.close()

    def hijack(
        self,
        target: str,
        document: Any = None,
        *,
        method: str = "POST",
        upgrade: bool = True,
        version: str = "1.51",
        early: bytes = b"",
        timeout_s: float = 20,
    ) -> Hijacked:
        """A request that turns into a raw stream; ``early`` is sent with it."""
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(timeout_s)
        connection.connect(str(self.path))
        body = b"" if document is None else json.dumps(document).encode()
        wish = "Connection: Upgrade\r\nUpgrade: tcp\r\n" if upgrade else ""
        connection.sendall(
            f"{method} /v{version}{target} HTTP/1.1\r\nHost: x\r\n{wish}"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + body
            + early
        )
        stream = connection.makefile("rb", buffering=0)
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = stream.read(1)
            assert byte, f"the connection ended early: {head!r}"
            head += byte
        return Hijacked(connection, stream, int(head.split()[1]), head.decode().lower())


class Hijacked:
    """A raw conversation; use it as a context manager."""

    def __init__(self, connection: socket.socket, stream: Any, status: int, head: str) -> None:
        self._connection = connection
        self._stream = stream
        self.status = status
        self.head = head

    def send(self, data: bytes) -> None:
        self._connection.sendall(data)

    def close_input(self) -> None:
        self._connection.shutdown(socket.SHUT_WR)

    def read_all(self) -> bytes:
        return b"".join(iter(lambda: self._stream.read(65536), b""))

    def read_what_comes(self) -> bytes:
        """All that comes until the time is up or the stream ends."""
        data = b""
        with contextlib.suppress(TimeoutError):
            while piece := self._stream.read(65536):
                data += piece
        return data

    def read_until(self, wanted: bytes) -> bytes:
        data = b""
        while wanted not in data:
            piece = self._stream.read(65536)
            assert piece, f"the stream ended before {wanted!r}: {data!r}"
            data += piece
        return data

    def read_frames(self) -> dict[int, bytes]:
        """All output by stream, until the end."""
        data, found = self.read_all(), {1: b"", 2: b""}
        while data:
            size = int.from_bytes(data[4:8], "big")
            found[data[0]] += data[8 : 8 + size]
            data = data[8 + size :]
        return found

    def __enter__(self) -> Hijacked:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()
        self._connection.close()


@pytest.fixture(name="api")
def _api(engine: EngineUnderTest) -> RawApi:
    return RawApi(engine.socket)


@pytest.fixture(name="until")
def _until() -> Callable[[Callable[[], Found]], Found]:
    """Wait until a function gives something true, for ten seconds at most; gives what it gave."""

    def until(condition: Callable[[], Found], timeout_s: float = 10.0) -> Found:
        deadline = time.monotonic() + timeout_s
        while not (found := condition()):
            assert time.monotonic() < deadline, f"{condition} did not come true"
            time.sleep(0.01)
        return found

    return until


Run = Callable[..., Container]


class Events:
    """What was told about one container since the test began, as (type, action, attributes)."""

    def __init__(self, api: RawApi, until: Callable[..., Any]) -> None:
        self._api = api
        self._until = until
        self._began = time.time()

    def forget(self) -> None:
        """Leave out what was told until now."""
        self._began = time.time()

    def all(self, container_id: str) -> list[tuple[str, str, dict[str, str]]]:
        answer = self._api("GET", f"/events?since={self._began:.9f}&until={time.time():.9f}")
        told = [json.loads(line) for line in answer.body.splitlines()]
        return [
            (event["Type"], event["Action"], event["Actor"]["Attributes"])
            for event in told
            if container_id in (event["Actor"]["ID"], event["Actor"]["Attributes"].get("container"))
        ]

    def actions(self, container_id: str, *, ending: str = "", type: str = "container") -> list[str]:
        """The actions in their order, once there is the one that is waited for."""

        def complete() -> list[str]:
            actions = [action for kind, action, _ in self.all(container_id) if kind == type]
            return actions if not ending or ending in actions else []

        return list(self._until(complete) if ending else complete())

    def attributes(self, container_id: str, action: str) -> list[dict[str, str]]:
        """Those of each event of an action, once there is one."""
        return list(self._until(lambda: [told for _, other, told in self.all(container_id) if other == action]))


@pytest.fixture(name="events")
def _events(api: RawApi, until: Callable[..., Any]) -> Events:
    return Events(api, until)


@pytest.fixture(name="restarting")
def _restarting(run: Any, until: Callable[..., Any], events: Events) -> Callable[..., Container]:
    """A container that waits for its restart, for three seconds yet."""

    def restarting(**options: Any) -> Container:
        container: Container = run("exit 5", restart_policy={"Name": "always"}, **options)

        def waits() -> bool:
            container.reload()
            return bool(container.attrs["RestartCount"] == 6 and container.attrs["State"]["Restarting"])

        until(waits)
        until(lambda: events.actions(container.id).count("die") == 6)
        return container

    return restarting


@pytest.fixture(name="run")
def _run(client: docker.DockerClient, busybox: str) -> Run:
    """Start a detached container: ``run("sleep 60", tty=True)``; a text goes to ``sh -c``."""

    def run(command: str | list[str], **options: Any) -> Container:
        words = ["sh", "-c", command] if isinstance(command, str) else command
        return client.containers.run(options.pop("image", busybox), words, detach=True, **options)

    return run


@pytest.fixture(name="output")
def _output(client: docker.DockerClient, busybox: str) -> Callable[..., str]:
    """What a shell script writes in a container that is removed afterwards; errors are appended, not raised."""

    def output(script: str, **options: Any) -> str:
        image = options.pop("image", busybox)
        return str(client.containers.run(image, ["sh", "-c", f"({script}) 2>&1; true"], remove=True, **options).decode())

    return output
