"""Logs, attach and exec: what containers say and hear."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import docker
import pytest
from docker.errors import APIError

# --- logs ------------------------------------------------------------------------------------------------------------


def test_logs_keep_streams_apart(run: Any) -> None:
    container = run("echo out; echo err >&2")
    container.wait()
    assert container.logs(stdout=True, stderr=False) == b"out\n"
    assert container.logs(stdout=False, stderr=True) == b"err\n"
    assert sorted(container.logs().splitlines()) == [b"err", b"out"]


def test_logs_must_be_asked_for_some_stream(api: Any, run: Any) -> None:
    container = run("echo x")
    assert api("GET", f"/containers/{container.id}/logs").status == 400


def test_the_tail_of_a_log(run: Any) -> None:
    container = run("for i in 1 2 3 4 5; do echo $i; done")
    container.wait()
    assert container.logs(tail=2) == b"4\n5\n"
    assert container.logs(tail=0) == b""
    assert container.logs(tail=99) == b"1\n2\n3\n4\n5\n"
    assert container.logs(tail="all") == b"1\n2\n3\n4\n5\n"


def test_logs_have_times_and_can_be_cut_by_them(api: Any, run: Any) -> None:
    container = run("echo one; sleep 0.3; echo two")
    container.wait()
    first, second = container.logs(timestamps=True).decode().splitlines()
    stamp, _, text = first.partition(" ")
    assert text == "one"
    assert len(stamp) == len("2006-01-02T15:04:05.000000000Z")
    assert stamp < second
    cut = second.partition(" ")[0]
    found = api("GET", f"/containers/{container.id}/logs?stdout=1&since={cut}").body
    assert found[8:] == b"two\n"
    found = api("GET", f"/containers/{container.id}/logs?stdout=1&until={stamp}").body
    assert found[8:] == b"one\n"


def test_followed_logs_end_with_the_container_and_lose_nothing(run: Any) -> None:
    container = run("i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done; echo last >&2")
    lines = b"".join(container.logs(stream=True, follow=True)).splitlines()
    assert [line for line in lines if line != b"last"] == [b"line %d" % number for number in range(2000)]
    assert b"last" in lines


def test_followed_logs_of_a_rotating_log_lose_nothing(run: Any) -> None:
    options = docker.types.LogConfig(type="json-file", config={"max-size": "4k", "max-file": "200"})
    container = run("i=0; while [ $i -lt 1000 ]; do echo line $i; i=$((i+1)); done", log_config=options)
    lines = b"".join(container.logs(stream=True, follow=True)).splitlines()
    assert lines == [b"line %d" % number for number in range(1000)]
    assert container.logs().splitlines() == lines


def test_a_bounded_log_keeps_its_end(run: Any, engine: Any) -> None:
    options = docker.types.LogConfig(type="json-file", config={"max-size": "2k", "max-file": "2"})
    container = run("i=0; while [ $i -lt 500 ]; do echo line $i; i=$((i+1)); done", log_config=options)
    container.wait()
    lines = container.logs().splitlines()
    assert lines[-1] == b"line 499"
    assert 10 < len(lines) < 80
    assert len(list((engine.data_root / "containers" / container.id).glob("*-json.log*"))) == 2


def test_the_log_of_a_terminal_is_raw(api: Any, run: Any) -> None:
    container = run("echo out; echo err >&2", tty=True)
    container.wait()
    answer = api("GET", f"/containers/{container.id}/logs?stdout=1&stderr=1")
    assert answer.body == b"out\r\nerr\r\n"
    assert answer.headers["content-type"] == "application/vnd.docker.raw-stream"


def test_the_log_of_a_stopped_container_does_not_follow(run: Any) -> None:
    container = run("echo x")
    container.wait()
    assert b"".join(container.logs(stream=True, follow=True)) == b"x\n"


def test_a_container_without_log_says_so(api: Any, run: Any) -> None:
    container = run("echo x", log_config=docker.types.LogConfig(type="none", config={}))
    answer = api("GET", f"/containers/{container.id}/logs?stdout=1")
    assert answer.status == 501
    assert answer.message == "configured logging driver does not support reading: none"


def test_binary_and_very_long_output_survives(run: Any) -> None:
    container = run("head -c 100000 /dev/zero | tr '\\0' 'x'; echo; printf '\\303\\244\\n'")
    container.wait()
    assert container.logs() == b"x" * 100_000 + "\nä\n".encode()


def test_output_without_a_final_newline_is_kept(run: Any) -> None:
    container = run("printf no-newline")
    container.wait()
    assert container.logs() == b"no-newline"


def test_a_fast_exit_loses_no_output(client: docker.DockerClient, busybox: str) -> None:
    for _ in range(5):
        assert client.containers.run(busybox, ["echo", "quick"], remove=True) == b"quick\n"


# --- attach ----------------------------------------------------------------------------------------------------------


def _create(client: docker.DockerClient, image: str, script: str, **options: Any) -> str:
    return str(client.api.create_container(image, ["sh", "-c", script], stdin_open=True, **options)["Id"])


def test_attached_streams_are_multiplexed_and_a_half_close_ends_the_input(
    api: Any, client: docker.DockerClient, busybox: str
) -> None:
    container = _create(client, busybox, "cat; echo done >&2")
    with api.hijack(f"/containers/{container}/attach?stream=1&stdin=1&stdout=1&stderr=1") as stream:
        assert stream.status == 101
        assert "application/vnd.docker.multiplexed-stream" in stream.head
        client.api.start(container)
        stream.send(b"hello\n")
        stream.close_input()
        assert stream.read_frames() == {1: b"hello\n", 2: b"done\n"}
    assert client.api.wait(container)["StatusCode"] == 0


def test_whoever_attaches_before_the_start_sees_the_first_byte(api: Any, client: docker.DockerClient, busybox: str) -> None:
    container = _create(client, busybox, "echo first")
    with api.hijack(f"/containers/{container}/attach?stream=1&stdout=1") as early:
        with api.hijack(f"/containers/{container}/attach?stream=1&stdout=1") as also_early:
            client.api.start(container)
            assert early.read_frames()[1] == b"first\n"
            assert also_early.read_frames()[1] == b"first\n"


def test_an_attached_terminal_is_raw_and_has_a_size(api: Any, client: docker.DockerClient, busybox: str) -> None:
    container = _create(client, busybox, "read x; stty size; echo got $x", tty=True)
    with api.hijack(f"/containers/{container}/attach?stream=1&stdin=1&stdout=1") as stream:
        assert "application/vnd.docker.raw-stream" in stream.head
        client.api.start(container)
        assert api("POST", f"/containers/{container}/resize?h=33&w=99").status == 200
        stream.send(b"word\n")
        output = stream.read_all()
    assert b"33 99" in output
    assert b"got word\r\n" in output


def test_attach_can_replay_what_was_written_before(api: Any, run: Any, until: Any) -> None:
    container = run("echo early; sleep 60")
    until(lambda: container.logs() == b"early\n")
    with api.hijack(f"/containers/{container.id}/attach?logs=1&stream=1&stdout=1") as stream:
        assert b"early" in stream.read_until(b"early")


def test_a_stalled_attacher_blocks_neither_the_log_nor_others(api: Any, client: docker.DockerClient, busybox: str) -> None:
    script = "head -c 4000000 /dev/zero | tr '\\0' 'x' | fold -w 1000; echo; echo end"
    container = _create(client, busybox, script)
    with api.hijack(f"/containers/{container}/attach?stream=1&stdout=1"):  # never reads
        with api.hijack(f"/containers/{container}/attach?stream=1&stdout=1") as other:
            client.api.start(container)
            assert other.read_frames()[1].endswith(b"end\n")
            assert client.api.wait(container, timeout=15)["StatusCode"] == 0
            assert client.api.logs(container, tail=1) == b"end\n"
    assert client.api.logs(container).count(b"x") == 4_000_000


def test_the_input_ends_for_the_process_when_its_only_client_leaves(api: Any, client: docker.DockerClient, busybox: str) -> None:
    container = str(
        api(
            "POST",
            "/containers/create",
            {"Image": busybox, "Cmd": ["sh", "-c", "cat >/dev/null; exit 6"], "OpenStdin": True, "StdinOnce": True},
        ).json["Id"]
    )
    with api.hijack(f"/containers/{container}/attach?stream=1&stdin=1&stdout=1") as stream:
        client.api.start(container)
        stream.send(b"x")
    assert client.api.wait(container, timeout=10)["StatusCode"] == 6


@pytest.mark.needs("limits")
@pytest.mark.parametrize("state", ["paused"])
def test_a_paused_container_cannot_be_attached_to(api: Any, run: Any, state: str) -> None:
    container = run(["sleep", "60"])
    container.pause()
    answer = api("POST", f"/containers/{container.id}/attach?stream=1&stdout=1")
    assert answer.status == 409
    assert state in answer.message


def test_those_who_wait_attached_are_let_go_by_a_failed_start(api: Any, client: docker.DockerClient, busybox: str) -> None:
    container = client.api.create_container(busybox, ["not-there"])["Id"]
    with api.hijack(f"/containers/{container}/attach?stream=1&stdout=1") as stream:
        with pytest.raises(APIError):
            client.api.start(container)
        assert stream.read_all() == b""


def test_those_who_wait_attached_are_let_go_by_a_removal(api: Any, client: docker.DockerClient, busybox: str) -> None:
    container = client.api.create_container(busybox, ["true"])["Id"]
    with api.hijack(f"/containers/{container}/attach?stream=1&stdout=1") as stream:
        client.api.remove_container(container)
        assert stream.read_all() == b""


# --- exec ------------------------------------------------------------------------------------------------------------


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
    assert "is paused" in answer.message


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
