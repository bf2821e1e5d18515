"""Version prefixes."""

from __future__ import annotations

import pytest

from kitepy.engine.server.api_version import NEWEST, ApiVersion, accept_version, split_version
from kitepy.engine.server.errors import BadRequest


@pytest.mark.parametrize(
    ("path", "version", "rest"),
    [
        ("/v1.51/info", "1.51", "/info"),
        ("/v1.24/a/b", "1.24", "/a/b"),
        ("/info", None, "/info"),
        ("/v1.51", None, "/v1.51"),
        ("/volumes", None, "/volumes"),
        ("/v1.5x/info", None, "/v1.5x/info"),
        ("/v1.51.0/info", "1.51.0", "/info"),
        ("/v./info", ".", "/info"),
    ],
)
def test_the_prefix_is_split_off(path: str, version: str | None, rest: str) -> None:
    assert split_version(path) == (version, rest)


@pytest.mark.parametrize(("text", "version"), [(None, NEWEST), ("1.51", NEWEST), ("1.24", (1, 24)), ("1.030.0", (1, 30))])
def test_versions_between_the_oldest_and_the_newest_are_spoken(text: str | None, version: tuple[int, int]) -> None:
    assert accept_version(text) == ApiVersion(*version)


@pytest.mark.parametrize("text", ["1.60", "2.0", "2", "1.51.1", "9" * 5000])
def test_a_client_from_the_future_is_told_the_newest_version(text: str) -> None:
    with pytest.raises(BadRequest, match=rf"client version {text} is too new\. Maximum supported API version is 1\.51"):
        accept_version(text)


@pytest.mark.parametrize("text", ["1.12", "1", "0.99", "1..60", ".", "..."])
def test_a_client_from_the_past_is_told_the_oldest_version(text: str) -> None:
    with pytest.raises(BadRequest, match=r"client version .* is too old\. Minimum supported API version is 1\.24, please"):
        accept_version(text)
