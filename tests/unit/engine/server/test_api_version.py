"""Version prefixes."""

from __future__ import annotations

import pytest

from kitepy.engine.server.api_version import NEWEST, ApiVersion, split_version
from kitepy.engine.server.errors import BadRequest


@pytest.mark.parametrize(
    ("path", "version", "rest"),
    [
        ("/v1.51/info", ApiVersion(1, 51), "/info"),
        ("/v1.24/a/b", ApiVersion(1, 24), "/a/b"),
        ("/info", NEWEST, "/info"),
        ("/v1.51", NEWEST, "/v1.51"),
        ("/volumes", NEWEST, "/volumes"),
        ("/v1.5x/info", NEWEST, "/v1.5x/info"),
    ],
)
def test_the_prefix_is_split_off(path: str, version: ApiVersion, rest: str) -> None:
    assert split_version(path) == (version, rest)


def test_a_client_from_the_future_is_told_the_newest_version() -> None:
    with pytest.raises(BadRequest, match=r"client version 1\.60 is too new\. Maximum supported API version is 1\.51"):
        split_version("/v1.60/info")


def test_a_client_from_the_past_is_told_the_oldest_version() -> None:
    with pytest.raises(BadRequest, match=r"client version 1\.12 is too old\. Minimum supported API version is 1\.24, please"):
        split_version("/v1.12/info")
