"""Requests after which raw bytes follow."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kitepy.engine.server.raw_request import NOT_RAW, UNFINISHED, end_of_raw_request

_HEAD = b"POST /v1.51/containers/web/attach?stream=1 HTTP/1.1\r\nHost: x\r\nUpgrade: tcp\r\n"
_RAW = [
    _HEAD + b"\r\n",
    _HEAD + b"content-LENGTH: 0\r\n\r\n",
    b"POST /exec/abc/start HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
    b"POST /exec/abc/start HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1;x=y\r\n}\r\n0\r\n\r\n",
]


@pytest.mark.parametrize("request_bytes", _RAW)
@given(st.binary(max_size=20), st.data())
def test_the_end_is_found_and_nothing_before_it(request_bytes: bytes, early: bytes, data: st.DataObject) -> None:
    assert end_of_raw_request(request_bytes + early) == len(request_bytes)
    cut = data.draw(st.integers(1, len(request_bytes) - 1))
    assert end_of_raw_request(request_bytes[:cut]) == UNFINISHED


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GET /containers/web/attach HTTP/1.1\r\n",
        b"POST /containers/web/start HTTP/1.1\r\n",
        b"POST /containers/attach/json HTTP/1.1\r\n",
        b"POST /exec/a/b/start HTTP/1.1\r\n",
        b"POST /exec/a/start HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n",
        b"POST /" + b"x" * 2_000_000,
        _HEAD + b"x" * 3_000_000,
        b"\x16\x03\x01",
    ],
)
def test_other_bytes_are_left_to_the_parser(data: bytes) -> None:
    assert end_of_raw_request(data) == NOT_RAW


@given(st.binary(max_size=100))
def test_any_bytes_are_judged(data: bytes) -> None:
    end = end_of_raw_request(_RAW[0][:20] + data)
    assert end in (NOT_RAW, UNFINISHED) or 0 < end <= 20 + len(data)
