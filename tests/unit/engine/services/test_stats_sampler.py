"""One sampler for all who watch a container, and none when nobody does."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from typing import Any

from kitepy.engine.kernel.cgroups import CgroupDriver
from kitepy.engine.services.container_stats import NOTHING
from kitepy.engine.services.stats_sampler import StatsSampler, Target


class CountingDriver(CgroupDriver):
    """Gives a larger usage each time it is read."""

    version = 2

    def __init__(self) -> None:
        self.reads = 0

    def stats(self, path: str) -> dict[str, dict[str, str]]:
        self.reads += 1
        return {"cpu": {"cpu.stat": f"usage_usec {self.reads}\n"}} if path == "/there" else {}


def _sampler(driver: CgroupDriver, path: str = "/there") -> StatsSampler:
    target = Target(os.getpid(), os.getpid(), path, own_network=True)
    return StatsSampler(driver, lambda known: target if known == "a" else None, host_memory=1 << 30, interval_s=0.02)


def _run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await test()

    asyncio.run(bounded())


def test_all_readers_get_the_same_sample_of_one_reading() -> None:
    async def test() -> None:
        driver = CountingDriver()
        sampler = _sampler(driver)
        readers = [sampler.watch("a") for _ in range(50)]
        first = [await anext(reader) for reader in readers]
        assert len({id(sample) for sample in first}) == 1
        assert driver.reads < 50
        assert sampler.watched == 1
        await sampler.close()

    _run(test)


def test_who_comes_later_is_told_of_the_last_sample() -> None:
    async def test() -> None:
        sampler = _sampler(CountingDriver())
        first = sampler.watch("a")
        assert first.before is NOTHING
        sample = await anext(first)
        assert sampler.watch("a").before is sample
        await sampler.close()

    _run(test)


def test_the_last_reader_ends_the_sampling() -> None:
    async def test() -> None:
        sampler = _sampler(CountingDriver())
        one, other = sampler.watch("a"), sampler.watch("a")
        await anext(one)
        await one.aclose()
        assert sampler.watched == 1
        await other.aclose()
        await other.aclose()
        assert sampler.watched == 0

    _run(test)


def test_a_container_that_does_not_run_gives_nothing_until_it_is_removed() -> None:
    async def test() -> None:
        sampler = _sampler(CountingDriver())
        samples = sampler.watch("stopped")
        assert await anext(samples) is NOTHING
        sampler.forget("stopped")
        assert [sample async for sample in samples] == []
        assert await sampler.now("stopped") is NOTHING

    _run(test)


def test_a_group_that_has_just_gone_counts_as_not_running() -> None:
    async def test() -> None:
        assert await _sampler(CountingDriver(), "/gone").now("a") is NOTHING

    _run(test)


def test_a_reader_that_does_not_keep_up_loses_the_oldest() -> None:
    async def test() -> None:
        driver = CountingDriver()
        sampler = _sampler(driver)
        slow, other = sampler.watch("a"), sampler.watch("a")
        while driver.reads < 65:
            await anext(other)
        oldest = await anext(slow)
        assert oldest.cpu["cpu_usage"]["total_usage"] > 1000
        await sampler.close()

    _run(test)
