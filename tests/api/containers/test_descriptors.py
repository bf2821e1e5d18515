"""No descriptor of the engine reaches a process in a container, whichever way it came to be (CVE-2024-21626)."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.errors import APIError, BuildError

LIST = "ls -l /proc/self/fd; echo done"
LIST_ONE = "ls -l /proc/1/fd; echo done"


def foreign(text: str) -> list[str]:
    """What a listing shows beside the three of every process and the directory that is being listed."""
    lines = text.replace("\r", "").splitlines()
    assert "done" in lines, text
    listed = [line.partition(" -> ")[0].split()[-1] + " " + line.partition(" -> ")[2] for line in lines if " -> " in line]
    assert {line.split()[0] for line in listed} >= {"0", "1", "2"}, text
    return [line for line in listed if int(line.split()[0]) > 2 and not re.fullmatch(r"3 /proc/\d+/fd", line)]


@pytest.mark.parametrize("options", [{}, {"tty": True}, {"stdin_open": True}, {"privileged": True}], ids=str)
@pytest.mark.parametrize("script", [LIST, LIST_ONE], ids=["self", "first"])
def test_a_container_has_three(run: Any, script: str, options: dict[str, bool]) -> None:
    container = run(script, **options)
    container.wait(timeout=30)
    assert foreign(container.logs().decode()) == []


@pytest.mark.parametrize("tty", [False, True])
@pytest.mark.parametrize("container_tty", [False, True])
def test_an_exec_has_three(run: Any, tty: bool, container_tty: bool) -> None:
    container = run(["sleep", "600"], tty=container_tty)
    for script in (LIST, LIST_ONE):
        assert foreign(container.exec_run(["sh", "-c", script], tty=tty).output.decode()) == []


def test_a_step_of_a_build_has_three(client: docker.DockerClient, busybox: str) -> None:
    dockerfile = f"FROM {busybox}\nRUN {LIST}\nRUN {LIST_ONE}\n"
    image, log = client.images.build(fileobj=io.BytesIO(dockerfile.encode()), nocache=True, rm=True, forcerm=True)
    client.images.remove(image.id, force=True)
    assert foreign("".join(part.get("stream", "") for part in log)) == []


def test_a_health_check_has_three(run: Any, until: Any) -> None:
    check = {"test": ["CMD-SHELL", LIST], "interval": 100_000_000, "retries": 1, "timeout": 5_000_000_000}
    container = run(["sleep", "600"], healthcheck=check)

    def first() -> str:
        container.reload()
        log = container.attrs["State"]["Health"]["Log"]
        return str(log[0]["Output"]) if log else ""

    assert foreign(until(first)) == []


def test_a_build_s_working_directory_at_a_descriptor_leads_nowhere(
    client: docker.DockerClient, busybox: str, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("the host's")
    climb = f"for up in . .. ../.. ../../.. ../../../.. ../../../../../..; do cat $up{secret} 2>/dev/null; done; echo done"
    for number in range(3, 31):
        dockerfile = f"FROM {busybox}\nWORKDIR /proc/self/fd/{number}\nRUN {climb}\n"
        try:
            image, log = client.images.build(fileobj=io.BytesIO(dockerfile.encode()), nocache=True, rm=True, forcerm=True)
        except (BuildError, APIError):
            continue  # refused
        client.images.remove(image.id, force=True)
        output = [part["stream"] for part in log if "stream" in part and not part["stream"].startswith("Step")]
        assert "the host's" not in "".join(output)


def test_an_exec_at_a_descriptor_leads_nowhere(run: Any, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("the host's")
    container = run(["sleep", "600"])
    for number in range(3, 31):
        for tty in (False, True):
            command = ["sh", "-c", f"cat ../../../..{secret} ..{secret} .{secret} 2>/dev/null; true"]
            try:
                output = container.exec_run(command, workdir=f"/proc/self/fd/{number}", tty=tty).output
            except APIError:
                continue  # refused
            assert b"the host's" not in output
