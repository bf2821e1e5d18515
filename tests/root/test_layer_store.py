"""Layers in a real file system: commits, stacking, collecting, and what a crash leaves."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import tarfile
from pathlib import Path

import pytest
from support.storage import Storage, entry, make_tar, with_storage

from kitepy.engine.model.errors import InvalidParameter, NotFound
from kitepy.engine.model.launch import OverlayRoot
from kitepy.engine.model.oci import EMPTY_LAYER, ChainId, ImageDocument, chain_id, digest_of
from kitepy.engine.storage.database import Database
from kitepy.engine.storage.layers import Layer


@pytest.fixture
def data_root(tmp_path: Path) -> Path:
    path = tmp_path / "root"
    path.mkdir()
    return path


async def add_layer(storage: Storage, parent: ChainId | None, *members: tuple[tarfile.TarInfo, bytes] | tarfile.TarInfo) -> Layer:
    data = make_tar(*members)
    archive = storage.content.new_ingest_path()
    archive.write_bytes(data)
    storage.content.adopt(archive, digest_of(data))
    return await storage.layers.extract(parent, storage.content.path(digest_of(data)), blob_digest=digest_of(data))


def in_overlay(root: OverlayRoot, script: str) -> str:
    """Run a shell in a private mount namespace with the overlay at ./m below a scratch directory."""
    options = f"lowerdir={':'.join(root.lower)}" + (f",upperdir={root.upper},workdir={root.work}" if root.upper else "")
    command = f"mount -t tmpfs t /mnt && mkdir /mnt/m && mount -t overlay o -o {options} /mnt/m && cd /mnt/m && {script}"
    return subprocess.run(
        ["unshare", "-m", "sh", "-ec", command], cwd=root.base, check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def test_layers_stack_with_the_topmost_first(data_root: Path) -> None:
    async def story(storage: Storage) -> None:
        base = await add_layer(storage, None, (entry("f"), b"1"))
        top = await add_layer(storage, base.chain_id, (entry("f"), b"2"))
        assert top.chain_id == chain_id(base.chain_id, top.diff_id)
        assert storage.layers.lower_dirs(top.chain_id) == (top.directory, base.directory)
        assert in_overlay(storage.overlays.read_only(top.chain_id), "cat f") == "2"

    with_storage(data_root, story)


def test_an_upper_directory_becomes_a_layer_and_its_archive_rebuilds_it(data_root: Path) -> None:
    async def story(storage: Storage) -> None:
        base = await add_layer(
            storage, None, (entry("gone"), b"1"), entry("d", tarfile.DIRTYPE), (entry("d/old"), b"1"), (entry("keep"), b"1")
        )
        root = storage.overlays.create_for_step(base.chain_id)
        in_overlay(
            root,
            "rm gone; rm -r d; mkdir d; echo new > d/new; ln d/new hard; ln -s d/new soft; mkfifo pipe; chmod 4755 d/new;"
            "chown 12:34 soft -h; mknod zero c 1 5; touch -d @1000000000 keep; python3 -c 'import socket;"
            'socket.socket(socket.AF_UNIX).bind("sock")\'',
        )
        layer = await storage.layers.commit_directory(base.chain_id, storage.overlays.upper_path(root))
        assert not storage.overlays.upper_path(root).exists()
        await storage.overlays.remove(root)
        assert list((data_root / "tmp").iterdir()) == []
        listing = "ls -lnR --time-style=+%s | sed 's/^total.*//'; find . -name sock"
        seen = in_overlay(storage.overlays.read_only(layer.chain_id), listing)
        assert "gone" not in seen
        assert layer.blob_digest == layer.diff_id
        with tarfile.open(storage.content.path(layer.blob_digest)) as archive:
            names = archive.getnames()
            assert {".wh.gone", "d/.wh..wh..opq", "d/new", "hard", "keep", "pipe", "soft", "zero"} <= set(names)
            assert "sock" not in names
            assert archive.getmember("hard").islnk()
            assert archive.getmember("keep").mtime == 1_000_000_000
        # The archive alone gives the same file system, apart from the socket.
        blob = storage.content.path(layer.blob_digest)
        unplaced = await storage.layers.unpack(blob)
        assert unplaced.diff_id == layer.diff_id
        rebuilt = OverlayRoot(data_root, (f"layers/{unplaced.number}/diff", base.directory))
        again = in_overlay(rebuilt, listing)
        assert again == "\n".join(line for line in seen.split("\n") if "sock" not in line)
        storage.layers.discard(unplaced)

    with_storage(data_root, story)


def test_equal_trees_give_equal_digests_whatever_order_they_were_made_in(data_root: Path) -> None:
    async def story(storage: Storage) -> None:
        digests = []
        for order in (["b", "a", "c"], ["c", "b", "a"]):
            root = storage.overlays.create_for_step(None)
            upper = storage.overlays.upper_path(root)
            for name in order:
                (upper / name).write_text(name)
                os.setxattr(upper / name, "user.note", b"x")
                os.utime(upper / name, (1, 1))
            digests.append((await storage.layers.commit_directory(None, upper)).diff_id)
        assert digests[0] == digests[1]

    with_storage(data_root, story)


def test_no_changes_make_the_well_known_empty_layer(data_root: Path) -> None:
    async def story(storage: Storage) -> None:
        base = await add_layer(storage, None, (entry("f"), b"1"))
        root = storage.overlays.create_for_step(base.chain_id)
        layer = await storage.layers.commit_directory(base.chain_id, storage.overlays.upper_path(root))
        assert layer.diff_id == EMPTY_LAYER
        assert layer.size_bytes == 0
        assert storage.content.path(layer.blob_digest or layer.diff_id).read_bytes() == bytes(1024)  # type: ignore[arg-type]  # both are digests

    with_storage(data_root, story)


def test_the_root_directorys_mode_is_inherited_and_its_change_is_kept(data_root: Path) -> None:
    async def story(storage: Storage) -> None:
        base = await add_layer(storage, None, entry("./", tarfile.DIRTYPE, mode=0o1777), (entry("f"), b""))
        middle = await add_layer(storage, base.chain_id, (entry("g"), b""))
        root = storage.overlays.create_for_step(middle.chain_id)
        assert in_overlay(root, "stat -c %a .") == "1777\n"
        in_overlay(root, "chmod 700 .")
        layer = await storage.layers.commit_directory(middle.chain_id, storage.overlays.upper_path(root))
        with tarfile.open(storage.content.path(layer.blob_digest)) as archive:  # type: ignore[arg-type]  # a commit has a blob
            assert archive.getmember(".").mode == 0o700

    with_storage(data_root, story)


def test_a_snapshot_leaves_the_directory_where_it_is(data_root: Path) -> None:
    async def story(storage: Storage) -> None:
        root = storage.overlays.create_for_container("c1", None)
        upper = storage.overlays.upper_path(root)
        (upper / "f").write_text("x")
        layer = await storage.layers.commit_directory(None, upper, keep=True)
        assert (upper / "f").read_text() == "x"
        assert (data_root / layer.directory / "f").read_text() == "x"

    with_storage(data_root, story)


def test_one_hundred_and_twenty_eight_layers_can_be_mounted(data_root: Path) -> None:
    async def story(storage: Storage) -> None:
        parent: ChainId | None = None
        for number in range(128):
            root = storage.overlays.create_for_step(parent)
            (storage.overlays.upper_path(root) / f"f{number}").write_text(str(number))
            parent = (await storage.layers.commit_directory(parent, storage.overlays.upper_path(root))).chain_id
            await storage.overlays.remove(root)
        root = storage.overlays.create_for_step(parent)
        assert in_overlay(root, "ls | wc -l; echo x > y") == "128\n"

    with_storage(data_root, story)


def test_a_wrong_diff_id_is_refused_and_leaves_nothing(data_root: Path) -> None:
    async def story(storage: Storage) -> None:
        archive = storage.content.new_ingest_path()
        archive.write_bytes(make_tar((entry("f"), b"1")))
        with pytest.raises(InvalidParameter, match="does not match its diff id"):
            await storage.layers.extract(None, archive, expected=EMPTY_LAYER)

    with_storage(data_root, story)
    assert list((data_root / "layers").iterdir()) == []


def test_only_what_nobody_holds_is_collected(data_root: Path) -> None:
    async def story(storage: Storage) -> None:
        kept = await add_layer(storage, None, (entry("kept"), b""))
        held = await add_layer(storage, kept.chain_id, (entry("held"), b""))
        for layer in (kept, held):
            storage.layers.claim(layer.chain_id)
        storage.layers.add_holder(lambda: [kept.chain_id])
        with storage.layers.hold(held.chain_id):
            assert storage.layers.mark_garbage() == []
            assert storage.layers.find(held.chain_id) is not None
        assert storage.layers.find(held.chain_id) is None, "what was only held is collected with the hold's end"
        await storage.layers.remove_marked()
        assert os.listdir(data_root / "layers") == [str(kept.number)]
        assert list(storage.content.digests()) == [kept.blob_digest]
        with pytest.raises(NotFound):
            storage.layers.lower_dirs(held.chain_id)

    with_storage(data_root, story)


def test_a_fresh_layer_is_spared_until_its_maker_refers_to_it(data_root: Path) -> None:
    async def story(storage: Storage) -> None:
        await add_layer(storage, None, (entry("f"), b""))
        assert storage.layers.mark_garbage() == []

    with_storage(data_root, story)


def test_a_lease_keeps_layers_and_blobs_until_an_image_has_them(data_root: Path) -> None:
    async def story(storage: Storage) -> None:
        archive = make_tar((entry("f"), b"1"))
        digest = digest_of(archive)
        with storage.layers.lease() as lease:
            lease.blobs.add(digest)
            storage.content.put(archive)
            with storage.layers.lease() as other:
                other.blobs.add(digest)
            unplaced = await storage.layers.unpack(storage.content.path(digest))
            layer = storage.layers.place(None, unplaced, blob_digest=digest, lease=lease)
            storage.layers.claim(layer.chain_id)
            assert storage.layers.mark_garbage() == []
            await storage.layers.remove_marked()
            assert digest in storage.content
        assert storage.layers.find(layer.chain_id) is None
        await storage.layers.remove_marked()
        assert os.listdir(data_root / "layers") == []
        assert list(storage.content.digests()) == []

    with_storage(data_root, story)


def test_half_made_layers_and_strays_are_gone_after_a_restart(data_root: Path) -> None:
    async def before(storage: Storage) -> str:
        layer = await add_layer(storage, None, (entry("f"), b""))
        with storage.database.transaction() as connection:
            number = connection.execute("INSERT INTO layers (state) VALUES ('making')").lastrowid
        (data_root / "layers" / str(number) / "diff").mkdir(parents=True)
        (data_root / "layers" / "999" / "diff" / "x").mkdir(parents=True)
        storage.content.new_ingest_path().write_bytes(b"half")
        storage.content.put(b"a blob without a layer")
        return layer.directory

    async def after(storage: Storage) -> None:
        assert len(list(storage.content.digests())) == 1
        assert storage.database.query("SELECT 1 FROM layers WHERE state != 'ready'") == []

    directory = with_storage(data_root, before)
    with_storage(data_root, after)
    assert [f"layers/{name}/diff" for name in os.listdir(data_root / "layers")] == [directory]
    assert list((data_root / "content/ingest").iterdir()) == []


def test_layers_that_a_power_cut_caught_before_the_sync_are_dropped_with_their_images(data_root: Path) -> None:
    async def before(storage: Storage) -> None:
        layer = await add_layer(storage, None, (entry("f"), b""))
        await add_layer(storage, None, (entry("safe"), b""))
        await add_layer(storage, layer.chain_id, (entry("f"), b"top"))
        document = ImageDocument(diff_ids=(layer.diff_id,))
        storage.images.create_image(document.encode())

    async def after(storage: Storage) -> None:
        assert [row["id"] for row in storage.database.query("SELECT id FROM layers")] == [2]
        assert storage.images.count() == 0

    with_storage(data_root, before, boot_id="boot-1")
    database = Database(data_root / "state.db")
    with database.transaction() as connection:
        connection.execute("UPDATE layers SET unsynced_boot = 'boot-1' WHERE id = 1")
    database.close()
    with_storage(data_root, after, boot_id="boot-2")


def test_files_are_synced_in_the_background(data_root: Path) -> None:
    async def story(storage: Storage) -> None:
        await add_layer(storage, None, (entry("f"), b""))
        assert storage.database.query("SELECT 1 FROM layers WHERE unsynced_boot IS NOT NULL")
        await storage.layers.close()
        assert not storage.database.query("SELECT 1 FROM layers WHERE unsynced_boot IS NOT NULL")

    with_storage(data_root, story)


def test_the_same_layer_made_twice_at_once_is_kept_once(data_root: Path) -> None:
    async def story(storage: Storage) -> None:
        first, second = await asyncio.gather(*(add_layer(storage, None, (entry("f"), b"")) for _ in range(2)))
        assert first == second

    with_storage(data_root, story)
    assert len(os.listdir(data_root / "layers")) == 1


def test_a_container_root_can_be_removed_whatever_is_in_it(data_root: Path) -> None:
    async def story(storage: Storage) -> None:
        root = storage.overlays.create_for_container("c1", None)
        upper = storage.overlays.upper_path(root)
        (upper / "sub").mkdir()
        (upper / "sub" / "link").symlink_to(data_root)
        with socket.socket(socket.AF_UNIX) as unix:
            unix.bind(str(upper / "s"))
        await storage.overlays.remove_container("c1")
        await storage.overlays.remove_container("c1")
        assert not (data_root / "containers" / "c1").exists()
        assert (data_root / "state.db").exists()

    with_storage(data_root, story)
