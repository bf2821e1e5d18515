"""Docker's command line, Compose and docker-py with a real registry: log in, push, pull, run, build, look into manifests."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import docker as docker_py
import pytest
from support.docker_cli import CLIENTS, DockerCli, find_docker_cli
from support.docker_registry import PASSWORD, USER, DockerRegistry
from support.engine import EngineUnderTest
from support.oci import Made, put, tar, unlike_others

from kitepy.engine.model.platform import host_platform

HERE = {"os": "linux", "architecture": host_platform().architecture}


@pytest.fixture(name="guarded", scope="module")
def _guarded() -> Iterator[DockerRegistry]:
    """A registry that wants the password."""
    with DockerRegistry(passwords=True) as registry:
        yield registry


@pytest.fixture(name="registry", scope="module")
def _registry() -> Iterator[DockerRegistry]:
    with DockerRegistry() as registry:
        yield registry


def test_images_go_to_a_registry_and_come_back(docker: DockerCli, guarded: DockerRegistry) -> None:
    """Log in, push, remove, pull by tag and by digest, log out."""
    name = f"{guarded.host}/story/{Path(docker.program).parent.name}"
    docker.output("tag", "box", f"{name}:1")
    refused = docker.run("push", f"{name}:1", check=False)
    assert refused.returncode == 1
    assert "no basic auth credentials" in refused.stderr

    wrong = docker.run("login", "-u", USER, "--password-stdin", guarded.host, stdin=b"wr0ng", check=False)
    assert wrong.returncode == 1
    assert "401 Unauthorized" in wrong.stderr
    assert "Login Succeeded" in docker.run("login", "-u", USER, "--password-stdin", guarded.host, stdin=PASSWORD.encode()).stdout

    told = docker.output("push", f"{name}:1").splitlines()
    assert told[0] == f"The push refers to repository [{name}]"
    digest = next(word for word in told[-1].split() if word.startswith("sha256:"))
    assert told[-1].startswith(f"1: digest: {digest} size: ")
    assert "Layer already exists" in docker.output("push", f"{name}:1")

    docker.output("rmi", f"{name}:1")
    told = docker.output("pull", f"{name}:1").splitlines()
    assert told[0] == f"1: Pulling from {name.partition('/')[2]}"
    assert f"Digest: {digest}" in told
    assert f"Status: Downloaded newer image for {name}:1" in told
    assert told[-1] == f"{name}:1"
    assert docker.output("pull", "-q", f"{name}@{digest}") == f"{name}@{digest}"
    assert json.loads(docker.output("inspect", "--format", "{{json .RepoDigests}}", f"{name}:1")) == [f"{name}@{digest}"]

    docker.output("logout", guarded.host)
    denied = docker.run("pull", f"{name}:1", check=False)
    assert denied.returncode == 1
    assert "no basic auth credentials" in denied.stderr
    docker.output("rmi", f"{name}:1")


def test_what_is_missing_is_pulled_to_run_and_to_build(docker: DockerCli, registry: DockerRegistry, tmp_path: Path) -> None:
    generation = Path(docker.program).parent.name
    name = f"{registry.host}/missing/{generation}"
    docker.output("tag", "box", f"{name}:run")
    docker.output("push", "-q", f"{name}:run")
    docker.output("rmi", f"{name}:run")
    ran = docker.run("run", "--rm", f"{name}:run", "echo", "here")
    assert ran.stdout == "here\n"
    assert f"Unable to find image '{name}:run' locally" in ran.stderr
    assert docker.output("run", "--rm", "--pull", "always", f"{name}:run", "echo", "again").endswith("again")
    docker.output("rmi", f"{name}:run")
    (tmp_path / "Dockerfile").write_text(f"FROM {name}:run\nRUN echo built > /built\n")
    docker.output("build", "-t", f"{name}:built", str(tmp_path))
    docker.output("push", "-q", f"{name}:built")
    assert registry.tags(f"missing/{generation}") == ["built", "run"]
    docker.output("rmi", f"{name}:run", f"{name}:built")


def test_platforms_manifests_and_tags_of_a_registry(docker: DockerCli, registry: DockerRegistry) -> None:
    repository = f"several/{Path(docker.program).parent.name}"
    name = f"{registry.host}/{repository}"
    here = unlike_others(f"{repository}-here", layers=1, platform=HERE, docker=True)
    other = unlike_others(f"{repository}-other", layers=1, platform={"os": "linux", "architecture": "s390x"}, docker=True)
    put(registry, repository, "both", here, other, docker=True)
    put(registry, repository, "one", here)
    described = json.loads(docker.output("manifest", "inspect", "--insecure", f"{name}:both"))
    assert {item["platform"]["architecture"] for item in described["manifests"]} == {HERE["architecture"], "s390x"}
    docker.output("pull", "-q", "--platform", "linux/s390x", f"{name}:both")
    assert docker.output("inspect", "--format", "{{.Architecture}}", f"{name}:both") == "s390x"
    told = docker.output("pull", "-a", name)
    assert "both: Pulling from" in told
    assert "one: Pulling from" in told
    assert docker.output("inspect", "--format", "{{.Id}}", f"{name}:both") == here.id
    none = docker.run("pull", f"{name}:none", check=False)
    assert none.returncode == 1
    assert f"manifest for {name}:none not found: manifest unknown: manifest unknown" in none.stderr
    docker.output("rmi", f"{name}:both", f"{name}:one")


def test_a_list_of_manifests_made_by_the_command_line_is_pulled(
    engine: EngineUnderTest, client: docker_py.DockerClient, registry: DockerRegistry, tmp_path: Path
) -> None:
    cli = DockerCli(find_docker_cli("now"), engine.url, tmp_path / "config")
    name = f"{registry.host}/listed/image"
    here = unlike_others("listed-here", layers=1, platform=HERE, docker=True)
    other = unlike_others("listed-other", layers=1, platform={"os": "linux", "architecture": "s390x"}, docker=True)
    for tag, image in {"here": here, "other": other}.items():
        put(registry, "listed/image", tag, image)
    cli.output("manifest", "create", "--insecure", f"{name}:list", f"{name}:here", f"{name}:other")
    cli.output("manifest", "push", "--insecure", f"{name}:list")
    assert client.images.pull(name, "list").id == here.id
    client.images.remove(f"{name}:list")


def test_compose_pulls_and_pushes(engine: EngineUnderTest, registry: DockerRegistry, tmp_path: Path) -> None:
    cli = DockerCli(find_docker_cli("now"), engine.url, tmp_path / "config")
    name = f"{registry.host}/compose/image"
    image = unlike_others("compose", layers=2, platform=HERE)
    put(registry, "compose/image", "1", image)
    (tmp_path / "compose.yaml").write_text(f"services:\n  one: {{image: '{name}:1'}}\n  two: {{image: '{name}:2', build: .}}\n")
    (tmp_path / "Dockerfile").write_text(f"FROM {name}:1\nLABEL two=yes\n")

    plugins = tmp_path / "config" / "cli-plugins"
    plugins.mkdir(parents=True)
    (plugins / "docker-compose").symlink_to(CLIENTS / "now" / "cli-plugins" / "docker-compose")

    def compose(*words: str) -> None:
        done = subprocess.run(
            [cli.program, "compose", "-p", "registries", *words],
            cwd=tmp_path,
            env={**cli.environment, "COMPOSE_ANSI": "never", "PATH": f"{Path(cli.program).parent}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr

    compose("pull", "one")
    assert cli.output("inspect", "--format", "{{.Id}}", f"{name}:1") == image.id
    compose("build", "two")
    compose("push")
    assert registry.tags("compose/image") == ["1", "2"]
    assert [layer["digest"] for layer in registry.manifest("compose/image", "2").json["layers"]][:2] == [
        blob.digest for blob in image.blobs
    ]
    cli.output("rmi", f"{name}:1", f"{name}:2")


def test_docker_py_pulls_pushes_and_looks(client: docker_py.DockerClient, guarded: DockerRegistry) -> None:
    name = f"{guarded.host}/py/image"
    image = Made([tar({"py": b"py"})], platform=HERE)
    for tag in ("1", "2"):
        put(guarded, "py/image", tag, image)
    auth = {"username": USER, "password": PASSWORD}
    with pytest.raises(docker_py.errors.APIError, match="no basic auth credentials"):
        client.images.pull(name, "1")
    assert client.images.pull(name, "1", auth_config=auth).id == image.id
    assert {found.id for found in client.images.pull(name, all_tags=True, auth_config=auth)} == {image.id}
    assert client.login(USER, PASSWORD, registry=guarded.host)["Status"] == "Login Succeeded"
    assert client.images.get_registry_data(f"{name}:1").id == image.manifest.digest
    client.images.get(f"{name}:1").tag(name, "3")
    told = [json.loads(line) for line in client.images.push(name, "3").splitlines()]
    assert not [message for message in told if "error" in message]
    assert guarded.tags("py/image") == ["1", "2", "3"]
    with pytest.raises(docker_py.errors.NotFound):
        client.images.pull(name, "none")
    for tag in ("1", "2", "3"):
        client.images.remove(f"{name}:{tag}")


def test_the_password_is_kept_where_the_command_line_keeps_it(docker: DockerCli, guarded: DockerRegistry) -> None:
    docker.run("login", "-u", USER, "--password-stdin", guarded.host, stdin=PASSWORD.encode())
    kept = json.loads((Path(docker.environment["DOCKER_CONFIG"]) / "config.json").read_text())
    assert base64.b64decode(kept["auths"][guarded.host]["auth"]).decode() == f"{USER}:{PASSWORD}"
