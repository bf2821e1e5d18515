"""A layer is unpacked while its file still grows: complete, given up, cut, and damaged."""

from __future__ import annotations

import asyncio
import gzip
import os
import random
import tarfile
from pathlib import Path

import pytest
from support.storage import Storage, entry, make_tar, with_storage

from kitepy.engine.model.errors import Cancelled, InvalidParameter
from kitepy.engine.model.oci import digest_of
from kitepy.engine.storage.growth import Growth
from kitepy.engine.storage.layers import Unplaced

NOISE = random.Random(3).randbytes(3 << 20)  # noqa: S311 - no secret
NOISE = random.Random(3).randbytes(3 << 20)  # noqa: S311 - what does not shrink, and the same in every worker
PLAIN = make_tar(entry("d", tarfile.DIRTYPE), (entry("d/f"), NOISE), (entry("last"), b"end"))
DATA = gzip.compress(PLAIN, 1)


async def appears(path: Path) -> None:
    while not path.exists():
        await asyncio.sleep(0.01)


def start(storage: Storage, partial: Path, growth: Growth, seen: list[int]) -> asyncio.Task[Unplaced]:
    partial.touch()
    return asyncio.create_task(storage.layers.unpack(partial, following=growth, consumed=seen.append))


def test_what_has_arrived_is_unpacked_at_once_and_the_rest_when_it_comes(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    partial = tmp_path / "partial"

    async def story(storage: Storage) -> None:
        growth, seen = Growth(), list[int]()
        task = start(storage, partial, growth, seen)
        await asyncio.sleep(0)
        with open(partial, "ab", buffering=0) as file:
            for start_at in range(0, len(DATA) - 1000, 5000):
                file.write(DATA[start_at : min(start_at + 5000, len(DATA) - 1000)])
                growth.grown()
            # Everything but the end is there, so the first file must come out without the end.
            (diff,) = (storage.root / "layers").glob("*/diff")
            await appears(diff / "d" / "f")
            assert not task.done()
            partial.rename(tmp_path / "blob")
            file.write(DATA[-1000:])
        growth.complete()
        unplaced = await task
        assert unplaced.diff_id == digest_of(PLAIN)
        assert (diff / "last").read_bytes() == b"end"
        assert seen == sorted(set(seen))
        assert seen[-1] == len(DATA)
        storage.layers.discard(unplaced)

    with_storage(tmp_path / "root", story)


@pytest.mark.parametrize("part", [0, 1000, len(DATA) - 1, len(DATA)])
def test_a_writer_that_gives_up_ends_it_however_much_is_there(tmp_path: Path, part: int) -> None:
    (tmp_path / "root").mkdir()
    partial = tmp_path / "partial"

    async def story(storage: Storage) -> None:
        growth = Growth()
        task = start(storage, partial, growth, [])
        await asyncio.sleep(0)
        partial.write_bytes(DATA[:part])
        growth.grown()
        growth.give_up()
        with pytest.raises(Cancelled, match="given up"):
            await task
        await storage.layers.close()
        assert [entry.name for entry in (storage.root / "layers").iterdir() if entry.name != "empty"] == []

    with_storage(tmp_path / "root", story)


def test_a_file_that_is_called_complete_too_early_is_an_archive_cut_short(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    partial = tmp_path / "partial"

    async def story(storage: Storage) -> None:
        growth = Growth()
        task = start(storage, partial, growth, [])
        await asyncio.sleep(0)
        partial.write_bytes(DATA[:-9])
        growth.complete()
        growth.give_up()  # comes too late to mean anything
        with pytest.raises(InvalidParameter, match="unexpected EOF in gzip data"):
            await task

    with_storage(tmp_path / "root", story)


def test_a_writer_goes_on_undisturbed_when_the_reader_has_failed(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    partial = tmp_path / "partial"

    async def story(storage: Storage) -> None:
        growth = Growth()
        task = start(storage, partial, growth, [])
        await asyncio.sleep(0)
        partial.write_bytes(b"x" * 4096)
        growth.grown()
        with pytest.raises(InvalidParameter):
            await task
        growth.grown()
        growth.complete()

    with_storage(tmp_path / "root", story)


def test_many_marks_never_block_and_nothing_is_left_open() -> None:
    before = len(os.listdir("/proc/self/fd"))
    growth = Growth()
    for _ in range(200_000):
        growth.grown()
    growth.give_up()
    growth.grown()
    with pytest.raises(Cancelled):
        growth.take_reader()
    assert len(os.listdir("/proc/self/fd")) == before
