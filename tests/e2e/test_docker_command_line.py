"""Docker's command line, unchanged, against the engine: the first things anybody tries."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.docker_cli import DockerCli, find_docker_cli
from support.engine import EngineUnderTest

import kitepy.client.starter as starter

EXAMPLE = Path(__file__).parents[2] / "examples" / "hello-web"


@pytest.fixture
def docker(engine: EngineUnderTest, busybox: str, tmp_path: Path) -> DockerCli:
    cli = DockerCli(find_docker_cli(), engine.url, tmp_path / "docker-config")
    assert cli.output("images", "-q", busybox)
    return cli


@pytest.fixture
def hello_web(docker: DockerCli) -> Iterator[str]:
    changes = [word for change in starter.CHANGES for word in ("--change", change)]
    archive = starter.pack_starter(starter.find_busybox())
    docker.run("import", *changes, "-", "kitepy/starter", stdin=archive)
    built = docker.output("build", "-t", "hello-web", str(EXAMPLE))
    assert "Successfully built" in built
    yield "hello-web"
    docker.run("rmi", "-f", "hello-web", "kitepy/starter", check=False)


def fetch(port: str) -> str:
    deadline = time.monotonic() + 10
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=2) as answer:
                return str(answer.read().decode())
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def test_version_and_info_name_the_engine_and_its_api(docker: DockerCli) -> None:
    version = json.loads(docker.output("version", "--format", "{{json .}}"))
    assert version["Server"]["Os"] == "linux"
    assert version["Server"]["ApiVersion"] == "1.51"
    info = json.loads(docker.output("info", "--format", "{{json .}}"))
    assert info["Driver"] == "overlay2"
    assert info["NCPU"] > 0
    assert docker.run("info").stderr.count("ERROR") == 0


def test_a_folder_is_built_run_published_looked_at_and_removed(docker: DockerCli, hello_web: str) -> None:
    assert hello_web in docker.output("images", "--format", "{{.Repository}}")
    assert "EXPOSE" in docker.output("history", "--no-trunc", hello_web)

    container = docker.output("run", "-d", "-p", "127.0.0.1::8080", "--name", "hello-cli", hello_web)
    assert len(container) == 64
    listed = docker.output("ps", "--filter", "name=hello-cli", "--format", "{{.Names}} {{.Status}} {{.Ports}}")
    assert listed.startswith("hello-cli Up")
    assert "->8080/tcp" in listed

    port = docker.output("port", "hello-cli", "8080").rpartition(":")[2]
    assert "<title>Hello from Kitepy</title>" in fetch(port)

    with docker.background("logs", "-f", "hello-cli") as logs:
        assert logs.stdout is not None
        fetch(port)
        lines: list[str] = []
        while not any("response:200" in line for line in lines):
            line = logs.stdout.readline()
            assert line, f"the log ended early: {lines}"
            lines.append(line)

    began = time.monotonic()
    assert docker.output("stop", "hello-cli") == "hello-cli"
    assert time.monotonic() - began < 8, "the server reacts to SIGTERM, so nothing has to be killed"
    assert "Exited (0)" in docker.output("ps", "-a", "--filter", "name=hello-cli", "--format", "{{.Status}}")
    assert docker.output("rm", "hello-cli") == "hello-cli"
    assert docker.run("inspect", "hello-cli", check=False).returncode == 1


def test_output_errors_and_exit_codes_come_through(docker: DockerCli, busybox: str) -> None:
    done = docker.run("run", "--rm", busybox, "sh", "-c", "echo out; echo err >&2; exit 7", check=False)
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")
    assert docker.run("run", "--rm", busybox, "/no/such/program", check=False).returncode == 127
    assert docker.run("run", "--rm", busybox, "/etc/passwd", check=False).returncode == 126


def test_standard_input_is_passed_on_and_its_end_is_seen(docker: DockerCli, busybox: str) -> None:
    assert docker.run("run", "--rm", "-i", busybox, "wc", "-c", stdin=b"x" * 100_000).stdout.strip() == "100000"


def test_an_interactive_shell_has_a_terminal_of_the_right_size(docker: DockerCli, busybox: str) -> None:
    with docker.terminal("run", "--rm", "-it", busybox, "sh") as terminal:
        terminal.expect("# ")
        terminal.type("tty; echo size $((6 * 7))\r")
        terminal.expect("/dev/pts/0")
        terminal.expect("size 42")
        terminal.type("exit 3\r")
        assert terminal.wait() == 3


def test_a_second_process_joins_in_a_terminal(docker: DockerCli, busybox: str) -> None:
    docker.run("run", "-d", "--name", "joined", busybox, "sleep", "600")
    try:
        with docker.terminal("exec", "-it", "joined", "sh") as terminal:
            terminal.expect("# ")
            terminal.type("cat /proc/1/cmdline | tr '\\0' ' '; echo\r")
            terminal.expect("sleep 600")
            terminal.type("exit\r")
            assert terminal.wait() == 0
        assert docker.output("exec", "joined", "hostname") == docker.output("inspect", "-f", "{{.Config.Hostname}}", "joined")
        assert docker.run("exec", "joined", "sh", "-c", "exit 5", check=False).returncode == 5
    finally:
        docker.run("rm", "-f", "joined")


def test_events_tell_a_container_s_life(docker: DockerCli, busybox: str) -> None:
    since = str(int(time.time()) - 1)
    docker.run("run", "--name", "eventful", busybox, "true")
    docker.run("rm", "eventful")
    until = str(int(time.time()) + 1)
    lines = docker.output(
        "events", "--since", since, "--until", until, "--filter", "container=eventful", "--format", "{{.Action}}"
    ).splitlines()
    assert [line for line in lines if line in {"create", "start", "die", "destroy"}] == ["create", "start", "die", "destroy"]


def test_a_failing_build_step_ends_the_build_with_its_code(docker: DockerCli, busybox: str, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {busybox}\nRUN echo before && exit 9\n")
    done = docker.run("build", str(tmp_path), check=False)
    assert done.returncode != 0
    assert "before" in done.stdout
    assert "returned a non-zero code: 9" in done.stderr


def test_a_second_build_comes_from_the_cache(docker: DockerCli, busybox: str, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {busybox}\nRUN date +%N > /stamp\nCOPY file /\n")
    (tmp_path / "file").write_text("one")
    first = docker.output("build", "-q", str(tmp_path))
    assert docker.output("build", "-q", str(tmp_path)) == first
    (tmp_path / "file").write_text("two")
    again = docker.output("build", "-t", "cached", str(tmp_path))
    assert again.count("Using cache") == 1
    docker.run("rmi", "-f", "cached", first)
