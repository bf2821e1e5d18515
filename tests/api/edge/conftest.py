"""The HTTP edge over a real socket, with services made up for tests."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import docker
import pytest

from kitepy.engine.model.container_config import (
    ContainerConfig,
    ContainerCreateBody,
    ContainerUpdateBody,
    ExecCreateBody,
    ExecStartBody,
)
from kitepy.engine.model.detach_keys import parse_detach_keys
from kitepy.engine.model.errors import Conflict, EngineError, NotFound, NotModified, StartFailed
from kitepy.engine.model.filters import Filters
from kitepy.engine.server.app import Server, build_app
from kitepy.engine.server.call import Services
from kitepy.engine.server.listeners import UnixHost
from kitepy.engine.services.events import EventBus
from kitepy.engine.services.host_facts import read_host_facts
from kitepy.engine.services.ports import AttachOptions, CommitOptions, CreateResult, LogOptions, WaitResult
from kitepy.engine.services.system import SystemInfo, SystemSettings, SystemSources

Result = TypeVar("Result")


class FakeSession:
    """A process that says back what it hears, in capitals, and ends at the end of its input."""

    def __init__(self, tty: bool = False, *, greeting: bytes = b"", reads_input: bool = True, endless: bool = False) -> None:
        self.tty = tty
        self.output: asyncio.Queue[tuple[int, bytes] | None] = asyncio.Queue()
        self.received = bytearray()
        self.stdin_closed = asyncio.Event()
        self.closed = asyncio.Event()
        self.may_read = asyncio.Event()
        self.endless = endless
        self.was_detached = False
        if reads_input:
            self.may_read.set()
        if greeting:
            self.output.put_nowait((1, greeting))

    async def read(self) -> tuple[int, bytes] | None:
        return await self.output.get()

    async def write(self, data: bytes) -> None:
        await self.may_read.wait()
        if data.startswith(b"close your ears"):
            raise BrokenPipeError
        self.received += data
        self.output.put_nowait((1, data.upper()))

    async def close_stdin(self) -> bool:
        self.stdin_closed.set()
        if not self.endless:
            self.output.put_nowait((2, b"bye"))
            self.output.put_nowait(None)
        return True

    async def detached(self) -> None:
        self.was_detached = True

    async def close(self) -> None:
        self.closed.set()


@dataclass
class FakeContainers:
    """Remembers what it was asked, and answers for one container, ``web``."""

    calls: list[tuple[Any, ...]] = field(default_factory=list)
    session: FakeSession | None = None
    failure: Exception | None = None
    ending: asyncio.Future[WaitResult] | None = None
    hold: asyncio.Event | None = None
    finished: asyncio.Event = field(default_factory=asyncio.Event)
    log_closed: asyncio.Event = field(default_factory=asyncio.Event)
    last_body: ContainerCreateBody | None = None
    log_failure: Exception | None = None

    def _note(self, *call: Any) -> None:
        self.calls.append(call)
        if self.failure is not None:
            raise self.failure
        if len(call) > 1 and call[1] not in ("web", None):
            raise NotFound(f"No such container: {call[1]}")

    async def create(
        self, name: str | None, body: ContainerCreateBody, platform: str | None, *, flat_read_only: bool = False
    ) -> CreateResult:
        assert not flat_read_only  # the newest version is spoken
        self.last_body = body
        self.calls.append(("create", name, platform))
        if name == "taken":
            raise Conflict("Conflict. The container name is in use")
        return CreateResult("a" * 64, ("careful",))

    async def start(self, ref: str, detach_keys: str | None = None) -> None:
        self._note("start", ref, detach_keys)
        if self.hold is not None:
            await self.hold.wait()
        self.finished.set()

    async def stop(self, ref: str, timeout_s: int | None, signal: str | None) -> None:
        self._note("stop", ref, timeout_s, signal)
        raise NotModified("already stopped")

    async def restart(self, ref: str, timeout_s: int | None, signal: str | None) -> None:
        self._note("restart", ref, timeout_s, signal)

    async def kill(self, ref: str, signal: str | None) -> None:
        self._note("kill", ref, signal)

    async def pause(self, ref: str) -> None:
        self._note("pause", ref)

    async def unpause(self, ref: str) -> None:
        self._note("unpause", ref)

    async def rename(self, ref: str, new_name: str) -> None:
        self._note("rename", ref, new_name)

    async def remove(self, ref: str, force: bool, volumes: bool, link: bool) -> None:
        self._note("remove", ref, force, volumes, link)

    async def wait(self, ref: str, condition: str) -> Awaitable[WaitResult]:
        self._note("wait", ref, condition)
        self.ending = asyncio.get_running_loop().create_future()
        return self.ending

    async def inspect(self, ref: str, size: bool) -> dict[str, Any]:
        self._note("inspect", ref, size)
        return {"Id": "a" * 64, "Name": "/web", "Config": {"Tty": False}}

    async def list(self, all: bool, limit: int | None, size: bool, filters: Filters) -> Sequence[dict[str, Any]]:
        self.calls.append(("list", all, limit, size, dict(filters.values)))
        filters.require_known({"status", "label"})
        return [{"Id": "a" * 64, "Names": ["/web"], "Image": "x", "Labels": {}, "State": "running", "Ports": []}]

    async def logs(self, ref: str, options: LogOptions) -> tuple[bool, AsyncIterator[Sequence[tuple[int, bytes]]]]:
        self._note("logs", ref, options)
        return False, self._log(options)

    async def _log(self, options: LogOptions) -> AsyncIterator[Sequence[tuple[int, bytes]]]:
        try:
            yield [(1, b"out\n")]
            if self.log_failure is not None:
                raise self.log_failure
            yield [(2, b"err\n")]
            if options.follow:
                await asyncio.Event().wait()
        finally:
            self.log_closed.set()

    async def attach(self, ref: str, options: AttachOptions) -> FakeSession:
        self._note("attach", ref, options)
        self.session = self.session or FakeSession()
        return self.session

    async def resize(self, ref: str, rows: int, columns: int) -> None:
        self._note("resize", ref, rows, columns)

    async def top(self, ref: str, ps_args: str) -> dict[str, Any]:
        self._note("top", ref, ps_args)
        return {"Titles": ["PID"], "Processes": [["1"]]}

    async def stats(self, ref: str, stream: bool, one_shot: bool) -> AsyncIterator[dict[str, Any]]:
        self._note("stats", ref, stream, one_shot)
        return self._stats()

    async def _stats(self) -> AsyncIterator[dict[str, Any]]:
        yield {"name": "/web"}

    async def update(self, ref: str, body: ContainerUpdateBody) -> Sequence[str]:
        self._note("update", ref, body.memory)
        return []

    async def changes(self, ref: str) -> Sequence[dict[str, Any]] | None:
        self._note("changes", ref)
        return None

    async def export(self, ref: str) -> AsyncIterator[bytes]:
        self._note("export", ref)
        return self._archive()

    async def _archive(self) -> AsyncIterator[bytes]:
        yield b"tar"
        yield b"ball"

    async def stat(self, ref: str, path: str) -> dict[str, Any]:
        self._note("stat", ref, path)
        return {"name": "x", "size": 1, "mode": 420, "mtime": "2020-01-01T00:00:00Z", "linkTarget": ""}

    async def get(self, ref: str, path: str) -> tuple[dict[str, Any], AsyncIterator[bytes]]:
        return await self.stat(ref, path), self._archive()

    async def put(
        self, ref: str, path: str, content: AsyncIterator[bytes], *, no_overwrite_dir_non_dir: bool, copy_uid_gid: bool
    ) -> None:
        data = b"".join([piece async for piece in content])
        self._note("put", ref, path, data, no_overwrite_dir_non_dir, copy_uid_gid)

    async def commit(self, ref: str, options: CommitOptions, config: ContainerConfig | None) -> str:
        self._note("commit", ref, options, config)
        return "sha256:" + "1" * 64

    async def prune(self, filters: Filters) -> dict[str, Any]:
        self.calls.append(("prune", dict(filters.values)))
        return {"ContainersDeleted": None, "SpaceReclaimed": 0}


@dataclass
class FakeExecs:
    """One exec, whose session is made anew for each start."""

    session: FakeSession | None = None
    failure: EngineError | None = None
    calls: list[tuple[Any, ...]] = field(default_factory=list)
    detach_keys: str = ""

    async def create(self, ref: str, body: ExecCreateBody) -> str:
        self.calls.append(("create", ref, body))
        if ref != "web":
            raise NotFound(f"No such container: {ref}")
        return "e" * 64

    async def start(self, exec_id: str, body: ExecStartBody) -> FakeSession | None:
        self.calls.append(("start", exec_id, body))
        if self.failure is not None:
            raise self.failure
        if body.detach:
            return None
        self.session = self.session or FakeSession(body.tty)
        return self.session

    async def resize(self, exec_id: str, rows: int, columns: int) -> None:
        self.calls.append(("resize", exec_id, rows, columns))
        if exec_id != "e" * 64:
            raise NotFound(f"No such exec instance: {exec_id}")

    async def inspect(self, exec_id: str) -> dict[str, Any]:
        return {
            "ID": exec_id,
            "Running": False,
            "ExitCode": 0,
            "DetachKeys": base64.b64encode(parse_detach_keys(self.detach_keys)).decode(),
        }


class Edge:
    """The server in a thread of its own, so that blocking clients can talk to it."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "s"
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.run(self._start(directory))

    async def _start(self, directory: Path) -> None:
        self.events = EventBus()
        self.containers = FakeContainers()
        self.execs = FakeExecs()
        system = SystemInfo(
            read_host_facts(directory),
            SystemSettings("engine", directory),
            SystemSources(event_listeners=lambda: self.events.listeners),
        )
        self.services = Services(
            system, self.events, self.containers, self.execs, observer=self.containers, archives=self.containers
        )
        self.server: Server = build_app(self.services)
        await self.server.start([UnixHost(self.path)])

    def run(self, work: Awaitable[Result], timeout_s: float = 10.0) -> Result:
        """Wait for something in the server's loop."""

        async def bounded() -> Result:
            return await asyncio.wait_for(work, timeout_s)

        return asyncio.run_coroutine_threadsafe(bounded(), self._loop).result()

    def until(self, condition: Any) -> None:
        """Wait until a condition about the server's state holds."""

        async def poll() -> None:
            while not condition():
                await asyncio.sleep(0.005)

        self.run(poll())

    def connect(self) -> socket.socket:
        """A raw connection."""
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(10)
        connection.connect(str(self.path))
        return connection

    def request(self, method: str, target: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> Answer:
        """One whole exchange."""
        with self.connect() as connection:
            fields = {"Host": "x", "Connection": "close", **(headers or {})}
            if body is not None:
                fields.setdefault("Content-Type", "application/json")
            if body is not None and "Transfer-Encoding" not in fields:
                fields["Content-Length"] = str(len(body))
            head = f"{method} {target} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields.items())
            connection.sendall(head.encode() + b"\r\n" + (body or b""))
            return Answer.read(connection)

    def close(self) -> None:
        self.run(self.server.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


@dataclass
class Answer:
    """A response, read to its end."""

    status: int
    headers: dict[str, str]
    body: bytes

    @classmethod
    def read(cls, connection: socket.socket) -> Answer:
        data = b"".join(iter(lambda: connection.recv(65536), b""))
        head, _, body = data.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
        if headers.get("transfer-encoding") == "chunked":
            body = _unchunk(body)
        return cls(int(lines[0].split()[1]), headers, body)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def _unchunk(data: bytes) -> bytes:
    whole = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        length = int(size, 16)
        whole += data[:length]
        data = data[length + 2 :]
        if length == 0:
            break
    return whole


@pytest.fixture(name="edge")
def _edge(tmp_path: Path) -> Iterator[Edge]:
    edge = Edge(tmp_path)
    yield edge
    edge.close()


@pytest.fixture(name="client")
def _client(edge: Edge) -> Iterator[docker.APIClient]:
    client = docker.APIClient(base_url=f"unix://{edge.path}", version="auto", timeout=10)
    yield client
    client.close()


@pytest.fixture(name="start_failure")
def _start_failure() -> StartFailed:
    return StartFailed('exec: "nope": executable file not found in $PATH', 127)


@pytest.fixture(name="terminal")
def _terminal(edge: Edge) -> FakeSession:
    """A terminal that the next attach or exec gets."""

    async def make() -> FakeSession:
        return FakeSession(tty=True)

    session = edge.run(make())
    edge.containers.session = session
    edge.execs.session = session
    return session


@pytest.fixture(name="process")
def _process(edge: Edge) -> FakeSession:
    """A process without terminal that doesn't take input until the test lets it and doesn't end by itself."""

    async def make() -> FakeSession:
        return FakeSession(reads_input=False, endless=True)

    session = edge.run(make())
    edge.containers.session = session
    edge.execs.session = session
    return session
