"""Images for tests, made on this machine: no registry is asked for anything."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import docker

from kitepy.client.starter import find_busybox, pack_starter

CACHE = Path(__file__).parents[2] / ".cache"
BUSYBOX = "busybox:latest"


def docker_archive(layers: Iterable[bytes], reference: str, config: Mapping[str, Any] | None = None) -> bytes:
    """Layers (plain tar files, bottom first) as ``docker save`` writes an image."""
    layers = list(layers)
    document = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine),
        "os": "linux",
        "created": "2020-01-01T00:00:00Z",
        "config": {"Cmd": ["sh"], "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], **(config or {})},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest() for layer in layers]},
        "history": [{"created": "2020-01-01T00:00:00Z", "created_by": f"layer {number}"} for number in range(1, len(layers) + 1)],
    }
    config_bytes = json.dumps(document).encode()
    config_name = hashlib.sha256(config_bytes).hexdigest() + ".json"
    names = [f"layer{number}/layer.tar" for number in range(1, len(layers) + 1)]
    manifest = [{"Config": config_name, "RepoTags": [reference], "Layers": names}]
    members = {config_name: config_bytes, **dict(zip(names, layers, strict=True)), "manifest.json": json.dumps(manifest).encode()}
    return tar_of(members)


def tar_of(members: Mapping[str, bytes], mode: int = 0o644) -> bytes:
    """A tar file of regular files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            entry.mode = mode
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def busybox_archive(reference: str = BUSYBOX) -> bytes:
    """A small image whose programs are the machine's static BusyBox."""
    return docker_archive([pack_starter(find_busybox())], reference)


def load_busybox(client: docker.DockerClient) -> str:
    """Load it through the API and give its reference."""
    client.images.load(busybox_archive())
    return BUSYBOX
