"""``--init``: process 1 is an init that starts the program, hands on signals and reaps orphans."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.creating import created, output_of, started

Until = Callable[[Callable[[], Any]], Any]


def _body(busybox: str, script: str, **more: Any) -> dict[str, Any]:
    host = {"Init": True, **more.pop("HostConfig", {})}
    return {"Image": busybox, "Cmd": ["sh", "-c", script], "HostConfig": host, **more}


def test_the_init_is_process_1(api: Any, busybox: str) -> None:
    lines = output_of(api, _body(busybox, "ps -o pid,ppid,args; true")).splitlines()
    assert lines[1].split()[:4] == ["1", "0", "/sbin/docker-init", "--"]
    assert lines[2].split()[1] == "1"


def test_inspect_shows_the_program_and_not_the_init(api: Any, busybox: str) -> None:
    with created(api, _body(busybox, "exit 0")) as made:
        assert (made.document["Path"], made.document["HostConfig"]["Init"]) == ("sh", True)


@pytest.mark.parametrize(("script", "code"), [("exit 7", 7), ("kill -9 $$", 137), ("kill -TERM $$", 143), ("true", 0)])
def test_the_exit_code_is_the_programs(api: Any, busybox: str, script: str, code: int) -> None:
    with created(api, _body(busybox, script)) as made:
        started(api, made)
        assert api("POST", f"/containers/{made.id}/wait").json["StatusCode"] == code


def test_a_program_that_is_not_there_is_reported(api: Any, busybox: str) -> None:
    with created(api, {"Image": busybox, "Cmd": ["/not/there"], "HostConfig": {"Init": True}}) as made:
        answer = api("POST", f"/containers/{made.id}/start")
        # A peer's init is a program of its own and finds out later.
        code = api("POST", f"/containers/{made.id}/wait").json["StatusCode"]
        assert (answer.status in (204, 400), code) == (True, 127)


def test_signals_are_handed_on(api: Any, busybox: str, until: Until) -> None:
    script = "trap 'echo got usr1' USR1; trap 'echo got term; exit 3' TERM; echo ready; while :; do sleep 0.05; done"
    with created(api, _body(busybox, script)) as made:
        started(api, made)

        def logged() -> bytes:
            return bytes(api("GET", f"/containers/{made.id}/logs?stdout=1").body)

        until(lambda: b"ready" in logged())
        assert api("POST", f"/containers/{made.id}/kill?signal=USR1").status == 204
        until(lambda: b"got usr1" in logged())
        assert api("POST", f"/containers/{made.id}/stop?t=10").status == 204
        assert b"got term" in logged()
        assert api("GET", f"/containers/{made.id}/json").json["State"]["ExitCode"] == 3


def test_orphans_are_reaped(api: Any, busybox: str) -> None:
    script = (
        "(sh -c 'sleep 0.1 & exit 0'); for i in $(seq 50); do sleep 0.1; ps | grep -q '[s]leep 0.1' || break; done;"
        "ps -o stat,args"
    )
    output = output_of(api, _body(busybox, script))
    assert "/sbin/docker-init" in output
    assert not [line for line in output.splitlines() if line.lstrip().startswith("Z")]


def test_the_init_is_confined_like_the_program(api: Any, busybox: str) -> None:
    script = "for p in 1 self; do grep -E '^(Uid|Gid|Cap|NoNewPrivs|Seccomp):' /proc/$p/status; echo; done"
    output = output_of(api, _body(busybox, script, User="1000:1000", HostConfig={"SecurityOpt": ["no-new-privileges"]}))
    of_init, of_program, *_ = output.split("\n\n")
    assert of_init == of_program
    assert "NoNewPrivs:\t1" in of_init


@pytest.mark.kitepy
def test_nothing_of_the_engine_can_be_reached_through_the_init(api: Any, busybox: str) -> None:
    script = (
        "cat /proc/1/environ && echo LEAK environ; readlink /proc/1/exe && echo LEAK exe;"
        'test -n "$(ls /proc/1/fd)" && echo LEAK fd; cat /proc/1/maps && echo LEAK maps;'
        "(echo x >/proc/1/mem) && echo LEAK mem; ls -l /proc/1/root/ && echo LEAK root; true"
    )
    assert "LEAK" not in output_of(api, _body(busybox, script))


@pytest.mark.kitepy
def test_even_who_may_trace_it_finds_no_descriptor_and_no_environment(api: Any, busybox: str) -> None:
    script = "ls /proc/1/fd | wc -l; tr '\\0' '\\n' </proc/1/environ | cut -d= -f1 | grep -v '^PATH$'; echo end"
    output = output_of(api, _body(busybox, script, HostConfig={"CapAdd": ["SYS_PTRACE"]}))
    assert output.split() in (["0", "end"], ["0", "sh:", "can't", "open", "/proc/1/environ:", "Permission", "denied", "end"])


def test_a_terminal_belongs_to_the_program(api: Any, busybox: str) -> None:
    with created(api, _body(busybox, "ps -o pid,pgid,tty,args; tty", Tty=True)) as made:
        started(api, made)
        api("POST", f"/containers/{made.id}/wait")
        text = api("GET", f"/containers/{made.id}/logs?stdout=1").body.decode()
    assert "/dev/pts/0" in text


def test_who_shares_the_hosts_processes_has_no_init(api: Any, busybox: str) -> None:
    with created(api, {"Image": busybox, "Cmd": ["sleep", "61"], "HostConfig": {"Init": True, "PidMode": "host"}}) as made:
        pid = started(api, made)["State"]["Pid"]
        assert Path(f"/proc/{pid}/cmdline").read_bytes() == b"sleep\x0061\x00"
