"""Which Content-Type a JSON body may have."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kitepy.engine.server.errors import BadRequest
from kitepy.engine.server.media_type import require_json


@pytest.mark.parametrize(
    "text",
    [
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
        "application/json;",
        'application/json ; a="b;c\\"" ;d=e',
    ],
)
def test_json_is_taken(text: str) -> None:
    require_json(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "malformed Content-Type header (): mime: no media type"),
        (";;", "malformed Content-Type header (;;): mime: no media type"),
        ("text/plain", "unsupported Content-Type header (text/plain): must be 'application/json'"),
        ("json", "unsupported Content-Type header (json): must be 'application/json'"),
        ("application/json; charset", "malformed Content-Type header (application/json; charset): mime: invalid media parameter"),
        ("a b", "malformed Content-Type header (a b): mime: unexpected content after media type"),
    ],
)
def test_anything_else_is_refused_in_dockers_words(text: str, message: str) -> None:
    with pytest.raises(BadRequest) as caught:
        require_json(text)
    assert str(caught.value) == message


@given(st.text(max_size=60) | st.text(alphabet='ab/;="\\\\ ', max_size=60).map("application/json".__add__))
def test_any_text_is_taken_or_refused(text: str) -> None:
    with contextlib.suppress(BadRequest):
        require_json(text)
