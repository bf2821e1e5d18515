"""Paths that turn into links to the host while the engine walks them: the host's files are neither read nor changed."""

from __future__ import annotations

import asyncio
import io
import os
import stat
import tarfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.swapping import swapped

from kitepy.engine.builder.patterns import IgnoreRules
from kitepy.engine.builder.selection import choose, open_chosen, walk
from kitepy.engine.kernel.paths import open_in_root, open_or_create
from kitepy.engine.model.errors import EngineError
from kitepy.engine.model.launch import OverlayFlavour, OverlayRoot
from kitepy.engine.services.root_files import read_root_file
from kitepy.engine.storage.worker import WorkerPool

ROUNDS = 3000
JOBS = 25
SECRET = "the host's"  # noqa: S105 - only a text


@pytest.fixture(name="trap")
def _trap(tmp_path: Path) -> Iterator[Path]:
    """A directory of the host; whatever a test does, it has to be as it was."""
    trap = tmp_path / "host"
    (trap / "deep").mkdir(parents=True)
    for name in ("secret", "passwd", "deep/secret"):
        (trap / name).write_text(SECRET)
    yield trap
    assert sorted(str(path.relative_to(trap)) for path in trap.rglob("*")) == ["deep", "deep/secret", "passwd", "secret"]
    assert {(trap / name).read_text() for name in ("secret", "passwd", "deep/secret")} == {SECRET}
    assert {path.stat().st_uid for path in trap.rglob("*")} == {0}


@pytest.fixture(name="root")
def _root(tmp_path: Path, trap: Path) -> Path:
    return make_tree(tmp_path / "root", trap)


def make_tree(root: Path, trap: Path, text: str = "own") -> Path:
    """A tree with a directory ``d`` and, for changing places with it, a link ``l`` to the trap."""
    (root / "d" / "deep").mkdir(parents=True)
    for name in ("secret", "passwd", "deep/secret"):
        (root / "d" / name).write_text(text)
    (root / "l").symlink_to(trap)
    return root


def outcomes(attempt: Callable[[], str], rounds: int = ROUNDS) -> Counter[str]:
    """How often an attempt gave what; a refusal counts as such."""
    seen: Counter[str] = Counter()
    for _ in range(rounds):
        try:
            seen[attempt()] += 1
        except (OSError, EngineError) as error:
            seen[f"refused: {type(error).__name__}"] += 1
    return seen


def both_states_were_met(seen: Counter[str]) -> bool:
    """A race in which only one side was ever seen proves nothing."""
    return len(seen) >= 2


def place_of(fd: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


# --- paths in a container's root --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("climbs", [False, True], ids=["absolute", "climbing"])
@pytest.mark.parametrize("path", ["d/made/below", "d/../d/made"])
def test_a_mount_target_or_working_directory_is_made_inside(root: Path, trap: Path, path: str, climbs: bool) -> None:
    if climbs:
        (root / "l").unlink()
        (root / "l").symlink_to("../" * 20 + str(trap).lstrip("/"))
    root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY)
    try:
        with swapped(root / "d", root / "l"):
            seen = outcomes(lambda: place_of(open_or_create(root_fd, path, directory=True)))
    finally:
        os.close(root_fd)
    places = [place for place in seen if not place.startswith("refused")]
    assert places
    assert all(place.startswith(f"{root}/") for place in places), seen
    assert both_states_were_met(seen), seen


def test_where_no_link_may_be_none_is_followed(root: Path) -> None:
    """As for /dev/console and the nodes of devices."""
    root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY)
    try:
        with swapped(root / "d", root / "l"):
            seen = outcomes(lambda: place_of(open_or_create(root_fd, "d/console", directory=False, follow=False)))
    finally:
        os.close(root_fd)
    assert {place for place in seen if not place.startswith("refused")} <= {f"{root}/d/console", f"{root}/l/console"}
    assert both_states_were_met(seen), seen
    assert not (root / "d" / "console").is_symlink()


@pytest.mark.parametrize("name", ["d/secret", "d/deep/secret", "d/../d/secret"])
def test_a_file_is_read_inside(root: Path, name: str) -> None:
    def read() -> str:
        with os.fdopen(open_in_root(root_fd, name, os.O_RDONLY)) as stream:
            return stream.read()

    root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY)
    try:
        with swapped(root / "d", root / "l"):
            seen = outcomes(read)
    finally:
        os.close(root_fd)
    assert SECRET not in seen
    assert seen["own"] > 0
    assert both_states_were_met(seen), seen


def test_accounts_are_read_inside(root: Path) -> None:
    where = OverlayRoot(root.parent, (), root.name, "work")
    with swapped(root / "d", root / "l"):
        seen = outcomes(lambda: read_root_file(where, "d/passwd"))
    assert set(seen) == {"own", ""}, seen


def test_an_account_file_is_read_inside(root: Path, trap: Path) -> None:
    where = OverlayRoot(root.parent, (), root.name, "work")
    link = root / "d" / "link"
    link.symlink_to(trap / "passwd")
    with swapped(root / "d" / "passwd", link):
        seen = outcomes(lambda: read_root_file(where, "d/passwd"))
    assert set(seen) == {"own", ""}, seen


# --- what a build copies ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["d", "d/secret", "d/*", "*/secret", "."])
def test_a_copy_in_a_build_takes_nothing_of_the_host(root: Path, source: str) -> None:
    rules = IgnoreRules([])
    root_fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)

    def contents(chosen_fd: int) -> Iterator[bytes]:
        if not os.path.isdir(f"/proc/self/fd/{chosen_fd}"):
            yield os.pread(chosen_fd, 100, 0)
            return
        for item in walk(chosen_fd, rules):
            if stat.S_ISREG(item.status.st_mode):
                fd = os.open(item.name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=item.directory_fd)
                yield os.pread(fd, 100, 0)
                os.close(fd)

    def copy() -> str:
        found = set()
        for one in choose(root_fd, [source], rules, parents=False, origin=""):
            fd = open_chosen(root_fd, one)
            try:
                found |= set(contents(fd))
            finally:
                os.close(fd)
        return b",".join(sorted(found)).decode()

    try:
        with swapped(root / "d", root / "l"):
            seen = outcomes(copy, ROUNDS // 3)
    finally:
        os.close(root_fd)
    assert not any(SECRET in text for text in seen), seen
    assert any("own" in text for text in seen), seen


# --- jobs that write --------------------------------------------------------------------------------------------------------


def run_jobs(job: Callable[[WorkerPool, int], Any], count: int = JOBS) -> Counter[str]:
    """Run a job again and again; gives how often it worked and how it was refused."""

    async def main() -> Counter[str]:
        pool = WorkerPool(parallel=1)
        seen: Counter[str] = Counter()
        try:
            async with asyncio.timeout(60):
                for number in range(count):
                    try:
                        await job(pool, number)
                        seen["worked"] += 1
                    except EngineError as error:
                        seen[str(error)] += 1
        finally:
            await pool.close()
        return seen

    return asyncio.run(main())


def is_in_link(path: Path) -> bool:
    """Whether the path itself or a directory on its way is a symbolic link."""
    return any(part.is_symlink() for part in (path, *path.parents))


def archive(names: list[str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as packed:
        for name in names:
            entry = tarfile.TarInfo(name.rstrip("/"))
            entry.uid = entry.gid = 1
            if name.endswith("/"):
                entry.type, entry.mode = tarfile.DIRTYPE, 0o777
                packed.addfile(entry)
            else:
                entry.size = 5
                packed.addfile(entry, io.BytesIO(b"image"))
    return buffer.getvalue()


def texts_in(trees: Iterable[Path]) -> set[str]:
    return {path.read_text() for tree in trees for path in tree.rglob("*") if path.is_file() and not is_in_link(path)}


def test_a_layer_is_unpacked_inside_although_its_tree_changes_meanwhile(trap: Path, tmp_path: Path) -> None:
    packed = tmp_path / "layer.tar"
    packed.write_bytes(archive([f"d/{name}" for name in ("secret", "passwd", "deep/", "deep/secret") * 20]))

    async def unpack(pool: WorkerPool, number: int) -> None:
        root = make_tree(tmp_path / f"root{number}", trap)
        fd = os.open(packed, os.O_RDONLY)
        with swapped(root / "d", root / "l"):
            params = {"root": str(root), "flavour": OverlayFlavour.TRUSTED.value}
            await pool.run("kitepy.engine.storage.jobs:unpack_layer", params, [fd])

    seen = run_jobs(unpack)
    assert seen.total() == JOBS
    assert "image" in texts_in(tmp_path.glob("root*")), seen


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_build_s_copy_stays_inside_on_either_side(trap: Path, tmp_path: Path, side: str) -> None:
    (tmp_path / "lower").mkdir()

    async def copy(pool: WorkerPool, number: int) -> None:
        source = make_tree(tmp_path / f"source{number}", trap, "source")
        upper = make_tree(tmp_path / f"upper{number}", trap, "upper")
        raced = source if side == "source" else upper
        for name in ("work", "scratch"):
            (tmp_path / f"{name}{number}").mkdir()
        params = {
            "groups": [{"tree": {"path": str(source)}, "sources": ["d"], "origin": "", "unpack": False}],
            **{"excludes": [], "parents": False, "owners": False, "destination": "/d/", "workdir": "/"},
            **{"chown": "1:1", "chmod": "", "scratch": str(tmp_path / f"scratch{number}")},
            "target": {
                **{"base": str(tmp_path), "lower": ["lower"], "upper": upper.name, "work": f"work{number}"},
                "flavour": OverlayFlavour.TRUSTED.value,
            },
        }
        with swapped(raced / "d", raced / "l"):
            await pool.run("kitepy.engine.builder.copying:apply", params)

    seen = run_jobs(copy)
    assert seen.total() == JOBS
    texts = texts_in(tmp_path.glob("upper*"))
    assert texts <= {"source", "upper"}
    assert "source" in texts, seen


@pytest.mark.parametrize("side", ["image", "volume"])
def test_a_volume_is_filled_from_the_image_only(trap: Path, tmp_path: Path, side: str) -> None:
    (tmp_path / "tmp").mkdir()

    async def fill(pool: WorkerPool, number: int) -> None:
        image = make_tree(tmp_path / f"image{number}", trap, "image")
        volume = tmp_path / f"volume{number}"
        volume.mkdir()
        raced = image
        if side == "volume":  # a part of it is to be filled, and what has its name may be a link
            raced = volume
            (volume / "d").mkdir()
            (volume / "l").symlink_to(trap)
        params = {"base": str(tmp_path), "lower": [image.name], "path": "/d", "volume": str(volume)}
        params |= {"part": "d" if side == "volume" else "", "flavour": OverlayFlavour.TRUSTED.value}
        with swapped(raced / "d", raced / "l"):
            await pool.run("kitepy.engine.storage.copy_up:populate_volume", params)

    seen = run_jobs(fill)
    assert seen.total() == JOBS
    assert texts_in(tmp_path.glob("volume*")) == {"image"}, seen
