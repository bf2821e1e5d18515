"""Ending and freezing containers on request: signals, stop with its grace period, pause.

What follows an exit is the business of ``container_runs``.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

from kitepy.engine.model.container import ContainerRecord, ContainerStatus
from kitepy.engine.model.errors import Conflict, NotModified, SystemFailure
from kitepy.engine.model.ids import short_id
from kitepy.engine.runtime.client import RunningContainer
from kitepy.engine.services.container_index import ContainerIndex
from kitepy.engine.services.container_runs import ContainerRuns
from kitepy.engine.services.signals import SIGKILL, parse_signal

logger = logging.getLogger(__name__)

KILL_PATIENCE_S = 30.0
"""How long a process may take to die of SIGKILL (uninterruptible sleep) before the engine says that it doesn't."""


class ContainerStops:
    """Signals to process 1, and what they mean for the restart policy. Belongs to one event loop."""

    def __init__(self, index: ContainerIndex, runs: ContainerRuns) -> None:
        self._index = index
        self._runs = runs

    async def kill(self, record: ContainerRecord, number: int) -> None:
        """Send a signal to process 1; with SIGKILL returns when the exit is recorded.

        Like dockerd: each signal counts as a stop by the user, and ends the restart policy and a pause, too, unless the container
        has a stop signal of its own and it is not this one.
        """
        status = record.state.status
        if not status.counts_as_running:
            raise Conflict(f"container {record.id} is not running")
        live = self._runs.live(record.id)
        live.stopped_by_user = True
        ending = number == SIGKILL or not record.config.stop_signal or number == stop_signal(record)
        if ending:
            live.restart_cancelled = True
        if status is ContainerStatus.RESTARTING and (not ending or await self._give_up_restart(record)):
            return
        running = self._runs.running(self._runs.require(record.id))
        if number == SIGKILL:
            await self.end(record, running)
            return
        await running.signal(number)
        self._runs.emit(record, "kill", signal=str(number))
        if ending:
            await self._thaw(record, running)

    async def stop(self, record: ContainerRecord, number: int, timeout_s: float | None) -> None:
        """Ask process 1 to end, and kill it after the grace period (None waits for ever)."""
        live = self._runs.live(record.id)
        live.stopped_by_user = live.restart_cancelled = True
        if record.state.status is ContainerStatus.RESTARTING and await self._give_up_restart(record):
            self._runs.emit(record, "stop")
            return
        running = live.running
        if running is None:
            raise NotModified(f"container {record.name} is already stopped")
        live.stopping += 1
        try:
            await running.signal(number)
            self._runs.emit(record, "kill", signal=str(number))
            await self._thaw(record, running)
            if timeout_s != 0:
                await asyncio.wait_for(asyncio.shield(running.exited), timeout_s)
        except Conflict:
            logger.debug("container %s ended before it could be stopped", record.id)
        except TimeoutError:
            logger.info("container %s did not end within %s s of signal %d; killing it", short_id(record.id), timeout_s, number)
        await self.end(record, running)

    async def end(self, record: ContainerRecord, running: RunningContainer) -> None:
        """SIGKILL if it still runs, and wait until the exit is recorded."""
        if not running.exited.done():
            try:
                await running.signal(SIGKILL)  # which thaws it, too
                self._runs.emit(record, "kill", signal=str(SIGKILL))
                await asyncio.wait_for(asyncio.shield(running.exited), KILL_PATIENCE_S)
            except Conflict:
                logger.debug("container %s ended before it could be killed", record.id)
            except TimeoutError:
                raise SystemFailure(
                    f"container {record.id} did not end after it was killed: it may be waiting for a device"
                ) from None
        await self._runs.exited(record.id, running, await running.exited)

    async def _give_up_restart(self, record: ContainerRecord) -> bool:
        """End the wait for the next start; False when that start was faster, so that there is a process to end."""
        live = self._runs.live(record.id)
        self._runs.cancel_timer(live)
        async with live.lock:  # held by a start whose delay was just over
            current = self._runs.require(record.id)
            if current.state.status is not ContainerStatus.RESTARTING:
                return not current.state.status.has_process
            self._index.save(replace(current, state=current.state.to(ContainerStatus.EXITED, stopped_by_user=True)))
            return True

    async def _thaw(self, record: ContainerRecord, running: RunningContainer) -> None:
        """A paused container can't react to a signal."""
        if self._runs.require(record.id).state.status is not ContainerStatus.PAUSED:
            return
        await running.unpause()
        async with self._runs.live(record.id).lock:
            current = self._index.get(record.id)
            if current is None or current.state.status is not ContainerStatus.PAUSED:
                return  # it ended of the signal, or somebody else thawed it
            self._index.save(replace(current, state=current.state.to(ContainerStatus.RUNNING)))
            self._runs.health.resume(record.id)
        self._runs.emit(record, "unpause")

    async def set_paused(self, record: ContainerRecord, *, paused: bool) -> None:
        """Freeze or thaw all processes of a container."""
        live = self._runs.live(record.id)
        async with live.lock:
            record = self._runs.require(record.id)
            status = record.state.status
            if not paused and status is not ContainerStatus.PAUSED:
                # The description of the API knows no conflict here, and clients of dockerd are used to its answer.
                raise SystemFailure(f"Container {record.id} is not paused")
            if status is ContainerStatus.PAUSED and paused:
                raise Conflict(f"Container {record.id} is already paused")
            if status is ContainerStatus.RESTARTING:
                raise Conflict(f"Container {record.id} is restarting, wait until the container is running")
            running = self._runs.running(record)
            await (running.pause() if paused else running.unpause())
            new_status = ContainerStatus.PAUSED if paused else ContainerStatus.RUNNING
            self._index.save(replace(record, state=record.state.to(new_status)))
            if paused:
                self._runs.health.suspend(record.id)
            else:
                self._runs.health.resume(record.id)
        self._runs.emit(record, "pause" if paused else "unpause")


def stop_signal(record: ContainerRecord) -> int:
    """The signal that asks this container to end."""
    return parse_signal(record.config.stop_signal or "SIGTERM")
