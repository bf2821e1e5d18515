"""Files of remapped containers, from outside: owners are the container's own, on the disk nothing is shifted."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from docker.models.containers import Container
from docker.types import Mount
from support.engine import ROOTLESS, EngineUnderTest
from support.images import load_busybox
from support.remapping import FIRST, RemappedEngine
from support.tarballs import entry, members, tarball

pytestmark = [pytest.mark.kitepy, pytest.mark.skipif(ROOTLESS, reason="only root's engine can remap")]


@pytest.fixture(scope="module", name="session_engine")
def _remapped() -> Iterator[EngineUnderTest]:
    with RemappedEngine() as engine:
        client = engine.docker()
        load_busybox(client)
        client.close()
        yield engine


def fetch(container: Container, path: str) -> dict[str, tarfile.TarInfo]:
    pieces, _ = container.get_archive(path)
    return members(b"".join(pieces))


@pytest.fixture(name="container", params=["created", "running", "exited"])
def _container(request: pytest.FixtureRequest, client: docker.DockerClient, tmp_path: Path) -> Container:
    tmp_path.chmod(0o777)
    volume = client.volumes.create()
    script = "true" if request.param == "exited" else "sleep 1000"
    mounts = [Mount("/v", volume.name), Mount("/host", str(tmp_path), type="bind")]
    made = client.containers.create("busybox:latest", ["sh", "-c", script], mounts=mounts)
    if request.param != "created":
        made.start()
    if request.param == "exited":
        made.wait()
    return made


ARCHIVE = tarball(entry("mine", b"x"), entry("theirs", b"y", uid=1000, gid=1001, mode=0o4755), entry("d/deep", b"z"))


def test_what_is_put_belongs_to_the_container_s_ids(engine: EngineUnderTest, container: Container) -> None:
    assert container.put_archive("/", ARCHIVE)
    assert container.put_archive("/v", ARCHIVE)
    for path, prefix in (("/", ""), ("/v", "v/")):
        found = fetch(container, path)
        names = {name.lstrip("/"): member for name, member in found.items()}
        assert (names[f"{prefix}mine"].uid, names[f"{prefix}theirs"].uid, names[f"{prefix}theirs"].gid) == (0, 1000, 1001)
    upper = engine.data_root / "containers" / str(container.id) / "upper"
    assert ((upper / "mine").stat().st_uid, (upper / "theirs").stat().st_uid) == (0, 1000)
    container.reload()
    if container.status == "running":
        code, output = container.exec_run(["stat", "-c", "%u %a", "/theirs", "/v/mine", "/d/deep"])
        assert (code, output.split(b"\n")[:3]) == (0, [b"1000 4755", b"0 644", b"0 644"])
        assert container.exec_run("sh -c 'echo >>/mine; echo >>/v/mine; echo >>/d/new'").exit_code == 0


def test_what_is_put_into_a_host_directory_belongs_to_nobody_of_the_host(container: Container, tmp_path: Path) -> None:
    assert container.put_archive("/host", ARCHIVE)
    assert ((tmp_path / "mine").stat().st_uid, (tmp_path / "theirs").stat().st_uid) == (FIRST, FIRST + 1000)
    os.chown(tmp_path / "mine", FIRST + 5, FIRST + 6)
    found = fetch(container, "/host/mine")
    assert (found["mine"].uid, found["mine"].gid) == (5, 6)


def test_changes_export_and_commit_know_no_shift(client: docker.DockerClient, container: Container) -> None:
    assert container.put_archive("/", ARCHIVE)
    assert {change["Path"] for change in container.diff()} >= {"/mine", "/theirs", "/d", "/d/deep"}
    exported = members(b"".join(container.export()))
    assert (exported["mine"].uid, exported["theirs"].uid, exported["bin"].uid) == (0, 1000, 0)
    image = container.commit("remapped", "t")
    try:
        script = "stat -c '%u %a' /mine /theirs /d/deep; echo >>/mine"
        output = client.containers.run("remapped:t", ["sh", "-c", script], remove=True)
        assert output.split(b"\n")[:3] == [b"0 644", b"1000 4755", b"0 644"]
    finally:
        client.images.remove(image.id, force=True)


def test_an_owner_that_the_container_has_not_got_is_refused(container: Container) -> None:
    with pytest.raises(docker.errors.APIError) as refused:
        container.put_archive("/", tarball(entry("far", b"", uid=2**31 - 10)))
    assert refused.value.status_code == 400
    assert "user namespace" in str(refused.value.explanation)
