"""The engine's log, written with what hostile clients and containers supply."""

from __future__ import annotations

import io
import logging

import pytest

from kitepy.engine.log_format import LineFormatter

_FORGED = "2026-01-01 00:00:00,000 CRITICAL root: all is lost"


def _logged(text: str, error: Exception | None = None) -> str:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(LineFormatter())
    logger = logging.Logger("test")
    logger.addHandler(handler)
    logger.error("request of %s", text, exc_info=error)
    return stream.getvalue()


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029"])
def test_a_message_stays_on_one_line(end: str) -> None:
    assert len(_logged(f"a{end}{_FORGED}").splitlines()) == 1


def test_no_terminal_obeys_a_message() -> None:
    line = _logged("a\x1b[2J\x9b31m\x07\u202eb").rstrip("\n")
    assert line.isprintable()
    assert "\\x1b[2J" in line


def test_an_exceptions_text_cannot_begin_a_line() -> None:
    text = _logged("x", ValueError(f"trouble\n{_FORGED}\x1b[2J\u2028{_FORGED}"))
    assert [line for line in text.splitlines()[1:] if not line.startswith("    ")] == []
    assert "\x1b" not in text


def test_ordinary_text_is_left_alone() -> None:
    assert _logged("größe 中文 ☃").rstrip("\n").endswith("request of größe 中文 ☃")
