"""Conversations with processes, as attach and exec offer them: logs first, then live; also before the process has started."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from kitepy.engine.model.launch import ExitStatus
from kitepy.engine.runtime.streams import AttachStream
from kitepy.engine.services.container_runs import PendingAttach


class Session:
    """An AttachSession (``ports.py``) over a stream that exists now or will exist once the container starts."""

    def __init__(
        self,
        tty: bool,
        stream: AttachStream | PendingAttach | None,
        replay: AsyncIterator[list[tuple[int, bytes]]] | None = None,
        *,
        ended: asyncio.Future[ExitStatus] | None = None,
        input_ends_it: bool = False,
        on_detach: Callable[[], None] | None = None,
    ) -> None:
        """``ended``: output ends no sooner. ``input_ends_it``: who ends the input leaves, and the process sees no end."""
        self._tty = tty
        self._pending = stream if isinstance(stream, PendingAttach) else None
        self._stream = None if isinstance(stream, PendingAttach) else stream
        self._replay = replay
        self._replayed: list[tuple[int, bytes]] = []
        self._ended = ended
        self._input_ends_it = input_ends_it
        self._on_detach = on_detach

    @property
    def tty(self) -> bool:
        return self._tty

    async def _ready(self) -> AttachStream | None:
        if self._pending is not None:
            self._stream = await asyncio.shield(self._pending.stream)
            self._pending = None
        return self._stream

    async def read(self) -> tuple[int, bytes] | None:
        """The next piece of output; None at its end."""
        while self._replay is not None and not self._replayed:
            try:
                self._replayed = list(reversed(await anext(self._replay)))
            except StopAsyncIteration:
                self._replay = None
        if self._replayed:
            return self._replayed.pop()
        stream = await self._ready()
        if stream is None:
            return None
        piece = await stream.read()
        if piece is None:
            await self._settled()
            return None
        return int(piece[0]), piece[1]

    async def _settled(self) -> None:
        """Clients ask for the exit code as soon as the stream ends, so the end is told only once the code is known."""
        if self._ended is not None:
            await asyncio.wait([self._ended])

    async def write(self, data: bytes) -> None:
        """Hand over input; raises BrokenPipeError when nobody reads it any more."""
        stream = await self._ready()
        if stream is None:
            raise BrokenPipeError("the process is not running")
        await stream.write(data)

    async def detached(self) -> None:
        """The client has typed the detach keys."""
        if self._on_detach is not None:
            self._on_detach()

    async def close_stdin(self) -> bool:
        """End of input; False when that ends the conversation instead."""
        if self._input_ends_it:
            return False
        stream = await self._ready()
        if stream is not None:
            await stream.close_stdin()
        return True

    async def close(self) -> None:
        """Leave; the process goes on."""
        if self._replay is not None and (close := getattr(self._replay, "aclose", None)) is not None:
            await close()
        if self._pending is not None and not self._pending.stream.done():
            self._pending.stream.cancel()
        elif self._pending is not None and not self._pending.stream.cancelled():
            self._stream = self._pending.stream.result()
        self._pending = None
        if self._stream is not None:
            await self._stream.close()
            self._stream = None
