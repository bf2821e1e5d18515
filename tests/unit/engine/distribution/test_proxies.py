"""Which proxy an address is reached through."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kitepy.engine.distribution.proxies import Proxies

BOTH = "http://p:1", "https://q:2"


@pytest.mark.parametrize(
    ("url", "no_proxy", "proxy"),
    [
        ("http://a.lan/x", "", "http://p:1"),
        ("https://a.lan/x", "", "https://q:2"),
        ("https://localhost:5000/", "", None),
        ("https://127.8.9.1/", "", None),
        ("http://[::1]:5000/", "", None),
        ("https://a.lan/", "*", None),
        ("https://a.lan/", "b.lan, A.LAN", None),
        ("https://x.a.lan/", "a.lan", None),
        ("https://xa.lan/", "a.lan", "https://q:2"),
        ("https://a.lan/", ".a.lan", "https://q:2"),
        ("https://x.a.lan/", "*.a.lan", None),
        ("https://a.lan:5000/", "a.lan:5000", None),
        ("https://a.lan/", "a.lan:5000", "https://q:2"),
        ("https://a.lan/", "a.lan:443", None),
        ("https://10.1.2.3/", "10.0.0.0/8", None),
        ("https://11.1.2.3/", "10.0.0.0/8,nonsense/99", "https://q:2"),
        ("https://10.1.2.3/", "10.1.2.3", None),
        ("https://[2001:db8::1]/", "[2001:db8::1]:443", None),
        ("ftp://a.lan/", "", None),
    ],
)
def test_what_goes_through_a_proxy(url: str, no_proxy: str, proxy: str | None) -> None:
    assert Proxies(*BOTH, no_proxy).of_url(url) == proxy


def test_upper_case_wins_and_a_proxy_needs_no_scheme() -> None:
    proxies = Proxies.of_environment({"HTTP_PROXY": "up:1", "http_proxy": "low:1", "https_proxy": "low:2", "NO_PROXY": "x"})
    assert proxies == Proxies("up:1", "low:2", "x")
    assert proxies.of_url("http://a/") == "http://up:1"


def test_only_proxies_of_the_loopback_open_ports_of_it() -> None:
    assert Proxies("http://localhost:3128", "http://u:p@127.0.0.1:3129").loopback_ports == {3128, 3129}
    assert Proxies("http://proxy.lan:3128", "http://[::1:x").loopback_ports == set()


@given(st.text(alphabet="a.:/*[]0123456789,-", max_size=30))
def test_any_list_of_exceptions_can_be_read(text: str) -> None:
    Proxies("http://p", "http://p", text).of_url("https://10.0.0.1:5000/")
