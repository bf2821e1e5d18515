"""Execs: made, started once, spoken to, resized, inspected, and what is left of them."""

from __future__ import annotations

import base64
import json
import threading
import time
from typing import Any

import docker
import pytest


@pytest.fixture(name="sleeper")
def _sleeper(run: Any) -> Any:
    return run(["sleep", "600"], environment={"SHARED": "yes"}, user="nobody", working_dir="/tmp")


def test_exec_gives_exit_code_and_streams(sleeper: Any) -> None:
    code, (out, err) = sleeper.exec_run(["sh", "-c", "echo out; echo err >&2; exit 5"], demux=True)
    assert (code, out, err) == (5, b"out\n", b"err\n")


def test_exec_inherits_environment_user_and_directory_and_may_change_them(sleeper: Any) -> None:
    script = ["sh", "-c", "echo $SHARED $(id -un) $(pwd) $OWN $HOME"]
    assert sleeper.exec_run(script).output == b"yes nobody /tmp /\n"
    changed = sleeper.exec_run(script, environment={"OWN": "1"}, user="root", workdir="/bin")
    assert changed.output == b"yes root /bin 1 /root\n"


def test_exec_has_a_terminal_when_asked(sleeper: Any) -> None:
    assert b"/dev/pts/" in sleeper.exec_run(["tty"], tty=True).output
    assert sleeper.exec_run(["sh", "-c", "echo $TERM"], tty=True).output == b"xterm\r\n"
    assert sleeper.exec_run(["tty"]).exit_code == 1


def test_exec_reads_input_until_the_half_close(api: Any, sleeper: Any) -> None:
    made = api(
        "POST",
        f"/containers/{sleeper.id}/exec",
        {"Cmd": ["sh", "-c", "cat; exit 3"], "AttachStdin": True, "AttachStdout": True, "AttachStderr": True},
    ).json["Id"]
    with api.hijack(f"/exec/{made}/start", {}) as stream:
        assert stream.status == 101
        stream.send(b"through")
        stream.close_input()
        assert stream.read_frames()[1] == b"through"
    shown = api("GET", f"/exec/{made}/json").json
    assert (shown["Running"], shown["ExitCode"]) == (False, 3)
    assert shown["ContainerID"] == sleeper.id
    assert shown["ProcessConfig"]["entrypoint"] == "sh"


def test_a_detached_exec_runs_on(api: Any, client: docker.DockerClient, sleeper: Any, until: Any) -> None:
    made = client.api.exec_create(sleeper.id, ["sh", "-c", "sleep 0.2; exit 9"])["Id"]
    client.api.exec_start(made, detach=True)
    shown = client.api.exec_inspect(made)
    assert shown["Running"] is True
    assert shown["Pid"] > 0
    assert shown["ExitCode"] is None
    assert made in client.api.inspect_container(sleeper.id)["ExecIDs"]
    until(lambda: client.api.exec_inspect(made)["Running"] is False)
    assert client.api.exec_inspect(made)["ExitCode"] == 9
    assert client.api.inspect_container(sleeper.id)["ExecIDs"] is None
    assert api("POST", f"/exec/{made}/start", {"Detach": True}).status == 409


def test_a_detached_exec_that_talks_much_is_not_stopped(client: docker.DockerClient, sleeper: Any, until: Any) -> None:
    made = client.api.exec_create(sleeper.id, ["sh", "-c", "head -c 1000000 /dev/zero"])["Id"]
    client.api.exec_start(made, detach=True)
    until(lambda: client.api.exec_inspect(made)["ExitCode"] == 0)


@pytest.mark.parametrize(("command", "code"), [(["not-there"], 127), (["/etc/passwd"], 126)])
def test_an_exec_that_cannot_run_fails_its_start(
    api: Any, client: docker.DockerClient, sleeper: Any, command: list[str], code: int
) -> None:
    made = client.api.exec_create(sleeper.id, command)["Id"]
    answer = api("POST", f"/exec/{made}/start", {"Detach": True})
    assert answer.status == 400
    assert command[0] in answer.message
    shown = client.api.exec_inspect(made)
    assert (shown["Running"], shown["ExitCode"]) == (False, code)
    attached = client.api.exec_create(sleeper.id, command)["Id"]
    assert command[0].encode() in client.api.exec_start(attached)
    assert client.api.exec_inspect(attached)["ExitCode"] == code


@pytest.mark.parametrize(
    ("document", "status", "words"),
    [
        ({}, 400, "No exec command specified"),
        ({"Cmd": []}, 400, "No exec command specified"),
        ({"Cmd": "true"}, 400, "invalid JSON"),
        ({"Cmd": ["true"], "User": "-1"}, 400, "uids and gids must be in range 0-2147483647"),
        ({"Cmd": ["true"], "User": "0:nogroup-such"}, 400, "unable to find group nogroup-such"),
        ({"Cmd": ["true"], "Tty": "yes"}, 400, "invalid JSON"),
        ({"Cmd": ["true"], "ConsoleSize": [-1, 2]}, 400, "invalid JSON"),
        ({"Cmd": ["true"], "User": "nobody-knows"}, 400, "unable to find user nobody-knows"),
    ],
)
def test_a_wrong_exec_is_refused(api: Any, sleeper: Any, document: Any, status: int, words: str) -> None:
    answer = api("POST", f"/containers/{sleeper.id}/exec", document)
    assert answer.status == status
    assert words in answer.message


def test_an_exec_that_is_not_there_is_not_found(api: Any) -> None:
    for method, target in (("POST", "/exec/nobody/start"), ("GET", "/exec/nobody/json"), ("POST", "/exec/nobody/resize?h=1&w=1")):
        answer = api(method, target, {} if method == "POST" else None)
        assert answer.status == 404
        assert answer.message == "No such exec instance: nobody"


def test_an_exec_ends_with_its_container(client: docker.DockerClient, sleeper: Any, until: Any) -> None:
    made = client.api.exec_create(sleeper.id, ["sleep", "600"])["Id"]
    client.api.exec_start(made, detach=True)
    sleeper.kill()
    until(lambda: client.api.exec_inspect(made)["Running"] is False)
    assert client.api.exec_inspect(made)["ExitCode"] == 137


@pytest.mark.needs("limits")
def test_a_paused_container_takes_no_exec(api: Any, sleeper: Any) -> None:
    sleeper.pause()
    answer = api("POST", f"/containers/{sleeper.id}/exec", {"Cmd": ["true"]})
    assert answer.status == 409
    assert answer.message == f"Container {sleeper.id} is paused, unpause the container before exec"


def test_many_execs_at_once_each_get_their_own_code(sleeper: Any) -> None:
    found: dict[int, int] = {}

    def one(code: int) -> None:
        found[code] = sleeper.exec_run(["sh", "-c", f"exit {code}"]).exit_code

    threads = [threading.Thread(target=one, args=(code,)) for code in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert found == {code: code for code in range(8)}


def test_a_privileged_exec_has_all_capabilities(run: Any) -> None:
    container = run(["sleep", "600"])
    script = ["grep", "CapEff", "/proc/self/status"]
    assert container.exec_run(script).output.split()[1] == b"00000000a80425fb"
    mask = int(container.exec_run(script, privileged=True).output.split()[1], 16)
    assert mask & (1 << 21)


def test_exec_streams_are_raw_with_a_terminal(api: Any, sleeper: Any) -> None:
    made = api(
        "POST",
        f"/containers/{sleeper.id}/exec",
        {"Cmd": ["sh", "-c", "stty size; echo x"], "AttachStdout": True, "Tty": True, "ConsoleSize": [11, 22]},
    ).json["Id"]
    began = time.monotonic()
    with api.hijack(f"/exec/{made}/start", {"Tty": True, "ConsoleSize": [11, 22]}) as stream:
        assert stream.read_all() == b"11 22\r\nx\r\n"
    assert time.monotonic() - began < 5
    assert json.loads(api("GET", f"/exec/{made}/json").body)["ProcessConfig"]["tty"] is True


def _made(api: Any, container: Any, command: str | list[str], **config: Any) -> str:
    words = ["sh", "-c", command] if isinstance(command, str) else command
    body = {"Cmd": words, "AttachStdout": True, "AttachStderr": True, **config}
    return str(api("POST", f"/containers/{container.id}/exec", body).json["Id"])


def _inspected(api: Any, made: str) -> Any:
    return api("GET", f"/exec/{made}/json").json


# --- what inspect tells ---


def test_an_exec_before_its_start(api: Any, sleeper: Any) -> None:
    made = _made(api, sleeper, ["echo", "a", "b"], User="root", Privileged=True, DetachKeys="ctrl-a", Tty=True)
    assert _inspected(api, made) == {
        "ID": made,
        "Running": False,
        "ExitCode": None,
        "ProcessConfig": {"tty": True, "entrypoint": "echo", "arguments": ["a", "b"], "privileged": True, "user": "root"},
        "OpenStdin": False,
        "OpenStderr": True,
        "OpenStdout": True,
        "CanRemove": False,
        "ContainerID": sleeper.id,
        "DetachKeys": base64.b64encode(b"\x01").decode(),
        "Pid": 0,
    }
    sleeper.reload()
    assert sleeper.attrs["ExecIDs"] == [made]


def test_an_ended_exec_keeps_its_code_and_is_no_longer_the_containers(api: Any, sleeper: Any) -> None:
    made = _made(api, sleeper, "exit 5")
    with api.hijack(f"/exec/{made}/start", {}) as stream:
        assert stream.read_all() == b""
    shown = _inspected(api, made)
    assert (shown["ExitCode"], shown["Running"], shown["CanRemove"]) == (5, False, False)
    sleeper.reload()
    assert sleeper.attrs["ExecIDs"] is None


def test_only_whole_ids_name_an_exec(api: Any, sleeper: Any) -> None:
    made = _made(api, sleeper, "true")
    assert api("GET", f"/exec/{made[:12]}/json").status == 404


# --- starting ---


def test_an_exec_starts_once(api: Any, sleeper: Any) -> None:
    made = _made(api, sleeper, "sleep 60")
    assert api("POST", f"/exec/{made}/start", {"Detach": True}).status == 200
    again = api("POST", f"/exec/{made}/start", {"Detach": True})
    assert (again.status, again.message) == (409, f"exec command {made} is already running")
    ended = _made(api, sleeper, "true")
    with api.hijack(f"/exec/{ended}/start", {}) as stream:
        stream.read_all()
    again = api("POST", f"/exec/{ended}/start", {"Detach": True})
    assert (again.status, again.message) == (409, f"exec command {ended} has already run")


@pytest.mark.kitepy  # dockerd says so in a stream of status 200
def test_an_exec_starts_once_also_for_those_who_listen(api: Any, sleeper: Any) -> None:
    made = _made(api, sleeper, "sleep 60")
    assert api("POST", f"/exec/{made}/start", {"Detach": True}).status == 200
    assert api("POST", f"/exec/{made}/start", {}).status == 409


@pytest.mark.parametrize(("created", "started"), [(False, True), (True, False)])
def test_the_start_says_whether_there_are_frames(api: Any, sleeper: Any, created: bool, started: bool) -> None:
    made = _made(api, sleeper, "echo x", Tty=created)
    with api.hijack(f"/exec/{made}/start", {"Tty": started}) as stream:
        kind = "raw" if started else "multiplexed"
        assert f"application/vnd.docker.{kind}-stream" in stream.head
        text = b"x\r\n" if created else b"x\n"
        assert stream.read_all() == (text if started else b"\1\0\0\0\0\0\0" + bytes([len(text)]) + text)


def test_a_start_without_upgrade_streams_with_200(api: Any, sleeper: Any) -> None:
    made = _made(api, sleeper, "echo x")
    with api.hijack(f"/exec/{made}/start", {}, upgrade=False) as stream:
        assert stream.status == 200
        assert "application/vnd.docker.raw-stream" in stream.head
        assert stream.read_frames()[1] == b"x\n"


@pytest.mark.parametrize("tty", [True, False])
@pytest.mark.parametrize(
    ("command", "workdir", "words", "code"),
    [
        (["not-there"], "", 'exec: "not-there": executable file not found in $PATH', 127),
        (["/no/such"], "", 'exec: "/no/such": stat /no/such: no such file or directory', 127),
        (["/etc/hosts"], "", 'exec: "/etc/hosts": permission denied', 126),
        (["/bin"], "", 'exec: "/bin"', 126),
        (["true"], "/none", 'chdir to cwd ("/none") set in config.json failed: no such file or directory', 127),
        (["true"], "rel", "Cwd must be an absolute path", 128),
    ],
)
def test_why_an_exec_cannot_start_is_in_its_stream(
    api: Any, sleeper: Any, tty: bool, command: list[str], workdir: str, words: str, code: int
) -> None:
    made = _made(api, sleeper, command, Tty=tty, WorkingDir=workdir, User="root")
    with api.hijack(f"/exec/{made}/start", {"Tty": tty}) as stream:
        output = stream.read_all()
    assert (b"" if tty else b"\1\0\0\0") == output[: 0 if tty else 4]
    assert "OCI runtime exec failed: exec failed: " in output.decode("latin1")
    assert words in output.decode("latin1")
    assert output.endswith(b"\r\n")
    shown = _inspected(api, made)
    assert (shown["ExitCode"], shown["Running"], shown["Pid"]) == (code, False, 0)


# --- input, and clients that leave ---


@pytest.mark.parametrize("attached", [True, False])
def test_input_ends_for_the_process_as_for_the_client(api: Any, sleeper: Any, attached: bool) -> None:
    made = _made(api, sleeper, "cat; echo ended; exit 4", AttachStdin=attached)
    with api.hijack(f"/exec/{made}/start", {}) as stream:
        if attached:
            stream.send(b"abc\n")
            stream.close_input()
        assert stream.read_frames()[1] == (b"abc\nended\n" if attached else b"ended\n")
    assert _inspected(api, made)["ExitCode"] == 4


def test_an_exec_whose_client_vanishes_goes_on(api: Any, sleeper: Any, until: Any) -> None:
    made = _made(api, sleeper, "cat; i=0; while [ $i -lt 20000 ]; do echo $i; i=$((i+1)); done; exit 6", AttachStdin=True)
    with api.hijack(f"/exec/{made}/start", {}) as stream:
        stream.send(b"x")
        stream.read_until(b"x")
    until(lambda: _inspected(api, made)["Running"] is False)
    assert _inspected(api, made)["ExitCode"] == 6


@pytest.mark.kitepy  # dockerd takes the exec for ended then, with code 126
@pytest.mark.parametrize(("keys", "typed"), [("", b"\x10\x11"), ("ctrl-a", b"\x01")])
def test_an_exec_that_is_detached_from_goes_on(api: Any, client: Any, sleeper: Any, keys: str, typed: bytes) -> None:
    made = _made(api, sleeper, "read x; echo got:$x; sleep 60", Tty=True, AttachStdin=True, DetachKeys=keys)
    began = time.time() - 1
    with api.hijack(f"/exec/{made}/start", {"Tty": True}) as stream:
        stream.send(b"a\n")
        stream.read_until(b"got:a")
        stream.send(typed)
        stream.read_all()
    assert _inspected(api, made)["Running"] is True
    events = client.api.events(since=began, until=time.time() + 0.1, decode=True, filters={"container": sleeper.id})
    assert [event["Actor"]["Attributes"]["execID"] for event in events if event["Action"] == "exec_detach"] == [made]
    assert sleeper.exec_run(["sh", "-c", "grep -l ^sleep /proc/*/comm"]).output.count(b"\n") == 2


def test_output_of_what_an_exec_leaves_behind_is_awaited_a_little(api: Any, sleeper: Any) -> None:
    made = _made(api, sleeper, "(sleep 0.5; echo late) & echo now")
    with api.hijack(f"/exec/{made}/start", {}) as stream:
        assert stream.read_frames()[1] == b"now\nlate\n"
    endless = _made(api, sleeper, "sleep 60 & echo now")
    with api.hijack(f"/exec/{endless}/start", {}) as stream:
        assert stream.read_frames()[1] == b"now\n"


def test_the_stream_ends_with_the_process_even_when_it_closed_its_output(api: Any, sleeper: Any) -> None:
    made = _made(api, sleeper, "exec >&- 2>&-; sleep 1.5; exit 7")
    with api.hijack(f"/exec/{made}/start", {}) as stream:
        assert stream.read_all() == b""
        assert _inspected(api, made)["ExitCode"] == 7


# --- together with its container ---


def test_an_exec_that_was_not_started_goes_with_the_containers_run(api: Any, sleeper: Any) -> None:
    made, ran = _made(api, sleeper, "true"), _made(api, sleeper, "sleep 60")
    api("POST", f"/exec/{ran}/start", {"Detach": True})
    with api.hijack(f"/exec/{_made(api, sleeper, 'sleep 60')}/start", {}) as stream:
        sleeper.kill()
        assert stream.read_all() == b""
    sleeper.wait()
    sleeper.start()
    for method, target in (("GET", "json"), ("POST", "start"), ("POST", "resize?h=1&w=1")):
        answer = api(method, f"/exec/{made}/{target}", {} if method == "POST" else None)
        assert (answer.status, answer.message) == (404, f"No such exec instance: {made}")
    assert _inspected(api, ran)["ExitCode"] == 137
    sleeper.remove(force=True)
    assert api("GET", f"/exec/{ran}/json").status == 404


@pytest.mark.parametrize("state", ["created", "exited"])
def test_only_a_running_container_takes_an_exec(api: Any, client: Any, busybox: str, state: str) -> None:
    container = client.containers.create(busybox, ["true"])
    if state == "exited":
        container.start()
        container.wait()
    answer = api("POST", f"/containers/{container.id}/exec", {"Cmd": ["true"]})
    assert (answer.status, answer.message) == (409, f"container {container.id} is not running")


def test_events_of_an_exec(api: Any, client: Any, run: Any) -> None:
    container = run(["sleep", "60"], labels={"l": "1"})
    began = time.time() - 60
    made, failing = _made(api, container, ["sh", "-c", "exit 3"]), _made(api, container, ["nothere"])
    for each in (made, failing):
        with api.hijack(f"/exec/{each}/start", {}) as stream:
            stream.read_all()
    found = client.api.events(since=began, until=time.time() + 0.1, decode=True, filters={"container": container.id})
    told = [(event["Action"], event["Actor"]["Attributes"]) for event in found if event["Action"].startswith("exec")]
    assert all((given["l"], given["name"], given["image"]) == ("1", container.name, "busybox:latest") for _, given in told)
    assert [(action, given["execID"], given.get("exitCode")) for action, given in told] == [
        ("exec_create: sh -c exit 3", made, None),
        ("exec_create: nothere ", failing, None),
        ("exec_start: sh -c exit 3", made, None),
        ("exec_die", made, "3"),
        ("exec_start: nothere ", failing, None),
    ]


# --- the terminal's size ---


def test_an_exec_is_resized_while_it_runs(api: Any, sleeper: Any) -> None:
    made = _made(api, sleeper, "read x; stty size; sleep 60", Tty=True, AttachStdin=True)
    with api.hijack(f"/exec/{made}/start", {"Tty": True}) as stream:
        assert api("POST", f"/exec/{made}/resize?h=33&w=99").status == 200
        stream.send(b"\n")
        assert stream.read_until(b"33 99")
    for query in ("", "?h=1", "?h=-1&w=1", "?h=4294967296&w=1"):
        assert api("POST", f"/exec/{made}/resize{query}").status == 400


@pytest.mark.kitepy  # dockerd answers 404 or, when it hasn't cleaned up yet, 500
def test_an_ended_exec_has_no_size(api: Any, sleeper: Any) -> None:
    made = _made(api, sleeper, "true", Tty=True)
    with api.hijack(f"/exec/{made}/start", {"Tty": True}) as stream:
        stream.read_all()
    assert api("POST", f"/exec/{made}/resize?h=1&w=1").status == 404
