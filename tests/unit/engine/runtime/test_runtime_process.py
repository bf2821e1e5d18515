"""Describing the process: program lookup, environment, credentials, limits."""

from __future__ import annotations

from pathlib import Path

import pytest

from kitepy.engine.runtime.process import Credentials, ProcessError, find_program, parse_environment, set_limits


def test_a_program_is_found_along_the_path(tmp_path: Path) -> None:
    for name, mode in (("a", 0o644), ("b", 0o755)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tool").write_text("")
        (tmp_path / name / "tool").chmod(mode)
    assert find_program("tool", f"{tmp_path}/none:{tmp_path}/a:{tmp_path}/b") == f"{tmp_path}/b/tool"


def test_an_empty_name_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(ProcessError) as caught:
        find_program("", str(tmp_path))
    assert (str(caught.value), caught.value.exit_code) == ('exec: "": executable file not found in $PATH', 127)


def test_later_environment_entries_win() -> None:
    assert parse_environment(["A=1", "B=x=y", "A=2", "broken", "=odd", "C="]) == {"A": "2", "B": "x=y", "C": ""}


def test_an_unknown_capability_is_named() -> None:
    with pytest.raises(ProcessError, match="CAP_NONESUCH"):
        Credentials({"capabilities": {"bounding": ["CAP_NONESUCH"]}})


def test_credentials_have_safe_defaults() -> None:
    credentials = Credentials({})
    assert (credentials.uid, credentials.groups, credentials.umask, credentials.bounding) == (0, [], 0o022, 0)


def test_an_unknown_limit_is_named() -> None:
    with pytest.raises(ProcessError, match="RLIMIT_NONESUCH"):
        set_limits([{"type": "RLIMIT_NONESUCH", "soft": 1, "hard": 1}])
