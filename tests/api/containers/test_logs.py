"""What a container has written, read back: which part of it, in which form, and while it is written."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import docker
import pytest


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
    began, ended = _seconds(stamp), _seconds(second.partition(" ")[0])
    target = f"/containers/{container.id}/logs?stdout=1"
    assert api("GET", f"{target}&since={ended}").body[8:] == b"two\n"
    assert api("GET", f"{target}&until={began}").body[8:] == b"one\n"
    assert api("GET", f"{target}&since={began}&until={began}").body[8:] == b"one\n"
    assert api("GET", f"{target}&until={began}&follow=1").body[8:] == b"one\n"
    assert api("GET", f"{target}&since={began}&tail=1").body[8:] == b"two\n"


def _seconds(stamp: str) -> str:
    """A log's time stamp as the API takes it: seconds and nanoseconds."""
    whole, _, fraction = stamp.removesuffix("Z").partition(".")
    return f"{int(datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp())}.{fraction}"


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("since=0", True),
        ("since=-1", True),
        ("since=1.1234567890", True),
        ("since=99999999999", False),
        ("until=0", True),
        ("until=1", False),
        ("until=99999999999", True),
        ("since=", True),
        ("tail=-5", True),
        ("tail=junk", True),
        ("tail=%2B1", True),
        ("tail=99999999999999999999", True),
    ],
)
def test_unusual_bounds(api: Any, run: Any, query: str, found: bool) -> None:
    container = run("echo x")
    container.wait()
    answer = api("GET", f"/containers/{container.id}/logs?stdout=1&{query}")
    assert answer.status == 200
    assert (answer.body[8:] == b"x\n") is found


@pytest.mark.kitepy  # dockerd: 500
@pytest.mark.parametrize("moment", ["abc", "1.", ".5", "1e3", "99999999999999999999"])
@pytest.mark.parametrize("bound", ["since", "until"])
def test_what_is_no_time_is_refused(api: Any, run: Any, bound: str, moment: str) -> None:
    answer = api("GET", f"/containers/{run('echo x').id}/logs?stdout=1&{bound}={moment}")
    assert answer.status == 400
    assert moment in answer.message


@pytest.mark.kitepy  # what the command line turns into seconds for dockerd
def test_dates_and_durations_are_times_too(api: Any, run: Any) -> None:
    container = run("echo x")
    container.wait()
    for query, found in (("since=2020-01-01T00:00:00Z", True), ("since=10m", True), ("until=10m", False)):
        assert (api("GET", f"/containers/{container.id}/logs?stdout=1&{query}").body != b"") is found


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


@pytest.mark.needs("root engine")  # looks at the files
def test_a_bounded_log_keeps_its_end(run: Any) -> None:
    options = docker.types.LogConfig(type="json-file", config={"max-size": "2k", "max-file": "2"})
    container = run("i=0; while [ $i -lt 500 ]; do echo line $i; i=$((i+1)); done", log_config=options)
    container.wait()
    lines = container.logs().splitlines()
    assert lines[-1] == b"line 499"
    assert 10 < len(lines) < 80
    container.reload()
    assert len(list(Path(container.attrs["LogPath"]).parent.glob("*-json.log*"))) == 2


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


@pytest.mark.parametrize(
    ("command", "pieces"),
    [
        ("printf abc", [b"abc"]),
        ("echo; echo; echo x", [b"\n", b"\n", b"x\n"]),
        ("printf 'a\\r\\nb\\rc'", [b"a\r\n", b"b\rc"]),
        ("printf 'a\\000b\\377\\n\\303\\244\\n'", [b"a\0b\xef\xbf\xbd\n", "ä\n".encode()]),
        ("head -c 16384 /dev/zero | tr '\\0' x; echo", [b"x" * 16384, b"\n"]),
        ("head -c 40000 /dev/zero | tr '\\0' x; echo; echo y", [b"x" * 16384, b"x" * 16384, b"x" * 7232 + b"\n", b"y\n"]),
    ],
)
def test_a_frame_holds_a_line_or_sixteen_kibibytes_of_one(api: Any, run: Any, command: str, pieces: list[bytes]) -> None:
    container = run(command)
    container.wait()
    data = api("GET", f"/containers/{container.id}/logs?stdout=1").body
    frames = []
    while data:
        size = int.from_bytes(data[4:8], "big")
        assert data[:4] == b"\1\0\0\0"
        frames.append(data[8 : 8 + size])
        data = data[8 + size :]
    assert frames == pieces


def test_the_tail_is_counted_before_a_stream_is_chosen(api: Any, run: Any) -> None:
    container = run("echo o1; sleep 0.1; echo e1 >&2; sleep 0.1; echo o2; sleep 0.1; echo e2 >&2")
    container.wait()
    target = f"/containers/{container.id}/logs?stdout=1&tail="
    assert api("GET", target + "1").body == b""
    assert api("GET", target + "2").body[8:] == b"o2\n"


@pytest.mark.parametrize(("version", "kind"), [("1.41", "raw"), ("1.42", "multiplexed")])
def test_the_media_type_tells_of_frames_by_version(api: Any, run: Any, version: str, kind: str) -> None:
    container = run("echo x")
    container.wait()
    with api.hijack(f"/containers/{container.id}/logs?stdout=1", method="GET", upgrade=False, version=version) as stream:
        assert f"content-type: application/vnd.docker.{kind}-stream\r\n" in stream.head


def test_a_log_spans_the_runs_of_its_container(run: Any) -> None:
    container = run("[ -e /x ] && echo second; touch /x; echo end")
    container.wait()
    container.start()
    container.wait()
    assert container.logs() == b"end\nsecond\nend\n"
    assert container.logs(tail=2) == b"second\nend\n"


def test_a_container_that_never_ran_has_an_empty_log(api: Any, client: docker.DockerClient, busybox: str) -> None:
    container = client.containers.create(busybox, ["true"])
    for query in ("", "&tail=2", "&timestamps=1"):
        answer = api("GET", f"/containers/{container.id}/logs?stdout=1{query}")
        assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize("how", ["stop", "remove"])
def test_following_ends_with_the_container(run: Any, how: str) -> None:
    container = run("echo a; sleep 600")
    lines = container.logs(stream=True, follow=True)
    assert next(lines) == b"a\n"
    ending = threading.Thread(target=container.kill if how == "stop" else lambda: container.remove(force=True))
    ending.start()
    assert list(lines) == []
    ending.join(20)


@pytest.mark.kitepy  # dockerd waits for the next line to see that the time is over
def test_following_ends_in_time(api: Any, run: Any) -> None:
    container = run("echo a; sleep 600")
    answer = api("GET", f"/containers/{container.id}/logs?stdout=1&follow=1&until={datetime.now(UTC).timestamp() + 1:.3f}")
    assert answer.body[8:] == b"a\n"


def test_a_follower_hears_an_unfinished_line_when_it_is_finished(run: Any) -> None:
    container = run("printf abc; sleep 0.5; printf 'def\\n'")
    assert list(container.logs(stream=True, follow=True)) == [b"abcdef\n"]


def test_logs_of_a_container_that_is_not_there(api: Any) -> None:
    answer = api("GET", "/containers/nobody/logs?stdout=1")
    assert (answer.status, answer.message) == (404, "No such container: nobody")
