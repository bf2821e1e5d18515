"""The key sequence that leaves a terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kitepy.engine.model.detach_keys import DEFAULT_KEYS, parse_detach_keys
from kitepy.engine.server.detach import DetachScanner


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        (None, DEFAULT_KEYS),
        ("", DEFAULT_KEYS),
        ("ctrl-p,ctrl-q", b"\x10\x11"),
        ("a", b"a"),
        ("ctrl-@,ctrl-[,ctrl-_,x", b"\0\x1b\x1fx"),
        ("DEL,ctrl-\\", b"\x7f\x1c"),
    ],
)
def test_sequences_are_read(text: str | None, keys: bytes) -> None:
    assert parse_detach_keys(text) == keys


@pytest.mark.parametrize("text", [",", "ctrl-", "ctrl-1", "ab", "ctrl-pp", "é", "ctrl-A", "CTRL-a", "del", "a,"])
def test_unknown_keys_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="unknown key"):
        parse_detach_keys(text)


def test_the_sequence_detaches_and_what_follows_is_dropped() -> None:
    assert DetachScanner(b"\x10\x11").feed(b"ls\n\x10\x11rest") == (b"ls\n", True)


def test_a_beginning_is_held_back_until_the_next_key() -> None:
    scanner = DetachScanner(b"\x10\x11")
    assert scanner.feed(b"a\x10") == (b"a", False)
    assert scanner.feed(b"b") == (b"\x10b", False)


def test_a_key_that_breaks_the_sequence_off_does_not_begin_it_anew() -> None:
    assert DetachScanner(b"\x10\x11").feed(b"\x10\x10\x11") == (b"\x10\x10\x11", False)
    assert DetachScanner(b"\x10\x11").feed(b"\x10\x10\x10\x11") == (b"\x10\x10", True)


def test_what_is_held_back_is_given_when_input_ends() -> None:
    scanner = DetachScanner(b"\x10\x11")
    scanner.feed(b"\x10")
    assert scanner.flush() == b"\x10"


@given(st.text("ab", min_size=1, max_size=4), st.text("abc", max_size=30), st.data())
def test_input_passes_unchanged_however_it_is_cut(keys_text: str, text: str, data: st.DataObject) -> None:
    keys, given_input = keys_text.encode(), text.encode()
    whole = DetachScanner(keys)
    at_once, found = whole.feed(given_input)
    at_once += b"" if found else whole.flush()
    assert given_input.startswith(at_once + (keys if found else b""))
    assert found or at_once == given_input
    scanner = DetachScanner(keys)
    passed, detached, rest = b"", False, given_input
    while rest and not detached:
        cut = data.draw(st.integers(1, len(rest)))
        some, detached = scanner.feed(rest[:cut])
        passed += some
        rest = rest[cut:]
    assert (passed + (b"" if detached else scanner.flush()), detached) == (at_once, found)
