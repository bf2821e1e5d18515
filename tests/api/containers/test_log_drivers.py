"""Log drivers: their options, what is in their files, rotation and compression, and what becomes of logs in hard times."""

from __future__ import annotations

import contextlib
import gzip
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.types import LogConfig
from support.engine import EngineUnderTest
from support.images import load_busybox

COUNT = "i=0; while [ $i -lt {} ]; do echo line $i; i=$((i+1)); done"


def _lines(count: int) -> bytes:
    return b"".join(b"line %d\n" % number for number in range(count))


def _driver(name: str, **options: str) -> LogConfig:
    return LogConfig(type=name, config={key.replace("_", "-"): value for key, value in options.items()})


def _log_path(container: Any) -> Path:
    container.reload()
    return Path(container.attrs["LogPath"])


# --- options ---


@pytest.mark.parametrize("driver", ["json-file", "local"])
def test_a_driver_with_all_its_options(run: Any, driver: str) -> None:
    options = {"max-size": "10m", "max-file": "3", "compress": "true", "mode": "non-blocking", "max-buffer-size": "4m"}
    container = run("echo x", log_config=LogConfig(type=driver, config=options))
    container.wait()
    container.reload()
    assert container.attrs["HostConfig"]["LogConfig"] == {"Type": driver, "Config": options}
    assert container.logs() == b"x\n"


@pytest.mark.parametrize(
    ("driver", "options", "words"),
    [
        ("json-file", {"colour": "1"}, "unknown log opt 'colour' for json-file log driver"),
        ("local", {"tag": "x"}, "unknown log opt 'tag' for log driver local"),
        ("json-file", {"mode": "bad"}, "logger: logging mode not supported: bad"),
        ("local", {"max-buffer-size": "1m"}, "logger: max-buffer-size option is only supported with 'mode=non-blocking'"),
        ("local", {"mode": "non-blocking", "max-buffer-size": "x"}, "error parsing option max-buffer-size: invalid size: 'x'"),
        ("bogus", {}, 'error looking up logging plugin bogus: plugin "bogus" not found'),
        ("JSON-FILE", {}, 'plugin "JSON-FILE" not found'),
    ],
)
def test_drivers_and_options_that_do_not_exist(api: Any, busybox: str, driver: str, options: Any, words: str) -> None:
    body = {"Image": busybox, "HostConfig": {"LogConfig": {"Type": driver, "Config": options}}}
    answer = api("POST", "/containers/create", body)
    assert answer.status == 400
    assert words in answer.message


@pytest.mark.parametrize(
    ("driver", "options", "words"),
    [
        ("json-file", {"max-size": "abc"}, "invalid size: 'abc'"),
        ("json-file", {"max-size": "10x"}, "invalid suffix: 'x'"),
        ("json-file", {"max-size": "0"}, "max-size must be a positive number"),
        ("json-file", {"max-file": "0"}, "max-file cannot be less than 1"),
        ("json-file", {"max-file": "x"}, 'parsing "x": invalid syntax'),
        ("json-file", {"compress": "true"}, "compress cannot be true when max-file is less than 2 or max-size is not set"),
        ("json-file", {"compress": "maybe"}, 'parsing "maybe": invalid syntax'),
        ("local", {"max-file": "1"}, "compression cannot be enabled when max file count is 1"),
        ("local", {"max-size": "abc"}, "invalid value for max-size: abc: invalid size: 'abc'"),
        ("json-file", {"labels-regex": "("}, "error parsing regexp"),
        ("json-file", {"tag": "{{.Bad}}"}, ".Bad"),
    ],
)
def test_values_that_make_no_sense_fail_the_start(api: Any, busybox: str, driver: str, options: Any, words: str) -> None:
    body = {"Image": busybox, "HostConfig": {"LogConfig": {"Type": driver, "Config": options}}}
    container = api("POST", "/containers/create", body).json["Id"]
    answer = api("POST", f"/containers/{container}/start")
    assert answer.status in (400, 500)  # Docker: 500
    assert answer.message.startswith("failed to create task for container: failed to initialize logging driver: ")
    assert words in answer.message
    assert api("GET", f"/containers/{container}/json").json["State"]["Status"] == "created"


@pytest.mark.kitepy
def test_docker_s_other_drivers_are_refused_by_name(api: Any, busybox: str) -> None:
    answer = api("POST", "/containers/create", {"Image": busybox, "HostConfig": {"LogConfig": {"Type": "syslog"}}})
    assert answer.status == 501
    assert "'syslog'" in answer.message


def test_without_a_log_nothing_can_be_read(api: Any, run: Any) -> None:
    container = run("echo x", log_config=_driver("none", anything="goes"))
    container.wait()
    answer = api("GET", f"/containers/{container.id}/logs?stdout=1")
    assert (answer.status, answer.message) == (501, "configured logging driver does not support reading")
    assert str(_log_path(container)) == "."


# --- what is written ---


def test_attributes_are_shown_with_details(api: Any, run: Any) -> None:
    container = run(
        "echo x",
        labels={"a": "1 2,=", "b": "2", "x1": "3", "no": "4"},
        environment={"E": "5", "F": "6", "Y1": "7"},
        log_config=LogConfig(
            type="json-file",
            config={"labels": "a,missing", "labels-regex": "^x", "env": "E", "env-regex": "^Y", "tag": "{{.ID}}/{{.Name}}"},
        ),
    )
    container.wait()
    target = f"/containers/{container.id}/logs?stdout=1"
    tag = f"{container.id[:12]}%2F{container.name}"
    assert api("GET", f"{target}&details=1").body[8:].decode() == f"E=5,Y1=7,a=1+2%2C%3D,tag={tag},x1=3 x\n"
    assert api("GET", target).body[8:] == b"x\n"


def test_without_attributes_details_are_a_blank(api: Any, run: Any) -> None:
    container = run("echo x")
    container.wait()
    assert api("GET", f"/containers/{container.id}/logs?stdout=1&details=1").body[8:] == b" x\n"


@pytest.mark.needs("root engine")  # looks at the files
def test_the_file_is_as_docker_writes_it(run: Any) -> None:
    script = r"""echo 'a<b>&"c\d'; printf 'tab\there\001\r\n\342\200\250\n'; sleep 0.1; printf end >&2"""
    container = run(script, labels={"l": "<"}, log_config=_driver("json-file", labels="l", tag="t"))
    container.wait()
    path = _log_path(container)
    assert path.name == f"{container.id}-json.log"
    assert path.stat().st_mode & 0o777 == 0o640
    raw = path.read_bytes().splitlines()
    attributes = b'"attrs":{"l":"\\u003c","tag":"t"},"time":"'
    assert raw[0].startswith(b'{"log":"a\\u003cb\\u003e\\u0026\\"c\\\\d\\n","stream":"stdout",' + attributes)
    assert raw[1].startswith(b'{"log":"tab\\u0009here\\u0001\\r\\n","stream":"stdout",' + attributes)
    assert raw[2].startswith(b'{"log":"\\u2028\\n","stream":"stdout",' + attributes)
    assert raw[3].startswith(b'{"log":"end","stream":"stderr",' + attributes)
    assert all(sorted(json.loads(line)) == ["attrs", "log", "stream", "time"] for line in raw)


# --- rotation ---


@pytest.mark.kitepy  # dockerd's followers miss lines when files rotate fast
@pytest.mark.parametrize("driver", ["json-file", "local"])
@pytest.mark.parametrize("compress", ["true", "false"])
def test_rotation_loses_nothing_and_readers_follow_it(run: Any, driver: str, compress: str) -> None:
    container = run(COUNT.format(3000), log_config=_driver(driver, max_size="10k", max_file="500", compress=compress))
    followed = b"".join(container.logs(stream=True, follow=True))
    assert followed == _lines(3000)
    assert container.logs() == followed
    assert container.logs(tail=1000) == followed[followed.index(b"line 2000") :]


@pytest.mark.needs("root engine")  # looks at the files
def test_rotated_files_are_compressed(run: Any, until: Any) -> None:
    container = run(COUNT.format(1000), log_config=_driver("json-file", max_size="10k", max_file="3", compress="true"))
    container.wait()
    path = _log_path(container)
    packed = [path.with_name(f"{path.name}.{number}.gz") for number in (1, 2)]
    until(lambda: all(file.exists() for file in packed))
    assert sorted(file.name for file in path.parent.glob(f"{path.name}*")) == sorted([path.name, *(file.name for file in packed)])
    kept = b"".join(gzip.decompress(file.read_bytes()) for file in reversed(packed)) + path.read_bytes()
    texts = [json.loads(line)["log"] for line in kept.splitlines()]
    assert texts == [f"line {number}\n" for number in range(1000 - len(texts), 1000)]
    assert container.logs() == "".join(texts).encode()


@pytest.mark.kitepy
def test_a_log_goes_on_while_the_engine_is_down() -> None:
    with EngineUnderTest() as engine:
        client = engine.docker()
        script = "while [ ! -e /go ]; do :; done; " + COUNT.format(2000) + "; exit 3"
        options = _driver("local", max_size="5k", max_file="500")
        volume = client.volumes.create()
        container = client.containers.run(
            load_busybox(client),
            ["sh", "-c", script.replace("/go", "/shared/go")],
            detach=True,
            log_config=options,
            volumes={volume.name: {"bind": "/shared", "mode": "rw"}},
        )
        container.exec_run(["sh", "-c", "sleep 0.5; touch /shared/go"], detach=True)
        engine.kill()
        engine.start()
        assert client.api.wait(container.id)["StatusCode"] == 3
        assert container.logs() == _lines(2000)
        client.close()


@contextlib.contextmanager
def _small_disk(directory: Path) -> Iterator[None]:
    directory.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(directory)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=True)


@pytest.mark.kitepy
@pytest.mark.needs("root engine")  # the mount is made on the host
def test_a_full_disk_stops_no_container_and_is_told(client: Any, busybox: str, engine: EngineUnderTest) -> None:
    container = client.containers.create(busybox, ["sh", "-c", COUNT.format(20000)], log_config=_driver("local"))
    logged_before = engine.log.stat().st_size
    with _small_disk(engine.data_root / "containers" / container.id / "local-logs"):
        container.start()
        assert container.wait(timeout=60)["StatusCode"] == 0
        found = container.logs()
        assert found
        # Rotation makes room again: what is there is whole and in order, but there may be gaps.
        written = iter(_lines(20000).splitlines(keepends=True))
        assert all(line in written for line in found.splitlines(keepends=True))
        with engine.log.open("rb") as log:
            log.seek(logged_before)
            assert f"container {container.id}: its log can't be written".encode() in log.read()
        container.remove(force=True)


def test_a_log_without_a_reader_stops_no_container(api: Any, run: Any) -> None:
    """A follower that reads nothing holds nobody up."""
    container = run("head -c 3000000 /dev/zero | tr '\\0' x | fold -w 100; echo; echo end")
    with api.hijack(f"/containers/{container.id}/logs?stdout=1&follow=1", method="GET", upgrade=False):
        assert container.wait(timeout=30)["StatusCode"] == 0
        assert container.logs(tail=1) == b"end\n"


def test_the_engine_names_its_drivers(client: docker.DockerClient) -> None:
    assert {"json-file", "local", "none"} <= {*client.info()["Plugins"]["Log"], "none"}
    assert client.info()["LoggingDriver"] == "json-file"
