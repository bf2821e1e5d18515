"""Each option of docker-py's ``create_host_config`` and ``containers.run``, as inspect gives it back; none may be left out."""

from __future__ import annotations

import inspect
from typing import Any

import docker
import pytest
from docker.models.containers import RUN_CREATE_KWARGS, RUN_HOST_CONFIG_KWARGS
from docker.types import DriverConfig, Healthcheck, HostConfig, LogConfig, Mount, Ulimit
from support.images import busybox_archive

LIMITS = pytest.mark.needs("limits")


@pytest.fixture(name="box")
def _box(client: docker.DockerClient) -> str:
    return str(client.images.load(busybox_archive("box:latest"))[0].tags[0])


# Option, value, member of inspect's HostConfig, what it holds.
HOST_OPTIONS: list[Any] = [
    ("auto_remove", True, "AutoRemove", True),
    ("binds", {"/tmp": {"bind": "/mnt", "mode": "ro"}}, "Binds", ["/tmp:/mnt:ro"]),
    ("cap_add", ["SYS_ADMIN"], "CapAdd", ["SYS_ADMIN"]),
    ("cap_drop", ["NET_RAW"], "CapDrop", ["NET_RAW"]),
    ("cgroupns", "host", "CgroupnsMode", "host"),
    pytest.param("cpu_period", 50000, "CpuPeriod", 50000, marks=LIMITS),
    pytest.param("cpu_quota", 25000, "CpuQuota", 25000, marks=LIMITS),
    pytest.param("cpu_shares", 512, "CpuShares", 512, marks=LIMITS),
    pytest.param("cpuset_cpus", "0", "CpusetCpus", "0", marks=LIMITS),
    pytest.param("cpuset_mems", "0", "CpusetMems", "0", marks=LIMITS),
    pytest.param("nano_cpus", 500_000_000, "NanoCpus", 500_000_000, marks=LIMITS),
    pytest.param("mem_limit", "64m", "Memory", 64 << 20, marks=LIMITS),
    pytest.param("mem_reservation", "32m", "MemoryReservation", 32 << 20, marks=LIMITS),
    pytest.param("pids_limit", 50, "PidsLimit", 50, marks=LIMITS),
    ("dns", ["10.1.1.1"], "Dns", ["10.1.1.1"]),
    ("dns_opt", ["ndots:2"], "DnsOptions", ["ndots:2"]),
    ("dns_search", ["example.org"], "DnsSearch", ["example.org"]),
    ("extra_hosts", {"a.example": "10.1.1.1"}, "ExtraHosts", ["a.example:10.1.1.1"]),
    ("group_add", ["33", 777], "GroupAdd", ["33", "777"]),
    ("ipc_mode", "shareable", "IpcMode", "shareable"),
    ("isolation", "default", "Isolation", "default"),
    (
        "log_config",
        LogConfig(type="json-file", config={"max-size": "1m"}),
        "LogConfig",
        {"Type": "json-file", "Config": {"max-size": "1m"}},
    ),
    ("network_mode", "none", "NetworkMode", "none"),
    ("oom_score_adj", 500, "OomScoreAdj", 500),
    ("pid_mode", "host", "PidMode", "host"),
    ("port_bindings", {80: ("127.0.0.1", 45680)}, "PortBindings", {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "45680"}]}),
    ("privileged", True, "Privileged", True),
    ("publish_all_ports", True, "PublishAllPorts", True),
    ("read_only", True, "ReadonlyRootfs", True),
    (
        "restart_policy",
        {"Name": "on-failure", "MaximumRetryCount": 2},
        "RestartPolicy",
        {"Name": "on-failure", "MaximumRetryCount": 2},
    ),
    ("security_opt", ["no-new-privileges"], "SecurityOpt", ["no-new-privileges"]),
    ("shm_size", "8m", "ShmSize", 8 << 20),
    ("sysctls", {"net.core.somaxconn": "333"}, "Sysctls", {"net.core.somaxconn": "333"}),
    ("tmpfs", {"/t": "size=64k"}, "Tmpfs", {"/t": "size=64k"}),
    ("ulimits", [Ulimit(name="nofile", soft=100, hard=200)], "Ulimits", [{"Name": "nofile", "Soft": 100, "Hard": 200}]),
    ("userns_mode", "host", "UsernsMode", "host"),
    ("uts_mode", "host", "UTSMode", "host"),
    ("volume_driver", "local", "VolumeDriver", "local"),
    (
        "mounts",
        [Mount("/data", "opted", driver_config=DriverConfig("local"), labels={"kind": "test"})],
        "Mounts",
        [
            {
                "Type": "volume",
                "Source": "opted",
                "Target": "/data",
                "VolumeOptions": {"Labels": {"kind": "test"}, "DriverConfig": {"Name": "local"}},
            }
        ],
    ),
    (
        "devices",
        ["/dev/null:/dev/mine:rw"],
        "Devices",
        [{"PathOnHost": "/dev/null", "PathInContainer": "/dev/mine", "CgroupPermissions": "rw"}],
    ),
    pytest.param("device_cgroup_rules", ["c 1:3 rwm"], "DeviceCgroupRules", ["c 1:3 rwm"], marks=LIMITS),
]
ELSEWHERE = {
    # Not of Linux, or gone from the API: nothing comes of them, and docker-py refuses some itself.
    "cpu_count", "cpu_percent", "lxc_conf", "init_path", "kernel_memory", "cpu_rt_period", "cpu_rt_runtime",
    # What this machine's kernel may not have, or another engine's plugins.
    "blkio_weight", "blkio_weight_device", "device_read_bps", "device_read_iops", "device_write_bps", "device_write_iops",
    "mem_swappiness", "oom_kill_disable", "cgroup_parent", "device_requests", "storage_opt", "runtime", "links",
    # In tests of their own below.
    "init", "volumes_from", "memswap_limit", "version",
}  # fmt: skip


@pytest.mark.parametrize(("option", "value", "member", "expected"), HOST_OPTIONS)
def test_an_option_of_the_host_configuration_comes_back(
    client: docker.DockerClient, box: str, option: str, value: Any, member: str, expected: Any
) -> None:
    low = client.api
    made = low.create_container(box, ["true"], host_config=low.create_host_config(**{option: value}))
    try:
        assert low.inspect_container(made)["HostConfig"][member] == expected
    finally:
        low.remove_container(made)
        if option == "mounts":
            low.remove_volume("opted")


def test_no_option_is_left_out() -> None:
    tried = {(item.values if hasattr(item, "values") else item)[0] for item in HOST_OPTIONS}
    signature = set(inspect.signature(HostConfig.__init__).parameters) - {"self"}
    assert signature - tried - ELSEWHERE == set()
    assert set(RUN_HOST_CONFIG_KWARGS) - tried - ELSEWHERE == set()
    assert set(RUN_CREATE_KWARGS) - set(RUN_OPTIONS) - {"command", "image", "detach", "network_disabled", "mac_address"} == set()


RUN_OPTIONS: dict[str, Any] = {
    "domainname": "dom.example",
    "entrypoint": ["sh", "-c"],
    "environment": {"WORD": "spoken", "EMPTY": ""},
    "healthcheck": Healthcheck(test=["CMD", "true"], interval=1_000_000_000),
    "hostname": "named",
    "labels": {"a": "b"},
    "name": "every-option",
    "platform": "linux",
    "stdin_open": True,
    "stop_signal": "USR1",
    "tty": True,
    "use_config_proxy": False,
    "user": "nobody",
    "working_dir": "/tmp",
}


def test_run_passes_all_its_parameters_on(client: docker.DockerClient, box: str) -> None:
    script = "echo $WORD; pwd; id -un; hostname; ls /t; exec sleep 600"
    made = client.containers.run(
        box,
        [script],
        detach=True,
        **RUN_OPTIONS,
        ports={"80/tcp": ("127.0.0.1", None), 53: None},
        volumes={"run-volume": {"bind": "/v", "mode": "rw"}},
        tmpfs={"/t": ""},
        group_add=["33"],
        extra_hosts={"a.example": "10.1.1.1"},
        ulimits=[Ulimit(name="nofile", soft=100, hard=200)],
        restart_policy={"Name": "on-failure", "MaximumRetryCount": 1},
        security_opt=["no-new-privileges"],
        read_only=True,
        cap_drop=["ALL"],
        shm_size="4m",
        network_mode="bridge",
    )
    config, host = made.attrs["Config"], made.attrs["HostConfig"]
    assert (config["Hostname"], config["Domainname"], config["User"]) == ("named", "dom.example", "nobody")
    assert (config["WorkingDir"], config["StopSignal"], config["Tty"], config["OpenStdin"]) == ("/tmp", "USR1", True, True)
    assert config["Entrypoint"] == ["sh", "-c"]
    assert {"WORD=spoken", "EMPTY="} <= set(config["Env"])
    assert config["Healthcheck"]["Interval"] == 1_000_000_000
    assert set(config["ExposedPorts"]) == {"80/tcp", "53/tcp"}
    assert host["PortBindings"]["80/tcp"][0]["HostIp"] == "127.0.0.1"
    assert (host["ReadonlyRootfs"], host["CapDrop"], host["ShmSize"]) == (True, ["ALL"], 4 << 20)
    lines: list[bytes] = []
    for line in made.logs(stream=True):
        lines += line.splitlines()
        if len(b"".join(lines)) >= len(b"spoken/tmpnobodynamed"):
            break
    assert b"".join(lines).startswith(b"spoken/tmpnobodynamed")
    made.remove(force=True, v=True)
    client.volumes.get("run-volume").remove()


def test_volumes_come_from_another_container(client: docker.DockerClient, box: str) -> None:
    first = client.containers.run(box, ["true"], detach=True, volumes=["/shared"])
    second = client.containers.run(box, ["true"], detach=True, volumes_from=[first.id])
    assert [mount["Destination"] for mount in second.attrs["Mounts"]] == ["/shared"]


def test_a_container_without_a_network(client: docker.DockerClient, box: str) -> None:
    assert client.containers.run(box, ["ls", "/sys/class/net"], network_disabled=True, remove=True) == b"lo\n"


@pytest.mark.needs("limits")
def test_memory_and_swap_go_together(client: docker.DockerClient, box: str) -> None:
    made = client.containers.create(box, ["true"], mem_limit="64m", memswap_limit="128m")
    assert made.attrs["HostConfig"]["MemorySwap"] == 128 << 20
    with pytest.raises(docker.errors.APIError) as refused:
        client.containers.create(box, ["true"], mem_limit="64m", memswap_limit="32m")
    assert refused.value.status_code == 400
