"""The comma-separated options of ``RUN --mount``."""

from __future__ import annotations

import csv
import re

from kitepy.engine.builder.instructions import RunMount

_KINDS = ("bind", "cache", "tmpfs", "secret", "ssh")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgtp]?)i?b?", re.IGNORECASE)
_TRUE = frozenset({"", "1", "t", "true"})
_FALSE = frozenset({"0", "f", "false"})


def parse_mount(text: str) -> RunMount:
    """A mount from its options, e.g. ``type=cache,target=/root/.cache``; ValueError says what is wrong."""
    fields = next(csv.reader([text]))
    options: dict[str, str] = {}
    for field in fields:
        name, equals, value = field.partition("=")
        name = name.strip().lower()
        if name in ("target", "dst", "destination"):
            name = "target"
        elif name in ("source", "src"):
            name = "source"
        elif name in ("readonly", "ro"):
            name = "readonly"
        elif name in ("readwrite", "rw"):
            name, value = "readonly", "false" if _truth(name, value) else "true"
        elif not equals and name != "required":
            raise ValueError(f'invalid field "{field}" in RUN --mount={text}: must be a key=value pair')
        options[name] = value
    kind = options.pop("type", "bind")
    if kind not in _KINDS:
        raise ValueError(f'unsupported mount type "{kind}": use {", ".join(_KINDS)}')
    mount = RunMount(
        kind=kind,
        target=options.pop("target", ""),
        source=options.pop("source", ""),
        from_=options.pop("from", ""),
        id=options.pop("id", ""),
        sharing=options.pop("sharing", "shared"),
        read_only=_truth("readonly", options.pop("readonly", "true" if kind == "bind" else "false")),
        required=_truth("required", options.pop("required", "false")),
        size_bytes=_size(options.pop("size", "0")),
        mode=int(mode, 8) if (mode := options.pop("mode", "")) else None,
        uid=int(options.pop("uid", "0")),
        gid=int(options.pop("gid", "0")),
        variable=options.pop("env", ""),
    )
    if options:
        raise ValueError(f'unexpected key "{next(iter(options))}" in RUN --mount={text}')
    if not mount.target and kind in ("bind", "cache", "tmpfs"):
        raise ValueError(f"RUN --mount=type={kind} needs a target")
    if mount.sharing not in ("shared", "private", "locked"):
        raise ValueError(f'unsupported sharing value "{mount.sharing}": use shared, private or locked')
    return mount


def _truth(name: str, text: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise ValueError(f"invalid value for {name}: {text}")


def _size(text: str) -> int:
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"invalid value for size: {text}")
    return int(float(match[1]) * 1024 ** " kmgtp".index(match[2].lower() or " "))
