"""The text of the AppArmor profile; whether it confines is for a machine that has AppArmor (tests/vm)."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from kitepy.engine.kernel import apparmor


def parse(text: str) -> subprocess.CompletedProcess[str]:
    parser = apparmor.parser_program()
    if parser is None:
        pytest.skip("apparmor_parser is not installed")
    command = [parser, "--skip-kernel-load", "--skip-cache"]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False)


def test_the_profile_compiles_with_and_without_the_distribution_s_abstractions(tmp_path: Path) -> None:
    for abstractions in (Path("/etc/apparmor.d"), tmp_path):
        done = parse(apparmor.profile_text(abstractions=abstractions))
        assert done.returncode == 0, done.stderr
    assert parse("profile broken {").returncode != 0


def test_the_engine_s_own_profile_may_send_signals() -> None:
    assert 'signal (receive) peer="/usr/bin/kitepy-engine",' in apparmor.profile_text(engine_profile="/usr/bin/kitepy-engine")


@pytest.mark.parametrize("rule", ["deny mount,", "deny @{PROC}/* w,", "deny @{PROC}/{kcore,sysrq-trigger} rwklx,"])
def test_what_docker_s_profile_denies_is_denied(rule: str) -> None:
    assert rule in apparmor.profile_text()


def test_a_host_without_the_module_has_no_apparmor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(apparmor, "_MODULE", tmp_path / "enabled")
    assert not apparmor.is_enabled()
