"""What an operation tells its client, who may read slowly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from kitepy.engine.services.transfer_progress import Message

_MESSAGES_AHEAD = 256


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
