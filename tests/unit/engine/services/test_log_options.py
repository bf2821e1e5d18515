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
from kitepy.engine.services.log_options import LoggedContainer, log_target, parse_size

PATH = Path("/log")


def test_logs_go_to_one_unbounded_file_by_default() -> None:
    assert log_target(LogConfig(), PATH) == LogTarget(PATH)
    assert log_target(LogConfig(type="none", config={"any": "thing"}), PATH) == LogTarget()


def test_a_log_can_be_bounded_and_rotated() -> None:
    options = {"max-size": "10k", "max-file": "3"}
    assert log_target(LogConfig(config=options), PATH) == LogTarget(PATH, 10_000, 3)
    assert log_target(LogConfig(config={**options, "compress": "true"}), PATH) == LogTarget(PATH, 10_000, 3, True)
    assert log_target(LogConfig(config={"max-file": "3"}), PATH) == LogTarget(PATH)  # it never gets full


def test_the_local_driver_has_bounds_by_default() -> None:
    assert log_target(LogConfig(type="local"), PATH) == LogTarget(PATH, 20_000_000, 5, True)
    options = {"max-size": "1m", "max-file": "1", "compress": "false"}
    assert log_target(LogConfig(type="local", config=options), PATH) == LogTarget(PATH, 1_000_000, 1)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1", 1),
        ("1k", 1000),
        ("1K", 1000),
        ("2kb", 2000),
        ("1kib", 1000),
        ("3m", 3_000_000),
        ("1 g", 10**9),
        ("1.5m", 1_500_000),
        ("1t", 10**12),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "k", "-1k", "-1", "1x", "1 m ", "1mm", "٣k", "9" * 5000])
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(InvalidParameter, match=r"invalid (size|suffix)"):
        parse_size(text)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (LogConfig(config={"colour": "x"}), "unknown log opt 'colour' for json-file log driver"),
        (LogConfig(type="local", config={"labels": "x"}), "unknown log opt 'labels' for log driver local"),
        (LogConfig(config={"max-file": "0"}), "max-file cannot be less than 1"),
        (LogConfig(config={"max-file": "x"}), 'parsing "x": invalid syntax'),
        (LogConfig(type="local", config={"max-file": "x"}), 'invalid value for max-file: x: parsing "x": invalid syntax'),
        (LogConfig(type="local", config={"max-file": "-1"}), "max file count cannot be less than 0"),
        (LogConfig(type="local", config={"max-size": "x"}), "invalid value for max-size: x: invalid size: 'x'"),
        (LogConfig(config={"max-size": "0"}), "max-size must be a positive number"),
        (LogConfig(config={"compress": "true"}), "compress cannot be true when max-file is less than 2 or max-size is not set"),
        (LogConfig(config={"compress": "maybe"}), 'parsing "maybe": invalid syntax'),
        (LogConfig(type="local", config={"max-file": "1"}), "compression cannot be enabled when max file count is 1"),
        (LogConfig(config={"mode": "fast"}), "logger: logging mode not supported: fast"),
        (LogConfig(config={"max-buffer-size": "1m"}), "max-buffer-size option is only supported with 'mode=non-blocking'"),
        (
            LogConfig(config={"mode": "non-blocking", "max-buffer-size": "x"}),
            "parsing option max-buffer-size: invalid size",
        ),
        (LogConfig(config={"cache-disabled": "x"}), "invalid value for option cache-disabled: x"),
        (LogConfig(config={"labels-regex": "("}), "error parsing regexp"),
        (LogConfig(config={"tag": "{{.Nothing}}"}), "{{.Nothing}} is not one of"),
        (LogConfig(config={"tag": "{{.ID"}), "unclosed action"),
        (LogConfig(type="bogus"), 'error looking up logging plugin bogus: plugin "bogus" not found'),
        (LogConfig(type="JSON-FILE"), "error looking up logging plugin JSON-FILE"),
    ],
)
def test_options_that_make_no_sense_are_refused(config: LogConfig, words: str) -> None:
    with pytest.raises(InvalidParameter) as raised:
        log_target(config, PATH)
    assert words in str(raised.value)


CONTAINER = LoggedContainer(
    id="0123456789abcdef" * 4,
    name="web",
    image_name="nginx:1",
    image_id="sha256:" + "f" * 64,
    command="sh -c true",
    labels={"a": "1", "b": "2", "xa": "3"},
    env=["E=5", "F=a=b", "XG=7", "NOTHING"],
)


@pytest.mark.parametrize(
    ("options", "attributes"),
    [
        ({}, {}),
        ({"labels": "a,missing", "env": "E,F,NOTHING"}, {"E": "5", "F": "a=b", "a": "1"}),
        ({"labels-regex": "^x|b", "env-regex": "^X"}, {"XG": "7", "b": "2", "xa": "3"}),
        ({"tag": "plain"}, {"tag": "plain"}),
        ({"tag": ""}, {}),
        ({"tag": "{{.ID}}/{{ .Name }}"}, {"tag": "0123456789ab/web"}),
        ({"tag": "{{.FullID}}{{.ContainerName}}"}, {"tag": "0123456789abcdef" * 4 + "/web"}),
        ({"tag": "{{.ImageName}} {{.ImageID}} {{.DaemonName}}"}, {"tag": "nginx:1 sha256:fffff docker"}),
        ({"tag": "{{.Command}}"}, {"tag": "sh -c true"}),
    ],
)
def test_what_is_written_with_each_line(options: dict[str, str], attributes: dict[str, str]) -> None:
    found = log_target(LogConfig(config=options), PATH, CONTAINER).attributes
    assert found == attributes
    assert list(found) == sorted(found)


def test_a_name_in_a_tag_is_no_markup_itself() -> None:
    container = LoggedContainer(name="{{.ID}}")
    assert log_target(LogConfig(config={"tag": "{{.Name}}"}), PATH, container).attributes == {"tag": "{{.ID}}"}


def test_other_drivers_are_named_in_the_refusal() -> None:
    with pytest.raises(Unsupported, match="The log driver 'syslog' is not supported"):
        log_target(LogConfig(type="syslog"), PATH)


@given(st.dictionaries(st.sampled_from(["max-size", "max-file", "tag", "compress", "labels-regex", "mode"]), st.text()))
def test_any_values_are_read_or_refused(options: dict[str, str]) -> None:
    with contextlib.suppress(InvalidParameter):
        log_target(LogConfig(config=options), PATH)
