from __future__ import annotations

import json

import pytest

from kitepy.engine.model.errors import NotFound
from kitepy.engine.model.platform import parse_platform
from kitepy.engine.services.pulls import choose_manifest

UNKNOWN = {"os": "unknown", "architecture": "unknown"}  # an attestation


def index(*platforms: str | dict[str, str] | None) -> bytes:
    """An index whose manifests have their places in it as digests."""
    manifests = []
    for place, platform in enumerate(platforms):
        entry: dict[str, object] = {"mediaType": "m", "digest": f"sha256:{place:064x}", "size": 1}
        if isinstance(platform, dict):
            entry["platform"] = platform
        elif platform is not None:
            entry["platform"] = dict(zip(("os", "architecture", "variant"), platform.split("/"), strict=False))
        manifests.append(entry)
    return json.dumps({"manifests": manifests}).encode()


@pytest.mark.parametrize(
    ("wanted", "platforms", "place"),
    [
        ("linux/amd64", [UNKNOWN, "linux/arm64/v8", "linux/amd64"], 2),
        ("linux/amd64", ["linux/386", "linux/amd64"], 1),
        ("linux/amd64", ["linux/arm64", "linux/386"], 1),
        ("linux/amd64", ["linux/amd64", "linux/amd64"], 0),
        ("linux/amd64", [None, "linux/amd64"], 1),
        ("linux/amd64", [None, "linux/arm64"], 0),
        ("linux/arm64", ["linux/arm/v7", "linux/arm64/v8"], 1),
        ("linux/arm64", ["linux/arm/v6", "linux/arm/v7"], 1),
        ("linux/arm/v7", ["linux/arm/v5", "linux/arm/v6", "linux/arm64"], 1),
        ("linux/arm", ["linux/arm/v6", "linux/arm/v7"], 1),
    ],
)
def test_the_manifest_that_suits_a_platform_best_is_chosen(
    wanted: str, platforms: list[str | dict[str, str] | None], place: int
) -> None:
    assert choose_manifest(index(*platforms), parse_platform(wanted)).digest == f"sha256:{place:064x}"


@pytest.mark.parametrize("wanted", ["linux/s390x", "windows/amd64", "linux/arm/v5"])
def test_a_platform_that_an_index_has_nothing_for_is_named(wanted: str) -> None:
    with pytest.raises(NotFound, match=f"^no matching manifest for {wanted} in the manifest list entries$"):
        choose_manifest(index(UNKNOWN, "linux/amd64", "linux/arm/v7"), parse_platform(wanted))
