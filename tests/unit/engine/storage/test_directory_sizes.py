"""Bytes below a directory that somebody else may be changing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from kitepy.engine.storage import directory_sizes
from kitepy.engine.storage.directory_sizes import directory_size


def test_files_count_hard_links_once_and_symbolic_links_as_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/one").write_bytes(b"x" * 1000)
    (tmp_path / "a/b/two").write_bytes(b"x" * 500)
    os.link(tmp_path / "a/one", tmp_path / "a/b/again")
    (tmp_path / "to-one").symlink_to("a/one")
    (tmp_path / "to-b").symlink_to("a/b")
    assert directory_size(tmp_path) == 1500 + len("a/one") + len("a/b")


def test_what_is_not_there_has_no_bytes(tmp_path: Path) -> None:
    assert directory_size(tmp_path / "nothing") == 0
    (tmp_path / "file").write_bytes(b"x")
    assert directory_size(tmp_path / "file") == 0


def test_a_directory_that_becomes_a_link_to_elsewhere_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"x" * 7777)
    inside = tmp_path / "inside"
    (inside / "bait").mkdir(parents=True)
    (inside / "bait/small").write_bytes(b"x")
    real = directory_sizes.openat2
    swapped = []

    def swap_first(root_fd: int, place: str, *rest: Any) -> int:
        if place.endswith("bait"):
            (inside / "bait").rename(inside / "moved")
            (inside / "bait").symlink_to(outside)
            swapped.append(place)
        return real(root_fd, place, *rest)

    monkeypatch.setattr(directory_sizes, "openat2", swap_first)
    assert directory_size(inside) == 0
    assert swapped


def test_a_file_that_vanishes_is_not_counted_and_no_descriptor_stays_open(tmp_path: Path) -> None:
    for number in range(50):
        (tmp_path / f"d{number}/e").mkdir(parents=True)
        (tmp_path / f"d{number}/e/f").write_bytes(b"xy")
    before = len(os.listdir("/proc/self/fd"))
    assert directory_size(tmp_path) == 100
    assert len(os.listdir("/proc/self/fd")) == before
