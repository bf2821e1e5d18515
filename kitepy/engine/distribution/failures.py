"""What goes wrong with registries, worded as dockerd words it; foreign exceptions and answers are translated here alone."""

from __future__ import annotations

import json
import os
import re
import socket
import ssl
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from kitepy.engine.distribution.challenge import Challenge
from kitepy.engine.model.errors import EngineError, NotFound, SystemFailure
from kitepy.engine.model.reference import Reference

_LONGEST_MESSAGE = 2000
_MESSAGES = {
    "UNAUTHORIZED": "authentication required",
    "DENIED": "requested access to the resource is denied",
}


class Unreachable(SystemFailure):
    """A registry can't be spoken to: the network, its certificate or its answers are in the way."""


class CutOff(Unreachable):
    """A connection ended, or stood still, amid an answer: what came so far is good, the rest may be asked for."""


class RegistryError(SystemFailure):
    """A registry answered that it won't. ``code`` is the first error's, e.g. ``MANIFEST_UNKNOWN``; empty when it gave none."""

    def __init__(self, message: str, *, status: int, code: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.retry_after_s = retry_after_s


def registry_error(
    status: int, body: bytes, challenges: Iterable[Challenge] = (), retry_after_s: float | None = None
) -> RegistryError:
    """The error that an answer from 400 on stands for (distribution specification, "Error Codes")."""

    def error(message: str, code: str = "") -> RegistryError:
        return RegistryError(message[:_LONGEST_MESSAGE], status=status, code=code, retry_after_s=retry_after_s)

    if not 400 <= status < 500:
        return error(f"received unexpected HTTP status: {status_line(status)}")
    found = _bearer_errors(challenges)
    document, problem = _parse(body)
    details = document.get("details") if isinstance(document, dict) else None
    if isinstance(details, str) and details:
        code = {401: "UNAUTHORIZED", 403: "DENIED", 429: "TOOMANYREQUESTS"}.get(status, "UNKNOWN")
        found.append((code, details))
    elif isinstance(document, dict) and isinstance(document.get("errors"), list):
        found += [_read_error(entry) for entry in document["errors"][:20] if isinstance(entry, dict)]
    if found:
        lines = [f"{_spoken(code)}: {message}" for code, message in found]
        return error(lines[0] if len(lines) == 1 else "errors:\n" + "".join(f"{line}\n" for line in lines), found[0][0])
    if status == HTTPStatus.UNAUTHORIZED:
        return error(f"unauthorized: {_MESSAGES['UNAUTHORIZED']}", "UNAUTHORIZED")
    return error(f"error parsing HTTP {status} response body: {problem}: {_quoted(body)}")


def pull_error(error: EngineError, reference: Reference) -> EngineError:
    """What a user is told who wanted to read from a repository."""
    if not isinstance(error, RegistryError):
        return error
    name = reference.familiar_name
    first = str(error).removeprefix("errors:\n").partition("\n")[0]
    match error.code:
        case "DENIED":
            return NotFound(f"pull access denied for {name}, repository does not exist or may require 'docker login': {first}")
        case "MANIFEST_UNKNOWN":
            return NotFound(f"manifest for {reference.familiar} not found: {first}")
        case "NAME_UNKNOWN":
            return NotFound(f"repository {name} not found: {first}")
    return error


def connection_failure(method: str, url: str, error: Exception) -> Unreachable:
    """Why there is no answer."""
    kind = (
        CutOff
        if isinstance(error, aiohttp.ClientPayloadError | aiohttp.ServerDisconnectedError | ConnectionResetError)
        else Unreachable
    )
    return kind(f'{method.title()} "{shown(url)}": {_reason(url, error)}')


def shown(url: str) -> str:
    """An address for a message, without what may be secret in it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _parse(body: bytes) -> tuple[Any, str]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        if not body:
            return None, "unexpected end of JSON input"
        character = body[:1].decode("utf-8", "replace")
        return None, f"invalid character {character!r} looking for beginning of value"
    return document, "no error details found in HTTP response body"


def _bearer_errors(challenges: Iterable[Challenge]) -> list[tuple[str, str]]:
    """RFC 6750, section 3.1."""
    for challenge in challenges:
        if challenge.scheme != "bearer":
            continue
        code = {"invalid_token": "UNAUTHORIZED", "insufficient_scope": "DENIED"}.get(challenge.parameters.get("error", ""))
        if code:
            return [(code, challenge.parameters.get("error_description") or _MESSAGES[code])]
    return []


def _read_error(entry: dict[str, Any]) -> tuple[str, str]:
    code = str(entry.get("code") or "UNKNOWN")
    message = entry.get("message")
    return code, message if isinstance(message, str) and message else _MESSAGES.get(code, _spoken(code))


def _spoken(code: str) -> str:
    return code.lower().replace("_", " ")


def status_line(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return f"{status} "


def _quoted(body: bytes) -> str:
    return json.dumps(body[:_LONGEST_MESSAGE].decode("utf-8", "replace"), ensure_ascii=False)


def _reason(url: str, error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"tls: the certificate is not valid: {getattr(error.certificate_error, 'verify_message', error.certificate_error)}"
    if isinstance(error, TimeoutError):
        return "net/http: timeout awaiting response headers"
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    host = urlsplit(url).hostname or ""
    if isinstance(cause, socket.gaierror):
        return f"dial tcp: lookup {host}: no such host"
    if isinstance(cause, ssl.SSLError):
        return f"tls: {cause.reason or cause}"
    if isinstance(cause, OSError) and cause.errno is not None and cause.errno > 0:
        return f"connect: {os.strerror(cause.errno).lower()}"
    return str(error)[:200] or type(error).__name__


def without_secrets(text: str, secrets: Sequence[str]) -> str:
    """A foreign text without secrets that its author repeats."""
    for secret in secrets:
        if len(secret) > 3:
            text = re.sub(re.escape(secret), "***", text)
    return text
