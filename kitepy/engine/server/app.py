"""The HTTP server of the engine: from a request to its handler and back, and the life of the listening sockets."""

from __future__ import annotations

import asyncio
import itertools
import logging
import posixpath
import re
import resource
import socket
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from urllib.parse import unquote

from aiohttp import web

from kitepy.engine.model.errors import EngineError
from kitepy.engine.server.api_version import accept_version, split_version
from kitepy.engine.server.call import Call, ClientLeft, Route, Services
from kitepy.engine.server.errors import UNEXPECTED, BadRequest, EdgeError, ExpectationFailed, status_of
from kitepy.engine.server.gates import ConnectionGate, Limits, tcp_limits, unix_limits
from kitepy.engine.server.listeners import Host, Protection, SocketAccess, UnixHost, check_exposure, listen
from kitepy.engine.server.protocol import EdgeProtocol, EdgeServer
from kitepy.engine.server.query import BAD_ESCAPE, Query
from kitepy.engine.server.raw_request import LONGEST_LINE
from kitepy.engine.server.responses import empty_response, error_response, redirect_response
from kitepy.engine.server.router import Router
from kitepy.engine.server.routes import (
    archives,
    attaching,
    builds,
    clusters,
    containers,
    image_contents,
    images,
    networks,
    registries,
    system,
    volumes,
)
from kitepy.engine.server.tls import TlsContexts, TlsFiles
from kitepy.engine.server.tls_connection import TlsConnection

logger = logging.getLogger(__name__)

_UNCLEAN = re.compile(r"//|/\.\.?(?:/|$)")

ROUTES: tuple[Route, ...] = (
    *system.ROUTES,
    *containers.ROUTES,
    *attaching.ROUTES,
    *archives.ROUTES,
    *images.ROUTES,
    *image_contents.ROUTES,
    *registries.ROUTES,
    *builds.ROUTES,
    *volumes.ROUTES,
    *networks.ROUTES,
    *clusters.ROUTES,
)


def build_app(
    services: Services,
    *,
    access: SocketAccess | None = None,
    tls: TlsFiles | None = None,
    insecure_tcp: bool = False,
    limits: Callable[[Host], Limits] | None = None,
) -> Server:
    """The server for these services.

    ``access`` says who may use its unix sockets, ``tls`` what its ports show and whom they let in, ``insecure_tcp`` allows
    ports that let in everyone, and ``limits`` replaces the usual bounds of a listener.
    """
    return Server(services, access or SocketAccess(), tls=tls, insecure_tcp=insecure_tcp, limits=limits or usual_limits)


def usual_limits(host: Host) -> Limits:
    """The bounds of a listener in this process."""
    open_files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return unix_limits(open_files) if isinstance(host, UnixHost) else tcp_limits(open_files)


def protection_of(tls: TlsFiles | None) -> Protection:
    """What the ports are protected by."""
    if tls is None:
        return Protection.NOTHING
    return Protection.MUTUAL_TLS if tls.verifies_clients else Protection.ONE_SIDED_TLS


class Server:
    """Answers on any number of hosts between ``start`` and ``stop``."""

    def __init__(
        self,
        services: Services,
        access: SocketAccess,
        *,
        tls: TlsFiles | None,
        insecure_tcp: bool,
        limits: Callable[[Host], Limits],
    ) -> None:
        self._services = services
        self._access = access
        self._tls = tls
        self._limits = limits
        self._contexts: TlsContexts | None = None
        self._insecure_tcp = insecure_tcp
        self._router: Router[Route] = Router()
        for route in ROUTES:
            self._router.add(route.method, route.template, route)
        self._connections: EdgeServer | None = None
        self._listeners: list[asyncio.Server] = []
        self._sockets: list[tuple[UnixHost, int]] = []
        self._request_numbers = itertools.count(1)
        self._running: set[asyncio.Task[web.StreamResponse]] = set()
        self._interruptible: set[asyncio.Task[web.StreamResponse]] = set()

    # life

    async def start(self, hosts: Iterable[Host]) -> None:
        """Listen on all hosts or, when one fails, on none; raises InvalidParameter or SystemFailure."""
        hosts = list(hosts)
        for host in hosts:
            check_exposure(host, protection_of(self._tls), forced=self._insecure_tcp)
        self._contexts = TlsContexts(self._tls) if self._tls is not None else None
        self._connections = EdgeServer(
            self.dispatch,
            handler_cancellation=True,
            access_log=None,
            auto_decompress=False,
            lingering_time=5.0,
            max_line_size=LONGEST_LINE,
            max_field_size=LONGEST_LINE,
        )
        try:
            for host in hosts:
                for listener in listen(host, self._access):
                    await self._serve(host, listener)
        except BaseException:
            await self.stop(grace_s=0)
            raise

    async def _serve(self, host: Host, listener: socket.socket) -> None:
        assert self._connections is not None
        loop = asyncio.get_running_loop()
        connections, contexts, gate = self._connections, self._contexts, ConnectionGate(str(host), self._limits(host))
        if isinstance(host, UnixHost):
            self._sockets.append((host, host.path.lstat().st_ino))
            self._listeners.append(await loop.create_unix_server(lambda: connections.protocol_for(gate), sock=listener))
        elif contexts is None:
            self._listeners.append(await loop.create_server(lambda: connections.protocol_for(gate), sock=listener))
        else:
            self._listeners.append(
                await loop.create_server(
                    lambda: TlsConnection(contexts.current(), lambda: connections.protocol_for(gate), gate), sock=listener
                )
            )
        logger.info("listening on %s", host)

    async def stop(self, grace_s: float = 5.0) -> None:
        """Take no more requests, end streams and conversations, and let what changes something finish for ``grace_s``."""
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        self._remove_sockets()
        await _end(self._interruptible)
        if self._running and grace_s > 0:
            await asyncio.wait(self._running, timeout=grace_s)
        await _end(self._running)
        if self._connections is not None:
            self._connections.pre_shutdown()
            await self._connections.shutdown(1.0)
            self._connections = None

    def _remove_sockets(self) -> None:
        """Remove our socket files, unless another engine has put its own there meanwhile."""
        for host, inode in self._sockets:
            with suppress(FileNotFoundError):
                if host.path.lstat().st_ino == inode:
                    host.path.unlink()
        self._sockets.clear()

    # requests

    async def dispatch(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request; errors of every kind become answers."""
        request_id = f"{next(self._request_numbers):x}"
        try:
            target, _, query = request.raw_path.partition("?")
            whole_path = _path(target)
            if _UNCLEAN.search(whole_path):
                return redirect_response(_cleaned(whole_path), query)
            if request.method == "OPTIONS":
                return empty_response(200)
            version, path = split_version(whole_path)
            match = self._router.resolve(request.method, path)
            call = Call(request, self._services, match.argument, Query(query), accept_version(version), request_id)
            _check_expectation(request)
            return await self._run(match.target, call)
        except EngineError as error:
            status = status_of(error)
            if status == 500:
                logger.warning("request %s: %s %s: %s", request_id, request.method, request.raw_path, error, exc_info=error)
            return error_response(status, str(error))
        except EdgeError as error:
            return error_response(error.status, str(error))
        except ConnectionError:
            raise  # the client is gone; aiohttp closes what is left
        except Exception:
            logger.exception("request %s: %s %s failed", request_id, request.method, request.raw_path)
            return error_response(500, UNEXPECTED.format(request_id=request_id))
        finally:
            protocol = request.protocol
            if isinstance(protocol, EdgeProtocol):
                protocol.decline_raw()
                if protocol.upload is not None:
                    await protocol.finish_upload()

    async def _run(self, route: Route, call: Call) -> web.StreamResponse:
        """Run a handler so that it ends as its route says when the client leaves or the server stops."""
        if route.when_client_left is ClientLeft.GOES_ON and route.method in ("GET", "HEAD"):
            return await route.handler(call)
        task = asyncio.ensure_future(route.handler(call))
        owners = self._running if route.when_client_left is ClientLeft.GOES_ON else self._interruptible
        owners.add(task)
        task.add_done_callback(owners.discard)
        if route.when_client_left is ClientLeft.ENDS:
            return await task  # cancelling this cancels the task
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.done():
                task.add_done_callback(_report_unseen)
            raise


def _path(target: str) -> str:
    """The decoded path of a request target, which is absolute when it comes from a proxy; raises BadRequest."""
    if not target.startswith("/"):
        _, separator, rest = target.partition("://")
        target = "/" + rest.partition("/")[2] if separator else "/" + target
    if "%" not in target:
        return target
    if escape := BAD_ESCAPE.search(target):
        raise BadRequest(f'invalid URL escape "{target[escape.start() : escape.start() + 3]}"')
    return unquote(target)


def _cleaned(path: str) -> str:
    """A path without empty segments and dots; Docker sends clients there instead of guessing what they meant."""
    cleaned = "/" + posixpath.normpath(path).strip("/")
    return cleaned + "/" if path.endswith("/") and cleaned != "/" else cleaned


def _check_expectation(request: web.BaseRequest) -> None:
    """RFC 9110, 10.1.1: there is one expectation, and a server says so when it meets another."""
    expected = request.headers.get("Expect")
    if expected is not None and expected.lower() != "100-continue":
        raise ExpectationFailed(f"unknown expectation '{expected[:40]}'")


def _report_unseen(task: asyncio.Task[web.StreamResponse]) -> None:
    """Log how a request failed whose client doesn't wait for the answer any more."""
    if not task.cancelled() and (error := task.exception()) is not None:
        level = logging.INFO if isinstance(error, EngineError | EdgeError | ConnectionError) else logging.ERROR
        logger.log(level, "a request whose client had left failed: %s", error, exc_info=error if level == logging.ERROR else None)


async def _end(tasks: Sequence[asyncio.Task[web.StreamResponse]] | set[asyncio.Task[web.StreamResponse]]) -> None:
    ending = list(tasks)
    for task in ending:
        task.cancel()
    if ending:
        await asyncio.wait(ending, timeout=5.0)
