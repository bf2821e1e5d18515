"""Backups and restores against a fake engine: what is asked, what is left behind, and what happens when either side fails."""

from __future__ import annotations

import asyncio
import io
import json
import tarfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web
from support.fake_engine import FakeEngine, drive

from kitepy.client import EngineClient, Invalid, Transfer, Unsupported
from kitepy.client.replacement import body_with_port

HELPER = "h" * 64


def archive(*files: tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


class Volumes:
    """The calls of a backup, noted in order."""

    def __init__(self, engine: FakeEngine) -> None:
        self.calls: list[str] = []
        self.received = b""
        self.made: dict[str, object] = {}
        self.content = archive(("./a", b"x" * 3_000_000))
        self.broken = False
        self.hold: asyncio.Event | None = None
        engine.on("POST", "/containers/create", self.create)
        engine.on("GET", f"/containers/{HELPER}/archive", self.send)
        engine.on("PUT", f"/containers/{HELPER}/archive", self.take)
        engine.on("DELETE", f"/containers/{HELPER}", self.done("remove helper"))
        engine.on("POST", "/volumes/create", self.done("create volume", {"Name": "new"}, 201))
        engine.on("DELETE", "/volumes/new", self.done("remove volume"))

    def done(self, what: str, document: object = None, status: int = 204) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handler(_request: web.Request) -> web.Response:
            self.calls.append(what)
            return web.json_response(document, status=status) if document else web.Response(status=status)

        return handler

    async def create(self, request: web.Request) -> web.Response:
        self.made = json.loads(await request.read())
        self.calls.append("create helper")
        return web.json_response({"Id": HELPER, "Warnings": []}, status=201)

    async def send(self, request: web.Request) -> web.StreamResponse:
        assert "gzip" not in request.headers.get("Accept-Encoding", "")
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        await response.write(self.content[:1_500_000])
        if self.hold is not None:
            await self.hold.wait()
        if self.broken:
            assert request.transport is not None
            request.transport.close()
            return response
        await response.write(self.content[1_500_000:])
        return response

    async def take(self, request: web.Request) -> web.Response:
        self.received = await request.read()
        self.calls.append("put")
        if self.broken:
            return web.json_response({"message": "no space left on device"}, status=500)
        return web.Response()


async def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 5
    while not true():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("name", ["data.tar", "data.tar.gz"])
def test_a_backup_is_the_engine_s_archive_and_its_helper_goes(fake: FakeEngine, tmp_path: Path, name: str) -> None:
    volumes = Volumes(fake)

    async def story(client: EngineClient) -> None:
        steps = [step async for step in client.back_up_volume("data", tmp_path / name)]
        assert steps[-1].done_bytes > 3_000_000
        assert len(steps) < 20

    drive(fake, story)
    assert volumes.calls == ["create helper", "remove helper"]
    assert volumes.made["Labels"] == {"org.kitepy.helper": "volume"}
    with tarfile.open(tmp_path / name) as tar:
        assert [(entry.name, entry.size) for entry in tar] == [("./a", 3_000_000)]
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_backup_that_breaks_off_leaves_the_old_file_as_it_was(fake: FakeEngine, tmp_path: Path) -> None:
    volumes = Volumes(fake)
    volumes.broken = True
    (tmp_path / "data.tar").write_text("old")

    async def story(client: EngineClient) -> None:
        with pytest.raises(Exception, match="does not answer"):
            async for _ in client.back_up_volume("data", tmp_path / "data.tar"):
                pass

    drive(fake, story)
    assert volumes.calls == ["create helper", "remove helper"]
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_a_cancelled_backup_leaves_nothing(fake: FakeEngine, tmp_path: Path) -> None:
    volumes = Volumes(fake)

    async def story(client: EngineClient) -> None:
        volumes.hold = asyncio.Event()
        async with client.back_up_volume("data", tmp_path / "data.tar") as stream:
            async for _ in stream:
                break
        await until(lambda: volumes.calls == ["create helper", "remove helper"] and not list(tmp_path.iterdir()))

    drive(fake, story)


def test_a_place_that_can_not_be_written_is_told_before_the_engine_is_asked_for_the_archive(fake: FakeEngine) -> None:
    volumes = Volumes(fake)

    async def story(client: EngineClient) -> None:
        with pytest.raises(Invalid, match=r"/not/there/x\.tar can't be written: No such file or directory"):
            async for _ in client.back_up_volume("data", Path("/not/there/x.tar")):
                pass

    drive(fake, story)
    assert volumes.calls == ["create helper", "remove helper"]


def test_a_restore_sends_the_file_and_tells_how_far_it_is(fake: FakeEngine, tmp_path: Path) -> None:
    volumes = Volumes(fake)
    (tmp_path / "x.tar").write_bytes(volumes.content)

    async def story(client: EngineClient) -> None:
        steps = [step async for step in client.restore_volume("new", tmp_path / "x.tar", create=True)]
        assert steps[-1] == Transfer(len(volumes.content), len(volumes.content))

    drive(fake, story)
    assert volumes.received == volumes.content
    assert volumes.calls == ["create volume", "create helper", "put", "remove helper"]


@pytest.mark.parametrize("create", [True, False])
def test_a_restore_that_fails_takes_only_its_own_volume_away(fake: FakeEngine, tmp_path: Path, create: bool) -> None:
    volumes = Volumes(fake)
    volumes.broken = True
    (tmp_path / "x.tar").write_bytes(archive(("a", b"1")))

    async def story(client: EngineClient) -> None:
        with pytest.raises(Exception, match="no space left on device"):
            async for _ in client.restore_volume("new", tmp_path / "x.tar", create=create):
                pass

    drive(fake, story)
    assert ("remove volume" in volumes.calls) is create
    assert volumes.calls[-1] == ("remove volume" if create else "remove helper")


def test_what_is_no_archive_is_not_sent(fake: FakeEngine, tmp_path: Path) -> None:
    volumes = Volumes(fake)
    (tmp_path / "x.tar").write_bytes(b"hello" * 1000)

    async def story(client: EngineClient) -> None:
        with pytest.raises(Invalid, match="is not a tar archive"):
            async for _ in client.restore_volume("new", tmp_path / "x.tar", create=True):
                pass

    drive(fake, story)
    assert volumes.calls == []


def test_an_engine_without_the_extension_is_told_from_a_volume_that_is_not_there(fake: FakeEngine) -> None:
    fake.answer("GET", "/kitepy/volumes/data/files", {"message": "page not found"}, 404)
    fake.answer("GET", "/kitepy/volumes/gone/files", {"message": "get gone: no such volume"}, 404)

    async def story(client: EngineClient) -> None:
        with pytest.raises(Unsupported, match="Kitepy's own can"):
            await client.volume_folder("data", "/")
        with pytest.raises(Exception, match="no such volume"):
            await client.volume_folder("gone", "/")

    drive(fake, story)


def test_one_file_is_saved_as_it_is_and_a_folder_as_an_archive(fake: FakeEngine, tmp_path: Path) -> None:
    folder = tarfile.TarInfo("sub")
    folder.type = tarfile.DIRTYPE
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.addfile(folder)

    async def send(request: web.Request) -> web.Response:
        return web.Response(body=buffer.getvalue() if request.query["path"] == "/sub" else archive(("a", b"hello")))

    fake.on("GET", "/kitepy/volumes/data/archive", send)

    async def story(client: EngineClient) -> None:
        assert await client.volume_file("data", "/a", 4) == b"hell"
        for path in ("/a", "/sub"):
            async for _ in client.save_volume_path("data", path, tmp_path / path[1:]):
                pass
        with pytest.raises(Invalid, match="not a file"):
            await client.volume_file("data", "/sub", 4)

    drive(fake, story)
    assert (tmp_path / "a").read_bytes() == b"hello"
    with tarfile.open(tmp_path / "sub") as tar:
        assert tar.getnames() == ["sub"]


INSPECTED = {
    "Id": "abcdef0123456789",
    "Name": "/web",
    "Config": {"Image": "i", "Hostname": "abcdef012345", "Env": ["A=1"], "ExposedPorts": {"80/tcp": {}}},
    "HostConfig": {
        "NetworkMode": "shop",
        "Binds": ["/srv:/www:ro", "/anonymous"],
        "PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}, {"HostIp": "", "HostPort": "9090"}]},
    },
    "Mounts": [
        {"Type": "bind", "Source": "/srv", "Destination": "/www", "RW": False},
        {"Type": "volume", "Name": "v1", "Destination": "/anonymous", "RW": True},
        {"Type": "volume", "Name": "v2", "Destination": "/from-image", "RW": False},
    ],
    "NetworkSettings": {
        "Networks": {
            "shop": {"Aliases": ["w", "abcdef012345"], "IPAMConfig": {"IPv4Address": "10.0.0.9"}, "IPAddress": "10.0.0.9"}
        }
    },
}


def test_a_container_made_anew_differs_in_its_port_and_keeps_its_volumes() -> None:
    body = body_with_port(INSPECTED, "tcp", 8080, 8081)
    assert body["HostConfig"]["PortBindings"]["80/tcp"] == [
        {"HostIp": "127.0.0.1", "HostPort": "8081"},
        {"HostIp": "", "HostPort": "9090"},
    ]
    assert body["HostConfig"]["Binds"] == ["/srv:/www:ro", "v1:/anonymous", "v2:/from-image:ro"]
    assert "Hostname" not in body
    endpoints = {"shop": {"IPAMConfig": {"IPv4Address": "10.0.0.9"}, "Aliases": ["w"]}}
    assert body["NetworkingConfig"] == {"EndpointsConfig": endpoints}
    assert INSPECTED["HostConfig"]["PortBindings"]["80/tcp"][0]["HostPort"] == "8080"  # type: ignore[index]


def test_a_port_that_the_container_does_not_ask_for_by_number_can_not_be_moved() -> None:
    with pytest.raises(Invalid, match="doesn't ask for port 81/tcp"):
        body_with_port(INSPECTED, "tcp", 81, 82)
