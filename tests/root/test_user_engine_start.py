"""An ordinary user's engine by the ``kitepy`` command: no process of root anywhere, and the exact command where it can't run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.ordinary_user import REPOSITORY, SUBIDS, UID, user_command

pytestmark = pytest.mark.root


@pytest.fixture
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ku-", dir="/var/tmp") as directory:
        yield Path(directory)
        kitepy(Path(directory), "engine", "stop")
        subprocess.run(["rm", "-rf", *map(str, Path(directory).iterdir())], check=True)


def kitepy(home: Path, *words: str, subids: str = SUBIDS) -> subprocess.CompletedProcess[str]:
    command = user_command(home, [sys.executable, "-m", "kitepy", *words], subids=subids)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)


def owners(home: Path) -> set[int]:
    """User ids of all processes that name the home directory or hold the engine's namespaces."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                words = (entry / "cmdline").read_bytes()
                if str(home).encode() in words and b"ordinary_user" not in words:
                    found.add(entry.stat().st_uid)
            except OSError:
                continue
    return found


def test_the_engine_starts_answers_and_stops_without_a_process_of_root(home: Path) -> None:
    started = kitepy(home, "engine", "start")
    assert started.returncode == 0, started.stderr
    assert f"unix://{home}/run/kitepy/engine.sock" in started.stdout
    doctor = json.loads(kitepy(home, "doctor", "--json").stdout)
    assert doctor["engine"]["running"] is True
    assert doctor["engine"]["mode"] == "rootless"
    assert (home / "run/kitepy/engine.sock").stat().st_mode & 0o777 == 0o600
    pid = doctor["engine"]["pid"]
    ids = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("Uid:")).split()[1:]
    assert set(ids) == {str(UID)}
    again = kitepy(home, "engine", "start")
    assert f"was running (process {pid})" in again.stdout
    stopped = kitepy(home, "engine", "stop")
    assert "ended" in stopped.stdout
    assert kitepy(home, "engine", "status").returncode == 3
    assert owners(home) <= {UID}


def test_a_runtime_directory_that_is_gone_after_a_restart_of_the_machine_is_no_hindrance(home: Path) -> None:
    assert kitepy(home, "engine", "start").returncode == 0
    kitepy(home, "engine", "stop")
    subprocess.run(["rm", "-rf", str(home / "run")], check=True)
    again = kitepy(home, "engine", "start")
    assert again.returncode == 0, again.stderr


def test_without_ids_the_start_fails_with_the_exact_command_instead_of_a_log(home: Path) -> None:
    failed = kitepy(home, "engine", "start", subids="")
    assert failed.returncode == 1
    assert "Your account has no ids" in failed.stderr
    assert "sudo usermod --add-subuids " in failed.stderr
    assert "Traceback" not in failed.stderr
    doctor = kitepy(home, "doctor", subids="")
    assert doctor.returncode == 1
    assert " ✗ Your account has no ids" in doctor.stdout
