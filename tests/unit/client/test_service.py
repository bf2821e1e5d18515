"""The engine's unit files."""

from __future__ import annotations

from pathlib import Path

import pytest

from kitepy.client.errors import EngineStartError
from kitepy.client.service import disable, enable, unit_text

PACKAGING = Path(__file__).parents[3] / "packaging" / "systemd"


@pytest.mark.parametrize(("name", "user"), [("user", True), ("system", False)])
def test_the_packages_units_are_what_the_command_writes(name: str, user: bool) -> None:
    assert (PACKAGING / name / "kitepy.service").read_text() == unit_text(["/usr/bin/kitepy-engine"], user=user)


def test_words_are_taken_literally() -> None:
    text = unit_text(["/home/jo hn/50%/$x/python", "-m", "kitepy.engine"], user=True)
    assert 'ExecStart="/home/jo hn/50%%/$$x/python" -m kitepy.engine --live-restore\n' in text


def test_containers_are_not_the_units_to_end() -> None:
    text = unit_text(["/usr/bin/kitepy-engine"], user=True)
    assert "\nKillMode=process\n" in text
    assert "\nDelegate=yes\n" in text
    assert "\nType=notify\n" in text


def test_without_systemd_it_says_what_to_do_instead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getuid", lambda: 1000)
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(EngineStartError, match="no systemd") as caught:
        enable({"HOME": str(tmp_path)})
    assert "kitepy engine start" in caught.value.hint


def test_turning_off_what_is_not_on_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getuid", lambda: 1000)
    assert "no service" in disable({"HOME": str(tmp_path)})
    assert list(tmp_path.iterdir()) == []
