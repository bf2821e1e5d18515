"""An ordinary user's engine whose kernel refuses overlays: the data root lies on an overlay, on which no other can write."""

from __future__ import annotations

import contextlib
import io
import json
import os
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from support.engine import EngineUnderTest
from support.images import load_busybox
from support.storage import docker_archive, entry, make_tar

PATIENCE_S = 20.0


@pytest.fixture(scope="module")
def fuse_engine() -> Iterator[EngineUnderTest]:
    with EngineUnderTest(rootless=True, data_on_overlay=True) as running:
        with contextlib.closing(running.docker()) as client:
            load_busybox(client)
        yield running


@pytest.fixture
def client(fuse_engine: EngineUnderTest) -> Iterator[docker.DockerClient]:
    with contextlib.closing(fuse_engine.docker()) as connected:
        yield connected


def run(client: docker.DockerClient, script: str, image: str = "busybox", **options: object) -> str:
    output = client.containers.run(image, ["sh", "-c", script], remove=True, **options)
    assert isinstance(output, bytes)
    return output.decode()


def build(client: docker.DockerClient, dockerfile: str, tag: str) -> None:
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as archive:
        for name, text in (("Dockerfile", dockerfile), ("a", "a")):
            info = tarfile.TarInfo(name)
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
    context.seek(0)
    messages = list(client.api.build(fileobj=context, custom_context=True, decode=True, tag=tag))
    assert "error" not in messages[-1], messages


def serving(container_id: str) -> list[int]:
    """Processes of fuse-overlayfs that serve a container; zombies don't count, for they have no command line any more."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (process / "cmdline").read_bytes()
            if (process / "comm").read_text().strip() == "fuse-overlayfs" and container_id.encode() in words:
                found.append(int(process.name))
    return found


def wait_until_nobody_serves(container_id: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while serving(container_id):
        assert time.monotonic() < deadline, f"fuse-overlayfs still runs: {serving(container_id)}"
        time.sleep(0.02)


def test_info_names_the_driver_and_says_why(client: docker.DockerClient) -> None:
    info = client.info()
    assert info["Driver"] == "fuse-overlayfs"
    assert any("fuse-overlayfs" in warning and "the kernel refuses overlays" in warning for warning in info["Warnings"])


def test_a_container_keeps_its_files_over_restarts(client: docker.DockerClient) -> None:
    script = "test -e /etc/passwd || cat /kept; rm -f /etc/passwd; echo kept > /kept; chown 7:8 /kept; chmod 4711 /kept"
    container = client.containers.create("busybox", ["sh", "-c", script])
    try:
        for _ in range(2):
            container.start()
            assert container.wait()["StatusCode"] == 0
        assert container.logs() == b"kept\n"
    finally:
        container.remove()


def test_layers_hide_what_lies_below(client: docker.DockerClient) -> None:
    bottom = make_tar(
        entry("d", tarfile.DIRTYPE),
        (entry("d/old"), b"1"),
        (entry("gone"), b"1"),
        entry("again", tarfile.DIRTYPE),
        (entry("again/old"), b"1"),
    )
    top = make_tar(
        (entry(".wh.gone"), b""),
        (entry("d/.wh..wh..opq"), b""),
        (entry("d/new"), b"1"),
        (entry(".wh.again"), b""),
        (entry("again/new"), b"1"),
    )
    with contextlib.closing(client.api):
        client.images.load(docker_archive([*busybox_layers(client), bottom, top], "hiding:latest"))
        assert run(client, "ls -d /gone /d/* /again/* 2>/dev/null; true", "hiding") == "/again/new\n/d/new\n"


def busybox_layers(client: docker.DockerClient) -> list[bytes]:
    archive = io.BytesIO(b"".join(client.images.get("busybox").save()))
    with tarfile.open(fileobj=archive) as saved:
        (manifest,) = json.load(saved.extractfile("manifest.json") or io.BytesIO())
        return [(saved.extractfile(name) or io.BytesIO()).read() for name in manifest["Layers"]]


def test_a_build_makes_layers_without_marks_of_the_program(client: docker.DockerClient) -> None:
    build(
        client,
        "FROM busybox\n"
        "RUN mkdir -p /d/inner && touch /d/old && rm -r /var && mkdir /var && touch /var/new && chown 9:10 /var/new\n"
        "RUN rm /d/old /home -r && ln /var/new /var/hard\nCOPY --chown=5:6 a /d/\nWORKDIR /w/x\n",
        "built",
    )
    assert run(client, "ls /d /var; ls -d /home; stat -c %u:%g:%h /var/new; true", "built").split() == (
        ["/d:", "a", "inner", "/var:", "hard", "new", "9:10:2"]
    )
    whiteouts = []
    for layer in busybox_layers_of(client, "built"):
        with tarfile.open(fileobj=io.BytesIO(layer)) as archive:
            names = archive.getnames()
            assert not [name for name in names if name.endswith(".wh..opq") and not name.endswith(".wh..wh..opq")]
            assert len(names) == len(set(names))
            assert not [key for member in archive for key in member.pax_headers if "fuseoverlayfs" in key]
            whiteouts += [name for name in names if os.path.basename(name).startswith(".wh.") and "opq" not in name]
    assert sorted(whiteouts) == [".wh.home", "d/.wh.old"]


def busybox_layers_of(client: docker.DockerClient, reference: str) -> list[bytes]:
    archive = io.BytesIO(b"".join(client.images.get(reference).save()))
    with tarfile.open(fileobj=archive) as saved:
        (manifest,) = json.load(saved.extractfile("manifest.json") or io.BytesIO())
        return [(saved.extractfile(name) or io.BytesIO()).read() for name in manifest["Layers"]]


def test_a_volume_is_filled_from_several_layers(client: docker.DockerClient) -> None:
    build(client, "FROM busybox\nRUN mkdir /data && echo 1 > /data/one && chown 70:70 /data\nCOPY a /data/two\n", "filling")
    assert run(client, "ls /data; stat -c %u /data", "filling", volumes=["filled:/data"]).split() == ["one", "two", "70"]


def test_the_serving_process_is_out_of_sight_and_ends_with_the_container(client: docker.DockerClient) -> None:
    container = client.containers.run("busybox", ["sh", "-c", "echo up; exec sleep 1000"], detach=True)
    assert next(container.logs(stream=True, follow=True)) == b"up\n"
    assert len(serving(str(container.id))) == 1
    assert "fuse" not in container.exec_run("ps").output.decode()
    container.remove(force=True)
    wait_until_nobody_serves(str(container.id))


def test_the_files_are_served_on_when_the_engine_is_killed(client: docker.DockerClient, fuse_engine: EngineUnderTest) -> None:
    container = client.containers.run("busybox", ["sh", "-c", "echo up; exec sleep 1000"], detach=True)
    try:
        assert next(container.logs(stream=True, follow=True)) == b"up\n"
        fuse_engine.kill()
        assert len(serving(str(container.id))) == 1
    finally:
        fuse_engine.start()
    container.reload()
    assert container.exec_run(["cat", "/etc/passwd"]).exit_code == 0
    container.remove(force=True)
    wait_until_nobody_serves(str(container.id))


@pytest.mark.parametrize("running", [True, False])
def test_files_go_in_and_out_and_changes_become_an_image(client: docker.DockerClient, running: bool) -> None:
    script = "mkdir /d; echo 1 >/d/a; rm /bin/stat; rm -r /etc; mkdir /etc; echo made; "
    container = client.containers.run("busybox", ["sh", "-c", script + ("sleep 1000" if running else "true")], detach=True)
    try:
        for piece in container.logs(stream=True, follow=True):
            if b"made" in piece:
                break
        if not running:
            container.wait()
        assert container.put_archive("/d", make_tar((entry("b"), b"2")))
        content = io.BytesIO(b"".join(container.get_archive("/d")[0]))
        with tarfile.open(fileobj=content) as archive:
            assert archive.getnames() == ["d", "d/a", "d/b"]
        told = {change["Path"]: change["Kind"] for change in container.diff()}
        assert (told["/d"], told["/d/a"], told["/d/b"], told["/bin"], told["/bin/stat"]) == (1, 1, 1, 0, 2)
        image = container.commit("fused", "t", pause=False)
        assert run(client, "cat /d/a /d/b; ls /bin/stat 2>/dev/null | wc -l", image="fused:t").split() == ["1", "20"]
        client.images.remove(image.id, force=True)
    finally:
        container.remove(force=True)
