"""The Engine API as asyncio operations: docker-py in a small thread pool, one thread for each stream.

Works under any event loop and against any engine that speaks the API. Contexts for remote engines and registry
credentials come later: they will be other ways to make ``transport.open_api``'s client.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from kitepy.client import context as build_context
from kitepy.client import replacement, starter
from kitepy.client.build_events import BuildEvent, BuildParser, BuildUpload
from kitepy.client.connection import chunks, messages, open_response
from kitepy.client.errors import ClientError, EngineUnreachable, NotFound, ServerFailure
from kitepy.client.images import ImageCalls
from kitepy.client.lifeline import Lifeline
from kitepy.client.networks import NetworkCalls
from kitepy.client.plans import ContainerPlan
from kitepy.client.registries import RegistryCalls
from kitepy.client.stream import Emit, PumpedStream
from kitepy.client.volumes import VolumeCalls

_MULTIPLEXED = "application/vnd.docker.multiplexed-stream"
_RAW = "application/vnd.docker.raw-stream"
_FRAME_HEADER = struct.Struct(">BxxxL")


@dataclass(frozen=True)
class LogChunk:
    """Output of a container as it was written: any number of lines, or a part of one. With a terminal all is stdout."""

    stream: Literal["stdout", "stderr"]
    data: bytes


class EngineClient(ImageCalls, VolumeCalls, NetworkCalls, RegistryCalls):
    """One engine behind a unix socket. Methods raise `ClientError`; close it when done.

    Streams are asynchronous iterators and context managers; cancelling their reader closes the connection.
    """

    # --- the engine --------------------------------------------------------------------------------------------------

    async def ping(self) -> bool:
        """True when the engine answers; raises `EngineUnreachable` otherwise."""
        return await self._call(lambda api: bool(api.ping()))

    async def version(self) -> dict[str, Any]:
        """``GET /version``."""
        return await self._call(lambda api: dict(api.version()))

    async def info(self) -> dict[str, Any]:
        """``GET /info``."""
        return await self._call(lambda api: dict(api.info()))

    def events(
        self, since: float | None = None, filters: Mapping[str, Iterable[str]] | None = None
    ) -> PumpedStream[dict[str, Any]]:
        """The engine's events from now on, or from a moment in seconds since the epoch."""
        query = {key: list(values) for key, values in (filters or {}).items()}

        def produce(lifeline: Lifeline, emit: Emit[dict[str, Any]]) -> None:
            api = self._stream_api(lifeline)
            parameters: dict[str, Any] = {} if since is None else {"since": f"{since:.9f}"}
            if query:
                parameters["filters"] = json.dumps(query)
            with open_response(api, "get", "/events", params=parameters) as response:
                for message in messages(response):
                    emit(message)

        return PumpedStream(produce, name="kitepy-events")

    # --- containers --------------------------------------------------------------------------------------------------

    async def containers(self, all: bool = True) -> list[dict[str, Any]]:
        """``GET /containers/json``."""
        return await self._call(lambda api: list(api.containers(all=all)))

    async def container(self, container_id: str) -> dict[str, Any]:
        """``GET /containers/{id}/json``."""
        return await self._call(lambda api: dict(api.inspect_container(container_id)))

    async def create(self, plan: ContainerPlan) -> str:
        """Create a container and give its id."""
        body = plan.to_api()
        return await self._call(lambda api: str(api.create_container_from_config(body, plan.name)["Id"]))

    async def run(self, plan: ContainerPlan) -> str:
        """Create and start a container; when it can't be started it stays, and the error carries a note with its id."""
        container_id = await self.create(plan)
        try:
            await self.start(container_id)
        except ClientError as error:
            error.add_note(f"container {container_id}")
            raise
        return container_id

    async def run_image(
        self, image: str, name: str | None = None, publish_all: bool = True, environment: Mapping[str, str] | None = None
    ) -> str:
        """Run an image as it wants to be run: its own command, its exposed ports published."""
        return await self.run(ContainerPlan(image=image, name=name, publish_all=publish_all, environment=dict(environment or {})))

    async def start(self, container_id: str) -> None:
        """Start it; nothing happens when it runs already."""
        await self._call(lambda api: api.start(container_id))

    async def stop(self, container_id: str, timeout_s: int = 10) -> None:
        """Ask it to end, and kill it after the grace period."""
        await self._call(lambda api: api.stop(container_id, timeout=timeout_s))

    async def restart(self, container_id: str, timeout_s: int = 10) -> None:
        """Stop and start it."""
        await self._call(lambda api: api.restart(container_id, timeout=timeout_s))

    async def kill(self, container_id: str, signal: str = "SIGKILL") -> None:
        """Send a signal to its first process."""
        await self._call(lambda api: api.kill(container_id, signal))

    async def pause(self, container_id: str) -> None:
        """Freeze its processes."""
        await self._call(lambda api: api.pause(container_id))

    async def unpause(self, container_id: str) -> None:
        """Let its processes go on."""
        await self._call(lambda api: api.unpause(container_id))

    async def rename(self, container_id: str, name: str) -> None:
        """Give it another name."""
        await self._call(lambda api: api.rename(container_id, name))

    async def remove(self, container_id: str, force: bool = False, volumes: bool = False) -> None:
        """Remove it; ``volumes`` takes its anonymous volumes along."""
        await self._call(lambda api: api.remove_container(container_id, force=force, v=volumes))

    async def move_port(self, container_id: str, protocol: str, old: int, new: int) -> str:
        """Make a stopped container anew with another port of the host, start it and give its id."""
        return await self._call(lambda api: replacement.move_port(api, container_id, protocol, old, new))

    async def wait(self, container_id: str) -> int:
        """Wait for its end and give the exit code. A stream in disguise: cancelling it closes the connection."""

        def produce(lifeline: Lifeline, emit: Emit[int]) -> None:
            api = self._stream_api(lifeline)
            with open_response(api, "post", f"/containers/{container_id}/wait") as response:
                emit(int(response.json()["StatusCode"]))

        async with PumpedStream(produce, name="kitepy-wait") as stream:
            async for code in stream:
                return code
        raise EngineUnreachable("the engine ended the connection before the container ended")

    def logs(
        self,
        container_id: str,
        tail: int | Literal["all"] = 1000,
        follow: bool = True,
        timestamps: bool = False,
        since: float | None = None,
    ) -> PumpedStream[LogChunk]:
        """Its output: the last ``tail`` lines, then what comes while ``follow`` is set."""
        parameters: dict[str, Any] = {
            "stdout": 1,
            "stderr": 1,
            "follow": int(follow),
            "timestamps": int(timestamps),
            "tail": tail,
        }
        if since is not None:
            parameters["since"] = f"{since:.9f}"

        def produce(lifeline: Lifeline, emit: Emit[LogChunk]) -> None:
            api = self._stream_api(lifeline)
            with open_response(api, "get", f"/containers/{container_id}/logs", params=parameters) as response:
                if _is_multiplexed(response, lambda: bool(api.inspect_container(container_id)["Config"]["Tty"])):
                    for kind, data in _frames(response):
                        emit(LogChunk("stderr" if kind == 2 else "stdout", data))
                else:
                    for data in chunks(response):
                        emit(LogChunk("stdout", data))

        return PumpedStream(produce, name="kitepy-logs")

    # --- images ------------------------------------------------------------------------------------------------------

    async def ensure_starter_image(self) -> str:
        """Make ``kitepy/starter`` from the machine's busybox unless it is there, and give its id."""
        return await self._call(_ensure_starter)

    def build(
        self,
        context_dir: Path,
        dockerfile: str | None = None,
        tag: str | None = None,
        nocache: bool = False,
        build_args: Mapping[str, str] | None = None,
    ) -> PumpedStream[BuildEvent]:
        """Build a folder. Ends with `BuildDone` or `BuildFailed`; cancelling it ends the running step in the engine.

        A folder that builds on ``kitepy/starter`` gets that image made first, if it is missing.
        """

        def produce(lifeline: Lifeline, emit: Emit[BuildEvent]) -> None:
            api = self._stream_api(lifeline)
            packed = build_context.pack(context_dir, dockerfile)
            with packed.file:
                self._ensure_base_image(context_dir, packed.dockerfile)
                body = build_context.UploadReader(
                    packed, lambda sent, total: emit(BuildUpload(sent, total)), lambda: lifeline.cut_off
                )
                parameters: dict[str, Any] = {"dockerfile": packed.dockerfile, "rm": 1, "forcerm": 1, "nocache": int(nocache)}
                if tag:
                    parameters["t"] = tag
                if build_args:
                    parameters["buildargs"] = json.dumps(dict(build_args))
                headers = {"Content-Type": "application/x-tar"}
                with open_response(api, "post", "/build", params=parameters, data=body, headers=headers) as response:
                    _follow_build(response, emit)

        return PumpedStream(produce, name="kitepy-build")

    # --- inside ------------------------------------------------------------------------------------------------------

    def _ensure_base_image(self, directory: Path, dockerfile: str) -> None:
        path = directory / dockerfile
        if path.is_file() and starter.needs_starter(path.read_text(encoding="utf-8", errors="replace")):
            _ensure_starter(self._api())


def _ensure_starter(api: Any) -> str:
    from kitepy.client.translation import TRANSLATED, translate

    name = f"{starter.REPOSITORY}:{starter.TAG}"
    try:
        return str(api.inspect_image(name)["Id"])
    except TRANSLATED as error:
        if not isinstance(translate(error), NotFound):
            raise
    archive = starter.pack_starter(starter.find_busybox())
    parameters = {
        "fromSrc": "-",
        "repo": starter.REPOSITORY,
        "tag": starter.TAG,
        "message": starter.MESSAGE,
        "changes": list(starter.CHANGES),
    }
    with open_response(
        api, "post", "/images/create", params=parameters, data=archive, headers={"Content-Type": "application/x-tar"}
    ) as response:
        for message in messages(response):
            if "error" in message:
                raise ServerFailure(f"the starter image could not be made: {message['error']}")
    return str(api.inspect_image(name)["Id"])


def _follow_build(response: Any, emit: Emit[BuildEvent]) -> None:
    parser = BuildParser()
    for message in messages(response):
        for event in parser.feed(message):
            emit(event)
    for event in parser.finish():
        emit(event)


def _is_multiplexed(response: Any, has_terminal: Callable[[], bool]) -> bool:
    """Whether frames wrap the stream: engines since API 1.42 tell by the content type, older ones don't."""
    kind = response.headers.get("Content-Type", "")
    if kind in (_MULTIPLEXED, _RAW):
        return bool(kind == _MULTIPLEXED)
    return not has_terminal()


def _frames(response: Any) -> Iterator[tuple[int, bytes]]:
    """Docker's stream format: a kind byte, three zero bytes, the length, the data (Engine API, ContainerAttach)."""
    buffer = bytearray()
    for data in chunks(response):
        buffer += data
        while len(buffer) >= _FRAME_HEADER.size:
            kind, length = _FRAME_HEADER.unpack_from(buffer)
            end = _FRAME_HEADER.size + length
            if len(buffer) < end:
                break
            yield kind, bytes(buffer[_FRAME_HEADER.size : end])
            del buffer[:end]
