"""The app's gateway asks a real engine about images: archives in and out, names, layers, files, and what a cancel leaves."""

from __future__ import annotations

import asyncio
import tarfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from support.engine import EngineUnderTest
from support.images import docker_archive
from support.tarballs import entry, tarball

from kitepy.client import EngineClient, EnginePaths
from kitepy.gui.gateway.engine import EngineGateway
from kitepy.gui.gateway.image_port import ImagesArrived
from kitepy.gui.gateway.port import OperationFailed

pytestmark = pytest.mark.kitepy

BASE = tarball(entry("etc"), entry("etc/passwd", b"root"), entry("etc/old", b"x" * 5000))
ABOVE = tarball(entry("etc"), entry("etc/.wh.old", b""), entry("app", b"hello" * 100_000))
NAME = "kitepy.test/through/app:1"


async def last_of(steps: AsyncIterator[Any]) -> Any:
    return [step async for step in steps][-1]


def test_an_image_goes_through_the_app_s_hands(engine: EngineUnderTest, tmp_path: Path) -> None:
    gateway = EngineGateway(EnginePaths.default({"KITEPY_HOME": str(tmp_path)}))
    gateway._client = EngineClient(engine.socket)
    source, saved = tmp_path / "app.tar", tmp_path / "saved.tar.gz"
    source.write_bytes(docker_archive([BASE, ABOVE], NAME, {"Env": ["A=1"], "Labels": {"team": "shop"}}))

    async def story() -> None:
        assert await gateway.is_image_archive(source)
        assert await last_of(gateway.load_images(source)) == ImagesArrived((NAME,))
        image = next(image for image in await gateway.images() if NAME in image.tags)
        assert image.labels == {"team": "shop"}
        assert image.own_bytes == image.size_bytes == 505_004
        assert (await gateway.image_config(image.id)).environment == ("A=1",)
        layers = await gateway.image_layers(image.id, usage=True)
        assert [(layer.added, layer.changed, layer.removed) for layer in layers.layers] == [(2, 0, 0), (1, 0, 1)]
        assert (layers.wasted_bytes, layers.worst[0].path, layers.worst[0].removed) == (5000, "/etc/old", True)
        folder = await gateway.image_folder(image.id, "/etc", layer=1, own=True)
        assert [(entry.name, entry.change) for entry in folder.entries] == [("old", "removed")]
        assert sum(size for size, images in (await gateway.layer_sizes(image.id)).values()) == image.size_bytes

        other = "localhost:5000/through/other:2"
        await gateway.tag_image(image.id, other)
        progress = await last_of(gateway.save_images([NAME, other], saved))
        assert progress.done_bytes == progress.total_bytes > 505_004
        with tarfile.open(saved) as archive:
            assert "manifest.json" in archive.getnames()
        for name in (NAME, other):
            await gateway.remove_image(name, force=False)
        assert not any(image.id == each.id for each in await gateway.images())
        arrived = await last_of(gateway.load_images(saved))
        assert set(arrived.names) == {NAME, other}
        again = next(each for each in await gateway.images() if NAME in each.tags)
        assert again.id == image.id
        # A load or a save that is cancelled leaves nothing.
        copy = gateway.save_images([NAME], tmp_path / "cancelled.tar")
        await anext(copy)
        await copy.aclose()
        deadline = time.monotonic() + 20
        while list(tmp_path.glob("*cancelled*")):  # its thread notices that nobody waits any more
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        for name in (NAME, other):
            await gateway.remove_image(name, force=False)

    async def whole() -> None:
        try:
            await asyncio.wait_for(story(), 60)
        finally:
            await gateway.close()

    asyncio.run(whole())


def test_other_archives_are_told_apart_and_imported(engine: EngineUnderTest, tmp_path: Path) -> None:
    gateway = EngineGateway(EnginePaths.default({"KITEPY_HOME": str(tmp_path)}))
    gateway._client = EngineClient(engine.socket)
    root, text = tmp_path / "rootfs.tar.gz", tmp_path / "text.tar"
    with tarfile.open(root, "w:gz") as archive:
        for member in ("etc", "bin"):
            info = tarfile.TarInfo(member)
            info.type = tarfile.DIRTYPE
            archive.addfile(info)
    text.write_bytes(b"FROM scratch\n" * 200)

    async def story() -> None:
        assert not await gateway.is_image_archive(root)
        with pytest.raises(OperationFailed, match="is not a tar archive"):
            await gateway.is_image_archive(text)
        with pytest.raises(OperationFailed, match="can't be read"):
            await gateway.is_image_archive(tmp_path / "missing.tar")
        with pytest.raises(OperationFailed):
            await last_of(gateway.load_images(text))  # the engine says what is wrong with it
        arrived = await last_of(gateway.import_image(root, "kitepy.test/rootfs"))
        image = next(each for each in await gateway.images() if "kitepy.test/rootfs:latest" in each.tags)
        assert arrived.names == (image.id,)
        await gateway.remove_image(image.id, force=False)
        with pytest.raises(OperationFailed, match="No such image"):
            await gateway.image_layers(image.id, usage=True)
        await gateway.close()

    asyncio.run(asyncio.wait_for(story(), 60))
