"""How the client reaches one engine: docker-py in a small thread pool for short calls, and responses read as streams.

What is asked is left to ``api.py``, ``volumes.py`` and ``networks.py``.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from kitepy.client.errors import kind_of_status
from kitepy.client.lifeline import Lifeline

T = TypeVar("T")

_THREADS = 8
_READ_BYTES = 65536
# Reads of a stream wait as long as it is silent; the connection itself must come up soon.
_STREAM_TIMEOUT: tuple[float, float | None] = (10, None)


class Connection:
    """One engine behind a unix socket."""

    def __init__(self, socket_path: Path) -> None:
        self._socket_path = socket_path
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="kitepy-client")
        self._open_lock = threading.Lock()
        self._opened: Any = None

    async def close(self) -> None:
        """Give the threads back. Streams end by themselves when they are closed."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self._opened is not None:
            self._opened.close()

    async def _call(self, ask: Callable[[Any], T]) -> T:
        """Run a short call of docker-py in the pool and translate its errors."""

        def work() -> T:
            from kitepy.client.translation import TRANSLATED, translate  # here, because docker-py is slow to import

            try:
                return ask(self._api())
            except TRANSLATED as error:
                raise translate(error) from error

        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def _api(self) -> Any:
        """docker-py's client, made at the first call: only then the engine has to be there."""
        from kitepy.client.transport import open_api

        with self._open_lock:
            if self._opened is None:
                self._opened = open_api(self._socket_path)
            return self._opened

    def _stream_api(self, lifeline: Lifeline) -> Any:
        from kitepy.client.transport import open_stream_api

        return open_stream_api(self._socket_path, self._api().api_version, lifeline)


def open_response(api: Any, method: str, path: str, **options: Any) -> Any:
    """Send a request whose answer is a stream. ``APIClient`` is a requests session, which this uses directly, because its
    own methods neither keep stdout and stderr apart nor leave the connection in reach."""
    options.setdefault("timeout", _STREAM_TIMEOUT)
    response = getattr(api, method)(f"{api.base_url}/v{api.api_version}{path}", stream=True, **options)
    if response.status_code >= 400:
        with response:
            raise kind_of_status(response.status_code)(message_of(response))
    return response


def message_of(response: Any) -> str:
    try:
        return str(response.json()["message"])
    except (ValueError, KeyError, TypeError):
        return str(response.text).strip() or f"the engine answered {response.status_code}"


def chunks(response: Any) -> Iterator[bytes]:
    """The body as it arrives: each read gives what is there instead of filling a block."""
    while data := response.raw.read1(_READ_BYTES):
        yield data


def messages(response: Any) -> Iterator[dict[str, Any]]:
    """JSON documents, one a line, however they are cut into chunks."""
    rest = b""
    for data in chunks(response):
        *lines, rest = (rest + data).split(b"\n")
        yield from (json.loads(line) for line in lines if line.strip())
    if rest.strip():
        yield json.loads(rest)
