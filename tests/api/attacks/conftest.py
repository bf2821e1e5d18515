"""What the attacks share: the program with those that a shell can't do, images with links in them, and a trap on the host."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest
from support.images import CACHE

from kitepy.client.starter import find_busybox, pack_starter

SOURCE = Path(__file__).parents[2] / "support" / "attacks.c"

Import = Callable[[dict[str, str | bytes]], str]


@pytest.fixture(name="attacks", scope="session")
def _attacks() -> Path:
    """The program with the attacks that a shell can't do."""
    target = CACHE / f"attacks-{os.uname().machine}"
    if not target.exists() or target.stat().st_mtime < SOURCE.stat().st_mtime:
        target.parent.mkdir(exist_ok=True)
        fresh = target.with_suffix(f".{os.getpid()}")
        subprocess.run(["gcc", "-O1", "-static", "-o", fresh, SOURCE], check=True, timeout=120)
        fresh.rename(target)
    return target


@pytest.fixture(name="image")
def _image(client: docker.DockerClient, attacks: Path) -> Iterator[Import]:
    """Import BusyBox with the attacks as /attacks, and with links (text) and programs (bytes) by path."""
    made: list[str] = []

    def build(extra: dict[str, str | bytes]) -> str:
        buffer = io.BytesIO()
        names = {name.strip("/") for name in extra}
        entries: dict[str, str | bytes] = {**extra, "attacks": attacks.read_bytes()}
        with (
            tarfile.open(fileobj=io.BytesIO(pack_starter(find_busybox()))) as base,
            tarfile.open(fileobj=buffer, mode="w") as archive,
        ):
            for member in base:
                if member.name.strip("./") not in names:
                    archive.addfile(member, base.extractfile(member) if member.isfile() else None)
            for name, content in entries.items():
                entry = tarfile.TarInfo(name.strip("/"))
                entry.mode = 0o755
                if isinstance(content, str):
                    entry.type, entry.linkname = tarfile.SYMTYPE, content
                    archive.addfile(entry)
                else:
                    entry.size = len(content)
                    archive.addfile(entry, io.BytesIO(content))
        repository = f"attack-{os.getpid()}-{len(made)}"
        client.api.import_image_from_data(buffer.getvalue(), repository=repository, tag="t", changes=['CMD ["sh"]'])
        made.append(f"{repository}:t")
        return made[-1]

    yield build
    for container in client.containers.list(all=True, ignore_removed=True):
        if container.attrs["Config"]["Image"] in made:
            container.remove(force=True, v=True)
    for tag in made:
        client.images.remove(tag, force=True)


@pytest.fixture(name="trap")
def _trap(tmp_path: Path) -> Path:
    """A directory of the host that nothing in a container may reach."""
    trap = tmp_path / "host"
    trap.mkdir()
    (trap / "secret").write_text("the host's\n")
    return trap
