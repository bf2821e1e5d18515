"""Mounts of the long form: parts of volumes, and binds that are read-only to their ground or not."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.creating import created, output_of, started

_SCRIPT = "mkdir -p /v/a/b; echo deep >/v/a/b/f; ln -s /etc /v/out; ln -s a /v/in; ln -s ../../.. /v/up"


@pytest.fixture(name="volume")
def _volume(api: Any, busybox: str) -> Iterator[str]:
    """A volume with files, and with links that lead out of it."""
    name = "parts-of-it"
    assert api("POST", "/volumes/create", {"Name": name}).status == 201
    output_of(api, {"Image": busybox, "Cmd": ["sh", "-c", _SCRIPT], "HostConfig": {"Binds": [f"{name}:/v"]}})
    yield name
    assert api("DELETE", f"/volumes/{name}").status == 204


def _part(name: str, part: str, **more: Any) -> dict[str, Any]:
    return {"Mounts": [{"Type": "volume", "Source": name, "Target": "/t", "VolumeOptions": {"Subpath": part}, **more}]}


@pytest.mark.parametrize(("part", "file"), [("a", "b/f"), ("a/b", "f"), ("in/b", "f"), (".", "a/b/f")])
def test_a_part_of_a_volume_is_mounted(api: Any, busybox: str, volume: str, part: str, file: str) -> None:
    body = {"Image": busybox, "Cmd": ["cat", f"/t/{file}"], "HostConfig": _part(volume, part)}
    assert output_of(api, body) == "deep\n"


def test_a_file_of_a_volume_is_mounted_read_only(api: Any, busybox: str, volume: str) -> None:
    body = {"Image": busybox, "Cmd": ["sh", "-c", "cat /t; echo x >/t"], "HostConfig": _part(volume, "a/b/f", ReadOnly=True)}
    output = output_of(api, body)
    assert "deep\n" in output
    assert "Read-only file system" in output


@pytest.mark.parametrize("part", ["out", "up", "out/passwd"])
def test_links_do_not_lead_out_of_a_volume(api: Any, busybox: str, volume: str, part: str) -> None:
    with created(api, {"Image": busybox, "HostConfig": _part(volume, part)}) as made:
        answer = api("POST", f"/containers/{made.id}/start")
    assert answer.status == 400
    assert "path concatenation escapes the base directory" in answer.message


def test_a_part_that_is_not_there_is_missed(api: Any, busybox: str, volume: str) -> None:
    with created(api, {"Image": busybox, "HostConfig": _part(volume, "nosuch")}) as made:
        answer = api("POST", f"/containers/{made.id}/start")
    assert answer.status == 404
    assert "cannot access path" in answer.message


@pytest.mark.root
@pytest.mark.needs("limits")  # an ordinary user's engine doesn't see what root mounts here
@pytest.mark.parametrize(
    ("options", "writable_below"),
    [({}, False), ({"ReadOnlyNonRecursive": True}, True), ({"ReadOnlyForceRecursive": True}, False)],
)
def test_a_read_only_bind_covers_what_is_mounted_below(
    api: Any, busybox: str, tmp_path: Path, options: dict[str, Any], writable_below: bool
) -> None:
    below = tmp_path / "below"
    below.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(below)], check=True)
    try:
        mount = {"Type": "bind", "Source": str(tmp_path), "Target": "/t", "ReadOnly": True, "BindOptions": options}
        script = "touch /t/x 2>/dev/null && echo top; touch /t/below/x 2>/dev/null && echo below; true"
        output = output_of(api, {"Image": busybox, "Cmd": ["sh", "-c", script], "HostConfig": {"Mounts": [mount]}})
    finally:
        subprocess.run(["umount", str(below)], check=True)
    assert output.split() == (["below"] if writable_below else [])


def test_the_place_of_a_bind_is_made_on_request(api: Any, busybox: str, tmp_path: Path) -> None:
    source = tmp_path / "new" / "deep"
    mount = {"Type": "bind", "Source": str(source), "Target": "/t", "BindOptions": {"CreateMountpoint": True}}
    with created(api, {"Image": busybox, "Cmd": ["true"], "HostConfig": {"Mounts": [mount]}}) as made:
        assert not source.exists()
        started(api, made)
        assert source.is_dir()
