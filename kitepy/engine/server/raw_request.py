"""Recognises requests after which raw bytes follow (attach, exec start) and where they end; pure.

An HTTP parser takes what comes after a request for the next request, and drops it after an upgrade that it doesn't know. But
clients may send the process's input at once, without waiting for our answer.
"""

from __future__ import annotations

import re

NOT_RAW = -1
"""The bytes begin an ordinary request."""
UNFINISHED = -2
"""They may begin such a request; more of it must come."""

_REQUEST = re.compile(rb"POST /(?:v[\d.]+/)?(?:containers/[^/ ?]+/attach|exec/[^/ ?]+/start)[? ]")
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,9})[ \t]*\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked[ \t]*\r\n", re.IGNORECASE)
_WAITING = re.compile(rb"\r\nexpect:", re.IGNORECASE)
_CHUNK_SIZE = re.compile(rb"([0-9a-fA-F]{1,7})[^\r\n]*\r\n")
_UPLOAD = re.compile(
    rb"(?:PUT /(?:v[\d.]+/)?containers/[^/ ?]+/archive|POST /(?:v[\d.]+/)?images/(?:load|create))[? ][^\r\n]*HTTP/1\.1\r\n"
)
_ANY_LENGTH = re.compile(rb"(?<=\r\n)content-length[ \t]*:[ \t]*(\d{1,15})[ \t]*(?=\r\n)", re.IGNORECASE)
LARGE_BYTES = 1 << 20
"""From here on it pays to keep a body out of the engine's memory."""
_BEGINNING = b"POST /"
LONGEST_LINE = 1024 * 1024
"""Of a request line or header field: build arguments travel in the query, credentials of registries in a field."""
LONGEST_HEAD = 2 * LONGEST_LINE
"""Of all lines together."""
_LONGEST_REQUEST = 64 * 1024
"""Of a request for a conversation, body included; it is looked through anew with each piece that arrives."""
_LONGEST_BEGINNING = 4 * 1024
"""Within so many bytes the path has ended, if it is one of those that matter here."""


def end_of_raw_request(data: bytes) -> int:
    """The length of the request that begins ``data`` if it is for a conversation, else NOT_RAW or UNFINISHED."""
    if not data.startswith(_BEGINNING):
        return UNFINISHED if data and _BEGINNING.startswith(data) else NOT_RAW
    if _REQUEST.match(data) is None:
        return NOT_RAW if b"\r\n" in data or b"?" in data or len(data) > _LONGEST_BEGINNING else UNFINISHED
    end = _end(data)
    return NOT_RAW if end == UNFINISHED and len(data) > _LONGEST_REQUEST else end


def large_upload(data: bytes) -> tuple[bytes, bytes, int] | None:
    """Take apart a request that brings a large archive of known length: its head, made one of a request without a body, what came
    of the body, and the body's length. None for all others, and while the head isn't complete.
    """
    if _UPLOAD.match(data) is None:
        return None
    head_end = data.find(b"\r\n\r\n")
    head = data[: head_end + 2]
    lengths = list(_ANY_LENGTH.finditer(head))
    if head_end < 0 or len(lengths) != 1 or _WAITING.search(head) or b"transfer-encoding" in head.lower():
        return None
    length = int(lengths[0][1])
    if length < LARGE_BYTES:
        return None
    emptied = head[: lengths[0].start(1)] + b"0" + head[lengths[0].end(1) :] + b"\r\n"
    return emptied, data[head_end + 4 :], length


def _end(data: bytes) -> int:
    head_end = data.find(b"\r\n\r\n")
    if head_end < 0:
        return UNFINISHED
    head, body = data[: head_end + 2], head_end + 4
    if _WAITING.search(head):
        return NOT_RAW  # such a client waits for us, so nothing comes early
    if _CHUNKED.search(head):
        return _end_of_chunks(data, body)
    length = _LENGTH.search(head)
    end = body + (int(length[1]) if length else 0)
    return end if end <= len(data) else UNFINISHED


def _end_of_chunks(data: bytes, position: int) -> int:
    """The end of a chunked body (RFC 9112, 7.1) without trailers."""
    while True:
        size = _CHUNK_SIZE.match(data, position)
        if size is None:
            return UNFINISHED
        position = size.end() + int(size[1], 16) + 2
        if position > len(data):
            return UNFINISHED
        if int(size[1], 16) == 0:
            return position
