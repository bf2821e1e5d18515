"""What a container has written, read back: which part of it, in which form, and while it is written."""

from __future__ import annotations

from typing import Any

import docker


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
    assert answer.message == "configured logging driver does not support reading"


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
