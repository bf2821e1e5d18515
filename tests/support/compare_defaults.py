"""Prints how a default container of one engine differs from another's; a tool for developers, not part of the suite.

    python tests/support/compare_defaults.py /run/docker.sock /tmp/e/engine.sock [--all]

For each engine a BusyBox image is loaded, containers are run, and facts seen from inside (capabilities, seccomp, mounts,
devices, kernel settings, environment) and from outside (inspect, list) are collected. Values that must differ (ids, times,
addresses, paths) are left out.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import uuid
from pathlib import Path
from typing import Any

import docker

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.images import load_busybox  # found only once the path is set

INSIDE = {
    "status": "grep -E '^(Cap|NoNewPrivs|Seccomp|Groups|Umask|Sig(Blk|Ign|Cgt))' /proc/self/status",
    "mounts": "cut -d' ' -f2-4 /proc/mounts | sort",
    "devices": "ls -lR /dev | awk '{print $1,$3,$4,$5,$6,$NF}' | grep -v '^total'",
    "descriptors": "ls -l /proc/self/fd | awk '{print $9,$10,$11}'",
    "environment": "env",
    "identity": "id; pwd; umask; hostname | tr a-f0-9 x",
    "hosts": "cat /etc/hosts",
    "resolv": "cat /etc/resolv.conf",
    "limits": "cat /proc/self/limits",
    "sysctls": "cd /proc/sys; for n in net/ipv4/ip_unprivileged_port_start net/ipv4/ping_group_range net/ipv4/ip_forward "
    "net/ipv6/conf/all/disable_ipv6 net/ipv6/conf/lo/disable_ipv6 net/ipv6/conf/eth0/disable_ipv6 kernel/shmmax kernel/msgmax "
    "fs/mqueue/msg_max net/core/somaxconn; do echo $n $(cat $n); done",
    "oom": "cat /proc/self/oom_score_adj",
    "root": "ls -la / | awk '{print $1,$3,$4,$NF}'",
    "etc": "ls -la /etc/hosts /etc/hostname /etc/resolv.conf /etc/mtab | awk '{print $1,$3,$4,$NF}'",
    "interfaces": "ip -o link | awk '{print $2,$3,$4,$5}' | sed 's/@if[0-9]*//'; ip route",
    "cgroup": "cat /proc/self/cgroup | cut -d: -f2-",
    "proc": "for f in kcore keys timer_list acpi scsi sysrq-trigger sys bus; do ls -ld /proc/$f | awk '{print $1,$NF}'; done",
}
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "tty": {"tty": True},
    "user": {"user": "1000"},
    "nobody": {"user": "nobody"},
    "readonly": {"read_only": True},
    "privileged": {"privileged": True},
    "host": {"network_mode": "host"},
    "none": {"network_mode": "none"},
    "tmpfs": {"tmpfs": {"/scratch": "size=1m"}},
    "hostname": {"hostname": "box", "domainname": "example.org", "extra_hosts": {"other": "10.1.2.3"}, "dns": ["9.9.9.9"]},
}
VOLATILE = re.compile(r"[0-9a-f]{64}|[0-9a-f]{12}|\d{4}-\d\d-\d\dT[\d:.]+Z|(?:\d{1,3}\.){3}\d+|(?:[0-9a-f]{2}:){5}[0-9a-f]{2}")


def facts(socket: str) -> dict[str, str]:
    """All facts of one engine, by name, as comparable text."""
    client = docker.DockerClient(base_url=f"unix://{socket}", version="auto")
    image = load_busybox(client)
    found: dict[str, str] = {}
    for variant, options in VARIANTS.items():
        for name, script in INSIDE.items():
            try:
                output = client.containers.run(image, ["sh", "-c", f"({script}) 2>&1; true"], remove=True, **options)
            except docker.errors.APIError as error:
                output = str(error).encode()
            text = output.decode(errors="replace")
            found[f"{variant}.{name}"] = VOLATILE.sub("*", text) if name != "hosts" else text
        container = client.containers.run(image, ["sleep", "60"], detach=True, name=f"compare-{uuid.uuid4().hex[:6]}", **options)
        try:
            flatten(f"{variant}.inspect.running", client.api.inspect_container(container.id), found)
            listed = client.api.containers(filters={"id": container.id})[0]
            flatten(f"{variant}.list", listed, found)
            container.kill()
            container.wait()
            flatten(f"{variant}.inspect.exited", client.api.inspect_container(container.id), found)
        finally:
            container.remove(force=True)
    client.close()
    return found


def flatten(prefix: str, value: Any, found: dict[str, str]) -> None:
    """A document as one entry a leaf."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            flatten(f"{prefix}.{key}", inner, found)
    else:
        found[prefix] = VOLATILE.sub("*", json.dumps(value, sort_keys=True))


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sockets", nargs="+", metavar="SOCKET")
    parser.add_argument("--all", action="store_true", help="print all facts, not only those that differ")
    parser.add_argument("--save", metavar="FILE", help="keep the facts of the first socket as JSON")
    parser.add_argument("--against", metavar="FILE", help="compare with facts that were kept")
    options = parser.parse_args()
    sides = [facts(socket) for socket in options.sockets]
    if options.save:
        Path(options.save).write_text(json.dumps(sides[0], indent=1))
    if options.against:
        sides.insert(0, json.loads(Path(options.against).read_text()))
    if len(sides) != 2:
        return 0
    left, right = sides
    for name in sorted(left | right):
        one, other = left.get(name, "(absent)"), right.get(name, "(absent)")
        if one == other:
            if options.all:
                print(f"= {name}: {one.strip()}")
            continue
        print(f"! {name}")
        missing = [line for line in one.splitlines() if line not in other.splitlines()]
        added = [line for line in other.splitlines() if line not in one.splitlines()]
        for mark, lines in (("<", missing), (">", added)):
            for line in lines:
                print(f"    {mark} {line}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
