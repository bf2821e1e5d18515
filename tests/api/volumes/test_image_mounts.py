"""Mounts of type image: an image's files, read-only, in a container of another one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docker import DockerClient
from docker.errors import ImageNotFound
from support.creating import created, output_of, started
from support.engine import ROOTLESS
from support.images import docker_archive
from support.tarballs import content, entry, link, tarball


@pytest.fixture(name="layered")
def _layered(client: DockerClient) -> Iterator[str]:
    """An image of two layers, the upper of which takes something away."""
    lower = tarball(entry("kept", b"lower\n"), entry("gone", b""), entry("etc/f", b"in etc\n", uid=5), link("out", "/etc"))
    upper = tarball(entry(".wh.gone", b""), entry("kept", b"upper\n"), link("in", "etc"))
    name = "image-to-mount:1"
    client.images.load(docker_archive([lower, upper], name))
    yield name
    with contextlib.suppress(ImageNotFound):
        client.api.remove_image(name, force=True)


def _mount(image: str, part: str = "", target: str = "/t") -> dict[str, Any]:
    options = {"ImageOptions": {"Subpath": part}} if part else {}
    return {"Type": "image", "Source": image, "Target": target, **options}


def _body(image: str, script: str, *mounts: dict[str, Any]) -> dict[str, Any]:
    return {"Image": image, "Cmd": ["sh", "-c", f"({script}) 2>&1; true"], "HostConfig": {"Mounts": list(mounts)}}


def test_an_image_of_several_layers_is_mounted_read_only(api: Any, busybox: str, layered: str) -> None:
    script = "ls -1 /t; cat /t/kept; stat -c %u /t/etc/f; readlink /t/out; touch /t/x; grep -c ' /t ro,' /proc/self/mountinfo"
    with created(api, {**_body(busybox, script, _mount(layered)), "Tty": True}) as made:
        assert made.warnings == ["Image mount is an experimental feature"]
        (mount,) = made.document["Mounts"]
        source = mount.pop("Source")
        assert mount == {
            "Type": "image",
            "Name": layered,
            "Destination": "/t",
            "Mode": "",
            "RW": False,
            "Propagation": "rprivate",
        }
        started(api, made)
        api("POST", f"/containers/{made.id}/wait")
        copied = api("GET", f"/containers/{made.id}/archive?path=/t/etc/f").body
        refused = api("DELETE", f"/images/{layered}")
        assert api("DELETE", f"/images/{layered}?force=1").json[0] == {"Untagged": layered}
        started(api, made)  # once more
        api("POST", f"/containers/{made.id}/wait")
        output = api("GET", f"/containers/{made.id}/logs?stdout=1").body.replace(b"\r", b"")
    assert b"etc\nin\nkept\nout\n" in output
    for words in (b"upper\n5\n/etc\n", b"touch: /t/x: Read-only file system\n1\n"):
        assert output.count(words) == 2, output
    assert content(copied, "f") == b"in etc\n"
    assert (refused.status, "is using its referenced image" in refused.message) == (409, True)
    assert ROOTLESS or not os.path.ismount(source)


def test_parts_of_images(api: Any, busybox: str, layered: str) -> None:
    mounts = (_mount(layered, "etc"), _mount(layered, "kept", "/file"), _mount(layered, "in", "/linked"))
    output = output_of(api, _body(busybox, "cat /t/f /file; ls /linked", mounts[0]))
    assert output.startswith("in etc\n")
    assert output_of(api, _body(busybox, "cat /file", mounts[1])) == "upper\n"
    assert output_of(api, _body(busybox, "cat /linked/f", mounts[2])) == "in etc\n"
    for part, status, words in (
        ("missing", 404, "cannot access path"),
        ("out", 400, "path concatenation escapes the base directory"),
    ):
        with created(api, _body(busybox, "true", _mount(layered, part))) as made:
            answer = api("POST", f"/containers/{made.id}/start")
        assert (answer.status, words in answer.message) == (status, True), answer.body


def test_images_are_inherited_and_found_by_their_name(api: Any, busybox: str, layered: str) -> None:
    with created(api, _body(busybox, "true", _mount(layered))) as made:
        heir = {"Image": busybox, "Cmd": ["cat", "/t/kept"], "HostConfig": {"VolumesFrom": [made.id]}}
        assert output_of(api, heir) == "upper\n"
        for value in (layered, "/t"):
            found = api("GET", f'/containers/json?all=1&filters={{"volume":["{value}"]}}').json
            assert [container["Id"] for container in found] == [made.id]


@pytest.mark.kitepy  # dockerd can't
def test_an_image_is_mounted_twice(api: Any, busybox: str, layered: str) -> None:
    output = output_of(api, _body(busybox, "cat /a/kept /b/f", _mount(layered, "", "/a"), _mount(layered, "etc", "/b")))
    assert output == "upper\nin etc\n"


@pytest.mark.parametrize(
    ("mount", "status", "words"),
    [
        ({"Type": "image", "Target": "/t"}, 400, "field Source must not be empty"),
        ({"Type": "image", "Source": "no-such:1", "Target": "/t"}, 404, "No such image: no-such:1"),
        (_mount("busybox", "../x"), 400, "subpath must be a relative path within the volume"),
        ({**_mount("busybox"), "BindOptions": {}}, 400, 'BindOptions must not be specified on mount type "image"'),
        ({**_mount("busybox"), "Target": "/"}, 400, "destination can't be '/'"),
    ],
)
def test_wrong_image_mounts_are_refused(api: Any, busybox: str, mount: dict[str, Any], status: int, words: str) -> None:
    answer = api("POST", "/containers/create", {"Image": busybox, "HostConfig": {"Mounts": [mount]}})
    assert (answer.status, words in answer.message) == (status, True), answer.body


@pytest.mark.kitepy
def test_nothing_of_a_mounted_image_stays_behind(api: Any, busybox: str, layered: str) -> None:
    with created(api, {**_body(busybox, "", _mount(layered)), "Cmd": ["/no/such/program"]}) as made:
        place = Path(made.document["Mounts"][0]["Source"])
        assert api("POST", f"/containers/{made.id}/start").status == 400
        assert not place.exists()
        assert not place.parent.exists()
