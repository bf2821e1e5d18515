"""The PID file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kitepy.engine.config import ConfigError
from kitepy.engine.pidfile import PidFile

_HOLDER = """
import sys
from pathlib import Path
from kitepy.engine.pidfile import PidFile
PidFile(Path(sys.argv[1])).__enter__()
print("held", flush=True)
sys.stdin.read()
"""


def test_it_holds_our_number_and_goes_with_us(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "pid"
    with PidFile(path):
        assert path.read_text() == f"{os.getpid()}\n"
    assert not path.exists()


def test_a_living_engine_keeps_it_and_a_dead_one_does_not(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    command = [sys.executable, "-c", _HOLDER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(ConfigError, match=f"process id {holder.pid} is still running"):
            PidFile(path).__enter__()
        holder.kill()
    assert path.exists()
    with PidFile(path):
        assert path.read_text() == f"{os.getpid()}\n"
