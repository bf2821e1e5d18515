"""What the tests of clients share: Docker's command line, of today and 20.10."""

from __future__ import annotations

from pathlib import Path

import docker
import pytest
from support.docker_cli import DockerCli, find_docker_cli
from support.engine import EngineUnderTest
from support.images import busybox_archive


@pytest.fixture(name="docker", params=["now", "old"])
def _docker(request: pytest.FixtureRequest, engine: EngineUnderTest, client: docker.DockerClient, tmp_path: Path) -> DockerCli:
    """The command line, with an image "box"; each test runs with both."""
    client.images.load(busybox_archive("box:latest"))
    return DockerCli(find_docker_cli(request.param), engine.url, tmp_path / "docker-config")
