"""The record of events and its listeners."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kitepy.engine.model.errors import Unavailable
from kitepy.engine.model.filters import Filters
from kitepy.engine.services.events import EventBus, Subscription

SECOND = 1_000_000_000


class _Clock:
    def __init__(self) -> None:
        self.now_ns = 1000 * SECOND

    def __call__(self) -> int:
        return self.now_ns


async def _all(subscription: Subscription) -> list[str]:
    return [message["Action"] async for message in subscription]


def _emit(bus: EventBus, action: str, kind: str = "container", actor: str = "c1", **attributes: str) -> None:
    bus.emit(kind, action, actor, attributes)


def _run(scenario: Any) -> Any:
    return asyncio.run(asyncio.wait_for(scenario, 10))


def test_an_event_has_its_time_twice_and_the_old_fields() -> None:
    async def scenario() -> None:
        bus = EventBus(now_ns=lambda: 5 * SECOND + 7)
        listener = bus.subscribe(Filters())
        bus.emit("container", "start", "c1", {"image": "web", "name": "n"})
        bus.emit("network", "connect", "n1", {})
        assert await anext(listener) == {
            "status": "start",
            "id": "c1",
            "from": "web",
            "Type": "container",
            "Action": "start",
            "Actor": {"ID": "c1", "Attributes": {"image": "web", "name": "n"}},
            "scope": "local",
            "time": 5,
            "timeNano": 5 * SECOND + 7,
        }
        assert "status" not in await anext(listener)

    _run(scenario())


def test_new_listeners_hear_nothing_of_the_past_unless_they_ask() -> None:
    async def scenario() -> None:
        clock = _Clock()
        bus = EventBus(now_ns=clock)
        _emit(bus, "create")
        clock.now_ns += SECOND
        _emit(bus, "start")
        since = bus.subscribe(Filters(), since_ns=clock.now_ns)
        everything = bus.subscribe(Filters(), since_ns=0)
        fresh = bus.subscribe(Filters())
        _emit(bus, "die")
        assert (await anext(since))["Action"] == "start"
        assert (await anext(everything))["Action"] == "create"
        assert (await anext(fresh))["Action"] == "die"

    _run(scenario())


def test_until_in_the_past_replays_and_ends() -> None:
    async def scenario() -> None:
        clock = _Clock()
        bus = EventBus(now_ns=clock)
        _emit(bus, "create")
        clock.now_ns += SECOND
        _emit(bus, "start")
        assert await _all(bus.subscribe(Filters(), until_ns=clock.now_ns - 1)) == ["create"]
        assert bus.listeners == 0

    _run(scenario())


def test_until_in_the_future_ends_the_stream_then() -> None:
    async def scenario() -> None:
        import time

        bus = EventBus()
        listener = bus.subscribe(Filters(), until_ns=time.time_ns() + SECOND // 20)
        _emit(bus, "create")
        assert await _all(listener) == ["create"]
        assert bus.listeners == 0

    _run(scenario())


def test_a_listener_that_does_not_read_is_dropped_alone() -> None:
    async def scenario() -> None:
        bus = EventBus(queue_length=2)
        slow, quick = bus.subscribe(Filters()), bus.subscribe(Filters())
        for action in ("a", "b", "c"):
            _emit(bus, action)
            assert (await anext(quick))["Action"] == action
        assert bus.listeners == 1
        assert [(await anext(slow))["Action"] for _ in range(2)] == ["a", "b"]
        with pytest.raises(Unavailable):
            await anext(slow)

    _run(scenario())


def test_history_is_bounded() -> None:
    async def scenario() -> None:
        clock = _Clock()
        bus = EventBus(now_ns=clock, history_length=2)
        for action in ("a", "b", "c"):
            _emit(bus, action)
        assert await _all(bus.subscribe(Filters(), since_ns=0, until_ns=clock.now_ns)) == ["b", "c"]

    _run(scenario())


@pytest.mark.parametrize(
    ("filters", "passes"),
    [
        ({}, True),
        ({"type": ("container", "image")}, True),
        ({"type": ("image",)}, False),
        ({"event": ("start",)}, False),
        ({"event": ("exec_start",)}, True),
        ({"event": ("exec_start: true",)}, True),
        ({"container": ("abc",)}, True),
        ({"container": ("web",)}, True),
        ({"container": ("x",)}, False),
        ({"image": ("reg:5000/app",)}, True),
        ({"image": ("reg:5000/app:1",)}, True),
        ({"image": ("app",)}, False),
        ({"label": ("tier=front", "x")}, True),
        ({"label": ("tier=back",)}, False),
        ({"scope": ("swarm",)}, False),
        ({"volume": ("v",)}, False),
    ],
)
def test_filters_choose(filters: dict[str, tuple[str, ...]], passes: bool) -> None:
    async def scenario() -> None:
        clock = _Clock()
        bus = EventBus(now_ns=clock)
        attributes = {"name": "web1", "image": "reg:5000/app:1", "tier": "front", "x": ""}
        bus.emit("container", "exec_start: true", "abcdef", attributes)
        found = await _all(bus.subscribe(Filters(filters), since_ns=0, until_ns=clock.now_ns))
        assert found == (["exec_start: true"] if passes else [])

    _run(scenario())


def test_a_filter_that_nobody_knows_keeps_nothing_back() -> None:
    async def scenario() -> None:
        clock = _Clock()
        bus = EventBus(now_ns=clock)
        _emit(bus, "start")
        found = await _all(bus.subscribe(Filters({"colour": ("red",)}), since_ns=0, until_ns=clock.now_ns))
        assert found == ["start"]

    _run(scenario())


def test_an_event_about_no_single_object_has_no_old_id_and_attributes_are_sorted() -> None:
    async def scenario() -> None:
        clock = _Clock()
        bus = EventBus(now_ns=clock)
        bus.emit("image", "prune", "", {"reclaimed": "0", "a": "1"})
        (message,) = [message async for message in bus.subscribe(Filters(), since_ns=0, until_ns=clock.now_ns)]
        assert "id" not in message
        assert list(message["Actor"]["Attributes"]) == ["a", "reclaimed"]

    _run(scenario())


def test_leaving_ends_listening() -> None:
    async def scenario() -> None:
        bus = EventBus()
        listener = bus.subscribe(Filters())
        assert bus.listeners == 1
        await listener.aclose()
        assert bus.listeners == 0

    _run(scenario())
