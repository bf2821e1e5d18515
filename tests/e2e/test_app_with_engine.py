"""The app's window over its real engine: a container's whole life, and the engine's sudden end."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.engine import unused_bip

from kitepy.demo.display import virtual_display

ROOT = Path(__file__).parents[2]


@pytest.fixture
def home() -> Iterator[Path]:
    # Short, since sockets live below it.
    directory = Path(tempfile.mkdtemp(prefix="kt-", dir="/var/tmp"))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


def test_a_container_lives_under_the_window_s_buttons_and_survives_the_engine(home: Path) -> None:
    with virtual_display() as display:
        environment = {
            **display.environment,
            "KITEPY_HOME": str(home),
            "KITEPY_ENGINE_ARGS": f"--bip {unused_bip()}",
            "DBUS_SESSION_BUS_ADDRESS": "disabled:",
            "PYTHONPATH": f"{ROOT / 'tests'}:{ROOT}",
        }
        done = subprocess.run(
            [sys.executable, "-m", "support.engine_tour", str(ROOT / "examples" / "hello-web")],
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr.count("Traceback") == 0, done.stderr
