"""Attaching to containers: which streams, whose input ends when, the keys that detach, terminals."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import docker
import pytest
from docker.errors import APIError


def _create(client: docker.DockerClient, image: str, script: str, **options: Any) -> str:
    return str(client.api.create_container(image, ["sh", "-c", script], stdin_open=True, **options)["Id"])


def _stdin_once(api: Any, image: str, script: str, **config: Any) -> str:
    body = {"Image": image, "Cmd": ["sh", "-c", script], "OpenStdin": True, "StdinOnce": True, **config}
    return str(api("POST", "/containers/create", body).json["Id"])


def test_attached_streams_are_multiplexed_and_a_half_close_ends_the_input(
    api: Any, client: docker.DockerClient, busybox: str
) -> None:
    container = _stdin_once(api, busybox, "cat; echo done >&2")
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


@pytest.mark.kitepy
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
    container = _stdin_once(api, busybox, "cat >/dev/null; exit 6")
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
    assert f"container {container.id} is {state}, unpause the container before attach" in answer.body.decode()


def test_those_who_wait_attached_are_let_go_by_a_failed_start(api: Any, client: docker.DockerClient, busybox: str) -> None:
    container = client.api.create_container(busybox, ["not-there"])["Id"]
    with api.hijack(f"/containers/{container}/attach?stream=1&stdout=1") as stream:
        with pytest.raises(APIError):
            client.api.start(container)
        assert stream.read_all() == b""


@pytest.mark.kitepy
def test_those_who_wait_attached_are_let_go_by_a_removal(api: Any, client: docker.DockerClient, busybox: str) -> None:
    container = client.api.create_container(busybox, ["true"])["Id"]
    with api.hijack(f"/containers/{container}/attach?stream=1&stdout=1") as stream:
        client.api.remove_container(container)
        assert stream.read_all() == b""


# --- what can be asked for ---


@pytest.mark.parametrize("query", ["", "?stream=1", "?stdout=1", "?logs=1", "?stream=1&stdout=0&stderr=no"])
@pytest.mark.parametrize("upgrade", [True, False])
def test_a_conversation_about_no_stream_is_over_at_once(api: Any, run: Any, query: str, upgrade: bool) -> None:
    container = run(["sleep", "60"])
    with api.hijack(f"/containers/{container.id}/attach{query}", upgrade=upgrade) as stream:
        assert stream.status == (101 if upgrade else 200)
        assert stream.read_all() == b""


@pytest.mark.parametrize(
    ("version", "tty", "upgrade", "kind"),
    [
        ("1.24", False, True, "raw"),
        ("1.41", False, True, "raw"),
        ("1.42", False, True, "multiplexed"),
        ("1.51", False, True, "multiplexed"),
        ("1.51", True, True, "raw"),
        ("1.51", False, False, "raw"),
    ],
)
def test_the_media_type_tells_of_frames_by_version(api: Any, run: Any, version: str, tty: bool, upgrade: bool, kind: str) -> None:
    container = run(["sleep", "60"], tty=tty)
    with api.hijack(f"/containers/{container.id}/attach?stream=1&stdout=1", upgrade=upgrade, version=version) as stream:
        first = stream.head.split("\r\n")[0]
        assert first == ("http/1.1 101 upgraded" if upgrade else "http/1.1 200 ok")
        assert f"content-type: application/vnd.docker.{kind}-stream\r\n" in stream.head
        assert ("upgrade: tcp" in stream.head) is upgrade


@pytest.mark.parametrize("keys", ["bogus", "ctrl-", "ab", "ctrl-a,", "ctrl-A", "ctrl-1", ","])
def test_detach_keys_that_do_not_exist_are_refused(api: Any, run: Any, keys: str) -> None:
    container = run(["sleep", "60"])
    answer = api("POST", f"/containers/{container.id}/attach?stream=1&stdout=1&detachKeys={keys}")
    assert answer.status == 400
    assert f"Invalid detach keys ({keys}) provided" in answer.body.decode()


def test_a_container_that_is_not_there_is_not_found(api: Any) -> None:
    answer = api("POST", "/containers/nobody/attach?stream=1&stdout=1")
    assert answer.status == 404
    assert "No such container: nobody" in answer.body.decode()


def test_an_ended_container_has_its_log(api: Any, run: Any) -> None:
    container = run("echo said; exit 3")
    container.wait()
    with api.hijack(f"/containers/{container.id}/attach?logs=1&stdout=1") as stream:
        assert stream.read_frames()[1] == b"said\n"


@pytest.mark.kitepy  # dockerd loses what is written between reading the log and attaching
def test_nothing_is_missing_or_twice_between_the_log_and_the_stream(api: Any, run: Any) -> None:
    container = run("i=0; while [ ! -e /stop ]; do echo $i; i=$((i+1)); done; printf end")
    with contextlib.ExitStack() as attached:
        target = f"/containers/{container.id}/attach?logs=1&stream=1&stdout=1"
        streams = [attached.enter_context(api.hijack(target)) for _ in range(5)]
        container.exec_run(["touch", "/stop"])
        outputs = [stream.read_frames()[1].splitlines() for stream in streams]
    count = len(outputs[0]) - 1
    assert count > 100
    for output in outputs:
        assert output == [*(b"%d" % number for number in range(count)), b"end"]


@pytest.mark.kitepy
def test_an_unfinished_line_is_part_of_what_was_written_before(api: Any, run: Any, until: Any) -> None:
    container = run("printf 'prompt> '; read x; echo got:$x; sleep 60", stdin_open=True, tty=True)
    target = f"/containers/{container.id}/attach?logs=1&stream=1&stdin=1&stdout=1"

    def shown() -> bytes:
        with api.hijack(target, timeout_s=0.3) as early:
            return bytes(early.read_what_comes())

    until(lambda: shown() == b"prompt> ")
    with api.hijack(target) as stream:
        assert stream.read_until(b"> ") == b"prompt> "
        stream.send(b"x\n")
        assert stream.read_until(b"got:x").startswith(b"x\r\ngot:x")


# --- input ---


def test_who_ends_the_input_only_leaves_unless_the_container_has_stdin_once(api: Any, run: Any) -> None:
    container = run("while read x; do echo got:$x; done; echo ended", stdin_open=True)
    with api.hijack(f"/containers/{container.id}/attach?stream=1&stdin=1&stdout=1") as first:
        first.send(b"one\n")
        first.read_until(b"got:one")
        first.close_input()
        assert first.read_all() == b""
    with api.hijack(f"/containers/{container.id}/attach?stream=1&stdin=1&stdout=1") as second:
        second.send(b"two\n")
        assert b"got:two" in second.read_until(b"got:two")
    assert container.logs() == b"got:one\ngot:two\n"


def test_a_client_without_input_may_half_close(api: Any, run: Any) -> None:
    container = run("read x; echo got:$x", stdin_open=True)
    with api.hijack(f"/containers/{container.id}/attach?stream=1&stdout=1") as listener:
        listener.close_input()
        with api.hijack(f"/containers/{container.id}/attach?stream=1&stdin=1") as typist:
            typist.send(b"word\n")
            assert listener.read_frames()[1] == b"got:word\n"


def test_input_for_a_container_without_stdin_goes_nowhere(api: Any, run: Any, until: Any) -> None:
    container = run("cat; echo ended; sleep 60")
    until(lambda: container.logs() == b"ended\n")
    with api.hijack(f"/containers/{container.id}/attach?logs=1&stream=1&stdin=1&stdout=1") as stream:
        stream.send(b"x\n")
        assert stream.read_until(b"ended")


def test_output_goes_to_all_and_input_comes_from_all(api: Any, run: Any) -> None:
    container = run("while read x; do echo got:$x; done", stdin_open=True)
    target = f"/containers/{container.id}/attach?stream=1&stdin=1&stdout=1"
    with api.hijack(target) as one, api.hijack(target) as other:
        one.send(b"a\n")
        other.read_until(b"got:a")
        one.read_until(b"got:a")
        other.send(b"b\n")
        one.read_until(b"got:b")
        other.read_until(b"got:b")


@pytest.mark.kitepy  # dockerd loses it
def test_input_that_comes_with_the_request_is_not_lost(api: Any, client: docker.DockerClient, busybox: str) -> None:
    container = _stdin_once(api, busybox, "cat")
    with api.hijack(f"/containers/{container}/attach?stream=1&stdin=1&stdout=1", early=b"early") as stream:
        stream.close_input()
        client.api.start(container)
        assert stream.read_frames()[1] == b"early"


# --- detaching ---


@pytest.mark.parametrize(
    ("keys", "typed"),
    [
        ("", [b"\x10", b"\x11"]),
        ("", [b"\x10\x11rest"]),
        ("ctrl-a,x", [b"\x01", b"x"]),
        ("q", [b"q"]),
        ("DEL", [b"\x7f"]),
    ],
)
def test_the_keys_end_the_conversation_and_not_the_process(api: Any, run: Any, client: Any, keys: str, typed: Any) -> None:
    container = run("read x; echo got:$x; sleep 60", stdin_open=True, tty=True)
    began = time.time() - 60
    target = f"/containers/{container.id}/attach?stream=1&stdin=1&stdout=1&detachKeys={keys}"
    with api.hijack(target) as stream:
        stream.send(b"a\n")
        stream.read_until(b"got:a")
        for piece in typed:
            stream.send(piece)
        stream.read_all()
    container.reload()
    assert container.status == "running"
    events = client.api.events(since=began, until=time.time() + 0.1, decode=True, filters={"container": container.id})
    assert [event["Action"] for event in events if event["Type"] == "container"] == ["create", "start", "attach", "detach"]


def test_keys_that_are_not_completed_reach_the_process(api: Any, run: Any) -> None:
    container = run("stty raw -echo; echo ready; head -c 3 | tr x-z abc; sleep 60", stdin_open=True, tty=True)
    with api.hijack(f"/containers/{container.id}/attach?logs=1&stream=1&stdin=1&stdout=1&detachKeys=x,z") as stream:
        stream.read_until(b"ready")
        stream.send(b"x")
        stream.send(b"x")  # not what follows x: both are for the process, and begin nothing
        stream.send(b"z")
        assert stream.read_until(b"aac")


def test_keys_are_only_keys_without_a_terminal(api: Any, run: Any) -> None:
    container = run("head -c 3", stdin_open=True)
    with api.hijack(f"/containers/{container.id}/attach?stream=1&stdin=1&stdout=1&detachKeys=x") as stream:
        stream.send(b"axb")
        assert stream.read_frames()[1] == b"axb"


# --- the terminal's size ---


@pytest.mark.parametrize(
    ("query", "status", "words"),
    [
        ("h=30&w=40", 200, ""),
        ("h=0&w=0", 200, ""),
        ("h=70000&w=4294967295", 200, ""),
        ("h=30", 400, 'invalid resize width "": invalid syntax'),
        ("w=30", 400, 'invalid resize height "": invalid syntax'),
        ("h=a&w=3", 400, 'invalid resize height "a": invalid syntax'),
        ("h=3.5&w=3", 400, 'invalid resize height "3.5": invalid syntax'),
        ("h=3&w=-1", 400, 'invalid resize width "-1": value out of range'),
        ("h=4294967296&w=3", 400, 'invalid resize height "4294967296": value out of range'),
    ],
)
@pytest.mark.parametrize("tty", [True, False])
def test_sizes(api: Any, run: Any, query: str, status: int, words: str, tty: bool) -> None:
    container = run(["sleep", "60"], tty=tty)
    answer = api("POST", f"/containers/{container.id}/resize?{query}")
    assert answer.status == status
    assert words in answer.body.decode().replace("\\", "")


def test_only_a_running_terminal_has_a_size(api: Any, client: docker.DockerClient, busybox: str) -> None:
    container = client.api.create_container(busybox, ["true"], tty=True)["Id"]
    for _ in ("created", "exited"):
        answer = api("POST", f"/containers/{container}/resize?h=1&w=1")
        assert answer.status == 409
        assert answer.message == f"container {container} is not running"
        client.api.start(container)
        client.api.wait(container)
