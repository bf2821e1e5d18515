"""Waiting for a container's end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from kitepy.engine.model.errors import InvalidParameter
from kitepy.engine.services.container_waits import ContainerWaits
from kitepy.engine.services.ports import WaitResult

ENDED = WaitResult(3)


def play(scenario: Callable[[ContainerWaits], Awaitable[None]]) -> None:
    async def main() -> None:
        await asyncio.wait_for(scenario(ContainerWaits()), 5)

    asyncio.run(main())


def test_a_container_that_does_not_run_ends_the_wait_at_once() -> None:
    async def scenario(waits: ContainerWaits) -> None:
        assert await waits.register("c", "not-running", ENDED) == ENDED
        assert await waits.register("c", "", ENDED) == ENDED

    play(scenario)


def test_everybody_who_waits_is_told() -> None:
    async def scenario(waits: ContainerWaits) -> None:
        waiting = [waits.register("c", condition, None) for condition in ("", "not-running", "next-exit")]
        other = asyncio.ensure_future(waits.register("d", "", None))
        waits.exited("c", ENDED)
        assert [await one for one in waiting] == [ENDED] * 3
        assert not other.done()

    play(scenario)


def test_the_next_exit_is_not_the_last_one() -> None:
    async def scenario(waits: ContainerWaits) -> None:
        future = asyncio.ensure_future(waits.register("c", "next-exit", WaitResult(0)))
        await asyncio.sleep(0)
        assert not future.done()
        waits.exited("c", ENDED)
        assert await future == ENDED

    play(scenario)


def test_removal_is_waited_for_beyond_the_exit() -> None:
    async def scenario(waits: ContainerWaits) -> None:
        future = asyncio.ensure_future(waits.register("c", "removed", WaitResult(0)))
        waits.exited("c", WaitResult(1))
        await asyncio.sleep(0)
        assert not future.done()
        waits.removed("c", ENDED)
        assert await future == ENDED

    play(scenario)


def test_removal_ends_all_other_waits_too() -> None:
    async def scenario(waits: ContainerWaits) -> None:
        future = waits.register("c", "next-exit", ENDED)
        waits.removed("c", ENDED)
        assert await future == ENDED

    play(scenario)


def test_a_client_that_leaves_is_forgotten() -> None:
    async def scenario(waits: ContainerWaits) -> None:
        leaving = asyncio.ensure_future(waits.register("c", "", None))
        staying = waits.register("c", "", None)
        leaving.cancel()
        await asyncio.sleep(0)
        waits.exited("c", ENDED)
        assert await staying == ENDED
        waits.exited("c", ENDED)

    play(scenario)


def test_other_conditions_are_refused() -> None:
    async def scenario(waits: ContainerWaits) -> None:
        with pytest.raises(InvalidParameter, match='invalid condition: "healthy"'):
            waits.register("c", "healthy", None)

    play(scenario)
