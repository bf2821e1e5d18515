"""What a container that was created with no options can see and do, asked from inside."""

from __future__ import annotations

from typing import Protocol

import docker
import pytest
from support.engine import EngineUnderTest

# Docker's default set: chown dac_override fowner fsetid kill setgid setuid setpcap net_bind_service net_raw sys_chroot
# mknod audit_write setfcap.
DEFAULT_CAPABILITIES = 0x00000000A80425FB
DEFAULT_DEVICES = {
    *("console", "core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm"),
    *("stderr", "stdin", "stdout", "tty", "urandom", "zero"),
}


class Inside(Protocol):
    """Runs a shell script in a new container and gives what it wrote."""

    def __call__(self, script: str, **options: object) -> str: ...


@pytest.fixture
def inside(client: docker.DockerClient, busybox: str) -> Inside:
    def run(script: str, **options: object) -> str:
        output = client.containers.run(busybox, ["sh", "-c", script], remove=True, stderr=True, **options)
        return output.decode(errors="replace").strip()

    return run


def status_field(text: str, name: str) -> str:
    return next(line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith(f"{name}:"))


def test_capabilities_are_docker_s_default_and_the_filter_is_on(inside: Inside) -> None:
    status = inside("cat /proc/self/status")
    for name in ("CapPrm", "CapEff", "CapBnd"):
        assert int(status_field(status, name), 16) == DEFAULT_CAPABILITIES, name
    assert status_field(status, "CapAmb") == "0000000000000000"
    assert status_field(status, "Seccomp") == "2"
    assert status_field(status, "NoNewPrivs") == "0"


def test_no_new_privileges_can_be_asked_for(inside: Inside) -> None:
    status = inside("cat /proc/self/status", security_opt=["no-new-privileges"])
    assert status_field(status, "NoNewPrivs") == "1"


@pytest.mark.parametrize(
    "attempt",
    [
        "unshare -U true",
        "unshare -m true",
        "mount -t tmpfs none /mnt",
        "mount -o remount,rw /proc/sys",
        "echo b > /proc/sysrq-trigger",
        "echo 1 > /proc/sys/kernel/panic",
        "echo x > /sys/kernel/uevent_helper",
        "test -s /proc/kcore",
        "test -s /proc/keys",
        "test -s /proc/timer_list",
        "ls /proc/acpi/*",
        "ls /sys/firmware/*",
        "mknod /tmp/disk b 254 0 && head -c 1 /tmp/disk",
        "date -s 2020-01-01; test $(date +%Y) = 2020",
        "sysctl -w kernel.hostname=other",
        "chroot /proc/1/root /bin/true && nsenter -t 1 -m -- ls /host",
        "swapon /etc/passwd",
    ],
)
def test_what_would_reach_the_machine_is_refused(inside: Inside, attempt: str) -> None:
    assert inside(f"mkdir -p /mnt; if ({attempt}) >/dev/null 2>&1; then echo worked; else echo refused; fi") == "refused"


def test_only_its_own_processes_are_seen(inside: Inside) -> None:
    assert int(inside("ls -d /proc/[0-9]* | wc -l")) <= 4
    assert inside("cat /proc/1/cmdline | tr '\\0' ' '").startswith("sh -c")


def test_only_docker_s_default_devices_are_there(inside: Inside) -> None:
    assert set(inside("ls /dev").split()) <= DEFAULT_DEVICES


def test_no_path_of_the_machine_shows_up_among_its_mounts(inside: Inside, engine: EngineUnderTest) -> None:
    lines = inside("cat /proc/self/mountinfo").splitlines()
    targets = {line.split()[4] for line in lines}
    assert not [target for target in targets if str(engine.home) in target]
    own_files = {"/etc/hosts", "/etc/hostname", "/etc/resolv.conf"}
    # Bind mounts of files and directories of the machine have another root than "/" on a disk's file system.
    from_disk = {line.split()[4] for line in lines if line.split()[3] != "/" and " - ext4 " in line}
    assert from_disk <= own_files


def test_no_descriptor_is_inherited(inside: Inside) -> None:
    # The listing itself opens one.
    assert int(inside("ls /proc/self/fd | wc -l")) <= 4


def test_its_control_groups_look_like_the_root(inside: Inside) -> None:
    paths = {
        line.rsplit(":", 1)[1]
        for line in inside("cat /proc/self/cgroup").splitlines()
        if "memory" in line or line.startswith("0::")
    }
    assert paths <= {"/"}


def test_memory_beyond_the_limit_is_the_container_s_end(client: docker.DockerClient, busybox: str) -> None:
    # tail keeps the last "line" of an endless one in memory.
    container = client.containers.run(
        busybox, ["sh", "-c", "head -c 200000000 /dev/zero | tail"], mem_limit="24m", memswap_limit="24m", detach=True
    )
    # The shell is asked for tail's code: it was killed, and the engine knows why.
    assert container.wait(timeout=60)["StatusCode"] == 137
    container.reload()
    assert container.attrs["State"]["OOMKilled"]


def test_processes_beyond_the_limit_can_t_be_made(client: docker.DockerClient, busybox: str) -> None:
    script = "for i in 1 2 3 4 5 6 7 8 9; do sleep 1 & done"
    container = client.containers.run(busybox, ["sh", "-c", script], pids_limit=5, detach=True)
    container.wait(timeout=30)
    assert b"can't fork" in container.logs()


def test_a_read_only_root_can_be_written_nowhere_but_in_its_tmpfs(inside: Inside) -> None:
    attempts = "for f in /x /etc/hosts /etc/resolv.conf; do (echo x > $f) 2>/dev/null && echo wrote $f; done"
    script = f"{attempts}; echo y > /run/ok && cat /run/ok"
    assert inside(script, read_only=True, tmpfs={"/run": ""}) == "y"


def test_a_user_by_number_has_no_capabilities_and_no_groups(inside: Inside) -> None:
    status = inside("cat /proc/self/status; id", user="1234:5678")
    assert int(status_field(status, "CapEff"), 16) == 0
    assert "uid=1234 gid=5678" in status


def test_a_privileged_container_has_everything_because_it_was_asked_for(inside: Inside) -> None:
    status = inside("cat /proc/self/status", privileged=True)
    assert status_field(status, "Seccomp") == "0"
    assert int(status_field(status, "CapEff"), 16) > DEFAULT_CAPABILITIES
