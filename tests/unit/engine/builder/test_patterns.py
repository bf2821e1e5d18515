from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kitepy.engine.builder.patterns import IgnoreRules, clean, is_wildcard, literally, matches, read_ignore_file


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("*.txt", "a.txt", True),
        ("*.txt", "d/a.txt", False),
        ("a?c", "abc", True),
        ("a?c", "a/c", False),
        ("**/a", "a", True),
        ("**/a", "x/y/a", True),
        ("**", "x/y", True),
        ("a/**", "a/b/c", True),
        ("a/**", "a", False),
        ("a/**/c", "a/c", True),
        ("a/**/c", "a/b/b/c", True),
        ("[a-c]x", "bx", True),
        ("[^a-c]x", "bx", False),
        ("[^a-c]x", "dx", True),
        ("[^a]x", "/x", False),
        ("a\\*b", "a*b", True),
        ("a\\*b", "axb", False),
        ("[\\]]", "]", True),
        ("a.b", "axb", False),
        ("(a|b)+", "(a|b)+", True),
    ],
)
def test_patterns_match_as_go_does(pattern: str, path: str, expected: bool) -> None:
    assert matches(pattern, path) is expected


@pytest.mark.parametrize("pattern", ["[", "[]a]", "[a", "[a-]", "a\\", "[-x]"])
def test_bad_patterns_are_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="syntax error in pattern"):
        matches(pattern, "x")


def test_an_inverted_range_matches_nothing() -> None:
    assert not matches("[z-a]", "m")


def test_only_magic_makes_a_wildcard() -> None:
    assert all(is_wildcard(path) for path in ("a*", "a[b]", "a?", "a\\b"))
    assert not is_wildcard("a.b/c-d")


def test_ignore_files_are_cleaned_line_by_line() -> None:
    text = "\ufeff# comment\n\n  /node_modules/ \n!  keep//me \n ./a/../b\n #spaced\n/\n"
    assert read_ignore_file(text) == ["node_modules", "!keep/me", "b", "#spaced", "/"]


def test_the_last_rule_that_names_a_path_decides() -> None:
    rules = IgnoreRules(["*", "!src", "src/*.log", "!src/keep.log"])
    assert rules.ignores("README")
    assert not rules.ignores("src")
    assert not rules.ignores("src/a.c")
    assert rules.ignores("src/a.log")
    assert not rules.ignores("src/keep.log")


def test_ignoring_a_directory_ignores_what_is_below() -> None:
    rules = IgnoreRules(["**/node_modules"])
    assert rules.ignores("web/node_modules/a/b.js")
    assert not rules.ignores("web/node_modules.txt")


def test_a_lone_exclamation_mark_is_refused() -> None:
    with pytest.raises(ValueError, match="illegal exclusion pattern"):
        IgnoreRules(["!"])


@given(st.lists(st.text(alphabet="ab*", min_size=1, max_size=4), max_size=4), st.text(alphabet="ab", min_size=1))
def test_an_exception_for_everything_keeps_everything(patterns: list[str], name: str) -> None:
    assert not IgnoreRules([*patterns, "!**"]).ignores(name)


@given(st.text(alphabet="ab/.", max_size=12))
def test_cleaning_twice_changes_nothing(path: str) -> None:
    assert clean(clean(path)) == clean(path)


@given(st.text(alphabet="ab/*?", max_size=10), st.text(alphabet="ab/", max_size=10))
def test_a_path_matches_itself_and_stars_match_more(pattern: str, path: str) -> None:
    assert matches(path, path)
    wider = pattern.replace("?", "*")
    if "**" not in wider and matches(pattern, path):  # two stars mean something else
        assert matches(wider, path)


@given(st.text(alphabet="ab[]*?\\^-", min_size=1, max_size=8), st.text(alphabet="ab[]*?\\^-", min_size=1, max_size=8))
def test_a_literal_pattern_names_itself_and_nothing_else(name: str, other: str) -> None:
    assert matches(literally(name), name)
    assert matches(literally(name), other) == (name == other)
