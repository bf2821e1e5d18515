"""Paths beneath a hostile root."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from kitepy.engine.kernel.paths import open_in_root, open_or_create


@pytest.fixture
def root(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    """A directory that serves as root, and its descriptor."""
    directory = tmp_path / "root"
    directory.mkdir()
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY)
    yield directory, fd
    os.close(fd)


def _where(fd: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


def test_missing_directories_and_files_are_made(root: tuple[Path, int]) -> None:
    directory, fd = root
    assert _where(open_or_create(fd, "/a/b/c", directory=True)) == f"{directory}/a/b/c"
    assert _where(open_or_create(fd, "/a/file", directory=False)) == f"{directory}/a/file"
    assert (directory / "a" / "file").is_file()


@pytest.mark.parametrize("link", ["/target", "../../../target", "target", "/x/../target"])
def test_links_lead_to_places_inside_only(root: tuple[Path, int], link: str) -> None:
    directory, fd = root
    (directory / "x").mkdir()
    (directory / "link").symlink_to(link)
    assert _where(open_or_create(fd, "/link/made", directory=True)) == f"{directory}/target/made"
    assert _where(open_or_create(fd, "/link", directory=True)) == f"{directory}/target"


def test_a_loop_of_links_is_an_error(root: tuple[Path, int]) -> None:
    directory, fd = root
    (directory / "a").symlink_to("b")
    (directory / "b").symlink_to("a")
    with pytest.raises(OSError, match="symbolic links"):
        open_or_create(fd, "/a/x", directory=True)


def test_links_can_be_refused(root: tuple[Path, int]) -> None:
    directory, fd = root
    (directory / "real").mkdir()
    (directory / "link").symlink_to("real")
    (directory / "dangling").symlink_to("nowhere")
    for path in ("/link", "/link/x", "/dangling"):
        with pytest.raises(OSError, match=r"symbolic link|File exists"):
            open_or_create(fd, path, directory=True, follow=False)


def test_magic_links_are_never_followed() -> None:
    proc_fd = os.open("/proc", os.O_PATH | os.O_DIRECTORY)
    with pytest.raises(OSError, match="symbolic links"):
        open_in_root(proc_fd, "/self/root/etc")
    os.close(proc_fd)
