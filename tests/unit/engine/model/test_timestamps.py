"""Times of the API."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kitepy.engine.model.errors import InvalidParameter
from kitepy.engine.model.timestamps import SECOND, format_time, parse_duration, parse_time

_NOW = 1_700_000_000 * SECOND


@pytest.mark.parametrize(
    ("time_ns", "text"),
    [
        (0, "0001-01-01T00:00:00Z"),
        (_NOW, "2023-11-14T22:13:20Z"),
        (_NOW + 1, "2023-11-14T22:13:20.000000001Z"),
        (_NOW + 120_000_000, "2023-11-14T22:13:20.12Z"),
    ],
)
def test_times_are_written_as_go_does(time_ns: int, text: str) -> None:
    assert format_time(time_ns) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1700000000", _NOW),
        ("1700000000.5", _NOW + SECOND // 2),
        ("-1.5", -SECOND * 3 // 2),
        ("2023-11-14T22:13:20Z", _NOW),
        ("2023-11-14T23:13:20.000000001+01:00", _NOW + 1),
        ("2023-11-14T22:13", _NOW - 20 * SECOND),
        ("10m", _NOW - 600 * SECOND),
        ("1h30m", _NOW - 5400 * SECOND),
        ("1.5s", _NOW - SECOND * 3 // 2),
    ],
)
def test_points_in_time_are_read(text: str, expected: int) -> None:
    assert parse_time(text, now_ns=_NOW) == expected


@pytest.mark.parametrize("text", ["", "yesterday", "2023-13-01", "2023-11-14T25:00", "1m2", "9" * 5000, "9" * 5000 + "s", "1e9"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(InvalidParameter):
        parse_time(text, now_ns=_NOW)


def test_durations_may_be_negative() -> None:
    assert parse_duration("-1m") == -60 * SECOND


@given(st.integers(1, 4_000_000_000 * SECOND))
def test_what_is_written_can_be_read(time_ns: int) -> None:
    assert parse_time(format_time(time_ns), now_ns=0) == time_ns


@given(st.text("0123456789.-+:TZhmsnu ", max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(InvalidParameter):
        parse_time(text, now_ns=_NOW)
