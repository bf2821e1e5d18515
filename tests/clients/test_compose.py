"""docker compose of today and docker-compose 1.29 run a project, without a network of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest
from support.docker_cli import CLIENTS, DockerCli, find_docker_cli
from support.engine import EngineUnderTest
from support.images import busybox_archive

PROJECT = """
services:
  db:
    image: box
    network_mode: bridge
    command: ["sh", "-c", "echo db begins; touch /ready; exec sleep 600"]
    healthcheck: {test: ["CMD", "test", "-e", "/ready"], interval: 200ms, timeout: 5s, retries: 50}
    stop_grace_period: 0s
    volumes: ["data:/data"]
  web:
    image: box
    network_mode: bridge
    init: false
    depends_on: {db: {condition: service_healthy}}
    env_file: settings.env
    environment: {OWN: "from file ${OUTSIDE:-default}"}
    labels: {part: front}
    ports: ["127.0.0.1::8080"]
    volumes: ["data:/data:ro", "./site:/site"]
    command: ["sh", "-c", "echo web begins with $$SETTING and $$OWN; exec sleep 600"]
    stop_grace_period: 0s
  job:
    image: box
    profiles: [jobs]
    network_mode: none
    command: ["sh", "-c", "echo job ran; exit 3"]
volumes:
  data: {labels: {kind: kept}}
"""


class Compose:
    """A project of its own in a directory of its own."""

    def __init__(self, program: list[str], cli: DockerCli, directory: Path, name: str) -> None:
        self.command = [*program, "-p", name]
        self.environment = {
            **cli.environment,
            "PATH": f"{Path(cli.program).parent}:{os.environ['PATH']}",
            "COMPOSE_ANSI": "never",
        }
        # Newer versions of the API lack what 1.29 needs to make a container anew.
        self.environment["COMPOSE_API_VERSION"] = "1.40"
        self.directory = directory
        self.name = name
        self.is_old = program[0].endswith("docker-compose")

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*self.command, *arguments],
            cwd=self.directory,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(f"compose {' '.join(arguments)} gave {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return done

    def output(self, *arguments: str) -> str:
        return self.run(*arguments).stdout.strip()

    @contextlib.contextmanager
    def started(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        process = subprocess.Popen(
            [*self.command, *arguments],
            cwd=self.directory,
            env={**self.environment, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate(timeout=10)


def until(condition: Callable[[], object], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"{condition} did not come true"
        time.sleep(0.02)


def read_until(process: subprocess.Popen[str], *wanted: str) -> None:
    """Read lines until all texts were seen."""
    assert process.stdout is not None
    left, seen = set(wanted), []
    while left:
        line = process.stdout.readline()
        assert line, f"the output ended before {left}:\n{''.join(seen)}"
        seen.append(line)
        left -= {text for text in left if text in line}


@pytest.fixture(name="compose", params=["now", "old"])
def _compose(
    request: pytest.FixtureRequest, engine: EngineUnderTest, client: docker.DockerClient, tmp_path: Path
) -> Iterator[Compose]:
    client.images.load(busybox_archive("box:latest"))
    cli = DockerCli(find_docker_cli(request.param), engine.url, tmp_path / "docker-config")
    if request.param == "now":
        plugins = tmp_path / "docker-config" / "cli-plugins"
        plugins.mkdir(parents=True)
        (plugins / "docker-compose").symlink_to(CLIENTS / "now" / "cli-plugins" / "docker-compose")
        program = [cli.program, "compose"]
    else:
        program = [str(CLIENTS / "old" / "docker-compose")]
    directory = tmp_path / "project"
    (directory / "site").mkdir(parents=True)
    (directory / "docker-compose.yml").write_text(PROJECT)
    (directory / "settings.env").write_text("SETTING=a setting\n")
    compose = Compose(program, cli, directory, f"p{request.param}{os.getpid()}")
    yield compose
    compose.run("--profile", "jobs", "down", "-v", "-t", "0", check=False)


def _mine(
    client: docker.DockerClient, compose: Compose, service: str = "", **options: bool
) -> list[docker.models.containers.Container]:
    labels = [f"com.docker.compose.project={compose.name}", *([f"com.docker.compose.service={service}"] if service else [])]
    return list(client.containers.list(filters={"label": labels}, **options))


def test_a_project_goes_up_is_used_and_goes_down(compose: Compose, client: docker.DockerClient) -> None:
    compose.run("up", "-d")
    (web,), (db,) = _mine(client, compose, "web"), _mine(client, compose, "db")
    assert db.attrs["State"]["Health"]["Status"] == "healthy", "web waits for db's health"
    assert web.attrs["Config"]["Labels"]["part"] == "front"
    assert not _mine(client, compose, "job", all=True), "its profile was not asked for"

    listed = compose.output("ps")
    assert web.name in listed
    assert "healthy" in listed
    assert len(compose.output("ps", "-q").splitlines()) == 2
    assert "web begins with a setting and from file default" in compose.output("logs", "web")
    assert "db begins" in compose.output("logs", "--tail", "1", "--no-color", "db")
    assert compose.output("port", "web", "8080").startswith("127.0.0.1:")
    assert "sleep 600" in compose.output("top")

    assert compose.output("exec", "-T", "-e", "WORD=x", "web", "sh", "-c", "echo $WORD") == "x"
    (compose.directory / "site" / "page").write_text("page")
    assert compose.output("exec", "-T", "web", "cat", "/site/page") == "page"
    assert compose.run("exec", "-T", "web", "sh", "-c", "exit 7", check=False).returncode == 7
    compose.run("exec", "-T", "db", "sh", "-c", "echo shared >/data/file")
    assert compose.output("exec", "-T", "web", "cat", "/data/file") == "shared"

    before = {container.id for container in _mine(client, compose)}
    compose.run("up", "-d")
    assert {container.id for container in _mine(client, compose)} == before, "nothing changed, so nothing is made anew"
    compose.environment["OUTSIDE"] = "changed"
    compose.run("up", "-d")
    (web_now,), (db_now,) = _mine(client, compose, "web"), _mine(client, compose, "db")
    assert db_now.id == db.id
    assert web_now.id != web.id, "its configuration changed"
    assert "from file changed" in compose.output("logs", "web")

    compose.run("restart", "-t", "0", "db")
    compose.run("stop", "-t", "0", "web")
    assert not _mine(client, compose, "web")
    compose.run("start", "web")
    assert _mine(client, compose, "web")
    compose.run("kill", "-s", "KILL", "web")
    until(lambda: not _mine(client, compose, "web"))
    compose.run("rm", "-f", "web")
    assert not _mine(client, compose, "web", all=True)
    compose.run("down", "-v", "-t", "0")
    assert not _mine(client, compose, all=True)
    assert not [volume for volume in client.volumes.list() if volume.name.startswith(compose.name)]


def test_a_single_command_runs_with_its_dependencies(compose: Compose, client: docker.DockerClient) -> None:
    done = compose.run("run", "--rm", "-T", "-e", "MORE=1", "web", "sh", "-c", "echo $SETTING $MORE; exit 4", check=False)
    assert (done.returncode, done.stdout.strip().splitlines()[-1]) == (4, "a setting 1")
    assert _mine(client, compose, "db")
    assert compose.run("run", "--rm", "-T", "job", check=False).returncode == 3
    done = compose.run("--profile", "jobs", "up", "--exit-code-from", "job", "--no-log-prefix", "job", check=False)
    assert done.returncode == 3
    assert "job ran" in done.stdout


def test_services_scale_up_and_down(compose: Compose, client: docker.DockerClient) -> None:
    compose.run("up", "-d", "--scale", "db=3", "db")
    assert len(_mine(client, compose, "db")) == 3
    compose.run("up", "-d", "--scale", "db=1", "db")
    assert len(_mine(client, compose, "db", all=True)) == 1


def test_up_in_the_foreground_shows_what_is_said_and_ctrl_c_stops_everything(
    compose: Compose, client: docker.DockerClient
) -> None:
    with compose.started("up") as process:
        read_until(process, "db begins", "web begins")
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=30)
    assert not _mine(client, compose)
    assert len(_mine(client, compose, all=True)) == 2


def test_events_follow_and_so_do_today_s_logs_over_a_restart(compose: Compose) -> None:
    compose.run("up", "-d", "db")
    with compose.started("logs", "-f") as logs, compose.started("events", "--json") as events:
        read_until(logs, "db begins")
        compose.run("restart", "-t", "0", "db")
        if not compose.is_old:
            read_until(logs, "db begins")
        assert events.stdout is not None
        actions = []
        while "start" not in actions:
            event = json.loads(events.stdout.readline())
            assert event["service"] == "db"
            actions.append(event["action"])
        assert "die" in actions


@pytest.mark.needs("limits")
def test_services_are_paused_and_go_on(compose: Compose, client: docker.DockerClient) -> None:
    compose.run("up", "-d", "db")
    compose.run("pause")
    assert [container.status for container in _mine(client, compose)] == ["paused"]
    compose.run("unpause")
    assert [container.status for container in _mine(client, compose)] == ["running"]


def test_an_image_is_built_and_listed(compose: Compose, client: docker.DockerClient) -> None:
    (compose.directory / "Dockerfile").write_text("FROM box\nRUN echo built >/built\n")
    (compose.directory / "docker-compose.yml").write_text(
        "services:\n  made:\n    build: .\n    network_mode: none\n    command: [cat, /built]\n"
    )
    compose.run("build")
    done = compose.run("up", "--abort-on-container-exit")
    assert "built" in done.stdout
    assert "made" in compose.output("images")
    for image in client.images.list():
        if any(tag.startswith(compose.name) for tag in image.tags):
            compose.run("down")
            client.images.remove(image.id, force=True)


def test_files_are_copied(compose: Compose) -> None:
    if compose.is_old:
        pytest.skip("docker-compose 1.29 has no cp")
    compose.run("up", "-d", "db")
    (compose.directory / "given").write_text("given")
    compose.run("cp", "given", "db:/tmp/given")
    assert compose.output("exec", "-T", "db", "cat", "/tmp/given") == "given"
    compose.run("cp", "db:/tmp/given", "back")
    assert (compose.directory / "back").read_text() == "given"


def test_today_s_compose_lists_projects_waits_and_shows_figures(compose: Compose) -> None:
    if compose.is_old:
        pytest.skip("docker-compose 1.29 has none of these commands")
    compose.run("up", "-d", "--wait", "db")
    assert compose.name in compose.output("ls")
    assert json.loads(compose.output("ps", "--format", "json"))["Health"] == "healthy"
    assert "db" in compose.output("stats", "--no-stream")
    assert compose.output("ps", "--services") == "db"
    assert compose.name in compose.output("volumes")
