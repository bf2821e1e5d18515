"""With whose rights an engine is started, where it keeps its things, and what a failed start says of the machine."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from kitepy.client import BundledEngine, EngineMode, EnginePaths, EngineStartError, Severity, prefer, preferred_mode
from kitepy.client.bundled import engine_command
from kitepy.client.diagnosis import Diagnosis, Finding, Fix, diagnose, from_document
from kitepy.client.elevation import Elevation
from kitepy.client.probe import Presence, Probe
from kitepy.client.report import document, report

DOCUMENT = {
    "version": "1",
    "mode": "rootless",
    "can_run": False,
    "findings": [
        {"id": "kernel", "severity": "fine", "summary": "Linux 6.1.", "meaning": "", "fixes": []},
        {
            "id": "subordinate-ids",
            "severity": "blocks",
            "summary": "Your account has no ids.",
            "meaning": "No container can run.",
            "fixes": [{"command": "sudo touch /etc/subuid\nsudo usermod ada", "about": "They carry no rights."}],
        },
        {"id": "ping", "severity": "degrades", "summary": "No ping.", "meaning": "It is silent.", "fixes": []},
    ],
}
DIAGNOSIS = from_document(DOCUMENT)


def user_paths(home: Path, **environment: str) -> EnginePaths:
    return EnginePaths.default({"HOME": str(home), **environment}, uid=1000)


def test_a_user_s_engine_runs_with_the_user_s_rights_in_the_user_s_places(tmp_path: Path) -> None:
    paths = user_paths(tmp_path)
    assert paths.mode is EngineMode.ROOTLESS
    assert paths.data_root == tmp_path / ".local/share/kitepy"
    assert paths.log == tmp_path / ".local/state/kitepy/engine.log"
    assert paths.bytecode is None
    command = engine_command(paths, 1000, python="py")
    assert command[:3] == ["py", "-m", "kitepy.engine"]
    assert "--socket-owner" not in command


def test_sockets_are_in_the_runtime_directory_only_when_it_is_the_user_s_own(tmp_path: Path) -> None:
    mine = EnginePaths.default({"HOME": "/h", "XDG_RUNTIME_DIR": str(tmp_path)}, uid=os.stat(tmp_path).st_uid or 1000)
    # As su leaves it: another user's directory. Root's own tests run as root, so that "another" is whoever is not root.
    other = EnginePaths.default({"HOME": "/h", "XDG_RUNTIME_DIR": "/"}, uid=54321)
    assert other.socket == Path("/h/.local/state/kitepy-run/kitepy/engine.sock")
    if os.stat(tmp_path).st_uid:
        assert mine.socket == tmp_path / "kitepy/engine.sock"


def test_the_usual_choice_is_no_administrator_rights_and_another_is_remembered(tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path)}
    assert preferred_mode(environment, uid=1000) is EngineMode.ROOTLESS
    prefer(EngineMode.ROOT, environment)
    assert preferred_mode(environment, uid=1000) is EngineMode.ROOT
    assert str(EnginePaths.default(environment, uid=1000).socket) == "/run/kitepy-1000/engine.sock"
    prefer(EngineMode.ROOTLESS, environment)
    assert preferred_mode(environment, uid=1000) is EngineMode.ROOTLESS


@pytest.mark.parametrize("text", ["", "[]", '{"engine": "superuser"}', "{"])
def test_a_spoilt_choice_is_the_safe_one(tmp_path: Path, text: str) -> None:
    file = tmp_path / ".config/kitepy/client.json"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    assert preferred_mode({"HOME": str(tmp_path)}, uid=1000) is EngineMode.ROOTLESS


def test_root_is_root_whatever_is_preferred(tmp_path: Path) -> None:
    environment = {"KITEPY_HOME": str(tmp_path)}
    prefer(EngineMode.ROOTLESS, environment)
    assert preferred_mode(environment, uid=0) is EngineMode.ROOT


def test_the_two_kinds_of_engine_of_a_user_share_no_directory(tmp_path: Path) -> None:
    environment = {"KITEPY_HOME": str(tmp_path)}
    own = EnginePaths.default(environment, uid=1000, mode=EngineMode.ROOTLESS)
    roots = EnginePaths.default(environment, uid=1000, mode=EngineMode.ROOT)
    assert not {own.socket, own.data_root, own.exec_root, own.pidfile} & {roots.socket, roots.data_root, roots.pidfile}


def failing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, diagnosis: Diagnosis) -> EngineStartError:
    """The error of an engine that ends at once, on a machine with that diagnosis."""
    engine = BundledEngine(EnginePaths.default({"KITEPY_HOME": str(tmp_path)}), elevate=lambda: Elevation((), asks=False))
    monkeypatch.setattr(engine, "_command", lambda _paths, _uid: [sys.executable, "-c", "raise SystemExit('last words')"])
    monkeypatch.setattr(engine, "_uid", 0)
    monkeypatch.setattr(engine, "diagnose_blocking", lambda: diagnosis)
    with pytest.raises(EngineStartError) as caught:
        engine.ensure_running_blocking()
    return caught.value


def test_a_start_that_fails_for_what_the_machine_lacks_says_that_with_its_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = failing(tmp_path, monkeypatch, DIAGNOSIS)
    assert error.reason == "Your account has no ids."
    assert error.hint == "sudo touch /etc/subuid\nsudo usermod ada"
    assert error.findings == DIAGNOSIS.findings
    assert "last words" in error.log_tail


def test_a_start_that_fails_on_a_good_machine_keeps_its_own_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = failing(tmp_path, monkeypatch, Diagnosis("rootless", (Finding("kernel", Severity.FINE, "Linux 6.1."),)))
    assert "last words" in error.reason
    assert error.findings == ()


def test_findings_come_from_the_engine_s_program(tmp_path: Path) -> None:
    program = tmp_path / "engine.py"
    expected = ["--diagnose=json", "--data-root", "/d"]
    program.write_text(f"import sys; assert sys.argv[1:] == {expected}; print({json.dumps(DOCUMENT)!r})")
    found = diagnose(Path("/d"), {}, [sys.executable, str(program)])
    assert found == DIAGNOSIS
    assert found.blocking[0].fixes == (Fix("sudo touch /etc/subuid\nsudo usermod ada", "They carry no rights."),)
    assert not found.can_run


@pytest.mark.parametrize("text", ["print('nonsense')", "print('{}')", "raise SystemExit('broken')"])
def test_a_program_without_findings_is_an_error_with_its_words(tmp_path: Path, text: str) -> None:
    program = tmp_path / "engine.py"
    program.write_text(text)
    with pytest.raises(EngineStartError, match="can't be checked") as caught:
        diagnose(Path("/d"), {}, [sys.executable, str(program)])
    assert ("broken" in caught.value.log_tail) == ("broken" in text)


def test_the_report_marks_each_finding_and_ends_with_a_verdict(tmp_path: Path) -> None:
    text = report(DIAGNOSIS, Probe(Presence.ABSENT), user_paths(tmp_path)).splitlines()
    assert " ✓ Linux 6.1." in text
    assert " ✗ Your account has no ids." in text
    assert "     sudo usermod ada" in text
    assert " ! No ping." in text
    assert any("No engine runs" in line and "with your own rights" in line for line in text)
    assert text[-1] == "Containers can't run here yet: 1 thing stands in the way (✗)."


def test_the_report_for_programs_tells_of_the_engine_too(tmp_path: Path) -> None:
    paths = user_paths(tmp_path)
    told = document(DIAGNOSIS, Probe(Presence.HEALTHY, version="0.1.0", pid=7), paths)
    assert told["can_run"] is False
    assert told["findings"] == DOCUMENT["findings"]
    assert told["engine"]["running"] is True  # type: ignore[index]  # a document for JSON
    assert told["engine"]["mode"] == "rootless"  # type: ignore[index]
