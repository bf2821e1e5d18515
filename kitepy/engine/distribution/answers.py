"""Reads registries' error answers (distribution specification, "Error Codes") the way dockerd does; pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

from kitepy.engine.distribution import failures
from kitepy.engine.distribution.challenge import Challenge, parse_challenges
from kitepy.engine.distribution.failures import RegistryError

LONGEST_ERROR = 1 << 16
_LONGEST_MESSAGE = 4000
_MOST_ERRORS = 20

_CODES: dict[str, tuple[int, str]] = {
    "UNKNOWN": (500, "unknown error"),
    "UNSUPPORTED": (405, "The operation is unsupported."),
    "UNAUTHORIZED": (401, "authentication required"),
    "DENIED": (403, "requested access to the resource is denied"),
    "UNAVAILABLE": (503, "service unavailable"),
    "TOOMANYREQUESTS": (429, "too many requests"),
    "DIGEST_INVALID": (400, "provided digest did not match uploaded content"),
    "SIZE_INVALID": (400, "provided length did not match content length"),
    "RANGE_INVALID": (416, "invalid content range"),
    "NAME_INVALID": (400, "invalid repository name"),
    "TAG_INVALID": (400, "manifest tag did not match URI"),
    "NAME_UNKNOWN": (404, "repository name not known to registry"),
    "MANIFEST_UNKNOWN": (404, "manifest unknown"),
    "MANIFEST_INVALID": (400, "manifest invalid"),
    "MANIFEST_UNVERIFIED": (400, "manifest failed signature verification"),
    "MANIFEST_BLOB_UNKNOWN": (400, "blob unknown to registry"),
    "BLOB_UNKNOWN": (404, "blob unknown to registry"),
    "BLOB_UPLOAD_UNKNOWN": (404, "blob upload unknown to registry"),
    "BLOB_UPLOAD_INVALID": (404, "blob upload invalid"),
    "PAGINATION_NUMBER_INVALID": (400, "invalid number of results requested"),
}
"""Status and message that each code stands for."""
_KINDS: dict[int, type[RegistryError]] = {
    400: failures.RefusedInvalid,
    401: failures.RefusedUnauthorized,
    403: failures.RefusedForbidden,
    404: failures.RefusedNotFound,
    429: failures.RefusedRateLimited,
    503: failures.RefusedUnavailable,
}


class _Found:
    """One error of an answer, with its text; ``detailed`` as in RegistryError."""

    def __init__(self, code: str, text: str, detailed: bool) -> None:
        self.code, self.text, self.detailed = code, text, detailed


def registry_error(status: int, headers: Mapping[str, str], body: bytes, challenges: Iterable[str] = ()) -> RegistryError:
    """The error that an answer from 400 on stands for; ``challenges`` are its ``WWW-Authenticate`` headers."""
    wait_s = retry_after_s(headers.get("Retry-After", ""), datetime.now(UTC))
    if not 400 <= status < 500:
        return failures.RefusedOtherwise(
            f"received unexpected HTTP status: {status_line(status)}", status=status, retry_after_s=wait_s
        )
    found = _bearer_error(parse_challenges(challenges))
    found += _errors_of(status, headers.get("Content-Type", ""), body, after_bearer=bool(found))
    text = found[0].text if len(found) == 1 else "errors:\n" + "".join(f"{error.text}\n" for error in found)
    first = found[0]
    kind = _KINDS.get(_CODES[first.code][0], failures.RefusedOtherwise) if first.code else failures.RefusedOtherwise
    return kind(text[:_LONGEST_MESSAGE], status=status, code=first.code, detailed=first.detailed, retry_after_s=wait_s)


def status_line(status: int) -> str:
    """A status with its phrase."""
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return f"{status} "


def retry_after_s(text: str, now: datetime) -> float | None:
    """Seconds that a ``Retry-After`` (RFC 9110, 10.2.3) stands for; None when it says nothing."""
    text = text.strip()
    if text.isdecimal() and len(text) < 12:
        seconds = float(text)
        # Docker Hub gives the moment instead of the time until then.
        return max(0.0, seconds - now.timestamp()) if seconds > 1e9 else seconds
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (moment.replace(tzinfo=moment.tzinfo or UTC) - now).total_seconds())


def json_problem(body: bytes) -> str:
    """What a Go program says of a document that is no JSON, at least where it goes wrong at once."""
    text = body.decode("utf-8", "replace").lstrip(" \t\r\n")
    for word in ("true", "false", "null"):
        if text[:1] == word[0]:
            for wanted, got in zip(word, text, strict=False):
                if wanted != got:
                    return f"invalid character {_go_rune(got)} in literal {word} (expecting {_go_rune(wanted)})"
    if text and not re.match(r'[\[{"0-9-]', text):
        return f"invalid character {_go_rune(text[0])} looking for beginning of value"
    try:
        json.loads(text)
    except (ValueError, RecursionError) as error:
        position = getattr(error, "pos", len(text))
        if position >= len(text) or not text or getattr(error, "msg", "").startswith("Unterminated"):
            return "unexpected end of JSON input"
        if getattr(error, "msg", "") == "Extra data":
            return f"invalid character {_go_rune(text[position])} after top-level value"
        return f"invalid character {_go_rune(text[position])} looking for beginning of value"
    return ""


def _errors_of(status: int, content_type: str, body: bytes, *, after_bearer: bool) -> list[_Found]:
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type not in ("application/json", "application/vnd.api+json"):
        return [_by_status(status, body.decode("utf-8", "replace"))]
    problem = "no error details found in HTTP response body"
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document, problem = None, json_problem(body)
    details = document.get("details") if isinstance(document, dict) else None
    if isinstance(details, str) and details:
        return [_by_status(status, details)]
    entries = document.get("errors") if isinstance(document, dict) else None
    if isinstance(entries, list) and entries:
        return [_read(entry if isinstance(entry, dict) else {}) for entry in entries[:_MOST_ERRORS]]
    if status == HTTPStatus.UNAUTHORIZED and not after_bearer:
        return [_Found("UNAUTHORIZED", f"unauthorized: {_CODES['UNAUTHORIZED'][1]}", True)]
    quoted = json.dumps(body.decode("utf-8", "replace"), ensure_ascii=False)
    return [_Found("", f"error parsing HTTP {status} response body: {problem}: {quoted}", True)]


def _by_status(status: int, message: str) -> _Found:
    code = {401: "UNAUTHORIZED", 403: "DENIED", 429: "TOOMANYREQUESTS"}.get(status, "UNKNOWN")
    return _Found(code, f"{_spoken(code)}: {message}", True)


def _read(entry: Mapping[str, Any]) -> _Found:
    code, message = entry.get("code"), entry.get("message")
    code = code if isinstance(code, str) and code in _CODES else "UNKNOWN"
    message = message if isinstance(message, str) else ""
    if entry.get("detail") is None and message in ("", _CODES[code][1]):
        return _Found(code, _spoken(code), False)
    return _Found(code, f"{_spoken(code)}: {message}", True)


def _bearer_error(challenges: Iterable[Challenge]) -> list[_Found]:
    """RFC 6750, section 3.1."""
    for challenge in challenges:
        code = {"invalid_token": "UNAUTHORIZED", "insufficient_scope": "DENIED"}.get(challenge.parameters.get("error", ""))
        if challenge.scheme == "bearer" and code:
            return [_Found(code, f"{_spoken(code)}: {challenge.parameters.get('error_description') or _CODES[code][1]}", True)]
    return []


def _spoken(code: str) -> str:
    return code.lower().replace("_", " ")


def _go_rune(character: str) -> str:
    return {"'": "'\\''", '"': "'\"'", "\n": "'\\n'", "\t": "'\\t'"}.get(character, f"'{character}'")
