from __future__ import annotations

from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kitepy.engine.builder.expansion import Lexer

VARIABLES = {"A": "hello", "EMPTY": "", "PATHS": "/usr/a.tar.gz", "TWO": "x y", "_u1": "u", "1": "one"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("$A", "hello"),
        ("${A}", "hello"),
        ("$A.txt", "hello.txt"),
        ("$AB", ""),
        ("${A}B", "helloB"),
        ("$_u1-", "u-"),
        ("\\$A", "$A"),
        ("'$A'", "$A"),
        ('"$A"', "hello"),
        ('"it\'s $A"', "it's hello"),
        ('"a\\"b"', 'a"b'),
        ('"\\n"', "\\n"),
        ("a\\b", "ab"),
        ("'a\\b'", "a\\b"),
        ("$", "$"),
        ("$ a", "$ a"),
        ("a$.b", "a$.b"),
        ("$1", "one"),
        ("$12", ""),
        ("${A:-x}", "hello"),
        ("${B:-x}", "x"),
        ("${B-x}", "x"),
        ("${EMPTY-x}", ""),
        ("${EMPTY:-x}", "x"),
        ("${B:-}", ""),
        ("${B:-${A}}", "hello"),
        ("${B:-'$A'}", "$A"),
        ("${A:+x}", "x"),
        ("${A+x}", "x"),
        ("${B:+x}", ""),
        ("${EMPTY:+x}", ""),
        ("${EMPTY+x}", "x"),
        ("${A:?boom}", "hello"),
        ("${EMPTY?boom}", ""),
        ("${PATHS#*/}", "usr/a.tar.gz"),
        ("${PATHS##*/}", "a.tar.gz"),
        ("${PATHS%.*}", "/usr/a.tar"),
        ("${PATHS%%.*}", "/usr/a"),
        ("${A/l/L}", "heLlo"),
        ("${A//l/L}", "heLLo"),
        ("${A//l/}", "heo"),
        ("${PATHS//\\//_}", "_usr_a.tar.gz"),
        ("${A%?}", "hell"),
        ("${A#\\*}", "hello"),
        ("${A#*l}", "lo"),
        ("${A##*l}", "o"),
        ("${A%l*}", "hel"),
        ("${A%%l*}", "he"),
        ("${A#h*l*}", "lo"),
        ("${A##h*l*}", ""),
        ("${A#*}", "hello"),
        ("${A##*}", ""),
        ("${A%*}", "hello"),
        ("${A#x}", "hello"),
        ("${A/*l/-}", "-o"),
        ("${A/e*l/-}", "h-o"),
        ("${A/?/-}", "-ello"),
    ],
)
def test_words_expand_as_in_a_dockerfile(text: str, expected: str) -> None:
    assert Lexer(VARIABLES).expand(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("${", "missing '}'"),
        ("${A", "missing '}'"),
        ("${A:-x", "missing '}'"),
        ("${}", "bad substitution"),
        ("${{A}}", "bad substitution"),
        ("${A!x}", r"unsupported modifier \(!\)"),
        ("${A:!x}", r"unsupported modifier \(:!\)"),
        ("${B:?}", "B: is not allowed to be unset"),
        ("${EMPTY:?}", "EMPTY: is not allowed to be empty"),
        ("${B?give one}", "B: give one"),
        ("'a", "matching single-quote"),
        ('"a', "matching double-quote"),
    ],
)
def test_bad_words_say_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Lexer(VARIABLES).expand(text)


def test_words_are_cut_after_expansion_but_not_inside_quotes() -> None:
    assert Lexer(VARIABLES).words('$TWO "$TWO" z') == ["x", "y", "x y", "z"]


def test_another_escape_character_leaves_backslashes_alone() -> None:
    assert Lexer(VARIABLES, escape="`").expand("c:\\dir `$A") == "c:\\dir $A"


def test_heredocs_keep_their_quotes() -> None:
    assert Lexer(VARIABLES, plain_quotes=True).expand("'$A' \"$A\" \\$A") == "'hello' \"hello\" $A"


def test_unknown_variables_can_be_kept_as_written() -> None:
    text = "$B ${B} ${B:-x} ${B:?x} ${B/a/b}"
    assert Lexer({}, keep_unset=True).expand(text) == text


def test_the_variables_that_were_used_are_told() -> None:
    lexer = Lexer(VARIABLES)
    lexer.expand("$A ${B:-$EMPTY} '$TWO'")
    assert lexer.used == {"A", "B", "EMPTY"}


def test_variables_that_grow_without_bounds_are_refused() -> None:
    with pytest.raises(ValueError, match="more than 8 MiB"):
        Lexer({"A": "x" * (1 << 20)}).expand("$A" * 9)
    with pytest.raises(ValueError, match="more than 8 MiB"):
        Lexer({"A": "x" * 5000}).expand("${A//x/$A}")


def test_patterns_with_many_stars_take_no_time() -> None:
    value = "a" * 5000
    for form in ("${A##%s}", "${A#%s}", "${A%%%s}"):
        assert Lexer({"A": value}).expand(form % ("*a" * 20 + "*b")) == value


@given(st.text(alphabet="ab", max_size=8), st.text(alphabet="ab*?", max_size=5), st.sampled_from(["#", "##", "%", "%%"]))
def test_trimming_agrees_with_trying_every_length(value: str, pattern: str, operator: str) -> None:
    sizes = range(len(value) + 1) if len(operator) == 1 else range(len(value), -1, -1)
    expected = value
    for size in sizes:
        part = value[:size] if operator[0] == "#" else value[len(value) - size :]
        if fnmatchcase(part, pattern):
            expected = value[size:] if operator[0] == "#" else value[: len(value) - size]
            break
    assert Lexer({"V": value}).expand(f"${{V{operator}{pattern}}}") == expected


@given(st.text())
def test_single_quotes_protect_everything(text: str) -> None:
    quoted = text.replace("'", "")
    assert Lexer(VARIABLES).expand(f"'{quoted}'") == quoted


@given(st.text(alphabet="A${}:-+?#%/\\\"' b", max_size=30))
def test_any_word_expands_or_is_refused(text: str) -> None:
    try:
        Lexer(VARIABLES).expand(text)
    except ValueError as problem:
        assert str(problem)  # noqa: PT017 - any refusal is fine, a crash isn't
