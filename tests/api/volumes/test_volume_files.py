"""Looking into volumes: by containers that never run, as with any engine, and by calls of Kitepy's own."""

from __future__ import annotations

import io
import json
import tarfile
import time
import urllib.parse
from collections.abc import Iterator
from typing import Any

import pytest
from support.creating import created, output_of
from support.tarballs import content, entry, link, members, tarball

TMPFS = {"type": "tmpfs", "device": "tmpfs"}
SCRIPT = """
cd /v; mkdir -p dir/deep many; printf hello >dir/f; chmod 640 dir/f; chown 5:6 dir/f; ln -s f dir/link; ln -s /etc/passwd out
ln -s ../../../../../etc up; ln -s / root; mkfifo pipe; ln -s loop loop; printf x >"$(printf 'bad\\377')"
"""


@pytest.fixture(name="volume")
def _volume(api: Any, busybox: str) -> Iterator[str]:
    name = "looked-into"
    output_of(api, {"Image": busybox, "Cmd": ["sh", "-c", SCRIPT], "HostConfig": {"Binds": [f"{name}:/v"]}})
    yield name
    assert api("DELETE", f"/volumes/{name}").status == 204


def _upload(api: Any, target: str, data: bytes) -> int:
    from api.containers.conftest import _UnixConnection

    connection = _UnixConnection(api.path)
    try:
        connection.request("PUT", f"/v1.51{target}", data, {"Content-Type": "application/x-tar"})
        response = connection.getresponse()
        response.read()
        return response.status
    finally:
        connection.close()


@pytest.mark.parametrize("options", [None, TMPFS], ids=["directory", "tmpfs"])
def test_a_container_that_never_runs_takes_files_in_and_out(api: Any, busybox: str, options: dict[str, str] | None) -> None:
    assert api("POST", "/volumes/create", {"Name": "kept", "DriverOpts": options}).status == 201
    mount = {"Type": "volume", "Source": "kept", "Target": "/volume", "VolumeOptions": {"NoCopy": True}}
    host = {"NetworkMode": "none", "Mounts": [mount]}
    with (
        created(api, {"Image": "", "Cmd": ["x"], "HostConfig": host}) as made,
        # What holds the tmpfs from one call to the next.
        created(api, {"Image": busybox, "Cmd": ["sleep", "60"], "HostConfig": {"Binds": ["kept:/v"]}}) as holder,
    ):
        assert api("POST", f"/containers/{holder.id}/start").status == 204
        began = time.time()
        data = tarball(entry("f", b"restored", mode=0o600, uid=7), link("away", "/etc/passwd"))
        assert _upload(api, f"/containers/{made.id}/archive?path=/volume", data) == 200
        backup = api("GET", f"/containers/{made.id}/archive?path=/volume/.").body
        assert content(backup, "./f") == b"restored"
        assert (members(backup)["./f"].mode, members(backup)["./f"].uid) == (0o600, 7)
        assert members(backup)["./away"].linkname == "/etc/passwd"
        filters = urllib.parse.quote(json.dumps({"container": [made.id], "type": ["container", "volume"]}))
        events = api("GET", f"/events?since={began:.9f}&until={time.time():.9f}&filters={filters}").body
        told = [json.loads(line) for line in events.splitlines()]
    assert [event["Action"] for event in told if event["Type"] == "container"] == ["extract-to-dir", "archive-path"]
    everything = api("GET", f"/events?since={began:.9f}&until={time.time():.9f}").body
    of_volume = [
        event["Action"]
        for event in map(json.loads, everything.splitlines())
        if event["Actor"]["Attributes"].get("container") == made.id and event["Type"] == "volume"
    ]
    assert of_volume == ["mount", "unmount", "mount", "unmount"]
    assert api("DELETE", "/volumes/kept").status == 204


def _files(api: Any, volume: str, path: str) -> Any:
    return api("GET", f"/kitepy/volumes/{volume}/files?path={urllib.parse.quote(path)}")


@pytest.mark.kitepy
def test_a_directory_of_a_volume_is_listed(api: Any, volume: str) -> None:
    found = _files(api, volume, "/").json
    assert (found["Path"], found["Truncated"]) == ("/", False)
    assert [(entry["Name"], entry["Type"], entry.get("LinkTarget")) for entry in found["Entries"]] == [
        ("dir", "directory", None),
        ("many", "directory", None),
        ("bad\ufffd", "file", None),
        ("loop", "symlink", "loop"),
        ("out", "symlink", "/etc/passwd"),
        ("pipe", "fifo", None),
        ("root", "symlink", "/"),
        ("up", "symlink", "../../../../../etc"),
    ]
    inside = {entry["Name"]: entry for entry in _files(api, volume, "dir/").json["Entries"]}
    assert list(inside) == ["deep", "f", "link"]
    file = inside["f"]
    assert (file["Type"], file["Mode"], file["Uid"], file["Gid"], file["Size"]) == ("file", 0o640, 5, 6, 5)
    assert file["ModifiedAt"].startswith("20")


@pytest.mark.kitepy
def test_links_of_a_volume_lead_to_places_in_it(api: Any, volume: str) -> None:
    assert _files(api, volume, "/root/root/dir").json["Entries"] == _files(api, volume, "dir").json["Entries"]
    for path, status in (
        ("/out", 404),
        ("/up", 404),
        ("/../../etc", 404),
        ("/missing", 404),
        ("/dir/f", 400),
        ("/pipe", 400),
        ("/loop", 400),
        ("/" + "x" * 300, 400),
        ("/a\0b", 400),
    ):
        answer = _files(api, volume, path)
        assert answer.status == status, (path, answer.body)
        assert f"in volume {volume}" in answer.message
    missing = _files(api, "no-such-volume", "/")
    assert (missing.status, missing.message) == (404, "get no-such-volume: no such volume")


@pytest.mark.kitepy
def test_files_of_a_volume_come_as_a_tar(api: Any, volume: str) -> None:
    def archive(path: str) -> Any:
        return api("GET", f"/kitepy/volumes/{volume}/archive?path={path}")

    assert content(archive("/dir/f").body, "f") == b"hello"
    assert set(members(archive("dir").body)) == {"dir", "dir/deep", "dir/f", "dir/link"}
    assert members(archive("/out").body)["out"].linkname == "/etc/passwd"
    with tarfile.open(fileobj=io.BytesIO(archive("").body)) as whole:
        assert "./dir/f" in whole.getnames()
    answer = archive("/out/x")
    assert (answer.status, answer.message) == (404, f"Could not find the file /out/x in volume {volume}")
    assert archive("/missing").status == 404
    # Nobody is left who holds it.
    assert api("GET", f"/volumes/{volume}").status == 200
