"""An engine of an ordinary user, as the user sees it and as the machine sees it. The API itself is tested in ``tests/api``."""

from __future__ import annotations

import errno
import os
import re
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import docker
import pytest
from docker.errors import APIError
from support.engine import EngineUnderTest, docker_info
from support.images import load_busybox
from support.ordinary_user import UID, user_command
from support.private_netns import Place

from kitepy.engine.kernel.netns import open_namespace_of
from kitepy.engine.rootless.outside import host_address
from kitepy.engine.rootless.state import read_state

pytestmark = pytest.mark.root

DEADLINE_S = 20.0
SERVE = "mkdir -p /w; echo hello >/w/index.html; exec httpd -f -p 80 -h /w"


@pytest.fixture(name="rootless", scope="module")
def _rootless() -> Iterator[EngineUnderTest]:
    with EngineUnderTest(rootless=True) as engine:
        yield engine


@pytest.fixture(name="api")
def _api(rootless: EngineUnderTest) -> Iterator[docker.DockerClient]:
    client = rootless.docker()
    load_busybox(client)
    yield client
    for container in client.containers.list(all=True, ignore_removed=True):
        container.remove(force=True, v=True)
    client.close()


@pytest.fixture(name="shell")
def _shell(api: docker.DockerClient) -> Callable[..., str]:
    def run(script: str, **options: object) -> str:
        return api.containers.run("busybox", ["sh", "-c", script], remove=True, stderr=True, **options).decode()

    return run


def eventually(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.02)


def fetch(address: str, port: int) -> str:
    host = f"[{address}]" if ":" in address else address
    with urllib.request.urlopen(f"http://{host}:{port}/", timeout=5) as answer:
        return answer.read().decode()


def answers(port: int) -> bool:
    try:
        return fetch("127.0.0.1", port) == "hello\n"
    except OSError:
        return False


def refused(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED


@contextmanager
def greeter(address: str) -> Iterator[int]:
    """A service of the host that says hello to everybody; its port."""
    server = socket.create_server((address, 0))

    def greet() -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            with client:
                client.sendall(b"hello from the host\n")

    thread = threading.Thread(target=greet)
    thread.start()
    try:
        yield server.getsockname()[1]
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join()


def published(container: docker.models.containers.Container) -> int:
    container.reload()
    return int(container.ports["80/tcp"][0]["HostPort"])


def owners(engine: EngineUnderTest) -> dict[int, int]:
    """The user of every process that belongs to the engine, containers included, by process id."""
    found = {}
    for pid in engine.process_ids():
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            continue
        found[pid] = int(status.split("Uid:")[1].split()[0])
    return found


# --- who runs, and as whom -------------------------------------------------------------------------------------------


def test_no_process_of_it_has_root(rootless: EngineUnderTest, api: docker.DockerClient) -> None:
    container = api.containers.run("busybox", ["sleep", "60"], detach=True)
    other = api.containers.run("busybox", ["sleep", "60"], detach=True, user="1000")
    uids = owners(rootless)
    assert len(uids) >= 8  # engine, launcher, helpers, monitors, containers
    container.reload()
    other.reload()
    assert uids[container.attrs["State"]["Pid"]] == UID
    # Inside 1000 is the 1000th id of the first range.
    assert uids[other.attrs["State"]["Pid"]] == 1_000_000 + 999
    assert 0 not in uids.values()


def test_ids_of_both_ranges_are_there(shell: Callable[..., str]) -> None:
    assert shell("cat /proc/self/uid_map").split() == ["0", "61234", "1", "1", "1000000", "10000", "10001", "1200000", "55536"]
    assert shell("touch /f; chown 65534:65534 /f; stat -c %u:%g /f") == "65534:65534\n"


def test_it_says_what_it_is_and_what_it_lacks(rootless: EngineUnderTest) -> None:
    info = docker_info(rootless)
    assert "name=rootless" in info["SecurityOptions"]
    if info["CgroupDriver"] == "none":
        assert not any(info[name] for name in ("MemoryLimit", "SwapLimit", "PidsLimit", "CPUShares", "CpuCfsQuota", "CPUSet"))
        assert any("without limits" in warning for warning in info["Warnings"])


def test_a_limit_that_cannot_be_kept_is_refused_by_name(rootless: EngineUnderTest, api: docker.DockerClient) -> None:
    if docker_info(rootless)["CgroupDriver"] != "none":
        pytest.skip("this machine lends control groups to ordinary users")
    with pytest.raises(APIError, match=r"can't limit memory.*kitepy doctor"):
        api.containers.run("busybox", "true", mem_limit="64m")
    container = api.containers.run("busybox", ["sleep", "60"], detach=True)
    with pytest.raises(APIError, match="can't pause"):
        container.pause()


def test_files_made_through_a_bind_mount_belong_to_the_user(rootless: EngineUnderTest, shell: Callable[..., str]) -> None:
    source = rootless.home / "project"
    assert shell("echo x >/p/made; ls -ln /p", volumes=[f"{source}:/p"]).endswith("made\n")
    made = (source / "made").stat()
    assert (made.st_uid, made.st_gid) == (UID, UID)
    assert source.stat().st_uid == UID


def test_what_the_user_may_not_read_a_container_may_not_either(shell: Callable[..., str]) -> None:
    assert "Permission denied" in shell("cat /h/shadow || true", volumes=["/etc:/h:ro"])
    assert "Permission denied" in shell("echo x >/h/broken || true; ls /h/broken || true", volumes=["/etc:/h"])
    assert not Path("/etc/broken").exists()


# --- the network -----------------------------------------------------------------------------------------------------


def test_published_ports_are_where_people_look_for_them(api: docker.DockerClient) -> None:
    container = api.containers.run("busybox", ["sh", "-c", SERVE], detach=True, ports={"80/tcp": None})
    port = published(container)
    eventually(lambda: answers(port), "the page")
    assert fetch("::1", port) == "hello\n"
    if address := host_address():
        assert fetch(address, port) == "hello\n"
    container.remove(force=True)
    eventually(lambda: refused(port), "the port is free")


def test_udp_is_published_too(api: docker.DockerClient) -> None:
    container = api.containers.run("busybox", ["sleep", "60"], detach=True, ports={"99/udp": ("127.0.0.1", None)})
    container.reload()
    inside = Place(open_namespace_of(container.attrs["State"]["Pid"]))
    with inside.udp(("0.0.0.0", 99)) as server, Place().udp() as client:
        for end in (server, client):
            end.settimeout(DEADLINE_S)
        client.connect(("127.0.0.1", int(container.ports["99/udp"][0]["HostPort"])))
        client.send(b"question")
        data, sender = server.recvfrom(100)
        server.sendto(data + b" and answer", sender)
        assert client.recv(100) == b"question and answer"


def test_a_port_that_needs_root_is_explained(api: docker.DockerClient) -> None:
    first = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    if first <= 80:
        pytest.skip("on this machine every user may take port 80")
    with pytest.raises(APIError, match=rf"from {first} on.*sudo sysctl -w net\.ipv4\.ip_unprivileged_port_start=80"):
        api.containers.run("busybox", "true", ports={"80/tcp": 80})


def test_a_port_of_the_host_is_not_taken_twice(api: docker.DockerClient) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(APIError, match="address already in use"):
            api.containers.run("busybox", "true", ports={"80/tcp": ("127.0.0.1", port)})


@pytest.mark.parametrize(("listening", "reached"), [("0.0.0.0", True), ("127.0.0.1", False)])
def test_the_host_is_reached_by_name_but_not_its_loopback(shell: Callable[..., str], listening: str, reached: bool) -> None:
    if not host_address():
        pytest.skip("this machine has no network")
    with greeter(listening) as port:
        script = (
            "for host in $(awk '/host.docker.internal/ { print $1 }' /etc/hosts) 10.0.2.2; do "
            f"timeout 5 nc -w 3 $host {port} </dev/null 2>&1; done; true"
        )
        assert ("hello from the host" in shell(script)) == reached


def test_names_are_asked_of_the_hosts_resolver(shell: Callable[..., str]) -> None:
    assert "nameserver 10.0.2.3\n" in shell("cat /etc/resolv.conf")
    assert "nameserver 9.9.9.9\n" in shell("cat /etc/resolv.conf", dns=["9.9.9.9"])


def test_containers_may_ping_and_take_low_ports_inside(shell: Callable[..., str]) -> None:
    assert shell("cat /proc/sys/net/ipv4/ping_group_range").split() == ["0", "65536"]
    assert "1 packets received" in shell("ping -c 1 -W 2 127.0.0.1")
    assert "done" in shell("(nc -l -p 80 </dev/null &) ; sleep 0.1; echo done", user="1000")


# --- faults ----------------------------------------------------------------------------------------------------------


def test_after_a_crash_containers_ports_and_connections_go_on(rootless: EngineUnderTest, api: docker.DockerClient) -> None:
    container = api.containers.run("busybox", ["sh", "-c", SERVE], detach=True, ports={"80/tcp": None})
    echo = api.containers.run("busybox", ["nc", "-l", "-p", "80", "-e", "cat"], detach=True, ports={"80/tcp": None})
    port = published(container)
    eventually(lambda: answers(port), "the page")
    container.reload()
    pid = container.attrs["State"]["Pid"]
    with socket.create_connection(("127.0.0.1", published(echo)), timeout=5) as connection:
        connection.sendall(b"before ")
        assert connection.recv(100) == b"before "
        rootless.kill()
        assert fetch("127.0.0.1", port) == "hello\n"
        rootless.start()
        connection.sendall(b"after")
        assert connection.recv(100) == b"after"
    container.reload()
    assert container.attrs["State"]["Pid"] == pid
    assert fetch("127.0.0.1", port) == "hello\n"
    container.remove(force=True)
    eventually(lambda: refused(port), "the port is free")


def test_a_lost_helper_outside_is_replaced_at_the_next_start(rootless: EngineUnderTest, api: docker.DockerClient) -> None:
    container = api.containers.run("busybox", ["sh", "-c", SERVE], detach=True, ports={"80/tcp": None})
    port = published(container)
    eventually(lambda: answers(port), "the page")
    helper = next(pid for pid in rootless.process_ids() if Path(f"/proc/{pid}/comm").read_text() == "kitepy-outside\n")
    os.kill(helper, signal.SIGKILL)
    rootless.kill()
    rootless.start()
    assert fetch("127.0.0.1", port) == "hello\n"
    other = api.containers.run("busybox", ["sh", "-c", SERVE], detach=True, ports={"80/tcp": None})
    eventually(lambda: answers(published(other)), "a new page")


def test_a_lost_uplink_is_renewed(rootless: EngineUnderTest, shell: Callable[..., str]) -> None:
    def uplink() -> int:
        state = read_state(rootless.exec_root / "rootless")
        return state.uplink.pid if state is not None and state.uplink is not None and state.uplink.is_alive() else 0

    before = uplink()
    assert before
    os.kill(before, signal.SIGKILL)
    eventually(lambda: uplink() not in (0, before), "a new uplink")
    eventually(lambda: "no other network" not in str(docker_info(rootless)["Warnings"]), "no warning any more")
    if address := host_address():
        with greeter(address) as port:
            # The shell stays process 1: as such nc could not be ended by a signal from inside.
            ask = f"timeout 5 nc -w 3 {address} {port} </dev/null; true"
            eventually(lambda: "hello from the host" in shell(ask), "a connection by the new uplink")


# --- machines that lack something ------------------------------------------------------------------------------------


def test_without_a_tap_device_it_runs_and_tells_what_helps() -> None:
    with EngineUnderTest(rootless=True, tun_mode="600") as engine:
        warnings = "\n".join(docker_info(engine)["Warnings"])
        assert re.search("no other network.*sudo chmod 0666 /dev/net/tun", warnings)
        client = engine.docker()
        load_busybox(client)
        container = client.containers.run("busybox", ["sh", "-c", SERVE], detach=True, ports={"80/tcp": None})
        eventually(lambda: answers(published(container)), "the page")
        client.close()


def test_slirp4netns_takes_over_where_pasta_is_missing(tmp_path: Path) -> None:
    if not Path("/usr/bin/slirp4netns").exists():
        pytest.skip("slirp4netns is not installed: sudo apt install slirp4netns")
    refusing = tmp_path / "pasta"
    refusing.write_text("#!/bin/sh\necho no >&2\nexit 1\n")
    refusing.chmod(0o755)
    for directory in (tmp_path, *tmp_path.parents[:3]):
        directory.chmod(directory.stat().st_mode | 0o055)
    program = ("env", f"PATH={tmp_path}:{os.environ['PATH']}", *EngineUnderTest.PROGRAM)
    with EngineUnderTest(rootless=True, program=program) as engine:
        state = read_state(engine.exec_root / "rootless")
        assert state is not None
        assert state.uplink_kind == "slirp4netns"
        client = engine.docker()
        load_busybox(client)
        if address := host_address():
            with greeter(address) as port:
                output = client.containers.run("busybox", ["sh", "-c", f"timeout 5 nc -w 3 {address} {port} </dev/null; true"])
                assert b"hello from the host" in output
        client.close()


def test_without_subordinate_ids_it_names_the_command_that_gives_some() -> None:
    engine = EngineUnderTest(rootless=True)
    try:
        command = user_command(engine.home, [*EngineUnderTest.PROGRAM, *engine.options], subids="")
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, cwd="/", env=engine.environment())
        assert done.returncode == 1
        assert "/etc/subuid gives kitepy-test no ids" in done.stderr
        assert re.search(r"sudo usermod --add-subuids \d+-\d+ kitepy-test", done.stderr)
        assert "Traceback" not in done.stderr
        assert engine.leaks_after(5) == []
    finally:
        engine.remove_files()
