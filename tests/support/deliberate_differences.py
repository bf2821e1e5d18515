"""Where a container of Kitepy is meant to differ from one of Docker, and why; whatever else differs is a defect."""

from __future__ import annotations

import re
from typing import NamedTuple


class Difference(NamedTuple):
    """Patterns for variant, topic and key, which must match as a whole."""

    variant: str
    topic: str
    key: str
    reason: str


DELIBERATE = (
    Difference(
        "(?!--cgroupns host).*",
        "cgroup|mounts",
        "[a-z_,=0-9]+|/sys/fs/cgroup/.*",
        "a control group namespace of its own on cgroup v1, too: the container doesn't learn its place among the host's groups",
    ),
    Difference(
        ".*",
        "mounts",
        "/sys/fs/cgroup",
        "the directory that holds the v1 hierarchies is read-only: nothing can be mounted over it",
    ),
    Difference(
        ".*",
        "mounts|masked",
        "/proc/(acpi|asound|scsi|fs)|/sys/(firmware|devices/virtual/powercap)",
        "the empty directories that mask others are nosuid and nodev and belong to root alone",
    ),
    Difference(
        ".*",
        "mounts",
        "/sys",
        "read-only as a mount instead of as a file system: one instance serves all, the effect is the same",
    ),
    Difference(
        ".*",
        "links|settings",
        "eth0:+|/proc/sys/net/ipv6/conf/eth0/mtu",
        "the MTU is that of the host's way out; Docker's is 1500 whatever that is",
    ),
    Difference(
        ".*",
        "settings",
        ".*/arp_notify",
        "neighbours learn a new container's address at once, which may have been another's a moment ago",
    ),
    Difference(
        ".*", "settings", ".*/conf/default/disable_ipv6", "a network without IPv6 has none on interfaces that come later either"
    ),
    Difference(".*", "files", "hosts", "host.docker.internal is there without --add-host"),
    Difference(
        ".*",
        "files",
        "mtab|/etc/mtab|/proc/mounts|directory",
        "/etc/mtab is left to the image; Docker adds the link where it is missing",
    ),
    Difference(".*", "calls", r"x32\.453", "libseccomp 2.6 opens this number by mistake; no kernel has the call for x32"),
    Difference("--network host", "links|settings|files", ".*", "the interfaces of the network that the engine itself is in"),
    Difference("--uts host|--network host", "identity", "hostname", "the name of the machine that the engine is on"),
)


def reason_for(variant: str, topic: str, key: str) -> str | None:
    """Why this fact may differ; None when it must not."""
    for entry in DELIBERATE:
        if all(re.fullmatch(pattern, text) for pattern, text in zip(entry[:3], (variant, topic, key), strict=True)):
            return entry.reason
    return None
