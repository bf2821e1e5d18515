"""Layers that the disk has no room for are refused in the system's words, leave nothing, and what fits still does."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard
from support.storage import Storage, entry, make_tar, with_storage

from kitepy.engine.model.errors import SystemFailure


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m,nr_inodes=300", "small", place], check=True)
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def bomb() -> bytes:
    return zstandard.compress(make_tar((entry("zeros"), bytes(64 << 20))))


def crowd() -> bytes:
    return make_tar(*((entry(f"f{number}"), b"") for number in range(1000)))


@pytest.mark.parametrize("make", [bomb, crowd])
def test_a_layer_without_room_is_refused_and_leaves_nothing(small_disk: Path, tmp_path: Path, make: Callable[[], bytes]) -> None:
    too_much, fits = tmp_path / "too-much", tmp_path / "fits"
    too_much.write_bytes(make())
    fits.write_bytes(make_tar((entry("f"), bytes(1 << 20))))
    assert too_much.stat().st_size < 1 << 20

    async def story(storage: Storage) -> None:
        for _ in range(2):
            with pytest.raises(SystemFailure, match=r"^write /.*: no space left on device$"):
                await storage.layers.unpack(too_much)
            await storage.layers.close()
            assert [left.name for left in (small_disk / "layers").iterdir() if left.name != "empty"] == []
        layer = await storage.layers.extract(None, fits)
        assert layer.size_bytes == 1 << 20

    with_storage(small_disk, story)
