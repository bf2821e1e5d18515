"""Mirrors, insecure registries and proxies as options: what is taken, and what is refused in whose words."""

from __future__ import annotations

import pytest

from kitepy.engine.config_registries import flat, insecure_registry, mirror, without_credentials


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("https://m.lan", "https://m.lan/"),
        ("http://m:5000/", "http://m:5000/"),
        ("https://m.lan/b", "https://m.lan/b/"),
        ("HTTPS://m", "https://m/"),
        ("http://[::1]:5000", "http://[::1]:5000/"),
    ],
)
def test_mirrors(text: str, address: str) -> None:
    assert mirror(text) == address


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ftp://m", "invalid mirror: unsupported scheme \"ftp\" in \"ftp://m\": must use either 'https://' or 'http://'"),
        ("m:5000", "invalid mirror: no scheme specified for \"m:5000\": must use either 'https://' or 'http://'"),
        ("", "invalid mirror: no scheme specified for \"\": must use either 'https://' or 'http://'"),
        ("https://u:secret@m", 'invalid mirror: username/password not allowed in URI "https://xxxxx:xxxxx@m"'),
        ("https://m?x=1", 'invalid mirror: query or fragment at end of the URI "https://m?x=1"'),
        ("https://", 'invalid mirror: "https://" is not a valid URI'),
        ("https://m:x", 'invalid mirror: "https://m:x" is not a valid URI'),
        ("https://a b", 'invalid mirror: "https://a b" is not a valid URI'),
    ],
)
def test_what_is_no_mirror(text: str, words: str) -> None:
    with pytest.raises(ValueError, match="invalid mirror") as refused:
        mirror(text)
    assert str(refused.value) == words


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("r.lan:5000", "r.lan:5000"),
        ("http://r.lan", "r.lan"),
        ("https://r.lan/", "r.lan"),
        ("10.1.2.3/8", "10.0.0.0/8"),
        ("[::1]:5000", "[::1]:5000"),
        ("R", "R"),
    ],
)
def test_insecure_registries(text: str, name: str) -> None:
    assert insecure_registry(text) == name


@pytest.mark.parametrize("text", ["a b", "-x", "x-", "ftp://x", "a/b", "a:70000", "10.0.0.0/99", ""])
def test_what_is_no_registry(text: str) -> None:
    with pytest.raises(ValueError, match=r"insecure registry|invalid index name"):
        insecure_registry(text)


def test_proxies_are_keys_like_others() -> None:
    assert flat({"debug": True, "proxies": {"http-proxy": "p"}}) == {"debug": True, "http-proxy": "p"}
    assert flat({"proxies": None}) == {}
    with pytest.raises(ValueError, match="don't match any configuration option: bogus"):
        flat({"proxies": {"bogus": 1}})
    with pytest.raises(ValueError, match="expected an object"):
        flat({"proxies": "p"})


def test_nobody_reads_a_proxy_s_password() -> None:
    assert (
        without_credentials("from flag: http://u:secret@p:1, from file: q") == "from flag: http://xxxxx:xxxxx@p:1, from file: q"
    )
