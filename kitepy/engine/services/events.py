"""The record of what happens in the engine, and its listeners; who emits what is the matter of the other services.

All methods belong to the event loop's thread. Emitting never waits: a listener that doesn't keep up is dropped, and only it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from kitepy.engine.model.errors import InvalidParameter, Unavailable
from kitepy.engine.model.filters import Filters
from kitepy.engine.model.reference import parse_reference

logger = logging.getLogger(__name__)

HISTORY_LENGTH = 256
"""How many events can be asked for afterwards with ``since``."""
QUEUE_LENGTH = 4096
"""How far a listener may fall behind."""

EventMessage = dict[str, Any]
Emit = Callable[[str, str, str, Mapping[str, str]], None]
"""``EventBus.emit``: (type, action, actor id, attributes)."""

_BY_ACTOR = ("container", "volume", "network", "daemon", "plugin", "node", "service", "secret", "config")
_WITH_DETAILS = ("exec_create", "exec_start", "health_status")
"""Actions that carry more after a colon (``exec_start: sh -c true``)."""


class EventBus:
    """Remembers the last events and hands new ones to everybody who subscribed."""

    def __init__(
        self,
        *,
        now_ns: Callable[[], int] = time.time_ns,
        history_length: int = HISTORY_LENGTH,
        queue_length: int = QUEUE_LENGTH,
    ) -> None:
        self._now_ns = now_ns
        self._history: deque[EventMessage] = deque(maxlen=history_length)
        self._queue_length = queue_length
        self._subscriptions: set[Subscription] = set()

    @property
    def listeners(self) -> int:
        """How many subscriptions are open."""
        return len(self._subscriptions)

    def emit(self, type: str, action: str, actor_id: str, attributes: Mapping[str, str], scope: str = "local") -> None:
        """Record an event of now, in the form that the Engine API gives (EventMessage)."""
        message = _message(type, action, actor_id, attributes, scope, self._now_ns())
        self._history.append(message)
        for subscription in tuple(self._subscriptions):
            if subscription.wants(message) and not subscription.offer(message):
                logger.warning("a listener of events was dropped because it reads too slowly")
                self._subscriptions.discard(subscription)

    def subscribe(self, filters: Filters, since_ns: int | None = None, until_ns: int | None = None) -> Subscription:
        """Listen from now on, after what is remembered since ``since_ns``; with ``until_ns`` the stream ends then.

        Without ``since_ns`` the past is only given when ``until_ns`` asks for it. Filters that nobody knows are no
        error: engines of other versions have other kinds of objects.
        """
        past: list[EventMessage] = []
        if since_ns is not None or until_ns is not None:
            past = [message for message in self._history if _within(message, since_ns, until_ns) and matches(filters, message)]
        subscription = Subscription(self, filters, past, until_ns, self._queue_length)
        if until_ns is None or until_ns > self._now_ns():
            self._subscriptions.add(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Forget a listener; does nothing when it is forgotten already."""
        self._subscriptions.discard(subscription)

    def remaining_s(self, until_ns: int) -> float:
        """Seconds until a point in time, not negative."""
        return max(0, until_ns - self._now_ns()) / 1e9


class Subscription:
    """An asynchronous iterator over events; ``aclose`` ends it."""

    def __init__(
        self, bus: EventBus, filters: Filters, past: list[EventMessage], until_ns: int | None, queue_length: int
    ) -> None:
        self._bus = bus
        self._filters = filters
        self._until_ns = until_ns
        self._queue: deque[EventMessage] = deque(past)
        self._queue_length = queue_length + len(past)
        self._arrived = asyncio.Event()
        self._dropped = False

    def wants(self, message: EventMessage) -> bool:
        """Whether the filters let an event through."""
        return matches(self._filters, message)

    def offer(self, message: EventMessage) -> bool:
        """Queue an event; False when the queue is full, which ends the subscription."""
        if len(self._queue) >= self._queue_length:
            self._dropped = True
            self._arrived.set()
            return False
        self._queue.append(message)
        self._arrived.set()
        return True

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> EventMessage:
        """The next event; raises Unavailable when this listener was too slow."""
        while not self._queue:
            if self._dropped:
                raise Unavailable("events were lost because they were read too slowly")
            if not await self._wait():
                await self.aclose()
                raise StopAsyncIteration
        message = self._queue.popleft()
        if self._until_ns is not None and message["timeNano"] > self._until_ns:
            await self.aclose()
            raise StopAsyncIteration
        return message

    async def _wait(self) -> bool:
        """Wait for something to arrive; False when the time is over."""
        self._arrived.clear()
        if self._until_ns is None:
            await self._arrived.wait()
            return True
        try:
            await asyncio.wait_for(self._arrived.wait(), self._bus.remaining_s(self._until_ns))
        except TimeoutError:
            return False
        return True

    async def aclose(self) -> None:
        """Stop listening."""
        self._bus.unsubscribe(self)


def matches(filters: Filters, message: EventMessage) -> bool:
    """Whether an event passes: every filter must, one of a filter's values suffices."""
    if not filters:
        return True
    actor_id, attributes = message["Actor"]["ID"], message["Actor"]["Attributes"]
    return (
        _matches_action(filters, message["Action"])
        and filters.exact("type", message["Type"])
        and filters.exact("scope", message["scope"])
        and all(filters.prefix(kind, actor_id, attributes.get("name", "")) for kind in _BY_ACTOR)
        and _matches_image(filters, message)
        and filters.labels(attributes)
    )


def _matches_action(filters: Filters, action: str) -> bool:
    if any(wanted in _WITH_DETAILS for wanted in filters.get("event")):
        return filters.prefix("event", action)
    return filters.exact("event", action)


def _matches_image(filters: Filters, message: EventMessage) -> bool:
    if "image" not in filters:
        return True
    attributes = message["Actor"]["Attributes"]
    name = attributes.get("name" if message["Type"] == "image" else "image", "")
    actor_id = message["Actor"]["ID"]
    return filters.exact("image", actor_id, name, _repository(actor_id), _repository(name))


def _repository(reference: str) -> str:
    """The repository as people write it; what is no reference stays as it is."""
    try:
        return parse_reference(reference).familiar_name
    except InvalidParameter:
        return reference


def _within(message: EventMessage, since_ns: int | None, until_ns: int | None) -> bool:
    moment = message["timeNano"]
    return (since_ns is None or moment >= since_ns) and (until_ns is None or moment <= until_ns)


def _message(type: str, action: str, actor_id: str, attributes: Mapping[str, str], scope: str, moment_ns: int) -> EventMessage:
    message: EventMessage = {}
    if type in ("container", "image"):
        # Fields of the first API versions, which clients still read; they go away with 1.52.
        message["status"] = action
        if actor_id:
            message["id"] = actor_id
        if type == "container" and attributes.get("image"):
            message["from"] = attributes["image"]
    message["Type"] = type
    message["Action"] = action
    message["Actor"] = {"ID": actor_id, "Attributes": dict(sorted(attributes.items()))}
    message["scope"] = scope
    message["time"] = moment_ns // 1_000_000_000
    message["timeNano"] = moment_ns
    return message
