"""The client against a fake engine: streams arrive in order, can be cancelled, and never leave a thread behind."""

from __future__ import annotations

import asyncio
import io
import tarfile
import threading
import time
from pathlib import Path

import pytest
from aiohttp import web
from support.fake_engine import FakeEngine, drive, frame, json_lines, stream

from kitepy.client import (
    BuildDone,
    BuildFailed,
    BuildOutput,
    BuildStep,
    BuildUpload,
    Conflict,
    ContainerPlan,
    EngineClient,
    EngineUnreachable,
    LogChunk,
    NotFound,
    PublishedPort,
    ServerFailure,
)

MULTIPLEXED = "application/vnd.docker.multiplexed-stream"


def threads_of(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == name]


def wait_for_no_threads(name: str) -> bool:
    deadline = time.monotonic() + 5
    while threads_of(name):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


async def endless_logs(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": MULTIPLEXED})
    response.enable_chunked_encoding()
    await response.prepare(request)
    await response.write(frame(1, b"first\n"))
    await asyncio.Event().wait()
    return response


def test_stdout_and_stderr_are_kept_apart_however_frames_are_cut(fake: FakeEngine) -> None:
    whole = frame(1, b"out\n") + frame(2, b"err\n") + frame(1, "ä".encode() * 100)

    async def logs(request: web.Request) -> web.StreamResponse:
        return await stream(request, [whole[index : index + 3] for index in range(0, len(whole), 3)], MULTIPLEXED)

    fake.on("GET", "/containers/web/logs", logs)

    async def story(client: EngineClient) -> None:
        chunks = [chunk async for chunk in client.logs("web", tail=7, follow=False)]
        assert chunks == [LogChunk("stdout", b"out\n"), LogChunk("stderr", b"err\n"), LogChunk("stdout", "ä".encode() * 100)]

    drive(fake, story)
    assert fake.requests[-1][2] == {"stdout": "1", "stderr": "1", "follow": "0", "timestamps": "0", "tail": "7"}


def test_a_terminal_s_output_comes_raw_as_stdout(fake: FakeEngine) -> None:
    async def logs(request: web.Request) -> web.StreamResponse:
        return await stream(request, [b"\x1b[1mhi\r\n"], "application/vnd.docker.raw-stream")

    fake.on("GET", "/containers/tty/logs", logs)

    async def story(client: EngineClient) -> None:
        assert [chunk async for chunk in client.logs("tty")] == [LogChunk("stdout", b"\x1b[1mhi\r\n")]

    drive(fake, story)


def test_cancelling_the_reader_closes_the_connection_and_ends_the_thread(fake: FakeEngine) -> None:
    fake.on("GET", "/containers/web/logs", endless_logs)

    async def story(client: EngineClient) -> None:
        got_first = asyncio.Event()

        async def read() -> None:
            async for _ in client.logs("web"):
                got_first.set()

        task = asyncio.create_task(read())
        await got_first.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(fake.wait_until_idle)

    drive(fake, story)
    assert wait_for_no_threads("kitepy-logs")


def test_cancelling_works_before_the_engine_has_answered_at_all(fake: FakeEngine) -> None:
    async def silence(_: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        return web.Response()

    fake.on("POST", "/containers/web/wait", silence)

    async def story(client: EngineClient) -> None:
        task = asyncio.create_task(client.wait("web"))
        assert await asyncio.to_thread(fake.wait_for_requests, 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(fake.wait_until_idle)

    drive(fake, story)
    assert wait_for_no_threads("kitepy-wait")


def test_leaving_the_loop_early_closes_the_connection(fake: FakeEngine) -> None:
    fake.on("GET", "/containers/web/logs", endless_logs)

    async def story(client: EngineClient) -> None:
        async for _ in client.logs("web"):
            break
        assert await asyncio.to_thread(fake.wait_until_idle)

    drive(fake, story)
    assert wait_for_no_threads("kitepy-logs")


def test_a_slow_reader_holds_the_engine_back_and_still_gets_everything(fake: FakeEngine) -> None:
    sent = 0
    total = 3000

    async def logs(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse(headers={"Content-Type": MULTIPLEXED})
        response.enable_chunked_encoding()
        await response.prepare(request)
        for _ in range(total):
            await response.write(frame(1, b"x" * 4096))
            sent += 1
        await response.write_eof()
        return response

    fake.on("GET", "/containers/web/logs", logs)

    async def story(client: EngineClient) -> None:
        chunks = client.logs("web")
        first = await anext(chunks)
        assert len(first.data) == 4096
        before = -1
        while before != sent:  # Until the engine stands still: every buffer on the way is full.
            before = sent
            await asyncio.sleep(0.3)
        assert sent < total
        assert 1 + len([chunk async for chunk in chunks]) == total

    drive(fake, story)


def test_events_are_read_as_they_come_even_when_a_character_is_split(fake: FakeEngine) -> None:
    line = '{"Action": "start", "name": "grüße"}\n'.encode()
    middle = line.index("ü".encode()) + 1

    async def events(request: web.Request) -> web.StreamResponse:
        return await stream(request, [line[:middle], line[middle:], line])

    fake.on("GET", "/events", events)

    async def story(client: EngineClient) -> None:
        assert [event["name"] async for event in client.events(since=1.5)] == ["grüße", "grüße"]

    drive(fake, story)
    assert fake.requests[-1][2] == {"since": "1.500000000"}


def test_refusals_become_errors_with_the_engine_s_own_sentence(fake: FakeEngine) -> None:
    fake.answer("GET", "/containers/gone/json", {"message": "No such container: gone"}, 404)
    fake.answer("POST", "/containers/create", {"message": 'Conflict. The container name "/web" is already in use'}, 409)
    fake.answer("POST", "/containers/web/start", {"message": "port is already allocated"}, 500)
    fake.answer("GET", "/containers/gone/logs", {"message": "No such container: gone"}, 404)

    async def story(client: EngineClient) -> None:
        with pytest.raises(NotFound, match=r"^No such container: gone$"):
            await client.container("gone")
        with pytest.raises(Conflict, match="already in use"):
            await client.create(ContainerPlan(image="x", name="web"))
        with pytest.raises(ServerFailure, match=r"^port is already allocated$"):
            await client.start("web")
        with pytest.raises(NotFound, match="gone"):
            await anext(client.logs("gone"))

    drive(fake, story)


def test_nobody_on_the_socket_is_an_unreachable_engine(tmp_path: Path) -> None:
    async def main() -> None:
        client = EngineClient(tmp_path / "none.sock")
        with pytest.raises(EngineUnreachable, match="No such file"):
            await client.ping()
        with pytest.raises(EngineUnreachable):
            await anext(client.events())
        await client.close()

    asyncio.run(main())


def test_a_container_that_can_t_start_stays_and_the_error_names_it(fake: FakeEngine) -> None:
    fake.answer("POST", "/containers/create", {"Id": "abc", "Warnings": []}, 201)
    fake.answer("POST", "/containers/abc/start", {"message": "no such program"}, 400)

    async def story(client: EngineClient) -> None:
        with pytest.raises(Exception, match="no such program") as caught:
            await client.run_image("x")
        assert caught.value.__notes__ == ["container abc"]

    drive(fake, story)


def build_answer(fake: FakeEngine, *documents: object) -> dict[str, list[str]]:
    """Let the fake engine build; gives the names in the context it received."""
    received: dict[str, list[str]] = {}

    async def build(request: web.Request) -> web.StreamResponse:
        with tarfile.open(fileobj=io.BytesIO(await request.read())) as archive:
            received["names"] = sorted(archive.getnames())
        return await stream(request, json_lines(*documents))

    fake.on("POST", "/build", build)
    return received


def test_a_build_sends_what_is_not_ignored_and_tells_its_steps(fake: FakeEngine, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    (tmp_path / "kept.txt").write_text("kept")
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / "big").write_text("big")
    (tmp_path / ".dockerignore").write_text("# comment\nnode_modules\n")
    received = build_answer(
        fake,
        {"stream": "Step 1/2 : FROM scratch"},
        {"stream": "\n"},
        {"stream": " ---> \n"},
        {"stream": "Step 2/2 : COPY . /"},
        {"stream": "\n"},
        {"aux": {"ID": "sha256:0123456789ab"}},
        {"stream": "Successfully built 0123456789ab\n"},
    )

    async def story(client: EngineClient) -> None:
        events = [event async for event in client.build(tmp_path, tag="me/app:1")]
        uploads = [event for event in events if isinstance(event, BuildUpload)]
        assert uploads[-1].bytes_sent == uploads[-1].bytes_total > 0
        assert [event for event in events if not isinstance(event, BuildUpload)] == [
            BuildStep(1, 2, "FROM scratch"),
            BuildOutput(" ---> \n"),
            BuildStep(2, 2, "COPY . /"),
            BuildOutput("Successfully built 0123456789ab\n"),
            BuildDone("sha256:0123456789ab"),
        ]

    drive(fake, story)
    assert received["names"] == [".dockerignore", "Dockerfile", "kept.txt"]
    assert fake.requests[-1][2]["t"] == "me/app:1"


def test_a_failing_step_carries_its_exit_code(fake: FakeEngine, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\nRUN false\n")
    message = "The command '/bin/sh -c false' returned a non-zero code: 3"
    build_answer(fake, {"errorDetail": {"code": 3, "message": message}, "error": message})

    async def story(client: EngineClient) -> None:
        events = [event async for event in client.build(tmp_path)]
        assert events[-1] == BuildFailed(message, 3)

    drive(fake, story)


def test_a_connection_that_breaks_is_a_failed_build(fake: FakeEngine, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    build_answer(fake, {"stream": "Step 1/1 : FROM scratch"})

    async def story(client: EngineClient) -> None:
        assert isinstance([event async for event in client.build(tmp_path)][-1], BuildFailed)

    drive(fake, story)


def test_a_plan_becomes_the_api_s_words() -> None:
    plan = ContainerPlan(
        image="web",
        command=("serve",),
        environment={"A": "1"},
        ports=(PublishedPort(80, host_port=8080), PublishedPort(53, "udp", host_ip="127.0.0.1")),
        binds=("/src:/app:ro",),
        restart="always",
    )
    assert plan.to_api() == {
        "Image": "web",
        "Cmd": ["serve"],
        "Env": ["A=1"],
        "Tty": False,
        "OpenStdin": False,
        "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
        "HostConfig": {
            "PublishAllPorts": False,
            "PortBindings": {"80/tcp": [{"HostIp": "", "HostPort": "8080"}], "53/udp": [{"HostIp": "127.0.0.1", "HostPort": ""}]},
            "Binds": ["/src:/app:ro"],
            "RestartPolicy": {"Name": "always"},
        },
    }
