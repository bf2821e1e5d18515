"""The files that every container gets from the engine: hosts, hostname and resolv.conf.

The contents of hosts are made here, resolv.conf's in ``resolv_conf``; both are pure functions.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from kitepy.engine.model.container import ContainerRecord
from kitepy.engine.model.errors import InvalidParameter
from kitepy.engine.services.host_network import HOST_NAME
from kitepy.engine.services.request_networking import parse_extra_host

IDENTITY_LIMIT_CHARACTERS = 1024 * 1024
"""More of a file that a container filled is not kept when the engine changes a line of it."""

_LOCAL_HOSTS = (
    "127.0.0.1\tlocalhost",
    "::1\tlocalhost ip6-localhost ip6-loopback",
    "fe00::\tip6-localnet",
    "ff00::\tip6-mcastprefix",
    "ff02::1\tip6-allnodes",
    "ff02::2\tip6-allrouters",
)


def hosts_content(
    record: ContainerRecord,
    addresses: Sequence[str],
    host_gateway: str,
    shared: str | None = None,
    linked: Iterable[str] = (),
) -> str:
    """``/etc/hosts``: the local names, the user's extra ones, the container's own at each of its ``addresses``.

    ``shared`` is the host's file, for a container that shares its network; ``linked`` are lines for linked containers.
    """
    lines = list(_LOCAL_HOSTS) if shared is None else shared.splitlines()
    extra = [parse_extra_host(entry) for entry in record.host_config.extra_hosts or ()]
    for name, target in extra:
        if target == "host-gateway" and not host_gateway:
            raise InvalidParameter(f"unable to derive the address for host-gateway of {name}: this machine has no network")
        lines.append(f"{host_gateway if target == 'host-gateway' else target}\t{name}")
    if addresses and host_gateway and all(name != HOST_NAME for name, _ in extra):
        lines.append(f"{host_gateway}\t{HOST_NAME}")
    lines += linked
    lines += own_lines(record, addresses)
    return "\n".join(lines) + "\n"


def own_lines(record: ContainerRecord, addresses: Iterable[str]) -> list[str]:
    """What ``/etc/hosts`` says of the container itself."""
    full = record.config.hostname
    if record.config.domainname:
        full = f"{full}.{record.config.domainname} {full}"
    return [f"{address}\t{full}" for address in addresses]


def hosts_after(content: str, before: Sequence[str], now: Sequence[str]) -> str:
    """``/etc/hosts`` with other lines of the container's own; what its user wrote there stays."""
    gone = set(before) - set(now)
    lines = [line for line in content.splitlines() if line not in gone]
    return "\n".join([*lines, *(line for line in now if line not in before)]) + "\n"


def read_host_hosts(path: Path = Path("/etc/hosts")) -> str:
    """The names that the host itself knows; empty when it has no such file."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def write_identity_files(directory: Path, hosts: str, hostname: str, resolv: str) -> None:
    """Write the three files."""
    for name, content in (("hosts", hosts), ("hostname", hostname + "\n"), ("resolv.conf", resolv)):
        write_identity_file(directory / name, content)


def write_identity_file(path: Path, content: str) -> None:
    """Write a file in place, since running containers have it mounted."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    with os.fdopen(descriptor, "w", errors="surrogateescape") as stream:
        stream.write(content)


def read_identity_file(path: Path) -> str:
    """A file as it is now: its container may have written anything there."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, errors="surrogateescape") as stream:
        return stream.read(IDENTITY_LIMIT_CHARACTERS)
