"""Volumes: names, use, pruning, and being filled from an image once."""

from __future__ import annotations

import os
import stat
import tarfile
from pathlib import Path

import pytest
from support.storage import Storage, docker_archive, entry, load, make_tar, with_storage

from kitepy.engine.model.errors import Conflict, InvalidParameter, NotFound, SystemFailure
from kitepy.engine.model.filters import Filters
from kitepy.engine.model.launch import OverlayRoot
from kitepy.engine.reset import main
from kitepy.engine.services.volumes import ANONYMOUS_LABEL, VolumeService

DIR, SYM = tarfile.DIRTYPE, tarfile.SYMTYPE


@pytest.fixture
def data_root(tmp_path: Path) -> Path:
    path = tmp_path / "root"
    path.mkdir()
    return path


def test_a_volume_is_created_once_and_described(data_root: Path) -> None:
    async def story(storage: Storage) -> None:
        made = await storage.volumes.create("data", "", {}, {"a": "b"})
        assert made["Name"] == "data"
        assert made["Driver"] == "local"
        assert made["Mountpoint"] == str(data_root / "volumes/data/_data")
        assert made["Labels"] == {"a": "b"}
        assert await storage.volumes.create("data", "local", {}, {"other": "x"}) == made == await storage.volumes.inspect("data")
        assert stat.S_IMODE(os.stat(made["Mountpoint"]).st_mode) == 0o755
        assert storage.events == [("volume", "create", "data")]

    with_storage(data_root, story)


@pytest.mark.parametrize("name", ["../x", "a/b", ".hidden", "a b", "-x", "a" * 256, "ü1"])
def test_a_name_that_can_not_be_a_directory_is_refused(data_root: Path, name: str) -> None:
    async def story(storage: Storage) -> None:
        with pytest.raises(InvalidParameter, match="includes invalid characters for a local volume name"):
            await storage.volumes.create(name, "", {}, {})
        with pytest.raises(InvalidParameter, match="too short"):
            await storage.volumes.create("a", "", {}, {})
        with pytest.raises(NotFound, match='plugin "nfs" not found'):
            await storage.volumes.create("ok", "nfs", {}, {})

    with_storage(data_root, story)


def test_an_anonymous_volume_has_an_id_for_a_name_and_a_label(data_root: Path) -> None:
    async def story(storage: Storage) -> None:
        name = await storage.volumes.create_anonymous()
        assert len(name) == 64
        assert (await storage.volumes.inspect(name))["Labels"] == {ANONYMOUS_LABEL: ""}

    with_storage(data_root, story)


def test_a_volume_in_use_is_not_removed(data_root: Path) -> None:
    async def story(storage: Storage) -> None:
        await storage.volumes.ensure("data")
        storage.mounted["data"] = ["c1", "c2"]
        with pytest.raises(Conflict, match=r"remove data: volume is in use - \[c1, c2\]"):
            await storage.volumes.remove("data", force=True)
        await storage.volumes.remove_if_unused("data")
        storage.mounted.clear()
        await storage.volumes.remove("data")
        with pytest.raises(NotFound, match="get data: no such volume"):
            await storage.volumes.remove("data")
        await storage.volumes.remove("data", force=True)
        assert list((data_root / "volumes").iterdir()) == []

    with_storage(data_root, story)


def test_list_and_prune_filters(data_root: Path) -> None:
    async def story(storage: Storage) -> None:
        anonymous = await storage.volumes.create_anonymous()
        await storage.volumes.create("named", "", {}, {"keep": "1"})
        await storage.volumes.create("used", "", {}, {})
        storage.mounted["used"] = ["c"]
        (storage.volumes.path(anonymous) / "f").write_bytes(b"12345")

        async def names(**filters: str) -> set[str]:
            listed = await storage.volumes.list(Filters({key: (value,) for key, value in filters.items()}))
            return {volume["Name"] for volume in listed["Volumes"]}

        assert await names() == {anonymous, "named", "used"}
        assert await names(dangling="true") == {anonymous, "named"}
        assert await names(dangling="false") == {"used"}
        assert await names(label="keep=1") == {"named"}
        assert await names(name="nam") == {"named"}
        assert await names(driver="nfs") == set()
        assert await storage.volumes.prune() == {"VolumesDeleted": [anonymous], "SpaceReclaimed": 5}
        report = await storage.volumes.prune(Filters({"all": ("true",), "label!": ("keep",)}))
        assert report["VolumesDeleted"] == []
        assert (await storage.volumes.prune(Filters({"all": ("true",)})))["VolumesDeleted"] == ["named"]

    with_storage(data_root, story)


async def image_root(storage: Storage, *members: tuple[tarfile.TarInfo, bytes] | tarfile.TarInfo) -> OverlayRoot:
    """A container's root over two layers."""
    await load(storage, docker_archive([make_tar(*members), make_tar((entry("etc/top"), b"t"))], "img:1"))
    return storage.overlays.create_for_container("c1", storage.images.resolve("img:1").top_layer)


def test_an_empty_volume_is_filled_once_with_owner_and_mode(data_root: Path) -> None:
    async def story(storage: Storage) -> None:
        root = await image_root(
            storage,
            entry("data", DIR, uid=70, gid=71, mode=0o700),
            (entry("data/f", uid=70, mode=0o640, mtime=1_000_000_000), b"hello"),
            entry("data/hard", tarfile.LNKTYPE, "data/f"),
            entry("data/link", SYM, "/etc/passwd"),
        )
        await storage.volumes.ensure("data")
        await storage.volumes.populate("data", root, "/data")
        volume = storage.volumes.path("data")
        found = volume.stat()
        assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (70, 71, 0o700)
        file = (volume / "f").stat()
        assert (file.st_uid, stat.S_IMODE(file.st_mode), file.st_mtime, file.st_nlink) == (70, 0o640, 1e9, 2)
        assert os.readlink(volume / "link") == "/etc/passwd"
        (volume / "f").unlink()
        await storage.volumes.populate("data", root, "/data")
        assert sorted(os.listdir(volume)) == ["hard", "link"]

    with_storage(data_root, story)


def test_a_volume_with_content_is_left_alone(data_root: Path) -> None:
    async def story(storage: Storage) -> None:
        root = await image_root(storage, entry("data", DIR), (entry("data/f"), b"image"))
        await storage.volumes.ensure("data")
        (storage.volumes.path("data") / "mine").write_text("x")
        await storage.volumes.populate("data", root, "/data")
        assert os.listdir(storage.volumes.path("data")) == ["mine"]

    with_storage(data_root, story)


def test_links_in_the_image_lead_nowhere_outside_of_it(data_root: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key").write_text("host")

    async def story(storage: Storage) -> None:
        inside = str(tmp_path / "secret").lstrip("/")
        root = await image_root(
            storage,
            entry("absolute", SYM, str(tmp_path / "secret")),
            entry("climbing", SYM, "../" * 30 + inside),
            (entry(f"{inside}/key"), b"image"),
        )
        for number, path in enumerate(("/absolute", "/climbing", "/../../" + inside)):
            await storage.volumes.ensure(f"v{number}")
            await storage.volumes.populate(f"v{number}", root, path)
            assert (storage.volumes.path(f"v{number}") / "key").read_text() == "image"

    with_storage(data_root, story)


@pytest.mark.parametrize("path", ["/missing", "/file/x"])
def test_where_the_image_has_nothing_the_volume_stays_empty(data_root: Path, path: str) -> None:
    async def story(storage: Storage) -> None:
        root = await image_root(storage, (entry("file"), b""))
        await storage.volumes.ensure("data")
        await storage.volumes.populate("data", root, path)
        assert os.listdir(storage.volumes.path("data")) == []

    with_storage(data_root, story)


def test_a_volume_is_not_filled_from_a_file(data_root: Path) -> None:
    async def story(storage: Storage) -> None:
        root = await image_root(storage, (entry("file"), b""))
        await storage.volumes.ensure("data")
        with pytest.raises(SystemFailure, match="source /file is not directory"):
            await storage.volumes.populate("data", root, "/file")

    with_storage(data_root, story)


def test_a_volume_is_mounted_while_somebody_uses_it(data_root: Path, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "precious").touch()

    async def story(storage: Storage) -> None:
        options = {"type": "none", "o": "bind", "device": str(tmp_path / "source")}
        await storage.volumes.create("bound", "", options, None)
        path = storage.volumes.path("bound")
        await storage.volumes.acquire("bound", "one")
        await storage.volumes.acquire("bound", "two")
        await storage.volumes.release("bound", "one")
        await storage.volumes.release("bound", "one")
        assert os.listdir(path) == ["precious"]
        await storage.volumes.adopt({"two": ["bound"]})
        assert os.listdir(path) == ["precious"]
        await storage.volumes.release("bound", "two")
        assert os.listdir(path) == []
        # What an engine before had mounted for nobody who still runs, and what is removed while it is mounted.
        await storage.volumes.acquire("bound", "three")
        storage.volumes = VolumeService(storage.volume_store, storage.workers, emit=storage.emit, references=lambda _: ())
        await storage.volumes.adopt({})
        assert os.listdir(path) == []
        await storage.volumes.acquire("bound", "four")
        await storage.volumes.remove("bound")
        assert not path.exists()
        assert (tmp_path / "source" / "precious").exists()

    with_storage(data_root, story)


def test_data_without_a_row_is_taken_in_again_and_rows_without_data_go(data_root: Path) -> None:
    async def story(storage: Storage) -> None:
        await storage.volumes.ensure("kept")
        await storage.volumes.ensure("half-removed")
        (data_root / "volumes" / "half-removed").rename(data_root / "tmp" / "volume-x")
        (data_root / "volumes" / "lost" / "_data").mkdir(parents=True)
        (data_root / "volumes" / "lost" / "_data" / "precious").touch()
        storage.volume_store.reconcile()
        assert [volume["Name"] for volume in (await storage.volumes.list())["Volumes"]] == ["kept", "lost"]
        assert (storage.volumes.path("lost") / "precious").exists()

    with_storage(data_root, story)


def test_a_reset_spares_what_is_mounted_for_a_volume(data_root: Path, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "precious").touch()

    async def story(storage: Storage) -> None:
        await storage.volumes.create("bound", "", {"type": "none", "o": "bind", "device": str(tmp_path / "source")}, None)
        await storage.volumes.acquire("bound", "nobody")

    with_storage(data_root, story)
    (data_root / "state.db").touch()
    places = {"--data-root": data_root, "--exec-root": tmp_path / "exec", "--pidfile": tmp_path / "pid"}
    assert main([*(str(word) for pair in places.items() for word in pair), "--yes"]) == 0
    assert not (data_root / "volumes").exists()
    assert (tmp_path / "source" / "precious").exists()
