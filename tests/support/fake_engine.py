"""A tiny engine on a unix socket for tests of front ends: canned answers, no containers.

Runs in a thread with its own event loop, so that blocking clients and any test loop can talk to it.
"""

from __future__ import annotations

import asyncio
import json
import struct
import tempfile
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web

from kitepy.client import EngineClient

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

API_VERSION = "1.51"


def frame(kind: int, data: bytes) -> bytes:
    """One frame of Docker's multiplexed stream; kind 1 is stdout, 2 stderr."""
    return struct.pack(">BxxxL", kind, len(data)) + data


class FakeEngine:
    """A context manager; routes are set per test with ``on(method, path, handler)``, paths without the version."""

    def __init__(self, version: str = "0.0.0-fake") -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="kf-")
        self.socket = Path(self._directory.name) / "engine.sock"
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.bodies: list[bytes] = []
        self.open_requests = 0
        self.changed = threading.Condition()
        self._routes: dict[tuple[str, str], Handler] = {}
        self._version = version
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._ready = threading.Event()
        self._runner: web.AppRunner | None = None
        self.on("GET", "/_ping", _ping)
        self.on("GET", "/version", self._answer_version)

    def on(self, method: str, path: str, handler: Handler) -> None:
        """Answer a path with a handler."""
        self._routes[method, path] = handler

    def answer(self, method: str, path: str, document: object, status: int = 200) -> None:
        """Answer a path with a JSON document."""

        async def handler(_: web.Request) -> web.StreamResponse:
            return web.json_response(document, status=status)

        self.on(method, path, handler)

    def wait_until_idle(self, timeout_s: float = 5) -> bool:
        """Wait until no request is being answered, e.g. because its client went away."""
        with self.changed:
            return self.changed.wait_for(lambda: self.open_requests == 0, timeout_s)

    def wait_for_requests(self, count: int, timeout_s: float = 5) -> bool:
        """Wait until at least so many requests are being answered."""
        with self.changed:
            return self.changed.wait_for(lambda: self.open_requests >= count, timeout_s)

    def __enter__(self) -> FakeEngine:
        self._thread.start()
        if not self._ready.wait(5):
            raise TimeoutError("the fake engine did not start")
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(5)
        self._thread.join(5)
        self._directory.cleanup()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._start())
        self._ready.set()
        self._loop.run_forever()
        self._loop.close()

    async def _start(self) -> None:
        application = web.Application(client_max_size=1 << 30)
        application.router.add_route("*", "/{path:.*}", self._dispatch)
        self._runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.UnixSite(self._runner, str(self.socket)).start()

    async def _stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
        self._loop.call_soon(self._loop.stop)

    async def _dispatch(self, request: web.Request) -> web.StreamResponse:
        path = request.path
        if path.startswith("/v1."):
            path = "/" + path.split("/", 2)[2]
        self.requests.append((request.method, path, dict(request.query)))
        handler = self._routes.get((request.method, path))
        if handler is None:
            return web.json_response({"message": f"page not found: {request.method} {path}"}, status=404)
        self._count(+1)
        try:
            return await handler(request)
        finally:
            self._count(-1)

    def _count(self, change: int) -> None:
        with self.changed:
            self.open_requests += change
            self.changed.notify_all()

    async def _answer_version(self, _: web.Request) -> web.StreamResponse:
        component = {"Name": "Kitepy Engine", "Version": self._version}
        return web.json_response(
            {"Version": "28.0.0", "ApiVersion": API_VERSION, "MinAPIVersion": "1.24", "Components": [component]}
        )


async def _ping(_: web.Request) -> web.StreamResponse:
    return web.Response(text="OK", headers={"Api-Version": API_VERSION})


async def stream(request: web.Request, pieces: list[bytes], content_type: str = "application/json") -> web.StreamResponse:
    """Send pieces as chunks of one answer."""
    response = web.StreamResponse(headers={"Content-Type": content_type})
    response.enable_chunked_encoding()
    await response.prepare(request)
    for piece in pieces:
        await response.write(piece)
    await response.write_eof()
    return response


def json_lines(*documents: object) -> list[bytes]:
    """Documents as an engine streams them."""
    return [json.dumps(document).encode() + b"\r\n" for document in documents]


def drive(fake: FakeEngine, story: Callable[[EngineClient], Awaitable[None]]) -> None:
    """Play a story with a client of the engine, which is closed in any case."""

    async def main() -> None:
        client = EngineClient(fake.socket)
        try:
            await asyncio.wait_for(story(client), 20)
        finally:
            await client.close()

    asyncio.run(main())
