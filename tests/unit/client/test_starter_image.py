"""The starter image's file system, and how the client makes the image when a build needs it."""

from __future__ import annotations

import asyncio
import io
import tarfile
from pathlib import Path

import pytest
from aiohttp import web
from support.fake_engine import FakeEngine, json_lines, stream

from kitepy.client import EngineClient, Unsupported
from kitepy.client.starter import BusyBox, find_busybox, is_static, needs_starter, pack_starter


@pytest.mark.parametrize(
    ("text", "needed"),
    [
        ("FROM kitepy/starter\n", True),
        ("# syntax\nfrom kitepy/starter:latest AS base\n", True),
        ("FROM --platform=linux/amd64 docker.io/kitepy/starter\n", True),
        ("FROM kitepy/starter:2\n", False),
        ("FROM kitepy/starter-kit\n", False),
        ("FROM debian\n# FROM kitepy/starter\n", False),
    ],
)
def test_a_dockerfile_s_base_tells_whether_the_starter_is_needed(text: str, needed: bool) -> None:
    assert needs_starter(text) is needed


def test_equal_machines_pack_equal_bytes(tmp_path: Path) -> None:
    program = tmp_path / "busybox"
    program.write_bytes(b"program")
    busybox = BusyBox(program, ("bin/sh", "usr/sbin/httpd"))
    packed = pack_starter(busybox)
    assert packed == pack_starter(busybox)
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        assert archive.getmember("bin/sh").linkname == "bin/busybox"
        assert archive.getmember("tmp").mode == 0o1777
        assert {entry.uid for entry in archive} == {0}


def test_a_program_with_a_loader_is_not_static() -> None:
    assert not is_static(Path("/bin/sh").resolve().read_bytes())
    assert not is_static(b"#!/bin/sh\n")


def test_the_machine_s_busybox_is_static_and_has_a_web_server() -> None:
    try:
        busybox = find_busybox()
    except Unsupported as reason:
        pytest.skip(str(reason))
    assert {"bin/sh", "usr/sbin/httpd"} <= set(busybox.applets)


def test_a_build_on_the_starter_makes_it_first_when_it_is_missing(tmp_path: Path) -> None:
    try:
        find_busybox()
    except Unsupported as reason:
        pytest.skip(str(reason))
    (tmp_path / "Dockerfile").write_text("FROM kitepy/starter\n")
    with FakeEngine() as engine:
        imported: list[bytes] = []

        async def create(request: web.Request) -> web.StreamResponse:
            imported.append(await request.read())
            engine.answer("GET", "/images/kitepy/starter:latest/json", {"Id": "sha256:aa"})
            return await stream(request, json_lines({"status": "sha256:aa"}))

        async def build(request: web.Request) -> web.StreamResponse:
            await request.read()
            return await stream(request, json_lines({"aux": {"ID": "sha256:bb"}}))

        engine.on("POST", "/images/create", create)
        engine.on("POST", "/build", build)

        async def main() -> None:
            client = EngineClient(engine.socket)
            for _ in range(2):
                async for _event in client.build(tmp_path):
                    pass
            await client.close()

        asyncio.run(main())
        assert len(imported) == 1
        with tarfile.open(fileobj=io.BytesIO(imported[0])) as archive:
            assert archive.getmember("bin/busybox").size > 100_000
        query = next(query for method, path, query in engine.requests if (method, path) == ("POST", "/images/create"))
        assert query["repo"] == "kitepy/starter"
