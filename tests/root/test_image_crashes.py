"""What is left of images when the engine dies at any step of what it does to them: nothing half done, nothing unowned.

``KITEPY_FUZZ`` lets it die at every step instead of at one in six.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.image_archives import MadeImage, docker_archive_of, small_layer
from support.storage import Storage, load, pieces, with_storage

from kitepy.engine.model.filters import Filters
from kitepy.engine.services.ports import ImportRequest
from kitepy.engine.storage.content import ContentStore
from kitepy.engine.storage.database import Database
from kitepy.engine.storage.layers import LayerStore

A, B, C = small_layer("a", 1000), small_layer("b", 2000), small_layer("c", 3000)
ONE, TWO = MadeImage([A, B], ["one:1", "both:1"]), MadeImage([A, C], ["two:1"])
ARCHIVE = docker_archive_of(ONE, TWO)
_MOST_STEPS = 100
_STRIDE = 1 if os.environ.get("KITEPY_FUZZ") else 6
_DIED = 9

Story = Callable[[Storage], Awaitable[None]]


@pytest.fixture(name="data_root")
def _data_root() -> Iterator[Path]:
    # In memory: each of many stores syncs its file system when it is closed.
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        yield Path(directory)


def _dies(data_root: Path, prepare: Story, story: Story, step: int) -> bool:
    """Run a story in a process that dies just before its n-th step that others can see; whether it came to that."""

    async def whole(storage: Storage) -> None:
        await prepare(storage)
        _arm(step)
        await story(storage)

    child = os.fork()
    if not child:
        status = 1
        try:
            with_storage(data_root, whole)
            status = 0
        finally:
            os._exit(status)
    _, waited = os.waitpid(child, 0)
    status = os.waitstatus_to_exitcode(waited)
    assert status in (0, _DIED)
    return status == _DIED


def _arm(step: int) -> None:
    """From now on count transactions, blobs and directories that come and go."""
    left = step

    def count() -> None:
        nonlocal left
        left -= 1
        if not left:
            os._exit(_DIED)

    transaction = Database.transaction

    @contextlib.contextmanager
    def counted_transaction(self: Database) -> Iterator[Any]:
        with transaction(self) as connection:
            yield connection
            if self._depth == 1:
                count()  # all is said, and nothing is committed
        count()

    def counted(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            count()
            return method(*arguments, **options)

        return call

    Database.transaction = counted_transaction  # type: ignore[method-assign, assignment]  # this process ends soon
    ContentStore.adopt = counted(ContentStore.adopt)  # type: ignore[method-assign]
    ContentStore.remove = counted(ContentStore.remove)  # type: ignore[method-assign]
    LayerStore._remove_directories = counted(LayerStore._remove_directories)  # type: ignore[method-assign]


async def _check(storage: Storage, data_root: Path) -> None:
    """As after a start of the engine: everything there belongs to an image, and all that images have is there."""
    storage.layers.mark_garbage()
    await storage.layers.remove_marked()
    rows = storage.database.query("SELECT * FROM layers")
    assert {row["state"] for row in rows} <= {"ready"}
    assert {entry.name for entry in (data_root / "layers").iterdir()} == {str(row["id"]) for row in rows}
    assert set(storage.content.digests()) == {row["blob_digest"] for row in rows}
    assert list((data_root / "content" / "ingest").iterdir()) == []
    needed = set()
    for item in storage.image_store.all():
        stack = storage.layers.stack(item.image.top_layer)
        assert len(stack) == len(item.image.layers)
        for layer in stack:
            needed.add(layer.number)
            assert sum(file.stat().st_size for file in (data_root / layer.directory).iterdir()) == layer.size_bytes
    assert needed == {row["id"] for row in rows}


def _survive(data_root: Path, prepare: Story, story: Story) -> int:
    """Let the engine die at steps of a story in turn, until it comes to its end; gives how many steps that were."""

    async def after(storage: Storage) -> None:
        await _check(storage, data_root)

    for step in range(1, _MOST_STEPS, _STRIDE):
        died = _dies(data_root, prepare, story, step)
        with_storage(data_root, after)
        if not died:
            return step
    raise AssertionError("the story has no end")


async def _without(storage: Storage) -> None:
    for item in storage.image_store.all():
        await storage.images.remove(item.image.id, force=True)


async def _with(storage: Storage) -> None:
    await load(storage, ARCHIVE)


def test_a_load_may_die_at_any_step(data_root: Path) -> None:
    async def after(storage: Storage) -> None:
        assert {tag.familiar for item in storage.image_store.all() for tag in item.tags} == {"one:1", "both:1", "two:1"}

    assert _survive(data_root, _without, _with) > 15
    with_storage(data_root, after)


def test_an_import_may_die_at_any_step(data_root: Path) -> None:
    async def story(storage: Storage) -> None:
        async for _ in storage.images.import_archive(pieces(A), ImportRequest("imported")):
            pass

    assert _survive(data_root, _without, story) > 4


def test_a_prune_may_die_at_any_step(data_root: Path) -> None:
    async def story(storage: Storage) -> None:
        await storage.images.prune(Filters({"dangling": ("false",)}))

    assert _survive(data_root, _with, story) > 8


def test_a_prune_amid_a_load_takes_nothing_of_it(data_root: Path) -> None:
    async def story(storage: Storage) -> None:
        pruned = 0

        async def prune() -> None:
            nonlocal pruned
            while True:
                await storage.images.prune(Filters({"dangling": ("false",)}))
                pruned += 1
                await asyncio.sleep(0)

        for _ in range(5):
            task = asyncio.ensure_future(prune())
            await load(storage, ARCHIVE)
            # What is loaded may be pruned as soon as it is there, but never in part.
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await storage.layers.remove_marked()
            await _check(storage, data_root)
        assert pruned > 5

    with_storage(data_root, story)
