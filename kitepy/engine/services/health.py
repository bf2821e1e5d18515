"""Runs the health checks of containers: one task for each, one exec for each probe. Results live as long as the engine."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from kitepy.engine.model.container import ContainerRecord
from kitepy.engine.model.container_config import HealthConfig
from kitepy.engine.model.errors import Conflict, EngineError, StartFailed
from kitepy.engine.model.health import OUTPUT_BYTES, Health, HealthStatus, ProbeResult
from kitepy.engine.model.ids import new_id, short_id
from kitepy.engine.model.timestamps import format_duration
from kitepy.engine.runtime.client import ExecRequest, RunningContainer, RunningExec
from kitepy.engine.services.container_launch import ContainerLauncher
from kitepy.engine.services.process_spec import build_environment, build_process

logger = logging.getLogger(__name__)

DEFAULT_INTERVAL_NS = 30_000_000_000
DEFAULT_TIMEOUT_NS = 30_000_000_000
DEFAULT_START_INTERVAL_NS = 5_000_000_000
DEFAULT_RETRIES = 3
_SIGKILL = 9

Emit = Callable[..., None]
"""Tells an event of a container: its record, the action, and further attributes by keyword."""
RecordOf = Callable[[str], ContainerRecord | None]


@dataclass(frozen=True)
class _Check:
    """What is probed, and how."""

    running: RunningContainer
    config: HealthConfig
    argv: list[str]


class HealthChecks:
    """The probes of all running containers. Belongs to one event loop."""

    def __init__(self, *, launcher: ContainerLauncher, record_of: RecordOf, emit: Emit) -> None:
        self._launcher = launcher
        self._record_of = record_of
        self._emit = emit
        self._health: dict[str, Health] = {}
        self._checks: dict[str, _Check] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def state(self, container_id: str) -> Health | None:
        """The health as of now, or as of the end of the last run; None without a check."""
        if (health := self._health.get(container_id)) is not None:
            return health
        record = self._record_of(container_id)
        return record.state.health if record is not None else None

    def begin(self, record: ContainerRecord, running: RunningContainer) -> None:
        """Watch a container that has just started; does nothing when it has no check. The log of its last run is kept."""
        self.end(record.id)
        before = self.state(record.id)
        config = record.config.healthcheck
        argv = probe_command(config, record.config.shell)
        if config is None or argv is None:
            self._health.pop(record.id, None)
            return
        self._health[record.id] = Health(log=before.log if before is not None else ())
        self._checks[record.id] = _Check(running, config, argv)
        self.resume(record.id)

    def suspend(self, container_id: str) -> None:
        """The container is paused: nothing in it can answer. Like dockerd, what isn't probed counts as unhealthy."""
        task = self._tasks.pop(container_id, None)
        if task is not None:
            task.cancel()
        if container_id in self._checks:
            self._health[container_id] = replace(self._health[container_id], status=HealthStatus.UNHEALTHY)

    def resume(self, container_id: str) -> None:
        """Go on with the probes; the next one tells the health."""
        check = self._checks.get(container_id)
        if check is not None and container_id not in self._tasks:
            task = asyncio.get_running_loop().create_task(self._watch(container_id, check))
            self._tasks[container_id] = task

    def end(self, container_id: str) -> None:
        """The container ended; its last results stay readable."""
        self.suspend(container_id)
        self._checks.pop(container_id, None)

    def forget(self, container_id: str) -> None:
        """The container is removed."""
        self.end(container_id)
        self._health.pop(container_id, None)

    async def close(self) -> None:
        """Stop all probes."""
        tasks = list(self._tasks.values())
        for container_id in list(self._tasks):
            self.end(container_id)
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch(self, container_id: str, check: _Check) -> None:
        config, running = check.config, check.running
        started_ns = running.started_at_ns
        while not running.exited.done():
            in_start_period = time.time_ns() - started_ns < config.start_period
            await asyncio.sleep(next_delay_ns(config, self._health[container_id], in_start_period=in_start_period) / 1e9)
            record = self._record_of(container_id)
            if record is None or running.exited.done():
                return
            try:
                result = await self._probe(record, check)
            except Conflict:
                return  # the container ended in the meantime
            except EngineError as error:
                if await _ends(running):
                    return
                logger.warning("health check of container %s: %s", short_id(container_id), error)
                now_ns = time.time_ns()
                result = ProbeResult(now_ns, now_ns, -1, str(error))
            before = self._health[container_id]
            after = before.after(
                result,
                retries=config.retries or DEFAULT_RETRIES,
                in_start_period=result.start_ns - started_ns < config.start_period,
            )
            self._health[container_id] = after
            if after.status is not before.status:
                self._emit(self._record_of(container_id) or record, f"health_status: {after.status.value}")

    async def _probe(self, record: ContainerRecord, check: _Check) -> ProbeResult:
        account = await asyncio.to_thread(self._launcher.account, record)
        process = build_process(
            record.host_config,
            argv=check.argv,
            env=build_environment(
                (*self._launcher.links.variables(record), *(record.config.env or ())),
                hostname=self._launcher.hostname(record),
                home=account.home,
                terminal=False,
            ),
            cwd=record.config.working_dir or "/",
            account=account,
            terminal=False,
            console_size=None,
            defaults=self._launcher.security,
        )
        request = ExecRequest(new_id(), process, self._launcher.seccomp.program(record.host_config))
        words = f"{check.argv[0]} {' '.join(check.argv[1:])}"
        self._emit(record, f"exec_create: {words}", execID=request.exec_id)
        self._emit(record, f"exec_start: {words}", execID=request.exec_id)
        start_ns = time.time_ns()
        try:
            probe = await check.running.exec(request)
        except StartFailed as error:
            return ProbeResult(start_ns, time.time_ns(), -1, str(error))
        output = _Output()
        timed_out = False
        timeout_ns = check.config.timeout or DEFAULT_TIMEOUT_NS
        try:
            try:
                async with asyncio.timeout(timeout_ns / 1e9):
                    await _collect(probe, output)
                    await asyncio.shield(probe.exited)
            except TimeoutError:
                timed_out = True
                with contextlib.suppress(Conflict):
                    await probe.signal(_SIGKILL)
            code = (await asyncio.shield(probe.exited)).code
        finally:
            if not probe.exited.done():
                with contextlib.suppress(Conflict):
                    await probe.signal(_SIGKILL)
            await probe.close()
        self._emit(record, "exec_die", execID=request.exec_id, exitCode=str(code))
        if timed_out:
            said = f": {output.text()}" if output.text() else ""
            message = f"Health check exceeded timeout ({format_duration(timeout_ns)}){said}"
            return ProbeResult(start_ns, time.time_ns(), -1, message)
        return ProbeResult(start_ns, time.time_ns(), code, output.text())


async def _ends(running: RunningContainer) -> bool:
    """Whether a probe failed because the container is just ending."""
    try:
        await asyncio.wait_for(asyncio.shield(running.exited), 1)
    except TimeoutError:
        return False
    return True


class _Output:
    """The beginning of what a probe writes."""

    def __init__(self) -> None:
        self._kept = bytearray()
        self._cut = False

    def add(self, piece: bytes) -> None:
        """The rest is dropped, but must be read so that the probe isn't held up."""
        room = OUTPUT_BYTES - len(self._kept)
        self._kept += piece[:room]
        self._cut = self._cut or len(piece) > room

    def text(self) -> str:
        return self._kept.decode("utf-8", "replace") + ("..." if self._cut else "")


async def _collect(probe: RunningExec, output: _Output) -> None:
    while (piece := await probe.read()) is not None:
        output.add(piece[1])


def probe_command(config: HealthConfig | None, shell: list[str] | None) -> list[str] | None:
    """What a probe executes: ``CMD`` takes the words as they are, ``CMD-SHELL`` hands one to the shell; None for no check."""
    test = (config.test if config is not None else None) or []
    if len(test) < 2 or test[0] not in ("CMD", "CMD-SHELL"):
        return None
    if test[0] == "CMD":
        return test[1:]
    return [*(shell or ["/bin/sh", "-c"]), test[1]]


def next_delay_ns(config: HealthConfig, health: Health, *, in_start_period: bool) -> int:
    """How long to wait before the next probe: more often while the container may still be starting."""
    if in_start_period and health.status is Health().status:
        return config.start_interval or DEFAULT_START_INTERVAL_NS
    return config.interval or DEFAULT_INTERVAL_NS
