"""``--log-opt``."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kitepy.engine.model.container_config import LogConfig
from kitepy.engine.model.errors import InvalidParameter, Unsupported
from kitepy.engine.model.launch import LogTarget
from kitepy.engine.services.log_options import log_target, parse_size

PATH = Path("/log")


def test_logs_go_to_one_unbounded_file_by_default() -> None:
    assert log_target(LogConfig(), PATH) == LogTarget("json-file", PATH)
    assert log_target(LogConfig(type="none"), PATH) == LogTarget("none")


def test_a_log_can_be_bounded_and_rotated() -> None:
    options = {"max-size": "10k", "max-file": "3"}
    assert log_target(LogConfig(config=options), PATH) == LogTarget("json-file", PATH, max_size_bytes=10240, max_files=3)
    assert log_target(LogConfig(config={"max-size": "-1"}), PATH).max_size_bytes == 0


@pytest.mark.parametrize(
    ("text", "size"), [("1", 1), ("1k", 1024), ("1K", 1024), ("2kb", 2048), ("1kib", 1024), ("3m", 3 << 20), ("1 g", 1 << 30)]
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "k", "-1k", "1x", "1.5m", "٣k", "9" * 5000])
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (LogConfig(config={"labels": "x"}), "unknown log opt 'labels' for json-file log driver"),
        (LogConfig(type="none", config={"max-size": "1m"}), "unknown log opt 'max-size' for none log driver"),
        (LogConfig(config={"max-file": "0"}), "max-file cannot be less than 1"),
        (LogConfig(config={"max-file": "x"}), "max-file cannot be less than 1"),
        (LogConfig(config={"max-file": "2"}), "max-file cannot be set to more than one when max-size is not set"),
    ],
)
def test_options_that_make_no_sense_are_refused(config: LogConfig, words: str) -> None:
    with pytest.raises(InvalidParameter) as raised:
        log_target(config, PATH)
    assert words in str(raised.value)


def test_other_drivers_are_named_in_the_refusal() -> None:
    with pytest.raises(Unsupported, match="The log driver 'syslog' is not supported"):
        log_target(LogConfig(type="syslog"), PATH)


@given(st.text(), st.text())
def test_any_values_are_read_or_refused(size: str, count: str) -> None:
    with contextlib.suppress(InvalidParameter):
        log_target(LogConfig(config={"max-size": size, "max-file": count}), PATH)
