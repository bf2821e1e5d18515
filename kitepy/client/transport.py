"""A docker-py client whose one connection can be cut from another thread; what is said over it is left to callers.

docker-py gives no way to end a request that is still waiting for its first byte. So each stream gets a client of its
own whose sockets are recorded when they connect: shutting them down makes the blocked read return at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import docker
from docker.transport.unixconn import UnixHTTPAdapter, UnixHTTPConnection, UnixHTTPConnectionPool

from kitepy.client.lifeline import Lifeline

CONNECT_TIMEOUT_S = 10
CALL_TIMEOUT_S = 60


class _RecordedConnection(UnixHTTPConnection):  # type: ignore[misc]  # docker-py has no types
    def __init__(self, base_url: str, unix_socket: str, timeout: float, lifeline: Lifeline) -> None:
        super().__init__(base_url, unix_socket, timeout)
        self._lifeline = lifeline

    def connect(self) -> None:
        super().connect()
        self._lifeline.add(self.sock)


class _RecordedPool(UnixHTTPConnectionPool):  # type: ignore[misc]  # docker-py has no types
    def __init__(self, base_url: str, socket_path: str, timeout: float, lifeline: Lifeline) -> None:
        super().__init__(base_url, socket_path, timeout, maxsize=1)
        self._lifeline = lifeline

    def _new_conn(self) -> _RecordedConnection:
        return _RecordedConnection(self.base_url, self.socket_path, self.timeout, self._lifeline)


class _RecordedAdapter(UnixHTTPAdapter):  # type: ignore[misc]  # docker-py has no types
    def __init__(self, socket_url: str, lifeline: Lifeline) -> None:
        super().__init__(socket_url, timeout=CONNECT_TIMEOUT_S, pool_connections=1, max_pool_size=1)
        self._lifeline = lifeline

    def get_connection(self, url: str, proxies: object = None) -> _RecordedPool:  # noqa: ARG002  # docker-py's signature
        with self.pools.lock:
            pool: _RecordedPool | None = self.pools.get(url)
            if pool is None:
                pool = _RecordedPool(url, self.socket_path, self.timeout, self._lifeline)
                self.pools[url] = pool
            return pool


def open_api(socket_path: Path, version: str | None = None) -> Any:
    """A docker-py ``APIClient`` for short calls; asks the engine for its version unless one is given. Blocks."""
    return docker.APIClient(
        base_url=f"unix://{socket_path}", version=version or "auto", timeout=CALL_TIMEOUT_S, user_agent="kitepy"
    )


def open_stream_api(socket_path: Path, version: str, lifeline: Lifeline) -> Any:
    """A docker-py ``APIClient`` for one stream, whose connections hang on the lifeline."""
    api = open_api(socket_path, version)
    api.mount("http+docker://", _RecordedAdapter(f"http+unix://{socket_path}", lifeline))
    return api
