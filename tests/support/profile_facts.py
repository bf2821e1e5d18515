"""What a process in a container sees and may do on one engine, as sorted lines by variant and topic; compared by others."""

from __future__ import annotations

import os
import re
import subprocess
import tarfile
import uuid
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import Any

import docker
from support.images import CACHE, docker_archive

from kitepy.client.starter import find_busybox, pack_starter

IMAGE = "profile-probe:latest"
SOURCE = Path(__file__).with_name("profile_probe.c")

Facts = dict[str, dict[str, str]]
"""By topic: value by key."""

VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "--tty": {"tty": True},
    "--privileged": {"privileged": True},
    "--cap-add ALL": {"cap_add": ["ALL"]},
    "--cap-add SYS_ADMIN": {"cap_add": ["SYS_ADMIN"]},
    "--cap-drop ALL": {"cap_drop": ["ALL"]},
    "--user 1000": {"user": "1000"},
    "--read-only": {"read_only": True},
    "--security-opt seccomp=unconfined": {"security_opt": ["seccomp=unconfined"]},
    "--security-opt apparmor=unconfined": {"security_opt": ["apparmor=unconfined"]},
    "--security-opt no-new-privileges": {"security_opt": ["no-new-privileges"]},
    # What Docker's command line makes of --security-opt systempaths=unconfined.
    "--security-opt systempaths=unconfined": {"MaskedPaths": [], "ReadonlyPaths": []},
    "--security-opt label=disable": {"security_opt": ["label=disable"]},
    "--pid host": {"pid_mode": "host"},
    "--ipc host": {"ipc_mode": "host"},
    "--ipc shareable": {"ipc_mode": "shareable"},
    "--ipc none": {"ipc_mode": "none"},
    "--uts host": {"uts_mode": "host"},
    "--network host": {"network_mode": "host"},
    "--network none": {"network_mode": "none"},
    "--cgroupns host": {"cgroupns": "host"},
    "--cgroupns private": {"cgroupns": "private"},
    "--device": {"devices": ["/dev/full:/dev/brimful:r"]},
    "--sysctl": {"sysctls": {"net.core.somaxconn": "77", "kernel.shmmni": "55"}},
}

MASKED = (
    *("/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug"),
    *("/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware"),
)
READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

_TOPICS = {
    "status": "grep -E '^(Cap|NoNewPrivs|Seccomp:|Groups|Uid|Gid|Umask|Sig(Blk|Ign|Cgt))' /proc/self/status",
    "mounts": "cat /proc/self/mountinfo",
    "masked": f"for p in {' '.join(MASKED)}; do echo $p $(ls -ld $p 2>/dev/null | cut -c1-30) $(cat $p 2>/dev/null | head -c 9 "
    "| wc -c) $(ls $p 2>/dev/null | head -3 | wc -l); done",
    "read-only": f'for p in {" ".join(READ_ONLY)}; do echo $p $(grep -c " $p [^ ]* ro" /proc/mounts); done',
    "dev": "find /dev -path '/dev/shm/*' -prune -o -print | sort | "
    "while read f; do echo $f $(stat -c '%A %u:%g %t:%T' $f) $(readlink $f); done",
    "environment": "env",
    "identity": "id; echo pwd $(pwd); echo umask $(umask); echo hostname $(hostname)",
    "limits": "cat /proc/self/limits",
    "files": "ls -lad / /.dockerenv /etc/hosts /etc/hostname /etc/resolv.conf /etc/mtab /dev/shm /dev/console /proc /sys 2>&1 "
    "| awk '{print $NF, $1, $3, $4}'; echo hosts $(cat /etc/hosts); echo mtab $(readlink /etc/mtab)",
    "cgroup": "cat /proc/self/cgroup; for f in /sys/fs/cgroup/*; do echo $f there; done",
    "settings": "find /proc/sys/net /proc/sys/kernel /proc/sys/fs/mqueue -type f 2>/dev/null | sort | while read f; do "
    "echo $f $(cat $f 2>&1); done",
    "links": "ip -o link | awk '{print $2,$3,$4,$5}' | sed 's/@if[0-9]*//'",
    "process": "/probe process",
    # Before the calls: where they are allowed, some of them open what was protected.
    "writable": "/probe writable 2>&1",
    "device nodes": "/probe devices 2>&1",
    "arguments": "/probe arguments 2>&1",
    "calls": "/probe calls 2>&1",
}
_MARK = "=== topic "
# Numbers that the machine or the moment decides.
_VOLATILE = re.compile(
    r"/proc/sys/(kernel/(random/|pty/nr|ns_last_pid|hostname|tainted|cad_pid|usermodehelper)|fs/|net/netfilter/nf_conntrack_count"
    r"|.*(stable_secret|fastopen_key|nf_log/|tcp_.*available|rps_sock_flow|flow_limit))"
)
_ADDRESS = re.compile(r"\b(?:\d{1,3}\.){3}\d+\b|\b(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\b")
_ID = re.compile(r"\b[0-9a-f]{12}(?:[0-9a-f]{52})?\b")


def build_probe() -> Path:
    """The static probe, compiled once."""
    target = CACHE / f"profile_probe-{os.uname().machine}"
    if not target.exists() or target.stat().st_mtime < SOURCE.stat().st_mtime:
        target.parent.mkdir(exist_ok=True)
        fresh = target.with_suffix(f".{os.getpid()}")
        subprocess.run(["gcc", "-O1", "-Wall", "-static", "-o", fresh, SOURCE], check=True, timeout=120)
        fresh.rename(target)
    return target


def load_probe_image(client: docker.DockerClient) -> str:
    """BusyBox and the probe as an image."""
    buffer = BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = archive.gettarinfo(build_probe(), "probe")
        entry.mode, entry.uid, entry.gid = 0o755, 0, 0
        with build_probe().open("rb") as content:
            archive.addfile(entry, content)
    client.images.load(docker_archive([pack_starter(find_busybox()), buffer.getvalue()], IMAGE))
    return IMAGE


def collect(client: docker.DockerClient, variants: Iterable[str] = VARIANTS, topics: Iterable[str] = _TOPICS) -> dict[str, Facts]:
    """By variant: all facts. The image must be loaded."""
    return {variant: _facts(client, VARIANTS[variant], list(topics)) for variant in variants}


def _facts(client: docker.DockerClient, options: dict[str, Any], topics: list[str]) -> Facts:
    script = "".join(f"echo '{_MARK}{topic}'; ({_TOPICS[topic]}) 2>&1; " for topic in topics)
    options = dict(options)
    peer = None
    try:
        if options.get("ipc_mode") == "container:":
            peer = client.containers.run(IMAGE, ["sleep", "600"], detach=True, ipc_mode="shareable")
            options["ipc_mode"] = f"container:{peer.id}"
        name = f"facts-{uuid.uuid4().hex[:8]}"
        try:
            container = _run(client, script, name, options)
        except docker.errors.APIError as error:
            return {"refused": {"message": _ID.sub("ID", str(error.explanation))}}
        try:
            container.wait(timeout=300)
            output = container.logs().decode(errors="replace").replace("\r", "")
        finally:
            container.remove(force=True)
    finally:
        if peer is not None:
            peer.remove(force=True)
    found: Facts = {}
    for part in output.split(_MARK)[1:]:
        topic, _, text = part.partition("\n")
        found[topic] = dict(_entry(topic, line) for line in text.splitlines() if line.strip() and not _VOLATILE.match(line))
    return found


def _run(client: docker.DockerClient, script: str, name: str, options: dict[str, Any]) -> Any:
    """Options that docker-py has no word for (they begin with a capital) go into the host configuration as they are."""
    raw = {key: value for key, value in options.items() if key[0].isupper()}
    if not raw:
        return client.containers.run(IMAGE, ["sh", "-c", script], detach=True, name=name, **options)
    config = {"Image": IMAGE, "Cmd": ["sh", "-c", script], "HostConfig": raw}
    made = client.api.create_container_from_config(config, name)
    container = client.containers.get(made["Id"])
    container.start()
    return container


def _entry(topic: str, line: str) -> tuple[str, str]:
    if topic == "mounts":
        return _mount(line)
    if topic == "limits":
        words = re.split(r"\s{2,}", line.strip())
        return words[0], " ".join(words[1:])
    if topic == "cgroup" and ":" in line:
        _, controllers, path = line.split(":", 2)
        return controllers or "unified", _ID.sub("ID", path).replace("/docker/", "/ENGINE/").replace("/kitepy/", "/ENGINE/")
    if topic == "calls":
        key, answer = line.split(" ", 1)
        # What reaches the call itself is told by it that the arguments are invalid, in one way or another.
        return key, answer if answer in ("EPERM", "ENOSYS", "ok", "exits", "blocks") or "signal" in answer else "invalid"
    if topic == "identity" and line == f"hostname {os.uname().nodename}":
        return "hostname", "(the machine's)"
    separator = ":" if topic == "status" else "=" if topic in ("environment", "identity") and "=" in line.split(" ")[0] else " "
    key, _, value = line.partition(separator)
    return key, _ID.sub("ID", _ADDRESS.sub("ADDRESS", " ".join(value.split())))


def _mount(line: str) -> tuple[str, str]:
    before, _, after = line.partition(" - ")
    words = before.split()
    root, target, options, propagation = words[3], words[4], words[5], words[6:]
    kind, source, details = after.split(" ", 2)
    if kind == "overlay":
        details, source = details.split(",")[0], "overlay"
    if target in ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf"):
        root, kind, source, details = Path(root).name, "(disk)", "(disk)", ""
    root = re.sub(r"^/(docker|kitepy)/", "/ENGINE/", _ID.sub("ID", root))
    details = re.sub(r"(inode64|size=\d+k)", "", details).strip(",")
    shared = ",".join(word.split(":")[0] for word in propagation)
    return target, f"{kind} root={root} source={source} {options} {details} {shared}".strip()
