"""Blocking streams as asyncio iterators: one thread each, bounded, cancellable; where items come from is left to callers.

The thread waits when the consumer lags (`depth` items), so a slow view slows the engine instead of filling memory.
Works with any event loop, since it needs only ``call_soon_threadsafe`` and futures.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from kitepy.client.errors import Cancelled, ClientError
from kitepy.client.lifeline import Lifeline

T = TypeVar("T")

Emit = Callable[[T], None]
Produce = Callable[[Lifeline, Emit[T]], None]
"""Blocking work of a stream: connects through the lifeline and hands over each item, until there are no more."""

DEPTH = 256


class _Channel(Generic[T]):
    """A bounded queue from one thread to one coroutine."""

    def __init__(self, loop: asyncio.AbstractEventLoop, depth: int) -> None:
        self._loop = loop
        self._depth = depth
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._waiter: asyncio.Future[None] | None = None
        self._closed = False
        self._ended = False
        self._error: Exception | None = None

    # --- the thread's side

    def put(self, item: T) -> None:
        """Hand an item over; waits for room and raises `Cancelled` when nobody wants it any more."""
        with self._changed:
            while len(self._items) >= self._depth and not self._closed:
                self._changed.wait()
            if self._closed:
                raise Cancelled("the stream was closed")
            self._items.append(item)
            self._wake()

    def end(self, error: Exception | None) -> None:
        """Say that nothing more comes, and why."""
        with self._changed:
            self._ended = True
            self._error = error
            self._wake()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(_resolve, waiter)

    # --- the coroutine's side

    def close(self) -> None:
        """Drop what is waiting and let the thread end. May be called from any thread."""
        with self._changed:
            self._closed = True
            self._items.clear()
            self._changed.notify_all()

    async def get(self) -> T:
        """The next item; raises StopAsyncIteration or the thread's error at the end."""
        while True:
            with self._changed:
                if self._items:
                    item = self._items.popleft()
                    self._changed.notify_all()
                    return item
                if self._ended or self._closed:
                    if self._error is not None and not self._closed:
                        raise self._error
                    raise StopAsyncIteration
                waiter = self._waiter = self._loop.create_future()
            await waiter


def _resolve(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


class PumpedStream(Generic[T]):
    """An asynchronous iterator over what a blocking function hands over in a thread of its own.

    Cancelling the task that reads it, ``aclose()``, leaving ``async with`` and dropping the last reference all cut the
    connection, and the thread ends.
    """

    def __init__(self, produce: Produce[T], *, name: str, depth: int = DEPTH) -> None:
        self._lifeline = Lifeline()
        self._produce = produce
        self._name = name
        self._depth = depth
        self._channel: _Channel[T] | None = None

    def __aiter__(self) -> PumpedStream[T]:
        return self

    async def __anext__(self) -> T:
        if self._channel is None:
            if self._lifeline.cut_off:
                raise StopAsyncIteration
            self._channel = _Channel(asyncio.get_running_loop(), self._depth)
            arguments = (self._produce, self._lifeline, self._channel)
            threading.Thread(target=_pump, args=arguments, name=self._name, daemon=True).start()
        try:
            return await self._channel.get()
        except BaseException:
            self.close()  # Cancelled, failed or at its end: nothing more is wanted from the connection.
            raise

    def close(self) -> None:
        """Cut the connection; does not wait for the thread. May be called twice and from any thread."""
        if self._channel is not None:
            self._channel.close()
        self._lifeline.cut()

    async def aclose(self) -> None:
        """`close`, for ``contextlib.aclosing``."""
        self.close()

    async def __aenter__(self) -> PumpedStream[T]:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


def _pump(produce: Produce[T], lifeline: Lifeline, channel: _Channel[T]) -> None:
    """The thread: holds no reference to the iterator, so that dropping that one ends this."""
    from kitepy.client.translation import TRANSLATED, translate  # here, because docker-py is slow to import

    error: Exception | None = None
    try:
        produce(lifeline, channel.put)
    except ClientError as failure:
        error = failure
    except TRANSLATED as failure:
        error = translate(failure)
    except Exception as failure:  # A bug of ours must reach the reader: a thread that dies silently looks like an end.
        error = failure
    if lifeline.cut_off:
        error = None
    channel.end(error)
    lifeline.cut()
