"""The running side of containers: start, exit, restart policy, stop, and taking over what outlived the engine.

Order of a start: network, volumes, files, specification, process, database, event; what was done is undone when a step fails.
Order of an exit: database, network, event, waiters; then the restart policy or the automatic removal.
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

from kitepy.engine.model.container import ContainerRecord, ContainerState, ContainerStatus
from kitepy.engine.model.errors import Conflict, EngineError, NotFound, NotModified, StartFailed, SystemFailure
from kitepy.engine.model.health import Health
from kitepy.engine.model.ids import short_id
from kitepy.engine.model.launch import ExitReason, ExitStatus
from kitepy.engine.model.network import Endpoint
from kitepy.engine.network.bridge import BridgeNetwork
from kitepy.engine.runtime.client import RunningContainer, Runtime
from kitepy.engine.runtime.streams import AttachStream, AttachWish
from kitepy.engine.services.container_index import ContainerIndex
from kitepy.engine.services.container_launch import ContainerLauncher
from kitepy.engine.services.container_request import parse_network_mode
from kitepy.engine.services.container_view import event_attributes
from kitepy.engine.services.container_waits import ContainerWaits
from kitepy.engine.services.events import EventBus
from kitepy.engine.services.health import HealthChecks
from kitepy.engine.services.ports import WaitResult
from kitepy.engine.services.restart_policy import after_exit, at_engine_start
from kitepy.engine.services.signals import parse_signal

logger = logging.getLogger(__name__)

SIGKILL = 9
_ENDING_SIGNALS = frozenset({2, 3, 9, 15})
"""INT, QUIT, KILL and TERM: who sends them wants the container to end, and no restart policy to bring it back."""
KILL_PATIENCE_S = 30.0
"""How long a process may take to die of SIGKILL (uninterruptible sleep) before the engine says that it doesn't."""


@dataclass
class Live:
    """What the engine holds for a container beside its record; gone with the engine."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    running: RunningContainer | None = None
    isolated_netns: int | None = None
    pending_attach: list[PendingAttach] = field(default_factory=list)
    restart_attempts: int = 0
    restart_timer: asyncio.Task[None] | None = None
    stopped_by_user: bool = False
    restarting: bool = False
    """The API's restart is between stop and start: neither policy nor ``--rm`` may act on the exit."""


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
        bridge: BridgeNetwork,
        events: EventBus,
        network_ids: Callable[[], dict[str, str]],
    ) -> None:
        self.health = HealthChecks(launcher=launcher, record_of=index.get, changed=self._health_changed)
        self._index = index
        self._waits = waits
        self._runtime = runtime
        self._launcher = launcher
        self._bridge = bridge
        self._events = events
        self._network_ids = network_ids
        self._live: defaultdict[str, Live] = defaultdict(Live)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closing = False
        self.remove_after_exit: Callable[[str], Awaitable[None]] | None = None
        """Set by the containers service: removes a container that was created with ``--rm``."""

    # --- access ---

    def live(self, container_id: str) -> Live:
        return self._live[container_id]

    def forget(self, container_id: str) -> None:
        """The container is removed."""
        self.health.forget(container_id)
        live = self._live.pop(container_id, None)
        if live is None:
            return
        if live.restart_timer is not None:
            live.restart_timer.cancel()
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
            if live.restart_timer is not None:
                live.restart_timer.cancel()
                live.restart_timer = None
            self._forget_attempts(container_id, live)
            await self._start_locked(container_id, live)

    def _forget_attempts(self, container_id: str, live: Live) -> None:
        """Who starts a container by hand gives its restart policy a new chance."""
        live.restart_attempts = 0
        record = self._index.get(container_id)
        if record is not None and record.state.restart_count and not record.state.status.has_process:
            self._index.save(replace(record, state=replace(record.state, restart_count=0)))

    async def _start_locked(self, container_id: str, live: Live) -> None:
        record = self._require(container_id)
        status = record.state.status
        if status is ContainerStatus.PAUSED:
            raise Conflict("cannot start a paused container, try unpause instead")
        if status is ContainerStatus.RUNNING:
            raise NotModified(f"container {record.name} is already running")
        if status in (ContainerStatus.REMOVING, ContainerStatus.DEAD):
            raise Conflict("container is marked for removal and cannot be started")
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
        code = error.exit_code if isinstance(error, StartFailed) else 128
        message = str(error) if isinstance(error, EngineError) else "the start was interrupted"
        if current.state.status is ContainerStatus.RESTARTING:
            state = current.state.to(ContainerStatus.EXITED, exit_code=code, error=message, finished_at_ns=time.time_ns())
        else:
            state = current.state.to(current.state.status, exit_code=code, error=message)
        self._index.save(replace(current, state=state, endpoint=None))
        live = self._live[record.id]
        for pending in live.pending_attach:
            if not pending.stream.done():
                pending.stream.set_result(None)
        live.pending_attach.clear()
        if current.host_config.auto_remove and self.remove_after_exit is not None:
            self.spawn(self.remove_after_exit(record.id), f"removal of {short_id(record.id)}")

    async def _launch(self, record: ContainerRecord, live: Live) -> None:
        pending = [waiting for waiting in live.pending_attach if not waiting.stream.done()]
        wishes = [AttachWish(stdin=wait.stdin, stdout=wait.stdout, stderr=wait.stderr) for wait in pending]
        async with AsyncExitStack() as undo:
            sandbox = await self._launcher.enter_network(record, self.pid_of, undo)
            record = replace(record, endpoint=sandbox.endpoint)
            await self._launcher.prepare_volumes(record)
            request = self._launcher.request(record, sandbox.netns_fd, self.pid_of, peer=self._network_peer(record))
            running = await self._runtime.start(request, wishes)
            undo.pop_all()
        live.running = running
        live.isolated_netns = sandbox.owned_fd
        live.stopped_by_user = False
        live.pending_attach.clear()
        for waiting, stream in zip(pending, running.attached, strict=True):
            if waiting.stream.done():  # its client left in the meantime
                await stream.close()
            else:
                waiting.stream.set_result(stream)
        current = self._require(record.id)  # a rename may have come in between
        state = current.state.to(
            ContainerStatus.RUNNING,
            pid=running.pid,
            exit_code=0,
            error="",
            oom_killed=False,
            started_at_ns=running.started_at_ns,
            stopped_by_user=False,
        )
        current = replace(current, state=state, endpoint=sandbox.endpoint)
        self._index.save(current)
        self._watch(record.id, running)
        if sandbox.endpoint is not None:
            self._emit_network(current, "connect", sandbox.endpoint)
        self._emit(current, "start")

    def _network_peer(self, record: ContainerRecord) -> ContainerRecord | None:
        """The container at the end of a chain of shared networks; each of them runs, so there is no circle."""
        peer = None
        while (mode := parse_network_mode((peer or record).host_config.network_mode)).kind == "container":
            peer = self._index.resolve(mode.target)
        return peer

    def pid_of(self, ref: str, purpose: str) -> int:
        """Process 1 of another container whose namespace is to be shared."""
        other = self._index.resolve(ref)
        running = self._live[other.id].running
        if running is None:
            raise Conflict(f"cannot join {purpose} of a non running container: {other.id}")
        return running.pid

    # --- exit ---

    def _watch(self, container_id: str, running: RunningContainer) -> None:
        async def until_exit() -> None:
            status = await asyncio.shield(running.exited)
            self.health.end(container_id)
            await self._exited(container_id, running, status)

        self.spawn(until_exit(), f"exit of {short_id(container_id)}")
        self.health.begin(self._require(container_id), running)

    def _health_changed(self, container_id: str, health: Health) -> None:
        record = self._index.get(container_id)
        if record is not None:
            self._emit(record, f"health_status: {health.status.value}")

    async def _exited(self, container_id: str, running: RunningContainer, status: ExitStatus) -> None:
        live = self._live[container_id]
        async with live.lock:
            if live.running is not running:
                return
            live.running = None
            await self._record_exit(container_id, live, status)

    async def _record_exit(self, container_id: str, live: Live, status: ExitStatus) -> None:
        """Process 1 is gone: release what it held, tell everybody, and decide what comes next."""
        record = self._require(container_id)
        ran_s = max(0.0, (status.finished_at_ns - record.state.started_at_ns) / 1e9)
        decision = after_exit(
            record.host_config.restart_policy,
            exit_code=status.code,
            ran_s=ran_s,
            attempts=live.restart_attempts,
            stopped_by_user=live.stopped_by_user or live.restarting or self._closing,
        )
        live.restart_attempts = decision.attempts
        next_status = ContainerStatus.EXITED if decision.delay_s is None else ContainerStatus.RESTARTING
        endpoint = record.endpoint
        error = "" if status.reason is ExitReason.EXITED else "the container's monitor was lost, its exit status is unknown"
        state = record.state.to(
            next_status,
            pid=0,
            exit_code=status.code,
            finished_at_ns=status.finished_at_ns,
            oom_killed=status.oom_killed,
            error=error,
            stopped_by_user=live.stopped_by_user,
        )
        record = replace(record, state=state, endpoint=None)
        self._index.save(record)
        await self._leave_network(record, live, endpoint)
        if status.oom_killed:
            self._emit(record, "oom")
        self._emit(record, "die", exitCode=str(status.code), execDuration=str(int(ran_s)))
        self._waits.exited(container_id, waited(state))
        if decision.delay_s is not None:
            live.restart_timer = self.spawn(
                self._restart_later(container_id, decision.delay_s), f"restart of {short_id(container_id)}"
            )
        elif record.host_config.auto_remove and not live.restarting and self.remove_after_exit is not None:
            self.spawn(self.remove_after_exit(container_id), f"removal of {short_id(container_id)}")

    async def _leave_network(self, record: ContainerRecord, live: Live, endpoint: Endpoint | None) -> None:
        if live.isolated_netns is not None:
            os.close(live.isolated_netns)
            live.isolated_netns = None
        if endpoint is not None:
            await self._bridge.detach(endpoint)
            self._emit_network(record, "disconnect", endpoint)

    async def _restart_later(self, container_id: str, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        live = self._live[container_id]
        async with live.lock:
            live.restart_timer = None
            record = self._index.get(container_id)
            if record is None or record.state.status is not ContainerStatus.RESTARTING:
                return
            counted = replace(record.state, restart_count=record.state.restart_count + 1)
            self._index.save(replace(record, state=counted))
            await self._start_locked(container_id, live)

    # --- signals ---

    @contextlib.contextmanager
    def restarting(self, container_id: str) -> Iterator[None]:
        """While this lasts, the container's exit is part of a restart."""
        live = self._live[container_id]
        live.restarting = True
        try:
            yield
        finally:
            live.restarting = False

    async def kill(self, record: ContainerRecord, number: int, *, by_user: bool = True) -> None:
        """Send a signal to process 1; a paused container is thawed for SIGKILL, since it could not die otherwise."""
        running = self.running(record)
        live = self._live[record.id]
        if by_user and (number in _ENDING_SIGNALS or number == stop_signal(record)):
            live.stopped_by_user = True
        await running.signal(number)
        if number == SIGKILL and record.state.status is ContainerStatus.PAUSED:
            await running.unpause()
        self._emit(record, "kill", signal=str(number))

    async def stop(self, record: ContainerRecord, number: int, timeout_s: float | None) -> None:
        """Ask process 1 to end, and kill it after the grace period (None waits for ever)."""
        live = self._live[record.id]
        live.stopped_by_user = True
        if live.restart_timer is not None:
            live.restart_timer.cancel()
            live.restart_timer = None
        if record.state.status is ContainerStatus.RESTARTING:
            # The lock is taken when the delay is just over: then the new process is what has to be stopped.
            async with live.lock:
                current = self._require(record.id)
                if current.state.status is ContainerStatus.RESTARTING:
                    state = current.state.to(ContainerStatus.EXITED, stopped_by_user=True)
                    self._index.save(replace(current, state=state))
                    return
            live.stopped_by_user = True
        running = live.running
        if running is None:
            raise NotModified(f"container {record.name} is already stopped")
        try:
            if timeout_s != 0:
                await running.signal(number)
            if self._require(record.id).state.status is ContainerStatus.PAUSED:
                await running.unpause()
            if timeout_s != 0:
                self._emit(record, "kill", signal=str(number))
                await asyncio.wait_for(asyncio.shield(running.exited), timeout_s)
        except Conflict:
            logger.debug("container %s ended before it could be stopped", record.id)
        except TimeoutError:
            logger.info("container %s did not end within %s s of signal %d; killing it", short_id(record.id), timeout_s, number)
        await self.end(record, running)

    async def end(self, record: ContainerRecord, running: RunningContainer) -> None:
        """SIGKILL, and wait until the exit is recorded."""
        if not running.exited.done():
            try:
                await running.signal(SIGKILL)
                if self._require(record.id).state.status is ContainerStatus.PAUSED:
                    await running.unpause()
                self._emit(record, "kill", signal=str(SIGKILL))
                await asyncio.wait_for(asyncio.shield(running.exited), KILL_PATIENCE_S)
            except Conflict:
                logger.debug("container %s ended before it could be killed", record.id)
            except TimeoutError:
                raise SystemFailure(
                    f"container {record.id} did not end after it was killed: it may be waiting for a device"
                ) from None
        await self._exited(record.id, running, await running.exited)

    async def set_paused(self, record: ContainerRecord, *, paused: bool) -> None:
        """Freeze or thaw all processes of a container."""
        live = self._live[record.id]
        async with live.lock:
            record = self._require(record.id)
            status = record.state.status
            if paused and status is ContainerStatus.PAUSED:
                raise Conflict(f"container {record.id} is already paused")
            if not paused and status is not ContainerStatus.PAUSED:
                raise Conflict(f"Container {record.id} is not paused")
            running = self.running(record)
            await (running.pause() if paused else running.unpause())
            new_status = ContainerStatus.PAUSED if paused else ContainerStatus.RUNNING
            self._index.save(replace(record, state=record.state.to(new_status)))
        self._emit(record, "pause" if paused else "unpause")

    # --- the engine's own start and end ---

    async def adopt_all(self) -> None:
        """Take over what outlived the former engine, record what ended meanwhile, and start what the policies want."""
        alive = set(self._runtime.inventory().live)
        for record in self._index:
            live = self._live[record.id]
            if record.id in alive or record.state.status.has_process:
                await self._adopt(record, live)
            elif record.state.status is ContainerStatus.RESTARTING:
                self._index.save(replace(record, state=record.state.to(ContainerStatus.EXITED)))
        for container_id in alive - {record.id for record in self._index}:
            await self._end_unknown(container_id)
        await self._bridge.finish_adoption()

    async def _end_unknown(self, container_id: str) -> None:
        """A process that the database does not know: a build step of the engine before, or a removal it did not finish."""
        logger.warning("ending the processes of container %s, which the database does not know", short_id(container_id))
        found = await self._runtime.adopt(container_id, self._launcher.bundle(container_id))
        if isinstance(found, RunningContainer):
            await found.signal(SIGKILL)
            await asyncio.wait_for(found.exited, KILL_PATIENCE_S)
        await self._launcher.remove_bundle(container_id)

    async def _adopt(self, record: ContainerRecord, live: Live) -> None:
        found = await self._runtime.adopt(record.id, self._launcher.bundle(record.id))
        if isinstance(found, ExitStatus):
            async with live.lock:
                if record.state.status.has_process:
                    # The old bridge side is gone with the namespace; nothing is attached in this engine.
                    self._index.save(replace(record, endpoint=None))
                    live.stopped_by_user = record.state.stopped_by_user
                    await self._record_exit(record.id, live, found)
            return
        live.running = found
        state = record.state
        if not state.status.has_process:  # the engine died between the start and its note of it
            restarted = state if state.status is not ContainerStatus.RESTARTING else state.to(ContainerStatus.EXITED)
            state = restarted.to(ContainerStatus.RUNNING, started_at_ns=found.started_at_ns, exit_code=0, error="")
        state = replace(state, pid=found.pid)
        endpoint = record.endpoint
        if endpoint is not None:
            try:
                endpoint = await self._bridge.adopt(endpoint, found.pid)
            except EngineError as error:
                logger.warning("container %s lost its network: %s", short_id(record.id), error)
                endpoint = None
        self._index.save(replace(record, state=state, endpoint=endpoint))
        self._watch(record.id, found)

    async def start_wanted(self) -> None:
        """Start the containers whose restart policy says so; called once, when the engine is ready."""
        for record in self._index:
            state = record.state
            if state.status is ContainerStatus.EXITED and at_engine_start(
                record.host_config.restart_policy,
                was_running=state.finished_at_ns > 0,
                exit_code=state.exit_code,
                stopped_by_user=state.stopped_by_user,
            ):
                self.spawn(self.start(record.id), f"start of {short_id(record.id)}")

    async def shut_down(self, *, keep: bool, timeout_s: float) -> None:
        """End of the engine: leave the containers running, or stop them all as dockerd does."""
        self._closing = True
        await self.health.close()
        for live in self._live.values():
            if live.restart_timer is not None:
                live.restart_timer.cancel()
        if not keep:
            stops = [self._stop_quietly(record, timeout_s) for record in self._index if record.state.status.counts_as_running]
            await asyncio.gather(*stops)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _stop_quietly(self, record: ContainerRecord, timeout_s: float) -> None:
        was_stopped = self._live[record.id].stopped_by_user
        try:
            await self.stop(record, stop_signal(record), timeout_s)
        except EngineError as error:
            logger.warning("stopping container %s: %s", short_id(record.id), error)
        current = self._index.get(record.id)
        if current is not None and not was_stopped:  # the engine stopped it, not its user: policies start it again
            self._index.save(replace(current, state=replace(current.state, stopped_by_user=False)))

    # --- small things ---

    def _require(self, container_id: str) -> ContainerRecord:
        record = self._index.get(container_id)
        if record is None:
            raise NotFound(f"No such container: {container_id}")
        return record

    def _emit_network(self, record: ContainerRecord, action: str, endpoint: Endpoint) -> None:
        network_id = self._network_ids().get(endpoint.network, endpoint.network)
        self._events.emit("network", action, network_id, {"container": record.id, "name": endpoint.network, "type": "bridge"})

    def _emit(self, record: ContainerRecord, action: str, **more: str) -> None:
        self._events.emit("container", action, record.id, event_attributes(record, **more))


def waited(state: ContainerState) -> WaitResult:
    """What ``wait`` reports of an ended container."""
    return WaitResult(state.exit_code, state.error or None)


def stop_signal(record: ContainerRecord) -> int:
    """The signal that asks this container to end."""
    return parse_signal(record.config.stop_signal or "SIGTERM")
