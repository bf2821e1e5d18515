"""What is in volumes: filled from the image, shared between containers, mounted by the options of the local driver."""

from __future__ import annotations

import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docker import DockerClient
from support.creating import created, output_of, started
from support.images import docker_archive
from support.tarballs import entry, link, tarball

from kitepy.client.starter import find_busybox, pack_starter

TMPFS = {"type": "tmpfs", "device": "tmpfs", "o": "size=1m,mode=700"}


@pytest.fixture(name="image")
def _image(client: DockerClient) -> Iterator[str]:
    """An image with a VOLUME at /data, links to and away from it, and a file where no volume can be."""
    directory = tarfile.DIRTYPE
    content = tarball(
        entry("data", type=directory, mode=0o2750, uid=70, gid=71),
        entry("data/f", b"hello\n", mode=0o4755, uid=70, gid=72),
        entry("data/sub", type=directory, mode=0o700, uid=1),
        link("data/away", "/etc/passwd"),
        entry("data/pipe", type=tarfile.FIFOTYPE, mode=0o644),
        entry("empty", type=directory, mode=0o1777, uid=5, gid=6),
        link("door", "/data"),
        link("out", "../../../../etc"),
        link("nowhere", "/not/there"),
        entry("file", b"file\n"),
    )
    name = "volume-content:1"
    archive = docker_archive([pack_starter(find_busybox()), content], name, {"Volumes": {"/data": {}}})
    client.images.load(archive)
    yield name
    client.api.remove_image(name, force=True)


@pytest.fixture(name="volume")
def _volume(api: Any) -> Iterator[str]:
    name = "content"
    yield name
    answer = api("DELETE", f"/volumes/{name}?force=1")
    assert answer.status == 204, answer.body


def _shell(image: str, script: str, **host: Any) -> dict[str, Any]:
    return {"Image": image, "Cmd": ["sh", "-c", f"({script}) 2>&1; true"], "HostConfig": host}


LOOK = "cd {0}; stat -c '%A %u %g' . f sub pipe; readlink away; cat f"
LOOKS = "drwxr-s--- 70 71\n-rwsr-xr-x 70 72\ndrwx------ 1 0\nprw-r--r-- 0 0\n/etc/passwd\nhello\n"


def test_a_volume_of_the_image_has_what_the_image_has_there(api: Any, image: str) -> None:
    assert output_of(api, _shell(image, LOOK.format("/data"))) == LOOKS


def test_an_empty_volume_is_filled_when_a_container_is_made(api: Any, image: str, volume: str) -> None:
    look = _shell(image, "ls /there; rm -rf /there/*", Binds=[f"{volume}:/there:nocopy"])
    with created(api, {"Image": image, "HostConfig": {"Binds": [f"{volume}:/data:ro"]}, "Cmd": ["ls", "/data"]}) as made:
        assert output_of(api, look).split() == ["away", "f", "pipe", "sub"]
        started(api, made)  # what was taken out meanwhile stays out
        assert output_of(api, look) == ""
    assert output_of(api, _shell(image, LOOK.format("/data"), Binds=[f"{volume}:/data"])) == LOOKS


def test_a_volume_that_has_something_is_left_alone(api: Any, image: str, volume: str) -> None:
    output_of(api, _shell(image, "touch /new/mine", Binds=[f"{volume}:/new"]))
    script = "ls /data; stat -c '%A %u' /data"
    assert output_of(api, _shell(image, script, Binds=[f"{volume}:/data"])) == "mine\ndrwxr-xr-x 0\n"


def test_an_empty_directory_gives_its_owner_and_mode(api: Any, image: str, volume: str) -> None:
    assert output_of(api, _shell(image, "stat -c '%a %u %g' /empty", Binds=[f"{volume}:/empty"])) == "1777 5 6\n"


def test_a_volume_is_not_filled_against_the_users_will(api: Any, image: str, volume: str) -> None:
    for host in (
        {"Binds": [f"{volume}:/data:nocopy"]},
        {"Mounts": [{"Type": "volume", "Source": volume, "Target": "/data", "VolumeOptions": {"NoCopy": True}}]},
    ):
        assert output_of(api, _shell(image, "ls /data", **host)) == ""


def test_an_empty_part_of_a_volume_is_filled(api: Any, image: str, volume: str) -> None:
    def part(name: str) -> dict[str, Any]:
        return {"Type": "volume", "Source": volume, "Target": "/data", "VolumeOptions": {"Subpath": name}}

    output_of(api, _shell(image, "mkdir -p /v/a/b; ln -s /etc /v/out", Binds=[f"{volume}:/v"]))
    assert output_of(api, _shell(image, LOOK.format("/data"), Mounts=[part("a/b")])) == LOOKS
    with created(api, {"Image": image, "HostConfig": {"Mounts": [part("missing")]}}) as made:
        answer = api("POST", f"/containers/{made.id}/start")
        assert (answer.status, "cannot access path" in answer.message) == (404, True)
    answer = api("POST", "/containers/create", {"Image": image, "HostConfig": {"Mounts": [part("out")]}})
    assert (answer.status, "path concatenation escapes the base directory" in answer.message) == (400, True)
    assert output_of(api, _shell(image, "cd /v; ls . a a/b", Binds=[f"{volume}:/v"])).split() == [
        *(".:", "a", "out", "a:", "b", "a/b:", "away", "f", "pipe", "sub"),
    ]


@pytest.mark.parametrize(
    ("place", "script", "output"),
    [
        ("/door", "ls /data; readlink /door", "away\nf\npipe\nsub\n/data\n"),
        ("/nowhere", "touch /not/there/x; ls /nowhere/", "x\n"),
        ("/out", "touch /out/x; ls -d /etc/x", "/etc/x\n"),
    ],
)
def test_links_at_the_mount_point_stay_in_the_container(
    api: Any, image: str, volume: str, place: str, script: str, output: str
) -> None:
    body = _shell(image, script, Binds=[f"{volume}:{place}"])
    assert output_of(api, body) == output
    assert not Path("/etc/x").exists()
    assert not Path("/not").exists()


def test_a_volume_can_not_take_a_files_place(api: Any, image: str, volume: str) -> None:
    answer = api("POST", "/containers/create", {"Image": image, "HostConfig": {"Binds": [f"{volume}:/file"]}})
    assert (answer.status, "is not directory" in answer.message) == (500, True), answer.body


def test_a_volume_that_gets_full_is_told_and_nothing_is_left(api: Any, client: DockerClient, volume: str) -> None:
    big = tarball(entry("data/f", b"x" * 100_000))
    client.images.load(docker_archive([big], "too-big:1"))
    options = {"type": "tmpfs", "device": "tmpfs", "o": "size=8k"}
    assert api("POST", "/volumes/create", {"Name": volume, "DriverOpts": options}).status == 201
    before = {found["Name"] for found in api("GET", "/volumes").json["Volumes"]}
    body = {
        "Image": "too-big:1",
        "Cmd": ["x"],
        "HostConfig": {"Mounts": [{"Type": "volume", "Source": volume, "Target": "/data"}]},
    }
    answer = api("POST", "/containers/create?name=too-big", body)
    client.images.remove("too-big:1")
    assert answer.status == 500
    assert answer.message.startswith("failed to copy files: ")
    assert answer.message.endswith("no space left on device")
    assert api("GET", "/containers/too-big/json").status == 404
    assert {found["Name"] for found in api("GET", "/volumes").json["Volumes"]} == before


@pytest.mark.kitepy  # dockerd leaves them behind
def test_anonymous_volumes_of_a_container_that_is_not_made_go(api: Any, image: str) -> None:
    before = {found["Name"] for found in api("GET", "/volumes").json["Volumes"]}
    mounts = [{"Type": "volume", "Target": "/a"}, {"Type": "volume", "Target": "/file"}]
    answer = api("POST", "/containers/create", {"Image": image, "HostConfig": {"Mounts": mounts}})
    assert (answer.status, "is not directory" in answer.message) == (500, True)
    assert {found["Name"] for found in api("GET", "/volumes").json["Volumes"]} == before


@pytest.mark.parametrize("host", [{"Tmpfs": {"/data": ""}}, {"Mounts": [{"Type": "tmpfs", "Target": "/data"}]}])
def test_a_tmpfs_has_the_mode_of_what_it_covers(api: Any, image: str, host: dict[str, Any]) -> None:
    assert output_of(api, _shell(image, "ls /data; stat -c '%a %u %g' /data", **host)) == "2750 0 0\n"


@pytest.mark.kitepy  # with Docker the directory's mode beats what was asked for
def test_a_tmpfs_has_the_mode_that_is_asked_for(api: Any, image: str) -> None:
    assert output_of(api, _shell(image, "stat -c %a /n /data", Tmpfs={"/n": "", "/data": "mode=711"})) == "1777\n711\n"


def test_volumes_from_others(api: Any, image: str, volume: str, tmp_path: Path) -> None:
    host = {"Binds": [f"{volume}:/v", f"{tmp_path}:/b:ro"], "Tmpfs": {"/t": ""}}
    script = "touch /v/x /b/x /data/x; ls / /v"
    with (
        created(api, {"Image": image, "HostConfig": host}) as first,
        created(api, {"Image": image, "HostConfig": {"Binds": [f"{volume}:/v:ro"]}}) as second,
    ):
        taken = {**_shell(image, script, VolumesFrom=[first.id])}
        with created(api, taken) as made:
            mounts = {mount["Destination"]: (mount["RW"], mount["Mode"]) for mount in made.document["Mounts"]}
        assert mounts == {"/v": (True, ""), "/b": (False, ""), "/data": (True, "")}
        for sources, refused in (
            ([first.id], "/b"),
            ([f"{first.id}:ro,z"], "/v /b /data"),
            ([first.id, second.id], "/v /b"),
            ([second.id, first.id], "/b"),
        ):
            output = output_of(api, _shell(image, script, VolumesFrom=sources))
            for path in ("/v", "/b", "/data"):
                assert (f"touch: {path}/x: Read-only file system" in output) == (path in refused.split()), (sources, output)
        assert "touch" not in output_of(api, _shell(image, "touch /b/y", VolumesFrom=[first.id], Binds=[f"{volume}:/b"]))


def test_two_containers_share_a_tmpfs_until_the_last_one_ends(api: Any, busybox: str, volume: str) -> None:
    assert api("POST", "/volumes/create", {"Name": volume, "DriverOpts": TMPFS}).status == 201
    bind = {"Binds": [f"{volume}:/v"]}
    keeper = {"Image": busybox, "Cmd": ["sleep", "60"], "HostConfig": bind}
    look = _shell(busybox, "ls /v; stat -c %a /v; df -k /v | tail -n 1 | awk '{print $2}'", **bind)
    with created(api, keeper) as made:
        started(api, made)
        output_of(api, _shell(busybox, "touch /v/shared", **bind))
        assert output_of(api, look) == "shared\n700\n1024\n"
        assert api("GET", f"/volumes/{volume}").json["Options"] == TMPFS
    assert output_of(api, look) == "700\n1024\n"
    usage = api("GET", "/system/df?type=volume").json["Volumes"]
    assert volume not in [found["Name"] for found in usage]


def test_a_volume_can_be_a_directory_of_the_host(api: Any, image: str, volume: str, tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    tmp_path.chmod(0o755)
    options = {"type": "none", "o": "bind,ro", "device": str(tmp_path)}
    mount = {"Type": "volume", "Source": volume, "Target": "/v", "VolumeOptions": {"DriverConfig": {"Options": options}}}
    output = output_of(api, _shell(image, "ls /v; touch /v/x", Mounts=[mount]))
    assert output == "precious\ntouch: /v/x: Read-only file system\n"
    assert api("GET", f"/volumes/{volume}").json["Options"] == options
    assert api("DELETE", f"/volumes/{volume}").status == 204
    assert (tmp_path / "precious").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"type": "none", "o": "bind", "device": "/not/there"}, "mount /not/there:{0}, flags: 0x1000: no such file or directory"),
        ({"type": "tmpfs", "device": "tmpfs", "o": "bogus=1,ro"}, "mount tmpfs:{0}, flags: 0x1, data: bogus=1: invalid argument"),
        ({"type": "nosuch", "device": "x"}, "mount x:{0}: no such device"),
    ],
)
def test_what_can_not_be_mounted_is_told_at_the_start(
    api: Any, busybox: str, volume: str, options: dict[str, str], words: str
) -> None:
    directory = api("POST", "/volumes/create", {"Name": volume, "DriverOpts": options}).json["Mountpoint"]
    with created(api, {"Image": busybox, "HostConfig": {"Binds": [f"{volume}:/v"]}}) as made:
        answer = api("POST", f"/containers/{made.id}/start")
        state = api("GET", f"/containers/{made.id}/json").json["State"]
    expected = f"error while mounting volume '{directory}': failed to mount local volume: {words.format(directory)}"
    assert answer.status == 500
    assert answer.message.startswith(expected), answer.message
    assert (state["Status"], state["ExitCode"], state["Error"]) == ("created", 128, answer.message)


@pytest.mark.needs("limits")  # an ordinary user's engine doesn't see what root mounts here
@pytest.mark.parametrize(
    ("propagation", "state", "words"),
    [
        ("rshared", "private", "but it is not a shared mount"),
        ("rslave", "private", "but it is not a shared or slave mount"),
        ("rshared", "shared", ""),
        ("slave", "shared", ""),
    ],
)
def test_only_mounts_that_are_shared_can_be_followed(
    api: Any, busybox: str, tmp_path: Path, propagation: str, state: str, words: str
) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(tmp_path)], check=True)
    try:
        subprocess.run(["mount", f"--make-{state}", str(tmp_path)], check=True)
        with created(api, {"Image": busybox, "HostConfig": {"Binds": [f"{tmp_path}:/v:{propagation}"]}}) as made:
            answer = api("POST", f"/containers/{made.id}/start")
            api("POST", f"/containers/{made.id}/wait")
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)
    if words:
        assert (answer.status, answer.message) == (500, f"path {tmp_path} is mounted on {tmp_path} {words}")
    else:
        assert answer.status == 204
