"""Attacks on copying files of containers: the container's files and the archives are the attacker's, the host's are the aim.

Races on links (CVE-2018-15664), code that the engine loads from the container (CVE-2019-14271), links and names in archives that
lead out, mounts that spread. Each test looks whether the host is untouched, and whether the attack was really performed.
"""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest
from docker.errors import APIError, NotFound
from docker.models.containers import Container
from docker.types import Mount
from support.engine import ROOTLESS
from support.tarballs import entry, link, members, tarball

Import = Callable[[dict[str, str | bytes]], str]
LOOP = "while :; do sleep 0.1; done"
ROUNDS = 60


@pytest.fixture(name="untouched")
def _untouched(trap: Path) -> Iterator[Path]:
    """The trap, looked at afterwards."""
    trap.chmod(0o777)
    yield trap
    assert [found.name for found in trap.iterdir()] == ["secret"]
    assert (trap / "secret").read_text() == "the host's\n"
    assert not any(str(trap) in line for line in Path("/proc/self/mountinfo").read_text().splitlines())


def until_logged(container: Container, text: bytes) -> None:
    """Wait until a container has written something; its end would end the wait, too."""
    for piece in container.logs(stream=True, follow=True):
        if text in piece:
            return
    raise AssertionError(f"the container ended without {text!r}")


def fetch(container: Container, path: str) -> bytes:
    """An archive, empty when there is nothing at the moment."""
    try:
        return b"".join(container.get_archive(path)[0])
    except APIError as error:
        if error.status_code not in (400, 404):
            raise
        return b""


def store(container: Container, path: str, archive: bytes) -> bool:
    try:
        return bool(container.put_archive(path, archive))
    except APIError as error:
        if error.status_code not in (400, 404):
            raise
        return False


def test_a_directory_that_is_swapped_with_a_link_leads_nowhere_else(
    client: docker.DockerClient, image: Import, untouched: Path
) -> None:
    container = client.containers.run(
        image({}),
        ["sh", "-c", f"mkdir -p /w/x; echo mine >/w/x/secret; ln -s {untouched} /w/y; echo ready; exec /attacks swap /w/x /w/y"],
        detach=True,
    )
    until_logged(container, b"ready")
    seen, archive = set(), tarball(entry("planted", b"x"), entry("x/planted", b"x"), entry("y/planted", b"x"))
    for _ in range(ROUNDS):
        for path in ("/w/x/secret", "/w/x/", "/w/x"):
            found = fetch(container, path)
            seen.add(bool(found))
            assert b"the host's" not in found
        store(container, "/w/x", archive)
        store(container, "/w", archive)
        assert b"the host's" not in fetch(container, "/w")
    assert seen == {True, False}, "the race was never met both ways"


def test_links_of_the_container_lead_to_files_of_the_container(
    client: docker.DockerClient, image: Import, untouched: Path
) -> None:
    links = {
        "evil": str(untouched),
        "up": "../" * 20 + str(untouched).lstrip("/"),
        "root": "/proc/self/root",
        "own": "/proc/self/cwd",
    }
    for command in (LOOP, "true"):
        container = client.containers.run(image({**links}), ["sh", "-c", command], detach=True)
        for name in links:
            for path in (f"/{name}/secret", f"/{name}/", f"/{name}/.", f"/{name}/{untouched}/secret"):
                assert fetch(container, path) == b""
                with pytest.raises(NotFound):
                    container.put_archive(path, tarball(entry("planted", b"")))
            assert list(members(fetch(container, f"/{name}"))) == [name]
        exported = b"".join(container.export())
        assert b"the host's" not in exported
        assert members(exported)["evil"].linkname == str(untouched)


@pytest.mark.parametrize("running", [True, False])
def test_names_and_links_in_an_archive_lead_nowhere_else(
    client: docker.DockerClient, image: Import, untouched: Path, running: bool
) -> None:
    container = client.containers.create(image({}), ["sh", "-c", LOOP])
    if running:
        container.start()
    up = "../" * 30 + str(untouched).lstrip("/")
    attacks = [
        tarball(entry(f"{up}/planted", b"")),
        tarball(entry(f"{untouched}/planted", b"")),
        tarball(link("s", str(untouched)), entry("s/planted", b"")),
        tarball(link("s", up), entry("s/planted", b"")),
        tarball(link("s", str(untouched / "secret")), entry("s", b"overwritten")),
        tarball(link("h", f"{untouched}/secret", hard=True), entry("h", b"overwritten")),
        tarball(link("h", f"{up}/secret", hard=True)),
        tarball(link("d", "/"), link("h", f"d{untouched}/secret", hard=True)),
        tarball(entry("a/../../../../../../../../.." + str(untouched) + "/planted", b"")),
        tarball(link("e", "/proc/self/root"), entry(f"e{untouched}/planted", b"")),
    ]
    for archive in attacks:
        for path in ("/", "/etc"):
            store(container, path, archive)
    assert b"the host's" not in fetch(container, "/")


def test_devices_of_the_host_are_not_read(client: docker.DockerClient, image: Import) -> None:
    """A node is a name in an archive; nothing behind it is opened."""
    container = client.containers.create(image({}), ["true"])
    node = entry("disk", type=tarfile.BLKTYPE, devmajor=0, devminor=0, mode=0o666)
    for major, minor in ((8, 0), (259, 0), (254, 0), (1, 1)):
        node[0].devmajor, node[0].devminor = major, minor
        store(container, "/etc", tarball(node))
        for name, found in members(fetch(container, "/etc")).items():
            assert found.size == 0 or not name.endswith("disk")
        assert store(container, "/etc/disk", tarball(entry("x", b""))) is False


def test_nothing_is_loaded_from_the_container(client: docker.DockerClient, image: Import) -> None:
    """CVE-2019-14271: who chroots into a container must not look for code there."""
    planted = b"open('/pwned', 'a').write(__name__ + chr(10))\n"
    names = [
        *("traceback", "linecache", "tokenize", "idna", "stringprep", "encodings/idna", "encodings/latin_1", "encodings/cp437"),
        *("pwd", "grp", "tarfile", "zipfile", "_strptime", "_pydatetime", "lzma", "bz2", "gzip", "zstandard", "isal/igzip_lib"),
        *("sitecustomize", "kitepy/engine/model/errors", "kitepy/engine/storage/extract", "kitepy/engine/storage/container_jobs"),
    ]
    roots = [path for path in sys.path if path.startswith("/") and Path(path).is_dir()]
    files: dict[str, str | bytes] = {f"{root}/{name}.py": planted for root in roots for name in names}
    files |= {
        "etc/ld.so.preload": b"/attacks\n",
        "lib/x86_64-linux-gnu/libnss_files.so.2": b"\x7fELF",
        "etc/nsswitch.conf": b"passwd: files\n",
    }
    reference = image(files)
    for command in (LOOP, "true"):
        container = client.containers.run(reference, ["sh", "-c", command], detach=True)
        store(container, "/etc", tarball(entry("ok", b"", uid=12345)))
        store(container, "/etc", b"no archive" * 100)
        store(container, "/etc", tarball(entry("n" * 300, b"")))
        store(container, "/etc", b"\x28\xb5\x2f\xfd broken zstd" * 9)
        store(container, "/etc", b"\xfd7zXZ\x00 broken xz" * 9)
        fetch(container, "/etc")
        fetch(container, "/none")
        b"".join(container.export())
        container.diff()
        image_id = container.commit().id
        assert fetch(container, "/pwned") == b""
        assert roots
        assert fetch(container, f"{roots[0]}/traceback.py")
        container.remove(force=True)
        client.images.remove(image_id, force=True)


def test_a_mount_point_that_is_a_link_is_made_inside(client: docker.DockerClient, image: Import, untouched: Path) -> None:
    volume = client.volumes.create()
    container = client.containers.create(
        image({"data": str(untouched), "deep": "../" * 9 + str(untouched).lstrip("/")}),
        ["true"],
        mounts=[Mount("/data/new", volume.name), Mount("/deep/new", volume.name)],
    )
    assert store(container, "/data/new", tarball(entry("inside", b"x")))
    assert list(members(fetch(container, "/deep/new"))) == ["new", "new/inside"]
    container.remove()
    volume.remove()


def test_what_is_mounted_for_copying_does_not_spread_into_the_container(
    client: docker.DockerClient, image: Import, tmp_path: Path
) -> None:
    volume = client.volumes.create()
    with _shared_mount(tmp_path) as propagation:
        mounts = [Mount("/v", volume.name), Mount("/spread", str(tmp_path), type="bind", propagation=propagation)]
        container = client.containers.run(image({}), ["sh", "-c", f"echo up; {LOOP}"], mounts=mounts, detach=True)
        until_logged(container, b"up")
        before = container.exec_run("cat /proc/self/mountinfo").output
        assert store(container, "/v", tarball(entry("x", b"")))
        fetch(container, "/v")
        fetch(container, "/spread")
        assert container.exec_run("cat /proc/self/mountinfo").output == before
        container.remove(force=True)
    volume.remove()


@contextlib.contextmanager
def _shared_mount(directory: Path) -> Iterator[str]:
    """Make a directory a mount that others can follow; gives how they do. An ordinary user's engine does not see such mounts."""
    if ROOTLESS:
        yield "rprivate"
        return
    subprocess.run(["mount", "--bind", str(directory), str(directory)], check=True)
    try:
        subprocess.run(["mount", "--make-shared", str(directory)], check=True)
        yield "rslave"
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=True)


def test_a_tree_that_is_torn_down_meanwhile_gives_an_archive_that_can_be_read(client: docker.DockerClient, image: Import) -> None:
    tree = "for i in 1 2 3 4 5 6 7 8; do mkdir -p /w/$i/a/b; echo $i >/w/$i/f; mkfifo /w/$i/p; done"
    script = f"echo up; while :; do {tree}; rm -rf /w; done"
    container = client.containers.run(image({}), ["sh", "-c", script], detach=True)
    until_logged(container, b"up")
    for _ in range(ROUNDS):
        archive = fetch(container, "/w")
        if archive:
            assert members(archive)


def test_one_who_sends_nothing_keeps_only_itself_waiting(client: docker.DockerClient, image: Import) -> None:
    """An upload that stands still is a worker that waits; others get their answers."""
    container = client.containers.run(image({}), ["sh", "-c", LOOP], detach=True)
    go_on = threading.Event()

    def slowly() -> Iterator[bytes]:
        data = tarball(entry("late", b"x" * 600))
        yield data[:600]
        go_on.wait(30)
        yield data[600:]

    upload = threading.Thread(target=container.put_archive, args=("/", slowly()))
    upload.start()
    try:
        for _ in range(6):
            assert fetch(container, "/etc")
        assert container.exec_run("true").exit_code == 0
    finally:
        go_on.set()
        upload.join(30)
    assert io.BytesIO(fetch(container, "/late")).getvalue()
