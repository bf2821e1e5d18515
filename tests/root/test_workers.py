"""The worker process: results, failures, cancelling, and surviving its own death."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from support.processes import is_alive

from kitepy.engine.model.errors import InvalidParameter, SystemFailure
from kitepy.engine.storage.worker import WorkerPool

SPOOL = "kitepy.engine.storage.jobs:spool_blob"


def with_pool(story: Callable[[WorkerPool], Awaitable[Any]]) -> None:
    async def main() -> None:
        pool = WorkerPool(parallel=2)
        try:
            await asyncio.wait_for(story(pool), 30)
        finally:
            await pool.close()

    asyncio.run(main())


def null_fd() -> int:
    return os.open("/dev/null", os.O_RDWR)


async def spool(pool: WorkerPool, data: bytes, limit: int = 1 << 20) -> dict[str, Any]:
    read_fd, write_fd = os.pipe()
    os.write(write_fd, data)
    os.close(write_fd)
    return await pool.run(SPOOL, {"max_bytes": limit}, [read_fd, null_fd()])


def test_a_job_gets_its_descriptors_and_gives_its_result() -> None:
    async def story(pool: WorkerPool) -> None:
        assert (await spool(pool, b"abc"))["size"] == 3

    with_pool(story)


def test_an_engine_error_arrives_as_its_kind_and_others_as_system_failure() -> None:
    async def story(pool: WorkerPool) -> None:
        with pytest.raises(InvalidParameter, match="too large"):
            await spool(pool, b"abc", limit=2)
        with pytest.raises(SystemFailure, match="No such file or directory"):
            await pool.run("kitepy.engine.storage.jobs:remove_trees", {"base": "/nonexistent", "names": []})
        with pytest.raises(SystemFailure, match="KeyError"):
            await pool.run("kitepy.engine.storage.jobs:remove_trees", {})

    with_pool(story)


@pytest.mark.parametrize("job", ["os:system", "kitepy.engine.server.app:x", "subprocess:run"])
def test_only_jobs_of_allowed_packages_run(job: str) -> None:
    async def story(pool: WorkerPool) -> None:
        with pytest.raises(InvalidParameter, match="no such job"):
            await pool.run(job, {})

    with_pool(story)


def test_large_parameters_and_many_jobs_at_once_pass() -> None:
    async def story(pool: WorkerPool) -> None:
        names = ["x" * 100 + str(number) for number in range(20_000)]
        job = "kitepy.engine.storage.jobs:remove_trees"
        await asyncio.gather(*(pool.run(job, {"base": "/mnt", "names": names}) for _ in range(8)))

    with_pool(story)


def test_cancelling_kills_the_job_and_returns_when_it_is_gone() -> None:
    async def story(pool: WorkerPool) -> None:
        read_fd, write_fd = os.pipe()
        task = asyncio.ensure_future(pool.run(SPOOL, {"max_bytes": 1 << 20}, [read_fd, null_fd()], paced=True))
        while not _children(pool):
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(BrokenPipeError):
            os.write(write_fd, b"x")
        os.close(write_fd)

    with_pool(story)


def test_a_killed_job_is_reported_and_the_pool_goes_on() -> None:
    async def story(pool: WorkerPool) -> None:
        read_fd, write_fd = os.pipe()
        task = asyncio.ensure_future(pool.run(SPOOL, {"max_bytes": 1 << 20}, [read_fd, null_fd()], paced=True))
        while not (children := _children(pool)):
            await asyncio.sleep(0.01)
        os.kill(children[0], signal.SIGKILL)
        with pytest.raises(SystemFailure, match="was killed"):
            await task
        os.close(write_fd)
        assert (await spool(pool, b"abc"))["size"] == 3

    with_pool(story)


def test_a_dead_worker_process_is_replaced() -> None:
    async def story(pool: WorkerPool) -> None:
        await spool(pool, b"abc")
        process = pool._process
        assert process is not None
        process.kill()
        assert (await spool(pool, b"abcd"))["size"] == 4
        assert pool._process is not process

    with_pool(story)


def test_a_caller_that_leaves_while_the_process_starts_leaves_it_to_the_others() -> None:
    async def story(pool: WorkerPool) -> None:
        first = asyncio.create_task(spool(pool, b"abc"))
        while pool._process is None:
            await asyncio.sleep(0)
        # The process is there, and not ready yet.
        first.cancel()
        second = asyncio.create_task(spool(pool, b"abcd"))
        assert (await second)["size"] == 4
        assert (await spool(pool, b"abcde"))["size"] == 5
        with pytest.raises(asyncio.CancelledError):
            await first

    with_pool(story)


def test_paced_jobs_do_not_use_up_the_slots() -> None:
    async def story(pool: WorkerPool) -> None:
        pipes = [os.pipe() for _ in range(3)]
        waiting = [
            asyncio.ensure_future(pool.run(SPOOL, {"max_bytes": 9}, [read_fd, null_fd()], paced=True)) for read_fd, _ in pipes
        ]
        assert (await spool(pool, b"abc"))["size"] == 3
        for _, write_fd in pipes:
            os.close(write_fd)
        assert [result["size"] for result in await asyncio.gather(*waiting)] == [0, 0, 0]

    with_pool(story)


def test_jobs_end_with_the_engine() -> None:
    async def story(pool: WorkerPool) -> None:
        read_fd, write_fd = os.pipe()
        task = asyncio.ensure_future(pool.run(SPOOL, {"max_bytes": 1 << 20}, [read_fd, null_fd()], paced=True))
        while not (children := _children(pool)):
            await asyncio.sleep(0.01)
        await pool.close()
        with pytest.raises(SystemFailure):
            await task
        os.close(write_fd)
        deadline = time.monotonic() + 5
        while is_alive(children[0]) and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        assert not is_alive(children[0])

    with_pool(story)


def _children(pool: WorkerPool) -> list[int]:
    """Process ids of the jobs that run now."""
    process = pool._process
    if process is None:
        return []
    try:
        with open(f"/proc/{process.pid}/task/{process.pid}/children") as file:
            return [int(word) for word in file.read().split()]
    except FileNotFoundError:
        return []
