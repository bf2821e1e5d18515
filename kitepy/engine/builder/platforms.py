"""Platform names (``linux/arm64/v8``) as build arguments and image documents use them."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

_MACHINES = {
    "x86_64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "i686": ("386", ""),
    "i386": ("386", ""),
    "ppc64le": ("ppc64le", ""),
    "s390x": ("s390x", ""),
    "riscv64": ("riscv64", ""),
    "loongarch64": ("loong64", ""),
}
_ALIASES = {
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
    "i386": ("386", ""),
}
_PART = re.compile(r"[A-Za-z0-9_.-]+")


@dataclass(frozen=True)
class Platform:
    """An operating system on an architecture; ``variant`` is empty for the usual one."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


def host_platform() -> Platform:
    """What this machine runs without emulation."""
    machine = os.uname().machine
    architecture, variant = _MACHINES.get(machine, (machine, ""))
    return Platform("linux", architecture, variant)


def parse_platform(text: str) -> Platform:
    """A platform from ``os[/arch[/variant]]`` or ``arch`` alone; ValueError quotes what can't be read."""
    parts = text.lower().split("/")
    if not 1 <= len(parts) <= 3 or not all(_PART.fullmatch(part) for part in parts):
        raise ValueError(f'"{text}" is not a platform: use os/architecture, like linux/amd64')
    host = host_platform()
    if len(parts) == 1:
        if parts[0] in ("linux", "local"):
            return host
        architecture, variant = _ALIASES.get(parts[0], (parts[0], ""))
        return Platform("linux", architecture, variant)
    architecture, variant = _ALIASES.get(parts[1], (parts[1], ""))
    variant = parts[2] if len(parts) == 3 else variant
    if architecture == "arm64" and variant == "v8":
        variant = ""
    return Platform(parts[0], architecture, variant)
