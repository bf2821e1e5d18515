"""The OCI document of a container, as a value."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kitepy.engine.model.container import ContainerRecord, MountKind, MountPoint
from kitepy.engine.model.container_config import ContainerConfig, HostConfig, Ulimit
from kitepy.engine.model.errors import InvalidParameter, Unsupported
from kitepy.engine.services.accounts import Account
from kitepy.engine.services.capability_sets import DEFAULT_CAPABILITIES
from kitepy.engine.services.container_request import MASKED_PATHS, READONLY_PATHS, fill_host_config
from kitepy.engine.services.process_spec import HostDevice, Surroundings, build_environment, build_spec

AROUND = Surroundings(Path("/b/rootfs"), Path("/c"), Account(home="/root"), "box", own_network=True)


def spec(
    *, config: ContainerConfig | None = None, mounts: tuple[MountPoint, ...] = (), around: Surroundings = AROUND, **host: Any
) -> dict[str, Any]:
    record = ContainerRecord(
        id="c1",
        name="web",
        created_ns=0,
        image_id="i",
        image_reference="x",
        config=config or ContainerConfig(cmd=["sh"]),
        host_config=fill_host_config(HostConfig(**host)),
        platform="linux",
        layers=(),
        mounts=mounts,
    )
    return build_spec(record, around)


def mount_at(document: dict[str, Any], destination: str) -> dict[str, Any]:
    (found,) = [mount for mount in document["mounts"] if mount["destination"] == destination]
    return dict(found)


# --- defaults --------------------------------------------------------------------------------------------------------


def test_a_default_container_has_every_namespace_of_its_own() -> None:
    namespaces = spec()["linux"]["namespaces"]
    assert {entry["type"] for entry in namespaces} == {"mount", "network", "uts", "pid", "ipc", "cgroup"}
    assert not any("path" in entry for entry in namespaces)


def test_a_default_process() -> None:
    process = spec()["process"]
    assert process["args"] == ["sh"]
    assert process["cwd"] == "/"
    assert process["user"] == {"uid": 0, "gid": 0, "additionalGids": [0]}
    assert process["terminal"] is False
    assert process["noNewPrivileges"] is False
    assert process["rlimits"] == []
    assert process["oomScoreAdj"] == 0
    for kind in ("bounding", "effective", "permitted"):
        assert set(process["capabilities"][kind]) == set(DEFAULT_CAPABILITIES)
    assert process["capabilities"]["inheritable"] == process["capabilities"]["ambient"] == []


def test_default_paths_are_masked_and_read_only() -> None:
    linux = spec()["linux"]
    assert linux["maskedPaths"] == list(MASKED_PATHS)
    assert linux["readonlyPaths"] == list(READONLY_PATHS)


def test_default_mounts_give_no_way_to_the_host() -> None:
    document = spec()
    assert [mount["destination"] for mount in document["mounts"]] == [
        *("/proc", "/dev", "/dev/pts", "/sys", "/sys/fs/cgroup", "/dev/mqueue", "/dev/shm"),
        *("/etc/resolv.conf", "/etc/hostname", "/etc/hosts"),
    ]
    assert "ro" in mount_at(document, "/sys")["options"]
    assert "ro" in mount_at(document, "/sys/fs/cgroup")["options"]
    assert "size=67108864" in mount_at(document, "/dev/shm")["options"]
    assert document["linux"]["rootfsPropagation"] == "rprivate"


def test_default_devices_are_those_of_docker() -> None:
    linux = spec()["linux"]
    assert linux["devices"] == []
    rules = linux["resources"]["devices"]
    assert rules[0] == {"allow": False, "access": "rwm"}
    allowed = {(rule["type"], rule.get("major"), rule.get("minor"), rule["access"]) for rule in rules[1:]}
    assert allowed == {
        *(("c", None, None, "m"), ("b", None, None, "m")),
        *(("c", 1, minor, "rwm") for minor in (3, 5, 7, 8, 9)),
        *(("c", 5, minor, "rwm") for minor in (0, 1, 2)),
        ("c", 10, 200, "rwm"),
        ("c", 136, None, "rwm"),
    }
    assert set(linux["resources"]) == {"devices"}


# --- options ---------------------------------------------------------------------------------------------------------


def test_privileged_lifts_masks_rules_and_read_only_system_mounts() -> None:
    document = spec(privileged=True)
    linux = document["linux"]
    assert linux["maskedPaths"] == linux["readonlyPaths"] == []
    assert linux["resources"]["devices"] == [{"allow": True, "access": "rwm"}]
    assert "rw" in mount_at(document, "/sys")["options"]
    assert "CAP_SYS_ADMIN" in document["process"]["capabilities"]["effective"]


def test_a_user_that_is_not_root_keeps_only_the_bounding_set() -> None:
    around = Surroundings(Path("/b"), Path("/c"), Account(1000, 1001, (10,), "/home/app"), "box", own_network=True)
    process = spec(around=around, cap_add=["NET_ADMIN"])["process"]
    assert process["user"] == {"uid": 1000, "gid": 1001, "additionalGids": [1001, 10]}
    assert process["capabilities"]["effective"] == process["capabilities"]["permitted"] == []
    assert "CAP_NET_ADMIN" in process["capabilities"]["bounding"]


@pytest.mark.parametrize(
    ("host", "gone"),
    [
        ({"pid_mode": "host"}, "pid"),
        ({"ipc_mode": "host"}, "ipc"),
        ({"uts_mode": "host"}, "uts"),
        ({"cgroupns_mode": "host"}, "cgroup"),
    ],
)
def test_a_namespace_can_be_the_hosts(host: dict[str, str], gone: str) -> None:
    assert gone not in {entry["type"] for entry in spec(**host)["linux"]["namespaces"]}


def test_the_hosts_network_has_no_namespace_of_its_own() -> None:
    around = Surroundings(Path("/b"), Path("/c"), Account(), "box", own_network=False)
    assert "network" not in {entry["type"] for entry in spec(around=around)["linux"]["namespaces"]}


def test_a_pid_namespace_can_be_joined() -> None:
    around = Surroundings(Path("/b"), Path("/c"), Account(), "box", own_network=True, namespace_paths={"pid": "/proc/5/ns/pid"})
    namespaces = spec(around=around, pid_mode="container:x")["linux"]["namespaces"]
    assert {"type": "pid", "path": "/proc/5/ns/pid"} in namespaces


def test_a_name_is_set_only_in_an_own_uts_namespace() -> None:
    config = ContainerConfig(cmd=["sh"], hostname="box", domainname="example.org")
    document = spec(config=config)
    assert (document["hostname"], document["domainname"]) == ("box", "example.org")
    assert "hostname" not in spec(config=config, uts_mode="host")


def test_a_read_only_root_makes_the_identity_files_read_only_too() -> None:
    document = spec(readonly_rootfs=True)
    assert document["root"]["readonly"] is True
    for name in ("hosts", "hostname", "resolv.conf"):
        assert "ro" in mount_at(document, f"/etc/{name}")["options"]
    assert "ro" not in mount_at(document, "/dev/shm")["options"]


def test_the_hosts_ipc_brings_its_shared_memory_and_none_brings_none() -> None:
    assert mount_at(spec(ipc_mode="host"), "/dev/shm")["source"] == "/dev/shm"
    assert "/dev/shm" not in [mount["destination"] for mount in spec(ipc_mode="none")["mounts"]]


def test_mounts_of_the_user() -> None:
    points = (
        MountPoint(MountKind.BIND, "/bind", source="/srv", read_only=True, propagation="rslave"),
        MountPoint(MountKind.BIND, "/flat", source="/srv", propagation="rprivate", non_recursive=True),
        MountPoint(MountKind.VOLUME, "/data", volume="v"),
        MountPoint(MountKind.TMPFS, "/tmp", tmpfs_options=("size=1m", "exec")),
    )
    around = Surroundings(Path("/b"), Path("/c"), Account(), "box", own_network=True, sources={"/data": "/volumes/v/_data"})
    document = spec(mounts=points, around=around)
    assert mount_at(document, "/bind")["options"] == ["rbind", "rslave", "rro"]
    assert mount_at(document, "/flat")["options"] == ["bind", "rprivate"]
    assert mount_at(document, "/data")["source"] == "/volumes/v/_data"
    assert mount_at(document, "/tmp")["options"] == ["noexec", "nosuid", "nodev", "size=1m", "exec"]
    assert document["linux"]["rootfsPropagation"] == "rslave"


def test_a_mount_of_the_user_takes_the_place_of_a_default_one() -> None:
    document = spec(mounts=(MountPoint(MountKind.BIND, "/etc/hosts", source="/mine"),))
    assert mount_at(document, "/etc/hosts")["source"] == "/mine"


def test_limits_become_resources() -> None:
    resources = spec(
        memory=64 << 20, memory_reservation=32 << 20, nano_cpus=1_500_000_000, cpu_shares=512, cpuset_cpus="0",
        pids_limit=50, blkio_weight=100, oom_kill_disable=True, memory_swappiness=0,
    )["linux"]["resources"]  # fmt: skip
    assert resources["memory"] == {
        "limit": 64 << 20, "swap": 128 << 20, "reservation": 32 << 20, "swappiness": 0, "disableOOMKiller": True
    }  # fmt: skip
    assert resources["cpu"] == {"shares": 512, "period": 100_000, "quota": 150_000, "cpus": "0"}
    assert resources["pids"] == {"limit": 50}
    assert resources["blockIO"] == {"weight": 100}


@pytest.mark.parametrize("limit", [None, 0, -1])
def test_no_limit_of_processes_is_no_limit(limit: int | None) -> None:
    assert "pids" not in spec(pids_limit=limit)["linux"]["resources"]


def test_devices_are_made_and_allowed() -> None:
    around = Surroundings(
        Path("/b"), Path("/c"), Account(), "box", own_network=True,
        devices=(HostDevice("/dev/fuse", "/dev/fuse", "c", 10, 229, 0o666, 0, 0, "rw"),),
    )  # fmt: skip
    linux = spec(around=around, device_cgroup_rules=["b 8:* r", "c 1:11 rw"])["linux"]
    assert linux["devices"][0]["path"] == "/dev/fuse"
    assert linux["resources"]["devices"][-3:] == [
        {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rw"},
        {"allow": True, "type": "b", "major": 8, "access": "r"},
        {"allow": True, "type": "c", "major": 1, "minor": 11, "access": "rw"},
    ]


@pytest.mark.parametrize("rule", ["", "c", "c 1:3", "x 1:3 r", "c 1 r", "c a:3 r", "c 1:3 x", "c 1:3 ", "c 1:3 rwmr"])
def test_malformed_device_rules_are_refused(rule: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid device cgroup rule format"):
        spec(device_cgroup_rules=[rule])


def test_a_rule_that_allows_every_device_is_refused() -> None:
    with pytest.raises(Unsupported, match="--privileged"):
        spec(device_cgroup_rules=["a *:* rwm"])


def test_ulimits() -> None:
    process = spec(ulimits=[Ulimit(name="nofile", soft=10, hard=20), Ulimit(name="core", soft=-1, hard=-1)])["process"]
    assert process["rlimits"] == [
        {"type": "RLIMIT_NOFILE", "soft": 10, "hard": 20},
        {"type": "RLIMIT_CORE", "soft": 2**64 - 1, "hard": 2**64 - 1},
    ]
    with pytest.raises(InvalidParameter, match="invalid ulimit type: rude"):
        spec(ulimits=[Ulimit(name="rude")])


@pytest.mark.parametrize("name", ["net.ipv4.ip_forward", "kernel.shmmax", "kernel.msgmax", "fs.mqueue.msg_max", "net/core/x"])
def test_settings_of_own_namespaces_may_be_changed(name: str) -> None:
    assert spec(sysctls={name: "1"})["linux"]["sysctl"] == {name: "1"}


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ({}, "kernel.panic"),
        ({}, "vm.swappiness"),
        ({}, "fs.file-max"),
        ({"ipc_mode": "host"}, "kernel.shmmax"),
        ({"ipc_mode": "host"}, "fs.mqueue.msg_max"),
        ({"uts_mode": "host"}, "kernel.domainname"),
    ],
)
def test_settings_of_the_host_may_not_be_changed(host: dict[str, str], name: str) -> None:
    with pytest.raises(InvalidParameter, match=f"sysctl '{name}' is not allowed"):
        spec(sysctls={name: "1"}, **host)


def test_the_hosts_network_settings_may_not_be_changed() -> None:
    around = Surroundings(Path("/b"), Path("/c"), Account(), "box", own_network=False)
    with pytest.raises(InvalidParameter, match="when the network of the host is used"):
        spec(around=around, sysctls={"net.ipv4.ip_forward": "1"})


# --- environment -----------------------------------------------------------------------------------------------------


def test_the_environment_has_defaults_that_the_user_may_change() -> None:
    assert build_environment([], hostname="box", home="/root", terminal=False) == [
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOSTNAME=box",
        "HOME=/root",
    ]
    variables = build_environment(["PATH=/x", "HOME=/y", "A=b=c"], hostname="box", home="/root", terminal=True)
    assert variables == ["PATH=/x", "HOSTNAME=box", "TERM=xterm", "HOME=/y", "A=b=c"]


def test_the_last_value_of_a_variable_holds_and_a_bare_name_removes_it() -> None:
    assert build_environment(["A=1", "A=2", "B=1", "B"], hostname="", home="/", terminal=False)[2:] == ["A=2", "HOME=/"]


def test_an_empty_home_is_replaced() -> None:
    assert "HOME=/root" in build_environment(["HOME="], hostname="", home="/root", terminal=False)


def test_a_terminals_size_is_passed_on() -> None:
    process = spec(config=ContainerConfig(cmd=["sh"], tty=True), console_size=(24, 80))["process"]
    assert process["terminal"] is True
    assert process["consoleSize"] == {"height": 24, "width": 80}
    assert "TERM=xterm" in process["env"]
    assert "consoleSize" not in spec(config=ContainerConfig(cmd=["sh"], tty=True))["process"]


def test_in_a_user_namespace_the_hosts_processes_are_shown_by_the_hosts_proc() -> None:
    around = replace(AROUND, bind_devices=True)
    assert mount_at(spec(around=around, pid_mode="host"), "/proc")["type"] == "bind"
    assert mount_at(spec(around=around), "/proc")["type"] == "proc"
    assert mount_at(spec(pid_mode="host"), "/proc")["type"] == "proc"
