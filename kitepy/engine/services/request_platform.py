"""The ``platform`` of a request: ``os``, ``architecture`` or ``os/architecture[/variant]``, in the spellings people use; pure."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from kitepy.engine.model.errors import InvalidParameter

_COMPONENT = re.compile(r"[A-Za-z0-9_.-]+")
_SYSTEMS = ("linux", "windows", "darwin", "freebsd", "openbsd", "netbsd", "dragonfly", "solaris", "plan9", "aix", "android")
_ARCHITECTURES = {
    "x86_64": "amd64", "x86-64": "amd64", "amd64": "amd64", "i386": "386", "386": "386", "aarch64": "arm64", "arm64": "arm64",
    "armhf": "arm", "armel": "arm", "arm": "arm", "ppc64le": "ppc64le", "ppc64": "ppc64", "s390x": "s390x", "riscv64": "riscv64",
    "mips64le": "mips64le", "mips64": "mips64", "mipsle": "mipsle", "mips": "mips", "loong64": "loong64", "wasm": "wasm",
}  # fmt: skip


@dataclass(frozen=True)
class Platform:
    """What is wanted; an empty part matches anything."""

    system: str
    architecture: str = ""
    variant: str = ""

    def matches(self, system: str, architecture: str) -> bool:
        """Whether an image of this platform will do; the variant is a matter of the image's builder."""
        return self.system == system and self.architecture in ("", architecture)

    def __str__(self) -> str:
        return "/".join(part for part in (self.system, self.architecture, self.variant) if part)


def parse_platform(text: str) -> Platform:
    """Raises InvalidParameter, worded as dockerd does."""
    parts = text.split("/")
    for part in parts:
        if not _COMPONENT.fullmatch(part):
            raise InvalidParameter(f'"{part}" is an invalid component of "{text}": platform specifier component must be a word')
    if len(parts) > 3:
        raise InvalidParameter(f'"{text}": cannot parse platform specifier: invalid argument')
    words = [part.lower() for part in parts]
    if len(words) == 1:
        if words[0] in _SYSTEMS:
            return Platform(words[0], _ARCHITECTURES.get(os.uname().machine, ""))
        if words[0] in _ARCHITECTURES:
            return Platform("linux", _ARCHITECTURES[words[0]])
        raise InvalidParameter(f'"{text}": unknown operating system or architecture: invalid argument')
    architecture = _ARCHITECTURES.get(words[1], words[1])
    return Platform(words[0], architecture, words[2] if len(words) == 3 else "")
