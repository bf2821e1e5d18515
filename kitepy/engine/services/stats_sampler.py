"""Samples of what containers use, once a second for each container that somebody watches, however many watch it.

Reading is done in threads; nothing stays open between two samples. What the values mean is ``container_stats``' matter.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from kitepy.engine.kernel.cgroups import CgroupDriver, read_value
from kitepy.engine.kernel.processes import ProcessUse, use_of_descendants
from kitepy.engine.services.container_stats import (
    NOTHING,
    ProcessTimes,
    Sample,
    read_host_cpu,
    read_networks,
    sample_of_processes,
    sample_v1,
    sample_v2,
)

logger = logging.getLogger(__name__)

INTERVAL_S = 1.0
_QUEUE_LENGTH = 60
"""A reader that is further behind loses the oldest samples."""


@dataclass(frozen=True)
class Target:
    """A running container, as far as reading goes."""

    pid: int
    monitor_pid: int
    cgroup_path: str
    own_network: bool
    """Whether its interfaces are its own, and not the host's."""


def read_sample(driver: CgroupDriver, target: Target, host_memory: int) -> Sample:
    """Read all there is now; blocks. ``NOTHING`` when the container has just ended."""
    networks = {}
    try:
        if target.own_network:
            networks = read_networks(read_value(f"/proc/{target.pid}/net/dev"))
        host = read_host_cpu(read_value("/proc/stat"))
        if not driver.version:
            use = use_of_descendants(target.monitor_pid)
    except (FileNotFoundError, ProcessLookupError):
        return NOTHING
    read_ns = time.time_ns()
    if not driver.version:
        return sample_of_processes(_times(use), host, read_ns=read_ns, host_memory=host_memory, networks=networks)
    texts = driver.stats(target.cgroup_path)
    if not texts.get("cpu"):
        return NOTHING
    make = sample_v1 if driver.version == 1 else sample_v2
    return make(texts, host, read_ns=read_ns, host_memory=host_memory, networks=networks)


def _times(use: ProcessUse) -> ProcessTimes:
    return ProcessTimes(use.user_ticks, use.system_ticks, use.memory_bytes, use.count)


class Samples(AsyncIterator[Sample]):
    """One reader's samples; ends when the container is removed. ``aclose`` when the reader has had enough."""

    def __init__(self, sampler: StatsSampler, container_id: str, before: Sample) -> None:
        self.before = before
        """What was sampled last before this reader came; ``NOTHING`` when nobody watched."""
        self._sampler = sampler
        self._container_id = container_id
        self._queue: deque[Sample] = deque(maxlen=_QUEUE_LENGTH)
        self._arrived = asyncio.Event()
        self._ended = False

    def offer(self, sample: Sample) -> None:
        """Add a sample, at the price of the oldest when the reader doesn't keep up."""
        self._queue.append(sample)
        self._arrived.set()

    def end(self) -> None:
        """No further samples will come."""
        self._ended = True
        self._arrived.set()

    async def __anext__(self) -> Sample:
        while not self._queue:
            if self._ended:
                raise StopAsyncIteration
            self._arrived.clear()
            await self._arrived.wait()
        return self._queue.popleft()

    async def aclose(self) -> None:
        """Stop listening; the last reader to leave ends the sampling."""
        self._sampler.leave(self._container_id, self)


@dataclass
class _Watch:
    readers: set[Samples] = field(default_factory=set)
    last: Sample = NOTHING
    task: asyncio.Task[None] | None = None


class StatsSampler:
    """Reads for all who watch. Belongs to one event loop; ``close`` ends every stream."""

    def __init__(
        self, driver: CgroupDriver, target_of: Callable[[str], Target | None], *, host_memory: int, interval_s: float = INTERVAL_S
    ) -> None:
        """``target_of`` gives a container by id while it runs."""
        self._driver = driver
        self._target_of = target_of
        self._host_memory = host_memory
        self._interval_s = interval_s
        self._watches: dict[str, _Watch] = {}

    @property
    def watched(self) -> int:
        """How many containers are being sampled."""
        return len(self._watches)

    async def now(self, container_id: str) -> Sample:
        """One sample at once."""
        target = self._target_of(container_id)
        if target is None:
            return NOTHING
        return await asyncio.to_thread(read_sample, self._driver, target, self._host_memory)

    def watch(self, container_id: str) -> Samples:
        """One sample a second from now on, the first one at once if nobody else watches."""
        watch = self._watches.setdefault(container_id, _Watch())
        samples = Samples(self, container_id, watch.last)
        watch.readers.add(samples)
        if watch.task is None:
            watch.task = asyncio.get_running_loop().create_task(
                self._sample(container_id, watch), name=f"stats {container_id[:12]}"
            )
        return samples

    def leave(self, container_id: str, samples: Samples) -> None:
        """A reader goes; does nothing when it is gone already."""
        watch = self._watches.get(container_id)
        if watch is None:
            return
        watch.readers.discard(samples)
        if not watch.readers:
            del self._watches[container_id]
            if watch.task is not None:
                watch.task.cancel()

    def forget(self, container_id: str) -> None:
        """The container is removed: its readers come to an end."""
        watch = self._watches.pop(container_id, None)
        if watch is None:
            return
        for samples in watch.readers:
            samples.end()
        if watch.task is not None:
            watch.task.cancel()

    async def close(self) -> None:
        """End every stream."""
        tasks = [watch.task for watch in self._watches.values() if watch.task is not None]
        for container_id in list(self._watches):
            self.forget(container_id)
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _sample(self, container_id: str, watch: _Watch) -> None:
        clock = asyncio.get_running_loop().time
        due = clock()
        while True:
            try:
                watch.last = await self.now(container_id)
            except OSError as error:
                logger.warning("the statistics of container %s can't be read: %s", container_id[:12], error)
                watch.last = NOTHING
            for samples in watch.readers:
                samples.offer(watch.last)
            due = max(due + self._interval_s, clock())
            await asyncio.sleep(due - clock())


def host_memory_bytes() -> int:
    """The machine's memory."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
