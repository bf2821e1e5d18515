"""Recorded sessions of a command line: read, written again, compared."""

from __future__ import annotations

from pathlib import Path

from support.sessions import Shell, normal, parse

SESSION = """# A remark.
$ echo one; \\
echo two >&2
one
! two

# Another.
$ exit 3
[3]
~ own
~ [4]
$ true
x
~
"""


def test_a_session_is_written_as_it_was_read() -> None:
    steps = parse(SESSION)
    assert "".join(map(str, steps)) == SESSION
    commands = [step for step in steps if step.is_command]
    assert [step.result for step in commands] == ["one\n! two\n", "[3]\n", "x\n"]
    assert [step.otherwise for step in commands] == [None, "own\n[4]\n", ""]


def test_a_command_s_result_has_output_errors_and_code(tmp_path: Path) -> None:
    shell = Shell(tmp_path, {"WORD": "x"})
    assert shell.result("pwd; echo $WORD; echo bad >&2; exit 5") == "<HERE>\nx\n! bad\n[5]\n"
    assert shell.result("echo '$ looks like a command'; echo; echo '~ x'") == " $ looks like a command\n<EMPTY>\n ~ x\n"


def test_what_changes_each_time_is_left_out() -> None:
    assert (
        normal("0123456789ab up 2026-01-02T03:04:05.678Z at 172.17.0.2   Up 3 seconds") == "<ID> up <TIME> at <ADDRESS>  Up <AGE>"
    )
    assert normal("127.0.0.1:32768 0.0.0.0:8080") == "127.0.0.1:<PORT> 0.0.0.0:8080"
