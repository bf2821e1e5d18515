"""What an operation tells its client, who may read slowly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import suppress
from typing import Any

from kitepy.engine.distribution.connection import OnWaiting, Waiting
from kitepy.engine.model.errors import EngineError
from kitepy.engine.services.transfer_progress import Message, Tell

_MESSAGES_AHEAD = 256
_SHORTEST_TOLD_PAUSE_S = 2.0


class MessageQueue:
    """Messages for one reader: how far something is matters only while it is news."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Message | None] = asyncio.Queue()

    def tell(self, message: Message) -> None:
        """Add a message; one about mere progress is dropped while the reader is far behind."""
        if self._queue.qsize() < _MESSAGES_AHEAD or not message.get("progressDetail"):
            self._queue.put_nowait(message)

    def end(self) -> None:
        """There will be no more."""
        self._queue.put_nowait(None)

    async def __aiter__(self) -> AsyncIterator[Message]:
        while (message := await self._queue.get()) is not None:
            yield message


async def messages_of(work: Callable[[Tell], Coroutine[Any, Any, None]], name: str) -> AsyncGenerator[Message, None]:
    """What an operation tells, then what it raises. It belongs to whoever reads: closing the iterator ends it."""
    messages = MessageQueue()
    task = asyncio.create_task(work(messages.tell), name=name)
    task.add_done_callback(lambda _: messages.end())
    try:
        async for message in messages:
            yield message
        await task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, EngineError):
            await task


def telling_pauses(tell: Tell) -> OnWaiting:
    """Tells for how long a registry wants to be left alone, or is given time to recover; not what is hardly noticed."""

    def waiting(pause: Waiting) -> None:
        if pause.seconds >= _SHORTEST_TOLD_PAUSE_S:
            reason = f"Rate limited by {pause.host}" if pause.rate_limited else f"{pause.host} fails ({pause.reason})"
            tell({"status": f"{reason}, trying again in {pause.seconds:.0f} s"})

    return waiting
