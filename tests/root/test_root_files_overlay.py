"""Whiteouts and opaque directories, which only root can make."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from kitepy.engine.model.launch import OverlayRoot
from kitepy.engine.services.root_files import read_root_file


@pytest.fixture(name="base")
def _base(tmp_path: Path) -> Path:
    for layer in ("upper", "lower"):
        (tmp_path / layer / "etc").mkdir(parents=True)
    (tmp_path / "lower" / "etc" / "passwd").write_text("lower")
    return tmp_path


def read(base: Path) -> str:
    return read_root_file(OverlayRoot(base, ("lower",), "upper", "work"), "etc/passwd")


def test_a_whiteout_of_the_file_hides_it(base: Path) -> None:
    os.mknod(base / "upper" / "etc" / "passwd", stat.S_IFCHR, os.makedev(0, 0))
    assert read(base) == ""


def test_a_whiteout_of_the_directory_hides_the_file(base: Path) -> None:
    (base / "upper" / "etc").rmdir()
    os.mknod(base / "upper" / "etc", stat.S_IFCHR, os.makedev(0, 0))
    assert read(base) == ""


def test_an_opaque_directory_hides_what_is_below_it(base: Path) -> None:
    assert read(base) == "lower"
    os.setxattr(base / "upper" / "etc", "trusted.overlay.opaque", b"y")
    assert read(base) == ""
    (base / "upper" / "etc" / "passwd").write_text("upper")
    assert read(base) == "upper"
