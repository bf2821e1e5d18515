"""What goes wrong with registries: the kinds, and why there was no answer, worded as dockerd words it."""

from __future__ import annotations

import errno
import ipaddress
import os
import re
import socket
import ssl
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp

from kitepy.engine.model import errors
from kitepy.engine.model.reference import Reference

_CUT = (aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError, aiohttp.SocketTimeoutError, ConnectionError)
_SHORTEST_SECRET = 4
"""What is shorter is part of too many words."""
_DIALLED = re.compile(r"\('([0-9a-fA-F:.]+)', ([0-9]+)")
_RECEIVED = re.compile(r"b['\"](.*?)(?:\\r|\\n|['\"]$)", re.MULTILINE)
_SERVER = re.compile(r"^\s*nameserver\s+(\S+)", re.MULTILINE)
_ALERT = re.compile(r"(?:SSL|TLS)V1[0-9]*_ALERT_(\w+)|SSLV3_ALERT_(\w+)")


class Unreachable(errors.SystemFailure):
    """A registry can't be spoken to: the network, its certificate or its answers are in the way."""


class CutOff(Unreachable):
    """A connection ended, or stood still, amid an answer: what came so far is good, the rest may be asked for."""


class RedirectRefused(Unreachable):
    """A registry leads to where nobody goes for it; asking again won't help."""


class WrongManifest(errors.SystemFailure):
    """A registry gave other bytes for a manifest's digest."""


class RegistryError(errors.EngineError):
    """A registry answered that it won't. Its subclasses are each of the kind that the answer stands for."""

    def __init__(
        self, message: str, *, status: int, code: str = "", detailed: bool = True, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        """Of the answer."""
        self.code = code
        """The first error's, e.g. ``MANIFEST_UNKNOWN``; empty when it gave none."""
        self.detailed = detailed
        """Whether the first error said more than its code stands for; dockerd's words to users depend on it."""
        self.retry_after_s = retry_after_s
        """How long the registry wants to be left alone; None when it didn't say."""

    def prefixed(self, text: str) -> RegistryError:
        """The same with a text in front."""
        return self.worded(f"{text}{self}")

    def worded(self, text: str) -> RegistryError:
        """The same with another text."""
        return type(self)(
            text,
            status=self.status,
            code=self.code,
            detailed=self.detailed,
            retry_after_s=self.retry_after_s,
        )


class RefusedUnauthorized(RegistryError, errors.Unauthorized):
    """The registry doesn't know the user."""


class RefusedForbidden(RegistryError, errors.Forbidden):
    """The user may not do this."""


class RefusedNotFound(RegistryError, errors.NotFound):
    """The registry has no such thing."""


class RefusedInvalid(RegistryError, errors.InvalidParameter):
    """The registry calls the request wrong."""


class RefusedRateLimited(RegistryError, errors.RateLimited):
    """The registry wants to be asked less often."""


class RefusedUnavailable(RegistryError, errors.Unavailable):
    """The registry can't do it now."""


class RefusedOtherwise(RegistryError, errors.SystemFailure):
    """Anything else."""


def prefixed(error: errors.EngineError, text: str) -> errors.EngineError:
    """An error of the same kind with a text in front."""
    return error.prefixed(text) if isinstance(error, RegistryError) else type(error)(f"{text}{error}")


def without_secrets(error: RegistryError, secrets: Iterable[str]) -> RegistryError:
    """The error, without secrets that its words repeat: a registry may say what it was told."""
    text = str(error)
    for secret in secrets:
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, "xxxxx")
    return error if text == str(error) else error.worded(text)


def pull_error(error: errors.EngineError, reference: Reference) -> errors.EngineError:
    """What a user is told who wanted to read from a repository: the first error counts."""
    if not isinstance(error, RegistryError):
        return error
    name = reference.familiar_name
    first = str(error).removeprefix("errors:\n").partition("\n")[0]
    if not error.detailed:
        return error.worded(first)
    match error.code:
        case "DENIED":
            text = f"pull access denied for {name}, repository does not exist or may require 'docker login': {first}"
        case "MANIFEST_UNKNOWN":
            text = f"manifest for {reference.familiar} not found: {first}"
        case "NAME_UNKNOWN":
            text = f"repository {name} not found: {first}"
        case _:
            return error.worded(first)
    return RefusedNotFound(text, status=error.status, code=error.code)


def connection_failure(method: str, url: str, error: Exception) -> Unreachable:
    """Why there is no answer; CutOff where the registry was there and is gone amid it."""
    kind = CutOff if isinstance(error, _CUT) and not isinstance(error, aiohttp.ClientConnectorError) else Unreachable
    return kind(f"{asking(method, url)}{_reason(url, error)}")


def asking(method: str, url: str) -> str:
    """How a message begins about a request that got no answer; empty without a method."""
    return f'{method.title()} "{url}": ' if method else ""


def shown(url: str) -> str:
    """A foreign address for a message, without what may be secret in it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _reason(url: str, error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return _certificate_reason(url, error.certificate_error)
    if isinstance(error, aiohttp.ConnectionTimeoutError | aiohttp.ServerTimeoutError | TimeoutError):
        return "net/http: request canceled (Client.Timeout exceeded while awaiting headers)"
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return f"proxyconnect tcp: the proxy answered {error.status} {error.message}".rstrip()
    if isinstance(error, aiohttp.ClientResponseError):
        line = _RECEIVED.search(error.message)
        text = line[1] if line else error.message.partition("\n")[0]
        return f'net/http: HTTP/1.x transport connection broken: malformed HTTP response "{text[:200]}"'
    prefix = "proxyconnect tcp: " if isinstance(error, aiohttp.ClientProxyConnectionError) else ""
    cause: BaseException = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, ssl.SSLError):
        return prefix + _tls_reason(url, cause)
    if isinstance(cause, socket.gaierror):
        return prefix + _lookup_reason(error, url, cause)
    if isinstance(error, aiohttp.ClientConnectorError) and not _strerror(cause):
        return f"{prefix}EOF"  # amid the TLS handshake
    if isinstance(error, aiohttp.ClientConnectorError):
        dialled = _DIALLED.search(str(cause))
        address = f" {_joined(dialled[1], dialled[2])}" if dialled else _literal(url)
        return f"{prefix}dial tcp{address}: connect: {_strerror(cause)}"
    if alert := _ALERT.search(str(error)):
        return _alerted(alert)  # TLS 1.3 tells of it after the handshake
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "EOF"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "unexpected EOF"
    if isinstance(cause, OSError) and cause.errno:
        return f"{'write' if cause.errno == errno.EPIPE else 'read'}: {_strerror(cause)}"
    return str(error)[:200] or type(error).__name__


def _strerror(error: BaseException) -> str:
    number = error.errno if isinstance(error, OSError) else None
    if number is not None and number > 0:
        return os.strerror(number).lower()
    found = re.search(r"\[Errno ([0-9]+)\]", str(error))
    return os.strerror(int(found[1])).lower() if found else str(error)[:200]


def _literal(url: str) -> str:
    """`` address:port`` where an address was given instead of a name."""
    parts = urlsplit(url)
    try:
        address = ipaddress.ip_address(parts.hostname or "")
    except ValueError:
        return ""
    return f" {_joined(str(address), str(parts.port or (443 if parts.scheme == 'https' else 80)))}"


def _joined(address: str, port: str) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _lookup_reason(error: Exception, url: str, cause: socket.gaierror) -> str:
    host = getattr(error, "host", None) or urlsplit(url).hostname
    if cause.errno != socket.EAI_NONAME:
        return f"dial tcp: lookup {host}: {cause.strerror}"
    try:
        server = _SERVER.search(Path("/etc/resolv.conf").read_text(encoding="utf-8", errors="replace"))
    except OSError:
        server = None
    asked = f" on {_joined(server[1], '53')}" if server else ""
    return f"dial tcp: lookup {host}{asked}: no such host"


def _certificate_reason(url: str, error: Exception) -> str:
    code = getattr(error, "verify_code", 0)
    host = urlsplit(url).hostname
    known: dict[int, str] = {
        **dict.fromkeys((2, 18, 19, 20, 21), "certificate signed by unknown authority"),
        **dict.fromkeys((9, 10), "certificate has expired or is not yet valid"),
        **dict.fromkeys((62, 64), f"certificate is not valid for {host}"),
    }
    said = known.get(code, str(getattr(error, "verify_message", "") or error))
    return f"tls: failed to verify certificate: x509: {said}"


def _alerted(alert: re.Match[str]) -> str:
    return f"remote error: tls: {(alert[1] or alert[2]).lower().replace('_', ' ')}"


def _tls_reason(url: str, error: ssl.SSLError) -> str:
    reason = error.reason or ""
    if reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE") and url.startswith("https:"):
        return "http: server gave HTTP response to HTTPS client"
    if alert := _ALERT.search(reason):
        return _alerted(alert)
    return f"tls: {reason.lower().replace('_', ' ') or error}"
