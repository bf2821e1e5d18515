"""Published attacks on container runtimes, performed from inside containers; each test then looks whether the host is untouched.

What a default container is refused by system calls and files is in tests/root/test_default_profile.py; links in images are in
tests/api/containers/test_isolation.py.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.errors import APIError
from docker.models.containers import Container
from docker.types import Mount
from support.engine import ROOTLESS, EngineUnderTest

CORE_PATTERN = Path("/proc/sys/kernel/core_pattern")
ROUNDS = 12

Import = Callable[[dict[str, str | bytes]], str]


def untouched(trap: Path) -> bool:
    """Nothing was added, changed, or mounted over it."""
    mounted = any(str(trap) in line for line in Path("/proc/self/mountinfo").read_text().splitlines())
    return not mounted and [entry.name for entry in trap.iterdir()] == ["secret"] and "host's" in (trap / "secret").read_text()


def run(client: docker.DockerClient, image: str, command: list[str] | str, **options: Any) -> str:
    """What a container wrote; a refused start counts as its message."""
    words = ["sh", "-c", command] if isinstance(command, str) else command
    try:
        container = client.containers.create(image, words, **options)
    except APIError as error:
        return str(error.explanation)
    try:
        container.start()
        container.wait(timeout=60)
        return container.logs().decode(errors="replace")
    except APIError as error:
        return str(error.explanation)
    finally:
        container.remove(force=True, v=True)


def until_logged(container: Container, text: str, timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while text not in container.logs().decode(errors="replace"):
        assert time.monotonic() < deadline, f"{text!r} is not in {container.logs()!r}"


# --- CVE-2024-21626: a descriptor of the host that leaks into the container ------------------------------------------------

CLIMB = "for up in . .. ../.. ../../.. ../../../.. ../../../../.. ../../../../../..; do cat $up{secret} 2>/dev/null; done"


@pytest.mark.parametrize("number", range(3, 24))
def test_a_working_directory_at_a_leaked_descriptor_does_not_lead_out(
    client: docker.DockerClient, busybox: str, trap: Path, number: int
) -> None:
    output = run(client, busybox, CLIMB.format(secret=trap / "secret"), working_dir=f"/proc/self/fd/{number}")
    assert "host's" not in output


def test_an_exec_at_a_leaked_descriptor_does_not_lead_out(client: docker.DockerClient, image: Import, trap: Path) -> None:
    links: dict[str, str | bytes] = {f"fd{number}": f"/proc/self/fd/{number}" for number in range(3, 24)}
    container = client.containers.run(image(links), ["sleep", "600"], detach=True)
    for number in range(3, 24):
        for directory in (f"/proc/self/fd/{number}", f"/fd{number}", f"/proc/self/fd/{number}/../.."):
            command = ["sh", "-c", CLIMB.format(secret=trap / "secret")]
            try:
                output = container.exec_run(command, workdir=directory).output
            except APIError as error:
                output = str(error).encode()
            assert b"host's" not in output


# --- CVE-2019-5736: writing to the runtime's own program -------------------------------------------------------------------


def fingerprints() -> dict[str, str]:
    """Of what the engine's processes run."""
    programs = {os.path.realpath(sys.executable), "/usr/bin/env"}
    return {path: hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in programs}


@pytest.mark.parametrize("privileged", [False, True])
def test_a_process_that_enters_can_t_be_overwritten(client: docker.DockerClient, image: Import, privileged: bool) -> None:
    before = fingerprints()
    name = image({"bin/enter": b"#!/proc/self/exe\n"})
    container = client.containers.run(name, ["/attacks", "overwrite"], detach=True, privileged=privileged)
    until_logged(container, "ready")
    # An attack that met nobody proves nothing. A process that enters hides its program; whoever may trace it all the same sees a
    # read-only mount of it, or, where the engine is an ordinary user's, a file of somebody else.
    met = ("seen / EACCES" if ROOTLESS else "seen / EROFS") if privileged else "met kitepy-monitor EACCES"
    deadline = time.monotonic() + 60
    for round_ in itertools.count():
        if round_ >= ROUNDS and (met in container.logs().decode() or time.monotonic() > deadline):
            break
        for command in (["/proc/self/exe"], ["/bin/enter"], ["true"]):
            try:
                container.exec_run(command)
            except APIError:
                continue  # what can't be executed is refused, after the process has entered
    output = container.logs().decode()
    container.kill()
    assert met in output
    assert "WRITABLE" not in output
    assert "WROTE" not in output
    assert fingerprints() == before


@pytest.mark.parametrize("command", [["/proc/self/exe"], ["/bin/enter"], ["/bin/sh", "/proc/1/exe"]])
def test_an_image_that_starts_the_runtime_s_program_does_not_get_it(
    client: docker.DockerClient, image: Import, command: list[str]
) -> None:
    before = fingerprints()
    output = run(client, image({"bin/enter": b"#!/proc/self/exe\n"}), command)
    assert "Python" not in output
    assert fingerprints() == before


# --- CVE-2021-30465: the target of a mount turns into a link while it is mounted ---------------------------------------------


@pytest.mark.parametrize("kind", ["tmpfs", "bind", "volume"])
def test_a_mount_whose_target_is_being_swapped_with_a_link_stays_inside(
    client: docker.DockerClient, image: Import, trap: Path, tmp_path: Path, kind: str
) -> None:
    name = image({})
    volume = client.volumes.create()
    source = tmp_path / "source"
    source.mkdir()
    (source / "marker").touch()
    script = f"mkdir /v/target && ln -s {'../' * 12}{trap} /v/link && exec /attacks swap /v/target /v/link"
    attacker = client.containers.run(name, ["sh", "-c", script], detach=True, mounts=[Mount("/v", volume.name)])
    try:
        inner = {
            "tmpfs": Mount("/v/target/deep", None, type="tmpfs"),
            "bind": Mount("/v/target/deep", str(source), type="bind"),
            "volume": Mount("/v/target/deep", None, type="volume"),
        }[kind]
        for _ in range(ROUNDS):
            check = f"cat {trap}/secret /v/*/secret 2>/dev/null; cat /proc/self/mountinfo"
            output = run(client, name, check, mounts=[Mount("/v", volume.name), inner])
            assert "host's" not in output
            assert untouched(trap)
    finally:
        attacker.remove(force=True, v=True)
        volume.remove(force=True)


# --- CVE-2022-0492 and the cgroup's release_agent --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "nested"),
    [
        ({}, "nested EPERM"),
        ({"cap_add": ["SYS_ADMIN"]}, "nested entered"),
        ({"security_opt": ["seccomp=unconfined"]}, "nested entered"),
    ],
    ids=["default", "SYS_ADMIN", "unconfined"],
)
def test_no_program_is_set_as_a_cgroup_s_release_agent(
    client: docker.DockerClient, image: Import, trap: Path, options: dict[str, Any], nested: str
) -> None:
    output = run(client, image({}), ["/attacks", "agent", f"{trap}/agent"], **options)
    assert nested in output  # also as root of namespaces that it made for itself, where it may make any
    assert "done" in output
    assert "SET" not in output
    assert untouched(trap)
    agents = [path.read_text() for path in Path("/sys/fs/cgroup").glob("*/release_agent")]
    assert not any(str(trap) in text for text in agents)


# --- CVE-2025-31133, CVE-2025-52565, CVE-2025-52881: masks, the console and kernel settings redirected -----------------------


@pytest.mark.parametrize("target", ["/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/etc/passwd"])
@pytest.mark.parametrize("name", ["null", "console", "ptmx"])
@pytest.mark.parametrize("tty", [False, True])
def test_a_dev_of_the_attacker_s_redirects_no_mask_and_no_console(
    client: docker.DockerClient, busybox: str, name: str, target: str, tty: bool
) -> None:
    before = CORE_PATTERN.read_text()
    volume = client.volumes.create()
    try:
        run(client, busybox, f"ln -s {target} /v/{name}; mkdir -p /v/pts /v/shm", mounts=[Mount("/v", volume.name)])
        script = "echo x >/proc/sys/kernel/core_pattern; echo x >/proc/sysrq-trigger; head -c 9 /proc/kcore; cat /proc/keys"
        output = run(client, busybox, script, mounts=[Mount("/dev", volume.name)], tty=tty)
        assert "ELF" not in output
        assert "keyring" not in output
    finally:
        volume.remove(force=True)
    assert CORE_PATTERN.read_text() == before


def test_masks_hold_while_a_dev_of_the_attacker_s_is_being_swapped(client: docker.DockerClient, image: Import) -> None:
    before = CORE_PATTERN.read_text()
    name = image({})
    volume = client.volumes.create()
    made = "mkdir -p /v/pts /v/shm; mknod /v/null c 1 3; ln -s /proc/sys/kernel/core_pattern /v/other"
    script = f"{made}; exec /attacks swap /v/null /v/other"
    attacker = client.containers.run(name, ["sh", "-c", script], detach=True, mounts=[Mount("/v", volume.name)])
    try:
        for _ in range(ROUNDS):
            script = (
                "echo x >/proc/kcore; echo x >/proc/keys; head -c 9 /proc/kcore; cat /proc/sys/kernel/core_pattern >/dev/null"
            )
            assert "ELF" not in run(client, name, script, mounts=[Mount("/dev", volume.name)])
    finally:
        attacker.remove(force=True, v=True)
        volume.remove(force=True)
    assert CORE_PATTERN.read_text() == before


@pytest.mark.parametrize("target", ["/proc", "/proc/self/attr", "/proc/sys", "/proc/sys/net", "/proc/kcore", "/sys/../proc/sys"])
def test_nothing_is_mounted_over_proc(client: docker.DockerClient, busybox: str, tmp_path: Path, target: str) -> None:
    (tmp_path / "evil").mkdir()
    output = run(client, busybox, "echo STARTED", mounts=[Mount(target, str(tmp_path / "evil"), type="bind")])
    assert "STARTED" not in output
    assert list((tmp_path / "evil").iterdir()) == []


def test_an_exec_writes_nothing_into_a_proc_that_the_container_made(client: docker.DockerClient, busybox: str) -> None:
    # With CAP_SYS_ADMIN a container may cover its own /proc; what enters it later must not be led to other files by that.
    script = (
        "mkdir /fake && mount -t tmpfs none /fake && mkdir -p /fake/self/attr/apparmor && touch /fake/self/oom_score_adj "
        "/fake/self/attr/exec /fake/self/attr/apparmor/exec && mount --move /fake /proc && echo covered && exec sleep 600"
    )
    container = client.containers.run(
        busybox, ["sh", "-c", script], detach=True, cap_add=["SYS_ADMIN"], security_opt=["seccomp=unconfined"], oom_score_adj=321
    )
    until_logged(container, "covered")
    output = container.exec_run(["sh", "-c", "cat /proc/self/oom_score_adj /proc/self/attr/exec /proc/self/attr/apparmor/exec"])
    assert output.output == b""
    assert output.exit_code == 0


@pytest.mark.parametrize(
    "sysctl", ["kernel.core_pattern", "kernel/core_pattern", "net.../../kernel/core_pattern", "kernel.msgmax/../core_pattern"]
)
def test_a_setting_of_the_whole_machine_is_refused(client: docker.DockerClient, busybox: str, sysctl: str) -> None:
    before = CORE_PATTERN.read_text()
    output = run(client, busybox, "echo STARTED", sysctls={sysctl: "|/tmp/evil"})
    assert "STARTED" not in output
    assert CORE_PATTERN.read_text() == before


# --- the machine's settings, devices and other processes -------------------------------------------------------------------

WRITES = (
    *("/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/kernel/hotplug", "/proc/sys/kernel/hostname"),
    *("/proc/sys/vm/overcommit_memory", "/proc/sys/fs/binfmt_misc/register", "/proc/sys/fs/suid_dumpable", "/proc/sysrq-trigger"),
    *("/proc/irq/default_smp_affinity", "/sys/kernel/uevent_helper", "/sys/kernel/mm/ksm/run", "/sys/power/state"),
    *("/sys/fs/cgroup/memory/release_agent", "/sys/module/kernel/parameters/panic", "/proc/sys/net/core/somaxconn"),
)


@pytest.mark.parametrize("path", WRITES)
def test_the_machine_s_settings_can_t_be_written(client: docker.DockerClient, busybox: str, path: str) -> None:
    before = Path(path).read_bytes() if os.path.isfile(path) and os.access(path, os.R_OK) and "trigger" not in path else None
    attempts = (
        f"echo 1 >{path} && echo WROTE; mount -o remount,rw /proc/sys; mount -o remount,rw /sys; echo 1 >{path} && echo WROTE"
    )
    assert "WROTE" not in run(client, busybox, f"({attempts}) 2>/dev/null; true")
    if before is not None:
        assert Path(path).read_bytes() == before


@pytest.mark.parametrize("node", ["c 1 1", "c 1 2", "c 1 4", "c 1 11", "b 254 0", "b 8 0", "b 7 0", "c 10 237", "c 4 0"])
def test_no_node_made_inside_opens_the_machine(client: docker.DockerClient, busybox: str, node: str) -> None:
    script = (
        f"mknod /node {node} && (head -c 1 /node >/dev/null && echo READ; echo x >/node && echo WROTE) 2>/dev/null; echo done"
    )
    output = run(client, busybox, script)
    assert "done" in output
    assert "READ" not in output
    assert "WROTE" not in output


def test_with_the_host_s_processes_in_sight_the_engine_is_still_out_of_reach(
    client: docker.DockerClient, image: Import, engine: EngineUnderTest
) -> None:
    output = run(client, image({}), ["/attacks", "read-pid", str(engine.pid)], pid_mode="host")
    assert "ptrace E" in output
    assert "WORKED" not in output


def test_another_container_s_processes_are_out_of_sight(client: docker.DockerClient, busybox: str) -> None:
    client.containers.run(busybox, ["sleep", "54321"], detach=True)
    output = run(client, busybox, "grep -l 54321 /proc/[0-9]*/cmdline | grep -v self; cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
    assert "sleep 54321" not in output


def test_a_hostile_profile_text_is_refused_and_runs_nothing(client: docker.DockerClient, busybox: str) -> None:
    for text in ("{", "[]", json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["x"]}]})):
        assert "STARTED" not in run(client, busybox, "echo STARTED", security_opt=[f"seccomp={text}"])
