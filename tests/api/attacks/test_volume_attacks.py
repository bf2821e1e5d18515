"""Attacks on volumes: the content is the attacker's, who changes it while the engine looks; the host's files are the aim."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from docker.errors import APIError, NotFound
from support.engine import PEER, ROOTLESS
from support.swapping import swapped

ROUNDS = 8


@pytest.fixture(name="volume")
def _volume(client: docker.DockerClient, trap: Path) -> Iterator[tuple[str, Path]]:
    """A volume with a directory, and a link that leads to the host's secret."""
    if ROOTLESS or PEER:
        pytest.skip("the race needs the engine's directories to be at hand")
    volume = client.volumes.create()
    path = Path(volume.attrs["Mountpoint"])
    (path / "part").mkdir()
    (path / "part" / "secret").write_text("the volume's\n")
    (path / "link").symlink_to(trap)
    yield volume.name, path
    volume.remove()


def test_a_part_of_a_volume_that_turns_into_a_link_is_not_followed(
    client: docker.DockerClient, busybox: str, volume: tuple[str, Path]
) -> None:
    name, path = volume
    options = {"Type": "volume", "Source": name, "Target": "/t", "VolumeOptions": {"Subpath": "part"}}
    seen = set()
    with swapped(path / "part", path / "link"):
        for _ in range(ROUNDS):
            try:
                container = client.containers.create(busybox, ["cat", "/t/secret"], mounts=[options])
                container.start()
                container.wait()
                assert container.logs() == b"the volume's\n"
                seen.add("mounted")
            except APIError as error:
                seen.add("refused" if "escapes the base directory" in str(error) else str(error))
            finally:
                container.remove(force=True)
        container = client.containers.create(busybox, ["true"], mounts=[{**options, "VolumeOptions": {}}])
        for _ in range(ROUNDS):
            try:
                pieces, _found = container.get_archive("/t/part/secret")
                assert b"the host's" not in b"".join(pieces)
            except NotFound:
                continue  # where the link leads there is nothing in the container
        container.remove()
    assert seen <= {"mounted", "refused"}


def test_a_directory_that_turns_into_a_link_is_not_listed(
    client: docker.DockerClient, volume: tuple[str, Path], trap: Path
) -> None:
    name, path = volume
    (trap / "only-here").touch()
    listed = 0
    with swapped(path / "part", path / "link"):
        for _ in range(ROUNDS * 2):
            for call in ("files", "archive"):
                answer = client.api.get(f"{client.api.base_url}/kitepy/volumes/{name}/{call}?path=/part")
                assert answer.status_code in (200, 400, 404), answer.content
                assert b"only-here" not in answer.content
                if answer.status_code == 200 and call == "files":
                    assert [entry["Name"] for entry in json.loads(answer.content)["Entries"]] == ["secret"]
                    listed += 1
    os.unlink(trap / "only-here")
    assert listed, "the race was always lost"
