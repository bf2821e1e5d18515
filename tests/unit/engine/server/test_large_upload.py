"""Which uploads are kept away from the HTTP parser, and what the parser gets instead."""

from __future__ import annotations

import pytest

from kitepy.engine.server.raw_request import LARGE_BYTES, large_upload

LINE = b"PUT /v1.51/containers/web/archive?path=/ HTTP/1.1\r\n"


def request(*headers: bytes, line: bytes = LINE, body: bytes = b"") -> bytes:
    return line + b"".join(header + b"\r\n" for header in headers) + b"\r\n" + body


def test_the_head_becomes_one_without_a_body() -> None:
    data = request(b"Host: x", b"content-length: %d" % LARGE_BYTES, b"X-Other: 5", body=b"early")
    assert large_upload(data) == (request(b"Host: x", b"content-length: 0", b"X-Other: 5"), b"early", LARGE_BYTES)


@pytest.mark.parametrize("target", [b"images/load", b"images/load?quiet=1", b"images/create?fromSrc=-"])
def test_archives_of_images_go_the_same_way(target: bytes) -> None:
    data = request(b"Content-Length: %d" % LARGE_BYTES, line=b"POST /v1.51/%s HTTP/1.1\r\n" % target)
    assert large_upload(data) is not None


@pytest.mark.parametrize(
    "data",
    [
        request(b"Content-Length: %d" % (LARGE_BYTES - 1)),
        request(b"Host: x"),
        request(b"Content-Length: %d" % LARGE_BYTES, b"Content-Length: %d" % LARGE_BYTES),
        request(b"Content-Length: %d" % LARGE_BYTES, b"Content-Length: 5"),
        request(b"Content-Length: %d" % LARGE_BYTES, b"Transfer-Encoding: chunked"),
        request(b"Content-Length: %d" % LARGE_BYTES, b"Transfer-Encoding : chunked"),
        request(b"Content-Length: %d" % LARGE_BYTES, b"Expect: 100-continue"),
        request(b"Content-Length: +%d" % LARGE_BYTES),
        request(b"Content-Length: %d, %d" % (LARGE_BYTES, LARGE_BYTES)),
        request(b"Content-Length: %d" % LARGE_BYTES)[:-2],
        request(b"Content-Length: %d" % LARGE_BYTES, line=LINE.replace(b"PUT", b"GET")),
        request(b"Content-Length: %d" % LARGE_BYTES, line=LINE.replace(b"archive", b"json")),
        request(b"Content-Length: %d" % LARGE_BYTES, line=LINE.replace(b"1.1\r", b"1.0\r")),
        request(b"Content-Length: %d" % LARGE_BYTES, line=b"POST /v1.51/images/loads HTTP/1.1\r\n"),
        b"",
    ],
)
def test_all_others_are_the_parser_s(data: bytes) -> None:
    assert large_upload(data) is None
