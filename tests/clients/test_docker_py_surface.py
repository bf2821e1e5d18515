"""docker-py's public surface for containers, execs, networks, the system; the last test fails when a method was left out."""

from __future__ import annotations

import functools
import inspect
import io
import socket
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import docker
import pytest
from docker.api.container import ContainerApiMixin
from docker.api.daemon import DaemonApiMixin
from docker.api.exec_api import ExecApiMixin
from docker.api.network import NetworkApiMixin
from docker.models.containers import Container, ContainerCollection
from docker.models.networks import Network, NetworkCollection
from docker.utils.socket import demux_adaptor, frames_iter
from support.engine import EngineUnderTest, docker_info
from support.images import busybox_archive, tar_of

SURFACE = (
    *(ContainerApiMixin, ExecApiMixin, DaemonApiMixin, NetworkApiMixin),
    *(Container, ContainerCollection, Network, NetworkCollection),
)
called: set[str] = set()


def _public(kind: type) -> dict[str, Any]:
    return {
        f"{kind.__name__}.{name}": value for name, value in vars(kind).items() if not name.startswith("_") and name != "model"
    }


@pytest.fixture(scope="module", autouse=True)
def _recorded() -> Iterator[None]:
    """Note every call of a public method, and every look at a property."""
    patch = pytest.MonkeyPatch()

    def noted(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def call(*arguments: Any, **options: Any) -> Any:
            called.add(name)
            return method(*arguments, **options)

        return call

    for kind in SURFACE:
        for name, value in _public(kind).items():
            short = name.partition(".")[2]
            if isinstance(value, property):
                patch.setattr(kind, short, property(noted(name, value.fget)))
            elif inspect.isfunction(value):
                patch.setattr(kind, short, noted(name, value))
    yield
    patch.undo()


@pytest.fixture(name="busybox")
def _busybox(client: docker.DockerClient) -> str:
    """The same image on every engine."""
    return str(client.images.load(busybox_archive("box:latest"))[0].tags[0])


@pytest.fixture(name="sleeper")
def _sleeper(client: docker.DockerClient, busybox: str) -> Container:
    return client.containers.run(busybox, ["sleep", "600"], detach=True)


def _until(condition: Callable[[], Any], timeout_s: float = 10.0) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{condition} did not come true"
        time.sleep(0.01)
    return found


def _raw(stream: Any) -> socket.socket:
    """The socket itself: docker-py gives a file object around it."""
    return getattr(stream, "_sock", stream)


# --- low level: a container's life ---------------------------------------------------------------------------------------


def test_a_container_is_made_started_looked_at_stopped_and_removed(client: docker.DockerClient, busybox: str) -> None:
    low = client.api
    made = low.create_container(
        busybox,
        ["sh", "-c", "echo $WORD; exec sleep 600"],
        name="low-level",
        environment={"WORD": "spoken"},
        labels={"made": "low"},
        ports=[80, (53, "udp")],
        volumes=["/data"],
        host_config=low.create_host_config(port_bindings={80: ("127.0.0.1",)}),
        networking_config=low.create_networking_config({"bridge": low.create_endpoint_config()}),
        stop_signal="KILL",
        healthcheck={"test": ["CMD", "true"], "interval": 1_000_000_000},
        use_config_proxy=False,
    )
    assert set(made) == {"Id", "Warnings"}
    assert low.inspect_container(made)["State"]["Status"] == "created"
    low.start(made)
    details = low.inspect_container(made["Id"])
    assert details["Config"]["Labels"] == {"made": "low"}
    assert set(details["Config"]["ExposedPorts"]) == {"80/tcp", "53/udp"}
    assert details["Mounts"][0]["Destination"] == "/data"
    published = low.port(made, 80)
    assert published is not None
    assert published[0]["HostIp"] == "127.0.0.1"
    assert low.port(made, 81) is None
    assert b"spoken" in _until(lambda: low.logs(made))
    assert [item["Names"] for item in low.containers(filters={"label": "made=low"})] == [["/low-level"]]
    assert [set(item) for item in low.containers(quiet=True, latest=True)] == [{"Id"}]
    assert "SizeRootFs" in low.containers(size=True, limit=1)[0]
    low.rename(made, "renamed")
    assert low.inspect_container("renamed")["Name"] == "/renamed"
    low.restart(made, timeout=1)
    low.kill(made, signal="SIGKILL")
    assert low.wait(made)["StatusCode"] == 137
    low.start(made)
    low.stop(made, timeout=1)
    low.remove_container(made, v=True)
    with pytest.raises(docker.errors.NotFound):
        low.inspect_container(made)
    with pytest.raises(docker.errors.NotFound):
        low.wait(made)


def test_a_container_of_a_ready_configuration(client: docker.DockerClient, busybox: str) -> None:
    low = client.api
    config = low.create_container_config(busybox, ["true"], hostname="configured", working_dir="/tmp")
    made = low.create_container_from_config(config, name="from-config")
    assert low.inspect_container("from-config")["Config"]["Hostname"] == "configured"
    low.start(made["Id"])
    assert low.wait(made["Id"], timeout=10, condition="not-running") == {"StatusCode": 0}
    with pytest.raises(docker.errors.APIError) as refused:
        low.create_container_from_config(config, name="from-config")
    assert refused.value.status_code == 409


def test_conditions_that_can_be_waited_for(client: docker.DockerClient, engine: EngineUnderTest, busybox: str) -> None:
    low = client.api
    made = low.create_container(busybox, ["sh", "-c", "exit 4"], host_config=low.create_host_config(auto_remove=True))
    answers: list[dict[str, Any]] = []
    other = engine.docker().api
    waiting = threading.Thread(target=lambda: answers.append(other.wait(made["Id"], timeout=20, condition="removed")))
    waiting.start()
    low.start(made)
    waiting.join(20)
    other.close()
    assert answers == [{"StatusCode": 4}]


def test_limits_change_while_it_runs(client: docker.DockerClient, sleeper: Container) -> None:
    client.api.update_container(sleeper.id, restart_policy={"Name": "on-failure", "MaximumRetryCount": 2})
    assert client.api.inspect_container(sleeper.id)["HostConfig"]["RestartPolicy"] == {
        "Name": "on-failure",
        "MaximumRetryCount": 2,
    }


@pytest.mark.needs("limits")
def test_resources_change_while_it_runs(client: docker.DockerClient, sleeper: Container) -> None:
    answer = client.api.update_container(
        sleeper.id, cpu_period=50000, cpu_quota=25000, cpu_shares=512, cpuset_cpus="0", mem_limit="64m", memswap_limit="128m"
    )
    assert answer["Warnings"] in (None, [])
    settings = client.api.inspect_container(sleeper.id)["HostConfig"]
    assert (settings["CpuPeriod"], settings["CpuQuota"], settings["CpuShares"], settings["CpusetCpus"]) == (
        50000,
        25000,
        512,
        "0",
    )
    assert settings["Memory"] == 64 << 20
    assert sleeper.update(mem_reservation="32m")["Warnings"] in (None, [])


def test_what_is_removed_when_pruning(client: docker.DockerClient, busybox: str) -> None:
    low = client.api
    gone = low.create_container(busybox, ["true"], labels=["prunable"])["Id"]
    kept = low.create_container(busybox, ["true"])["Id"]
    assert low.prune_containers(filters={"label": "prunable"}) == {"ContainersDeleted": [gone], "SpaceReclaimed": 0}
    assert client.containers.prune({"label": "prunable"})["ContainersDeleted"] is None
    assert low.inspect_container(kept)["Id"] == kept


# --- low level: streams --------------------------------------------------------------------------------------------------


def test_attached_output_whole_in_pieces_and_split(client: docker.DockerClient, busybox: str) -> None:
    low = client.api
    made = low.create_container(busybox, ["sh", "-c", "echo out; echo err >&2"])["Id"]
    plain = low.attach(made, stream=True, stderr=False)
    split = low.attach(made, stream=True, demux=True)
    low.start(made)
    assert b"".join(plain) == b"out\n"
    pieces = list(split)
    assert sorted(filter(None, (part for piece in pieces for part in piece))) == [b"err\n", b"out\n"]
    # docker-py drops what comes in one packet with the answer's head, whichever engine sends it.
    assert sorted(_until(lambda: low.attach(made, logs=True)).splitlines()) == [b"err", b"out"]
    assert _until(lambda: any(found := low.attach(made, logs=True, demux=True)) and found) == (b"out\n", b"err\n")


def test_an_attached_socket_carries_input_until_it_is_shut(client: docker.DockerClient, busybox: str) -> None:
    low = client.api
    made = low.create_container(busybox, ["cat"], stdin_open=True)["Id"]
    stream = low.attach_socket(made, params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
    low.start(made)
    raw = _raw(stream)
    raw.sendall(b"through the socket\n")
    raw.shutdown(socket.SHUT_WR)
    assert b"".join(data for _, data in frames_iter(raw, tty=False)) == b"through the socket\n"
    assert low.wait(made)["StatusCode"] == 0
    stream.close()


def test_an_attached_terminal_is_raw_and_has_a_size(client: docker.DockerClient, busybox: str) -> None:
    low = client.api
    made = low.create_container(busybox, ["sh", "-c", "read line; stty size; exit 3"], stdin_open=True, tty=True)["Id"]
    stream = low.attach_socket(made, params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
    low.start(made)
    low.resize(made, height=33, width=99)
    raw = _raw(stream)
    raw.sendall(b"go\n")
    assert b"33 99\r\n" in b"".join(data for _, data in frames_iter(raw, tty=True))
    assert low.wait(made)["StatusCode"] == 3
    stream.close()


def test_logs_with_each_option(client: docker.DockerClient, busybox: str) -> None:
    low = client.api
    made = low.create_container(busybox, ["sh", "-c", "echo one; echo two; echo bad >&2"])["Id"]
    low.start(made)
    low.wait(made)
    assert low.logs(made, stderr=False) == b"one\ntwo\n"
    assert low.logs(made, stdout=False) == b"bad\n"
    assert len(low.logs(made, tail=1).splitlines()) == 1
    assert b"".join(low.logs(made, stderr=False, stream=True)) == b"one\ntwo\n"
    assert b"".join(low.logs(made, stderr=False, stream=True, follow=False)) == b"one\ntwo\n"
    stamped = low.logs(made, stderr=False, timestamps=True).splitlines()
    assert all(line.split(b" ")[0].endswith(b"Z") for line in stamped)
    assert low.logs(made, since=int(time.time()) + 100) == b""
    assert low.logs(made, until=1) == b""
    assert len(low.logs(made, since=1.5, until=time.time() + 10).splitlines()) == 3


def test_execs_with_each_way_of_reading(client: docker.DockerClient, sleeper: Container) -> None:
    low = client.api
    command = ["sh", "-c", "echo $WORD; pwd; id -u; echo bad >&2; exit 5"]
    options = {"environment": {"WORD": "x"}, "workdir": "/tmp", "user": "nobody"}
    made = low.exec_create(sleeper.id, command, **options)["Id"]
    assert low.exec_inspect(made)["Running"] is False
    assert low.exec_start(made, demux=True) == (b"x\n/tmp\n65534\n", b"bad\n")
    details = low.exec_inspect(made)
    assert (details["ExitCode"], details["Running"], details["ContainerID"]) == (5, False, sleeper.id)
    assert details["ProcessConfig"]["arguments"] == command[1:]
    streamed = low.exec_create(sleeper.id, "echo streamed")["Id"]
    assert b"".join(low.exec_start(streamed, stream=True)) == b"streamed\n"
    terminal = low.exec_create(sleeper.id, ["sh", "-c", "tty; stty size"], tty=True)["Id"]
    assert low.exec_start(terminal, tty=True).startswith(b"/dev/pts/")
    detached = low.exec_create(sleeper.id, ["touch", "/tmp/made"])["Id"]
    assert low.exec_start(detached, detach=True) in ("", b"")
    _until(lambda: low.exec_inspect(detached)["ExitCode"] == 0)
    with pytest.raises(docker.errors.APIError) as again:
        low.exec_start(made, detach=True)
    assert again.value.status_code == 409


def test_an_exec_s_socket_carries_input_and_its_terminal_has_a_size(client: docker.DockerClient, sleeper: Container) -> None:
    low = client.api
    made = low.exec_create(sleeper.id, ["sh", "-c", "read line; stty size"], stdin=True, tty=True, privileged=True)["Id"]
    stream = low.exec_start(made, tty=True, socket=True)
    low.exec_resize(made, height=44, width=55)
    raw = _raw(stream)
    raw.sendall(b"go\n")
    assert b"44 55\r\n" in b"".join(data for _, data in frames_iter(raw, tty=True))
    stream.close()
    plain = low.exec_create(sleeper.id, ["sh", "-c", "cat; echo end >&2"], stdin=True, detach_keys="ctrl-x")["Id"]
    stream = low.exec_start(plain, socket=True)
    raw = _raw(stream)
    raw.sendall(b"typed")
    raw.shutdown(socket.SHUT_WR)
    pieces = [demux_adaptor(*frame) for frame in frames_iter(raw, tty=False)]
    assert b"".join(out or b"" for out, _ in pieces) == b"typed"
    assert b"".join(err or b"" for _, err in pieces) == b"end\n"
    stream.close()


# --- low level: files and figures ----------------------------------------------------------------------------------------


def test_files_go_in_and_out_and_changes_are_told(client: docker.DockerClient, sleeper: Container) -> None:
    low = client.api
    assert low.put_archive(sleeper.id, "/tmp", tar_of({"put": b"content"})) is True
    data, facts = low.get_archive(sleeper.id, "/tmp/put")
    assert (facts["name"], facts["size"], facts["linkTarget"]) == ("put", 7, "")
    with tarfile.open(fileobj=io.BytesIO(b"".join(data))) as archive:
        member = archive.extractfile("put")
        assert member is not None
        assert member.read() == b"content"
    assert {"Path": "/tmp/put", "Kind": 1} in low.diff(sleeper.id)
    with tarfile.open(fileobj=io.BytesIO(b"".join(low.export(sleeper.id)))) as archive:
        assert "tmp/put" in archive.getnames()
    with pytest.raises(docker.errors.NotFound):
        low.get_archive(sleeper.id, "/no/such")
    with pytest.raises(docker.errors.NotFound):
        low.put_archive(sleeper.id, "/no/such", tar_of({"put": b"content"}))


def test_a_container_becomes_an_image(client: docker.DockerClient, sleeper: Container) -> None:
    low = client.api
    low.put_archive(sleeper.id, "/", tar_of({"kept": b"content"}))
    made = low.commit(
        sleeper.id,
        "committed",
        "low",
        message="why",
        author="who",
        changes=["ENV A=B", 'CMD ["cat", "/kept"]'],
        conf={"Labels": {"l": "m"}},
    )
    details = low.inspect_image(made["Id"])
    assert (details["Comment"], details["Author"], details["RepoTags"]) == ("why", "who", ["committed:low"])
    assert details["Config"]["Cmd"] == ["cat", "/kept"]
    assert "A=B" in details["Config"]["Env"]
    assert details["Config"]["Labels"] == {"l": "m"}
    assert client.containers.run("committed:low", remove=True) == b"content"
    low.remove_image("committed:low")


def test_processes_are_listed(client: docker.DockerClient, sleeper: Container) -> None:
    listed = client.api.top(sleeper.id)
    assert listed["Titles"] == ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    assert [process[-1] for process in listed["Processes"]] == ["sleep 600"]
    assert client.api.top(sleeper.id, ps_args="-o pid,comm")["Titles"] == ["PID", "COMMAND"]


def test_statistics_once_and_as_a_stream(client: docker.DockerClient, sleeper: Container) -> None:
    low = client.api
    once = low.stats(sleeper.id, stream=False, one_shot=True)
    assert once["pids_stats"]["current"] == 1
    assert once["precpu_stats"]["cpu_usage"]["total_usage"] == 0
    twice = low.stats(sleeper.id, stream=False)
    assert twice["name"] == f"/{sleeper.name}"
    stream = low.stats(sleeper.id, decode=True)
    assert [next(stream)["id"], next(stream)["id"]] == [sleeper.id, sleeper.id]
    stream.close()


# --- low level: the engine -----------------------------------------------------------------------------------------------


def test_the_engine_tells_about_itself(client: docker.DockerClient, sleeper: Container) -> None:
    low = client.api
    assert low.ping() is True
    assert client.ping() is True
    assert low.version()["ApiVersion"] == "1.51"
    assert low.version(api_version=False)["MinAPIVersion"] == "1.24"
    assert client.version()["Os"] == "linux"
    assert low.info()["ContainersRunning"] >= 1
    assert client.info()["ID"]
    used = low.df()
    assert {"Containers", "Images", "Volumes", "BuildCache", "LayersSize"} <= set(used)
    assert sleeper.id in [container["Id"] for container in client.df()["Containers"]]


def test_events_are_told_live_and_again(client: docker.DockerClient, engine: EngineUnderTest, busybox: str) -> None:
    other = engine.docker()
    live = client.events(decode=True, filters={"type": "container", "event": ["create", "die", "destroy"]})
    since = time.time()
    made = other.containers.run(busybox, ["sh", "-c", "exit 3"], detach=True, labels={"l": "v"})
    made.wait()
    made.remove()
    seen = [next(live) for _ in range(3)]
    live.close()
    assert [event["Action"] for event in seen] == ["create", "die", "destroy"]
    assert seen[1]["Actor"]["Attributes"]["exitCode"] == "3"
    assert {event["id"] for event in seen} == {made.id}
    again = list(client.api.events(since=since, until=time.time() + 1, decode=True, filters={"container": made.id}))
    assert [event["Action"] for event in again] == ["create", "start", "die", "destroy"]
    assert all(isinstance(line, bytes) for line in client.api.events(since=since, until=time.time()))
    other.close()


def test_a_login_without_a_registry_is_refused(client: docker.DockerClient) -> None:
    with pytest.raises(docker.errors.APIError) as refused:
        client.api.login("who", "secret", registry="127.0.0.1:1", reauth=True)
    assert refused.value.status_code in (401, 500, 501)


# --- high level ----------------------------------------------------------------------------------------------------------


def test_a_container_s_object(client: docker.DockerClient, busybox: str) -> None:
    made = client.containers.create(
        busybox,
        ["sh", "-c", "echo ready; exec sleep 600"],
        name="object",
        labels={"a": "b"},
        ports={"80/tcp": ("127.0.0.1", None)},
    )
    assert made.status == "created"
    made.start()
    made.reload()
    assert (made.name, made.status, made.labels) == ("object", "running", {"a": "b"})
    assert made.short_id == made.id[:12]
    # Others of the same session's tests may have given the same content a name of theirs.
    assert made.image.tags == client.images.get(busybox).tags
    assert busybox in made.image.tags
    assert made.health == "unknown"
    assert made.ports["80/tcp"][0]["HostIp"] == "127.0.0.1"
    assert client.containers.get("object") == made
    _until(lambda: b"ready" in made.logs())
    assert made.exec_run(["sh", "-c", "echo out; exit 2"]) == (2, b"out\n")
    assert made.exec_run(["sh", "-c", "echo out; echo err >&2"], demux=True) == (0, (b"out\n", b"err\n"))
    assert b"".join(made.exec_run("echo streamed", stream=True).output) == b"streamed\n"
    assert made.exec_run("true", detach=True).output in ("", b"")
    made.exec_run("cat", stdin=True, socket=True).output.close()
    assert made.put_archive("/tmp", tar_of({"put": b"x"})) is True
    assert made.get_archive("/tmp/put", encode_stream=True)[1]["name"] == "put"
    assert {"Path": "/tmp/put", "Kind": 1} in made.diff()
    assert len(next(iter(made.export()))) > 0
    assert made.top()["Processes"]
    assert made.stats(stream=False)["id"] == made.id
    committed = made.commit("object-image", "one")
    assert committed.tags == ["object-image:one"]
    client.images.remove("object-image:one")
    made.update(restart_policy={"Name": "no"})
    made.rename("object-2")
    made.restart(timeout=0)
    made.kill(signal="SIGKILL")
    assert made.wait()["StatusCode"] == 137
    made.start()
    made.stop(timeout=0)
    assert b"ready" in _until(lambda: made.attach(logs=True))
    made.remove(v=True)
    with pytest.raises(docker.errors.NotFound):
        made.reload()


@pytest.mark.needs("limits")
def test_a_container_pauses(client: docker.DockerClient, sleeper: Container) -> None:
    client.api.pause(sleeper.id)
    assert client.api.inspect_container(sleeper.id)["State"]["Paused"] is True
    client.api.unpause(sleeper.id)
    sleeper.pause()
    sleeper.reload()
    assert sleeper.status == "paused"
    sleeper.unpause()
    sleeper.reload()
    assert sleeper.status == "running"


def test_an_object_s_terminal(client: docker.DockerClient, busybox: str) -> None:
    made = client.containers.create(busybox, ["sh", "-c", "read line; stty size"], stdin_open=True, tty=True)
    stream = made.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
    made.start()
    made.resize(height=20, width=70)
    _raw(stream).sendall(b"go\n")
    assert b"20 70" in b"".join(data for _, data in frames_iter(_raw(stream), tty=True))
    stream.close()


def test_lists_of_objects(client: docker.DockerClient, sleeper: Container, busybox: str) -> None:
    later = client.containers.create(busybox, ["true"], labels={"listed": "yes"})
    assert sleeper in client.containers.list()
    assert later not in client.containers.list()
    assert client.containers.list(all=True, filters={"label": "listed=yes"}) == [later]
    assert client.containers.list(all=True, filters={"since": sleeper.id}) == [later]
    # Today's API has these as filters only; the parameters of old are ignored.
    assert sleeper in client.containers.list(all=True, since=sleeper.id)
    assert later in client.containers.list(all=True, before=later.id)
    assert len(client.containers.list(all=True, limit=1)) == 1
    sparse = client.containers.list(filters={"id": sleeper.id}, sparse=True)
    assert sparse[0].attrs["State"] == "running"
    assert client.containers.list(ignore_removed=True)


def test_run_gives_output_raises_on_failure_and_detaches(client: docker.DockerClient, busybox: str) -> None:
    assert client.containers.run(busybox, "echo plain", remove=True) == b"plain\n"
    script = ["sh", "-c", "echo out; echo err >&2"]
    assert client.containers.run(busybox, script, remove=True, stdout=False, stderr=True) == b"err\n"
    assert b"".join(client.containers.run(busybox, script, stream=True, remove=True)) == b"out\n"
    with pytest.raises(docker.errors.ContainerError) as failed:
        client.containers.run(busybox, ["sh", "-c", "echo reason >&2; exit 3"], remove=True)
    assert (failed.value.exit_status, failed.value.stderr) == (3, b"reason\n")
    with pytest.raises(docker.errors.APIError) as missing:
        client.containers.run(busybox, "/no/such/program")
    assert missing.value.status_code == 400
    gone = client.containers.run(busybox, "true", detach=True, remove=True)

    def is_gone() -> bool:
        try:
            client.containers.get(gone.id)
        except docker.errors.NotFound:
            return True
        return False

    _until(is_gone)


def test_health_is_a_property(client: docker.DockerClient, busybox: str) -> None:
    check = {"test": ["CMD", "true"], "interval": 50_000_000}
    made = client.containers.run(busybox, ["sleep", "600"], detach=True, healthcheck=check)

    def is_healthy() -> bool:
        made.reload()
        return bool(made.health == "healthy")

    _until(is_healthy)


def test_networks_and_who_is_in_them(client: docker.DockerClient, sleeper: Container, busybox: str) -> None:
    low = client.api
    ipam = docker.types.IPAMConfig(pool_configs=[docker.types.IPAMPool(subnet="10.212.0.0/24", gateway="10.212.0.9")])
    network = client.networks.create("py-one", ipam=ipam, labels={"made": "by py"}, check_duplicate=True)
    other = low.create_network("py-two", driver="bridge", internal=True)["Id"]
    try:
        assert network.name == "py-one"
        assert network.attrs["IPAM"]["Config"] == [{"Subnet": "10.212.0.0/24", "Gateway": "10.212.0.9"}]
        assert [found.id for found in client.networks.list(filters={"label": "made=by py"})] == [network.id]
        assert [found["Name"] for found in low.networks(names=["py-two"])] == ["py-two"]
        network.connect(sleeper, aliases=["asleep"], ipv4_address="10.212.0.77")
        assert network.containers == []  # the object is as old as its last look
        network.reload()
        assert network.containers == [sleeper]
        assert client.networks.get(network.id).attrs["Containers"][sleeper.id]["IPv4Address"] == "10.212.0.77/24"
        asked = client.containers.run(busybox, ["nslookup", "asleep"], network="py-one", remove=True)
        assert b"10.212.0.77" in asked
        low.connect_container_to_network(sleeper.id, other)
        with pytest.raises(docker.errors.APIError, match="has active endpoints"):
            low.remove_network(other)
        low.disconnect_container_from_network(sleeper.id, other)
        assert not low.inspect_network(other)["Containers"]
        network.disconnect(sleeper, force=True)
        low.remove_network(other)
        kept = {"label": ["nobody=has it"]}
        assert client.networks.prune(filters=kept) == low.prune_networks(filters=kept) == {"NetworksDeleted": None}
    finally:
        network.reload()
        network.remove()
    with pytest.raises(docker.errors.NotFound, match="network py-one not found"):
        client.networks.get("py-one")


def test_every_public_method_was_called(request: pytest.FixtureRequest, engine: EngineUnderTest) -> None:
    here = [item for item in request.session.items if item.path == request.path]
    everything = len([name for name in vars(request.module) if name.startswith("test_")])
    if len(here) < everything:
        pytest.skip("only the whole file calls everything")
    expected = {name for kind in SURFACE for name in _public(kind)}
    assert len(expected) > 70
    if docker_info(engine)["CgroupDriver"] == "none":
        expected -= {f"{kind}.{verb}" for kind in ("Container", "ContainerApiMixin") for verb in ("pause", "unpause")}
    assert expected - called == set()
