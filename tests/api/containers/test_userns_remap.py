"""``--userns-remap``: a real engine of root whose containers' root is nobody on the host."""

from __future__ import annotations

import io
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.types import DriverConfig, Mount
from support.builder import pack
from support.engine import EngineUnderTest
from support.images import docker_archive, load_busybox
from support.remapping import COUNT, FIRST, SECOND, SECOND_COUNT, RemappedEngine
from support.tarballs import entry, tarball


@pytest.fixture(scope="module", name="session_engine")
def _remapped() -> Iterator[EngineUnderTest]:
    with RemappedEngine() as engine:
        client = engine.docker()
        load_busybox(client)
        client.close()
        yield engine


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def run(client: docker.DockerClient, command: str, **options: Any) -> str:
    """What a shell command says in a container that is gone afterwards."""
    output: bytes = client.containers.run("busybox:latest", ["sh", "-c", command], remove=True, stderr=True, **options)
    return output.decode()


@pytest.fixture
def sleeper(client: docker.DockerClient) -> Any:
    container = client.containers.run("busybox:latest", ["sleep", "1000"], detach=True)
    container.reload()
    return container


def test_root_of_a_container_is_an_ordinary_user_of_the_host(client: docker.DockerClient, sleeper: Any) -> None:
    pid = sleeper.attrs["State"]["Pid"]
    assert status_of(pid)["Uid"].split() == [str(FIRST)] * 4
    assert status_of(pid)["Gid"].split() == [str(FIRST)] * 4
    rows = [line.split() for line in Path(f"/proc/{pid}/uid_map").read_text().splitlines()]
    assert rows == [["0", str(FIRST), str(COUNT)], [str(COUNT), str(SECOND), str(SECOND_COUNT)]]
    assert "name=userns" in client.info()["SecurityOptions"]


def test_execs_and_health_checks_are_remapped_too(sleeper: Any) -> None:
    code, output = sleeper.exec_run(["sh", "-c", "id -u; cut -c 1-30 /proc/self/uid_map | head -1; readlink /proc/self/ns/user"])
    words = output.decode().split()
    assert (code, words[:3]) == (0, ["0", "0", str(FIRST)])
    pid = sleeper.attrs["State"]["Pid"]
    assert words[-1] == os.readlink(f"/proc/{pid}/ns/user")
    assert words[-1] != os.readlink("/proc/self/ns/user")
    code, output = sleeper.exec_run(["id", "-u"], user="1000", privileged=True)
    assert (code, output) == (0, b"1000\n")


def test_two_containers_have_user_namespaces_of_their_own(client: docker.DockerClient, sleeper: Any) -> None:
    other = client.containers.run("busybox:latest", ["sleep", "1000"], detach=True)
    other.reload()
    mine, theirs = (os.readlink(f"/proc/{found.attrs['State']['Pid']}/ns/user") for found in (sleeper, other))
    assert mine != theirs


def test_networks_names_and_ping_work(client: docker.DockerClient, sleeper: Any) -> None:
    address = sleeper.attrs["NetworkSettings"]["IPAddress"]
    text = run(
        client, f"ping -c 1 -W 5 {address} | grep -c ' 0% packet loss'; ls /sys/class/net; cat /etc/hostname | wc -c", user="0"
    )
    assert text.split() == ["1", "eth0", "lo", "13"]
    assert run(client, "ls /sys/class/net", network_mode="none").split() == ["lo"]
    assert run(client, "cat /proc/sys/net/ipv4/ip_forward", sysctls={"net.ipv4.ip_forward": "0"}).split() == ["0"]


def test_namespaces_of_another_container_are_shared_with_its_user_namespace(client: docker.DockerClient, sleeper: Any) -> None:
    text = run(
        client,
        "for n in user net pid; do readlink /proc/self/ns/$n; done; ls /sys/class/net; ps | grep -c 'sleep 100[0]'",
        network_mode=f"container:{sleeper.id}",
        pid_mode=f"container:{sleeper.id}",
    )
    pid = sleeper.attrs["State"]["Pid"]
    expected = [os.readlink(f"/proc/{pid}/ns/{name}") for name in ("user", "net", "pid")]
    assert text.split() == [*expected, "eth0", "lo", "1"]


def test_volumes_look_unmapped_inside_and_on_the_disk(client: docker.DockerClient, engine: EngineUnderTest) -> None:
    volume = client.volumes.create()
    try:
        mounts = {volume.name: {"bind": "/v", "mode": "rw"}}
        run(client, "echo kept >/v/f; chown 33:44 /v/f; mkdir /v/d", volumes=mounts)
        path = engine.data_root / "volumes" / volume.name / "_data"
        assert ((path / "f").stat().st_uid, (path / "f").stat().st_gid, (path / "d").stat().st_uid) == (33, 44, 0)
        assert run(client, "stat -c %u:%g /v/f /v; cat /v/f", volumes=mounts).split() == ["33:44", "0:0", "kept"]
        assert run(client, "stat -c %u:%g /v/f", volumes=mounts, userns_mode="host").split() == ["33:44"]
    finally:
        volume.remove(force=True)


def test_a_remapped_root_can_not_touch_what_the_hosts_root_owns(client: docker.DockerClient, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("host's")
    for directory in (tmp_path, *tmp_path.parents):
        if directory == Path("/tmp"):
            break
        directory.chmod(0o755)
    mounts = {str(tmp_path): {"bind": "/h", "mode": "rw"}}
    text = run(
        client,
        "exec 2>/dev/null; echo evil >/h/target || echo 1; chmod 4755 /h/target || echo 2; chown 0:0 /h/target || echo 3;"
        " mv /h/target /h/x || echo 4; cp /bin/busybox /h/su || echo 5; stat -c %u /h/target",
        volumes=mounts,
        cap_add=["ALL"],
        security_opt=["seccomp=unconfined"],
    )
    assert text.split() == ["1", "2", "3", "4", "5", "65534"]
    assert target.read_text() == "host's"
    # The same with the container taken out of the mapping: the test would notice.
    run(client, "echo evil >/h/target", volumes=mounts, userns_mode="host")
    assert target.read_text() == "evil\n"


def test_a_set_user_id_program_in_a_volume_is_out_of_reach_for_users_of_the_host(
    client: docker.DockerClient, engine: EngineUnderTest
) -> None:
    """On the disk it belongs to root, since ids are mapped by the mount only."""
    volume = client.volumes.create()
    try:
        run(client, "cp /bin/busybox /v/su && chmod 4755 /v/su", volumes={volume.name: {"bind": "/v", "mode": "rw"}})
        program = engine.data_root / "volumes" / volume.name / "_data" / "su"
        assert program.stat().st_uid == 0
        assert program.stat().st_mode & 0o4000
        for user in ("65534", str(FIRST)):  # anybody, and the one who is root of the container
            tried = subprocess.run(
                ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "sh", "-c", f"exec {program} id -u"],
                capture_output=True,
                text=True,
                check=False,
            )
            assert tried.returncode == 126, tried
            assert "Permission denied" in tried.stderr
    finally:
        volume.remove(force=True)


def test_an_opted_out_container_is_not_remapped(client: docker.DockerClient) -> None:
    container = client.containers.run("busybox:latest", ["sleep", "1000"], detach=True, userns_mode="host", privileged=True)
    container.reload()
    pid = container.attrs["State"]["Pid"]
    assert status_of(pid)["Uid"].split() == ["0"] * 4
    assert os.readlink(f"/proc/{pid}/ns/user") == os.readlink("/proc/self/ns/user")
    assert container.attrs["HostConfig"]["UsernsMode"] == "host"
    assert run(client, "id -u", userns_mode="host", network_mode="host", pid_mode="host").split() == ["0"]
    with pytest.raises(docker.errors.APIError, match="runs in the host's user namespace"):
        run(client, "true", network_mode=f"container:{container.id}")
    with pytest.raises(docker.errors.APIError, match="runs in the host's user namespace"):
        run(client, "true", pid_mode=f"container:{container.id}")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"privileged": True}, "privileged mode is incompatible with user namespaces"),
        ({"network_mode": "host"}, "cannot share the host's network namespace when user namespaces are enabled"),
        ({"pid_mode": "host"}, "cannot share the host PID namespace when user namespaces are enabled"),
    ],
)
def test_what_would_share_the_hosts_namespaces_is_refused(
    client: docker.DockerClient, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(docker.errors.APIError, match=message) as raised:
        client.containers.create("busybox:latest", **options)
    assert raised.value.status_code == 400


def test_an_unknown_mode_is_refused(client: docker.DockerClient) -> None:
    for mode in ("private", "container:x"):
        body = {"Image": "busybox:latest", "HostConfig": {"UsernsMode": mode}}
        answer = client.api._post_json(client.api._url("/containers/create"), data=body)
        assert (answer.status_code, "invalid user namespace mode" in answer.text or answer.text) == (400, True)


def test_the_hosts_ipc_namespace_and_devices_can_be_shared(client: docker.DockerClient) -> None:
    text = run(
        client,
        "ls -d /dev/shm; readlink /proc/self/ns/ipc; stat -c %t:%T /dev/zero2; head -c 3 /dev/zero2 | wc -c",
        ipc_mode="host",
        devices=["/dev/zero:/dev/zero2:r"],
    )
    assert text.split() == ["/dev/shm", os.readlink("/proc/self/ns/ipc"), "1:5", "3"]


def test_builds_keep_owners(client: docker.DockerClient) -> None:
    dockerfile = (
        "FROM busybox:latest\nRUN id -u >/uid; echo x >/r; mkdir /home; chown 1000:1000 /r\nCOPY --chown=5:6 f /f\n"
        "RUN --mount=type=cache,target=/c touch /c/x && stat -c %u /c/x >/cached\n"
        "RUN --mount=type=bind,source=f,target=/b stat -c %u:%g /b >/bound\nUSER 1000\nRUN id -u >/tmp/user"
    )
    image, _ = client.images.build(fileobj=io.BytesIO(pack({"Dockerfile": dockerfile, "f": "f"})), custom_context=True, rm=True)
    command = ["sh", "-c", "cat /uid /cached /bound /tmp/user; stat -c %u:%g /r /f; stat -c %u /tmp/user"]
    output = client.containers.run(image.id, command, remove=True)
    assert output.decode().split() == ["0", "0", "0:0", "1000", "1000:1000", "5:6", "1000"]
    with pytest.raises(docker.errors.BuildError, match="cannot share the host's network namespace"):
        client.images.build(
            fileobj=io.BytesIO(pack({"Dockerfile": "FROM busybox:latest\nRUN true"})), custom_context=True, network_mode="host"
        )


def test_turning_the_option_off_and_on_keeps_containers_and_survives_a_crash() -> None:
    with RemappedEngine() as engine:
        client = engine.docker()
        load_busybox(client)
        container = client.containers.run(
            "busybox:latest", ["sh", "-c", "touch /made; trap 'exit 3' TERM; while :; do sleep 0.1; done"], detach=True
        )
        engine.kill()
        engine.remap = False
        engine.start()
        container.reload()
        assert container.status == "running"
        assert container.exec_run(["cat", "/proc/self/uid_map"]).output.split()[1] == str(FIRST).encode()
        container.stop(timeout=10)
        container.start()
        container.reload()
        assert status_of(container.attrs["State"]["Pid"])["Uid"].split() == ["0"] * 4
        assert container.exec_run(["stat", "-c", "%u", "/made"]).output == b"0\n"
        assert "name=userns" not in client.info()["SecurityOptions"]
        container.kill()
        engine.stop()
        engine.remap = True
        engine.start()
        container.start()
        container.reload()
        assert status_of(container.attrs["State"]["Pid"])["Uid"].split() == [str(FIRST)] * 4
        assert container.exec_run(["stat", "-c", "%u", "/made"]).output == b"0\n"
        client.close()


def test_without_subordinate_ids_the_engine_says_how_to_get_some() -> None:
    engine = RemappedEngine()
    engine.subids.write_text("somebody:100000:65536\n")
    try:
        with pytest.raises(AssertionError, match=r"echo dockremap:165536:65536 >>/etc/subuid"):
            engine.start()
    finally:
        engine.remove_files()


def test_files_of_mounted_images_and_volumes_belong_to_the_containers_users(client: docker.DockerClient) -> None:
    layers = [tarball(entry("f", b"low", uid=0)), tarball(entry("g", b"up", uid=5, mode=0o600))]
    client.images.load(docker_archive(layers, "remapped-mount:1"))
    try:
        # docker-py has no class for these yet.
        mounts = [
            {"Type": "image", "Source": image, "Target": target}
            for image, target in (("remapped-mount:1", "/t"), ("busybox:latest", "/one"))
        ]
        script = "stat -c '%u %g' /t/f /t/g /one/bin; cat /t/g; touch /t/x; stat -c %u /v; touch /v/x && stat -c %u /v/x"
        driver = DriverConfig("local", {"type": "tmpfs", "device": "tmpfs"})
        output = run(client, f"({script}) 2>&1", mounts=[*mounts, Mount("/v", "remapped-tmpfs", driver_config=driver)])
    finally:
        client.images.remove("remapped-mount:1")
    client.volumes.get("remapped-tmpfs").remove()
    assert output == "0 0\n5 0\n0 0\nuptouch: /t/x: Read-only file system\n0\n0\n"
