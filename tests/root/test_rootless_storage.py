"""Storage as root of a user namespace: layers, their marks, ids, attributes and removal, as for an ordinary user's engine."""

from __future__ import annotations

import os
import shutil
import stat
import struct
import subprocess
import tarfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from support.storage import Storage, docker_archive, entry, load, make_tar, with_storage
from support.user_namespace import FIRST_ID, ID_COUNT, in_user_namespace, namespace_directory

from kitepy.engine.kernel import overlay
from kitepy.engine.kernel.user_namespaces import in_user_namespace as is_in_user_namespace
from kitepy.engine.model.errors import InvalidParameter
from kitepy.engine.model.launch import OverlayFlavour, OverlayRoot
from kitepy.engine.model.oci import ChainId
from kitepy.engine.services.root_files import read_root_file
from kitepy.engine.storage.layers import Layer

Result = TypeVar("Result")
NET_RAW = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)


@pytest.fixture
def place() -> Iterator[Path]:
    with namespace_directory() as path:
        yield path


def rootless(place: Path, story: Callable[[Storage], Awaitable[Result]]) -> Result:
    """Run a story in a user namespace, on a data root of its own kind."""
    return in_user_namespace(with_storage, place, story, None, OverlayFlavour.USER)


def rootful(tmp_path: Path, story: Callable[[Storage], Awaitable[Result]]) -> Result:
    """The same with the machine's root."""
    root = tmp_path / "rootful"
    root.mkdir()
    return with_storage(root, story)


async def add_layer(storage: Storage, parent: ChainId | None, *members: tuple[tarfile.TarInfo, bytes] | tarfile.TarInfo) -> Layer:
    path = storage.root / "layer.tar"
    path.write_bytes(make_tar(*members))
    return await storage.layers.extract(parent, path)


def in_overlay(root: OverlayRoot, script: str) -> str:
    """Run a shell with the overlay as its working directory; it ends with the mount, which is the shell's own."""
    target = root.base / "mounted"
    target.mkdir(exist_ok=True)
    options = overlay.options(root.lower, root.upper, root.work, user_xattrs=root.flavour.user_xattrs)
    command = 'mount -t overlay overlay -o "$1" "$2" && cd "$2" && eval "$3"'
    return subprocess.run(
        ["unshare", "-m", "sh", "-ec", command, "sh", options, str(target), script],
        cwd=root.base,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout


def test_a_function_runs_as_root_of_a_user_namespace(place: Path) -> None:
    def inside() -> tuple[int, bool]:
        (place / "f").write_text("x")
        os.chown(place / "f", 5, 6)
        return os.getuid(), is_in_user_namespace()

    assert in_user_namespace(inside) == (0, True)
    found = (place / "f").stat()
    assert (found.st_uid, found.st_gid) == (FIRST_ID + 5, FIRST_ID + 6)


def test_what_the_function_raises_comes_out(place: Path) -> None:
    with pytest.raises(PermissionError, match="Operation not permitted"):
        in_user_namespace(lambda: os.mknod(place / "null", 0o020666, os.makedev(1, 3)))


def test_whiteouts_and_opaque_directories_hide_lower_layers(place: Path) -> None:
    async def story(storage: Storage) -> None:
        base = await add_layer(
            storage,
            None,
            (entry("gone"), b"1"),
            entry("d", tarfile.DIRTYPE),
            (entry("d/old"), b"1"),
            entry("etc", tarfile.DIRTYPE),
            (entry("etc/passwd"), b"old"),
        )
        top = await add_layer(
            storage, base.chain_id, (entry(".wh.gone"), b""), (entry("d/.wh..wh..opq"), b""), (entry(".wh.etc"), b"")
        )
        root = storage.overlays.read_only(top.chain_id)
        assert root.flavour is OverlayFlavour.USER
        assert in_overlay(root, "find . | sort | xargs") == ". ./d\n"
        assert read_root_file(root, "etc/passwd") == ""
        assert read_root_file(storage.overlays.read_only(base.chain_id), "etc/passwd") == "old"

    rootless(place, story)


STEPS = """
umask 022
rm gone; rm -r d; mkdir d; echo new > d/new; chown 100:200 d/new; chown 65535:65535 d
printf x > suid; chmod 4755 suid; ln suid hard; ln -s suid soft; mkfifo fifo
cp {capable} capable
find . -exec touch -h -d @1700000000 {{}} +
"""


async def changed_layer(storage: Storage) -> tuple[str, str]:
    """Commit what a shell changed on a layer; gives the digests of both."""
    base = await add_layer(
        storage,
        None,
        entry("./", tarfile.DIRTYPE),
        (entry("gone"), b"1"),
        entry("d", tarfile.DIRTYPE),
        (entry("d/old", uid=3, gid=4), b"1"),
    )
    root = storage.overlays.create_for_step(base.chain_id)
    upper = storage.overlays.upper_path(root)
    in_overlay(root, STEPS.format(capable=shutil.which("true")))
    os.setxattr(upper / "capable", "security.capability", NET_RAW)
    os.setxattr(upper / "capable", "user.note", b"kept")
    os.utime(upper / "gone", (1_700_000_000, 1_700_000_000))  # out of the shell's reach: when the file was removed
    layer = await storage.layers.commit_directory(base.chain_id, upper)
    return base.diff_id, layer.diff_id


def test_the_same_changes_give_the_same_digests_as_with_root(place: Path, tmp_path: Path) -> None:
    assert rootless(place, changed_layer) == rootful(tmp_path, changed_layer)


def test_a_committed_layer_reads_back_as_its_archive_says(place: Path) -> None:
    async def story(storage: Storage) -> None:
        await changed_layer(storage)
        (top,) = [layer for layer in map(storage.layers.by_number, (1, 2)) if layer.parent is not None]
        archive = storage.content.path(top.blob_digest or pytest.fail("no blob"))
        with tarfile.open(archive) as tar:
            names = tar.getnames()
            owner = tar.getmember("d/new")
            directory = tar.getmember("d")
        assert {".wh.gone", "d/.wh..wh..opq", "suid", "hard", "soft", "fifo"} <= set(names)
        assert (owner.uid, owner.gid, directory.uid) == (100, 200, 65535)
        again = await storage.layers.unpack(archive)
        rebuilt = place / "layers" / str(again.number) / "diff"
        assert os.getxattr(rebuilt / "d", "user.overlay.opaque") == b"y"
        assert os.getxattr(rebuilt / "capable", "security.capability") == NET_RAW
        assert stat.S_IMODE((rebuilt / "suid").stat().st_mode) == 0o4755

    rootless(place, story)
    # Outside, the ids are the user's subordinate ones.
    assert {FIRST_ID, FIRST_ID + 100, FIRST_ID + 65535} <= {
        (Path(where) / name).lstat().st_uid for where, directories, files in os.walk(place) for name in (*directories, *files)
    }


def test_a_file_capability_works_for_an_ordinary_user_of_the_container(place: Path) -> None:
    program = Path(shutil.which("cat") or "").read_bytes()

    async def story(storage: Storage) -> str:
        info = entry("cat", mode=0o755)
        info.pax_headers = {"SCHILY.xattr.security.capability": NET_RAW.decode("latin-1")}
        layer = await add_layer(storage, None, entry("./", tarfile.DIRTYPE), (info, program))
        path = storage.root / layer.directory / "cat"
        command = ["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", str(path), "/proc/self/status"]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout

    status = rootless(place, story)
    effective = next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff"))
    assert int(effective, 16) == 1 << 13


def test_an_image_with_devices_loads_and_says_what_is_missing(place: Path) -> None:
    info = (entry("f"), b"x")
    info[0].pax_headers = {"SCHILY.xattr.trusted.note": "x"}
    layer = make_tar(
        entry("dev", tarfile.DIRTYPE),
        entry("dev/null", tarfile.CHRTYPE, devmajor=1, devminor=3),
        entry("dev/sda", tarfile.BLKTYPE, devmajor=8, devminor=0),
        entry("pipe", tarfile.FIFOTYPE),
        info,
    )

    async def story(storage: Storage) -> list[str]:
        messages = await load(storage, docker_archive([layer], "devices:latest"))
        found = sorted(path.name for path in (storage.root / "layers").glob("*/diff/**/*"))
        assert found == ["dev", "f", "pipe"]
        return messages

    assert rootless(place, story) == [
        "Warning: device dev/null is left out: an engine without root can't make devices",
        "Warning: device dev/sda is left out: an engine without root can't make devices",
        "Warning: attribute trusted.note can't be kept: Operation not permitted",
        "Loaded image: devices:latest",
    ]


@pytest.mark.parametrize(("owner", "kind"), [({"uid": ID_COUNT}, "uid"), ({"gid": 200_000}, "gid")])
def test_an_owner_outside_of_the_map_is_told_with_the_command_that_helps(place: Path, owner: dict[str, int], kind: str) -> None:
    async def story(storage: Storage) -> None:
        await add_layer(storage, None, (entry("home/someone", **owner), b"x"))

    number = next(iter(owner.values()))
    with pytest.raises(InvalidParameter) as caught:
        rootless(place, story)
    text = str(caught.value)
    assert f"cannot unpack 'home/someone': {kind} {number} does not exist" in text
    assert f"highest {kind} is {ID_COUNT - 1}" in text
    assert "sudo usermod --add-subuids " in text
    assert "--add-subgids " in text


FORGED = {
    "SCHILY.xattr.user.overlay.opaque": "y",
    "SCHILY.xattr.user.overlay.redirect": "/secret",
    "SCHILY.xattr.user.overlay.metacopy": "",
    "SCHILY.xattr.user.overlay.whiteout": "y",
    "SCHILY.xattr.trusted.overlay.opaque": "y",
    "SCHILY.xattr.user.overlay.overlay.opaque": "y",
}


def test_an_image_cannot_forge_overlays_marks(place: Path) -> None:
    async def story(storage: Storage) -> None:
        base = await add_layer(storage, None, entry("d", tarfile.DIRTYPE), (entry("d/below"), b"1"), (entry("secret"), b"secret"))
        directory, file = entry("d", tarfile.DIRTYPE), entry("f")
        directory.pax_headers = dict(FORGED)
        file.pax_headers = dict(FORGED)
        top = await add_layer(storage, base.chain_id, directory, (file, b""))
        for name in ("d", "f"):
            assert os.listxattr(storage.root / top.directory / name) == []
        assert in_overlay(storage.overlays.read_only(top.chain_id), "ls d; cat f") == "below\n"

    rootless(place, story)


def test_a_container_cannot_forge_overlays_marks(place: Path) -> None:
    script = """
import os
for path in ("d", "f"):
    for name in ("opaque", "redirect", "metacopy", "whiteout"):
        try:
            os.setxattr(path, "user.overlay." + name, b"y")
        except OSError as error:
            print(error.errno)
"""

    async def story(storage: Storage) -> None:
        base = await add_layer(storage, None, entry("d", tarfile.DIRTYPE), (entry("d/below"), b"1"), (entry("f"), b"1"))
        root = storage.overlays.create_for_container("c", base.chain_id)
        (storage.root / "script").write_text(script)
        refused = in_overlay(root, "touch d/above; /usr/bin/python3 ../script")
        # Kernels before 6.7 refuse, later ones store the attribute under another name.
        assert refused == "" or set(refused.split()) == {"95"}
        # Started again, everything is there ...
        assert in_overlay(root, "ls d; cat f") == "above\nbelow\n1"
        # ... and in the image made of it.
        layer = await storage.layers.commit_directory(base.chain_id, storage.overlays.upper_path(root), keep=True)
        assert in_overlay(storage.overlays.read_only(layer.chain_id), "ls d; cat f") == "above\nbelow\n1"
        with tarfile.open(storage.content.path(layer.blob_digest or pytest.fail("no blob"))) as tar:
            assert not [member.name for member in tar if ".wh." in member.name]
            assert not [name for member in tar for name in member.pax_headers if "overlay" in name]

    rootless(place, story)


def test_whatever_a_container_left_is_removed(place: Path) -> None:
    async def story(storage: Storage) -> None:
        base = await add_layer(storage, None, entry("./", tarfile.DIRTYPE))
        root = storage.overlays.create_for_container("c", base.chain_id)
        in_overlay(root, "mkdir -p a/b; touch a/b/c; chown -R 1000:1000 a; chmod 0 a/b a")
        await storage.overlays.remove_container("c")
        assert not (storage.root / "containers/c").exists()

    rootless(place, story)


def test_a_volume_is_filled_with_owners_from_the_image_and_removed(place: Path) -> None:
    async def story(storage: Storage) -> None:
        data = entry("data", tarfile.DIRTYPE, uid=70, gid=70, mode=0o700)
        base = await add_layer(storage, None, data, (entry("data/x"), b"1"))
        top = await add_layer(
            storage, base.chain_id, data, (entry("data/y", uid=70, mode=0o4711), b"2"), (entry("data/.wh.x"), b"")
        )
        root = storage.overlays.create_for_container("c", top.chain_id)
        await storage.volumes.ensure("v1")
        await storage.volumes.populate("v1", root, "/data")
        path = storage.volumes.path("v1")
        found = path.stat()
        assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (70, 70, 0o700)
        assert os.listdir(path) == ["y"]
        assert ((path / "y").stat().st_uid, stat.S_IMODE((path / "y").stat().st_mode)) == (70, 0o4711)
        await storage.volumes.remove("v1")
        assert os.listdir(storage.root / "volumes") == []
        assert not list((storage.root / "tmp").glob("volume-*"))

    rootless(place, story)
