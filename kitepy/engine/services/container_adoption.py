"""The engine's own start and end: taking over what outlived the engine before, and leaving or stopping what runs."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import Any

from kitepy.engine.model.container import ContainerRecord, ContainerStatus
from kitepy.engine.model.container_config import EndpointSettings
from kitepy.engine.model.errors import EngineError
from kitepy.engine.model.ids import short_id
from kitepy.engine.model.launch import ExitStatus
from kitepy.engine.network.networks import Networks
from kitepy.engine.runtime.client import RunningContainer, Runtime
from kitepy.engine.services.container_index import ContainerIndex
from kitepy.engine.services.container_launch import ContainerLauncher
from kitepy.engine.services.container_runs import ContainerRuns
from kitepy.engine.services.container_stops import KILL_PATIENCE_S, ContainerStops, stop_signal
from kitepy.engine.services.endpoints import joined_settings
from kitepy.engine.services.network_index import NetworkIndex
from kitepy.engine.services.request_networking import has_own_sandbox
from kitepy.engine.services.restart_policy import at_engine_start
from kitepy.engine.services.signals import SIGKILL

logger = logging.getLogger(__name__)


class ContainerAdoption:
    """Reconciles the database with the processes there are. Belongs to one event loop."""

    def __init__(
        self,
        *,
        index: ContainerIndex,
        runs: ContainerRuns,
        stops: ContainerStops,
        runtime: Runtime,
        launcher: ContainerLauncher,
        networks: Networks,
        network_index: NetworkIndex,
    ) -> None:
        self._index = index
        self._runs = runs
        self._stops = stops
        self._runtime = runtime
        self._launcher = launcher
        self._networks = networks
        self._network_index = network_index

    async def adopt_all(self) -> None:
        """Take over what outlived the former engine, record what ended meanwhile, and start what the policies want."""
        alive = set(self._runtime.inventory().live)
        for record in self._index:
            if record.id in alive or record.state.status.has_process:
                await self._adopt(record)
            elif record.state.status is ContainerStatus.RESTARTING:
                self._index.save(replace(record, state=record.state.to(ContainerStatus.EXITED)))
        for container_id in alive - {record.id for record in self._index}:
            await self._end_unknown(container_id)
        await self._networks.finish_adoption()
        await self._launcher.links.adopted()

    async def _end_unknown(self, container_id: str) -> None:
        """A process that the database does not know: a build step of the engine before, or a removal it did not finish."""
        logger.warning("ending the processes of container %s, which the database does not know", short_id(container_id))
        found = await self._runtime.adopt(container_id, self._launcher.bundle(container_id))
        if isinstance(found, RunningContainer):
            await found.signal(SIGKILL)
            await asyncio.wait_for(found.exited, KILL_PATIENCE_S)
        await self._launcher.remove_bundle(container_id)

    async def _adopt(self, record: ContainerRecord) -> None:
        live = self._runs.live(record.id)
        found = await self._runtime.adopt(record.id, self._launcher.bundle(record.id))
        live.stopped_by_user = record.state.stopped_by_user
        if isinstance(found, ExitStatus):
            async with live.lock:
                if record.state.status.has_process:
                    # The old bridge side is gone with the namespace; nothing is attached in this engine.
                    self._index.save(replace(record, endpoints=()))
                    await self._runs.record_exit(record.id, live, found)
            return
        live.running = found
        state = record.state
        if not state.status.has_process:  # the engine died between the start and its note of it
            restarted = state if state.status is not ContainerStatus.RESTARTING else state.to(ContainerStatus.EXITED)
            state = restarted.to(ContainerStatus.RUNNING, started_at_ns=found.started_at_ns, exit_code=0, error="")
        state = replace(state, pid=found.pid)
        record = replace(record, networks=self._joined(record))
        endpoints = record.endpoints
        if has_own_sandbox(record):
            try:
                resolver = self._launcher.resolver_of(record)
                endpoints = await self._networks.adopt(
                    record.id,
                    endpoints,
                    found.pid,
                    upstream=resolver.upstream,
                    keeps_single_labels=resolver.keeps_single_labels,
                )
            except EngineError as error:
                logger.warning("container %s lost its network: %s", short_id(record.id), error)
                endpoints = ()
        self._index.save(replace(record, state=state, endpoints=endpoints))
        self._runs.watch(record.id, found)

    def _joined(self, record: ContainerRecord) -> dict[str, EndpointSettings]:
        """The networks of a container, also when its engine died before it noted that they were joined."""
        networks = dict(record.networks)
        for endpoint in record.endpoints:
            network = self._network_index.get(endpoint.network_id)
            settings = networks.get(network.name) if network is not None else None
            if network is not None and settings is not None and not settings.network_id:
                networks[network.name] = joined_settings(record, network, settings)
        return networks

    async def start_wanted(self) -> None:
        """Start the containers whose restart policy says so; called once, when the engine is ready."""
        starts: dict[str, asyncio.Task[Any]] = {}
        # The oldest first: containers are linked to older ones only, which have to run by then.
        for record in sorted(self._index, key=lambda record: record.created_ns):
            state = record.state
            if state.status is ContainerStatus.EXITED and at_engine_start(
                record.host_config.restart_policy,
                was_running=state.finished_at_ns > 0,
                exit_code=state.exit_code,
                restarts=state.restart_count,
                stopped_by_user=state.stopped_by_user,
            ):
                before = [starts[link.target_id] for link in record.links if link.target_id in starts]
                starts[record.id] = self._runs.spawn(self._start_after(record.id, before), f"start of {short_id(record.id)}")

    async def _start_after(self, container_id: str, others: list[asyncio.Task[Any]]) -> None:
        if others:
            await asyncio.wait(others)
        await self._runs.start(container_id)

    async def shut_down(self, *, keep: bool, timeout_s: float) -> None:
        """End of the engine: leave the containers running, or stop them all as dockerd does."""
        self._runs.closing = True
        await self._runs.health.close()
        for record in self._index:
            self._runs.cancel_timer(self._runs.live(record.id))
        if not keep:
            stops = [self._stop_quietly(record, timeout_s) for record in self._index if record.state.status.counts_as_running]
            await asyncio.gather(*stops)
        await self._runs.close()

    async def _stop_quietly(self, record: ContainerRecord, timeout_s: float) -> None:
        was_stopped = self._runs.live(record.id).stopped_by_user
        try:
            await self._stops.stop(record, stop_signal(record), timeout_s)
        except EngineError as error:
            logger.warning("stopping container %s: %s", short_id(record.id), error)
        current = self._index.get(record.id)
        if current is not None and not was_stopped:  # the engine stopped it, not its user: policies start it again
            self._index.save(replace(current, state=replace(current.state, stopped_by_user=False)))
