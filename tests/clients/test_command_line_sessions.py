"""Docker's command lines type recorded sessions, and see what they saw of dockerd 28.

What a session expects was written by dockerd itself, and what Kitepy does otherwise by Kitepy::

    KITEPY_RECORD_SESSIONS=1 KITEPY_TEST_PEER=/run/docker.sock python -m pytest tests/clients/test_command_line_sessions.py
    KITEPY_RECORD_SESSIONS=1 python -m pytest tests/clients/test_command_line_sessions.py
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import docker
import pytest
from support.docker_cli import find_docker_cli
from support.engine import PEER, EngineUnderTest
from support.images import busybox_archive
from support.sessions import Shell, Step, parse

SESSIONS = Path(__file__).parent / "sessions"
RECORD = os.environ.get("KITEPY_RECORD_SESSIONS") == "1"


def _sessions() -> list[str]:
    return sorted(str(path.relative_to(SESSIONS).with_suffix("")) for path in SESSIONS.glob("*/*.session"))


@pytest.mark.parametrize("name", _sessions())
def test_a_session_goes_as_it_went_on_dockerd(
    name: str, engine: EngineUnderTest, client: docker.DockerClient, tmp_path: Path
) -> None:
    path = SESSIONS / f"{name}.session"
    client.images.load(busybox_archive("box:latest"))
    steps = parse(path.read_text())
    program = Path(find_docker_cli(name.split("/")[0]))
    environment = {
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "DOCKER_HOST": engine.url,
        "DOCKER_CONFIG": str(tmp_path / "config"),
        "DOCKER_BUILDKIT": "0",
        "TZ": "UTC",
        "LC_ALL": "C.UTF-8",
    }
    (tmp_path / "here").mkdir()
    shell = Shell(tmp_path / "here", environment)
    seen = [shell.result(step.text) if step.is_command else "" for step in steps]
    if RECORD:
        path.write_text("".join(str(_recorded(step, result)) for step, result in zip(steps, seen, strict=True)))
        return
    differences = [
        f"$ {step.text}\n{result}--- on dockerd:\n{step.result}"
        for step, result in zip(steps, seen, strict=True)
        if result != step.result and (PEER or result != step.otherwise)
    ]
    if differences:
        pytest.fail(f"{path.name} goes differently:\n" + "\n".join(differences), pytrace=False)


def _recorded(step: Step, result: str) -> Step:
    if PEER:
        return replace(step, result=result)
    return replace(step, otherwise=None if result == step.result else result)
