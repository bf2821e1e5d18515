"""Reading small files of a root file system that isn't mounted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kitepy.engine.model.launch import OverlayRoot
from kitepy.engine.services.root_files import read_root_file


class Root:
    """Layers as plain directories, topmost first."""

    def __init__(self, base: Path) -> None:
        self.base = base
        for name in ("upper", "top", "bottom"):
            (base / name).mkdir()

    def write(self, layer: str, path: str, text: str) -> Path:
        file = self.base / layer / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def read(self, path: str = "etc/passwd") -> str:
        return read_root_file(OverlayRoot(self.base, ("top", "bottom"), "upper", "work"), path)


@pytest.fixture(name="root")
def _root(tmp_path: Path) -> Root:
    return Root(tmp_path)


def test_the_topmost_file_is_read(root: Root) -> None:
    assert root.read() == ""
    root.write("bottom", "etc/passwd", "bottom")
    assert root.read("/etc/passwd") == "bottom"
    root.write("top", "etc/passwd", "top")
    assert root.read() == "top"
    root.write("upper", "etc/passwd", "upper")
    assert root.read() == "upper"


def test_a_root_without_a_writable_layer_or_with_a_missing_one_is_read(root: Root) -> None:
    root.write("bottom", "etc/passwd", "bottom")
    assert read_root_file(OverlayRoot(root.base, ("top", "bottom")), "etc/passwd") == "bottom"
    assert read_root_file(OverlayRoot(root.base, ("gone", "bottom")), "etc/passwd") == "bottom"


@pytest.mark.parametrize("at", ["etc", "etc/passwd"])
def test_a_link_is_never_followed(root: Root, tmp_path: Path, at: str) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "passwd").write_text("the host's")
    root.write("bottom", "etc/passwd", "bottom")
    link = root.base / "top" / at
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(secret if at == "etc" else secret / "passwd")
    assert root.read() == ""


@pytest.mark.parametrize("text", ["../../../../etc/passwd", "/etc/passwd"])
def test_a_link_out_of_the_layer_is_never_followed(root: Root, text: str) -> None:
    (root.base / "top" / "etc").mkdir()
    (root.base / "top" / "etc" / "passwd").symlink_to(text)
    assert root.read() == ""


def test_a_pipe_neither_blocks_nor_counts(root: Root) -> None:
    root.write("bottom", "etc/passwd", "bottom")
    (root.base / "top" / "etc").mkdir()
    os.mkfifo(root.base / "top" / "etc" / "passwd")
    assert root.read() == ""


def test_a_directory_in_the_files_place_is_no_file(root: Root) -> None:
    root.write("bottom", "etc/passwd", "bottom")
    (root.base / "top" / "etc" / "passwd").mkdir(parents=True)
    assert root.read() == ""


def test_a_file_in_the_directorys_place_hides_what_is_below(root: Root) -> None:
    root.write("bottom", "etc/passwd", "bottom")
    root.write("top", "etc", "a file")
    assert root.read() == ""


def test_text_that_is_no_utf8_is_read_all_the_same(root: Root) -> None:
    root.write("top", "etc/passwd", "").write_bytes(b"a\xffb")
    assert root.read() == "a\N{REPLACEMENT CHARACTER}b"


def test_a_huge_file_is_read_in_part(root: Root) -> None:
    file = root.write("top", "etc/passwd", "")
    os.truncate(file, 1 << 40)
    assert len(root.read()) == 4 * 1024 * 1024
