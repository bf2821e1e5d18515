"""An engine in memory that fulfils the app's Gateway: scripted builds, containers with logs, and every kind of failure."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from support.fake_images import FakeImages
from support.fake_registries import FakeRegistries

from kitepy.gui.gateway.port import (
    BindResult,
    Disconnected,
    EngineStarted,
    EngineUnavailable,
    LogChunk,
    OperationFailed,
    Progress,
)
from kitepy.gui.gateway.review import read_review
from kitepy.gui.models.build import (
    BuildEvent,
    BuildFailed,
    BuildRequest,
    BuildReview,
    BuildSucceeded,
    ContextSent,
    OutputWritten,
    StepStarted,
)
from kitepy.gui.models.container import Attachment, Container, ContainerDetails, Port, Status
from kitepy.gui.models.image import Image
from kitepy.gui.models.network import Network, NetworkPlan, Subnet
from kitepy.gui.models.ports import Listener
from kitepy.gui.models.preview import Preview
from kitepy.gui.models.state import EngineEvent
from kitepy.gui.models.system_check import Finding, Severity, SystemCheck
from kitepy.gui.models.volume import FileEntry, FilePreview, Folder, RestorePlan, Volume, preview_of


def stamp(offset_s: float = 0.0) -> str:
    now = time.time() + offset_s
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1e9):09d}Z"


@dataclass
class FakeGateway(FakeImages, FakeRegistries):
    """Change its fields to say what happens next; `calls` records what was asked of it."""

    start_failure: EngineUnavailable | None = None
    start_delay_s: float = 0.0
    system: SystemCheck = field(default_factory=lambda: SystemCheck((Finding("kernel", Severity.FINE, "Linux 6.1."),)))
    build_failure: str = ""
    build_pause_s: float = 0.0
    hold_build: asyncio.Event | None = None
    operation_failure: str = ""
    page: Preview | None = None
    containers_by_id: dict[str, Container] = field(default_factory=dict)
    log_lines: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    closed: bool = False
    volumes_by_name: dict[str, Volume] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    """Content by path, the same in every volume."""
    file_failure: str = ""
    hold_copy: asyncio.Event | None = None
    """A copy waits for it half way."""
    copy_failure: str = ""
    networks_by_id: dict[str, Network] = field(default_factory=dict)
    listeners: list[Listener] = field(default_factory=list)
    listeners_failure: str = ""
    start_failures: dict[str, str] = field(default_factory=dict)
    """Why containers can't be started, by id."""
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    _listeners: list[asyncio.Queue[EngineEvent | None]] = field(default_factory=list)
    _log_listeners: dict[str, list[asyncio.Queue[tuple[str, str] | None]]] = field(default_factory=dict)
    on_cancelled_build: Callable[[], None] | None = None

    # For tests

    def add_container(
        self, name: str, image: str = "hello-web:latest", status: Status = Status.RUNNING, **more: object
    ) -> Container:
        number = next(self._numbers)
        ports = (Port(8080, "tcp", "0.0.0.0", 49152 + number),) if status is Status.RUNNING else ()
        container = Container(hashlib.sha256(f"c{number}".encode()).hexdigest(), name, image, status, ports, time.time())
        container = replace(container, **more)  # type: ignore[arg-type]  # names are checked by dataclasses.replace
        self.containers_by_id[container.id] = container
        self.log_lines.setdefault(container.id, [])
        return container

    def add_image(
        self, *tags: str, size_bytes: int = 4_300_000, age_s: float = 600, containers: int = 0, **more: object
    ) -> Image:
        digest = hashlib.sha256(str(next(self._numbers)).encode()).hexdigest()
        image = Image(f"sha256:{digest}", tags, size_bytes, time.time() - age_s, containers)
        image = replace(image, **more)  # type: ignore[arg-type]  # names are checked by replace
        self.images_by_id[image.id] = image
        return image

    def __post_init__(self) -> None:
        for name, driver in (("bridge", "bridge"), ("host", "host"), ("none", "null")):
            self.add_network(name, driver, *([Subnet("172.17.0.0/16", "172.17.0.1")] if name == "bridge" else []))

    def add_volume(self, name: str, size_bytes: int = 0, **more: object) -> Volume:
        volume = replace(Volume(name, created_at=stamp(-3600), mountpoint=f"/var/lib/kitepy/volumes/{name}/_data"), **more)  # type: ignore[arg-type]  # names are checked by replace
        self.volumes_by_name[name] = volume
        self.sizes[name] = size_bytes
        return volume

    def add_network(self, name: str, driver: str = "bridge", *subnets: Subnet, **more: object) -> Network:
        network = Network(hashlib.sha256(f"n{name}".encode()).hexdigest(), name, driver, created_at=stamp(-7200), subnets=subnets)
        network = replace(network, **more)  # type: ignore[arg-type]  # names are checked by replace
        self.networks_by_id[network.id] = network
        return network

    def write_log(self, container_id: str, text: str, stream: str = "stdout") -> None:
        line = (stream, f"{stamp()} {text}\n")
        self.log_lines[container_id].append(line)
        for queue in self._log_listeners.get(container_id, []):
            queue.put_nowait(line)

    def emit(self, kind: str, action: str, object_id: str, **attributes: str) -> None:
        for queue in self._listeners:
            queue.put_nowait(EngineEvent(kind, action, object_id, attributes))

    def disconnect(self) -> None:
        """What a crash of the engine looks like from here."""
        for queue in self._listeners:
            queue.put_nowait(None)

    # Gateway

    def pulled(self, reference: str) -> None:
        image = self.add_image(reference, size_bytes=143_000_000, age_s=86400)
        self.emit("image", "pull", image.id)

    async def start_engine(self) -> EngineStarted:
        self.calls.append(("start_engine",))
        await asyncio.sleep(self.start_delay_s)
        if self.start_failure is not None:
            raise self.start_failure
        return EngineStarted("0.1.0", adopted=False)

    async def check_system(self) -> SystemCheck:
        await self._operate("check_system")
        return self.system

    async def choose_rights(self, *, as_root: bool) -> None:
        await self._operate("choose_rights", "root" if as_root else "own")
        self.system = replace(self.system, engine_as_root=as_root)
        self.start_failure = None

    async def containers(self) -> tuple[Container, ...]:
        await asyncio.sleep(0)
        return tuple(self.containers_by_id.values())

    async def container(self, container_id: str) -> ContainerDetails:
        await asyncio.sleep(0)
        container = self._container(container_id)
        return ContainerDetails(
            container,
            command="httpd -f -v -p 8080 -h /www",
            started_at=stamp(-90),
            finished_at="0001-01-01T00:00:00Z" if container.status.alive else stamp(-3),
            address="172.17.0.2" if container.status.alive else "",
            document={
                "Id": container.id,
                "Name": f"/{container.name}",
                "State": {
                    "Status": container.status.value,
                    "Running": container.status.alive,
                    "ExitCode": container.exit_code or 0,
                },
                "Config": {"Image": container.image, "Env": ["PATH=/bin:/sbin"], "Cmd": ["httpd", "-f"], "Labels": {}},
                "HostConfig": {"NetworkMode": "bridge", "PublishAllPorts": True, "CapAdd": None},
                "Mounts": [],
            },
        )

    async def start(self, container_id: str) -> None:
        await self._operate("start", container_id)
        if container_id in self.start_failures:
            raise OperationFailed(self.start_failures[container_id])
        number = 49152 + next(self._numbers)
        self._change(container_id, status=Status.RUNNING, exit_code=None, ports=(Port(8080, "tcp", "0.0.0.0", number),))
        self.emit("container", "start", container_id)

    async def stop(self, container_id: str) -> None:
        await self._operate("stop", container_id)
        self._end(container_id, 143)

    async def restart(self, container_id: str) -> None:
        await self._operate("restart", container_id)
        self._end(container_id, 143)
        self._change(container_id, status=Status.RUNNING, exit_code=None, ports=(Port(8080, "tcp", "0.0.0.0", 49100),))
        self.emit("container", "start", container_id)

    async def kill(self, container_id: str) -> None:
        await self._operate("kill", container_id)
        self._end(container_id, 137)

    async def remove(self, container_id: str, *, force: bool) -> None:
        await self._operate("remove", container_id, "force" if force else "")
        if self._container(container_id).status.alive:
            self._end(container_id, 137)
        del self.containers_by_id[container_id]
        self.emit("container", "destroy", container_id)

    async def rename(self, container_id: str, name: str) -> None:
        await self._operate("rename", container_id, name)
        self._change(container_id, name=name)
        self.emit("container", "rename", container_id, name=name)

    async def run_image(self, reference: str, name: str) -> str:
        await self._operate("run_image", reference, name)
        container = self.add_container(name, reference)
        self.emit("container", "create", container.id)
        self.emit("container", "start", container.id)
        return container.id

    async def logs(self, container_id: str, *, tail: int) -> AsyncIterator[LogChunk]:
        queue: asyncio.Queue[tuple[str, str] | None] = asyncio.Queue()
        for line in self.log_lines.get(container_id, [])[-tail:]:
            queue.put_nowait(line)
        if not self._container(container_id).status.alive:
            queue.put_nowait(None)
        self._log_listeners.setdefault(container_id, []).append(queue)
        try:
            while (entry := await queue.get()) is not None:
                yield LogChunk(entry[0], entry[1].encode())
        finally:
            self._log_listeners[container_id].remove(queue)

    async def events(self, *, since_s: float) -> AsyncIterator[EngineEvent]:
        del since_s
        queue: asyncio.Queue[EngineEvent | None] = asyncio.Queue()
        self._listeners.append(queue)
        try:
            while True:
                event = await queue.get()
                if event is None:
                    raise Disconnected("The engine doesn't answer.")
                yield event
        finally:
            self._listeners.remove(queue)

    async def make_starter_image(self) -> None:
        self.calls.append(("make_starter_image",))

    async def review(self, path: Path) -> BuildReview:
        return await asyncio.to_thread(read_review, path)

    async def build(self, request: BuildRequest) -> AsyncIterator[BuildEvent]:
        self.calls.append(("build", str(request.review.context), request.tag))
        try:
            yield ContextSent(request.review.context_bytes, request.review.context_bytes)
            instructions = request.review.instructions
            for index, instruction in enumerate(instructions, 1):
                yield StepStarted(index, len(instructions), instruction.text)
                await asyncio.sleep(self.build_pause_s)
                if index == 1:
                    yield OutputWritten(" ---> 5f1c1e0b2b9a\n")
                elif index == 2:
                    yield OutputWritten(" ---> Using cache\n ---> 84a0e7c2f5d1\n")
                else:
                    yield OutputWritten(f" ---> Running in {index:012x}\n")
                    if instruction.keyword == "RUN":
                        for number in range(1, 13):
                            yield OutputWritten(f"\x1b[32m✔\x1b[0m compiled asset \x1b[36mpart-{number:02d}.o\x1b[0m\n")
                if self.build_failure and instruction.keyword == "RUN":
                    yield OutputWritten("\x1b[31msh: make: not found\x1b[0m\n")
                    yield BuildFailed(self.build_failure)
                    return
                if self.hold_build is not None and index == max(1, len(instructions) - 1):
                    await self.hold_build.wait()
            image = self.add_image(request.tag if ":" in request.tag else f"{request.tag}:latest", age_s=0)
            self.emit("image", "tag", image.id)
            yield BuildSucceeded(image.id)
        except (asyncio.CancelledError, GeneratorExit):
            self.calls.append(("build_cancelled", request.tag))
            raise

    async def preview(self, url: str) -> Preview:
        self.calls.append(("preview", url))
        await asyncio.sleep(0)
        if self.page is not None:
            return replace(self.page, url=url, final_url=url)
        return Preview(url, error="Nothing listens on this port yet.")

    async def volumes(self) -> tuple[Volume, ...]:
        await asyncio.sleep(0)
        return tuple(self.volumes_by_name.values())

    async def volume_sizes(self) -> Mapping[str, int]:
        self.calls.append(("volume_sizes",))
        await asyncio.sleep(0)
        return dict(self.sizes)

    async def create_volume(self, name: str, labels: Mapping[str, str], options: Mapping[str, str]) -> str:
        await self._operate("create_volume", name, *(f"{key}={value}" for key, value in {**labels, **options}.items()))
        made = self.add_volume(name or hashlib.sha256(str(next(self._numbers)).encode()).hexdigest(), labels=dict(labels))
        self.emit("volume", "create", made.name)
        return made.name

    async def remove_volume(self, name: str) -> None:
        await self._operate("remove_volume", name)
        if any(mount.source == name for container in self.containers_by_id.values() for mount in container.mounts):
            raise OperationFailed(f"Remove {name}: volume is in use.")
        self.volumes_by_name.pop(name)
        self.emit("volume", "destroy", name)

    async def list_folder(self, volume: str, path: str) -> Folder:
        await self._operate("list_folder", volume, path)
        if self.file_failure:
            raise OperationFailed(self.file_failure)
        base = path.rstrip("/") + "/"
        found: dict[str, FileEntry] = {}
        for name, content in self.files.items():
            first, slash, _ = name.removeprefix(base).partition("/")
            if name.startswith(base) and first:
                kind, mode = ("directory", 0o755) if slash else ("file", 0o644)
                found.setdefault(first, FileEntry(first, kind, len(content), mode, 999, 999, stamp(-500)))
        return Folder(tuple(sorted(found.values(), key=lambda entry: (not entry.is_folder, entry.name))))

    async def preview_file(self, volume: str, path: str, size_bytes: int) -> FilePreview:
        await self._operate("preview_file", volume, path)
        return preview_of(path, self.files[path][:4096], size_bytes)

    async def save_file(self, volume: str, path: str, target: Path) -> AsyncIterator[Progress]:
        async for progress in self._copy("save_file", volume, path, str(target)):
            yield progress
        target.write_bytes(self.files.get(path, b""))

    async def back_up(self, volume: str, target: Path) -> AsyncIterator[Progress]:
        async for progress in self._copy("back_up", volume, str(target)):
            yield progress

    async def restore(self, plan: RestorePlan, source: Path) -> AsyncIterator[Progress]:
        if plan.create:
            self.add_volume(plan.volume)
        try:
            async for progress in self._copy("restore", plan.volume, str(source), "create" if plan.create else ""):
                yield progress
        except BaseException:
            if plan.create:
                del self.volumes_by_name[plan.volume]
            raise

    async def _copy(self, *call: str) -> AsyncIterator[Progress]:
        await self._operate(*call)
        yield Progress(50_000_000, 100_000_000)
        if self.hold_copy is not None:
            await self.hold_copy.wait()
        if self.copy_failure:
            raise OperationFailed(self.copy_failure)
        yield Progress(100_000_000, 100_000_000)

    async def networks(self) -> tuple[Network, ...]:
        await asyncio.sleep(0)
        return tuple(self.networks_by_id.values())

    async def create_network(self, plan: NetworkPlan) -> str:
        await self._operate("create_network", plan.name, plan.subnet)
        subnets = (Subnet(plan.subnet or "172.18.0.0/16", plan.gateway or "172.18.0.1"),)
        made = self.add_network(plan.name, plan.driver, *subnets, internal=plan.internal, ipv6=plan.ipv6)
        self.emit("network", "create", made.id)
        return made.id

    async def remove_network(self, network_id: str) -> None:
        await self._operate("remove_network", network_id)
        del self.networks_by_id[network_id]
        self.emit("network", "destroy", network_id)

    async def connect_container(self, network_id: str, container_id: str, address: str) -> None:
        await self._operate("connect", network_id, container_id, address)
        network, container = self.networks_by_id[network_id], self._container(container_id)
        attachment = Attachment(network_id, network.name, address or "172.18.0.2", "", "02:42:ac:12:00:02")
        self._change(container_id, networks=(*container.networks, attachment))
        self.emit("network", "connect", network_id, container=container_id)

    async def disconnect_container(self, network_id: str, container_id: str) -> None:
        await self._operate("disconnect", network_id, container_id)
        rest = tuple(each for each in self._container(container_id).networks if each.network_id != network_id)
        self._change(container_id, networks=rest)
        self.emit("network", "disconnect", network_id, container=container_id)

    async def host_ports(self) -> tuple[Listener, ...]:
        self.calls.append(("host_ports",))
        await asyncio.sleep(0)
        if self.listeners_failure:
            raise OperationFailed(self.listeners_failure)
        return tuple(self.listeners)

    async def try_port(self, port: int, protocol: str) -> BindResult:
        self.calls.append(("try_port", str(port), protocol))
        await asyncio.sleep(0)
        return BindResult(any((each.port, each.protocol) == (port, protocol) for each in self.listeners))

    async def move_port(self, container_id: str, protocol: str, old: int, new: int) -> str:
        await self._operate("move_port", container_id, protocol, str(old), str(new))
        before = self.containers_by_id.pop(container_id)
        return self.add_container(before.name, before.image, ports=(Port(80, protocol, "0.0.0.0", new),)).id

    async def close(self) -> None:
        self.closed = True

    # Inside

    async def _operate(self, *call: str) -> None:
        self.calls.append(call)
        await asyncio.sleep(0)
        if self.operation_failure:
            raise OperationFailed(self.operation_failure)

    def _container(self, container_id: str) -> Container:
        if container_id not in self.containers_by_id:
            raise OperationFailed(f"No such container: {container_id[:12]}.")
        return self.containers_by_id[container_id]

    def _change(self, container_id: str, **more: object) -> None:
        self.containers_by_id[container_id] = replace(self._container(container_id), **more)  # type: ignore[arg-type]  # as above

    def _end(self, container_id: str, exit_code: int) -> None:
        self._change(container_id, status=Status.EXITED, exit_code=exit_code, ports=())
        for queue in self._log_listeners.get(container_id, []):
            queue.put_nowait(None)
        self.emit("container", "die", container_id, exitCode=str(exit_code))
