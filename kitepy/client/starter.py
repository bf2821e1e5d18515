"""Makes the starter image's file system from the machine's own static BusyBox; importing it is left to ``api.py``.

No registry is needed for a first build this way, and any engine that has ``POST /images/create?fromSrc=-`` takes it.
"""

from __future__ import annotations

import io
import re
import shutil
import struct
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

from kitepy.client.errors import Unsupported

REPOSITORY = "kitepy/starter"
TAG = "latest"
CHANGES = (
    "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    'CMD ["sh"]',
    'LABEL io.kitepy.starter="made from this machine\'s busybox; remove it whenever you like"',
)
MESSAGE = "Kitepy's starter image, made from this machine's busybox"

_FROM_STARTER = re.compile(
    r"^\s*FROM\s+(?:--\S+\s+)*(?:docker\.io/)?kitepy/starter(?::latest)?(?:\s|$)", re.IGNORECASE | re.MULTILINE
)
_ELF_MAGIC = b"\x7fELF"
_PT_INTERP = 3
_DIRECTORIES = (
    *("bin", "dev", "etc", "home", "proc", "root", "sbin", "sys", "tmp", "usr", "usr/bin", "usr/sbin"),
    *("usr/local", "usr/local/bin", "usr/local/sbin", "var", "var/tmp", "var/www"),
)
_MODES = {"root": 0o700, "tmp": 0o1777, "var/tmp": 0o1777}
_FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33:www-data:/var/www:/bin/false\n"
    "nobody:x:65534:65534:nobody:/:/bin/false\n",
    "etc/group": "root:x:0:\nwww-data:x:33:\nnogroup:x:65534:\n",
    "etc/os-release": 'NAME="Kitepy starter"\nID=kitepy-starter\nPRETTY_NAME="Kitepy starter (BusyBox)"\n',
}


@dataclass(frozen=True)
class BusyBox:
    """A static BusyBox and the paths of its applets, e.g. ``bin/sh``."""

    path: Path
    applets: tuple[str, ...]


def needs_starter(dockerfile_text: str) -> bool:
    """Whether a Dockerfile builds on the starter image."""
    return _FROM_STARTER.search(dockerfile_text) is not None


def find_busybox() -> BusyBox:
    """The machine's BusyBox; raises `Unsupported` with the command that installs one."""
    found = shutil.which("busybox", path="/bin:/usr/bin:/usr/local/bin:/sbin:/usr/sbin")
    if found is None or not is_static(Path(found).read_bytes()):
        raise Unsupported(
            "the starter image is made from a static busybox, and this machine has none: sudo apt-get install busybox-static"
        )
    listing = subprocess.run([found, "--list-full"], capture_output=True, text=True, timeout=10, check=True).stdout
    return BusyBox(Path(found), tuple(sorted({line.strip().lstrip("/") for line in listing.splitlines() if line.strip()})))


def is_static(elf: bytes) -> bool:
    """Whether an ELF program needs no loader: it has no PT_INTERP header (elf(5))."""
    if elf[:4] != _ELF_MAGIC or len(elf) < 64:
        return False
    is_64_bit = elf[4] == 2
    order = "<" if elf[5] == 1 else ">"
    if is_64_bit:
        (offset,) = struct.unpack_from(f"{order}Q", elf, 32)
        entry_size, count = struct.unpack_from(f"{order}HH", elf, 54)
    else:
        (offset,) = struct.unpack_from(f"{order}I", elf, 28)
        entry_size, count = struct.unpack_from(f"{order}HH", elf, 42)
    kinds = (struct.unpack_from(f"{order}I", elf, offset + index * entry_size)[0] for index in range(count))
    return all(kind != _PT_INTERP for kind in kinds)


def pack_starter(busybox: BusyBox) -> bytes:
    """The file system as a tar file; equal input gives equal bytes, so that an unchanged machine makes no second image."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for directory in _DIRECTORIES:
            entry = tarfile.TarInfo(directory)
            entry.type = tarfile.DIRTYPE
            entry.mode = _MODES.get(directory, 0o755)
            archive.addfile(entry)
        _add_file(archive, "bin/busybox", busybox.path.read_bytes(), 0o755)
        for name, text in _FILES.items():
            _add_file(archive, name, text.encode(), 0o644)
        for applet in busybox.applets:
            if applet != "bin/busybox":
                link = tarfile.TarInfo(applet)
                link.type = tarfile.LNKTYPE
                link.linkname = "bin/busybox"
                link.mode = 0o755
                archive.addfile(link)
    return buffer.getvalue()


def _add_file(archive: tarfile.TarFile, name: str, content: bytes, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    entry.mode = mode
    archive.addfile(entry, io.BytesIO(content))
