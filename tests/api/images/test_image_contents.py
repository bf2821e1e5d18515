"""Looking into images, by calls of Kitepy's own (docs/image-layers.md). Details are tested on the stores themselves."""

from __future__ import annotations

import urllib.parse
from typing import Any

import docker
import pytest
from support.images import docker_archive
from support.tarballs import entry, link, tarball

pytestmark = pytest.mark.kitepy

BASE = tarball(
    entry("etc"),
    entry("etc/passwd", b"root:x:0:0"),
    entry("etc/old", b"gone", uid=5, gid=6, mode=0o600),
    link("escape", "/"),
    link("up", "../../../../../.."),
    entry("<b>\n\x1b[31m", b"x"),
)
ABOVE = tarball(entry("etc"), entry("etc/.wh.old", b""), entry("etc/passwd", b"other"), entry("etc/new", b"n"))


def _files(api: Any, image: str, **query: str) -> Any:
    return api("GET", f"/kitepy/images/{image}/files?{urllib.parse.urlencode(query)}")


def test_layers_and_files_of_an_image_are_told(client: docker.DockerClient, api: Any) -> None:
    name = "kitepy.test/looked/into:1"
    image = client.images.load(docker_archive([BASE, ABOVE], name))[0]
    try:
        found = api("GET", f"/kitepy/images/{name}/layers?usage=1").json
        assert found["Id"] == image.id
        assert [(step["CreatedBy"], step["Layer"]) for step in found["History"]] == [("layer 1", 0), ("layer 2", 1)]
        assert [layer["DiffId"] for layer in found["Layers"]] == image.attrs["RootFS"]["Layers"]
        assert [(layer["Added"], layer["Changed"], layer["Removed"]) for layer in found["Layers"]] == [(5, 0, 0), (1, 1, 1)]
        assert found["Usage"]["WastedBytes"] == len("root:x:0:0") + len("gone")
        assert [(each["Path"], each["Change"]) for each in found["Usage"]["Worst"]] == [
            ("/etc/passwd", "changed"),
            ("/etc/old", "removed"),
        ]

        etc = {entry["Name"]: entry for entry in _files(api, name, path="/etc", layer="1").json["Entries"]}
        assert {name: entry["Change"] for name, entry in etc.items()} == {"new": "added", "old": "removed", "passwd": "changed"}
        assert (etc["old"]["Uid"], etc["old"]["Gid"], etc["old"]["Mode"], etc["old"]["Size"]) == (5, 6, 0o600, 4)
        first = _files(api, image.id, limit="2").json
        assert [entry["Name"] for entry in first["Entries"]] == ["etc", "<b>\n\x1b[31m"]
        rest = _files(api, image.id, limit="2", after=first["Next"]).json
        assert [entry["Name"] for entry in rest["Entries"]] == ["escape", "up"]
        assert rest["Next"] == ""

        for query, status in (
            ({"path": "/escape"}, 400),
            ({"path": "/up/etc"}, 400),
            ({"path": "/etc/passwd"}, 400),
            ({"path": "/../../../etc/ssh"}, 404),
            ({"path": "/etc", "layer": "7"}, 404),
            ({"path": "/etc", "layer": "x"}, 400),
            ({"path": "/etc", "limit": "100000"}, 400),
            ({"path": "/etc", "after": "nonsense"}, 400),
        ):
            answer = _files(api, name, **query)
            assert answer.status == status, (query, answer.body)
        for call in ("files", "layers"):
            missing = api("GET", f"/kitepy/images/no-such/{call}")
            assert (missing.status, missing.message) == (404, "No such image: no-such:latest")
    finally:
        client.images.remove(name)
