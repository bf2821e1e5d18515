"""What the engine tells about itself."""

from __future__ import annotations

from pathlib import Path

from kitepy.engine.services.host_facts import HostFacts, read_host_facts
from kitepy.engine.services.system import (
    ContainerCounts,
    SystemInfo,
    SystemSettings,
    SystemSources,
    read_or_create_engine_id,
)


def _facts(**changes: object) -> HostFacts:
    facts = {
        "name": "host",
        "kernel_version": "6.1",
        "machine": "x86_64",
        "operating_system": "Debian",
        "os_version": "12",
        "cpus": 2,
        "memory_bytes": 1024,
        "cgroup_version": 2,
        "controllers": frozenset({"cpu", "cpuset", "memory", "pids"}),
        "swap_accounting": True,
        "ipv4_forwarding": True,
        "file_system": "extfs",
        "limits_problem": "",
    }
    return HostFacts(**{**facts, **changes})  # type: ignore[arg-type]  # the table above has the types


def test_numbers_and_warnings_are_asked_for_each_time() -> None:
    counts = [ContainerCounts(1, 2, 3), ContainerCounts()]
    sources = SystemSources(
        containers=lambda: counts.pop(0), images=lambda: 7, event_listeners=lambda: 1, warnings=lambda: ["no swap"]
    )
    system = SystemInfo(_facts(), SystemSettings("id", Path("/d")), sources, {})
    info = system.info()
    assert (info["Containers"], info["ContainersRunning"], info["ContainersPaused"], info["ContainersStopped"]) == (6, 1, 2, 3)
    assert (info["Images"], info["Warnings"], info["DockerRootDir"]) == (7, ["no swap"], "/d")
    assert system.info()["Containers"] == 0


def test_limits_follow_the_controllers() -> None:
    info = SystemInfo(_facts(controllers=frozenset({"memory"})), SystemSettings("id", Path("/d")), SystemSources(), {}).info()
    assert (info["MemoryLimit"], info["CPUShares"], info["PidsLimit"], info["OomKillDisable"]) == (True, False, False, False)
    assert "WARNING: No cpu shares support" in info["Warnings"]
    assert not [text for text in info["Warnings"] if "memory" in text]


def test_proxy_credentials_are_hidden() -> None:
    environ = {"HTTPS_PROXY": "http://me:secret@proxy:1", "no_proxy": "localhost"}
    info = SystemInfo(_facts(), SystemSettings("id", Path("/d")), SystemSources(), environ).info()
    assert info["HttpsProxy"] == "http://xxxxx:xxxxx@proxy:1"
    assert info["NoProxy"] == "localhost"


def test_proxy_credentials_without_a_password_or_with_an_odd_one_are_hidden_too() -> None:
    environ = {"HTTP_PROXY": "http://token@proxy:1", "HTTPS_PROXY": "http://me:se@cr:et@proxy:1/"}
    info = SystemInfo(_facts(), SystemSettings("id", Path("/d")), SystemSources(), environ).info()
    assert info["HttpProxy"] == "http://xxxxx:xxxxx@proxy:1"
    assert info["HttpsProxy"] == "http://xxxxx:xxxxx@proxy:1/"


def test_version_speaks_dockers_words() -> None:
    version = SystemInfo(_facts(), SystemSettings("id", Path("/d")), SystemSources(), {}).version()
    assert (version["Arch"], version["Os"], version["ApiVersion"], version["MinAPIVersion"]) == ("amd64", "linux", "1.51", "1.24")
    assert version["Components"][0]["Name"] == "Engine"


def test_the_engines_identity_is_made_once(tmp_path: Path) -> None:
    first = read_or_create_engine_id(tmp_path / "data")
    assert read_or_create_engine_id(tmp_path / "data") == first
    (tmp_path / "data" / "engine-id").write_text("broken")
    assert read_or_create_engine_id(tmp_path / "data") != first


def test_facts_are_read_from_the_machines_files(tmp_path: Path) -> None:
    files = {
        "etc/os-release": 'PRETTY_NAME="Some Linux 1"\nVERSION_ID=1\n# comment\n',
        "proc/meminfo": "MemTotal:       2048 kB\nMemFree: 1 kB\n",
        "proc/sys/net/ipv4/ip_forward": "1\n",
        "proc/self/mountinfo": "1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 8:2 / /my\\040data rw shared:1 - xfs /dev/b rw\n",
        "sys/fs/cgroup/cgroup.controllers": "cpu memory pids\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    facts = read_host_facts(Path("/my data/x"), tmp_path)
    assert (facts.operating_system, facts.os_version, facts.memory_bytes) == ("Some Linux 1", "1", 2048 * 1024)
    assert (facts.cgroup_version, facts.controllers) == (2, frozenset({"cpu", "memory", "pids"}))
    assert (facts.file_system, facts.ipv4_forwarding) == ("xfs", True)
    assert read_host_facts(Path("/other"), tmp_path).file_system == "extfs"


def test_version_1_of_control_groups_is_recognised(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cgroups").write_text(
        "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t1\t1\t1\nmemory\t2\t1\t0\npids\t3\t1\t1\n"
    )
    (tmp_path / "sys/fs/cgroup/cpu").mkdir(parents=True)
    facts = read_host_facts(Path("/"), tmp_path)
    assert (facts.cgroup_version, facts.controllers, facts.swap_accounting) == (1, frozenset({"cpu"}), False)
