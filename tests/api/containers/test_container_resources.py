"""What containers are given: volumes, ports, networks, limits, identity."""

from __future__ import annotations

import io
import re
import socket
import time
import urllib.request
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.errors import APIError
from docker.types import LogConfig, Mount, Ulimit

# --- volumes and binds -----------------------------------------------------------------------------------------------


@pytest.fixture(name="volume_image")
def _volume_image(client: docker.DockerClient, busybox: str) -> str:
    """BusyBox with files of its own at a declared volume, ``/data``."""
    tag = "with-volume:latest"
    if not client.images.list(name=tag):
        text = (
            f"FROM {busybox}\n"
            "RUN mkdir -p /data/deep && echo image >/data/deep/file && chown -R 33:33 /data && chmod 2750 /data\n"
            "VOLUME /data\n"
        )
        client.images.build(fileobj=io.BytesIO(text.encode()), tag=tag)
    return tag


def test_an_anonymous_volume_is_filled_from_the_image_once(run: Any, volume_image: str) -> None:
    container = run("cat /data/deep/file; stat -c '%a %u:%g' /data; echo changed >/data/deep/file", image=volume_image)
    container.wait()
    assert container.logs() == b"image\n2750 33:33\n"
    container.start()
    container.wait()
    assert container.logs().splitlines()[2] == b"changed"
    (mount,) = container.attrs["Mounts"] or [None]
    assert (mount["Type"], mount["Destination"], mount["Driver"]) == ("volume", "/data", "local")
    assert len(mount["Name"]) == 64


def test_volumes_go_with_their_container_only_when_asked_and_anonymous(
    client: docker.DockerClient, run: Any, volume_image: str
) -> None:
    kept = run("true", image=volume_image)
    kept.wait()
    kept.reload()
    name = kept.attrs["Mounts"][0]["Name"]
    kept.remove()
    client.volumes.get(name).remove()
    gone = run("true", image=volume_image, volumes={"named-one": {"bind": "/more", "mode": "rw"}})
    gone.wait()
    gone.reload()
    names = {mount["Destination"]: mount["Name"] for mount in gone.attrs["Mounts"]}
    gone.remove(v=True)
    with pytest.raises(docker.errors.NotFound):
        client.volumes.get(names["/data"])
    client.volumes.get("named-one").remove()


def test_a_named_volume_survives_and_is_shared(client: docker.DockerClient, output: Any) -> None:
    mounts = {"shared-data": {"bind": "/d", "mode": "rw"}}
    try:
        output("echo kept >/d/file", volumes=mounts)
        assert output("cat /d/file", volumes=mounts) == "kept\n"
        assert "Read-only file system" in output("touch /d/x", volumes={"shared-data": {"bind": "/d", "mode": "ro"}})
    finally:
        client.volumes.get("shared-data").remove()


def test_a_volume_can_stay_empty(client: docker.DockerClient, output: Any, volume_image: str) -> None:
    try:
        assert output("ls /data", image=volume_image, volumes={"bare": {"bind": "/data", "mode": "nocopy"}}) == ""
    finally:
        client.volumes.get("bare").remove()


def test_a_volume_in_use_cannot_be_removed(client: docker.DockerClient, run: Any) -> None:
    container = run("true", volumes={"in-use": {"bind": "/d", "mode": "rw"}})
    with pytest.raises(APIError, match="volume is in use"):
        client.volumes.get("in-use").remove()
    container.wait()
    container.remove()
    client.volumes.get("in-use").remove()


def test_a_bind_makes_missing_directories_and_shows_the_hosts_files(tmp_path: Path, output: Any) -> None:
    source = tmp_path / "not" / "there"
    assert output("ls -A /h; echo from inside >/h/file", volumes=[f"{source}:/h"]) == ""
    assert (source / "file").read_text() == "from inside\n"
    assert "Read-only file system" in output("touch /h/x", volumes=[f"{source}:/h:ro"])
    assert output("cat /one", volumes=[f"{source}/file:/one:ro"]) == "from inside\n"


def test_a_bind_that_vanished_fails_the_start(client: docker.DockerClient, busybox: str, tmp_path: Path) -> None:
    source = tmp_path / "gone"
    source.mkdir()
    mount = docker.types.Mount("/h", str(source), type="bind")
    container = client.containers.create(busybox, ["true"], mounts=[mount])
    source.rmdir()
    with pytest.raises(APIError, match="bind source path does not exist"):
        container.start()


def test_volumes_of_another_container(client: docker.DockerClient, run: Any, output: Any) -> None:
    owner = run("echo x >/d/file", volumes={"of-another": {"bind": "/d", "mode": "rw"}})
    owner.wait()
    assert output("cat /d/file", volumes_from=[owner.id]) == "x\n"
    assert "Read-only file system" in output("touch /d/y", volumes_from=[f"{owner.id}:ro"])
    owner.remove()
    client.volumes.get("of-another").remove()


def test_the_long_form_of_mounts(client: docker.DockerClient, tmp_path: Path, output: Any) -> None:
    mounts = [
        Mount("/bind", str(tmp_path), type="bind", read_only=True),
        Mount("/vol", "long-form", type="volume", labels={"a": "b"}),
        Mount("/mem", None, type="tmpfs", tmpfs_size=1 << 20, tmpfs_mode=0o700),
    ]
    text = output("touch /bind/x; stat -c %a /mem; df -k /mem | tail -1", mounts=mounts)
    assert "Read-only file system" in text
    assert "700\n" in text
    assert " 1024 " in text
    volume = client.volumes.get("long-form")
    assert volume.attrs["Labels"] == {"a": "b"}
    volume.remove()


# --- ports -----------------------------------------------------------------------------------------------------------

SERVER = "mkdir -p /w && echo hello >/w/index.html && httpd -f -p 80 -h /w"


def _fetch(port: int, until: Any) -> bytes:
    def attempt() -> bytes:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=2) as answer:  # a literal scheme
                return bytes(answer.read())
        except OSError:
            return b""

    return bytes(until(attempt))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_published_port_answers_on_this_machine(run: Any, until: Any) -> None:
    port = _free_port()
    container = run(SERVER, ports={"80/tcp": port})
    assert _fetch(port, until) == b"hello\n"
    container.reload()
    bindings = container.attrs["NetworkSettings"]["Ports"]["80/tcp"]
    assert {"HostIp": "0.0.0.0", "HostPort": str(port)} in bindings


def test_all_exposed_ports_can_be_published_anywhere(client: docker.DockerClient, busybox: str, until: Any) -> None:
    made = client.api.create_container(
        busybox,
        ["sh", "-c", SERVER],
        ports=[80, (5353, "udp")],
        host_config=client.api.create_host_config(publish_all_ports=True),
    )["Id"]
    client.api.start(made)
    ports = client.api.inspect_container(made)["NetworkSettings"]["Ports"]
    assert set(ports) == {"80/tcp", "5353/udp"}
    assert _fetch(int(ports["80/tcp"][0]["HostPort"]), until) == b"hello\n"
    listed = client.api.containers(filters={"id": made})[0]["Ports"]
    assert {entry["PrivatePort"] for entry in listed} == {80, 5353}


def test_an_exposed_port_is_listed_but_not_published(api: Any, busybox: str) -> None:
    body = {"Image": busybox, "Cmd": ["sleep", "60"], "ExposedPorts": {"80/tcp": {}}}
    container = api("POST", "/containers/create", body).json["Id"]
    api("POST", f"/containers/{container}/start")
    assert api("GET", f"/containers/{container}/json").json["NetworkSettings"]["Ports"] == {"80/tcp": None}


def test_a_taken_port_fails_the_start_and_is_free_again_after_a_stop(
    api: Any, client: docker.DockerClient, run: Any, busybox: str, until: Any
) -> None:
    port = _free_port()
    first = run(SERVER, ports={"80/tcp": port})
    second = client.containers.create(busybox, ["sh", "-c", SERVER], ports={"80/tcp": port})
    answer = api("POST", f"/containers/{second.id}/start")
    assert answer.status == 500
    assert f"Bind for 0.0.0.0:{port} failed: port is already allocated" in answer.message
    second.reload()
    assert second.status == "created"
    first.stop(timeout=0)
    second.start()
    assert _fetch(port, until) == b"hello\n"
    with pytest.raises(APIError):
        first.start()


# --- networks --------------------------------------------------------------------------------------------------------


def test_without_a_network_there_is_only_loopback(output: Any) -> None:
    text = output("ip -o link | cut -d: -f2; cat /etc/hosts", network_mode="none")
    assert text.splitlines()[0].strip() == "lo"
    assert "eth0" not in text


def test_the_hosts_network(output: Any) -> None:
    text = output("ip -o link | cut -d: -f2; hostname; cat /etc/hosts", network_mode="host")
    assert {name for _, name in socket.if_nameindex()} >= {"lo"}
    assert "lo" in {line.strip() for line in text.splitlines()}
    assert socket.gethostname() in text
    assert Path("/etc/hosts").read_text().splitlines()[0] in text


def test_the_network_of_another_container_is_shared_with_its_name(run: Any, output: Any) -> None:
    server = run(SERVER, hostname="server")
    server.reload()
    address = server.attrs["NetworkSettings"]["IPAddress"]
    script = "for i in 1 2 3 4 5 6 7 8 9; do wget -qO- http://127.0.0.1/ && break; sleep 0.1; done; hostname; cat /etc/hosts"
    text = output(script, network_mode=f"container:{server.id}")
    assert "hello\n" in text
    assert "server\n" in text
    assert f"{address}\tserver" in text


def test_the_network_of_a_stopped_container_cannot_be_shared(api: Any, client: docker.DockerClient, busybox: str) -> None:
    other = client.containers.create(busybox, ["true"])
    container = client.containers.create(busybox, ["true"], network_mode=f"container:{other.id}")
    answer = api("POST", f"/containers/{container.id}/start")
    assert answer.status == 409
    assert "non running container" in answer.message


def test_containers_reach_each_other_by_address(run: Any, output: Any) -> None:
    server = run(SERVER)
    server.reload()
    address = server.attrs["NetworkSettings"]["IPAddress"]
    assert "hello" in output(f"for i in 1 2 3 4 5 6 7 8 9; do wget -qO- http://{address}/ && break; sleep 0.1; done")


def test_an_address_is_shown_while_the_container_runs(run: Any) -> None:
    container = run(["sleep", "60"])
    container.reload()
    network = container.attrs["NetworkSettings"]["Networks"]["bridge"]
    assert network["IPAddress"]
    assert network["Gateway"]
    container.kill()
    container.wait()
    container.reload()
    assert container.attrs["NetworkSettings"]["Networks"]["bridge"]["IPAddress"] == ""


# --- limits ----------------------------------------------------------------------------------------------------------


def _cgroup_value(container_id: str, controller: str, *names: str) -> str:
    """A value of the container's cgroup, whichever version the machine has."""
    for name in names:
        for root in (f"/sys/fs/cgroup/{controller}/kitepy", "/sys/fs/cgroup/kitepy"):
            path = Path(root, container_id, name)
            if path.exists():
                return path.read_text().strip()
    raise AssertionError(f"none of {names} exists for {container_id}")


@pytest.mark.needs("limits")
def test_limits_reach_the_kernel(run: Any) -> None:
    container = run(["sleep", "60"], mem_limit="64m", nano_cpus=500_000_000, pids_limit=33, cpu_shares=256, cpuset_cpus="0")
    assert _cgroup_value(container.id, "memory", "memory.limit_in_bytes", "memory.max") == str(64 << 20)
    assert _cgroup_value(container.id, "pids", "pids.max") == "33"
    assert _cgroup_value(container.id, "cpuset", "cpuset.cpus") == "0"
    quota = _cgroup_value(container.id, "cpu", "cpu.cfs_quota_us", "cpu.max")
    assert quota.split()[0] == "50000"


@pytest.mark.needs("limits")
def test_a_limit_of_processes_holds(output: Any) -> None:
    text = output("for i in 1 2 3 4 5 6 7 8 9; do sleep 1 & done; wait", pids_limit=5)
    assert "can't fork" in text


@pytest.mark.needs("limits")
def test_a_process_that_eats_too_much_memory_is_killed_and_that_is_told(client: docker.DockerClient, run: Any) -> None:
    began = int(time.time()) - 1
    container = run(
        "head -c 200m /dev/zero | tail >/dev/null; exec tail /dev/zero", mem_limit="16m", memswap_limit="16m", network_mode="none"
    )
    assert container.wait(timeout=30)["StatusCode"] == 137
    container.reload()
    assert container.attrs["State"]["OOMKilled"] is True
    past = client.events(since=began, until=int(time.time()) + 1, decode=True, filters={"container": container.id})
    assert "oom" in [event["Action"] for event in past]


@pytest.mark.needs("limits")
def test_it_is_told_at_once_that_a_process_ran_out_of_memory(run: Any, events: Any) -> None:
    container = run("[ -e /survived ] || tail /dev/zero; touch /survived; sleep 60", mem_limit="16m", memswap_limit="16m")
    assert events.actions(container.id, ending="oom") == ["create", "start", "oom"]
    container.reload()
    assert (container.status, container.attrs["State"]["OOMKilled"]) == ("running", True)
    assert container.exec_run(["ls", "/survived"]).exit_code == 0
    container.kill()
    assert container.wait()["StatusCode"] == 137
    container.reload()
    assert container.attrs["State"]["OOMKilled"]
    assert events.actions(container.id, ending="die").count("oom") == 1
    container.start()
    container.reload()
    assert not container.attrs["State"]["OOMKilled"]


@pytest.mark.needs("limits")
def test_limits_can_be_changed_while_it_runs(run: Any) -> None:
    container = run(["sleep", "60"], mem_limit="64m")
    container.update(mem_limit="32m", memswap_limit="64m")
    assert _cgroup_value(container.id, "memory", "memory.limit_in_bytes", "memory.max") == str(32 << 20)
    container.reload()
    assert container.attrs["HostConfig"]["Memory"] == 32 << 20


def test_the_cgroup_is_gone_after_the_end(run: Any, until: Any) -> None:
    container = run("true")
    container.wait()
    until(lambda: not list(Path("/sys/fs/cgroup").glob(f"*/kitepy/{container.id}")))


def test_ulimits_are_set(output: Any) -> None:
    assert output("ulimit -n; ulimit -Hn", ulimits=[Ulimit(name="nofile", soft=64, hard=128)]) == "64\n128\n"
    assert output("ulimit -c", ulimits=[Ulimit(name="core", soft=0, hard=0)]) == "0\n"


def test_a_ulimit_above_what_this_machine_allows_is_a_clear_error(api: Any, client: docker.DockerClient, busybox: str) -> None:
    mask = int(re.search(r"CapEff:\s*([0-9a-f]+)", Path("/proc/self/status").read_text())[1], 16)  # type: ignore[index]
    if mask & (1 << 24):
        pytest.skip("the engine may raise hard limits here (CAP_SYS_RESOURCE)")
    container = client.containers.create(busybox, ["true"], ulimits=[Ulimit(name="nofile", soft=1, hard=1 << 30)])
    answer = api("POST", f"/containers/{container.id}/start")
    assert answer.status in (400, 500)
    assert "nofile" in answer.message.lower()


# --- identity --------------------------------------------------------------------------------------------------------


def test_a_read_only_root_keeps_what_was_meant_to_be_written_writable(output: Any) -> None:
    script = "touch /x; touch /etc/hosts; touch /dev/shm/ok && touch /t/ok && echo written"
    text = output(script, read_only=True, tmpfs={"/t": ""})
    assert text.count("Read-only file system") == 2
    assert text.endswith("written\n")


@pytest.mark.parametrize(
    ("user", "identity"),
    [
        ("", "uid=0(root) gid=0(root)"),
        ("nobody", "uid=65534(nobody) gid=65534(nogroup)"),
        ("1234", "uid=1234 gid=0(root)"),
        ("1234:5678", "uid=1234 gid=5678"),
        ("33:nogroup", "uid=33(www-data) gid=65534(nogroup)"),
    ],
)
def test_users(output: Any, user: str, identity: str) -> None:
    assert output("id", user=user).startswith(identity)


def test_groups_can_be_added(output: Any) -> None:
    assert "groups=0(root),33(www-data),777" in output("id", group_add=["www-data", "777"])


def test_names(output: Any) -> None:
    assert output("hostname; cat /etc/hostname", hostname="box") == "box\nbox\n"
    assert "10.1.2.3\tdb" in output("cat /etc/hosts", extra_hosts={"db": "10.1.2.3"})
    resolv = output("grep -v '^#' /etc/resolv.conf", dns=["9.9.9.9"], dns_search=["example.org"], dns_opt=["ndots:2"])
    assert resolv == "\nnameserver 9.9.9.9\nsearch example.org\noptions ndots:2\n\n"


def test_a_hostname_defaults_to_the_short_id(run: Any) -> None:
    container = run("hostname")
    container.wait()
    assert container.logs().decode().strip() == container.id[:12]


def test_tmpfs(output: Any) -> None:
    text = output("grep ' /t ' /proc/mounts; cp /bin/busybox /t/x; /t/x true", tmpfs={"/t": "size=4m,mode=1777"})
    assert "size=4096k" in text
    assert "noexec" in text
    assert "Permission denied" in text


def test_shared_memory_has_the_wanted_size(output: Any) -> None:
    assert " 131072 " in output("df -k /dev/shm", shm_size="128m")


def test_kernel_settings(output: Any) -> None:
    assert output(
        "cat /proc/sys/net/ipv4/ip_local_port_range", sysctls={"net.ipv4.ip_local_port_range": "2000 3000"}
    ).split() == [
        "2000",
        "3000",
    ]


def test_a_device_is_usable(output: Any) -> None:
    text = output("head -c 3 /dev/nil | wc -c; ls -l /dev/nil", devices=["/dev/zero:/dev/nil:r"])
    assert text.startswith("3\n")
    assert "1,   5" in text


def test_an_own_log_of_none_keeps_no_file(run: Any, engine: Any) -> None:
    container = run("echo x", log_config=LogConfig(type="none", config={}))
    container.wait()
    container.reload()
    assert container.attrs["LogPath"] == ""
    assert not list((engine.data_root / "containers" / container.id).glob("*.log*"))


def test_the_working_directory_is_made(output: Any) -> None:
    assert output("pwd", working_dir="/made/up") == "/made/up\n"


def test_the_pid_namespace_of_another_container(run: Any, output: Any) -> None:
    other = run(["sleep", "61"])
    assert "sleep 61" in output("ps", pid_mode=f"container:{other.id}")
