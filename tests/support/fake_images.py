"""The part of the app's engine in memory that is about images."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from kitepy.gui.gateway.image_port import ImagesArrived, Progress
from kitepy.gui.gateway.port import OperationFailed
from kitepy.gui.models.image import Image
from kitepy.gui.models.image_detail import ImageDetails, ImageLayer, ImageLayers, ImageStep, Wasted
from kitepy.gui.models.transfer import TransferMessage
from kitepy.gui.models.volume import FileEntry, Folder

STEPS = (
    ImageStep("/bin/sh -c #(nop) ADD file:5f1c1e0b2b9a in / ", "2026-10-01T08:00:00Z", layer=0),
    ImageStep('/bin/sh -c #(nop)  CMD ["bash"]', "2026-10-01T08:00:01Z"),
    ImageStep(
        "RUN /bin/sh -c apt-get update && apt-get install -y --no-install-recommends python3 ca-certificates # buildkit",
        "2026-11-20T10:00:00Z",
        layer=1,
    ),
    ImageStep("WORKDIR /srv", "2026-11-20T10:00:10Z"),
    ImageStep("COPY . /srv # buildkit", "2026-11-20T10:00:12Z", layer=2),
    ImageStep("RUN /bin/sh -c rm -rf /var/lib/apt/lists/* # buildkit", "2026-11-20T10:00:20Z", layer=3),
    ImageStep("EXPOSE map[8080/tcp:{}]", "2026-11-20T10:00:21Z"),
    ImageStep('CMD ["python3" "-m" "reports"]', "2026-11-20T10:00:21Z"),
)
LAYERS = ImageLayers(
    STEPS,
    (
        ImageLayer(0, 78_000_000, "sha256:" + "a" * 64, 3, 3120, 0, 0, 42_000_000),
        ImageLayer(1, 92_000_000, "sha256:" + "b" * 64, 1, 2210, 14, 1, 21_400_000),
        ImageLayer(2, 14_000_000, "sha256:" + "c" * 64, 1, 118, 2, 0, 0),
        ImageLayer(3, 0, "sha256:" + "d" * 64, 1, 0, 0, 12, 0),
    ),
    63_400_000,
    (
        Wasted("/var/lib/apt/lists", True, 0, 3, True, 12, 42_000_000),
        Wasted("/var/cache/apt/pkgcache.bin", False, 1, 3, True, 1, 21_300_000),
        Wasted("/etc/ld.so.cache", False, 1, 2, False, 1, 100_000),
    ),
)
CONFIG = ImageDetails(
    platform="linux/amd64",
    created_at="2026-11-20T10:00:21Z",
    author="Team Reports",
    user="app",
    directory="/srv",
    command=("python3", "-m", "reports"),
    environment=("PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8"),
    ports=("8080/tcp",),
    volumes=("/srv/data",),
    labels={"org.opencontainers.image.title": "Reports", "org.opencontainers.image.version": "1.4"},
    health_check="curl -f http://localhost:8080/health",
)
FILES = {
    (3, True, "/"): (FileEntry("var", "directory", 0, 0o755, change="none", layer=3),),
    (3, True, "/var"): (FileEntry("lib", "directory", 0, 0o755, change="none", layer=3),),
    (3, True, "/var/lib"): (FileEntry("apt", "directory", 0, 0o755, change="none", layer=3),),
    (3, True, "/var/lib/apt"): (FileEntry("lists", "directory", 0, 0o755, change="removed", layer=0),),
    (2, True, "/"): (
        FileEntry("etc", "directory", 0, 0o755, change="none", layer=2),
        FileEntry("srv", "directory", 0, 0o755, change="added", layer=2),
    ),
    (2, True, "/etc"): (FileEntry("ld.so.cache", "file", 96_000, 0o644, change="changed", layer=2),),
    (2, True, "/srv"): (
        FileEntry("reports", "directory", 0, 0o755, 1000, 1000, change="added", layer=2),
        FileEntry("model.bin", "file", 13_400_000, 0o644, 1000, 1000, change="added", layer=2),
        FileEntry("pyproject.toml", "file", 1_840, 0o644, 1000, 1000, change="added", layer=2),
        FileEntry("current", "symlink", 7, 0o777, link_target="reports", change="added", layer=2),
    ),
}


@dataclass
class FakeImages:
    """Change its fields to say what happens next."""

    images_by_id: dict[str, Image] = field(default_factory=dict)
    layers_by_id: dict[str, ImageLayers] = field(default_factory=dict)
    """What is looked into, else `LAYERS`."""
    image_files: dict[tuple[int, bool, str], tuple[FileEntry, ...]] = field(default_factory=lambda: dict(FILES))
    image_failure: str = ""
    usage_failure: str = ""
    hold_usage: asyncio.Event | None = None
    page_size: int = 1000
    archive_is_image: bool = True
    push_messages: list[TransferMessage] = field(default_factory=list)
    push_failure: str = ""
    hold_push: asyncio.Event | None = None

    async def images(self) -> tuple[Image, ...]:
        await asyncio.sleep(0)
        return tuple(self.images_by_id.values())

    async def image_config(self, image_id: str) -> ImageDetails:
        await self._operate("image_config", image_id)
        if self.image_failure:
            raise OperationFailed(self.image_failure)
        return replace(CONFIG, digests=self.images_by_id[image_id].digests)

    async def image_layers(self, image_id: str, *, usage: bool) -> ImageLayers:
        await self._operate("image_layers", image_id, "usage" if usage else "")
        layers = self.layers_by_id.get(image_id, LAYERS)
        if not usage:
            bare = tuple(replace(layer, added=None, changed=None, removed=None, wasted_bytes=None) for layer in layers.layers)
            return replace(layers, layers=bare, wasted_bytes=None, worst=())
        if self.hold_usage is not None:
            await self.hold_usage.wait()
        if self.usage_failure:
            raise OperationFailed(self.usage_failure)
        return layers

    async def image_folder(self, image_id: str, path: str, *, layer: int, own: bool, after: str = "") -> Folder:
        await self._operate("image_folder", image_id, path, str(layer), "own" if own else "all", after)
        if self.image_failure:
            raise OperationFailed(self.image_failure)
        entries = self.image_files.get((layer, own, path), ())
        if not own and not entries:
            seen = {entry.name: entry for number in range(layer + 1) for entry in self.image_files.get((number, True, path), ())}
            entries = tuple(replace(entry, change="none") for entry in seen.values())
        start = int(after or 0)
        end = start + self.page_size
        return Folder(entries[start:end], following=str(end) if end < len(entries) else "")

    async def layer_sizes(self, image_id: str) -> Mapping[str, tuple[int, int]]:
        await self._operate("layer_sizes", image_id)
        image = self.images_by_id[image_id]
        shared = image.shared_bytes or 0
        return (
            {f"own {image_id}": (image.size_bytes - shared, 1), "shared": (shared, 2)}
            if shared
            else {f"own {image_id}": (image.size_bytes, 1)}
        )

    async def tag_image(self, image_id: str, name: str) -> None:
        await self._operate("tag_image", image_id, name)
        name = name if ":" in name.rpartition("/")[2] else f"{name}:latest"
        for image in list(self.images_by_id.values()):
            tags = tuple(tag for tag in image.tags if tag != name)
            if image.id == image_id:
                tags = (*tags, name)
            self.images_by_id[image.id] = replace(image, tags=tags)
        self.emit("image", "tag", image_id, name=name)

    async def remove_image(self, reference: str, *, force: bool) -> None:
        await self._operate("remove_image", reference, "force" if force else "")
        for image in list(self.images_by_id.values()):
            tags = tuple(tag for tag in image.tags if tag != reference)
            if reference == image.id or (tags != image.tags and not tags):
                del self.images_by_id[image.id]
                self.emit("image", "delete", image.id)
            elif tags != image.tags:
                self.images_by_id[image.id] = replace(image, tags=tags)
                self.emit("image", "untag", image.id)

    async def save_images(self, references: Sequence[str], target: Path) -> AsyncIterator[Progress]:
        async for progress in self._copy("save_images", *references, str(target)):
            yield progress
        target.write_bytes(b"saved")

    async def is_image_archive(self, source: Path) -> bool:
        await self._operate("is_image_archive", str(source))
        return self.archive_is_image

    async def load_images(self, source: Path) -> AsyncIterator[Progress | ImagesArrived]:
        async for progress in self._copy("load_images", str(source)):
            yield progress
        image = self.add_image("loaded/app:1.0", age_s=60)
        self.emit("image", "load", image.id)
        yield ImagesArrived(image.tags)

    async def import_image(self, source: Path, name: str) -> AsyncIterator[Progress | ImagesArrived]:
        async for progress in self._copy("import_image", str(source), name):
            yield progress
        image = self.add_image(f"{name}:latest", age_s=0)
        self.emit("image", "import", image.id)
        yield ImagesArrived((image.id,))

    async def push_image(self, name: str, *, all_tags: bool) -> AsyncIterator[TransferMessage]:
        await self._operate("push_image", name, "all" if all_tags else "")
        for message in self.push_messages:
            yield message
        if self.hold_push is not None:
            await self.hold_push.wait()
        if self.push_failure:
            raise OperationFailed(self.push_failure)

    # What the rest of the gateway gives

    def add_image(self, *tags: str, age_s: float = 600) -> Image:
        raise NotImplementedError

    def emit(self, kind: str, action: str, object_id: str, **attributes: str) -> None:
        raise NotImplementedError

    async def _operate(self, *call: str) -> None:
        raise NotImplementedError

    def _copy(self, *call: str) -> AsyncIterator[Progress]:
        raise NotImplementedError
