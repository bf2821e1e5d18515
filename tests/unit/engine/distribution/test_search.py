"""Search terms, and what search services and Docker Hub's own API answer."""

from __future__ import annotations

import json

import pytest

from kitepy.engine.distribution.hub import HubImage, HubTag, read_tags
from kitepy.engine.distribution.search import split_term
from kitepy.engine.model.errors import SystemFailure


@pytest.mark.parametrize(
    ("term", "split"),
    [
        ("nginx", ("", "nginx")),
        ("me/app", ("", "me/app")),
        ("docker.io/library/nginx", ("", "nginx")),
        ("index.docker.io/me/app", ("", "me/app")),
        ("localhost/x", ("localhost", "x")),
        ("r.lan/library/x", ("r.lan", "library/x")),
        ("r:5000/", ("r:5000", "")),
        ("r:5000", ("", "r:5000")),
    ],
)
def test_a_term_may_name_a_registry(term: str, split: tuple[str, str]) -> None:
    assert split_term(term) == split


def test_what_docker_hub_tells_of_tags() -> None:
    document = {
        "next": "https://hub.docker.com/…?page=2",
        "results": [
            {
                "name": "1.2",
                "digest": "sha256:aa",
                "last_updated": "2026-01-02T03:04:05Z",
                "images": [
                    {"os": "linux", "architecture": "arm", "variant": "v7", "size": 5},
                    {"os": "unknown", "architecture": "unknown", "size": 1},
                    {"os": "linux", "architecture": "amd64", "variant": None, "size": None},
                ],
            },
            {"name": "bare"},
        ],
    }
    tags, more = read_tags(json.dumps(document).encode())
    images = (HubImage("linux/arm/v7", 5), HubImage("linux/amd64", 0))
    assert tags == [HubTag("1.2", "sha256:aa", "2026-01-02T03:04:05Z", images), HubTag("bare", "", "", ())]
    assert more


@pytest.mark.parametrize("raw", [b"", b"[]", b"{}", b'{"results": [1]}', b'{"results": [{"digest": "x"}]}', b"[" * 9999])
def test_what_is_no_list_of_tags_is_refused(raw: bytes) -> None:
    with pytest.raises(SystemFailure):
        read_tags(raw)
