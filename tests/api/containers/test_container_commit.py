"""Images made of containers: ``POST /commit``."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.errors import APIError, ImageNotFound
from support.engine import PEER, ROOTLESS, EngineUnderTest
from support.images import load_busybox

LOOP = "while :; do sleep 0.1; done"
CONFIG: dict[str, Any] = {
    "Hostname": "box",
    "User": "0",
    "Env": ["A=1", "B=2"],
    "Labels": {"l": "1"},
    "ExposedPorts": {"80/tcp": {}},
    "Volumes": {"/vol": {}},
    "WorkingDir": "/w",
    "StopSignal": "SIGINT",
    "Healthcheck": {"Test": ["CMD", "true"], "Interval": 5_000_000_000},
}

Commit = Callable[..., dict[str, Any]]


@pytest.fixture(name="made")
def _made(client: docker.DockerClient) -> Iterator[list[str]]:
    """Images to be removed."""
    ids: list[str] = []
    yield ids
    for container in client.containers.list(all=True, ignore_removed=True):
        container.remove(force=True, v=True)
    for image in reversed(ids):
        try:
            client.api.remove_image(image, force=True)
        except ImageNotFound:
            continue  # the same image was made twice


@pytest.fixture(name="commit")
def _commit(api: Any, client: docker.DockerClient, made: list[str]) -> Commit:
    """Commit, and give the image's inspect document."""

    def commit(container: str, document: Any = None, **query: Any) -> dict[str, Any]:
        text = urllib.parse.urlencode({"container": container, **query}, doseq=True)
        answer = api("POST", f"/commit?{text}", document)
        assert answer.status == 201, answer.body
        assert list(answer.json) == ["Id"]
        made.append(answer.json["Id"])
        image = dict(client.api.inspect_image(answer.json["Id"]))
        # What the image of the tests brings along is not what these are about.
        image["Config"]["Env"] = [entry for entry in image["Config"]["Env"] or () if not entry.startswith("PATH=")]
        return image

    return commit


@pytest.fixture(name="container")
def _container(client: docker.DockerClient, busybox: str, made: list[str]) -> str:  # noqa: ARG001 - it removes the images
    """A container with a configuration of its own."""
    created = client.api.post(client.api._url("/containers/create"), json={"Image": busybox, "Cmd": ["sh", "-c", LOOP], **CONFIG})
    return str(created.json()["Id"])


def test_the_image_has_the_container_s_configuration_and_history(
    client: docker.DockerClient, container: str, busybox: str, commit: Commit
) -> None:
    image = commit(container, repo="made", tag="t", comment="why", author="me <a@b>")
    config = image["Config"]
    assert {key: config[key] for key in CONFIG if key != "Hostname"} == {key: CONFIG[key] for key in CONFIG if key != "Hostname"}
    assert config["Cmd"] == ["sh", "-c", LOOP]
    base = client.api.inspect_image(busybox)
    assert (image["RepoTags"], image["Parent"]) == (["made:t"], base["Id"])
    assert (image["Author"], image["Comment"], image["Os"]) == ("me <a@b>", "why", "linux")
    assert image["Architecture"] == base["Architecture"]
    newest = client.api.history(image["Id"])[0]
    assert (newest["CreatedBy"], newest["Comment"], newest["Tags"]) == (f"sh -c {LOOP}", "why", ["made:t"])


def test_the_layer_is_what_the_container_changed(client: docker.DockerClient, run: Any, commit: Commit, busybox: str) -> None:
    script = (
        "echo hi >/file; rm /bin/sleep; mkdir -p /w/x; mkfifo /ff; ln /file /hard; chown 5:6 /w; chmod 1777 /w; echo >/vol/no"
    )
    container = run(script, volumes=["/vol"])
    container.wait()
    image = commit(container.id)
    base = client.api.inspect_image(busybox)["RootFS"]["Layers"]
    assert image["RootFS"]["Layers"][:-1] == base
    check = "cat /file; stat -c '%u %g %a' /w; stat -c %h /hard; ls -d /w/x /ff; ls /bin/sleep; ls /vol; hostname >/dev/null"
    found = client.containers.run(image["Id"], ["sh", "-c", f"({check}) 2>&1; true"], remove=True).decode().splitlines()
    assert found == ["hi", "5 6 1777", "2", "/ff", "/w/x", "ls: /bin/sleep: No such file or directory"]
    saved = io.BytesIO(b"".join(client.api.get_image(image["Id"])))
    with tarfile.open(fileobj=saved) as archive:
        manifest = archive.extractfile("manifest.json")
        assert manifest is not None
        layer = archive.extractfile(json.load(manifest)[0]["Layers"][-1])
        assert layer is not None
        with tarfile.open(fileobj=layer) as content:
            names = content.getnames()
    assert names == ["bin", "bin/.wh.sleep", "ff", "file", "hard", "vol", "w", "w/x"]


def test_a_container_without_changes_gives_an_image_without_a_layer(
    client: docker.DockerClient, busybox: str, commit: Commit
) -> None:
    container = client.containers.create(busybox, ["true"])
    image = commit(container.id)
    assert image["RootFS"]["Layers"] == client.api.inspect_image(busybox)["RootFS"]["Layers"]
    assert client.containers.run(image["Id"], ["echo", "works"], remove=True) == b"works\n"


def test_what_the_client_says_wins_and_the_container_fills_in(container: str, commit: Commit) -> None:
    body = {
        "Cmd": ["x"],
        "Env": ["A=9", "C=3"],
        "Labels": {"m": "2", "l": "5"},
        "ExposedPorts": {"81/tcp": {}},
        "Volumes": {"/v2": {}},
        "Healthcheck": {"Test": ["NONE"]},
        "WorkingDir": "/ww",
        "User": "u",
        "Entrypoint": ["ep"],
        "StopSignal": "SIGTERM",
    }
    config = commit(container, body)["Config"]
    assert (config["Cmd"], config["Entrypoint"], config["WorkingDir"], config["User"]) == (["x"], ["ep"], "/ww", "u")
    assert config["Env"] == ["A=9", "C=3", "B=2"]
    assert config["Labels"] == {"m": "2", "l": "5"}
    assert set(config["ExposedPorts"]) == {"80/tcp", "81/tcp"}
    assert set(config["Volumes"]) == {"/vol", "/v2"}
    assert config["Healthcheck"] == {"Test": ["NONE"], "Interval": 5_000_000_000}
    assert config["StopSignal"] == "SIGTERM"


@pytest.mark.parametrize(
    ("body", "cmd", "entrypoint"),
    [
        ({}, ["sh", "-c", LOOP], None),
        ({"Entrypoint": ["ep"]}, None, ["ep"]),
        ({"Entrypoint": []}, ["sh", "-c", LOOP], None),
        ({"Cmd": ["x"]}, ["x"], None),
    ],
)
def test_an_entrypoint_takes_the_command_away(
    container: str, commit: Commit, body: dict[str, Any], cmd: list[str] | None, entrypoint: list[str] | None
) -> None:
    config = commit(container, body)["Config"]
    assert (config["Cmd"], config["Entrypoint"]) == (cmd, entrypoint)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (["CMD echo hi"], {"Cmd": ["/bin/sh", "-c", "echo hi"]}),
        (['CMD ["a","b"]'], {"Cmd": ["a", "b"]}),
        (['ENTRYPOINT ["e"]'], {"Entrypoint": ["e"], "Cmd": None}),
        (['CMD ["c"]', 'ENTRYPOINT ["e"]'], {"Entrypoint": ["e"], "Cmd": ["c"]}),
        (["ENV X=1 Y=2"], {"Env": ["A=1", "B=2", "X=1", "Y=2"]}),
        (["ENV K v w", "ENV P=$A"], {"Env": ["A=1", "B=2", "K=v w", "P=1"]}),
        (["EXPOSE 90 91/udp"], {"ExposedPorts": {"80/tcp": {}, "90/tcp": {}, "91/udp": {}}}),
        (["LABEL q=w l=2"], {"Labels": {"l": "2", "q": "w"}}),
        (["USER bob"], {"User": "bob"}),
        (['VOLUME ["/a","/b"]'], {"Volumes": {"/vol": {}, "/a": {}, "/b": {}}}),
        (["WORKDIR rel"], {"WorkingDir": "/w/rel"}),
        (["STOPSIGNAL 9"], {"StopSignal": "9"}),
        (["HEALTHCHECK NONE"], {"Healthcheck": {"Test": ["NONE"], "Interval": 5_000_000_000}}),
        (["HEALTHCHECK --interval=3s CMD x"], {"Healthcheck": {"Test": ["CMD-SHELL", "x"], "Interval": 3_000_000_000}}),
        (["ONBUILD RUN x"], {"OnBuild": ["RUN x"]}),
        (["env Z=1\nlabel x=y"], {"Env": ["A=1", "B=2", "Z=1"], "Labels": {"l": "1", "x": "y"}}),
    ],
)
def test_dockerfile_lines_change_the_configuration(
    container: str, commit: Commit, changes: list[str], expected: dict[str, Any]
) -> None:
    config = commit(container, changes=changes)["Config"]
    assert {key: config[key] for key in expected} == expected
    assert "ArgsEscaped" not in config


NO_METADATA = (
    *("RUN x", "FROM x", "COPY a b", "ADD a b", "ARG x", 'SHELL ["x"]', "MAINTAINER me", "FOO bar", "", "# nothing", "ENV"),
    *("LABEL a", "WORKDIR", "USER", "EXPOSE abc", "STOPSIGNAL FOO", "ONBUILD FROM x", "ONBUILD ONBUILD x", 'ENV A="open'),
)


@pytest.mark.parametrize("change", NO_METADATA)
def test_other_lines_are_refused_and_make_nothing(client: docker.DockerClient, api: Any, container: str, change: str) -> None:
    before = {image["Id"] for image in client.api.images(all=True)}
    answer = api("POST", f"/commit?container={container}&changes={urllib.parse.quote(change)}")
    assert answer.status == 400
    if change.split(" ")[0] in ("RUN", "FROM", "COPY", "ADD", "ARG", "SHELL", "MAINTAINER", "FOO"):
        assert f"{change.split(' ')[0]} is not a valid change command" in answer.message
    assert {image["Id"] for image in client.api.images(all=True)} == before


def test_names_are_given_as_asked(container: str, commit: Commit) -> None:
    for query, tags in (
        ({"repo": "r1"}, ["r1:latest"]),
        ({"repo": "r1:two"}, ["r1:two"]),
        ({"repo": "r1:two", "tag": "three"}, ["r1:three"]),
        ({"repo": "localhost:5000/x/y", "tag": "z"}, ["localhost:5000/x/y:z"]),
        ({"tag": "alone"}, []),
        ({}, []),
    ):
        assert commit(container, **query)["RepoTags"] == tags


@pytest.mark.parametrize(
    ("query", "status", "message"),
    [
        ({"repo": "BAD"}, 400, "must be lowercase"),
        ({"repo": "a", "tag": "bad tag"}, 400, "invalid tag format"),
        ({"repo": "-x"}, 400, "invalid reference format"),
        ({"repo": "a@sha256:" + "a" * 64}, 400, "cannot import digest reference"),
        pytest.param(
            {"repo": "sha256:" + "a" * 32},
            400,
            "refusing to create an ambiguous tag using digest algorithm as name",
            marks=pytest.mark.kitepy,
        ),
        ({"repo": "a" * 64}, 400, "cannot specify 64-byte hexadecimal strings"),
        ({"container": "nobody"}, 404, "No such container: nobody"),
        ({"container": ""}, 400, "invalid name or ID supplied"),
    ],
)
def test_a_bad_name_is_refused_before_anything_is_made(
    client: docker.DockerClient, api: Any, container: str, query: dict[str, str], status: int, message: str
) -> None:
    before = {image["Id"] for image in client.api.images(all=True)}
    answer = api("POST", f"/commit?{urllib.parse.urlencode({'container': container, **query})}")
    assert answer.status == status
    assert message in answer.message
    assert {image["Id"] for image in client.api.images(all=True)} == before


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"Cmd":5}'])
def test_a_broken_body_is_refused(client: docker.DockerClient, container: str, body: bytes) -> None:
    answer = client.api.post(
        client.api._url("/commit"), params={"container": container}, data=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 400


def _actions(client: docker.DockerClient, container: str, since: int, wanted: str) -> list[str]:
    """What happened to a container until something is met."""
    events = client.events(since=since, until=int(time.time()) + 30, decode=True, filters={"container": container})
    found = []
    for event in events:
        found.append(event["Action"])
        if event["Action"] == wanted:
            break
    events.close()
    return found


@pytest.mark.needs("limits")
def test_a_running_container_stands_still_meanwhile_and_all_of_it_is_told(
    client: docker.DockerClient, run: Any, commit: Commit, made: list[str]
) -> None:
    container = run(LOOP, labels={"color": "red"})
    began = int(time.time())
    image = commit(container.id, repo="told", comment="why")
    events = client.events(since=began, until=int(time.time()) + 30, decode=True)
    mine: list[dict[str, Any]] = []
    for event in events:
        if event["Actor"]["ID"] in (container.id, image["Id"]):
            mine.append(event)
        if event["Action"] == "unpause":
            break
    events.close()
    order = [event["Action"] for event in mine if event["Action"] in ("pause", "create", "tag", "commit", "unpause")]
    assert order[-5:] == ["pause", "create", "tag", "commit", "unpause"]
    told = next(event for event in mine if event["Action"] == "commit")["Actor"]["Attributes"]
    assert told == {
        "color": "red",
        "comment": "why",
        "image": "busybox:latest",
        "imageID": image["Id"],
        "imageRef": "told:latest",
        "name": container.name,
    }
    container.reload()
    assert container.status == "running"
    assert made


@pytest.mark.needs("limits")
def test_a_paused_container_stays_paused_and_pausing_can_be_forbidden(
    client: docker.DockerClient, run: Any, commit: Commit
) -> None:
    container = run(LOOP)
    began = int(time.time())
    commit(container.id, pause="0")
    assert "pause" not in _actions(client, container.id, began, "commit")
    container.pause()
    commit(container.id)
    container.reload()
    assert container.status == "paused"
    container.unpause()


def test_an_image_of_an_image_of_a_container(client: docker.DockerClient, run: Any, commit: Commit) -> None:
    first = run("echo 1 >/one; echo x >/gone")
    first.wait()
    middle = commit(first.id, repo="chain", tag="1")
    second = client.containers.run("chain:1", ["sh", "-c", "echo 2 >/two; rm /gone"], detach=True)
    second.wait()
    top = commit(second.id, repo="chain", tag="2")
    assert top["Parent"] == middle["Id"]
    assert client.containers.run("chain:2", ["sh", "-c", "cat /one /two; ls /gone || true"], remove=True) == b"1\n2\n"


@pytest.mark.kitepy
def test_the_image_outlives_container_and_engine(engine: EngineUnderTest) -> None:
    assert not PEER
    with EngineUnderTest(rootless=engine.rootless) as own:
        client = own.docker()
        load_busybox(client)
        container = client.containers.run("busybox:latest", ["sh", "-c", "echo kept >/kept"], detach=True)
        container.wait()
        container.commit("kept", "t")
        container.remove()
        client.close()
        own.stop()
        own.start()
        client = own.docker()
        assert client.containers.run("kept:t", ["cat", "/kept"], remove=True) == b"kept\n"
        client.close()


@pytest.mark.kitepy
def test_a_container_that_is_gone_is_not_found(api: Any, client: docker.DockerClient, busybox: str) -> None:
    container = client.containers.create(busybox, ["true"])
    container.remove()
    with pytest.raises(APIError) as refused:
        client.api.commit(container.id)
    assert refused.value.status_code == 404
    assert api("GET", f"/containers/{container.id}/export").status == 404


@pytest.mark.kitepy
@pytest.mark.skipif(ROOTLESS, reason="the test mounts a small file system")
def test_a_full_disk_leaves_nothing_of_the_image(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100m", "tmpfs", str(small)], check=True)
    try:
        own = EngineUnderTest()
        own.data_root = small / "data"
        with own:
            client = own.docker()
            load_busybox(client)
            script = "dd if=/dev/urandom of=/big bs=1M count=45 2>/dev/null; echo done"
            container = client.containers.run("busybox:latest", ["sh", "-c", script], detach=True)
            container.wait()
            before = {path.relative_to(small) for path in small.glob("data/*/*")}
            with pytest.raises(APIError) as refused:
                container.commit("never", "t")
            assert "no space left" in str(refused.value.explanation)
            assert [image.tags for image in client.images.list(all=True)] == [["busybox:latest"]]
            deadline = time.monotonic() + 20
            while {path.relative_to(small) for path in small.glob("data/*/*")} - before:
                assert time.monotonic() < deadline, "something was left"
                time.sleep(0.05)
            assert container.start() is None
            container.wait()
            client.close()
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)
