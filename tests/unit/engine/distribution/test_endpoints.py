"""What an address means, which registries are insecure, and what a challenge asks for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kitepy.engine.distribution.challenge import Challenge, parse_challenges
from kitepy.engine.distribution.endpoints import HUB, Endpoint, InsecureRegistries, endpoints_of, registry_host
from kitepy.engine.model.errors import InvalidParameter


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("", HUB),
        ("docker.io", HUB),
        ("https://index.docker.io/v1/", HUB),
        ("example.com", "example.com"),
        ("https://example.com:5000/v2/", "example.com:5000"),
        ("http://example.com", "example.com"),
        ("localhost:5000", "localhost:5000"),
        ("[::1]:5000", "[::1]:5000"),
    ],
)
def test_addresses(address: str, host: str) -> None:
    assert registry_host(address) == host


@pytest.mark.parametrize(
    "address", ["%%%", "a b", "https://", "example.com:99999", "https://u:secret@example.com", "[::1", "x" * 400, "a\nb", "a\\b"]
)
def test_what_is_no_address_is_refused_without_showing_a_password(address: str) -> None:
    with pytest.raises(InvalidParameter, match="unable to parse server address") as refused:
        registry_host(address)
    assert "secret" not in str(refused.value)


def test_what_is_insecure() -> None:
    registries = InsecureRegistries(["registry.lan:5000", "10.1.0.0/16", "other.lan"])
    assert registries.names("registry.lan:5000")
    assert not registries.names("registry.lan")
    assert registries.names("other.lan:80")
    assert registries.contains(["127.3.2.1"])
    assert registries.contains(["::1"])
    assert registries.contains(["192.0.2.1", "10.1.2.3"])
    assert not registries.contains(["10.2.0.1", "2001:db8::1", "no address"])


def test_only_an_insecure_registry_may_be_spoken_to_plainly() -> None:
    assert endpoints_of("a", insecure=False) == (Endpoint("a"),)
    assert [(way.url, way.verify) for way in endpoints_of("a", insecure=True)] == [("https://a", False), ("http://a", True)]


@pytest.mark.parametrize(
    ("header", "challenges"),
    [
        ('Basic realm="a b"', [Challenge("basic", {"realm": "a b"})]),
        (
            'Bearer realm="https://t/x",service="s",scope="repository:a:pull,push"',
            [Challenge("bearer", {"realm": "https://t/x", "service": "s", "scope": "repository:a:pull,push"})],
        ),
        ('bearer Realm = "x\\"y" , error=invalid', [Challenge("bearer", {"realm": 'x"y', "error": "invalid"})]),
        ('Negotiate, Basic realm="r"', [Challenge("negotiate"), Challenge("basic", {"realm": "r"})]),
        ('Bearer realm="a", Basic realm="b"', [Challenge("bearer", {"realm": "a"}), Challenge("basic", {"realm": "b"})]),
        ("", []),
        ('="', []),
    ],
)
def test_challenges(header: str, challenges: list[Challenge]) -> None:
    assert parse_challenges([header]) == challenges


@given(st.text(alphabet=' ,="\\abB\t', max_size=60))
def test_any_challenge_can_be_read(header: str) -> None:
    parse_challenges([header])
