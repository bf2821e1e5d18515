"""Files of an ordinary user's engine: bind mounts, ids that don't exist, builds, and getting rid of all of it."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from support.engine import EngineUnderTest
from support.images import load_busybox
from support.ordinary_user import UID, give_to_user, user_command

from kitepy.engine.reset import DIRECTORIES, FILES


@pytest.fixture(scope="module")
def rootless_engine() -> Iterator[EngineUnderTest]:
    with EngineUnderTest(rootless=True) as running:
        client = running.docker()
        load_busybox(client)
        client.close()
        yield running


@pytest.fixture
def client(rootless_engine: EngineUnderTest) -> Iterator[docker.DockerClient]:
    with contextlib.closing(rootless_engine.docker()) as connected:
        yield connected


def run(client: docker.DockerClient, script: str, **options: object) -> str:
    output = client.containers.run("busybox", ["sh", "-c", script], remove=True, **options)
    assert isinstance(output, bytes)
    return output.decode()


def build(client: docker.DockerClient, dockerfile: str) -> list[dict[str, object]]:
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as archive:
        for name, text in (("Dockerfile", dockerfile), ("a", "a")):
            info = tarfile.TarInfo(name)
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
    context.seek(0)
    return list(client.api.build(fileobj=context, custom_context=True, decode=True))


def test_what_root_of_a_container_makes_in_a_bind_mount_is_the_users(
    client: docker.DockerClient, rootless_engine: EngineUnderTest
) -> None:
    source = rootless_engine.home / "project"
    source.mkdir()
    give_to_user(source)
    run(client, "touch /m/mine; mkdir /m/d; touch /m/other; chown 1:1 /m/other", volumes=[f"{source}:/m:z"])
    assert {path.name: path.stat().st_uid for path in source.iterdir()} == {"mine": UID, "d": UID, "other": 1_000_000}


def test_a_missing_bind_source_is_made_as_the_user(client: docker.DockerClient, rootless_engine: EngineUnderTest) -> None:
    source = rootless_engine.home / "new" / "directory"
    run(client, "true", volumes=[f"{source}:/m"])
    assert (source.stat().st_uid, source.parent.stat().st_uid) == (UID, UID)


def test_a_bind_source_that_the_user_may_not_make_is_told(client: docker.DockerClient) -> None:
    with pytest.raises(docker.errors.APIError) as caught:
        run(client, "true", volumes=["/usr/kitepy-test:/m"])
    assert caught.value.status_code == 400
    assert "mount source path '/usr/kitepy-test': mkdir /usr/kitepy-test: permission denied" in str(caught.value)


def test_a_bind_source_that_the_user_may_not_reach_is_told(client: docker.DockerClient, rootless_engine: EngineUnderTest) -> None:
    closed = rootless_engine.home / "closed"
    (closed / "inside").mkdir(parents=True)
    give_to_user(closed)
    container = client.containers.create("busybox", "true", volumes=[f"{closed / 'inside'}:/m"])
    os.chown(closed, 0, 0)
    closed.chmod(0o700)
    try:
        with pytest.raises(docker.errors.APIError) as caught:
            container.start()
        assert caught.value.status_code == 400
        assert f"{closed / 'inside'}: permission denied" in str(caught.value)
    finally:
        container.remove()


def test_a_user_outside_of_the_map_is_told_with_the_command_that_helps(client: docker.DockerClient) -> None:
    for options, text in (({"user": "70000"}, "uid 70000"), ({"group_add": ["70001"]}, "gid 70001")):
        with pytest.raises(docker.errors.APIError) as caught:
            run(client, "true", **options)
        assert caught.value.status_code == 400
        assert f"{text} does not exist for an engine without root" in str(caught.value)
        assert "sudo usermod --add-subuids" in str(caught.value)
    error = build(client, "FROM busybox\nCOPY --chown=70000 a /a\n")[-1]["error"]
    assert "uid 70000 does not exist" in str(error)


BUILD = """FROM busybox
RUN rm -r /var && mkdir /var && touch /var/new /var/suid && chown 9:10 /var/new && chmod 4755 /var/suid && touch -d @0 /var/* /var
COPY --chown=5:6 a /copied
RUN ls -ln /copied | grep -q " 5 .* 6 " && touch -d @0 /copied
"""


# Nothing is copied into a directory: its time would be that of the copy.
def test_a_build_gives_the_same_layers_as_with_root(client: docker.DockerClient) -> None:
    def layers(connected: docker.DockerClient) -> list[str]:
        messages = build(connected, BUILD)
        assert "error" not in messages[-1], messages
        (image_id,) = [message["aux"]["ID"] for message in messages if "aux" in message]  # type: ignore[index]
        found: list[str] = connected.images.get(image_id).attrs["RootFS"]["Layers"]
        return found

    with EngineUnderTest(rootless=False) as rootful, contextlib.closing(rootful.docker()) as other:
        load_busybox(other)
        assert layers(client) == layers(other)


def reset(engine: EngineUnderTest, *options: str) -> subprocess.CompletedProcess[str]:
    places = ("--data-root", engine.data_root, "--exec-root", engine.exec_root, "--pidfile", engine.pidfile)
    command = user_command(engine.home, [sys.executable, "-m", "kitepy.engine.reset", *map(str, places), *options])
    repository = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": repository}
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", env=environment)


def test_reset_leaves_nothing_but_refuses_while_anything_runs() -> None:
    with EngineUnderTest(rootless=True) as engine:
        with contextlib.closing(engine.docker()) as connected:
            load_busybox(connected)
            container = connected.containers.run(
                "busybox", ["sh", "-c", "mkdir -p /v/d; touch /v/d/f; chown -R 7:7 /v; chmod 0 /v/d; sleep 1000"], detach=True,
                volumes=["kept:/v"],
            )  # fmt: skip
            refused = reset(engine, "--yes")
            assert refused.returncode == 1
            assert "an engine with process id" in refused.stderr
            engine.kill()
            refused = reset(engine, "--yes")
            assert (refused.returncode, "containers are running" in refused.stderr) == (1, True)
            engine.start()
            connected.containers.get(container.id).remove(force=True)
        engine.stop()
        assert "add --yes" in reset(engine).stderr
        assert set(os.listdir(engine.data_root)) <= {*DIRECTORIES, *FILES}
        done = reset(engine, "--yes")
        assert (done.returncode, done.stderr) == (0, "")
        assert os.listdir(engine.data_root) == []
        engine.start()
