"""A data root with the whole storage side of the engine in it, for tests that need no daemon."""

from __future__ import annotations

import asyncio
import io
import json
import tarfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, TypeVar

from kitepy.engine.model.launch import OverlayFlavour
from kitepy.engine.model.oci import ImageConfig, digest_of
from kitepy.engine.services.images import ImageService
from kitepy.engine.services.volumes import VolumeService
from kitepy.engine.storage.content import ContentStore
from kitepy.engine.storage.database import Database
from kitepy.engine.storage.images import ImageStore
from kitepy.engine.storage.layers import LayerStore
from kitepy.engine.storage.overlay import OverlayStore
from kitepy.engine.storage.worker import WorkerPool
from kitepy.engine.volume.store import VolumeStore

Result = TypeVar("Result")
Deadline_s = 60.0


class Storage:
    """All stores and services over one data root; ``events`` and the hooks are plain attributes."""

    def __init__(self, data_root: Path, boot_id: str | None = None, flavour: OverlayFlavour = OverlayFlavour.TRUSTED) -> None:
        self.root = data_root
        self.events: list[tuple[str, str, str]] = []
        self.attributes: list[dict[str, str]] = []
        self.users: dict[str, list[tuple[str, bool]]] = {}
        self.mounted: dict[str, list[str]] = {}
        self.database = Database(data_root / "state.db")
        self.content = ContentStore(data_root)
        self.workers = WorkerPool()
        self.layers = LayerStore(data_root, self.database, self.content, self.workers, boot_id=boot_id, flavour=flavour)
        self.overlays = OverlayStore(data_root, self.layers, self.workers)
        self.image_store = ImageStore(self.database, self.layers)
        self.images = ImageService(
            data_root,
            self.image_store,
            self.layers,
            self.content,
            self.workers,
            emit=self.emit,
            in_use=lambda image_id, _: self.users.get(image_id, []),
            images_in_use=lambda: [image_id for image_id, users in self.users.items() for _ in users],
            apply_changes=apply_cmd,
            open_web_file=no_web,
        )
        self.volume_store = VolumeStore(data_root, self.database, self.workers)
        self.volumes = VolumeService(
            self.volume_store, self.workers, emit=self.emit, references=lambda name: self.mounted.get(name, [])
        )

    def emit(self, kind: str, action: str, actor: str, attributes: Mapping[str, str]) -> None:
        self.events.append((kind, action, actor))
        self.attributes.append(dict(attributes))

    async def close(self) -> None:
        await self.layers.close()
        await self.workers.close()
        self.database.close()


def with_storage(
    data_root: Path,
    story: Callable[[Storage], Awaitable[Result]],
    boot_id: str | None = None,
    flavour: OverlayFlavour = OverlayFlavour.TRUSTED,
) -> Result:
    """Run a coroutine function on a data root, with a deadline."""

    async def main() -> Result:
        storage = Storage(data_root, boot_id, flavour)
        try:
            await storage.layers.reconcile()
            return await asyncio.wait_for(story(storage), Deadline_s)
        finally:
            await storage.close()

    return asyncio.run(main())


def apply_cmd(config: ImageConfig, changes: Sequence[str]) -> ImageConfig:
    """A stand-in for the builder's parser that knows CMD in its JSON form."""
    for change in changes:
        word, _, rest = change.partition(" ")
        assert word == "CMD"
        config = ImageConfig(cmd=tuple(json.loads(rest)))
    return config


def make_tar(*members: tuple[tarfile.TarInfo, bytes] | tarfile.TarInfo, format: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar of entries as they are given, however hostile."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as archive:
        for member in members:
            info, data = member if isinstance(member, tuple) else (member, b"")
            if info.isfile():
                info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def entry(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", **attributes: Any) -> tarfile.TarInfo:
    """One tar header."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode, info.mtime = kind, target, 0o644, 1_700_000_000
    if kind == tarfile.DIRTYPE:
        info.mode = 0o755
    for key, value in attributes.items():
        setattr(info, key, value)
    return info


def docker_archive(layers: Sequence[bytes], *tags: str, config: Mapping[str, Any] | None = None, **document: Any) -> bytes:
    """An archive as ``docker save`` wrote it for years."""
    full = {
        "architecture": "amd64",
        "os": "linux",
        "created": "2024-02-03T04:05:06.789Z",
        "config": dict(config or {"Cmd": ["sh"]}),
        "rootfs": {"type": "layers", "diff_ids": [digest_of(layer) for layer in layers]},
        "history": [{"created": "2024-02-03T04:05:06Z", "created_by": f"step {number}"} for number in range(len(layers))],
        **document,
    }
    raw = json.dumps(full).encode()
    name = digest_of(raw)[7:] + ".json"
    manifest = [{"Config": name, "RepoTags": list(tags) or None, "Layers": [f"l{n}/layer.tar" for n in range(len(layers))]}]
    return make_tar(
        (entry(name), raw),
        *((entry(f"l{number}/layer.tar"), layer) for number, layer in enumerate(layers)),
        (entry("manifest.json"), json.dumps(manifest).encode()),
    )


async def pieces(data: bytes, size: int = 60_000) -> AsyncIterator[bytes]:
    """Bytes as a request body comes in."""
    for start in range(0, len(data), size):
        await asyncio.sleep(0)
        yield data[start : start + size]


async def load(storage: Storage, archive: bytes) -> list[str]:
    """Load an archive; gives the stream messages without line ends."""
    return [message["stream"].strip() async for message in storage.images.load(pieces(archive)) if "stream" in message]


def no_web(url: str) -> AbstractAsyncContextManager[Any]:
    """The web of tests without network."""
    raise AssertionError(f"nobody should ask for {url}")
