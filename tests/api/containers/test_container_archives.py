"""Files into and out of containers: ``/archive`` and ``/export``, running and not."""

from __future__ import annotations

import base64
import bz2
import gzip
import http.client
import io
import json
import lzma
import socket
import subprocess
import tarfile
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
import zstandard
from docker.models.containers import Container
from docker.types import Mount
from support.engine import EngineUnderTest
from support.tarballs import content, entry, link, members, tarball

DIRECTORY, LINK, FIFO, DEVICE = 1 << 31, 1 << 27, 1 << 25, 1 << 26 | 1 << 21
LOOP = "while :; do sleep 0.1; done"
TREE = (
    "mkdir -p /t/dir/sub /t/empty; echo hello >/t/dir/f; echo x >/t/dir/sub/g; ln -s dir /t/ldir; ln -s /t/dir/f /t/lf;"
    "ln -s /nope /t/lbroken; ln -s ldir /t/lldir; ln -s ../../../../etc/passwd /t/lup; ln -s loop /t/loop; chmod 1777 /t/empty;"
    "chown 5:6 /t/dir/f; ln /t/dir/f /t/dir/hard; mkfifo /t/dir/fifo; touch -d '2020-01-02 03:04:05' /t/dir/sub/g"
)
HEADER = "x-docker-container-path-stat"


class Files:
    """Raw requests about one container's files."""

    def __init__(self, engine: EngineUnderTest, container: str) -> None:
        self._path = str(engine.socket)
        self._container = container

    def request(self, method: str, what: str, body: bytes | None = None, **query: str) -> tuple[int, bytes, dict[str, str]]:
        connection = http.client.HTTPConnection("localhost", timeout=60)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(60)
        connection.sock.connect(self._path)
        try:
            target = f"/v1.51/containers/{self._container}/{what}?{urllib.parse.urlencode(query)}"
            connection.request(method, target, body, {"Content-Type": "application/x-tar"} if body is not None else {})
            answer = connection.getresponse()
            return answer.status, answer.read(), {name.lower(): value for name, value in answer.getheaders()}
        finally:
            connection.close()

    def stat(self, path: str) -> dict[str, Any]:
        status, _, headers = self.request("HEAD", "archive", path=path)
        assert status == 200, f"{path}: {status}"
        found: dict[str, Any] = json.loads(base64.b64decode(headers[HEADER]))
        return found

    def get(self, path: str) -> bytes:
        status, body, headers = self.request("GET", "archive", path=path)
        assert status == 200, f"{path}: {status} {body!r}"
        assert headers["content-type"] == "application/x-tar"
        return body

    def put(self, path: str, archive: bytes, **query: str) -> tuple[int, str]:
        status, body, _ = self.request("PUT", "archive", archive, path=path, **query)
        return status, json.loads(body)["message"] if body else ""


Of = Callable[[Container], Files]


@pytest.fixture(name="files")
def _files(engine: EngineUnderTest) -> Of:
    return lambda container: Files(engine, str(container.id))


@pytest.fixture(name="tree", params=["running", "paused", "exited"])
def _tree(request: pytest.FixtureRequest, run: Any, files: Of) -> Iterator[Files]:
    """A container with files of all kinds, in each state that a container can have been left in."""
    container = run(f"{TREE}; echo made; " + (LOOP if request.param != "exited" else "true"))
    for line in container.logs(follow=True, stream=True):
        if b"made" in line:
            break
    if request.param == "exited":
        container.wait()
    if request.param == "paused":
        try:
            container.pause()
        except docker.errors.APIError as error:
            if error.status_code != 501:
                raise
            pytest.skip("nothing can be paused here")
    yield files(container)
    if request.param == "paused":
        container.unpause()


# --- what a path is --------------------------------------------------------------------------------------------------


def test_stat_tells_of_the_path_itself_in_go_s_words(tree: Files) -> None:
    assert {key: tree.stat("/t/dir/sub/g")[key] for key in ("name", "size", "mode", "mtime", "linkTarget")} == {
        "name": "g",
        "size": 2,
        "mode": 0o644,
        "mtime": "2020-01-02T03:04:05Z",
        "linkTarget": "",
    }
    assert tree.stat("/t/dir")["mode"] == DIRECTORY | 0o755
    assert tree.stat("/t/empty")["mode"] == DIRECTORY | 1 << 20 | 0o777
    assert tree.stat("/t/dir/fifo")["mode"] == FIFO | 0o644
    assert tree.stat("/t/lf") | {"mtime": ""} == {
        "name": "lf",
        "size": 8,
        "mode": LINK | 0o777,
        "mtime": "",
        "linkTarget": "/t/dir/f",
    }


def test_stat_follows_links_to_their_end_inside_the_container(tree: Files) -> None:
    targets = {name: tree.stat(f"/t/{name}")["linkTarget"] for name in ("ldir", "lldir", "lbroken", "lup")}
    assert targets == {"ldir": "/t/dir", "lldir": "/t/dir", "lbroken": "/nope", "lup": "/etc/passwd"}


def test_a_slash_at_the_end_means_what_the_link_leads_to(tree: Files) -> None:
    for path, name in (("/t/ldir/", "ldir"), ("/t/ldir/.", "."), ("/t/dir/", "dir"), ("/t/dir/.", "."), ("/", "/"), ("/.", ".")):
        found = tree.stat(path)
        assert (found["name"], found["mode"], found["linkTarget"]) == (name, DIRECTORY | 0o755, ""), path


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("/t/dir", ["dir", "dir/f", "dir/fifo", "dir/hard", "dir/sub", "dir/sub/g"]),
        ("t/dir/", ["dir", "dir/f", "dir/fifo", "dir/hard", "dir/sub", "dir/sub/g"]),
        ("/t/dir/.", [".", "./f", "./fifo", "./hard", "./sub", "./sub/g"]),
        ("/t//dir/sub/../sub", ["sub", "sub/g"]),
        ("../../t/dir/sub", ["sub", "sub/g"]),
        ("/t/dir/f", ["f"]),
        ("/t/ldir", ["ldir"]),
        ("/t/ldir/", ["ldir", "ldir/f", "ldir/fifo", "ldir/hard", "ldir/sub", "ldir/sub/g"]),
        ("/t/ldir/f", ["f"]),
        ("/t/lbroken", ["lbroken"]),
        ("/t/empty", ["empty"]),
        ("/proc", ["proc"]),
    ],
)
def test_the_path_decides_the_names_in_the_archive(run: Any, files: Of, path: str, names: list[str]) -> None:
    container = run(TREE)
    container.wait()
    assert list(members(files(container).get(path))) == names


def test_an_archive_keeps_owners_modes_times_links_and_kinds(tree: Files) -> None:
    found = members(tree.get("/t"))
    file = found["t/dir/f"]
    assert (file.uid, file.gid, file.size, file.mode) == (5, 6, 6, 0o644)
    assert (found["t/dir/hard"].type, found["t/dir/hard"].linkname) == (tarfile.LNKTYPE, "t/dir/f")
    assert (found["t/ldir"].type, found["t/ldir"].linkname) == (tarfile.SYMTYPE, "dir")
    assert found["t/dir/fifo"].type == tarfile.FIFOTYPE
    assert found["t/empty"].mode == 0o1777
    assert found["t/dir/sub/g"].mtime == 1577934245
    assert found["t/lup"].linkname == "../../../../etc/passwd"


def test_the_root_itself_has_names_that_start_with_a_slash(run: Any, files: Of) -> None:
    container = run("true")
    container.wait()
    buffer = io.BytesIO(files(container).get("/"))
    with tarfile.open(fileobj=buffer) as archive:
        raw = [member.get_info()["name"] for member in archive]
    assert raw[0] in ("/", "")
    assert "/.dockerenv" in raw
    assert all(name.startswith("/") for name in raw[1:])


@pytest.mark.parametrize("path", ["/t/none", "/t/none/", "/none/none", "/t/lbroken/", "/proc/version", "/dev/null"])
def test_what_is_not_there_is_not_found(run: Any, files: Of, path: str) -> None:
    container = run(TREE)
    container.wait()
    for method in ("HEAD", "GET", "PUT"):
        status, body, headers = files(container).request(method, "archive", b"" if method == "PUT" else None, path=path)
        assert status == 404, method
        assert HEADER not in headers
        if method != "HEAD":
            assert json.loads(body)["message"] == f"Could not find the file {path} in container {container.id}"


@pytest.mark.parametrize("path", ["/t/dir/f/", "/t/dir/f/.", "/t/dir/f/x", "/t/loop", "/t/loop/", "/t/loop/x"])
def test_a_path_that_leads_nowhere_is_refused(run: Any, files: Of, path: str) -> None:
    container = run(TREE)
    container.wait()
    status, body, _ = files(container).request("GET", "archive", path=path)
    assert status in (400, 500)
    assert path in json.loads(body)["message"]


@pytest.mark.kitepy
@pytest.mark.parametrize("path", ["/t/dir/f/", "/t/loop", "/t/loop/x", "/" + "n" * 300, "/" + "n/" * 2100, "/a\0b"])
def test_a_path_that_leads_nowhere_is_the_client_s_mistake(run: Any, files: Of, path: str) -> None:
    container = run(TREE)
    container.wait()
    for method in ("HEAD", "GET", "PUT"):
        status, _, _ = files(container).request(method, "archive", b"" if method == "PUT" else None, path=path)
        assert status == 400, method


def test_a_path_is_needed(run: Any, files: Of) -> None:
    container = run("true")
    for query in ({}, {"path": ""}):
        for method in ("HEAD", "GET", "PUT"):
            status, _, _ = files(container).request(method, "archive", b"" if method == "PUT" else None, **query)
            assert status == 400, method


def test_an_unknown_container_is_not_found(engine: EngineUnderTest) -> None:
    unknown = Files(engine, "nobody")
    for method, what in (("HEAD", "archive"), ("GET", "archive"), ("PUT", "archive"), ("GET", "export")):
        status, body, _ = unknown.request(method, what, b"" if method == "PUT" else None, path="/")
        assert status == 404
        assert method == "HEAD" or json.loads(body)["message"] == "No such container: nobody"


# --- putting ---------------------------------------------------------------------------------------------------------


@pytest.fixture(name="target", params=["created", "running", "exited"])
def _target(request: pytest.FixtureRequest, client: docker.DockerClient, busybox: str, run: Any, files: Of) -> Files:
    """A container with /t in it."""
    command = f"mkdir -p /t/d; {LOOP if request.param == 'running' else 'true'}"
    if request.param == "created":
        made = files(client.containers.create(busybox, ["sh", "-c", command]))
        assert made.put("/", tarball(entry("t"), entry("t/d"))) == (200, "")
        return made
    container = run(command)
    if request.param == "exited":
        container.wait()
    else:
        for _ in range(1000):
            if files(container).request("HEAD", "archive", path="/t/d")[0] == 200:
                break
    return files(container)


def test_what_is_put_is_there_with_all_that_it_is(target: Files) -> None:
    archive = tarball(
        entry("a", b"aa", mode=0o4711, uid=7, gid=8, mtime=1234567890.25),
        entry("dir", mode=0o1750, uid=3, gid=4, mtime=1000),
        entry("dir/b", b""),
        link("soft", "/etc/passwd"),
        entry("hard", type=tarfile.LNKTYPE, linkname="a", mode=0o4711, uid=7, gid=8, mtime=1234567890.25),
        entry("fifo", type=tarfile.FIFOTYPE, mode=0o600),
        entry("n" * 120 + "/" + "m" * 120, b"long"),
        entry("p/q/r", b"parents", uid=3),
    )
    assert target.put("/t/d", archive) == (200, "")
    found = members(target.get("/t/d"))
    assert (found["d/a"].mode, found["d/a"].uid, found["d/a"].gid, found["d/a"].mtime) == (0o4711, 7, 8, 1234567890)
    assert target.stat("/t/d/a")["mtime"] == "2009-02-13T23:31:30.25Z"
    assert (found["d/dir"].mode, found["d/dir"].uid, found["d/dir"].gid, found["d/dir"].mtime) == (0o1750, 3, 4, 1000)
    assert found["d/soft"].linkname == "/etc/passwd"
    assert found["d/hard"].linkname == "d/a"
    assert found["d/fifo"].type == tarfile.FIFOTYPE
    assert found["d/" + "n" * 120 + "/" + "m" * 120].size == 4
    assert [(found[name].mode, found[name].uid) for name in ("d/p", "d/p/q", "d/p/q/r")] == [(0o755, 0), (0o755, 0), (0o644, 3)]


@pytest.mark.parametrize(
    "compress",
    [gzip.compress, bz2.compress, lzma.compress, zstandard.ZstdCompressor().compress],
    ids=["gzip", "bzip2", "xz", "zstd"],
)
def test_an_archive_may_be_compressed(target: Files, compress: Callable[[bytes], bytes]) -> None:
    assert target.put("/t", compress(tarball(entry("c", b"compressed")))) == (200, "")
    assert content(target.get("/t/c"), "c") == b"compressed"


def test_nothing_and_an_empty_archive_change_nothing(target: Files) -> None:
    assert target.put("/t", b"") == (200, "")
    assert target.put("/t", bytes(1024)) == (200, "")
    assert list(members(target.get("/t"))) == ["t", "t/d"]


@pytest.mark.parametrize("body", [b"xx", b"no archive, but long enough " * 40, tarball(entry("x", b"y" * 5000))[:2000]])
def test_a_broken_archive_is_refused(target: Files, body: bytes) -> None:
    status, message = target.put("/t", body)
    assert status in (400, 500)
    assert message


@pytest.mark.kitepy
@pytest.mark.parametrize(
    "archive",
    [
        b"no archive, but long enough " * 40,
        tarball(entry("x", b"y" * 5000))[:2000],
        gzip.compress(tarball(entry("x", b"y" * 5000)))[:60],
        tarball(entry("../x", b"")),
        tarball(link("x", "../../etc/passwd", hard=True)),
        tarball(link("x", "missing", hard=True)),
        tarball(entry("x", b"", type=b"Z")),
        tarball(entry("n" * 300, b"")),
    ],
    ids=["garbage", "truncated", "truncated gzip", "leads out", "hard link out", "hard link to nothing", "unknown type", "long"],
)
def test_what_is_wrong_with_an_archive_is_the_client_s_mistake(target: Files, archive: bytes) -> None:
    status, message = target.put("/t", archive)
    assert status == 400
    assert message


def test_only_directories_take_archives(target: Files) -> None:
    assert target.put("/t", tarball(entry("file", b""), link("lf", "file"), link("ld", "d"))) == (200, "")
    for path in ("/t/file", "/t/lf"):
        assert target.put(path, tarball(entry("x", b""))) == (400, "extraction point is not a directory")
    for path in ("/t/ld", "/t/ld/", "/t/d/.", "t/d/../d"):
        assert target.put(path, tarball(entry("x", path.encode()))) == (200, "")
        assert content(target.get("/t/d/x"), "x") == path.encode()


def test_files_and_directories_take_each_other_s_place_unless_that_is_forbidden(target: Files) -> None:
    assert target.put("/t", tarball(entry("file", b""), entry("d/inner", b""), link("ld", "d"))) == (200, "")
    directory, file = tarball(entry("file")), tarball(entry("d", b"x"))
    for archive, message in (
        (directory, 'cannot overwrite non-directory "file" with directory "/t"'),
        (file, 'cannot overwrite directory "d" with non-directory "/t"'),
        (tarball(link("d", "x")), 'cannot overwrite directory "d" with non-directory "/t"'),
        (tarball(entry("ld")), 'cannot overwrite non-directory "ld" with directory "/t"'),
    ):
        status, answer = target.put("/t", archive, noOverwriteDirNonDir="1")
        assert status in (400, 500)
        assert answer == message
    assert target.put("/t", tarball(entry("file", b"new"), entry("d")), noOverwriteDirNonDir="1") == (200, "")
    assert target.put("/t", directory) == (200, "")
    assert target.put("/t", file) == (200, "")
    found = members(target.get("/t"))
    assert (found["t/file"].isdir(), found["t/d"].isfile(), "t/d/inner" in found) == (True, True, False)


def test_the_destination_keeps_its_own_attributes_and_whiteouts_are_files(target: Files) -> None:
    before = target.stat("/t/d")
    archive = tarball(entry("./", mode=0o700, uid=9), entry(".wh.x", b""), entry(".wh..wh..opq", b""))
    assert target.put("/t/d", archive) == (200, "")
    assert target.stat("/t/d")["mode"] == before["mode"]
    assert list(members(target.get("/t/d"))) == ["d", "d/.wh..wh..opq", "d/.wh.x"]


def test_files_can_be_given_to_the_container_s_user(client: docker.DockerClient, busybox: str, files: Of) -> None:
    accounts = tarball(entry("passwd", b"root:x:0:0::/:/bin/sh\nbob:x:77:78::/:/bin/sh\n"), entry("group", b"team:x:88:\n"))
    archive = tarball(entry("a", b"", uid=7, gid=8), entry("n/m", b"", uid=7))
    for user, owner in (
        ("bob", (77, 78)),
        ("bob:team", (77, 88)),
        ("1000:1001", (1000, 1001)),
        ("1000", (1000, 0)),
        ("", (7, 8)),
    ):
        target = files(client.containers.create(busybox, ["true"], user=user))
        assert target.put("/etc", accounts) == (200, "")
        assert target.put("/etc", archive, copyUIDGID="1") == (200, "")
        found = members(target.get("/etc"))
        assert (found["etc/a"].uid, found["etc/a"].gid) == owner, user
        assert found["etc/n"].uid == 0
        assert target.put("/etc", archive) == (200, "")
        assert members(target.get("/etc/a"))["a"].uid == 7
    stranger = files(client.containers.create(busybox, ["true"], user="stranger"))
    status, message = stranger.put("/etc", archive, copyUIDGID="1")
    assert status == 400
    assert "passwd" in message


def test_a_running_container_sees_at_once_what_is_put(run: Any, files: Of) -> None:
    container = run("until [ -e /signal ]; do sleep 0.05; done; cat /signal /new/x")
    assert files(container).put("/", tarball(entry("new/x", b"content\n"), entry("signal", b"signal\n"))) == (200, "")
    container.wait(timeout=20)
    assert container.logs() == b"signal\ncontent\n"


# --- what is mounted -------------------------------------------------------------------------------------------------


@pytest.fixture(name="volume")
def _volume(client: docker.DockerClient) -> Iterator[str]:
    volume = client.volumes.create()
    yield volume.name
    for container in client.containers.list(all=True, ignore_removed=True):
        if any(mount.get("Name") == volume.name for mount in container.attrs["Mounts"]):
            container.remove(force=True)
    volume.remove(force=True)


@pytest.mark.parametrize("state", ["created", "running", "exited"])
def test_volumes_and_host_directories_are_part_of_the_files(
    client: docker.DockerClient, busybox: str, files: Of, volume: str, tmp_path: Path, state: str
) -> None:
    tmp_path.chmod(0o777)
    (tmp_path / "given").write_text("the host's")
    mounts = [
        Mount("/v", volume),
        Mount("/host", str(tmp_path), type="bind"),
        Mount("/v/deep", str(tmp_path), type="bind", read_only=True),
    ]
    container = client.containers.create(busybox, ["sh", "-c", "true" if state == "exited" else LOOP], mounts=mounts)
    if state != "created":
        container.start()
    if state == "exited":
        container.wait()
    target = files(container)
    assert target.put("/v", tarball(entry("mine", b"in a volume"))) == (200, "")
    assert target.put("/", tarball(entry("host/from", b"container"))) == (200, "")
    assert (tmp_path / "from").read_text() == "container"
    assert content(target.get("/v"), "v/deep/given") == b"the host's"
    assert target.stat("/v/deep/given")["size"] == 10
    other = files(client.containers.create(busybox, ["true"], mounts=[Mount("/elsewhere", volume)]))
    assert content(other.get("/elsewhere/mine"), "mine") == b"in a volume"
    (exported,) = [target.request("GET", "export")[1]]
    assert not any(name.startswith(("v/", "host/")) for name in members(exported))


@pytest.mark.parametrize("running", [False, True])
def test_nothing_is_put_where_the_container_could_not_write(
    client: docker.DockerClient, busybox: str, files: Of, volume: str, tmp_path: Path, running: bool
) -> None:
    tmp_path.chmod(0o777)
    archive = tarball(entry("x", b""))
    mounts = [Mount("/v", volume), Mount("/fixed", str(tmp_path), type="bind", read_only=True)]
    container = client.containers.create(busybox, ["sh", "-c", LOOP], mounts=mounts, read_only=True)
    if running:
        container.start()
    target = files(container)
    assert target.put("/", archive) == (400, "container rootfs is marked read-only")
    assert target.put("/etc", archive) == (400, "container rootfs is marked read-only")
    assert target.put("/fixed", archive) == (400, "mounted volume is marked read-only")
    assert target.put("/v", archive) == (200, "")
    writable = files(client.containers.create(busybox, ["true"], mounts=mounts))
    status, message = writable.put("/", tarball(entry("fixed/y", b"")))
    assert status in (400, 500)
    assert "read-only" in message
    assert not list(tmp_path.iterdir())


def test_what_is_in_memory_only_is_not_part_of_the_files(run: Any, files: Of, until: Any) -> None:
    container = run(f"echo secret >/tm/x; echo >/dev/shm/y; {LOOP}", tmpfs={"/tm": ""})
    until(lambda: container.exec_run("test -e /dev/shm/y").exit_code == 0)
    assert list(members(files(container).get("/tm"))) == ["tm"]
    assert list(members(files(container).get("/dev"))) == ["dev", "dev/console", "dev/pts", "dev/shm"]
    assert files(container).put("/tm", tarball(entry("hidden", b""))) == (200, "")
    assert container.exec_run("ls /tm").output == b"x\n"


def test_the_engine_s_files_are_seen_but_can_not_be_replaced(run: Any, files: Of) -> None:
    container = run(LOOP)
    hosts = container.exec_run("cat /etc/hosts").output
    assert b"localhost" in hosts
    assert content(files(container).get("/etc/hosts"), "hosts") == hosts
    assert files(container).put("/etc", tarball(entry("hosts", b"")))[0] in (400, 500)
    assert container.exec_run("cat /etc/hosts").output == hosts


@pytest.mark.parametrize("running", [True, False])
def test_a_part_of_a_volume_is_all_that_is_seen(
    api: Any, client: docker.DockerClient, busybox: str, files: Of, volume: str, running: bool
) -> None:
    filler = client.containers.create(busybox, ["true"], mounts=[Mount("/all", volume)])
    assert files(filler).put("/all", tarball(entry("part/in", b"in"), entry("beside", b"out"))) == (200, "")
    part = {"Type": "volume", "Source": volume, "Target": "/v", "VolumeOptions": {"Subpath": "part"}}
    made = api("POST", "/containers/create", {"Image": busybox, "Cmd": ["sh", "-c", LOOP], "HostConfig": {"Mounts": [part]}})
    assert made.status == 201
    container = client.containers.get(made.json["Id"])
    if running:
        container.start()
    assert list(members(files(container).get("/v"))) == ["v", "v/in"]
    assert files(container).put("/v", tarball(entry("new", b"new"))) == (200, "")
    assert content(files(filler).get("/all/part/new"), "new") == b"new"


# --- export ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["created", "running", "exited"])
def test_export_gives_the_root_file_system(client: docker.DockerClient, busybox: str, files: Of, state: str) -> None:
    script = "echo 3 >/f; ln /f /g; rm /bin/acpid; mkfifo /ff; ln -s /x /y; chown 3:4 /f; touch /done; "
    container = client.containers.create(busybox, ["sh", "-c", script + ("true" if state == "exited" else LOOP)])
    if state != "created":
        container.start()
        for _ in range(1000):
            if files(container).request("HEAD", "archive", path="/done")[0] == 200:
                break
    status, body, headers = files(container).request("GET", "export")
    assert (status, headers["content-type"]) == (200, "application/octet-stream")
    assert body.endswith(bytes(1024))
    found = members(body)
    assert {".dockerenv", "bin", "bin/sh", "dev/console", "dev/pts", "etc/hosts", "etc/mtab", "proc", "sys"} <= set(found)
    assert found["etc/hosts"].size == 0
    assert not any(name.startswith(("proc/", "sys/", "/", ".")) for name in found if name != ".dockerenv")
    if state != "created":
        assert "bin/acpid" not in found
        assert (found["f"].uid, found["f"].gid, found["g"].linkname, found["y"].linkname) == (3, 4, "f", "/x")
        assert found["ff"].type == tarfile.FIFOTYPE


def test_what_was_exported_can_be_imported_and_run(client: docker.DockerClient, run: Any) -> None:
    container = run("echo kept >/kept")
    container.wait()
    client.api.import_image_from_data(b"".join(container.export()), repository="exported", tag="t")
    try:
        assert client.containers.run("exported:t", ["cat", "/kept"], remove=True) == b"kept\n"
    finally:
        client.images.remove("exported:t")


def test_copying_is_told_as_events(client: docker.DockerClient, run: Any, files: Of) -> None:
    container = run("true")
    container.wait()
    target = files(container)
    target.stat("/etc")
    target.get("/etc")
    target.put("/etc", b"")
    target.put("/none", b"")
    target.request("GET", "export")
    filters = json.dumps({"container": [container.id], "event": ["archive-path", "extract-to-dir", "export"]})
    past = client.api.events(since=0, until=int(container.attrs["Created"][:4]) and 4_000_000_000, filters=json.loads(filters))
    actions = []
    for line in past:
        actions.append(json.loads(line)["Action"])
        if len(actions) == 3:
            break
    past.close()
    assert actions == ["archive-path", "extract-to-dir", "export"]


def test_a_client_that_leaves_ends_the_export(run: Any, engine: EngineUnderTest) -> None:
    container = run("dd if=/dev/zero of=/big bs=1M count=64 2>/dev/null")
    container.wait()
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(engine.socket))
    connection.sendall(f"GET /v1.51/containers/{container.id}/export HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert connection.recv(100).startswith(b"HTTP/1.1 200")
    connection.close()
    container.remove()
    assert container.id not in {other.id for other in container.client.containers.list(all=True)}


@pytest.mark.kitepy
def test_a_sparse_file_arrives_as_what_it_is(target: Files, tmp_path: Path) -> None:
    script = "truncate -s 100M sparse && printf end >>sparse && tar -Scf out sparse"
    subprocess.run(["sh", "-c", script], cwd=tmp_path, check=True)
    assert target.put("/t", (tmp_path / "out").read_bytes()) == (200, "")
    assert target.stat("/t/sparse")["size"] == (100 << 20) + 3
