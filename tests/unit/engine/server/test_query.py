"""Query parameters."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kitepy.engine.model.errors import InvalidParameter
from kitepy.engine.server.errors import BadRequest
from kitepy.engine.server.query import Query


@pytest.mark.parametrize("word", ["1", "true", "True", "TRUE", "yes", "on"])
def test_true_in_many_words(word: str) -> None:
    assert Query(f"all={word}").flag("all")


@pytest.mark.parametrize("word", ["0", "false", "False", "no", "none", ""])
def test_false_in_many_words(word: str) -> None:
    assert not Query(f"all={word}").flag("all", default=True)


def test_an_absent_flag_has_its_default() -> None:
    assert Query("").flag("stream", default=True)


def test_the_first_of_repeated_values_counts() -> None:
    query = Query("a=1&a=2&b=%2Fx+y")
    assert (query.text("a"), query.all("a"), query.text("b")) == ("1", ["1", "2"], "/x y")


def test_numbers_are_read_and_nonsense_is_refused_by_name() -> None:
    assert Query("t=-1").integer("t") == -1
    assert Query("t=").integer("t") is None
    assert Query("t=%2B5").integer("t") == 5
    for text in ("ten", "1.5", "1_0", "9" * 30, "٣", "%201", "+1", "0x10", "9223372036854775808"):
        with pytest.raises(BadRequest, match="for t: not a number"):
            Query(f"t={text}").integer("t")


@pytest.mark.parametrize(
    ("text", "message"), [("a=%zz", 'invalid URL escape "%zz"'), ("a=%2", 'invalid URL escape "%2"'), ("a;b", "semicolon")]
)
def test_a_malformed_query_is_refused(text: str, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        Query(text).text("x")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1", 1_000_000_000),
        ("1.5", 1_500_000_000),
        ("1700000000.000000001", 1_700_000_000_000_000_001),
        ("2000-01-01", 946684800 * 10**9),
    ],
)
def test_moments_are_nanoseconds(text: str, expected: int) -> None:
    assert Query(f"since={text}").moment("since") == expected


@given(st.text(max_size=60))
def test_any_query_is_read_or_refused(text: str) -> None:
    query = Query(text)
    for read in (query.integer, query.moment, query.flag, query.text, query.all):
        try:
            read("since")
            query.filters()
        except (BadRequest, InvalidParameter):
            pass
