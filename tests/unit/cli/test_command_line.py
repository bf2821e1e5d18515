"""The ``kitepy`` command's choices, without a display and without an engine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kitepy import __version__
from kitepy.cli import main


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KITEPY_HOME", str(tmp_path))
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_the_version_is_told_without_loading_qt(tmp_path: Path) -> None:
    code = "import sys; from kitepy.cli import main\ntry: main(['--version'])\nfinally: print('PySide6' in sys.modules)"
    environment = {**os.environ, "KITEPY_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=30, check=True)
    assert done.stdout.split("\n")[:2] == [f"kitepy {__version__}", "False"]


def test_the_status_of_no_engine_is_three_as_systemctl_gives_it(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["engine", "status"]) == 3
    assert f"absent: unix://{elsewhere}/engine.sock" in capsys.readouterr().out


def test_stopping_no_engine_is_no_failure(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["engine", "stop"]) == 0
    assert "no engine" in capsys.readouterr().out
    assert not (elsewhere / "data").exists()


@pytest.mark.usefixtures("elsewhere")
def test_without_a_display_the_demo_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 1
    assert "kitepy demo" in capsys.readouterr().err


@pytest.mark.usefixtures("elsewhere")
def test_a_folder_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("DISPLAY", ":none")
    assert main(["/no/such/folder"]) == 2
    assert "there is no /no/such/folder" in capsys.readouterr().err


@pytest.mark.usefixtures("elsewhere")
def test_a_demo_without_a_dockerfile_is_refused_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "--folder", str(tmp_path)]) == 2
    assert "no Dockerfile" in capsys.readouterr().err


def test_an_unknown_action_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["engine", "dance"])
    assert ended.value.code == 2
    assert "dance" in capsys.readouterr().err
