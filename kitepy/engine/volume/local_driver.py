"""Options of the ``local`` volume driver: what is allowed, and which mount(8) they stand for. Pure; ``mount_jobs.py`` mounts.

A volume without options is a plain directory. With ``type``, ``device`` and ``o`` it is whatever mount(8) would mount with them:
a tmpfs, another directory (``o=bind``), a share of a file server. As with Docker a value is tried at the first use, not before.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from kitepy.engine.kernel import mounts
from kitepy.engine.model.errors import InvalidParameter

_KNOWN = ("type", "o", "device", "size")
_NEEDS = {"type": ("device",), "device": ("type",), "o": ("device", "type")}
_SIZE = re.compile(r"\d+(\.\d+)? ?([kmgtp]i?)?b?", re.IGNORECASE)

_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_SYNCHRONOUS = 0x2, 0x4, 0x8, 0x10
_MS_DIRSYNC, _MS_NOATIME, _MS_NODIRATIME, _MS_RELATIME, _MS_STRICTATIME = 0x80, 0x400, 0x800, 0x200000, 0x1000000
_FLAGS = {
    # word: (whether it sets the flags, flags)
    "ro": (True, mounts.MS_RDONLY),
    "rw": (False, mounts.MS_RDONLY),
    "nosuid": (True, _MS_NOSUID),
    "suid": (False, _MS_NOSUID),
    "nodev": (True, _MS_NODEV),
    "dev": (False, _MS_NODEV),
    "noexec": (True, _MS_NOEXEC),
    "exec": (False, _MS_NOEXEC),
    "sync": (True, _MS_SYNCHRONOUS),
    "async": (False, _MS_SYNCHRONOUS),
    "dirsync": (True, _MS_DIRSYNC),
    "noatime": (True, _MS_NOATIME),
    "atime": (False, _MS_NOATIME),
    "nodiratime": (True, _MS_NODIRATIME),
    "diratime": (False, _MS_NODIRATIME),
    "relatime": (True, _MS_RELATIME),
    "norelatime": (False, _MS_RELATIME),
    "strictatime": (True, _MS_STRICTATIME),
    "nostrictatime": (False, _MS_STRICTATIME),
    "bind": (True, mounts.MS_BIND),
    "rbind": (True, mounts.MS_BIND | mounts.MS_REC),
}
_PROPAGATION = {
    "private": mounts.MS_PRIVATE,
    "rprivate": mounts.MS_PRIVATE | mounts.MS_REC,
    "shared": mounts.MS_SHARED,
    "rshared": mounts.MS_SHARED | mounts.MS_REC,
    "slave": mounts.MS_SLAVE,
    "rslave": mounts.MS_SLAVE | mounts.MS_REC,
    "unbindable": mounts.MS_UNBINDABLE,
    "runbindable": mounts.MS_UNBINDABLE | mounts.MS_REC,
}
_NETWORK_FILE_SYSTEMS = frozenset({"nfs", "nfs4", "cifs", "smb3"})


@dataclass(frozen=True)
class VolumeMount:
    """One mount(2)."""

    kind: str
    device: str
    flags: int
    data: str
    propagation: int = 0
    server: str = ""
    """Name of the file server, whose address the kernel wants to be told as ``addr=``."""


def check_options(name: str, options: Mapping[str, str]) -> None:
    """Raise InvalidParameter unless the options can belong together; ``name`` is the volume's, for the message."""
    if not options:
        return
    unknown = next((option for option in options if option not in _KNOWN), None)
    if unknown is not None:
        raise InvalidParameter(f'create {name}: invalid option: "{unknown}"')
    if "size" in options:
        if not _SIZE.fullmatch(options["size"]):
            raise InvalidParameter(f"create {name}: invalid size: '{options['size']}'")
        raise InvalidParameter(f"create {name}: quota size requested but no quota support")
    for option in options:
        for needed in _NEEDS[option]:
            if needed not in options:
                raise InvalidParameter(f'create {name}: missing required option: "{needed}"')


def volume_mount(options: Mapping[str, str] | None) -> VolumeMount | None:
    """What must be mounted to use a volume with these options; None when it is a plain directory."""
    if not options or not options.get("device"):
        return None
    flags, propagation, data, server = 0, 0, [], ""
    kind = options.get("type", "")
    for word in options.get("o", "").split(","):
        if word in _FLAGS:
            sets, bits = _FLAGS[word]
            flags = flags | bits if sets else flags & ~bits
        elif word in _PROPAGATION:
            propagation = _PROPAGATION[word]
        elif word.startswith("addr=") and kind in _NETWORK_FILE_SYSTEMS:
            server = word.removeprefix("addr=")
        elif word not in ("", "defaults"):
            data.append(word)
    device = options["device"]
    if kind in ("cifs", "smb3") and not server:
        server = device.lstrip("/").partition("/")[0]
    return VolumeMount(kind, device, flags, ",".join(data), propagation, server)
