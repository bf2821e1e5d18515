"""Where a container of Kitepy is meant to differ from one of Docker, and why; whatever else differs is a defect."""

from __future__ import annotations

import re
from typing import NamedTuple


class Difference(NamedTuple):
    """Patterns for variant, topic, key and both values (``DOCKER -> KITEPY``), which must match as a whole.

    A group in the change stands for what both values must have in common.
    """

    variant: str
    topic: str
    key: str
    change: str
    reason: str


_GROUPS = "a control group namespace of its own on cgroup v1, too: the container doesn't learn its place among the host's groups"
_MASKS = "the empty directories that mask others are nosuid and nodev and belong to root alone"
_MTU = "the MTU is that of the host's way out; Docker's is 1500 whatever that is"
_LINKS = "the interfaces of containers that come and go in the network that the engine itself is in"
_MTAB = "/etc/mtab is left to the image; Docker adds the link where it is missing"
_PASSING = r"(?:veth|k[vw]?p)[0-9a-z-]+"
"""Ends of containers' interfaces on a bridge."""

DELIBERATE = (
    Difference("(?!--cgroupns host).*", "cgroup", "[a-z_,=0-9]+", "/ENGINE/ID -> /", _GROUPS),
    Difference(
        "(?!--cgroupns host).*",
        "mounts",
        "/sys/fs/cgroup/[a-z_,]+",
        r"cgroup root=/ENGINE/ID source=cgroup (r[ow],.*) -> cgroup root=/ source=cgroup \1",
        _GROUPS,
    ),
    Difference(
        "--cgroupns private",
        "mounts",
        "/sys/fs/cgroup/systemd",
        r"cgroup root=/ source=systemd (ro,.*) -> cgroup root=/ source=cgroup \1",
        "each v1 hierarchy's mount has the same source, whether or not the group's namespace was asked for",
    ),
    Difference(
        ".*",
        "mounts",
        "/sys/fs/cgroup",
        r"tmpfs root=/ source=tmpfs rw,(.*) -> tmpfs root=/ source=tmpfs ro,\1",
        "the directory that holds the v1 hierarchies is read-only: nothing can be mounted over it",
    ),
    Difference(
        "(?!--privileged).*",
        "writable",
        "/sys/fs/cgroup/",
        r"ok -> \(absent\)",
        "the directory that holds the v1 hierarchies is read-only: nothing can be made in it",
    ),
    Difference(
        ".*",
        "mounts",
        "/proc/(acpi|asound|scsi|fs)|/sys/(firmware|devices/virtual/powercap)",
        r"tmpfs root=/ source=tmpfs ro,relatime ro.* -> tmpfs root=/ source=tmpfs ro,nosuid,nodev,relatime rw,+mode=755",
        _MASKS,
    ),
    Difference(
        ".*",
        "masked",
        "/proc/(acpi|asound|scsi|fs)|/sys/(firmware|devices/virtual/powercap)",
        r"drwxrwxrwt (2 root root 0 0) -> drwxr-xr-x \1",
        _MASKS,
    ),
    Difference(
        ".*",
        "mounts",
        "/sys",
        r"(sysfs root=/ source=sysfs ro,nosuid,nodev,noexec,relatime) ro -> \1 rw",
        "read-only as a mount instead of as a file system: one instance serves all, the effect is the same",
    ),
    Difference("(?!--network host).*", "links", "eth0:+", r"(<[A-Z,_]+> mtu) 1500 -> \1 [0-9]+", _MTU),
    Difference("(?!--network host).*", "settings", "/proc/sys/net/ipv6/conf/eth0/mtu", "1500 -> [0-9]+", _MTU),
    Difference(
        "(?!--network host).*",
        "settings",
        ".*/arp_notify",
        "0 -> 1",
        "neighbours learn a new container's address at once, which may have been another's a moment ago",
    ),
    Difference(
        "(?!--network host).*",
        "settings",
        ".*/conf/default/disable_ipv6",
        "0 -> 1",
        "a network without IPv6 has none on interfaces that come later either",
    ),
    Difference(
        "(?!--network host).*",
        "files",
        "hosts",
        "(.*) ADDRESS ID -> \\1 ADDRESS host.docker.internal ADDRESS ID",
        "host.docker.internal is there without --add-host",
    ),
    Difference(".*", "files", "mtab", "/proc/mounts -> ", _MTAB),
    Difference(".*", "files", "/proc/mounts", r"lrwxrwxrwx root root -> \(absent\)", _MTAB),
    Difference(".*", "files", "/etc/mtab", r"lrwxrwxrwx root root -> \(absent\)", _MTAB),
    Difference(".*", "files", "directory", r"\(absent\) -> ls: No such", _MTAB),
    Difference(
        ".*",
        "calls",
        r"x32\.453",
        "ENOSYS -> EPERM",
        "libseccomp 2.6 opens this number by mistake; no kernel has the call for x32",
    ),
    Difference("--network host", "links", rf"{_PASSING}(@.*)?:+", r".* -> \(absent\)|\(absent\) -> .*", _LINKS),
    Difference(
        "--network host",
        "settings",
        rf"/proc/sys/net/ipv[46]/(conf|neigh)/{_PASSING}/[a-z0-9_]+",
        r".* -> \(absent\)|\(absent\) -> .*",
        _LINKS,
    ),
)


def find_difference(variant: str, topic: str, key: str, docker: str, kitepy: str) -> Difference | None:
    """The entry by which these values may differ; None when they must not."""
    fact = (variant, topic, key, f"{docker} -> {kitepy}")
    for entry in DELIBERATE:
        if all(re.fullmatch(pattern, text) for pattern, text in zip(entry[:4], fact, strict=True)):
            return entry
    return None
