"""Looking at running containers from outside: their processes and what they use. Satisfies ``ports.ContainerObserver``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

from kitepy.engine.kernel.cgroups import CgroupDriver
from kitepy.engine.kernel.processes import descendants
from kitepy.engine.model.container import ContainerStatus
from kitepy.engine.model.errors import Conflict
from kitepy.engine.runtime.client import RunningContainer
from kitepy.engine.services.container_index import ContainerIndex
from kitepy.engine.services.container_processes import list_processes
from kitepy.engine.services.container_stats import NOTHING, Sample, document
from kitepy.engine.services.container_view import event_attributes
from kitepy.engine.services.events import EventBus
from kitepy.engine.services.request_networking import parse_network_mode
from kitepy.engine.services.stats_sampler import Samples, StatsSampler, Target, host_memory_bytes


class ContainerObserver:
    """Belongs to one event loop."""

    def __init__(
        self,
        *,
        index: ContainerIndex,
        running_of: Callable[[str], RunningContainer | None],
        driver: CgroupDriver,
        events: EventBus,
    ) -> None:
        """``running_of`` gives the process of a container by id, None while there is none."""
        self._index = index
        self._running_of = running_of
        self._driver = driver
        self._events = events
        self._sampler = StatsSampler(driver, self._target, host_memory=host_memory_bytes())

    async def top(self, ref: str, ps_args: str) -> dict[str, Any]:
        record = self._index.resolve(ref)
        if record.state.status is ContainerStatus.RESTARTING:
            raise Conflict(f"Container {record.id} is restarting, wait until the container is running")
        running = self._running_of(record.id)
        if running is None:
            raise Conflict(f"container {record.id} is not running")
        pids = self._driver.pids(running.cgroup_path) if self._driver.version else descendants(running.monitor_pid)
        found = await list_processes(ps_args, sorted(pids))
        self._events.emit("container", "top", record.id, event_attributes(record))
        return found

    async def stats(self, ref: str, stream: bool, one_shot: bool) -> AsyncIterator[dict[str, Any]]:
        record = self._index.resolve(ref)
        if not stream and not record.state.status.has_process:
            return _Documents(self._index, record.id, _once(NOTHING), 1)
        if not stream and one_shot:
            return _Documents(None, record.id, _once(await self._sampler.now(record.id)), 1)
        samples = self._sampler.watch(record.id)
        return _Documents(self._index, record.id, samples, None if stream else 1)

    def forget(self, container_id: str) -> None:
        """The container is removed."""
        self._sampler.forget(container_id)

    async def close(self) -> None:
        """End every stream."""
        await self._sampler.close()

    def _target(self, container_id: str) -> Target | None:
        if self._index.get(container_id) is None:
            return None
        running = self._running_of(container_id)
        if running is None:
            return None
        own_network = self._shared_mode(container_id) != "host"
        return Target(running.pid, running.monitor_pid, running.cgroup_path, own_network)

    def _shared_mode(self, container_id: str) -> str:
        """The kind of network at the end of a chain of containers that share one."""
        seen: set[str] = set()
        record = self._index.get(container_id)
        while record is not None and record.id not in seen:
            seen.add(record.id)
            mode = parse_network_mode(record.host_config.network_mode)
            if mode.kind != "container":
                return mode.kind
            owner = self._index.owner_of_name(mode.target)
            record = self._index.get(mode.target) or (self._index.get(owner) if owner else None)
        return ""


async def _once(sample: Sample) -> AsyncIterator[Sample]:
    yield sample


class _Documents(AsyncIterator[dict[str, Any]]):
    """A reader's documents, each with what the one before it said of the CPU; ``limit`` 1 waits for two samples of a stream."""

    def __init__(
        self, index: ContainerIndex | None, container_id: str, samples: Samples | AsyncIterator[Sample], limit: int | None
    ) -> None:
        """Without ``index`` the documents don't tell whose they are, as dockerd has it for a single sample."""
        self._index = index
        self._id = container_id
        self._samples = samples
        self._before = NOTHING
        self._left = limit
        self._name = ""
        if limit is not None and isinstance(samples, Samples):
            self._before = samples.before
            self._skip = 0 if samples.before.read_ns else 1
        else:
            self._skip = 0

    async def __anext__(self) -> dict[str, Any]:
        if self._left == 0:
            raise StopAsyncIteration
        while self._skip:
            self._skip -= 1
            self._before = await anext(self._samples)
        sample = await anext(self._samples)
        if self._left is not None:
            self._left -= 1
        before, self._before = self._before, sample
        return document(sample, before, identity=self._identity())

    def _identity(self) -> tuple[str, str] | None:
        if self._index is None:
            return None
        record = self._index.get(self._id)
        self._name = record.name if record is not None else self._name
        return self._name, self._id

    async def aclose(self) -> None:
        """Leave the shared sampling."""
        if isinstance(self._samples, Samples):
            await self._samples.aclose()
