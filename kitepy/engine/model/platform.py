"""Platforms of images: reading what people and clients write, and which images suit one; pure but for ``host_platform``.

Spellings and rules are those of the field's reference implementation (github.com/containerd/platforms): ``x86_64`` is ``amd64``,
``arm64/v8`` is ``arm64``, and a machine runs images of its architecture's earlier variants as well.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from kitepy.engine.model.errors import InvalidParameter

_COMPONENT = re.compile(r"[A-Za-z0-9_.-]+")
_SYSTEM = re.compile(r"([A-Za-z0-9_-]+)(?:\(([A-Za-z0-9_.%-]*)((?:\+[A-Za-z0-9_.%-]+)*)\))?")
_SYSTEM_SHOWN = r"^([A-Za-z0-9_-]+)(?:\\(([A-Za-z0-9_.%-]*)((?:\\+[A-Za-z0-9_.%-]+)*)\\))?$"
_NOT_PARSED = "failed to parse platform"
_MACHINES = {
    "x86_64": ("amd64", ""), "aarch64": ("arm64", ""), "armv7l": ("arm", "v7"), "armv6l": ("arm", "v6"), "i686": ("386", ""),
    "i386": ("386", ""), "ppc64le": ("ppc64le", ""), "s390x": ("s390x", ""), "riscv64": ("riscv64", ""),
    "loongarch64": ("loong64", ""),
}  # fmt: skip
_SYSTEMS = frozenset(
    ("aix", "android", "darwin", "dragonfly", "freebsd", "hurd", "illumos", "ios", "js", "linux", "nacl", "netbsd", "openbsd",
     "plan9", "solaris", "windows", "zos")
)  # fmt: skip
_ARCHITECTURES = frozenset(
    ("386", "amd64", "amd64p32", "arm", "armbe", "arm64", "arm64be", "loong64", "mips", "mipsle", "mips64", "mips64le",
     "mips64p32", "mips64p32le", "ppc", "ppc64", "ppc64le", "riscv", "riscv64", "s390", "s390x", "sparc", "sparc64", "wasm")
)  # fmt: skip


@dataclass(frozen=True)
class Platform:
    """An operating system on an architecture; ``variant`` is empty for the usual one."""

    os: str
    architecture: str
    variant: str = ""
    os_version: str = ""

    @classmethod
    def of(cls, document: Mapping[str, str]) -> Platform:
        """The ``platform`` of a descriptor."""
        parts = (document.get(key, "") for key in ("os", "architecture", "variant", "os.version"))
        return cls(*parts).normalized

    @property
    def normalized(self) -> Platform:
        """The same in the usual spelling."""
        architecture, variant = _usual(self.architecture.lower(), self.variant.lower())
        system = self.os.lower()
        return Platform("darwin" if system == "macos" else system, architecture, variant, self.os_version)

    @property
    def suitable(self) -> tuple[Platform, ...]:
        """Platforms whose programs run here, the best first."""
        own = self.normalized
        parts = [(own.architecture, own.variant)]
        if own.architecture == "amd64":
            parts += [("amd64", f"v{number}" if number > 1 else "") for number in range(_number(own.variant) - 1, 0, -1)]
            parts.append(("386", ""))
        elif own.architecture == "arm":
            parts += [("arm", f"v{number}") for number in range(_number(own.variant or "v7") - 1, 4, -1)]
        elif own.architecture == "arm64":
            if own.variant:
                parts.append(("arm64", ""))
            parts += [("arm", f"v{number}") for number in range(8, 4, -1)]
        return tuple(Platform(own.os, architecture, variant).normalized for architecture, variant in parts)

    def rank(self, image: Platform) -> int | None:
        """How well an image for another platform runs on this one: 0 is best, None not at all."""
        other = image.normalized
        plain = Platform(other.os, other.architecture, other.variant)
        return self.suitable.index(plain) if plain in self.suitable else None

    def is_exactly(self, image: Platform) -> bool:
        """Whether an image is for this platform and no earlier variant of it."""
        own, other = self.normalized, image.normalized
        return (own.os, own.architecture, own.variant) == (other.os, other.architecture, other.variant)

    def accepts(self, image: Platform) -> bool:
        """``is_exactly``, or the image doesn't say which variant it is for."""
        return self.is_exactly(image) or (
            not image.variant and self.is_exactly(Platform(image.os, image.architecture, self.variant))
        )

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


def host_platform() -> Platform:
    """What this machine runs without emulation."""
    machine = os.uname().machine
    architecture, variant = _MACHINES.get(machine, (machine, ""))
    return Platform("linux", architecture, variant)


def parse_platform(text: str) -> Platform:
    """A platform from ``os[/architecture[/variant]]`` or ``architecture``; raises InvalidParameter, worded as dockerd does."""
    parts = text.split("/")
    for number, part in enumerate(parts):
        if number == 0 and not _SYSTEM.fullmatch(part):
            raise InvalidParameter(
                f"{_quoted(part)} is an invalid OS component of {_quoted(text)}: OSAndVersion specifier component must match "
                f'"{_SYSTEM_SHOWN}": invalid argument'
            )
        if number and not _COMPONENT.fullmatch(part):
            raise InvalidParameter(
                f"{_quoted(part)} is an invalid component of {_quoted(text)}: platform specifier component must match "
                f'"^{_COMPONENT.pattern}$": invalid argument'
            )
    if len(parts) > 3:
        raise InvalidParameter(f"{_quoted(text)}: cannot parse platform specifier: invalid argument")
    system, _, version = parts[0].lower().rstrip(")").partition("(")
    if len(parts) == 1:
        host = host_platform()
        if system in _SYSTEMS or system == "macos":
            return Platform(system, host.architecture, host.variant, version).normalized
        architecture, variant = _usual(system, "")
        if architecture not in _ARCHITECTURES:
            raise InvalidParameter(f"{_quoted(text)}: unknown operating system or architecture: invalid argument")
        return Platform("linux", architecture, "" if (architecture, variant) == ("arm", "v7") else variant)
    found = Platform(system, parts[1], parts[2] if len(parts) == 3 else "", version).normalized
    if len(parts) == 3 and (found.architecture, found.variant) == ("arm64", ""):
        return Platform(found.os, "arm64", "v8", version)
    if len(parts) == 2 and (found.architecture, found.variant) == ("arm", "v7"):
        return Platform(found.os, "arm", "", version)
    return found


def parse_platform_document(text: str) -> Platform:
    """The JSON object that clients send as ``platform``; raises InvalidParameter, worded as dockerd does."""
    try:
        document = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise InvalidParameter(f"{_NOT_PARSED}: {_complaint(text, error)}") from None
    if document is not None and not isinstance(document, dict):
        raise InvalidParameter(
            f"failed to parse platform: json: cannot unmarshal {_kind(document)} into Go value of type v1.Platform"
        )
    found: dict[str, str] = {}
    for key, value in (document or {}).items():
        name = key.lower()
        if name not in ("os", "architecture", "variant", "os.version") or value is None:
            continue
        if not isinstance(value, str):
            raise InvalidParameter(
                f"{_NOT_PARSED}: json: cannot unmarshal {_kind(value)} into Go struct field Platform.{name} of type string"
            )
        found[name] = value
    if not found.get("os") or not found.get("architecture"):
        raise InvalidParameter("both OS and Architecture must be provided")
    return Platform(found["os"], found["architecture"], found.get("variant", ""), found.get("os.version", ""))


def _usual(architecture: str, variant: str) -> tuple[str, str]:
    if architecture in ("x86_64", "x86-64", "amd64"):
        return "amd64", "" if variant == "v1" else variant
    if architecture == "i386":
        return "386", ""
    if architecture in ("aarch64", "arm64"):
        return "arm64", "" if variant in ("8", "v8") else variant
    if architecture == "armhf":
        return "arm", "v7"
    if architecture == "armel":
        return "arm", "v6"
    if architecture == "arm":
        return "arm", f"v{variant.removeprefix('v') or '7'}"
    return architecture, variant


def _number(variant: str) -> int:
    digits = variant.removeprefix("v")
    return min(int(digits), 9) if digits.isascii() and digits.isdigit() else 1


def _complaint(text: str, error: Exception) -> str:
    if not isinstance(error, json.JSONDecodeError):
        return "exceeded max depth"
    rest = text[error.pos :].lstrip()
    if not rest:
        return "unexpected end of JSON input"
    place = "after top-level value" if error.msg == "Extra data" else "looking for beginning of value"
    return f"invalid character {rest[0]!r} {place}"


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "bool"
    return {str: "string", int: "number", float: "number", list: "array", dict: "object"}[type(value)]


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
