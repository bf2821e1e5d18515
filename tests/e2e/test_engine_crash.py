"""The engine is killed without a word while a container logs: nothing may be lost."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
import urllib.request
from collections.abc import Iterator

import docker
import pytest
from support.engine import EngineUnderTest
from support.images import docker_archive, load_busybox
from support.tarballs import entry, tarball

from kitepy.client import BundledEngine, EnginePaths

LINES = 400
# Logs for about four seconds, long enough for a crash and a restart, and ends with a code that can't come from a signal.
SCRIPT = f"i=0; while [ $i -lt {LINES} ]; do echo line $i; i=$((i+1)); usleep 10000; done; exit 42"


@pytest.fixture
def crashing() -> Iterator[EngineUnderTest]:
    with EngineUnderTest() as running:
        yield running


def test_a_container_outlives_a_killed_engine_with_every_line_and_its_exit_code(crashing: EngineUnderTest) -> None:
    client = crashing.docker()
    container = client.containers.run(load_busybox(client), ["sh", "-c", SCRIPT], name="talker", detach=True)
    wait_for_line(container, "line 50")
    pid = client.api.inspect_container("talker")["State"]["Pid"]
    client.close()

    crashing.kill()
    crashing.start()

    client = crashing.docker()
    state = client.api.inspect_container("talker")["State"]
    assert state["Running"]
    assert state["Pid"] == pid
    assert client.api.wait("talker", timeout=60)["StatusCode"] == 42
    lines = client.containers.get("talker").logs().decode().splitlines()
    assert lines == [f"line {number}" for number in range(LINES)]
    assert client.api.inspect_container("talker")["State"]["ExitCode"] == 42
    client.close()


def test_a_container_that_ended_while_the_engine_was_away_has_its_exit_code(crashing: EngineUnderTest) -> None:
    client = crashing.docker()
    client.containers.run(
        load_busybox(client), ["sh", "-c", "echo ready; usleep 400000; echo bye; exit 5"], name="brief", detach=True
    )
    wait_for_line(client.containers.get("brief"), "ready")
    client.close()

    crashing.kill()
    time.sleep(1.0)  # The container ends now, with nobody to ask.
    crashing.start()

    client = crashing.docker()
    assert client.api.wait("brief", timeout=20)["StatusCode"] == 5
    state = client.api.inspect_container("brief")["State"]
    assert (state["Running"], state["Status"], state["ExitCode"]) == (False, "exited", 5)
    assert client.containers.get("brief").logs() == b"ready\nbye\n"
    client.close()


def test_a_published_port_still_answers_after_a_restart_and_is_free_after_removal(crashing: EngineUnderTest) -> None:
    client = crashing.docker()
    image = load_busybox(client)
    server = ["httpd", "-f", "-p", "80", "-h", "/etc"]
    # Not one that engines give out by themselves: another one could take it while this one is away.
    port = random.randrange(12_000, 30_000)  # noqa: S311  # nothing secret
    client.containers.run(image, server, name="web", detach=True, ports={"80/tcp": ("127.0.0.1", port)})
    client.close()

    crashing.kill()
    crashing.start()

    client = crashing.docker()
    assert int(client.api.port("web", 80)[0]["HostPort"]) == port
    assert "root" in fetch(f"http://127.0.0.1:{port}/passwd")
    with pytest.raises(docker.errors.APIError, match="port is already allocated"):
        client.containers.run(image, server, name="second", detach=True, ports={"80/tcp": ("127.0.0.1", port)})
    client.api.remove_container("second", force=True)
    client.api.remove_container("web", force=True)
    client.containers.run(image, server, name="third", detach=True, ports={"80/tcp": ("127.0.0.1", port)})
    assert "root" in fetch(f"http://127.0.0.1:{port}/passwd")
    client.close()


def wait_for_line(container: docker.models.containers.Container, line: str) -> None:
    deadline = time.monotonic() + 20
    while line not in container.logs().decode().splitlines():
        assert time.monotonic() < deadline, f"{line!r} was never logged"
        time.sleep(0.02)


def fetch(url: str) -> str:
    deadline = time.monotonic() + 10
    while True:
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310  # always http://127.0.0.1
                return str(answer.read().decode())
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def test_the_app_s_engine_can_be_stopped_and_started_under_a_running_container(tmp_path_factory: pytest.TempPathFactory) -> None:
    home = tmp_path_factory.mktemp("k")
    paths = EnginePaths.default({"KITEPY_HOME": str(home)})
    bundled = BundledEngine(paths)
    bundled.ensure_running_blocking()
    try:
        client = docker.DockerClient(base_url=f"unix://{paths.socket}")
        client.containers.run(load_busybox(client), ["sleep", "600"], name="lasting", detach=True, ports={"80/tcp": None})
        before = client.api.inspect_container("lasting")
        client.close()

        assert bundled.stop_blocking()
        assert not bundled.ensure_running_blocking().adopted

        client = docker.DockerClient(base_url=f"unix://{paths.socket}")
        after = client.api.inspect_container("lasting")
        assert after["State"]["Pid"] == before["State"]["Pid"]
        assert after["State"]["Running"]
        assert after["NetworkSettings"]["Ports"] == before["NetworkSettings"]["Ports"]
        client.containers.get("lasting").remove(force=True)
        client.close()
    finally:
        bundled.stop_blocking()


def test_what_is_mounted_for_a_container_is_kept_over_a_crash_and_taken_away_with_it(crashing: EngineUnderTest) -> None:
    client = crashing.docker()
    image = load_busybox(client)
    client.images.load(docker_archive([tarball(entry("f", b"1")), tarball(entry("g", b"2"))], "layered:1"))
    options = {"type": "tmpfs", "device": "tmpfs"}
    for name in ("kept", "dropped"):
        client.volumes.create(name, driver_opts=options)
    for name, lasts in (("kept", True), ("dropped", False)):
        mounts = [{"Type": "volume", "Source": name, "Target": "/v"}, {"Type": "image", "Source": "layered:1", "Target": "/i"}]
        script = f"echo {name} >/v/f; echo ready; " + ("sleep 60" if lasts else "usleep 300000")
        container = client.containers.create(image, ["sh", "-c", script], name=name, mounts=mounts)
        container.start()
        wait_for_line(container, "ready")
    places = {mount["Source"]: name for name in ("kept", "dropped") for mount in client.api.inspect_container(name)["Mounts"]}
    assert all(os.path.ismount(place) for place in places)
    pid = client.api.inspect_container("dropped")["State"]["Pid"]
    client.close()

    crashing.kill()
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    crashing.start()

    client = crashing.docker()
    client.api.wait("dropped", timeout=20)
    assert {place: os.path.ismount(place) for place in places} == {place: name == "kept" for place, name in places.items()}
    kept = client.containers.get("kept")
    assert kept.exec_run("cat /v/f /i/f /i/g").output == b"kept\n12"
    look = {"mounts": [{"Type": "volume", "Source": "kept", "Target": "/v"}], "remove": True}
    assert client.containers.run(image, ["cat", "/v/f"], **look) == b"kept\n"
    kept.remove(force=True)
    assert not any(os.path.ismount(place) for place in places)
    assert client.containers.run(image, ["ls", "/v"], **look) == b""
    client.close()
