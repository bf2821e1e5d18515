"""One request on its way to a handler, the routes handlers are registered by, and the services they call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

from aiohttp import StreamReader, web
from msgspec import Struct

from kitepy.engine.model.errors import Cancelled, Unsupported
from kitepy.engine.server.api_version import ApiVersion
from kitepy.engine.server.bodies import JSON_LIMIT_BYTES, decode_body
from kitepy.engine.server.errors import BadRequest, BodyTooLarge, BodyTooSlow
from kitepy.engine.server.media_type import require_json
from kitepy.engine.server.protocol import EdgeProtocol
from kitepy.engine.server.query import Query
from kitepy.engine.services.ports import (
    BuildService,
    ContainerArchives,
    ContainerObserver,
    ContainerService,
    DiskUsageService,
    EventStream,
    ExecService,
    ImageContents,
    ImageService,
    NetworkService,
    PullService,
    PushService,
    RegistryBrowsing,
    RegistryService,
    SystemService,
    VolumeService,
)

Body = TypeVar("Body", bound=Struct)
Service = TypeVar("Service")


@dataclass(frozen=True)
class Services:
    """The use cases behind the API; a resource whose service is None answers 501."""

    system: SystemService
    events: EventStream
    containers: ContainerService | None = None
    execs: ExecService | None = None
    images: ImageService | None = None
    pulls: PullService | None = None
    pushes: PushService | None = None
    image_contents: ImageContents | None = None
    builds: BuildService | None = None
    volumes: VolumeService | None = None
    networks: NetworkService | None = None
    observer: ContainerObserver | None = None
    disk_usage: DiskUsageService | None = None
    registries: RegistryService | None = None
    registry_browsing: RegistryBrowsing | None = None
    archives: ContainerArchives | None = None


class Call:
    """What a handler gets: the request's parts, read when asked for."""

    __slots__ = ("_services", "argument", "query", "request", "request_id", "version")

    def __init__(
        self, request: web.BaseRequest, services: Services, argument: str, query: Query, version: ApiVersion, request_id: str
    ) -> None:
        self.request = request
        self._services = services
        self.argument = argument
        """What the route's placeholder stands for: a container's name, an image's reference …"""
        self.query = query
        self.version = version
        """The API version the client speaks."""
        self.request_id = request_id

    # bodies

    async def body(self, body_type: type[Body], *, required: bool = False) -> Body:
        """The JSON body as a struct; none at all gives the defaults, unless it is ``required``; raises BadRequest."""
        has_body = self.has_body
        content_type = self.request.headers.get("Content-Type", "")
        if content_type or has_body:
            require_json(content_type)
        return decode_body(await self.read(JSON_LIMIT_BYTES), body_type, required=required or has_body)

    @property
    def has_body(self) -> bool:
        """Whether the client announced a body (RFC 9112, 6)."""
        return bool(self.request.content_length) or "Transfer-Encoding" in self.request.headers

    async def read(self, limit_bytes: int) -> bytes:
        """The whole body; raises BodyTooLarge, or BodyTooSlow when it trickles in."""
        limit_s = self.protocol.limits.body_timeout_s
        try:
            async with asyncio.timeout(limit_s):
                return await self._read(limit_bytes)
        except TimeoutError:
            raise BodyTooSlow(f"the request body did not arrive within {limit_s:g} seconds") from None

    async def _read(self, limit_bytes: int) -> bytes:
        length = self.request.content_length
        if length is not None and length > limit_bytes:
            raise BodyTooLarge(f"the request body exceeds {limit_bytes} bytes")
        pieces = []
        size = 0
        async for piece in self.content():
            size += len(piece)
            if size > limit_bytes:
                raise BodyTooLarge(f"the request body exceeds {limit_bytes} bytes")
            pieces.append(piece)
        return b"".join(pieces)

    async def content(self) -> AsyncIterator[bytes]:
        """The body piece by piece; tells a client that waits for it (``Expect: 100-continue``) to go on.

        Raises Cancelled when the client leaves before its end, or sends nothing for too long.
        """
        request = self.request
        if request.headers.get("Expect", "").lower() == "100-continue" and not request.content.is_eof():
            transport = request.transport
            if transport is not None:
                transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        pause_s = self.protocol.limits.pause_timeout_s
        try:
            while piece := await _next_piece(request.content, pause_s):
                yield piece
        except TimeoutError:
            raise Cancelled(f"the client sent nothing for {pause_s:g} seconds amid the request body") from None
        except web.RequestPayloadError as error:
            raise BadRequest(f"the request body can't be read: {error}") from None
        except ConnectionError:
            raise Cancelled("the client closed the connection before the end of the request body") from None

    # services

    @property
    def protocol(self) -> EdgeProtocol:
        """The connection."""
        protocol = self.request.protocol
        if not isinstance(protocol, EdgeProtocol):
            raise TypeError("the server was not built from EdgeServer")
        return protocol

    @property
    def system(self) -> SystemService:
        return self._services.system

    @property
    def events(self) -> EventStream:
        return self._services.events

    @property
    def containers(self) -> ContainerService:
        return _present(self._services.containers, "containers")

    @property
    def observer(self) -> ContainerObserver:
        return _present(self._services.observer, "a view of running containers")

    @property
    def archives(self) -> ContainerArchives:
        return _present(self._services.archives, "containers")

    @property
    def disk_usage(self) -> DiskUsageService:
        return _present(self._services.disk_usage, "a view of the disk")

    @property
    def registries(self) -> RegistryService:
        return _present(self._services.registries, "registries")

    @property
    def registry_browsing(self) -> RegistryBrowsing:
        return _present(self._services.registry_browsing, "registries")

    @property
    def execs(self) -> ExecService:
        return _present(self._services.execs, "exec")

    @property
    def images(self) -> ImageService:
        return _present(self._services.images, "images")

    @property
    def image_contents(self) -> ImageContents:
        return _present(self._services.image_contents, "a view into images")

    @property
    def pushes(self) -> PushService:
        return _present(self._services.pushes, "registries")

    @property
    def pulls(self) -> PullService:
        return _present(self._services.pulls, "registries")

    @property
    def builds(self) -> BuildService:
        return _present(self._services.builds, "builds")

    @property
    def volumes(self) -> VolumeService:
        return _present(self._services.volumes, "volumes")

    @property
    def networks(self) -> NetworkService:
        return _present(self._services.networks, "networks")


async def _next_piece(content: StreamReader, pause_s: float | None) -> bytes:
    async with asyncio.timeout(pause_s):
        return await content.readany()


def _present(service: Service | None, resource: str) -> Service:
    if service is None:
        raise Unsupported(f"this engine was started without {resource}")
    return service


Handler = Callable[[Call], Awaitable[web.StreamResponse]]


class ClientLeft(Enum):
    """What becomes of a handler whose client closes the connection."""

    GOES_ON = "goes on"
    """It finishes what it began: a half-done change helps nobody."""
    ENDS = "ends"
    """It is cancelled: nobody else wants its result."""
    TALKS = "talks"
    """It may hold a conversation over the raw connection, and then notices by itself; until then it goes on."""


@dataclass(frozen=True)
class Route:
    """One line of the API."""

    method: str
    template: str
    handler: Handler
    when_client_left: ClientLeft = ClientLeft.GOES_ON
