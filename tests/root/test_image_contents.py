"""Looking into layers: what overlay would show, what each layer changes, what is wasted; with all ways of joining layers."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
import tarfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import pytest
from support.storage import Storage, docker_archive, entry, load, make_tar, with_storage
from support.user_namespace import in_user_namespace, namespace_directory

from kitepy.engine.model.errors import InvalidParameter, NotFound
from kitepy.engine.model.launch import OverlayFlavour
from kitepy.engine.services.image_contents import ImageContents

Result = TypeVar("Result")
DIR, LINK, SYMLINK = tarfile.DIRTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE
BAD_NAME = "bad\udcff"


@pytest.fixture(params=list(OverlayFlavour), ids=lambda flavour: flavour.value)
def run(request: pytest.FixtureRequest) -> Iterator[Callable[[Callable[[Storage, ImageContents], Awaitable[Any]]], Any]]:
    flavour: OverlayFlavour = request.param

    def runs(story: Callable[[Storage, ImageContents], Awaitable[Any]]) -> Any:
        async def told(storage: Storage) -> Any:
            return await story(storage, ImageContents(storage.root, storage.image_store, storage.layers, storage.workers))

        if flavour is OverlayFlavour.TRUSTED:
            return with_storage(place, told)
        return in_user_namespace(with_storage, place, told, None, flavour)

    with namespace_directory() as place:
        if flavour is OverlayFlavour.TRUSTED:
            os.chown(place, 0, 0)
        yield runs


def image(*layers: bytes, **more: Any) -> bytes:
    return docker_archive(layers, "team/app:1", **more)


BASE = make_tar(
    entry("etc", DIR),
    (entry("etc/passwd"), b"root"),
    (entry("etc/shadow"), b"12345678"),
    entry("opt", DIR),
    (entry("opt/a"), b"aa"),
    entry("opt/sub", DIR),
    (entry("opt/sub/b"), b"bbb"),
    entry("same", DIR),
    (entry("same/kept"), b"k"),
    entry("var", DIR),
    (entry("var/big"), b"x" * 1000),
    entry("var/cache", DIR),
    (entry("var/cache/one"), b"1" * 100),
    (entry("var/cache/two"), b"2" * 100),
    (entry("twice"), b"t" * 50),
    entry("twice2", LINK, "twice"),
    entry("out", SYMLINK, "/etc"),
    (entry(BAD_NAME), b"?"),
)
SECOND = make_tar(
    entry("etc", DIR),
    (entry("etc/passwd"), b"root, more"),
    (entry("etc/.wh.shadow"), b""),
    (entry("etc/new"), b"n"),
    entry("same", DIR),
    (entry("same/more"), b"m"),
    entry("var", DIR, mode=0o700),
    (entry("var/.wh.cache"), b""),
    (entry(".wh.twice"), b""),
    (entry(".wh.never-there"), b""),
)
THIRD = make_tar(
    entry("opt", DIR),
    (entry("opt/.wh..wh..opq"), b""),
    (entry("opt/c"), b"c"),
    (entry("var"), b"a file now"),
)


def told(listing: dict[str, Any]) -> list[tuple[str, str, int]]:
    return [(entry["Name"], entry["Change"], entry["Layer"]) for entry in listing["Entries"]]


async def directories_are_listed(contents: ImageContents) -> None:
    async def files(path: str, layer: int | None = None, own: bool = False) -> list[tuple[str, str, int]]:
        return told(await contents.files("team/app:1", path, layer=layer, own=own))

    assert await files("/") == [
        ("etc", "none", 1),
        ("opt", "changed", 2),
        ("same", "none", 1),
        ("bad\ufffd", "none", 0),
        ("out", "none", 0),
        ("twice2", "none", 0),
        ("var", "changed", 2),
    ]
    assert await files("/", 1, own=True) == [
        ("etc", "none", 1),
        ("same", "none", 1),
        ("var", "changed", 1),
        ("twice", "removed", 0),
    ]
    assert await files("/etc", 1) == [("new", "added", 1), ("passwd", "changed", 1), ("shadow", "removed", 0)]
    assert await files("etc/") == [("new", "none", 1), ("passwd", "none", 1)]
    assert await files("/etc", 0) == [("passwd", "added", 0), ("shadow", "added", 0)]
    assert await files("/same", 2) == [("kept", "none", 0), ("more", "none", 1)]
    assert await files("/same", 1, own=True) == [("more", "added", 1)]
    assert await files("/opt", 2) == [("sub", "removed", 0), ("a", "removed", 0), ("c", "added", 2)]
    assert await files("/var", 1) == [("cache", "removed", 0), ("big", "none", 0)]
    shadow = (await contents.files("team/app:1", "/etc", layer=1))["Entries"][2]
    assert (shadow["Size"], shadow["Type"], shadow["Mode"]) == (8, "file", 0o644)
    link = (await contents.files("team/app:1", "/", limit=5))["Entries"][4]
    assert link["LinkTarget"] == "/etc"


async def what_is_no_directory_is_refused(contents: ImageContents) -> None:
    async def fails(kind: type[Exception], path: str, **options: Any) -> str:
        with pytest.raises(kind) as raised:
            await contents.files("team/app:1", path, **options)
        return str(raised.value)

    assert await fails(NotFound, "/no") == "Could not find the file /no in image team/app:1"
    assert "layer 2 of image team/app:1" in await fails(NotFound, "/etc", layer=2, own=True)
    await fails(NotFound, "/var/cache", layer=1)
    await fails(NotFound, "/opt/sub")
    await fails(InvalidParameter, "/var")
    await fails(InvalidParameter, "/out")  # a link leads nowhere, not even within the image
    await fails(InvalidParameter, "/out/passwd")
    await fails(NotFound, "/../../../proc/self")
    await fails(InvalidParameter, "/" + "x" * 300)
    await fails(InvalidParameter, "/a\0b")
    await fails(NotFound, "/", layer=3)
    await fails(NotFound, "/", layer=-1)
    for limit in (0, 10_001):
        await fails(InvalidParameter, "/", limit=limit)
    for after in ("x", "f", "f!", "dé"):
        await fails(InvalidParameter, "/", after=after)


async def pages_join_to_the_whole(storage: Storage, contents: ImageContents) -> None:
    many = make_tar(*(entry(f"f\udcff{number:03}") for number in range(50)), *(entry(f"d{n}", DIR) for n in range(5)))
    await load(storage, image(BASE, many))
    whole = (await contents.files("team/app:1", "/"))["Entries"]
    assert len(whole) == 63
    pages, after = [], ""
    while True:
        page = await contents.files("team/app:1", "/", after=after, limit=9)
        assert len(page["Entries"]) <= 9
        pages += page["Entries"]
        after = page["Next"]
        if not after:
            break
    assert pages == whole


async def wasted_space_is_what_later_layers_hide(contents: ImageContents) -> None:
    answer = await contents.layers("team/app:1", usage=True)
    counts = [(each["Files"], each["Added"], each["Changed"], each["Removed"], each["WastedBytes"]) for each in answer["Layers"]]
    # passwd 4, shadow 8, opt 2 + 3, cache 200, big 1000; of "twice" the other name is still there
    assert counts == [(12, 12, 0, 0, 1217), (3, 2, 1, 3, 0), (2, 1, 1, 0, 0)]
    usage = answer["Usage"]
    assert (usage["WastedBytes"], usage["Incomplete"]) == (1217, False)
    keys = ("Path", "Size", "Files", "Layer", "HiddenBy", "Change")
    worst = [tuple(each[key] for key in keys) for each in usage["Worst"]]
    assert worst == [
        ("/var", 1000, 1, 0, 2, "changed"),
        ("/var/cache", 200, 2, 0, 1, "removed"),
        ("/etc/shadow", 8, 1, 0, 1, "removed"),
        ("/opt", 5, 2, 0, 2, "changed"),
        ("/etc/passwd", 4, 1, 0, 1, "changed"),
    ]
    assert {each["Path"]: each["Type"] for each in usage["Worst"]}["/var"] == "directory"
    # It is kept, and asking without it costs nothing.
    assert await contents.layers("team/app:1", usage=True) == answer
    assert (await contents.layers("team/app:1"))["Usage"] is None


def test_layers_are_looked_into_as_overlay_shows_them(run: Any) -> None:
    async def story(storage: Storage, contents: ImageContents) -> None:
        await load(storage, image(BASE, SECOND, THIRD))
        await directories_are_listed(contents)
        await what_is_no_directory_is_refused(contents)
        await wasted_space_is_what_later_layers_hide(contents)
        await pages_join_to_the_whole(storage, contents)

    run(story)


def test_steps_are_told_with_the_layers_they_made(tmp_path: Path) -> None:
    async def story(storage: Storage) -> None:
        contents = ImageContents(storage.root, storage.image_store, storage.layers, storage.workers)
        history = [
            {"created": "2024-01-01T00:00:00Z", "created_by": "ADD rootfs"},
            {"created_by": "ENV A=1", "empty_layer": True, "comment": "c"},
        ]
        await load(storage, image(BASE, SECOND, history=history))
        await load(storage, docker_archive([BASE], "other:1"))
        answer = await contents.layers("team/app:1")
        assert [(step["CreatedBy"], step["Layer"]) for step in answer["History"]] == [
            ("ADD rootfs", 0),
            ("ENV A=1", None),
            ("", 1),
        ]
        assert answer["History"][0]["Created"] == "2024-01-01T00:00:00Z"
        assert [layer["Images"] for layer in answer["Layers"]] == [2, 1]
        assert answer["Size"] == sum(layer["Size"] for layer in answer["Layers"])
        await load(
            storage, docker_archive([], "empty:1", history=[{"created_by": f"ENV A={n}", "empty_layer": True} for n in range(3)])
        )
        empty = await contents.layers("empty:1", usage=True)
        assert (empty["Layers"], empty["Usage"]["WastedBytes"]) == ([], 0)
        assert [step["Layer"] for step in empty["History"]] == [None] * 3
        with pytest.raises(NotFound):
            await contents.files("empty:1", "/")
        with pytest.raises(NotFound):
            await contents.layers("missing:1")

    with_storage(tmp_path, story)


def test_a_deep_tree_and_many_layers_stay_within_what_a_process_may_open(tmp_path: Path) -> None:
    async def story(storage: Storage) -> None:
        contents = ImageContents(storage.root, storage.image_store, storage.layers, storage.workers)
        deep = "/".join(["d" * 20] * 150)
        layers = [make_tar((entry(f"{deep}/f"), bytes([number]) * 10)) for number in range(60)]
        await load(storage, image(*layers))
        answer = await asyncio.wait_for(contents.layers("team/app:1", usage=True), 30)
        assert answer["Usage"]["WastedBytes"] == 59 * 10
        assert not answer["Usage"]["Incomplete"]
        assert told(await contents.files("team/app:1", f"/{deep}")) == [("f", "changed", 59)]
        assert told(await contents.files("team/app:1", f"/{deep}", layer=0)) == [("f", "added", 0)]

    with_storage(tmp_path, story)


def random_layer(random: Random) -> bytes:
    """Files, folders, whiteouts and opaque folders with few names, so that layers meet in them."""
    members: list[Any] = []
    folders: set[str] = set()
    taken: set[str] = set()
    for _ in range(random.randint(1, 8)):
        path = "/".join(random.choice("abc") for _ in range(random.randint(1, 3)))
        above = [path[:index] for index, letter in enumerate(path) if letter == "/"]
        if path in taken or any(folder in taken for folder in above):
            continue
        kind = random.random()
        if kind < 0.35:
            members.append(entry(path, DIR))
            folders.add(path)
        elif kind < 0.5:
            members.append((entry(f"{path}/.wh..wh..opq"), b""))
            folders.add(path)
        elif path not in folders:
            folder, _, name = path.rpartition("/")
            gone = entry(f"{folder}/.wh.{name}".lstrip("/"))
            members.append((gone, b"") if kind < 0.7 else (entry(path), bytes(random.randint(1, 9))))
            taken.add(path)
        folders.update(above)
    return make_tar(*members, entry("z", DIR))


def seen_in(root: Path) -> dict[str, int]:
    """Bytes of files, and -1 for folders, by path. Overlay's listings may tell names that it then doesn't find."""
    return {
        str(path.relative_to(root)): -1 if path.is_dir() else path.lstat().st_size
        for path in root.rglob("*")
        if os.path.lexists(path) and not stat.S_ISCHR(path.lstat().st_mode)
    }


def test_random_layers_look_as_the_kernel_joins_them_and_waste_what_it_hides(tmp_path: Path) -> None:
    async def seen_by(contents: ImageContents, layer: int) -> dict[str, int]:
        found: dict[str, int] = {}
        folders = [""]
        while folders:
            folder = folders.pop()
            for each in (await contents.files("t:1", f"/{folder}", layer=layer))["Entries"]:
                if each["Change"] != "removed":
                    path = f"{folder}/{each['Name']}".lstrip("/")
                    found[path] = -1 if each["Type"] == "directory" else each["Size"]
                    folders += [path] if each["Type"] == "directory" else []
        return found

    async def story(storage: Storage) -> None:
        contents = ImageContents(storage.root, storage.image_store, storage.layers, storage.workers)
        joined = tmp_path / "joined"
        joined.mkdir()
        for seed in range(6):
            random = Random(seed)  # noqa: S311 - no secret
            await load(storage, docker_archive([random_layer(random) for _ in range(random.randint(2, 4))], "t:1"))
            stack = storage.layers.stack(storage.image_store.resolve("t:1").top_layer)
            directories = [storage.root / layer.directory for layer in stack]
            for number in range(1, len(stack)):
                lower = ":".join(map(str, reversed(directories[: number + 1])))
                subprocess.run(["mount", "-t", "overlay", "overlay", "-o", f"lowerdir={lower}", joined], check=True)
                try:
                    seen = seen_in(joined)
                finally:
                    subprocess.run(["umount", joined], check=True)
                assert await seen_by(contents, number) == seen, seed
            stored = sum(size for directory in directories for size in seen_in(directory).values() if size > 0)
            visible = sum(size for size in seen.values() if size > 0)
            usage = (await contents.layers("t:1", usage=True))["Usage"]
            assert usage["WastedBytes"] == stored - visible, seed
            assert sum(each["Size"] for each in usage["Worst"]) == stored - visible, seed

    with_storage(tmp_path / "root", story)
