"""Filters of list, prune and events calls."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kitepy.engine.model.errors import InvalidParameter
from kitepy.engine.model.filters import Filters


@pytest.mark.parametrize("text", ['{"label":["a","b=c"]}', '{"label":{"a":true,"b=c":false},"id":null}'])
def test_both_json_forms_are_read(text: str) -> None:
    assert Filters.parse(text).get("label") == ("a", "b=c")


@pytest.mark.parametrize("text", ["", "{}", "null", '{"label":[]}'])
def test_no_filters_match_all(text: str) -> None:
    filters = Filters.parse(text)
    assert "label" not in filters
    assert filters.exact("status", "running")
    assert filters.exact("label", "a")


@pytest.mark.parametrize("text", ["x", "[]", "1", '{"a":1}', '{"a":[1]}', '{"a":{"b":"c"}}', '{"a":"b"}', "[" * 5000])
def test_other_json_is_refused(text: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid filter"):
        Filters.parse(text)


@pytest.mark.parametrize("text", ['{"colour":["red"]}', '{"colour":[]}', '{"colour":{"red":true}}'])
def test_an_unknown_key_is_named(text: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid filter 'colour'"):
        Filters.parse(text).require_known({"label"})


def test_the_two_forms_are_not_mixed() -> None:
    with pytest.raises(InvalidParameter, match="invalid filter"):
        Filters.parse('{"label":["a"],"name":{"x":true}}')


def test_null_is_the_empty_value_of_its_place() -> None:
    assert Filters.parse('{"label":[null]}').get("label") == ("",)
    assert Filters.parse('{"label":null}').get("label") == ()


def test_one_of_several_values_suffices_but_all_labels_are_needed() -> None:
    filters = Filters({"status": ("exited", "dead"), "label": ("a", "b=c")})
    assert filters.exact("status", "dead")
    assert not filters.exact("status", "running")
    assert filters.labels({"a": "", "b": "c"})
    assert not filters.labels({"a": "", "b": "d"})
    assert not filters.labels(None)


def test_names_are_patterns_and_ids_are_beginnings() -> None:
    filters = Filters({"name": ("^web", "("), "id": ("abc",)})
    assert filters.pattern("name", "web1")
    assert not filters.pattern("name", "myweb")
    assert filters.pattern("name", "(")
    assert filters.prefix("id", "abcdef")
    assert not filters.prefix("id", "xabc")


def test_prune_can_spare_labels() -> None:
    filters = Filters({"label!": ("keep",)})
    assert not filters.without_labels({"keep": "1"})
    assert filters.without_labels({"other": "1"})


def test_flags_have_one_value() -> None:
    assert Filters({"dangling": ("true", "1")}).flag("dangling", False)
    assert not Filters({"dangling": ("0",)}).flag("dangling", True)
    assert Filters().flag("dangling", True)
    assert Filters({"dangling": ("true", "x")}).flag("dangling", False)
    for values in (("maybe",), ("true", "false"), ("TRUE",), ()):
        with pytest.raises(InvalidParameter, match="dangling"):
            Filters({"dangling": values}).flag("dangling", False)


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(InvalidParameter):
        Filters.parse(text)
