"""Signals by name and number."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kitepy.engine.model.errors import InvalidParameter
from kitepy.engine.services.signals import parse_signal


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("9", 9),
        ("KILL", 9),
        ("SIGKILL", 9),
        ("sigterm", 15),
        ("hup", 1),
        ("+9", 9),
        ("09", 9),
        ("64", 64),
        ("RTMIN", 34),
        ("SIGRTMIN+3", 37),
        ("RTMAX", 64),
        ("SIGRTMAX-14", 50),
    ],
)
def test_signals(text: str, number: int) -> None:
    assert parse_signal(text) == number


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "65",
        "-9",
        "SIG",
        "SIGSIGKILL",
        "NONSENSE",
        "RTMIN-1",
        "RTMAX+1",
        "RTMIN+16",
        "RTMAX-15",
        "RTMIN+",
        "RTMIN+0",
        " KILL",
        "33",
        "٣",
        "9" * 5000,
    ],
)
def test_others_are_refused(text: str) -> None:
    with pytest.raises(InvalidParameter, match=r"^invalid signal: |does not support signal"):
        parse_signal(text)


@given(st.text(max_size=12) | st.text(alphabet="SIGRTMNAX+-0123٣", max_size=12))
def test_any_text_is_a_signal_or_refused(text: str) -> None:
    with contextlib.suppress(InvalidParameter):
        assert 0 < parse_signal(text) <= 64
