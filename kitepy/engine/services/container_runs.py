"""The running side of containers: start, exit, and what follows by the restart policy.

Order of a start: network, volumes, files, specification, process, database, event; what was done is undone when a step fails.
Order of an exit: database, network, event, waiters; then the restart policy or the automatic removal.
Ending them on request is in ``container_stops``, taking over what outlived the engine in ``container_adoption``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from kitepy.engine.model.container import ContainerRecord, ContainerState, ContainerStatus, MountKind, MountPoint
from kitepy.engine.model.errors import Conflict, EngineError, InvalidParameter, NotFound, NotModified, StartFailed, SystemFailure
from kitepy.engine.model.ids import short_id
from kitepy.engine.model.launch import ExitReason, ExitStatus
from kitepy.engine.network.networks import Networks
from kitepy.engine.runtime.client import RunningContainer, Runtime
from kitepy.engine.runtime.streams import AttachStream, AttachWish
from kitepy.engine.services.container_index import ContainerIndex
from kitepy.engine.services.container_launch import ContainerLauncher
from kitepy.engine.services.container_view import event_attributes
from kitepy.engine.services.container_waits import ContainerWaits
from kitepy.engine.services.endpoints import dns_names
from kitepy.engine.services.events import EventBus
from kitepy.engine.services.health import HealthChecks
from kitepy.engine.services.network_index import NetworkIndex
from kitepy.engine.services.ports import WaitResult
from kitepy.engine.services.request_namespaces import SHAREABLE
from kitepy.engine.services.request_networking import parse_network_mode
from kitepy.engine.services.restart_policy import after_exit

logger = logging.getLogger(__name__)


@dataclass
class Live:
    """What the engine holds for a container beside its record; gone with the engine."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    running: RunningContainer | None = None
    shared_netns: int | None = None
    """The namespace of another container, which this one joined."""
    mounted: bool = False
    """Whether it was told that the volumes are mounted."""
    pending_attach: list[PendingAttach] = field(default_factory=list)
    restart_attempts: int = 0
    restart_timer: asyncio.Task[None] | None = None
    restart_cancelled: bool = False
    """The user wants it to end: no policy brings it back before the user starts it."""
    stopped_by_user: bool = False
    """The user sent a signal, whichever: what ``unless-stopped`` honours, over an engine's restart too."""
    stopping: int = 0
    """How many stops wait for the exit."""
    restarting: bool = False
    """The API's restart is between stop and start: neither policy nor ``--rm`` may act on the exit."""
    restart_over: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the API's last restart came to an end."""


@dataclass
class PendingAttach:
    """A client that attached before the start; it gets its stream before process 1 writes anything."""

    stdin: bool
    stdout: bool
    stderr: bool
    stream: asyncio.Future[AttachStream | None]


class ContainerRuns:
    """Starts and ends the processes of containers. Belongs to one event loop."""

    def __init__(
        self,
        *,
        index: ContainerIndex,
        waits: ContainerWaits,
        runtime: Runtime,
        launcher: ContainerLauncher,
        networks: Networks,
        events: EventBus,
        network_index: NetworkIndex,
    ) -> None:
        self.health = HealthChecks(launcher=launcher, record_of=index.get, emit=self.emit)
        self._index = index
        self._waits = waits
        self._runtime = runtime
        self._launcher = launcher
        self._networks = networks
        self._events = events
        self._network_index = network_index
        self._live: defaultdict[str, Live] = defaultdict(Live)
        self._tasks: set[asyncio.Task[Any]] = set()
        self.closing = False
        """The engine ends: no policy acts any more."""
        self.remove_after_exit: Callable[[str], Awaitable[None]] | None = None
        """Set by the containers service: removes a container that was created with ``--rm``."""
        self.forgotten: Callable[[str], None] = lambda _: None
        """Called with the id of a container that is removed: for who watches it."""

    # --- access ---

    def live(self, container_id: str) -> Live:
        return self._live[container_id]

    def forget(self, container_id: str) -> None:
        """The container is removed."""
        self.health.forget(container_id)
        self.forgotten(container_id)
        live = self._live.pop(container_id, None)
        if live is None:
            return
        self.cancel_timer(live)
        for pending in live.pending_attach:
            if not pending.stream.done():
                pending.stream.set_result(None)

    def running(self, record: ContainerRecord) -> RunningContainer:
        """The process of a running container; raises Conflict when there is none."""
        running = self._live[record.id].running
        if running is None or not record.state.status.has_process:
            raise Conflict(f"container {record.id} is not running")
        return running

    def spawn(self, work: Awaitable[Any], name: str) -> asyncio.Task[Any]:
        """Run something beside the requests; a failure is logged, since nobody waits for it."""

        async def watched() -> None:
            try:
                await work
            except asyncio.CancelledError:
                raise
            except EngineError as error:
                logger.warning("%s: %s", name, error)
            except Exception:
                logger.exception("%s failed", name)

        task = asyncio.get_running_loop().create_task(watched(), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # --- start ---

    async def start(self, container_id: str) -> None:
        """Start a container that doesn't run; NotModified when it does."""
        live = self._live[container_id]
        async with live.lock:
            record = self.require(container_id)
            status = record.state.status
            if status is ContainerStatus.PAUSED:
                raise Conflict("cannot start a paused container, try unpause instead")
            if status.counts_as_running:  # a container that waits for its restart, too
                raise NotModified(f"container {record.name} is already running")
            if status in (ContainerStatus.REMOVING, ContainerStatus.DEAD):
                raise Conflict("container is marked for removal and cannot be started")
            # Who starts a container by hand gives its restart policy a new chance.
            live.restart_attempts = 0
            live.restart_cancelled = live.stopped_by_user = False
            if record.state.restart_count:
                record = replace(record, state=replace(record.state, restart_count=0))
                self._index.save(record)
            await self._start(record, live)

    @staticmethod
    def cancel_timer(live: Live) -> None:
        """The restart that was to come doesn't."""
        if live.restart_timer is not None:
            live.restart_timer.cancel()
            live.restart_timer = None

    async def _start(self, record: ContainerRecord, live: Live) -> None:
        try:
            await self._launch(record, live)
        except BaseException as error:
            self._start_failed(record, error)
            raise

    def _start_failed(self, record: ContainerRecord, error: BaseException) -> None:
        """Remember why; the container stays, and pending attachments see the end of their streams."""
        current = self._index.get(record.id)
        if current is None:
            return
        code = error.exit_code if isinstance(error, StartFailed) else current.state.exit_code or 128
        message = str(error) if isinstance(error, EngineError) else "the start was interrupted"
        if current.state.status is ContainerStatus.RESTARTING:
            state = current.state.to(ContainerStatus.EXITED, exit_code=code, error=message, finished_at_ns=time.time_ns())
        else:
            state = current.state.to(current.state.status, exit_code=code, error=message)
        self._index.save(replace(current, state=state, endpoints=()))
        self._emit_networks(current, "disconnect")  # as dockerd tells, however far the start came
        live = self._live[record.id]
        if live.mounted:
            live.mounted = False
            self.emit_unmounts(current)
        for pending in live.pending_attach:
            if not pending.stream.done():
                pending.stream.set_result(None)
        live.pending_attach.clear()
        if current.host_config.auto_remove and self.remove_after_exit is not None:
            self.spawn(self.remove_after_exit(record.id), f"removal of {short_id(record.id)}")

    async def _launch(self, record: ContainerRecord, live: Live) -> None:
        pending = [waiting for waiting in live.pending_attach if not waiting.stream.done()]
        self._launcher.links.check(record)
        wishes = [AttachWish(stdin=wait.stdin, stdout=wait.stdout, stderr=wait.stderr) for wait in pending]
        async with AsyncExitStack() as undo:
            sandbox = await self._launcher.enter_network(record, self.pid_of, undo)
            record = replace(record, endpoints=sandbox.endpoints, networks=sandbox.networks)
            if record.endpoints:  # an engine that takes over has to know them, even if this one dies amid the start
                self._index.save(replace(self.require(record.id), endpoints=record.endpoints))
            undo.push_async_callback(self._launcher.links.left, record)
            await self._launcher.links.joined(record)
            undo.push_async_callback(self._launcher.content.release, record)
            await self._launcher.content.prepare(record)
            self.emit_mounts(record)
            live.mounted = True
            request = self._launcher.request(record, sandbox.netns_fd, self.pid_of, peer=self._network_peer(record))
            running = await self._runtime.start(request, wishes)
            undo.pop_all()
        live.running = running
        live.shared_netns = sandbox.owned_fd
        live.pending_attach.clear()
        for waiting, stream in zip(pending, running.attached, strict=True):
            if waiting.stream.done():  # its client left in the meantime
                await stream.close()
            else:
                waiting.stream.set_result(stream)
        current = self.require(record.id)  # a rename may have come in between
        state = current.state.to(
            ContainerStatus.RUNNING,
            pid=running.pid,
            exit_code=0,
            error="",
            oom_killed=False,
            started_at_ns=running.started_at_ns,
            stopped_by_user=live.stopped_by_user,
        )
        current = replace(current, state=state, endpoints=sandbox.endpoints, networks=sandbox.networks)
        self._index.save(current)
        if current.name != record.name:
            self.renamed(current)
        self.watch(record.id, running)
        self._emit_networks(current, "connect")
        self.emit(current, "start")

    def _network_peer(self, record: ContainerRecord) -> ContainerRecord | None:
        """The container at the end of a chain of shared networks; each of them runs, so there is no circle."""
        peer = None
        while (mode := parse_network_mode((peer or record).host_config.network_mode)).kind == "container":
            peer = self._index.resolve(mode.target)
        return peer

    def pid_of(self, ref: str, purpose: str) -> int:
        """Process 1 of another container whose namespace is to be shared."""
        try:
            other = self._index.resolve(ref)
        except NotFound as error:  # not the one that the request is about
            raise SystemFailure(f"joining {purpose} namespace of container: {error}") from error
        running = self._live[other.id].running
        if running is None:
            if purpose == "network":
                state = other.state.status.value
                raise Conflict(f"cannot join network namespace of a non running container: container {other.name} is {state}")
            raise Conflict(f"failed to join {purpose} namespace: container {other.id} is not running")
        if purpose == "IPC" and other.host_config.ipc_mode not in (SHAREABLE, "host"):
            raise InvalidParameter(
                f"failed to join IPC namespace: container {other.id}: non-shareable IPC "
                "(hint: use IpcMode:shareable for the donor container)"
            )
        return running.pid

    # --- exit ---

    def watch(self, container_id: str, running: RunningContainer) -> None:
        """Be there when process 1 ends, and probe its health until then."""

        async def until_exit() -> None:
            status = await asyncio.shield(running.exited)
            await self.exited(container_id, running, status)

        self.spawn(until_exit(), f"exit of {short_id(container_id)}")
        record = self.require(container_id)
        running.on_oom = lambda: self._out_of_memory(container_id)
        if running.out_of_memory and not record.state.oom_killed:
            self._out_of_memory(container_id)
        self.health.begin(record, running)
        if record.state.status is ContainerStatus.PAUSED:
            self.health.suspend(container_id)

    def _out_of_memory(self, container_id: str) -> None:
        """The kernel ends a process; the container may well go on."""
        record = self._index.get(container_id)
        if record is not None and record.state.status.has_process:
            if not record.state.oom_killed:
                self._index.save(replace(record, state=replace(record.state, oom_killed=True)))
            self.emit(record, "oom")

    async def exited(self, container_id: str, running: RunningContainer, status: ExitStatus) -> None:
        """Process 1 ended: see to it once, whoever notices first."""
        live = self._live.get(container_id)
        if live is None:  # it was removed meanwhile
            return
        async with live.lock:
            if live.running is not running:
                return
            live.running = None
            await self.record_exit(container_id, live, status)

    async def record_exit(self, container_id: str, live: Live, status: ExitStatus) -> None:
        """Process 1 is gone: release what it held, tell everybody, and decide what comes next."""
        self.health.end(container_id)
        record = self.require(container_id)
        ran_s = max(0.0, (status.finished_at_ns - record.state.started_at_ns) / 1e9)
        decision = after_exit(
            record.host_config.restart_policy,
            exit_code=status.code,
            ran_s=ran_s,
            attempts=live.restart_attempts,
            restarts=record.state.restart_count,
            stopped_by_user=live.stopped_by_user,
            cancelled=live.restart_cancelled or live.restarting or self.closing,
        )
        live.restart_attempts = decision.attempts
        next_status = ContainerStatus.EXITED if decision.delay_s is None else ContainerStatus.RESTARTING
        told = record.state.oom_killed
        error = "" if status.reason is ExitReason.EXITED else "the container's monitor was lost, its exit status is unknown"
        state = record.state.to(
            next_status,
            pid=0,
            exit_code=status.code,
            finished_at_ns=status.finished_at_ns,
            oom_killed=status.oom_killed,
            error=error,
            restart_count=record.state.restart_count + (decision.delay_s is not None),
            stopped_by_user=live.stopped_by_user,
            health=self.health.state(container_id),
        )
        record = replace(record, state=state, endpoints=())
        self._index.save(record)
        if status.oom_killed and not told:
            self.emit(record, "oom")
        await self._leave_networks(record, live)
        await self._launcher.content.release(record)
        live.mounted = False
        self.emit_unmounts(record)
        # In the order in which dockerd mostly sends them: it has still to write its files when who stops knows already.
        for _ in range(live.stopping):
            self.emit(record, "stop")
        live.stopping = 0
        self.emit(record, "die", exitCode=str(status.code), execDuration=str(int(ran_s)))
        self._waits.exited(container_id, waited(state))
        if decision.delay_s is not None:
            live.restart_timer = self.spawn(
                self._restart_later(container_id, decision.delay_s), f"restart of {short_id(container_id)}"
            )
        elif record.host_config.auto_remove and not live.restarting and self.remove_after_exit is not None:
            self.spawn(self.remove_after_exit(container_id), f"removal of {short_id(container_id)}")

    async def _leave_networks(self, record: ContainerRecord, live: Live) -> None:
        if live.shared_netns is not None:
            os.close(live.shared_netns)
            live.shared_netns = None
        await self._launcher.links.left(record)
        await self._networks.stop(record.id)
        self._emit_networks(record, "disconnect")

    async def _restart_later(self, container_id: str, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        live = self._live[container_id]
        live.restart_timer = None  # from here on it is a start like others, which nobody may break off
        async with live.lock:
            record = self._index.get(container_id)
            if record is None or record.state.status is not ContainerStatus.RESTARTING or live.restart_cancelled:
                return
            await self._start(record, live)

    @contextlib.contextmanager
    def restarting(self, container_id: str) -> Iterator[None]:
        """While this lasts, the container's exit is part of a restart."""
        live = self._live[container_id]
        live.restarting = True
        live.restart_over = over = asyncio.Event()
        try:
            yield
        finally:
            live.restarting = False
            over.set()

    async def settled(self, container_id: str) -> None:
        """Wait while the API's restart has ended a container and not started it again yet.

        Docker holds the container's lock then. Compose relies on that: it looks at a container after the event ``die``, and goes
        on following its logs only if it finds it running.
        """
        live = self._live[container_id]
        while live.restarting and (record := self._index.get(container_id)) and record.state.status is ContainerStatus.EXITED:
            await live.restart_over.wait()

    async def close(self) -> None:
        """Let go of everything; what runs goes on."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- small things ---

    def require(self, container_id: str) -> ContainerRecord:
        """The record of now; raises NotFound when the container was removed."""
        record = self._index.get(container_id)
        if record is None:
            raise NotFound(f"No such container: {container_id}")
        return record

    def renamed(self, record: ContainerRecord) -> None:
        """A container has another name: while it runs, its networks' name service learns of it at once."""
        if not record.state.status.has_process:
            return
        networks = dict(record.networks)
        for name, settings in record.networks.items():
            if settings.dns_names is not None:
                networks[name] = msgspec.structs.replace(settings, dns_names=dns_names(record, settings.aliases))
        self._index.save(replace(record, networks=networks))
        self._networks.rename(
            record.id,
            {settings.network_id: tuple(settings.dns_names) for settings in networks.values() if settings.dns_names is not None},
        )

    def _emit_networks(self, record: ContainerRecord, action: str) -> None:
        for name, settings in record.networks.items():
            network = self._network_index.get(settings.network_id) or self._network_index.named(name)
            if network is not None:
                attributes = {"container": record.id, "name": name, "type": network.record.driver.value}
                self._events.emit("network", action, network.id, attributes)

    def emit_mounts(self, record: ContainerRecord) -> None:
        """Tell that a container's volumes are mounted."""
        for point in _volumes(record):
            attributes = {
                "container": record.id,
                "destination": point.destination,
                "driver": "local",
                "propagation": point.propagation,
                "read/write": str(not point.read_only).lower(),
            }
            self._events.emit("volume", "mount", point.volume, attributes)

    def emit_unmounts(self, record: ContainerRecord) -> None:
        """Tell that they aren't any more."""
        for point in _volumes(record):
            self._events.emit("volume", "unmount", point.volume, {"container": record.id, "driver": "local"})

    def emit(self, record: ContainerRecord, action: str, **more: str) -> None:
        """Tell everybody what happened to a container."""
        self._events.emit("container", action, record.id, event_attributes(record, **more))


def waited(state: ContainerState) -> WaitResult:
    """What ``wait`` reports of an ended container."""
    return WaitResult(state.exit_code, state.error or None)


def _volumes(record: ContainerRecord) -> Iterator[MountPoint]:
    return (point for point in record.mounts if point.kind is MountKind.VOLUME)
