"""A data root on a file system that can't serve: the engine says so at its start, not when a container wants to run."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.storage import Storage, with_storage
from support.user_namespace import attach, in_user_namespace, namespace_directory

from kitepy.engine.kernel import mounts, syscalls
from kitepy.engine.model.errors import SystemFailure
from kitepy.engine.model.launch import OverlayFlavour
from kitepy.engine.storage.probe import check_file_system, choose_flavour


@pytest.fixture
def place() -> Iterator[Path]:
    with namespace_directory() as path:
        yield path


def refused(place: Path, kind: str, options: list[tuple[str, str | None]], attributes: int = 0) -> str:
    def cover() -> None:
        attach(mounts.new_filesystem(kind, kind, options, attributes), str(place))
        if not attributes:
            os.chmod(place, 0o777)

    with pytest.raises(SystemFailure) as caught:
        in_user_namespace(check_file_system, place, OverlayFlavour.USER, prepare=cover)
    assert str(place) in str(caught.value)
    return str(caught.value)


def test_a_full_disk_is_told(place: Path) -> None:
    assert "can't be written: no space left on device; make room there" in refused(place, "tmpfs", [("size", "512k")])


def test_a_read_only_disk_is_told(place: Path) -> None:
    message = refused(place, "tmpfs", [], mounts.ATTR_RDONLY)
    assert "can't be written: read-only file system; choose a directory on a local disk" in message


def test_a_file_system_without_attributes_is_told(place: Path) -> None:
    message = refused(place, "ramfs", [])
    assert "can't keep the attribute user.overlay.opaque, which layers need: operation not supported" in message
    assert "--data-root" in message


def test_nothing_is_left_of_the_check(place: Path) -> None:
    in_user_namespace(check_file_system, place, OverlayFlavour.USER)
    assert list((place / "tmp").iterdir()) == []


def test_a_local_disk_gets_the_kernels_overlays(place: Path) -> None:
    async def story(storage: Storage) -> tuple[OverlayFlavour, str]:
        return await choose_flavour(storage.root, storage.workers)

    assert in_user_namespace(with_storage, place, story, None, OverlayFlavour.USER) == (OverlayFlavour.USER, "")
    assert list((place / "tmp").iterdir()) == []


def test_no_way_to_join_layers_names_both_reasons(place: Path) -> None:
    """On an overlay, and without /dev/fuse."""

    def cover() -> None:
        for name in ("lower", "upper", "work", "root"):
            (place / name).mkdir()
            os.chown(place / name, place.stat().st_uid, place.stat().st_gid)
        options = f"lowerdir={place}/lower,upperdir={place}/upper,workdir={place}/work"
        mounts.mount_overlay(str(place / "root"), options)
        if os.path.exists("/dev/fuse"):
            closed = place / "closed"
            closed.touch(mode=0o600)
            attach(mounts.clone_tree(syscalls.AT_FDCWD, str(closed)), "/dev/fuse")

    async def story(storage: Storage) -> None:
        await choose_flavour(storage.root, storage.workers)

    with pytest.raises(SystemFailure) as caught:
        in_user_namespace(with_storage, place / "root", story, None, OverlayFlavour.USER, prepare=cover)
    message = str(caught.value)
    assert "lets no ordinary user mount an overlay" in message
    assert "no such file or directory" in message or "permission denied" in message
    assert "sudo apt install fuse-overlayfs" in message


def test_an_engine_on_a_full_disk_ends_with_one_line_that_says_so(tmp_path: Path) -> None:
    script = (
        'mount -t tmpfs -o size=2m t "$1" && head -c 3000000 /dev/zero > "$1/filler"; '
        'exec "$2" -m kitepy.engine -H unix://"$1/s" --data-root "$1/data" --exec-root "$1/exec" --pidfile "$1/pid"'
    )
    repository = Path(__file__).parents[2]

    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", str(tmp_path), sys.executable],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=repository,
    )
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "space" in last or "full" in last, done.stderr
    assert "Traceback" not in done.stderr
