from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from kitepy.engine.services.transfer_progress import Message, Meter, bar, human_size, progress


@dataclass
class Timer:
    """A call that was put off."""

    seconds: float
    call: Callable[[], None]
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0B"), (999, "999B"), (1000, "1kB"), (1_036_053, "1.036MB"), (30_720_000, "30.72MB"), (10**9, "1GB"), (10**17, "100PB")],
)
def test_sizes_have_four_digits_at_most(count: int, shown: str) -> None:
    assert human_size(count) == shown


@pytest.mark.parametrize(
    ("current", "total", "shown"),
    [
        (32_768, 1_036_053, "[=>                                                 ]  32.77kB/1.036MB"),
        (101, 101, "[==================================================>]     101B/101B"),
        (0, 101, "[>                                                  ]       0B/101B"),
        (5_000_000, 0, "     5MB"),
        (200, 101, "[==================================================>]     200B"),
    ],
)
def test_the_bar_is_the_one_that_docker_draws(current: int, total: int, shown: str) -> None:
    assert bar(current, total) == shown


def test_progress_without_a_total_tells_only_what_is_done() -> None:
    assert progress("abc", "Downloading", 5, 0)["progressDetail"] == {"current": 5}


def test_few_of_many_updates_are_told_and_the_last_one_always() -> None:
    told: list[Message] = []
    now = 0.0
    meter = Meter("abc", "Downloading", 100_000_000, told.append, clock=lambda: now, later=Timer)
    for step in range(1, 1001):
        now += 0.001
        meter.update(step * 100_000)
    assert told[-1]["progressDetail"] == {"current": 100_000_000, "total": 100_000_000}
    assert len(told) in range(9, 14)
    meter.update(100_000_000)
    assert len(told) in range(9, 14), "what has been told is no news"


def test_what_came_too_soon_is_told_later_unless_it_is_over_then() -> None:
    told: list[Message] = []
    timers: list[Timer] = []

    def later(seconds: float, call: Callable[[], None]) -> Timer:
        timers.append(Timer(seconds, call))
        return timers[-1]

    with Meter("abc", "Downloading", 1000, told.append, clock=lambda: 5.0, later=later) as meter:
        for current in (500, 600, 700):
            meter.update(current)
        (timer,) = timers
        timer.call()
        assert [message["progressDetail"]["current"] for message in told] == [500, 700]
        meter.update(800)
    assert timers[1].cancelled
