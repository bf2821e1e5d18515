"""Docker's command line and docker-py, unchanged, through a TCP port with mutual TLS."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import docker as docker_py
import pytest
from support.docker_cli import DockerCli, find_docker_cli
from support.engine import EngineUnderTest
from support.images import load_busybox

from kitepy.client.tls import CertificateDirectory


@pytest.fixture(name="certificates", scope="module")
def _certificates(tmp_path_factory: pytest.TempPathFactory) -> CertificateDirectory:
    directory = CertificateDirectory(tmp_path_factory.mktemp("tls") / "tls")
    directory.create(["127.0.0.1"], ["alice"])
    return directory


@pytest.fixture(name="port", scope="module")
def _port(certificates: CertificateDirectory) -> Iterator[int]:
    """The port of an engine that wants client certificates."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    server = certificates.server
    files = [f"--tlscacert={server}/ca.pem", f"--tlscert={server}/cert.pem", f"--tlskey={server}/key.pem"]
    with EngineUnderTest("-H", f"tcp://127.0.0.1:{port}", "--tlsverify", *files) as engine:
        client = engine.docker()
        load_busybox(client)
        client.close()
        yield port


@pytest.fixture(name="docker")
def _docker(port: int, certificates: CertificateDirectory, tmp_path: Path) -> DockerCli:
    cli = DockerCli(find_docker_cli(), f"tcp://127.0.0.1:{port}", tmp_path / "docker-config")
    cli.environment |= {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(certificates.client("alice"))}
    return cli


def test_input_ends_and_the_output_still_arrives(docker: DockerCli) -> None:
    data = b"".join(b"%d\n" % number for number in range(100_000))
    done = docker.run(
        "run", "-i", "--rm", "busybox:latest", "sh", "-c", "cat; echo end; echo trouble >&2; exit 3", stdin=data, check=False
    )
    assert done.returncode == 3
    assert done.stdout == data.decode() + "end\n"
    assert done.stderr.endswith("trouble\n")


def test_exec_works_in_a_pipe_and_in_a_terminal(docker: DockerCli) -> None:
    container = docker.output("run", "-d", "--rm", "busybox:latest", "sleep", "600")
    try:
        assert docker.run("exec", "-i", container, "sort", stdin=b"b\na\n").stdout == "a\nb\n"
        with docker.terminal("exec", "-it", container, "sh") as terminal:
            terminal.type("echo $((6*7))\r")
            terminal.expect("42")
            terminal.type("exit 5\r")
            assert terminal.wait() == 5
    finally:
        docker.run("rm", "-f", container)


def test_a_terminal_can_be_detached_from(docker: DockerCli) -> None:
    with docker.terminal("run", "-it", "--name", "over-tls", "busybox:latest", "sh") as terminal:
        terminal.type("echo $((6*7))\r")
        terminal.expect("42")
        terminal.type("\x10\x11")
        assert terminal.wait() == 0
    assert docker.output("inspect", "-f", "{{.State.Running}}", "over-tls") == "true"
    docker.run("rm", "-f", "over-tls")


def test_a_folder_is_built_and_its_log_followed(docker: DockerCli, tmp_path: Path) -> None:
    (tmp_path / "context").mkdir()
    (tmp_path / "context" / "big").write_bytes(b"x" * 3_000_000)
    (tmp_path / "context" / "Dockerfile").write_text("FROM busybox:latest\nCOPY big /big\nRUN wc -c /big\n")
    assert "3000000 /big" in docker.output("build", "-t", "over-tls", str(tmp_path / "context"))
    container = docker.output("run", "-d", "over-tls", "sh", "-c", "while :; do echo tick; usleep 10000; done")
    with docker.background("logs", "-f", container) as logs:
        assert logs.stdout is not None
        assert [logs.stdout.readline() for _ in range(20)] == ["tick\n"] * 20
    docker.run("rm", "-f", container)
    docker.run("rmi", "over-tls")


def test_without_a_certificate_nothing_is_told(docker: DockerCli, certificates: CertificateDirectory, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes((certificates.path / "ca.pem").read_bytes())
    docker.environment.pop("DOCKER_TLS_VERIFY")
    docker.environment.pop("DOCKER_CERT_PATH")
    done = docker.run("--tls", "--tlscacert", str(tmp_path / "ca.pem"), "ps", check=False)
    assert done.returncode != 0
    assert "certificate required" in done.stderr or "bad certificate" in done.stderr
    plain = docker.run("ps", check=False)
    assert plain.returncode != 0


def test_no_warning_about_an_open_port(docker: DockerCli) -> None:
    assert "API is accessible" not in docker.output("info", "--format", "{{.Warnings}}")


def test_docker_py_attaches_and_executes(port: int, certificates: CertificateDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):  # requests prefers these to what a client was told
        monkeypatch.delenv(name, raising=False)
    alice = certificates.client("alice")
    settings = docker_py.tls.TLSConfig(
        client_cert=(str(alice / "cert.pem"), str(alice / "key.pem")), ca_cert=str(alice / "ca.pem"), verify=True
    )
    client = docker_py.DockerClient(base_url=f"tcp://127.0.0.1:{port}", tls=settings, version="auto", timeout=30)
    try:
        assert client.containers.run("busybox:latest", ["echo", "hello"], remove=True) == b"hello\n"
        container = client.containers.run("busybox:latest", ["sleep", "600"], detach=True)
        for _ in range(20):
            assert container.exec_run(["echo", "inside"]).output == b"inside\n"
        stream = container.exec_run(["sh", "-c", "read line; echo got $line"], stdin=True, socket=True).output
        stream.write(b"a line\n") if hasattr(stream, "write") else stream.sendall(b"a line\n")
        assert b"got a line" in stream.read(1024)
        container.remove(force=True)
    finally:
        client.close()
